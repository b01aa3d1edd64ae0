//! A kind that a user defined: what its CustomResourceDefinition says. The version that is stored is served; conversions,
//! scales and the rules on values (`enum`, `pattern`, `x-kubernetes-validations` ...) are not, yet.

use std::sync::OnceLock;

use jiff::Timestamp;
use serde_json::Value;

use super::{Kind, Rules, STATUS, Source, Subresource, Text, VERBS};
use crate::{
    field::{Errors, Path},
    human,
    json::{get, items, text},
    schema::{Fields, Structural},
    table::{self, Column},
};

const STATUS_ALONE: &[Subresource] = &[STATUS];

/// What is special about a custom kind.
#[derive(Debug, Clone)]
pub(super) struct Custom {
    schema: Structural,
    printed: Vec<Printed>,
}

/// A column that the definition asks for.
#[derive(Debug, Clone)]
struct Printed {
    name: String,
    kind: String,
    format: String,
    description: String,
    priority: i32,
    path: Vec<Step>,
}

/// One step of a JSON path.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    Item(usize),
    Each,
    /// The items of which a field is a text.
    Where(String, String),
}

impl Kind {
    /// The kind that a CustomResourceDefinition makes, in the version that is stored.
    ///
    /// # Errors
    ///
    /// Says what keeps it from being served.
    pub fn custom(definition: &Value) -> Result<Self, String> {
        let spec = get(definition, "spec");
        let version = items(spec, "versions").iter().find(|version| get(version, "storage") == true);
        let version = version.ok_or("no version of it is the stored one")?;
        if get(version, "served") != true {
            return Err("the version of it that is stored is not served".to_owned());
        }
        let named = |path: &str| match text(spec, path) {
            "" => Err(format!("spec.{path} is missing")),
            name => Ok(Text::from(name.to_owned())),
        };
        let (group, plural, kind) = (named("group")?, named("names.plural")?, named("names.kind")?);
        let schema = get(get(version, "schema"), "openAPIV3Schema");
        let schema = Structural::of_kind(&kind, schema)
            .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
        let printed = items(version, "additionalPrinterColumns").iter().map(Printed::read);
        let has_status = get(get(version, "subresources"), "status").is_object();
        let singular = match text(spec, "names.singular") {
            "" => kind.to_lowercase(),
            given => given.to_owned(),
        };
        let fields = items(version, "selectableFields").iter().map(|field| text(field, "jsonPath"));
        Ok(Self {
            version: text(version, "name").to_owned().into(),
            singular: singular.into(),
            resource: format!("{plural}.{group}").into(),
            short_names: texts(spec, "names.shortNames"),
            categories: texts(spec, "names.categories"),
            namespaced: text(spec, "scope") != "Cluster",
            source: Source::Stored,
            verbs: VERBS,
            refusal: "",
            subresources: if has_status { STATUS_ALONE } else { &[] },
            has_status,
            counters: &[],
            has_generation: true,
            returns_deleted: false,
            fields: fields.map(|path| path.trim_start_matches('.').to_owned().into()).collect(),
            idle: "",
            rules: Rules::Custom(Custom { schema, printed: printed.collect::<Result<_, _>>()? }),
            telling: OnceLock::new(),
            group,
            plural,
            kind,
        })
    }
}

fn texts(value: &Value, path: &str) -> Vec<Text> {
    items(value, path).iter().filter_map(Value::as_str).map(|text| text.to_owned().into()).collect()
}

impl Custom {
    pub(super) fn schema(&self) -> Fields<'_> {
        Fields::Structural(&self.schema)
    }

    pub(super) fn fill(&self, value: &mut Value) {
        self.schema.fill(value);
    }

    pub(super) fn judge(&self, value: &Value, path: &Path, errors: &mut Errors) {
        self.schema.judge(value, path, errors);
    }

    pub(super) fn columns(&self) -> Vec<Column<'_>> {
        if self.printed.is_empty() {
            return table::NAME_AND_AGE.to_vec();
        }
        let asked = self.printed.iter().map(|printed| Column {
            name: &printed.name,
            kind: &printed.kind,
            format: &printed.format,
            description: &printed.description,
            priority: printed.priority,
        });
        std::iter::once(table::NAME).chain(asked).collect()
    }

    pub(super) fn row(&self, value: &Value, now: Timestamp) -> Vec<Value> {
        if self.printed.is_empty() {
            return table::name_and_age(value, now);
        }
        let asked = self.printed.iter().map(|printed| printed.cell(value, now));
        std::iter::once(table::name(value)).chain(asked).collect()
    }
}

impl Printed {
    fn read(column: &Value) -> Result<Self, String> {
        let (name, path) = (text(column, "name"), text(column, "jsonPath"));
        let path = steps(path).ok_or_else(|| format!("the column {name:?} has the path {path:?}"))?;
        Ok(Self {
            name: name.to_owned(),
            kind: text(column, "type").to_owned(),
            format: text(column, "format").to_owned(),
            description: text(column, "description").to_owned(),
            priority: get(column, "priority").as_i64().and_then(|of| i32::try_from(of).ok()).unwrap_or(0),
            path,
        })
    }

    /// What is found at the path, of the column's type; null when nothing is. Of several values the texts are joined.
    fn cell(&self, value: &Value, now: Timestamp) -> Value {
        let found = follow(value, &self.path);
        match (self.kind.as_str(), found.as_slice()) {
            ("date", [one]) => human::since(one, now).into(),
            ("date", _) => human::since(&Value::Null, now).into(),
            (_, []) => Value::Null,
            ("string", [Value::String(text)]) => text.as_str().into(),
            ("string", several) => several.iter().map(|one| shown(one)).collect::<Vec<_>>().join(",").into(),
            ("integer", [one]) if one.is_i64() || one.is_u64() => (*one).clone(),
            ("number", [one]) if one.is_number() => (*one).clone(),
            ("boolean", [one]) if one.is_boolean() => (*one).clone(),
            _ => Value::Null,
        }
    }
}

/// A text without its quotes; anything else as JSON.
fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// What lies at the end of a path.
fn follow<'v>(value: &'v Value, path: &[Step]) -> Vec<&'v Value> {
    let mut here = vec![value];
    for step in path {
        here =
            here.into_iter().flat_map(|value| below(value, step)).filter(|value| !value.is_null()).collect();
    }
    here
}

fn below<'v>(value: &'v Value, step: &Step) -> Vec<&'v Value> {
    match (step, value) {
        (Step::Field(name), _) => value.get(name).into_iter().collect(),
        (Step::Item(index), _) => value.get(index).into_iter().collect(),
        (Step::Each, Value::Array(items)) => items.iter().collect(),
        (Step::Each, Value::Object(map)) => map.values().collect(),
        (Step::Where(name, wanted), Value::Array(items)) => {
            items.iter().filter(|item| get(item, name) == wanted.as_str()).collect()
        }
        (Step::Each | Step::Where(..), _) => Vec::new(),
    }
}

/// The steps of `.spec.parts[0].name`, `.status.conditions[?(@.type=="Ready")].status`, `.metadata.labels['a.b/c']`.
fn steps(path: &str) -> Option<Vec<Step>> {
    let mut rest = path;
    let mut found = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('[') {
            let end = after.find(']')?;
            found.push(bracket(&after[..end])?);
            rest = &after[end + 1..];
        } else {
            let after = rest.strip_prefix('.')?;
            let (name, left) = field(after);
            if name.is_empty() {
                return None;
            }
            found.push(if name == "*" { Step::Each } else { Step::Field(name) });
            rest = left;
        }
    }
    (!found.is_empty()).then_some(found)
}

/// A field's name, in which `\.` is a dot, and what is behind it.
fn field(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut is_escaped = false;
    for (place, letter) in text.char_indices() {
        match letter {
            '\\' if !is_escaped => is_escaped = true,
            '.' | '[' if !is_escaped => return (name, &text[place..]),
            _ => {
                is_escaped = false;
                name.push(letter);
            }
        }
    }
    (name, "")
}

fn bracket(text: &str) -> Option<Step> {
    let quoted = |text: &str| {
        let quote = text.chars().next().filter(|letter| ['\'', '"'].contains(letter))?;
        text.strip_prefix(quote)?.strip_suffix(quote).map(str::to_owned)
    };
    if text == "*" {
        Some(Step::Each)
    } else if let Some(condition) = text.strip_prefix("?(@.").and_then(|text| text.strip_suffix(')')) {
        let (name, wanted) = condition.split_once("==")?;
        Some(Step::Where(name.trim().to_owned(), quoted(wanted.trim())?))
    } else if let Some(name) = quoted(text) {
        Some(Step::Field(name))
    } else {
        text.parse().ok().map(Step::Item)
    }
}
