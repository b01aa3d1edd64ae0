//! The walk through an object and its schema.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};

use super::{DecodeError, MOST_MESSAGES, Unknown};
use crate::{
    schema::{Fields, Schema, Shape},
    text::{LONGEST_PATH, cut},
};

/// A longer text is not shown whole: a value may have megabytes.
const LONGEST_FOUND: usize = 1024;

/// One step from an object to a part of it.
#[derive(Clone, Copy)]
enum Step<'v> {
    Field(&'v str),
    Item(usize),
}

/// Where the walk is, and what it found so far. An error leaves it where it arose.
#[derive(Default)]
pub(super) struct Walk<'v> {
    path: Vec<Step<'v>>,
    unknown: Vec<String>,
}

/// What was found and what was expected.
struct Wrong(String);

impl<'v> Walk<'v> {
    /// Walks through a whole object.
    pub(super) fn object(
        mut self,
        kind: &str,
        schema: Fields<'_>,
        value: &'v Value,
    ) -> Result<Unknown, DecodeError> {
        let Value::Object(map) = value else {
            let expectation = format!("expected a JSON object, found {}", type_name(value));
            return Err(DecodeError::Body { kind: kind.to_owned(), expectation });
        };
        match self.whole(kind, schema, map) {
            Ok(()) => Ok(Unknown(self.unknown)),
            Err(Wrong(expectation)) if self.path.is_empty() => {
                Err(DecodeError::Body { kind: kind.to_owned(), expectation })
            }
            Err(Wrong(expectation)) => {
                Err(DecodeError::Field { kind: kind.to_owned(), field: self.spell(), expectation })
            }
        }
    }

    /// The fields of an object, and what it says about its own type.
    fn whole(&mut self, kind: &str, schema: Fields<'_>, map: &'v Map<String, Value>) -> Result<(), Wrong> {
        for (name, value) in map.iter().filter(|(_, value)| !value.is_null()) {
            self.path.push(Step::Field(name));
            match name.as_str() {
                "apiVersion" => {}
                "kind" => match value.as_str() {
                    Some(found) if found == kind => {}
                    // The fault is the object's: it is of another kind.
                    Some(_) => {
                        self.path.pop();
                        return Err(Wrong(format!("invalid value: {}, expected {kind}", found(value))));
                    }
                    None => return Err(wrong(value, "a string")),
                },
                _ => self.field(schema, name, value)?,
            }
            self.path.pop();
        }
        self.is_complete(schema, map)
    }

    fn fields(&mut self, fields: Fields<'_>, map: &'v Map<String, Value>) -> Result<(), Wrong> {
        for (name, value) in map.iter().filter(|(_, value)| !value.is_null()) {
            self.path.push(Step::Field(name));
            self.field(fields, name, value)?;
            self.path.pop();
            // An object in another one, as a claim's template is, may say what it is, and nothing else.
            if ["apiVersion", "kind"].contains(&name.as_str())
                && let Some((api_version, kind)) = fields.kind()
            {
                let expected = if name == "kind" { kind } else { &api_version };
                if value != expected {
                    return Err(Wrong(format!("invalid value: {}, expected {expected}", found(value))));
                }
            }
        }
        self.is_complete(fields, map)
    }

    /// A field that is the last of the path.
    fn field(&mut self, fields: Fields<'_>, name: &str, value: &'v Value) -> Result<(), Wrong> {
        match fields.get(name) {
            Some(property) => self.value(property.schema, value),
            None if fields.keeps_unknown() => Ok(()),
            None if self.unknown.len() >= MOST_MESSAGES => Ok(()),
            None => {
                let path = cut(&self.spell(), LONGEST_PATH);
                self.unknown.push(path);
                Ok(())
            }
        }
    }

    fn is_complete(&self, fields: Fields<'_>, map: &Map<String, Value>) -> Result<(), Wrong> {
        let is_there = |name: &str| map.get(name).is_some_and(|value| !value.is_null());
        match fields.missing(is_there) {
            Some(name) => Err(Wrong(format!("missing field `{name}`"))),
            None => Ok(()),
        }
    }

    fn value(&mut self, schema: Schema<'_>, value: &'v Value) -> Result<(), Wrong> {
        match (schema.shape(), value) {
            (Shape::Object(fields), Value::Object(map)) => self.fields(fields, map),
            (Shape::Object(fields), _) => Err(wrong(value, fields.name())),
            (Shape::List(below), Value::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    self.path.push(Step::Item(index));
                    self.value(below, item)?;
                    self.path.pop();
                }
                Ok(())
            }
            (Shape::List(_), _) => Err(wrong(value, "a sequence")),
            (Shape::Map(below), Value::Object(map)) => {
                for (name, value) in map.iter().filter(|(_, value)| !value.is_null()) {
                    self.path.push(Step::Field(name));
                    self.value(below, value)?;
                    self.path.pop();
                }
                Ok(())
            }
            (Shape::Map(_), _) => Err(wrong(value, "a map")),
            (Shape::OneOf(forms), _) => match form(forms, value) {
                Some(schema) => self.value(schema, value),
                None => Err(wrong(value, forms.name())),
            },
            (scalar, _) => scalar_fits(scalar, value),
        }
    }

    /// Where the walk is, in Kubernetes' spelling.
    fn spell(&self) -> String {
        let mut text = String::new();
        for step in &self.path {
            match step {
                Step::Item(index) => text.push_str(&format!("[{index}]")),
                Step::Field(name) => {
                    if !text.is_empty() {
                        text.push('.');
                    }
                    text.push_str(name);
                }
            }
        }
        text
    }
}

/// Which of several forms a value has.
pub(super) fn form<'s>(forms: Fields<'s>, value: &Value) -> Option<Schema<'s>> {
    let is_of = |schema: &Schema<'_>| match schema.shape() {
        Shape::Object(_) | Shape::Map(_) => value.is_object(),
        Shape::List(_) => value.is_array(),
        Shape::Bool => value.is_boolean(),
        Shape::String => value.is_string(),
        _ => false,
    };
    forms.all().into_iter().map(|(_, property)| property.schema).find(is_of)
}

/// Whether a value without parts has the form that is said.
fn scalar_fits(shape: Shape<'_>, value: &Value) -> Result<(), Wrong> {
    match shape {
        Shape::Bool if value.is_boolean() => Ok(()),
        Shape::Bool => Err(wrong(value, "a boolean")),
        Shape::Int32 => whole_number(value, "i32", |number| i32::try_from(number).is_ok()),
        Shape::Int64 => whole_number(value, "i64", |_| true),
        Shape::Double if value.is_number() => Ok(()),
        Shape::Double => Err(wrong(value, "f64")),
        Shape::String if value.is_string() => Ok(()),
        Shape::String => Err(wrong(value, "a string")),
        Shape::Bytes => match value {
            Value::Null => Ok(()),
            Value::String(text) => STANDARD.decode(text).map(drop).map_err(|error| Wrong(error.to_string())),
            _ => Err(wrong(value, "a base64-encoded string")),
        },
        Shape::Time => match value.as_str() {
            Some(text) => text.parse::<jiff::Timestamp>().map(drop).map_err(|error| Wrong(error.to_string())),
            None => Err(wrong(value, "a timestamp string")),
        },
        Shape::Quantity if value.is_string() || value.is_number() => Ok(()),
        Shape::Quantity => Err(wrong(value, "Quantity")),
        Shape::IntOrString => match value {
            Value::String(_) => Ok(()),
            Value::Number(number) if number.is_f64() => Err(wrong(value, "IntOrString")),
            Value::Number(_) => match value.as_i64().map(i32::try_from) {
                Some(Ok(_)) => Ok(()),
                _ => Err(Wrong(format!("invalid value: {}, expected a 32-bit integer", found(value)))),
            },
            _ => Err(wrong(value, "IntOrString")),
        },
        Shape::Any | Shape::Object(_) | Shape::List(_) | Shape::Map(_) | Shape::OneOf(_) => Ok(()),
    }
}

fn whole_number(value: &Value, expected: &str, is_within: impl Fn(i64) -> bool) -> Result<(), Wrong> {
    match value {
        Value::Number(number) if !number.is_f64() => match number.as_i64() {
            Some(number) if is_within(number) => Ok(()),
            _ => Err(Wrong(format!("invalid value: {}, expected {expected}", found(value)))),
        },
        _ => Err(wrong(value, expected)),
    }
}

fn wrong(value: &Value, expected: &str) -> Wrong {
    Wrong(format!("invalid type: {}, expected {expected}", found(value)))
}

/// A value as an error shows it.
fn found(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(truth) => format!("boolean `{truth}`"),
        Value::Number(number) if number.is_f64() => format!("floating point `{number}`"),
        Value::Number(number) => format!("integer `{number}`"),
        Value::String(text) => format!("string {:?}", cut(text, LONGEST_FOUND)),
        Value::Array(_) => "sequence".to_owned(),
        Value::Object(_) => "map".to_owned(),
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
