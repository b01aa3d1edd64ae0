//! The schema of a custom resource: a structural OpenAPI schema, as `openAPIV3Schema` of a CustomResourceDefinition
//! has it, read once and then asked as the table of Kubernetes' types is.
//!
//! Structural means that the form of every value is said outside of `allOf` and its like, which only judge values.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    Patch, Type, message,
    shape::{Fields, Keys, Merge, Property, Schema, Shape},
};
use crate::{
    field::{Errors, FieldError, Path},
    json::{get, text},
};

/// Where the schema of a resource's metadata is in the table.
const METADATA: (&str, &str) = ("k8s.io.apimachinery.pkg.apis.meta.v1", "ObjectMeta");
/// A schema may be this deep. Values are no deeper than bodies may be.
const DEEPEST: usize = 64;
/// A schema may have this many parts in all.
const MOST_PARTS: usize = 20_000;

/// A part of a schema: what one value may be.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Structural {
    name: String,
    form: Form,
    fields: BTreeMap<String, Structural>,
    required: BTreeSet<String>,
    /// What is in a list, or in a map.
    below: Option<Box<Structural>>,
    keeps_unknown: bool,
    /// An object of its own, with what every object has: `apiVersion`, `kind` and `metadata`.
    is_resource: bool,
    is_nullable: bool,
    owned: Owned,
    default: Option<Value>,
}

/// The form of a value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Form {
    #[default]
    Any,
    Bool,
    Int32,
    Int64,
    Double,
    String,
    Bytes,
    Time,
    IntOrString,
    Object,
    List,
    Map,
}

/// How a list or a map takes server-side apply.
#[derive(Debug, Clone, Default, PartialEq)]
enum Owned {
    #[default]
    Default,
    Atomic,
    Set,
    Keys(Vec<String>),
}

/// On the way through a schema.
#[derive(Default)]
struct Reader {
    parts: usize,
    errors: Errors,
}

impl Structural {
    /// The schema that the entry of a kind brings. What of it is not structural does not exist: a fault of ours, which
    /// every test of the kind meets.
    pub(crate) fn of_entry(kind: &str, schema: &Value) -> Self {
        Self::of_kind(kind, schema).unwrap_or_default()
    }

    /// Reads the schema of a kind. Each part that is not structural is named.
    pub fn of_kind(kind: &str, schema: &Value) -> Result<Self, Vec<FieldError>> {
        let mut reader = Reader::default();
        let path = Path::default();
        let mut read = reader.part(schema, &path, 0);
        if reader.errors.0.is_empty() && !matches!(read.form, Form::Object) {
            reader.errors.invalid(&path.child("type"), text(schema, "type"), "must be object at the root");
        }
        kind.clone_into(&mut read.name);
        read.is_resource = true;
        if reader.errors.0.is_empty() { Ok(read) } else { Err(reader.errors.0) }
    }

    pub(super) fn shape(&self) -> Shape<'_> {
        let below = || self.below.as_deref().map_or(Schema::Table(Type::Json), Schema::Structural);
        match self.form {
            Form::Any => Shape::Any,
            Form::Bool => Shape::Bool,
            Form::Int32 => Shape::Int32,
            Form::Int64 => Shape::Int64,
            Form::Double => Shape::Double,
            Form::String => Shape::String,
            Form::Bytes => Shape::Bytes,
            Form::Time => Shape::Time,
            Form::IntOrString => Shape::IntOrString,
            Form::Object => Shape::Object(Fields::Structural(self)),
            Form::List => Shape::List(below()),
            Form::Map => Shape::Map(below()),
        }
    }

    pub(super) fn name(&self) -> &str {
        if self.name.is_empty() { "object" } else { &self.name }
    }

    pub(super) fn property(&self, name: &str) -> Option<Property<'_>> {
        let own = |kind| Property {
            schema: Schema::Table(kind),
            is_required: false,
            is_pointer: false,
            zero_is_written: false,
            patch: Patch::Default,
            apply: Merge::Default,
        };
        match name {
            "apiVersion" | "kind" if self.is_resource => Some(own(Type::String)),
            "metadata" if self.is_resource => {
                message(METADATA.0, METADATA.1).map(|found| own(Type::Object(found)))
            }
            _ => self.fields.get_key_value(name).map(|(name, schema)| self.given(name, schema)),
        }
    }

    fn given<'s>(&'s self, name: &str, schema: &'s Self) -> Property<'s> {
        Property {
            schema: Schema::Structural(schema),
            is_required: self.required.contains(name),
            is_pointer: true,
            zero_is_written: false,
            patch: Patch::Default,
            apply: schema.apply(),
        }
    }

    pub(super) fn apply(&self) -> Merge<'_> {
        match &self.owned {
            Owned::Default => Merge::Default,
            Owned::Atomic => Merge::Atomic,
            Owned::Set => Merge::Set,
            Owned::Keys(keys) => Merge::Keys(Keys::Structural(keys)),
        }
    }

    pub(super) fn default_of(&self, name: &str) -> Option<Value> {
        self.fields.get(name)?.default.clone()
    }

    pub(super) fn properties(&self) -> Vec<(&str, Property<'_>)> {
        let every = if self.is_resource { &["apiVersion", "kind", "metadata"][..] } else { &[] };
        let own = every.iter().filter_map(|name| self.property(name).map(|property| (*name, property)));
        let given = self.fields.iter().map(|(name, schema)| (name.as_str(), self.given(name, schema)));
        own.chain(given.filter(|(name, _)| !every.contains(name))).collect()
    }

    pub(super) fn is_atomic(&self) -> bool {
        self.owned == Owned::Atomic
    }

    pub(super) fn keeps_unknown(&self) -> bool {
        self.keeps_unknown
    }

    /// Whether null is a value of its own, and not the absence of one.
    pub fn is_nullable(&self) -> bool {
        self.is_nullable
    }

    /// Names what is required and not there.
    pub(crate) fn judge(&self, value: &Value, path: &Path, errors: &mut Errors) {
        match value {
            Value::Object(map) if self.form == Form::Object => {
                for name in self.required.iter().filter(|name| map.get(*name).is_none_or(Value::is_null)) {
                    errors.required(&path.child(name), "");
                }
                for (name, value) in map {
                    let below = self.fields.get(name);
                    below.into_iter().for_each(|schema| schema.judge(value, &path.child(name), errors));
                }
            }
            Value::Object(map) => {
                for (name, value) in map {
                    self.below.iter().for_each(|schema| schema.judge(value, &path.key(name), errors));
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.below.iter().for_each(|schema| schema.judge(item, &path.index(index), errors));
                }
            }
            _ => {}
        }
    }

    /// Fills in what was left out and has a default, and what is null and may not be.
    pub(crate) fn fill(&self, value: &mut Value) {
        match value {
            Value::Object(map) if self.form == Form::Object => {
                for (name, schema) in &self.fields {
                    let is_absent = map.get(name).is_none_or(|found| found.is_null() && !schema.is_nullable);
                    if let (true, Some(default)) = (is_absent, &schema.default) {
                        map.insert(name.clone(), default.clone());
                    }
                    map.get_mut(name).into_iter().for_each(|below| schema.fill(below));
                }
            }
            Value::Object(map) => {
                self.below.iter().for_each(|below| map.values_mut().for_each(|value| below.fill(value)));
            }
            Value::Array(items) => {
                self.below.iter().for_each(|below| items.iter_mut().for_each(|item| below.fill(item)));
            }
            _ => {}
        }
    }
}

impl Reader {
    fn part(&mut self, schema: &Value, path: &Path, depth: usize) -> Structural {
        self.parts += 1;
        if depth > DEEPEST || self.parts > MOST_PARTS {
            if self.errors.0.is_empty() {
                let why = format!("may be {DEEPEST} levels deep and have {MOST_PARTS} parts");
                self.errors.forbidden(path, why);
            }
            return Structural::default();
        }
        let says = |name: &str| get(schema, name).as_bool() == Some(true);
        let mut read = Structural {
            form: self.form(schema, path),
            keeps_unknown: says("x-kubernetes-preserve-unknown-fields"),
            is_resource: says("x-kubernetes-embedded-resource"),
            is_nullable: says("nullable"),
            default: schema.get("default").cloned(),
            ..Structural::default()
        };
        match read.form {
            Form::Object | Form::Map => self.object(&mut read, schema, path, depth),
            Form::List => match schema.get("items") {
                Some(items) => read.below = Some(Box::new(self.part(items, &path.child("items"), depth + 1))),
                None => self.errors.required(&path.child("items"), "must be specified"),
            },
            _ => {}
        }
        read.owned = self.owned(&read, schema, path);
        read
    }

    fn form(&mut self, schema: &Value, path: &Path) -> Form {
        if get(schema, "x-kubernetes-int-or-string").as_bool() == Some(true) {
            return Form::IntOrString;
        }
        match (text(schema, "type"), text(schema, "format")) {
            ("boolean", _) => Form::Bool,
            ("integer", "int32") => Form::Int32,
            ("integer", _) => Form::Int64,
            ("number", _) => Form::Double,
            ("string", "byte") => Form::Bytes,
            ("string", "date-time") => Form::Time,
            ("string", _) => Form::String,
            ("array", _) => Form::List,
            ("object", _) if has_values(schema) => Form::Map,
            ("object", _) => Form::Object,
            ("", _) if get(schema, "x-kubernetes-preserve-unknown-fields").as_bool() == Some(true) => {
                Form::Any
            }
            ("", _) => {
                self.errors.required(&path.child("type"), "must not be empty for specified object fields");
                Form::Any
            }
            (other, _) => {
                let known = ["array", "boolean", "integer", "number", "object", "string"];
                self.errors.not_supported(&path.child("type"), other, &known);
                Form::Any
            }
        }
    }

    fn object(&mut self, read: &mut Structural, schema: &Value, path: &Path, depth: usize) {
        if has_values(schema) {
            if get(schema, "properties").as_object().is_some_and(|map| !map.is_empty()) {
                self.errors
                    .forbidden(&path.child("additionalProperties"), "must not be used with properties");
            }
            let values = get(schema, "additionalProperties");
            // `true` stands for anything.
            if values.is_object() {
                let below = self.part(values, &path.child("additionalProperties"), depth + 1);
                read.below = Some(Box::new(below));
            }
            return;
        }
        for (name, property) in get(schema, "properties").as_object().into_iter().flatten() {
            let below = self.part(property, &path.child("properties").key(name), depth + 1);
            read.fields.insert(name.clone(), below);
        }
        let required = get(schema, "required").as_array().into_iter().flatten();
        read.required = required.filter_map(Value::as_str).map(str::to_owned).collect();
    }

    fn owned(&mut self, read: &Structural, schema: &Value, path: &Path) -> Owned {
        let list = (text(schema, "x-kubernetes-list-type"), read.form == Form::List);
        match (list, text(schema, "x-kubernetes-map-type")) {
            (("" | "atomic", true), _) => Owned::Atomic,
            (("set", true), _) => Owned::Set,
            (("map", true), _) => {
                let keys = get(schema, "x-kubernetes-list-map-keys").as_array().into_iter().flatten();
                let keys: Vec<String> = keys.filter_map(Value::as_str).map(str::to_owned).collect();
                let item = read.below.as_deref();
                let is_known = |key: &String| item.is_some_and(|item| item.fields.contains_key(key));
                if keys.is_empty() || !keys.iter().all(is_known) {
                    let why = "must name fields of the items when the list is a map";
                    self.errors.required(&path.child("x-kubernetes-list-map-keys"), why);
                }
                Owned::Keys(keys)
            }
            ((other, true), _) => {
                let path = path.child("x-kubernetes-list-type");
                self.errors.not_supported(&path, other, &["atomic", "map", "set"]);
                Owned::Default
            }
            ((_, false), "atomic") => Owned::Atomic,
            ((_, false), _) => Owned::Default,
        }
    }
}

/// Whether an object is a map of free keys.
fn has_values(schema: &Value) -> bool {
    match get(schema, "additionalProperties") {
        Value::Bool(given) => *given,
        given => given.is_object(),
    }
}
