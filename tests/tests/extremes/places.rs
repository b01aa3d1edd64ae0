//! Every place in a kind of object, from the table of API types.

use std::fmt;

use serde_json::{Map, Value};
use warren_objects::schema::{Message, Type};

/// One step towards a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Field(&'static str),
    /// The first item of a list.
    First,
    /// Some entry of a map.
    Entry,
}

/// A place, and what belongs there.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) path: Vec<Step>,
    pub(crate) holds: Type,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.path.iter().enumerate() {
            match step {
                Step::Field(name) if index == 0 => write!(f, "{name}")?,
                Step::Field(name) => write!(f, ".{name}")?,
                Step::First => write!(f, "[0]")?,
                Step::Entry => write!(f, "[*]")?,
            }
        }
        Ok(())
    }
}

impl Place {
    /// Whether the place lies below these fields (lists and maps left out).
    pub(crate) fn is_below(&self, fields: &[&str]) -> bool {
        let named = self.path.iter().filter_map(|step| match step {
            Step::Field(name) => Some(*name),
            _ => None,
        });
        let mut named = named.take(fields.len());
        fields.iter().all(|field| named.next() == Some(field))
    }

    /// Puts a value there, and makes what must be above it. False when something else is in the way.
    pub(crate) fn set(&self, object: &mut Value, value: Value) -> bool {
        let mut current = object;
        for step in &self.path {
            let next = match step {
                Step::Field(name) => map(current).map(|map| map.entry(*name).or_insert(Value::Null)),
                Step::Entry => map(current).map(|map| {
                    let key = map.keys().next().cloned().unwrap_or_else(|| "k".to_owned());
                    map.entry(key).or_insert(Value::Null)
                }),
                Step::First => {
                    if current.is_null() {
                        *current = Value::Array(vec![Value::Null]);
                    }
                    current.as_array_mut().map(|list| {
                        if list.is_empty() {
                            list.push(Value::Null);
                        }
                        &mut list[0]
                    })
                }
            };
            match next {
                Some(next) => current = next,
                None => return false,
            }
        }
        *current = value;
        true
    }
}

fn map(value: &mut Value) -> Option<&mut Map<String, Value>> {
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut()
}

/// All places of a message. Types that hold themselves are followed once.
pub(crate) fn places(message: &'static Message) -> Vec<Place> {
    let mut found = Vec::new();
    below(message, &mut Vec::new(), &mut Vec::new(), &mut found);
    found
}

fn below(
    message: &'static Message,
    path: &mut Vec<Step>,
    inside: &mut Vec<&'static Message>,
    found: &mut Vec<Place>,
) {
    if inside.iter().any(|outer| std::ptr::eq(*outer, message)) {
        return;
    }
    inside.push(message);
    for field in message.json_fields() {
        path.push(Step::Field(field.json));
        visit(field.kind, path, inside, found);
        path.pop();
    }
    inside.pop();
}

fn visit(holds: Type, path: &mut Vec<Step>, inside: &mut Vec<&'static Message>, found: &mut Vec<Place>) {
    found.push(Place { path: path.clone(), holds });
    match holds {
        Type::Object(message) | Type::OneOf(message) => below(message, path, inside, found),
        Type::List(item) | Type::Items(item) => {
            path.push(Step::First);
            visit(*item, path, inside, found);
            path.pop();
        }
        Type::Map(item) => {
            path.push(Step::Entry);
            visit(*item, path, inside, found);
            path.pop();
        }
        _ => {}
    }
}
