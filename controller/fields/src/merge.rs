//! What an object becomes when a configuration is applied to it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use warren_objects::schema::Fields;

use crate::{
    place::{Form, Place, element, is_empty, of_field},
    set::Element,
};

/// Merges a configuration into a live object: the configuration's values win, what it does not name stays.
pub fn merge(fields: Fields<'_>, live: &Value, configuration: &Value) -> Value {
    parts(Form::Struct(fields), live, configuration)
}

fn one(place: Place<'_>, live: Option<&Value>, wanted: Option<&Value>) -> Option<Value> {
    let (Some(live), Some(wanted)) = (live, wanted) else { return wanted.or(live).cloned() };
    let form = place.form(wanted);
    let is_leaf = |form| matches!(form, Form::Leaf);
    if is_leaf(form) || is_leaf(place.form(live)) || is_empty(live) && is_empty(wanted) {
        return Some(wanted.clone());
    }
    Some(parts(form, live, wanted))
}

fn parts(form: Form<'_>, live: &Value, wanted: &Value) -> Value {
    let maps = (live.as_object(), wanted.as_object());
    match form {
        Form::Struct(fields) => entries(maps, |name| of_field(fields, name)),
        Form::Map(place) => entries(maps, |_| place),
        Form::Keyed(_, place) => list(form, live, wanted, |live, wanted| one(place, live, wanted)),
        Form::Unique => list(form, live, wanted, |live, wanted| wanted.or(live).cloned()),
        Form::Leaf => wanted.clone(),
    }
}

type Maps<'v> = (Option<&'v Map<String, Value>>, Option<&'v Map<String, Value>>);

fn entries<'s>((live, wanted): Maps<'_>, place: impl Fn(&str) -> Place<'s>) -> Value {
    let mut merged = live.cloned().unwrap_or_default();
    for (name, wanted) in wanted.into_iter().flatten() {
        if let Some(value) = one(place(name), live.and_then(|live| live.get(name)), Some(wanted)) {
            merged.insert(name.clone(), value);
        }
    }
    Value::Object(merged)
}

/// Merges two lists. What is in the configuration comes in its order; what is in the live object alone stays where it is
/// beside the others.
fn list(
    form: Form<'_>,
    live: &Value,
    wanted: &Value,
    one: impl Fn(Option<&Value>, Option<&Value>) -> Option<Value>,
) -> Value {
    let (live, wanted) = (with_elements(form, live), with_elements(form, wanted));
    let mut of_live: BTreeMap<&Element, Option<&Value>> = BTreeMap::new();
    for (element, item) in &live {
        // Several with one key are not merged: what is applied takes their place.
        of_live.entry(element).and_modify(|found| *found = None).or_insert(Some(*item));
    }
    let is_wanted: BTreeSet<&Element> = wanted.iter().map(|(element, _)| element).collect();
    let shared = wanted.iter().map(|(element, _)| element).filter(|element| of_live.contains_key(element));
    let mut shared = shared.peekable();
    let mut merged = Vec::new();
    let mut done = BTreeSet::new();
    let (mut at_live, mut at_wanted) = (0, 0);
    while at_live < live.len() || at_wanted < wanted.len() {
        if let Some((element, item)) = live.get(at_live) {
            let next = wanted.get(at_wanted).map(|(next, _)| next);
            let comes_later = next.is_some_and(|next| next != element)
                && is_wanted.contains(element)
                && shared.peek().is_some_and(|next| *next != element);
            if comes_later || done.contains(element) {
                at_live += 1;
                continue;
            }
            if !is_wanted.contains(element) {
                merged.extend(one(Some(item), None));
                at_live += 1;
                continue;
            }
        }
        if let Some((element, item)) = wanted.get(at_wanted) {
            merged.extend(one(of_live.get(element).copied().flatten(), Some(item)));
            done.insert(element);
            at_wanted += 1;
            shared.next_if(|next| *next == element);
        }
    }
    Value::Array(merged)
}

fn with_elements<'v>(form: Form<'_>, list: &'v Value) -> Vec<(Element, &'v Value)> {
    let items = list.as_array().into_iter().flatten();
    items.filter_map(|item| element(form, item).map(|element| (element, item))).collect()
}
