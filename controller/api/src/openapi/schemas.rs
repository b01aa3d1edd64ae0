//! Definitions: the types' properties and descriptions come from k8s-openapi, how lists merge comes from the
//! topology of strategic patches, and the form is the one in which Kubernetes publishes them.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::{merging, types};
use crate::kinds::{KINDS, Kind, api_version};

/// Where definitions are in a document of version 3.
pub(super) const REFERENCE: &str = "#/components/schemas/";

/// What a JSON schema cannot say in the words that clients know: an integer or a string.
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";

/// Fields that k8s-openapi's types always have, but that the API does not ask for: (end of the type's name, field).
const OPTIONAL: &[(&str, &str)] = &[
    ("", "metadata"),
    (".ConfigMapEnvSource", "name"),
    (".ConfigMapKeySelector", "name"),
    (".ConfigMapProjection", "name"),
    (".ConfigMapVolumeSource", "name"),
    (".EndpointSlice", "endpoints"),
    (".LocalObjectReference", "name"),
    (".SecretEnvSource", "name"),
    (".SecretKeySelector", "name"),
    (".SecretProjection", "name"),
];

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
    let mut roots = BTreeMap::<_, Vec<String>>::new();
    let mut named = Vec::new();
    for (served_in, [group, version, kind]) in spoken() {
        if let Some(define) = types::of(group, version, kind) {
            let name = define(&mut generator);
            named.push((name.clone(), [group, version, kind]));
            roots.entry(served_in).or_default().push(name);
        }
    }
    let mut all = generator.take_definitions(false);
    for kind in KINDS.iter().filter(|kind| !has_type(kind)) {
        let (name, schema) = unknown(kind);
        all.insert(name.clone(), schema);
        named.push((name.clone(), [kind.group, kind.version, kind.kind]));
        roots.entry((kind.group, kind.version)).or_default().push(name);
    }
    for (name, schema) in &mut all {
        respell(name, schema);
    }
    for (name, [group, version, kind]) in &named {
        all[name]["x-kubernetes-group-version-kind"] =
            json!([{"group": group, "version": version, "kind": kind}]);
        annotate(&mut all, name, kind, &mut BTreeSet::new());
    }
    Definitions { all, roots }
}

/// Whether the fields of a kind are known, so that clients may compute strategic patches from its schema.
pub(super) fn has_type(kind: &Kind) -> bool {
    types::of(kind.group, kind.version, kind.kind).is_some()
}

/// Every kind that is spoken, with the group version in whose document it belongs: kinds, and what their
/// subresources speak.
fn spoken() -> Vec<((&'static str, &'static str), [&'static str; 3])> {
    let mut all = Vec::new();
    for kind in KINDS {
        let home = (kind.group, kind.version);
        all.push((home, [kind.group, kind.version, kind.kind]));
        let below = kind.subresources.iter().filter(|below| !below.kind.is_empty());
        all.extend(below.map(|below| (home, [below.group, below.version, below.kind])));
    }
    let mut seen = BTreeSet::new();
    all.retain(|entry| seen.insert(*entry));
    all
}

/// What can be said of a kind without a type.
fn unknown(kind: &Kind) -> (String, Value) {
    let group = if kind.group.is_empty() { "core" } else { kind.group };
    let name = format!("{group}.{}.{}", kind.version, kind.kind);
    let description = format!("{} of {}.", kind.kind, api_version(kind.group, kind.version));
    (name, json!({"description": description, "type": "object"}))
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
        return;
    }
    if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
        let optional = OPTIONAL.iter().filter(|(of, _)| of.is_empty() || name.ends_with(of));
        let optional: Vec<&str> = optional.map(|(_, field)| *field).collect();
        required.retain(|field| !field.as_str().is_some_and(|field| optional.contains(&field)));
        if required.is_empty() {
            schema.as_object_mut().map(|schema| schema.remove("required"));
        }
    }
    for property in schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        wrap_references(property.1);
    }
}

/// What stands beside a `$ref` is ignored in OpenAPI 3.0, so the reference becomes the one part of an `allOf`.
fn wrap_references(schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else { return };
    if map.len() > 1
        && let Some(target) = map.remove("$ref")
    {
        map.insert("allOf".into(), json!([{"$ref": target}]));
    }
    map.values_mut().for_each(wrap_references);
}

/// The definition that a property, its items or its values refer to.
fn target(schema: &Value) -> Option<&str> {
    let reference = schema["$ref"].as_str().or_else(|| schema["allOf"][0]["$ref"].as_str());
    let reference = reference.and_then(|reference| reference.strip_prefix(REFERENCE));
    reference.or_else(|| {
        let inner = schema.get("items").or_else(|| schema.get("additionalProperties"));
        inner.and_then(target)
    })
}

/// Says of each field of a definition how strategic patches merge it; `of` is the definition's name in the topology.
fn annotate(all: &mut Map<String, Value>, name: &str, of: &str, done: &mut BTreeSet<(String, String)>) {
    if of.is_empty() || !done.insert((name.to_owned(), of.to_owned())) {
        return;
    }
    let Some(properties) = all.get_mut(name).and_then(|schema| schema["properties"].as_object_mut()) else {
        return;
    };
    let mut below = Vec::new();
    for (field, schema) in properties {
        let (extensions, child) = merging::of(of, field);
        if let Some(target) = target(schema) {
            below.push((target.to_owned(), child));
        }
        if let Some(schema) = schema.as_object_mut() {
            schema.extend(extensions);
        }
    }
    for (target, child) in below {
        annotate(all, &target, child, done);
    }
}
