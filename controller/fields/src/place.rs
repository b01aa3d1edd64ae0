//! What a value is by its schema: a leaf that has one owner, or something whose parts have owners of their own.

use std::{collections::BTreeSet, sync::LazyLock};

use serde_json::{Map, Value};
use warren_objects::schema::{Fields, Keys, Merge, Property, Schema, Shape};

use crate::set::{Element, Path, Set};

/// Where a value stands: its schema, if any is known, and how it takes changes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'s> {
    schema: Option<Schema<'s>>,
    merge: Merge<'s>,
}

/// What has owners of its own in a value.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Form<'s> {
    /// Nothing: the value as a whole has an owner.
    Leaf,
    /// Its fields.
    Struct(Fields<'s>),
    /// Its entries.
    Map(Place<'s>),
    /// Its objects, matched by keys.
    Keyed(Keys<'s>, Place<'s>),
    /// Its members.
    Unique,
}

impl Place<'static> {
    /// Where no schema says more: objects are maps, everything else is a leaf.
    pub(crate) const UNKNOWN: Self = Self { schema: None, merge: Merge::Default };
}

impl<'s> Place<'s> {
    pub(crate) fn of(property: &Property<'s>) -> Self {
        Self { schema: Some(property.schema), merge: property.apply }
    }

    fn below(schema: Schema<'s>) -> Self {
        Self { schema: Some(schema), merge: schema.apply() }
    }

    /// The form of a value here. One that the schema does not allow is a leaf.
    pub(crate) fn form(self, value: &Value) -> Form<'s> {
        let form = self.declared(value);
        let fits = match form {
            Form::Leaf => true,
            Form::Struct(_) | Form::Map(_) => matches!(value, Value::Object(_) | Value::Null),
            Form::Keyed(..) | Form::Unique => matches!(value, Value::Array(_) | Value::Null),
        };
        if fits { form } else { Form::Leaf }
    }

    /// The form that the schema alone says.
    pub(crate) fn by_schema(self) -> Form<'s> {
        self.declared(&Value::Null)
    }

    fn declared(self, value: &Value) -> Form<'s> {
        let Some(schema) = self.schema else { return deduced(value) };
        match (schema.shape(), self.merge) {
            (_, Merge::Atomic) => Form::Leaf,
            (Shape::Object(fields), _) if fields.is_atomic() => Form::Leaf,
            (Shape::Object(fields), _) => Form::Struct(fields),
            (Shape::Map(below), _) => Form::Map(Self::below(below)),
            (Shape::List(item), Merge::Keys(keys)) => Form::Keyed(keys, Self::below(item)),
            (Shape::List(_), Merge::Set) => Form::Unique,
            (Shape::Any, _) if matches!(schema, Schema::Structural(_)) => deduced(value),
            _ => Form::Leaf,
        }
    }
}

fn deduced(value: &Value) -> Form<'static> {
    if value.is_object() { Form::Map(Place::UNKNOWN) } else { Form::Leaf }
}

/// The place of a field; one that the schema does not know has none.
pub(crate) fn of_field<'s>(fields: Fields<'s>, name: &str) -> Place<'s> {
    fields.get(name).map_or(Place::UNKNOWN, |property| Place::of(&property))
}

static NOTHING: Value = Value::Null;
static EMPTY: LazyLock<Value> = LazyLock::new(|| Value::Object(Map::new()));

/// What Go's types have where a field is left out, and Kubernetes therefore compares: an empty struct, or a list or map
/// that is null.
pub(crate) fn implied(property: &Property<'_>) -> Option<&'static Value> {
    if property.is_pointer || !matches!(property.schema, Schema::Table(_)) {
        return None;
    }
    match property.schema.shape() {
        Shape::Object(_) => Some(&EMPTY),
        Shape::List(_) | Shape::Map(_) if property.zero_is_written => Some(&NOTHING),
        _ => None,
    }
}

/// The entry of a list that an item is; `None` for one that has no key.
pub(crate) fn element(form: Form<'_>, item: &Value) -> Option<Element> {
    match (form, item) {
        (Form::Keyed(keys, place), Value::Object(map)) => {
            let fields: Map<String, Value> = keys
                .names()
                .into_iter()
                .filter_map(|name| {
                    let value = map.get(name).cloned().or_else(|| place.default_of(name))?;
                    Some((name.to_owned(), value))
                })
                .collect();
            (!fields.is_empty()).then(|| Element::key(fields))
        }
        (Form::Unique, Value::Object(_) | Value::Array(_) | Value::Null) => None,
        (Form::Unique, scalar) => Some(Element::value(scalar)),
        _ => None,
    }
}

impl Place<'_> {
    fn default_of(self, name: &str) -> Option<Value> {
        match self.schema?.shape() {
            Shape::Object(fields) => fields.key_default(name),
            _ => None,
        }
    }
}

/// Whether there is nothing in it.
pub(crate) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// The fields that an object sets.
pub fn set_of(fields: Fields<'_>, object: &Value) -> Set {
    below(Form::Struct(fields), object)
}

/// The fields that are set below a value.
pub(crate) fn below(form: Form<'_>, value: &Value) -> Set {
    let mut set = Set::default();
    match (form, value) {
        (Form::Struct(fields), Value::Object(map)) => {
            for (name, value) in map {
                let property = fields.get(name);
                let place = property.as_ref().map_or(Place::UNKNOWN, Place::of);
                add(&mut set, Element::field(name), place, value, property.is_none());
            }
        }
        (Form::Map(place), Value::Object(map)) => {
            map.iter().for_each(|(name, value)| add(&mut set, Element::field(name), place, value, true));
        }
        (Form::Keyed(_, place), Value::Array(items)) => {
            let mut seen = BTreeSet::new();
            for item in items {
                let Some(element) = element(form, item) else { continue };
                if seen.insert(element.clone()) {
                    add(&mut set, element, place, item, true);
                } else {
                    // Of several with the same key none has fields of its own.
                    set.put(element, true, Set::default());
                }
            }
        }
        (Form::Unique, Value::Array(items)) => {
            let elements = items.iter().filter_map(|item| element(form, item));
            elements.for_each(|element| set.put(element, true, Set::default()));
        }
        _ => {}
    }
    set
}

fn add(set: &mut Set, element: Element, place: Place<'_>, value: &Value, is_item: bool) {
    let form = place.form(value);
    let is_bare = value.is_null() || value.as_object().is_some_and(Map::is_empty);
    let is_member = is_item || is_bare || matches!(form, Form::Leaf);
    set.put(element, is_member, below(form, value));
}

/// Why a configuration cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {why}")]
pub struct Fault {
    /// Where.
    pub path: Path,
    /// Why.
    pub why: String,
}

/// Names the first list of a configuration whose entries cannot be told apart.
pub fn check(fields: Fields<'_>, object: &Value) -> Result<(), Fault> {
    walk(Form::Struct(fields), object, &mut Vec::new())
}

fn walk(form: Form<'_>, value: &Value, at: &mut Vec<Element>) -> Result<(), Fault> {
    let mut step = |element: Element, place: Place<'_>, value: &Value| {
        at.push(element);
        walk(place.form(value), value, at)?;
        at.pop();
        Ok(())
    };
    match (form, value) {
        (Form::Struct(fields), Value::Object(map)) => {
            map.iter().try_for_each(|(name, value)| step(Element::field(name), of_field(fields, name), value))
        }
        (Form::Map(place), Value::Object(map)) => {
            map.iter().try_for_each(|(name, value)| step(Element::field(name), place, value))
        }
        (Form::Keyed(..) | Form::Unique, Value::Array(items)) => {
            let mut seen = BTreeSet::new();
            for (index, item) in items.iter().enumerate() {
                let fault = |at: &[Element], why| Err(Fault { path: Path(at.to_vec()), why });
                let Some(element) = element(form, item) else {
                    return fault(at, format!("element {index}: {}", no_key(form, item)));
                };
                if !seen.insert(element.clone()) {
                    return fault(at, format!("duplicate entries for key {element}"));
                }
                if let Form::Keyed(_, place) = form {
                    at.push(element);
                    walk(place.form(item), item, at)?;
                    at.pop();
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn no_key(form: Form<'_>, item: &Value) -> String {
    match (form, item) {
        (Form::Keyed(keys, _), Value::Object(_)) => format!(
            "associative list with keys has an element that omits all key fields {:?} (and doesn't have default values \
             for any key fields)",
            keys.names()
        ),
        (Form::Keyed(..), Value::Null) => "associative list with keys may not have a null element".into(),
        (Form::Keyed(..), _) => "associative list with keys may not have non-map elements".into(),
        (_, Value::Object(_)) => "associative list without keys has an element that's a map type".into(),
        (_, Value::Array(_)) => "not supported: associative list with lists as elements".into(),
        _ => "associative list without keys has an element that's an explicit null".into(),
    }
}
