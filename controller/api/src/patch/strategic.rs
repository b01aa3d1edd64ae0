//! Strategic merge patch: merge patch that knows which lists are maps, with Kubernetes' directives
//! (`$patch`, `$retainKeys`, `$deleteFromPrimitiveList/F`, `$setElementOrder/F`).

use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::{Map, Value};

use warren_objects::schema::Message;

use super::topology::{self, Merge, Node};

/// Why a patch cannot be applied.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PatchError {
    #[error("{path}: unknown value {found} of $patch: supported values: \"delete\", \"merge\", \"replace\"")]
    UnknownDirective { path: String, found: String },
    #[error("{path}: must be a list")]
    NotAList { path: String },
    #[error("{path}: every item must be an object with the merge key {key:?}")]
    NoMergeKey { path: String, key: &'static str },
    #[error("{path}: the field is set by the patch but not named in $retainKeys")]
    NotRetained { path: String },
    #[error("{path}: the patch names one item more than {MOST_MENTIONS} times")]
    Repeated { path: String },
}

/// Each mention of an item merges it anew.
const MOST_MENTIONS: usize = 100;

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_PREFIX: &str = "$deleteFromPrimitiveList/";
const ORDER_PREFIX: &str = "$setElementOrder/";

type Object = Map<String, Value>;

/// What an object of a kind becomes.
pub(super) fn apply(kind: &'static Message, current: &Value, patch: &Value) -> Result<Value, PatchError> {
    let empty = Object::new();
    let current = current.as_object().unwrap_or(&empty).clone();
    let root = topology::root(kind);
    merge_map(root, current, patch.as_object().unwrap_or(&empty), "").map(Value::Object)
}

/// What `$patch` in a map asks for.
#[derive(PartialEq)]
enum Directive {
    Merge,
    Replace,
    Delete,
}

fn directive(map: &Object, path: &str) -> Result<Directive, PatchError> {
    match map.get(DIRECTIVE) {
        None => Ok(Directive::Merge),
        Some(Value::String(text)) if text == "merge" => Ok(Directive::Merge),
        Some(Value::String(text)) if text == "replace" => Ok(Directive::Replace),
        Some(Value::String(text)) if text == "delete" => Ok(Directive::Delete),
        Some(found) => Err(PatchError::UnknownDirective { path: path.to_owned(), found: found.to_string() }),
    }
}

fn merge_map(kind: Node, mut map: Object, patch: &Object, path: &str) -> Result<Object, PatchError> {
    match directive(patch, path)? {
        Directive::Delete => return Ok(Object::new()),
        Directive::Replace => return Ok(plain_map(patch)),
        Directive::Merge => {}
    }
    retain_keys(&mut map, patch, path)?;
    let before = ordered_fields(&map, patch);
    for (key, value) in patch {
        if let Some(field) = key.strip_prefix(DELETE_PREFIX) {
            delete_scalars(&mut map, field, value, &below(path, key))?;
        }
    }
    for (key, value) in patch.iter().filter(|(key, _)| !is_directive(key)) {
        merge_field(kind, key, value, &mut map, &below(path, key))?;
    }
    for (key, order) in patch {
        if let Some(field) = key.strip_prefix(ORDER_PREFIX) {
            let order = order.as_array().ok_or_else(|| PatchError::NotAList { path: below(path, key) })?;
            set_order(kind, field, &mut map, &before, order);
        }
    }
    Ok(map)
}

/// What the fields whose order the patch gives were before it.
fn ordered_fields(map: &Object, patch: &Object) -> Object {
    let ordered = patch.keys().filter_map(|key| key.strip_prefix(ORDER_PREFIX));
    ordered.filter_map(|field| Some((field.to_owned(), map.get(field)?.clone()))).collect()
}

/// Merges one field of the patch into the map.
fn merge_field(kind: Node, key: &str, value: &Value, map: &mut Object, path: &str) -> Result<(), PatchError> {
    let old = map.remove(key);
    let merged = match value {
        Value::Null => return Ok(()),
        Value::Object(fields) => {
            let topology = topology::field(kind, key);
            if topology.merge == Merge::Replace {
                Value::Object(plain_map(fields))
            } else {
                let old = old.and_then(into_object).unwrap_or_default();
                Value::Object(merge_map(topology.child, old, fields, path)?)
            }
        }
        Value::Array(items) => {
            let old = old.and_then(into_list).unwrap_or_default();
            Value::Array(merge_list(kind, key, old, items, path)?)
        }
        scalar => scalar.clone(),
    };
    map.insert(key.to_owned(), merged);
    Ok(())
}

fn below(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn into_object(value: Value) -> Option<Object> {
    match value {
        Value::Object(map) => Some(map),
        _ => None,
    }
}

fn into_list(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(items) => Some(items),
        _ => None,
    }
}

/// Keys that are instructions, not fields.
fn is_directive(key: &str) -> bool {
    key == DIRECTIVE || key == RETAIN_KEYS || key.starts_with(DELETE_PREFIX) || key.starts_with(ORDER_PREFIX)
}

/// A part of the patch that is taken as it is: without nulls and instructions.
fn plain_map(patch: &Object) -> Object {
    let kept = patch.iter().filter(|(key, value)| !is_directive(key) && !value.is_null());
    kept.map(|(key, value)| (key.clone(), plain(value))).collect()
}

fn plain(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(plain_map(map)),
        Value::Array(items) => Value::Array(items.iter().map(plain).collect()),
        scalar => scalar.clone(),
    }
}

/// `$retainKeys`: what the list does not name goes, before the patch is merged.
fn retain_keys(map: &mut Object, patch: &Object, path: &str) -> Result<(), PatchError> {
    let Some(retained) = patch.get(RETAIN_KEYS) else { return Ok(()) };
    let retained =
        retained.as_array().ok_or_else(|| PatchError::NotAList { path: below(path, RETAIN_KEYS) })?;
    let retained: BTreeSet<&str> = retained.iter().filter_map(Value::as_str).collect();
    let names = |key: &str| retained.contains(key);
    for (key, value) in patch {
        if !is_directive(key) && !value.is_null() && !names(key) {
            return Err(PatchError::NotRetained { path: below(path, key) });
        }
    }
    map.retain(|key, _| names(key));
    Ok(())
}

/// `$deleteFromPrimitiveList/F`.
fn delete_scalars(map: &mut Object, field: &str, gone: &Value, path: &str) -> Result<(), PatchError> {
    let gone = gone.as_array().ok_or_else(|| PatchError::NotAList { path: path.to_owned() })?;
    let gone: HashSet<&Value> = gone.iter().collect();
    if let Some(Value::Array(items)) = map.get_mut(field) {
        items.retain(|item| !gone.contains(item));
    }
    Ok(())
}

fn merge_list(
    kind: Node,
    field: &str,
    old: Vec<Value>,
    patch: &[Value],
    path: &str,
) -> Result<Vec<Value>, PatchError> {
    let topology = topology::field(kind, field);
    match topology.merge {
        Merge::Atomic | Merge::Replace => Ok(patch.iter().map(plain).collect()),
        Merge::Set => {
            let known: HashSet<&Value> = old.iter().collect();
            let mut added = HashSet::new();
            let new = patch.iter().filter(|item| !known.contains(item) && added.insert(*item));
            let merged: Vec<Value> = old.iter().chain(new).cloned().collect();
            Ok(in_order(merged, &old, patch, None))
        }
        Merge::By(key) => {
            let merged = merge_keyed(topology.child, key, old.clone(), patch, path)?;
            Ok(in_order(merged, &old, patch, Some(key)))
        }
    }
}

fn merge_keyed(
    kind: Node,
    key: &'static str,
    old: Vec<Value>,
    patch: &[Value],
    path: &str,
) -> Result<Vec<Value>, PatchError> {
    let mut items = old;
    let mut changes: Vec<(&Object, &Value, String)> = Vec::new();
    let mut gone: HashSet<&Value> = HashSet::new();
    let mut replaced = false;
    for (index, item) in patch.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let fields = item.as_object().ok_or_else(|| PatchError::NoMergeKey { path: path.clone(), key })?;
        let directive = directive(fields, &path)?;
        if directive == Directive::Replace {
            // The marker says that the other items of the patch are the whole list.
            replaced = true;
            continue;
        }
        let name = fields.get(key).ok_or_else(|| PatchError::NoMergeKey { path: path.clone(), key })?;
        if directive == Directive::Delete {
            gone.insert(name);
        } else {
            changes.push((fields, name, path));
        }
    }
    items.retain(|item| !replaced && item.get(key).is_none_or(|name| !gone.contains(name)));
    let mut places: HashMap<Value, usize> = HashMap::new();
    for (place, item) in items.iter().enumerate() {
        if let Some(name) = item.get(key) {
            places.entry(name.clone()).or_insert(place);
        }
    }
    let mut mentions: HashMap<&Value, usize> = HashMap::new();
    for (fields, name, path) in changes {
        let mentioned = mentions.entry(name).or_default();
        *mentioned += 1;
        if *mentioned > MOST_MENTIONS {
            return Err(PatchError::Repeated { path });
        }
        let place = places.get(name).copied();
        let old = place.map(|place| std::mem::take(&mut items[place])).and_then(into_object);
        let old = old.unwrap_or_default();
        let merged = Value::Object(merge_map(kind, old, fields, &path)?);
        match place {
            Some(place) => items[place] = merged,
            None => {
                places.insert(name.clone(), items.len());
                items.push(merged);
            }
        }
    }
    Ok(items)
}

/// `$setElementOrder/F`: the order of a list that was merged.
fn set_order(kind: Node, field: &str, map: &mut Object, before: &Object, order: &[Value]) {
    let key = match topology::field(kind, field).merge {
        Merge::Atomic | Merge::Replace => return,
        Merge::Set => None,
        Merge::By(key) => Some(key),
    };
    let Some(Value::Array(items)) = map.get_mut(field) else { return };
    let server = before.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    *items = in_order(std::mem::take(items), server, order, key);
}

/// Items that the order names come in its order; items that only the server has stay where they were relative to their
/// neighbours, behind what is new. Without an explicit order, it is that of the patch.
fn in_order(items: Vec<Value>, server: &[Value], order: &[Value], key: Option<&str>) -> Vec<Value> {
    let name = |item: &Value| -> Value {
        match key {
            Some(key) => item.get(key).cloned().unwrap_or_default(),
            None => item.clone(),
        }
    };
    let places = |list: &[Value]| -> HashMap<Value, usize> {
        let named = list.iter().enumerate().map(|(place, item)| (name(item), place));
        // Backwards, so that of equal names the first one counts.
        named.rev().collect()
    };
    let (server, order) = (places(server), places(order));
    let place = |places: &HashMap<Value, usize>, item: &Value| places.get(&name(item)).copied();
    let (mut named, mut others): (Vec<Value>, Vec<Value>) =
        items.into_iter().partition(|item| place(&order, item).is_some());
    named.sort_by_cached_key(|item| place(&order, item));
    others.sort_by_cached_key(|item| place(&server, item));
    let mut named = named.into_iter().peekable();
    let mut others = others.into_iter().peekable();
    let mut items = Vec::new();
    while let Some(other) = others.peek() {
        let Some(next) = named.peek() else { break };
        let first = matches!((place(&server, other), place(&server, next)), (Some(a), Some(b)) if a < b);
        items.extend(if first { others.next() } else { named.next() });
    }
    items.extend(named);
    items.extend(others);
    items
}

#[cfg(test)]
#[path = "strategic_tests.rs"]
mod tests;
