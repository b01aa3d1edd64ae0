//! Reading and editing objects as JSON: unknown fields survive, nothing panics on odd shapes.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
pub(crate) use warren_objects::derived::{letters, uuid};
use warren_state::{Object, Transaction, at};

use warren_vocabulary::resources;

/// RFC 3339 with whole seconds, as Kubernetes writes it.
pub(crate) fn time_text(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

/// `at` + whole seconds; stays in range.
pub(crate) fn later(at: Timestamp, seconds: i64) -> Timestamp {
    at.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(at)
}

/// Text that is equal for equal JSON: keys sorted, nulls left out.
pub(crate) fn canonical(value: &Value) -> String {
    fn sorted(value: &Value) -> Value {
        match value {
            Value::Object(map) => {
                let mut entries: Vec<_> = map.iter().filter(|(_, value)| !value.is_null()).collect();
                entries.sort_by_key(|(key, _)| *key);
                json!([
                    "{",
                    entries.into_iter().map(|(key, value)| json!([key, sorted(value)])).collect::<Vec<_>>()
                ])
            }
            Value::Array(items) => json!(["[", items.iter().map(sorted).collect::<Vec<_>>()]),
            other => other.clone(),
        }
    }
    sorted(value).to_string()
}

/// The object at a path, made if it is absent or something else.
pub(crate) fn object_at<'v>(value: &'v mut Value, path: &[&str]) -> &'v mut Map<String, Value> {
    let mut current = value;
    for name in path {
        current = as_object(current).entry(*name).or_insert(Value::Null);
    }
    as_object(current)
}

fn as_object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("made an object just above")
}

fn array_at<'v>(value: &'v mut Value, path: &[&str], name: &str) -> &'v mut Vec<Value> {
    let slot = object_at(value, path).entry(name).or_insert(Value::Null);
    if !slot.is_array() {
        *slot = Value::Array(Vec::new());
    }
    slot.as_array_mut().expect("made an array just above")
}

fn text<'v>(value: &'v Value, pointer: &str) -> Option<&'v str> {
    at(value, pointer)?.as_str().filter(|text| !text.is_empty())
}

/// `metadata.uid`; empty when absent.
pub(crate) fn uid(object: &Object) -> &str {
    text(&object.value, "/metadata/uid").unwrap_or_default()
}

fn time(object: &Object, pointer: &str) -> Option<Timestamp> {
    text(&object.value, pointer)?.parse().ok()
}

/// `metadata.creationTimestamp`, or the beginning of time.
pub(crate) fn created_at(object: &Object) -> Timestamp {
    time(object, "/metadata/creationTimestamp").unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Whether the object is being deleted.
pub(crate) fn is_deleting(object: &Object) -> bool {
    text(&object.value, "/metadata/deletionTimestamp").is_some()
}

/// When the deletion was asked for: `deletionTimestamp` lies a grace period later.
pub(crate) fn deletion_began(object: &Object) -> Option<Timestamp> {
    Some(later(time(object, "/metadata/deletionTimestamp")?, deletion_grace(object).saturating_neg()))
}

/// `metadata.deletionGracePeriodSeconds`.
pub(crate) fn deletion_grace(object: &Object) -> i64 {
    at(&object.value, "/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0)
}

/// `metadata.generation`.
pub(crate) fn generation(object: &Object) -> i64 {
    at(&object.value, "/metadata/generation").and_then(Value::as_i64).unwrap_or(0)
}

/// One annotation.
pub(crate) fn annotation<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    at(value, "/metadata/annotations")?.get(name)?.as_str()
}

/// One label.
pub(crate) fn label<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    at(value, "/metadata/labels")?.get(name)?.as_str()
}

/// `metadata.finalizers`.
pub(crate) fn finalizers(object: &Object) -> impl Iterator<Item = &str> {
    let list = at(&object.value, "/metadata/finalizers").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str)
}

/// `metadata.ownerReferences`.
pub(crate) fn owners(object: &Object) -> impl Iterator<Item = &Value> {
    at(&object.value, "/metadata/ownerReferences").and_then(Value::as_array).into_iter().flatten()
}

/// The uid in an owner reference.
pub(crate) fn owner_uid(reference: &Value) -> &str {
    text(reference, "/uid").unwrap_or_default()
}

/// The uid of the owner that controls the object.
pub(crate) fn controller_uid(object: &Object) -> Option<&str> {
    owners(object).find(|owner| owner.get("controller") == Some(&Value::Bool(true))).map(owner_uid)
}

/// `apiVersion` and `kind`, as the object says them or, where it says nothing, as its resource has them.
pub(crate) fn type_of(object: &Object) -> (String, String) {
    match (text(&object.value, "/apiVersion"), text(&object.value, "/kind")) {
        (Some(api_version), Some(kind)) => (api_version.to_owned(), kind.to_owned()),
        _ => {
            let kind = warren_objects::kinds::of(&object.key.resource);
            kind.map(|kind| (kind.api_version(), kind.kind.to_string())).unwrap_or_default()
        }
    }
}

/// An owner reference of a controller.
pub(crate) fn controller_reference(owner: &Object) -> Value {
    let (api_version, kind) = type_of(owner);
    json!({
        "apiVersion": api_version,
        "kind": kind,
        "name": &*owner.key.name,
        "uid": uid(owner),
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

/// A copy, changed; `None` when the change changed nothing.
pub(crate) fn edited(object: &Object, change: impl FnOnce(&mut Value)) -> Option<Value> {
    let mut value = object.value.clone();
    change(&mut value);
    (value != object.value).then_some(value)
}

/// As [`edited`], for a change of some fields of the object: no others are copied to see whether it changes anything,
/// and none but these may be changed.
pub(crate) fn edited_within(
    object: &Object,
    fields: &[&str],
    change: impl FnOnce(&mut Value),
) -> Option<Value> {
    let part =
        fields.iter().filter_map(|field| Some(((*field).to_owned(), object.value.get(field)?.clone())));
    let mut part = Value::Object(part.collect());
    change(&mut part);
    if fields.iter().all(|field| part.get(field) == object.value.get(field)) {
        return None;
    }
    let mut value = object.value.clone();
    let whole = object_at(&mut value, &[]);
    for field in fields {
        match part.get_mut(field) {
            Some(changed) => drop(whole.insert((*field).to_owned(), changed.take())),
            None => drop(whole.remove(*field)),
        }
    }
    Some(value)
}

/// Whether a dependent keeps its owner, which is deleted in the foreground, from going.
pub(crate) fn blocks(dependent: &Object, owner: &str) -> bool {
    owners(dependent).any(|reference| {
        owner_uid(reference) == owner && reference.get("blockOwnerDeletion") == Some(&Value::Bool(true))
    })
}

/// Adds an owner that controls the object.
pub(crate) fn adopt(value: &mut Value, owner: &Object) {
    array_at(value, &["metadata"], "ownerReferences").push(controller_reference(owner));
}

/// Makes an owner the one that controls the object, whatever its reference says if there is one already.
pub(crate) fn own(value: &mut Value, owner: &Object) {
    let reference = controller_reference(owner);
    let list = array_at(value, &["metadata"], "ownerReferences");
    match list.iter_mut().find(|other| owner_uid(other) == uid(owner)) {
        Some(other) => *other = reference,
        None => list.push(reference),
    }
}

/// Removes the owner of this uid.
pub(crate) fn disown(value: &mut Value, uid: &str) {
    array_at(value, &["metadata"], "ownerReferences").retain(|reference| owner_uid(reference) != uid);
    prune(value, "ownerReferences");
}

/// Removes a finalizer.
pub(crate) fn remove_finalizer(value: &mut Value, name: &str) {
    array_at(value, &["metadata"], "finalizers").retain(|finalizer| finalizer.as_str() != Some(name));
    prune(value, "finalizers");
}

/// Adds a finalizer.
pub(crate) fn add_finalizer(value: &mut Value, name: &str) {
    let list = array_at(value, &["metadata"], "finalizers");
    if !list.iter().any(|finalizer| finalizer.as_str() == Some(name)) {
        list.push(name.into());
    }
}

fn prune(value: &mut Value, name: &str) {
    let metadata = object_at(value, &["metadata"]);
    if metadata.get(name).and_then(Value::as_array).is_some_and(Vec::is_empty) {
        metadata.remove(name);
    }
}

/// Sets an annotation.
pub(crate) fn annotate(value: &mut Value, name: &str, text: impl Into<String>) {
    object_at(value, &["metadata", "annotations"]).insert(name.to_owned(), Value::String(text.into()));
}

/// Raises `metadata.generation`.
pub(crate) fn bump_generation(value: &mut Value) {
    let metadata = object_at(value, &["metadata"]);
    let generation = metadata.get("generation").and_then(Value::as_i64).unwrap_or(0);
    metadata.insert("generation".into(), generation.saturating_add(1).into());
}

/// Marks the object as being deleted.
pub(crate) fn mark_deleted(value: &mut Value, now: Timestamp, grace: i64) {
    let metadata = object_at(value, &["metadata"]);
    if metadata.get("deletionTimestamp").is_some_and(|at| !at.is_null()) {
        return;
    }
    metadata.insert("deletionTimestamp".into(), time_text(later(now, grace)).into());
    metadata.insert("deletionGracePeriodSeconds".into(), grace.into());
    if metadata.contains_key("generation") {
        bump_generation(value);
    }
}

/// One condition of `status.conditions`.
pub(crate) fn condition<'v>(value: &'v Value, kind: &str) -> Option<&'v Value> {
    at(value, "/status/conditions")?.as_array()?.iter().find(|c| c["type"] == kind)
}

/// Takes a condition away.
pub(crate) fn remove_condition(value: &mut Value, kind: &str) {
    if let Some(list) = value.pointer_mut("/status/conditions").and_then(Value::as_array_mut) {
        list.retain(|condition| condition["type"] != kind);
    }
}

/// What a condition should say.
pub(crate) struct Condition<'a> {
    pub(crate) kind: &'a str,
    pub(crate) status: &'a str,
    pub(crate) reason: &'a str,
    pub(crate) message: &'a str,
}

/// Sets a condition; `lastTransitionTime` moves only when the status changes. Empty texts are left out.
pub(crate) fn set_condition(value: &mut Value, wanted: &Condition<'_>, now: Timestamp) {
    let list = array_at(value, &["status"], "conditions");
    let position = list.iter().position(|condition| condition["type"] == wanted.kind).unwrap_or_else(|| {
        list.push(json!({ "type": wanted.kind }));
        list.len() - 1
    });
    let slot = as_object(&mut list[position]);
    if slot.get("status").and_then(Value::as_str) != Some(wanted.status) {
        slot.insert("status".into(), wanted.status.into());
        slot.insert("lastTransitionTime".into(), time_text(now).into());
    }
    for (name, text) in [("reason", wanted.reason), ("message", wanted.message)] {
        if text.is_empty() {
            slot.remove(name);
        } else {
            slot.insert(name.into(), text.into());
        }
    }
}

/// Sets a number of the status; zero is left out, as Kubernetes does.
pub(crate) fn set_count(value: &mut Value, name: &str, count: i64) {
    let status = object_at(value, &["status"]);
    if count == 0 {
        status.remove(name);
    } else {
        status.insert(name.into(), count.into());
    }
}

/// Deletes an object as the API would: pods gracefully, what has finalizers by marking it.
/// `None` when nothing is left to do but to wait.
pub(crate) fn delete(object: &Object, now: Timestamp) -> Option<Transaction> {
    if is_let_go(object) && finalizers(object).next().is_none() {
        return Some(remove(object));
    }
    let value = edited(object, |value| mark_deleted(value, now, grace(object)))?;
    Some(Transaction::new().replace(object.key.clone(), object.revision, value))
}

/// How long what runs gets to end: a pod that has a node its own grace period, all else nothing.
pub(crate) fn grace(object: &Object) -> i64 {
    if !runs_on_a_node(object) {
        return 0;
    }
    let wish = at(&object.value, "/spec/terminationGracePeriodSeconds").and_then(Value::as_i64);
    wish.unwrap_or(30).max(1)
}

fn runs_on_a_node(object: &Object) -> bool {
    &*object.key.resource == resources::PODS
        && text(&object.value, "/spec/nodeName").is_some()
        && !was_refused(object)
}

/// Whether its node refused a pod: it has failed, and no node has anything of it.
fn was_refused(pod: &Object) -> bool {
    text(&pod.value, "/status/phase") == Some("Failed") && text(&pod.value, "/status/podIP").is_none()
}

/// Whether no node has to end anything before the object may go. A deleted pod whose grace is zero has been let go by
/// its node, or its deletion was not to wait for the node.
pub(crate) fn is_let_go(object: &Object) -> bool {
    let grace = at(&object.value, "/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64);
    !runs_on_a_node(object) || (is_deleting(object) && grace == Some(0))
}

/// Removes an object at once, with what lives and dies with it.
pub(crate) fn remove(object: &Object) -> Transaction {
    let mut transaction = Transaction::new().delete(object.key.clone(), object.revision);
    if &*object.key.resource == resources::SERVICES {
        transaction.writes.extend(service_addresses(object).map(|address| {
            warren_state::Write::Delete(warren_state::Key::new(resources::SERVICEADDRESSES, "", address))
        }));
    }
    transaction
}

/// The overlay address of a pod; nothing for other objects.
pub(crate) fn pod_address(object: &Object) -> Option<std::net::Ipv4Addr> {
    let address = text(&object.value, "/status/podIP").filter(|_| &*object.key.resource == resources::PODS);
    address?.parse().ok()
}

/// The addresses that a service holds.
pub(crate) fn service_addresses(service: &Object) -> impl Iterator<Item = &str> {
    let list = at(&service.value, "/spec/clusterIPs").and_then(Value::as_array).into_iter().flatten();
    let mut all: Vec<&str> =
        list.filter_map(Value::as_str).chain(text(&service.value, "/spec/clusterIP")).collect();
    all.sort_unstable();
    all.dedup();
    all.into_iter().filter(|address| *address != "None")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_deterministic_and_well_formed() {
        let id = uuid(&["a", "bc"]);
        assert_eq!(id, uuid(&["a", "bc"]));
        assert_ne!(id, uuid(&["ab", "c"]));
        assert_eq!((id.len(), id.as_bytes()[14]), (36, b'4'));
        assert!(b"89ab".contains(&id.as_bytes()[19]), "{id}");
        assert_eq!(letters(&["x"], 5).len(), 5);
    }

    #[test]
    fn canonical_text_ignores_order_and_nulls_but_not_structure() {
        let one = json!({"a": 1, "b": {"c": null, "d": [1, 2]}});
        let two = json!({"b": {"d": [1, 2]}, "a": 1});
        assert_eq!(canonical(&one), canonical(&two));
        assert_ne!(canonical(&json!({"a": "b"})), canonical(&json!(["a", "b"])));
        assert_ne!(canonical(&json!([1, [2]])), canonical(&json!([[1], 2])));
    }

    #[test]
    fn a_condition_keeps_its_transition_time_until_the_status_changes() {
        let mut value = json!({"status": null});
        let time = |second| Timestamp::from_second(second).expect("in range");
        let ready = |status: &'static str, reason| Condition { kind: "Ready", status, reason, message: "" };
        set_condition(&mut value, &ready("True", "A"), time(10));
        set_condition(&mut value, &ready("True", "B"), time(20));
        assert_eq!(condition(&value, "Ready").expect("set")["lastTransitionTime"], "1970-01-01T00:00:10Z");
        assert_eq!(condition(&value, "Ready").expect("set")["reason"], "B");
        set_condition(&mut value, &ready("False", ""), time(30));
        assert_eq!(condition(&value, "Ready").expect("set")["lastTransitionTime"], "1970-01-01T00:00:30Z");
        assert_eq!(condition(&value, "Ready").expect("set").get("reason"), None);
    }

    #[test]
    fn when_a_deletion_began_is_its_time_minus_the_grace() {
        let mut value = json!({"metadata": {"name": "p", "generation": 1}});
        let now = Timestamp::from_second(1_000).expect("in range");
        mark_deleted(&mut value, now, 30);
        let object = Object::new(warren_state::Key::new("pods", "d", "p"), 1, value);
        assert_eq!(deletion_began(&object), Some(now));
        assert_eq!(generation(&object), 2);
    }
}
