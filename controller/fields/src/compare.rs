//! What differs between two states of an object.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use warren_objects::schema::Fields;

use crate::{
    place::{Form, Place, element, implied, is_empty, of_field},
    set::{Element, Set},
};

/// The fields that differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// They were not there.
    pub added: Set,
    /// They are no longer there.
    pub removed: Set,
    /// They have another value.
    pub modified: Set,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Added,
    Removed,
    Modified,
}

static NOTHING: Value = Value::Null;

/// Compares two states of an object.
pub fn compare(fields: Fields<'_>, old: &Value, new: &Value) -> Comparison {
    let mut all = Comparison::default();
    if old != new {
        parts(Form::Struct(fields), Some(old), Some(new), &mut all);
    }
    all
}

impl Comparison {
    /// Those that are there and were not there in this way.
    pub fn written(&self) -> Set {
        self.modified.clone().union(&self.added)
    }

    /// Only what is at or below some of the first elements.
    #[must_use]
    pub fn only(self, keeps: impl Fn(&Element) -> bool) -> Self {
        Self {
            added: self.added.only(&keeps),
            removed: self.removed.only(&keeps),
            modified: self.modified.only(&keeps),
        }
    }

    /// Compares one element.
    fn at(&mut self, element: Element, place: Place<'_>, old: Option<&Value>, new: Option<&Value>) {
        let (change, below) = one(place, old, new);
        let is = |what| change == Some(what);
        self.added.put(element.clone(), is(Change::Added), below.added);
        self.removed.put(element.clone(), is(Change::Removed), below.removed);
        self.modified.put(element, is(Change::Modified), below.modified);
    }
}

/// What happens to a value as a whole, and to what is below it.
fn one(place: Place<'_>, old: Option<&Value>, new: Option<&Value>) -> (Option<Change>, Comparison) {
    let mut below = Comparison::default();
    let whole = match (old, new) {
        (None, None) => return (None, below),
        (None, Some(_)) => Some(Change::Added),
        (Some(_), None) => Some(Change::Removed),
        (Some(_), Some(_)) => None,
    };
    let form_of = |value: Option<&Value>| value.map(|value| place.form(value));
    let empty = |value: Option<&Value>| value.is_none_or(is_empty);
    let is_leaf = |form: &Option<Form<'_>>| matches!(form, Some(Form::Leaf));
    let (was, is) = (form_of(old), form_of(new));
    if is_leaf(&was) || is_leaf(&is) || empty(old) && empty(new) {
        let is_other = whole.is_none() && old != new;
        // What was below something that is now a leaf has gone, and the other way round.
        if let (Some(form), Some(old)) = (was, old) {
            below.removed = crate::place::below(form, old);
        }
        if let (Some(form), Some(new)) = (is, new) {
            below.added = crate::place::below(form, new);
        }
        return (whole.or(is_other.then_some(Change::Modified)), below);
    }
    if let Some(form) = is.or(was) {
        parts(form, old, new, &mut below);
    }
    (whole, below)
}

/// Compares what is in two values of the same form.
fn parts(form: Form<'_>, old: Option<&Value>, new: Option<&Value>, all: &mut Comparison) {
    match form {
        Form::Struct(fields) => {
            let mut names = names(old, new);
            if old.is_none() || new.is_none() {
                names.extend(
                    fields
                        .all()
                        .iter()
                        .filter(|(_, property)| implied(property).is_some())
                        .map(|(name, _)| *name),
                );
            }
            for name in names {
                let property = fields.get(name);
                let implied = || property.as_ref().and_then(implied);
                let old = old.and_then(|whole| whole.get(name).or_else(implied));
                let new = new.and_then(|whole| whole.get(name).or_else(implied));
                all.at(Element::field(name), of_field(fields, name), old, new);
            }
        }
        Form::Map(place) => {
            for name in names(old, new) {
                let (old, new) = (old.and_then(|old| old.get(name)), new.and_then(|new| new.get(name)));
                all.at(Element::field(name), place, old, new);
            }
        }
        Form::Keyed(_, place) => entries(form, Some(place), old, new, all),
        Form::Unique => entries(form, None, old, new, all),
        Form::Leaf => {}
    }
}

fn names<'v>(old: Option<&'v Value>, new: Option<&'v Value>) -> BTreeSet<&'v str> {
    let maps = [old, new].into_iter().flatten().filter_map(Value::as_object);
    maps.flat_map(Map::keys).map(String::as_str).collect()
}

/// Compares the entries of two lists. Several with one key are compared together, as a whole.
fn entries(
    form: Form<'_>,
    place: Option<Place<'_>>,
    old: Option<&Value>,
    new: Option<&Value>,
    all: &mut Comparison,
) {
    let (old, new) = (by_element(form, old), by_element(form, new));
    let elements: BTreeSet<&Element> = old.keys().chain(new.keys()).collect();
    for element in elements {
        let was = old.get(element).cloned().unwrap_or_default();
        let is = new.get(element).cloned().unwrap_or_default();
        let put = |set: &mut Set| set.put(element.clone(), true, Set::default());
        match (was.as_slice(), is.as_slice(), place) {
            ([], [_], None) => put(&mut all.added),
            ([_], [], None) => put(&mut all.removed),
            ([_], [_], None) => {}
            (was, is, Some(place)) if was.len() <= 1 && is.len() <= 1 => {
                all.at(element.clone(), place, was.first().copied(), is.first().copied());
            }
            ([_, _, ..], [_, _, ..], _) if was != is => put(&mut all.modified),
            ([_, _, ..], [_, _, ..], _) => {}
            ([_, _, ..], is, place) => {
                if let (Some(place), Some(item)) = (place, is.first()) {
                    all.at(element.clone(), place, None, Some(item));
                }
                put(&mut all.removed);
            }
            (was, _, place) => {
                if let (Some(place), Some(item)) = (place, was.first()) {
                    all.at(element.clone(), place, Some(item), None);
                }
                put(&mut all.added);
            }
        }
    }
}

fn by_element<'v>(form: Form<'_>, list: Option<&'v Value>) -> BTreeMap<Element, Vec<&'v Value>> {
    let mut all: BTreeMap<Element, Vec<&Value>> = BTreeMap::new();
    for item in list.unwrap_or(&NOTHING).as_array().into_iter().flatten() {
        if let Some(element) = element(form, item) {
            all.entry(element).or_default().push(item);
        }
    }
    all
}
