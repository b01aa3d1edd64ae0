//! Definitions: the types' properties and descriptions come from k8s-openapi, how they merge and what is required
//! comes from the table of API types, and the form is the one in which Kubernetes publishes them.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use warren_objects::schema;

use super::{merging, structure, types};
use crate::kinds::{KINDS, Kind, api_version};

/// Where definitions are in a document of version 3.
pub(super) const REFERENCE: &str = "#/components/schemas/";

/// What a JSON schema cannot say in the words that clients know: an integer or a string.
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";

/// All definitions of all kinds, by name.
pub(super) struct Definitions {
    all: Map<String, Value>,
    /// The definitions of the served kinds, by group and version.
    roots: BTreeMap<(&'static str, &'static str), Vec<String>>,
}

impl Definitions {
    /// Those that a group version's document needs: its kinds and whatever they refer to.
    pub(super) fn of(&self, group: &str, version: &str) -> Map<String, Value> {
        let mut wanted: BTreeSet<&str> = BTreeSet::new();
        let mut open: Vec<&str> =
            self.roots.get(&(group, version)).into_iter().flatten().map(String::as_str).collect();
        while let Some(name) = open.pop() {
            if wanted.insert(name) {
                references(&self.all[name], &mut open);
            }
        }
        wanted.into_iter().map(|name| (name.to_owned(), self.all[name].clone())).collect()
    }

    pub(super) fn into_all(self) -> Map<String, Value> {
        self.all
    }
}

/// The definitions of every served kind, and of the kinds of subresources.
pub(super) fn definitions() -> Definitions {
    let settings = SchemaSettings::draft07().with(|settings| {
        settings.definitions_path = REFERENCE.trim_start_matches('#').into();
        settings.transforms.clear();
    });
    let mut generator = settings.into_generator();
    let mut named = Vec::new();
    let mut rest = Vec::new();
    for spoken in spoken() {
        match type_of(spoken.kind) {
            Some(define) => named.push((define(&mut generator), spoken)),
            None => rest.push(spoken),
        }
    }
    let mut all = generator.take_definitions(false);
    for (name, schema) in &mut all {
        respell(name, schema);
    }
    for spoken in rest {
        let [group, version, kind] = spoken.kind;
        if let Some(message) = schema::root(group, version, kind) {
            named.push((structure::define_kind(&mut all, message), spoken));
        } else if spoken.is_served {
            let name = format!("{}.{version}.{kind}", if group.is_empty() { "core" } else { group });
            let description = format!("{kind} of {}.", api_version(group, version));
            all.insert(name.clone(), json!({"description": description, "type": "object"}));
            named.push((name, spoken));
        }
    }
    for (name, schema) in &mut all {
        merging::complete(name, schema);
        schema.get_mut("properties").into_iter().for_each(wrap_references);
    }
    let mut roots = BTreeMap::<_, Vec<String>>::new();
    for (name, spoken) in named {
        let [group, version, kind] = spoken.kind;
        let speaks = json!({"group": group, "version": version, "kind": kind});
        // Several versions may share a definition.
        let all_speak = all[&name].as_object_mut().and_then(|schema| {
            schema.entry("x-kubernetes-group-version-kind").or_insert(json!([])).as_array_mut()
        });
        all_speak
            .into_iter()
            .filter(|known| !known.contains(&speaks))
            .for_each(|known| known.push(speaks.clone()));
        roots.entry(spoken.home).or_default().push(name);
    }
    Definitions { all, roots }
}

/// Whether the fields of a kind are known, so that clients may compute strategic patches from its schema.
pub(super) fn has_fields(kind: &Kind) -> bool {
    let kind: [&str; 3] = [&kind.group, &kind.version, &kind.kind];
    type_of(kind).is_some() || schema::root(kind[0], kind[1], kind[2]).is_some()
}

/// The type of a kind. An old version that the table of API types does not know has the fields of another version of the
/// same resource.
fn type_of([group, version, kind]: [&str; 3]) -> Option<types::Define> {
    types::of(group, version, kind).or_else(|| {
        let is_it = |entry: &&Kind| (&*entry.group, &*entry.version, &*entry.kind) == (group, version, kind);
        let served = KINDS.iter().find(is_it).filter(|_| schema::root(group, version, kind).is_none())?;
        let same = KINDS.iter().filter(|other| other.resource == served.resource);
        same.into_iter().find_map(|other| types::of(&other.group, &other.version, &other.kind))
    })
}

/// A kind that is spoken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Spoken {
    /// The group version in whose document it belongs.
    home: (&'static str, &'static str),
    /// Group, version and kind.
    kind: [&'static str; 3],
    /// Not only by a subresource.
    is_served: bool,
}

fn spoken() -> Vec<Spoken> {
    let mut all = Vec::new();
    for kind in KINDS.iter() {
        let home = (&*kind.group, &*kind.version);
        all.push(Spoken { home, kind: [&kind.group, &kind.version, &kind.kind], is_served: true });
        let below = kind.subresources.iter().filter(|below| !below.kind.is_empty());
        all.extend(below.map(|below| Spoken {
            home,
            kind: [below.group, below.version, below.kind],
            is_served: false,
        }));
    }
    let mut seen = BTreeSet::new();
    all.retain(|spoken| seen.insert((spoken.home, spoken.kind)));
    all
}

/// The names of the definitions that a schema refers to.
fn references<'a>(schema: &'a Value, found: &mut Vec<&'a str>) {
    match schema {
        Value::Object(map) => {
            for (key, value) in map {
                match value.as_str() {
                    Some(target) if key == "$ref" => found.extend(target.strip_prefix(REFERENCE)),
                    _ => references(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

/// Turns a schema of JSON into one of OpenAPI 3.0, as Kubernetes spells it.
fn respell(name: &str, schema: &mut Value) {
    if name == INT_OR_STRING || name == QUANTITY {
        let kinds = if name == QUANTITY { ["string", "number"] } else { ["integer", "string"] };
        let description = schema["description"].take();
        *schema = json!({"description": description, "oneOf": kinds.map(|kind| json!({"type": kind}))});
        if name == INT_OR_STRING {
            schema["format"] = json!("int-or-string");
        }
    }
}

/// What stands beside a `$ref` is ignored in OpenAPI 3.0, so the reference becomes the one part of an `allOf`.
fn wrap_references(schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else { return };
    // A field may have this name, too: the schema of schemas has it.
    if map.len() > 1
        && map.get("$ref").is_some_and(Value::is_string)
        && let Some(target) = map.remove("$ref")
    {
        map.insert("allOf".into(), json!([{"$ref": target}]));
    }
    map.values_mut().for_each(wrap_references);
}
