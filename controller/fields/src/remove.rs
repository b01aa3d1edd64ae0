//! Objects without some of their fields, or with nothing else.

use serde_json::{Map, Value};
use warren_objects::schema::Fields;

use crate::{
    place::{Form, Place, element, of_field},
    set::{Element, Set},
};

/// An object without the fields of a set. What is then empty is gone, too.
pub fn remove(fields: Fields<'_>, object: &Value, set: &Set) -> Value {
    without(Form::Struct(fields), object, set).unwrap_or_else(|| Value::Object(Map::new()))
}

fn without(form: Form<'_>, value: &Value, set: &Set) -> Option<Value> {
    let one = |element: Element, place: Place<'_>, value: &Value| match set.nodes.get(&element) {
        None => Some(value.clone()),
        Some(node) if node.is_member => None,
        Some(node) => without(place.form(value), value, &node.below),
    };
    let kept = parts(form, value, one);
    match kept {
        // A leaf of which only parts were owned is older than its schema.
        None => (!value.is_object() && !value.is_array()).then(|| value.clone()),
        Some(kept) => Some(kept).filter(|kept| !crate::place::is_empty(kept)),
    }
}

/// What of an object is in a set; the objects of lists keep the fields by which they are matched.
pub fn extract(fields: Fields<'_>, object: &Value, set: &Set) -> Value {
    within(Form::Struct(fields), object, set).unwrap_or_else(|| Value::Object(Map::new()))
}

fn within(form: Form<'_>, value: &Value, set: &Set) -> Option<Value> {
    let one = |element: Element, place: Place<'_>, value: &Value| {
        let node = set.nodes.get(&element)?;
        let form_below = place.form(value);
        if matches!(form_below, Form::Leaf) || node.below.is_empty() && element.name().is_some() {
            return Some(value.clone());
        }
        let mut kept = within(form_below, value, &node.below).unwrap_or_else(|| Value::Object(Map::new()));
        if let (Form::Keyed(keys, _), Value::Object(kept)) = (form, &mut kept) {
            let names =
                keys.names().into_iter().filter_map(|name| value.get(name).map(|value| (name, value)));
            kept.extend(names.map(|(name, value)| (name.to_owned(), value.clone())));
        }
        Some(kept)
    };
    if matches!(form, Form::Unique) {
        let items = value.as_array().into_iter().flatten();
        let kept = items.filter(|item| element(form, item).is_some_and(|element| set.touches(&element)));
        return Some(kept.cloned().collect());
    }
    parts(form, value, one)
}

/// The parts of a value that are kept, as one leaves them; `None` for what has none.
fn parts(
    form: Form<'_>,
    value: &Value,
    one: impl Fn(Element, Place<'_>, &Value) -> Option<Value>,
) -> Option<Value> {
    let entry = |place: Place<'_>, name: &String, value: &Value| {
        one(Element::field(name), place, value).map(|value| (name.clone(), value))
    };
    Some(match (form, value) {
        (Form::Struct(fields), Value::Object(map)) => Value::Object(
            map.iter().filter_map(|(name, value)| entry(of_field(fields, name), name, value)).collect(),
        ),
        (Form::Map(place), Value::Object(map)) => {
            Value::Object(map.iter().filter_map(|(name, value)| entry(place, name, value)).collect())
        }
        (Form::Keyed(..) | Form::Unique, Value::Array(items)) => {
            let place = if let Form::Keyed(_, place) = form { place } else { Place::UNKNOWN };
            let kept = items.iter().filter_map(|item| match element(form, item) {
                Some(element) => one(element, place, item),
                None => Some(item.clone()),
            });
            Value::Array(kept.collect())
        }
        _ => return None,
    })
}

/// The set, and each field of a struct in it that has only others below it. Entries of maps and of lists are none: they
/// are in a set when somebody set them.
pub fn named(fields: Fields<'_>, set: &Set) -> Set {
    named_in(Form::Struct(fields), set)
}

fn named_in(form: Form<'_>, set: &Set) -> Set {
    let mut all = Set::default();
    for (element, node) in &set.nodes {
        let (place, is_named) = match (form, element.name()) {
            (Form::Struct(fields), Some(name)) => (of_field(fields, name), fields.get(name).is_some()),
            (Form::Map(place), Some(_)) | (Form::Keyed(_, place), None) => (place, false),
            _ => (Place::UNKNOWN, false),
        };
        all.put(element.clone(), node.is_member || is_named, named_in(place.by_schema(), &node.below));
    }
    all
}
