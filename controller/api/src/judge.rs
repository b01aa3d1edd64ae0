//! Each decoder of what comes in from outside, fed with arbitrary bytes: for the fuzz targets in `fuzz/`, and for the
//! tests, which run their corpus. A panic is a failure, and so is an answer that is out of proportion.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use jiff::Timestamp;
use serde_json::{Value, json};
use warren_store::{Key, Object, Snapshot};
use warren_vocabulary::{
    ClusterConfig,
    resources::{NAMESPACES, SERVICEACCOUNTS},
};
use warren_write::{Actor, Author, Effect, Gate, Intent, Operation, User};

use crate::{
    body,
    continuations::Token,
    decode::{self, DEEPEST},
    delete,
    kinds::{KINDS, Kind},
    meta,
    patch::Patch,
    query::{FieldValidation, ListOptions, Query},
    selectors::Selector,
    table::Include,
};

/// A decoder's name, and how it is fed.
pub type Target = (&'static str, fn(&[u8]));

/// All targets; the name is also that of the folder of its corpus.
pub const TARGETS: &[Target] = &[
    ("json_body", json_body),
    ("yaml_body", yaml_body),
    ("protobuf_body", protobuf_body),
    ("strategic_patch", strategic_patch),
    ("json_patch", json_patch),
    ("selectors", selectors),
    ("query", query),
];

/// An object in JSON; the first byte chooses its kind.
pub fn json_body(input: &[u8]) {
    object("application/json", input);
}

/// An object in YAML; the first byte chooses its kind.
pub fn yaml_body(input: &[u8]) {
    object("application/yaml", input);
}

/// An object in Kubernetes' protobuf; the first byte chooses its kind.
pub fn protobuf_body(input: &[u8]) {
    let wrapped = [b"k8s\0", input.get(1..).unwrap_or_default()].concat();
    for body in [input.get(1..).unwrap_or_default(), &wrapped] {
        let first = input.first().copied().unwrap_or_default();
        object("application/vnd.kubernetes.protobuf", &[&[first], body].concat());
    }
}

fn split(input: &[u8]) -> (&'static Kind, &[u8]) {
    let (first, rest) = input.split_first().unwrap_or((&0, &[]));
    (&KINDS[usize::from(*first) % KINDS.len()], rest)
}

/// As far as a new object gets without a store.
fn object(content_type: &'static str, input: &[u8]) {
    let (kind, text) = split(input);
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    let text = Bytes::copy_from_slice(text);
    for validation in [FieldValidation::Strict, FieldValidation::Warn] {
        let Ok((mut object, _)) = body::object(kind, &headers, &text, validation) else { continue };
        let _ = meta::agree_with_url(kind, "default", "", &mut object);
        let _ = meta::on_create(kind, &mut object, "u", Timestamp::UNIX_EPOCH);
        let Some(stored) = admitted(kind, object) else { continue };
        let again = decode::json(stored.to_string().as_bytes()).map(|decoded| decoded.value);
        assert!(again.is_ok(), "what is stored can be read again");
    }
}

/// What the gate makes of a new object, if it lets it in.
fn admitted(kind: &'static Kind, object: Value) -> Option<Value> {
    let namespace = if kind.namespaced { "default" } else { "" };
    let key = Key::new(&kind.resource, namespace, meta::text(&object, "name"));
    let place = Object::new(Key::new(NAMESPACES, "", "default"), 1, json!({"metadata": {"name": "default"}}));
    let account = Key::new(SERVICEACCOUNTS, "default", "default");
    let account = Object::new(account, 1, json!({"metadata": {"name": "default"}}));
    let user = User::default();
    let author = Author { actor: Actor::Client(&user), manager: "" };
    let intent = Intent { author, kind, key: &key, operation: Operation::Create { object } };
    let gate = Gate::new(&ClusterConfig::default());
    match gate.admit(&Snapshot::from_objects(1, [place, account]), intent).ok()?.effect {
        Effect::Stored(stored) => Some(stored),
        _ => None,
    }
}

/// An object, a line feed and a strategic patch of it; the first byte chooses the kind.
pub fn strategic_patch(input: &[u8]) {
    patch("application/strategic-merge-patch+json", input);
}

/// An object, a line feed and a JSON patch of it; the first byte chooses the kind.
pub fn json_patch(input: &[u8]) {
    patch("application/json-patch+json", input);
}

fn patch(content_type: &str, input: &[u8]) {
    let (kind, text) = split(input);
    let (current, change) =
        text.iter().position(|byte| *byte == b'\n').map_or((&b"{}"[..], text), |at| text.split_at(at));
    let (Ok(current), Ok(patch)) = (decode::json(current), Patch::parse(content_type, change)) else {
        return;
    };
    if !decode::is_within(&current.value, DEEPEST) {
        return;
    }
    if let Ok(new) = patch.apply(kind.message(), &current.value) {
        assert!(decode::is_within(&new, 2 * DEEPEST), "no deeper than object and patch allow");
        let most = input.len() * 8 + body::LIMIT;
        assert!(decode::encoded_length(&new) <= most, "no larger than object, patch and copies");
    }
}

/// A label selector, a line feed and a field selector; the first byte chooses the kind.
pub fn selectors(input: &[u8]) {
    let (kind, text) = split(input);
    let text = String::from_utf8_lossy(text);
    let (labels, fields) = text.split_once('\n').unwrap_or((&text, ""));
    let escaped = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let query = format!("labelSelector={}&fieldSelector={}", escaped(labels), escaped(fields));
    if let Ok(selector) = Selector::parse(kind, &Query::parse(Some(&query))) {
        let objects = [
            json!({}),
            json!({"metadata": {"name": "a", "labels": {"app": "web", "n": "5"}}, "spec": {"nodeName": "n"}}),
            json!({"metadata": {"labels": []}, "spec": 1, "status": {"phase": {}}}),
        ];
        for object in &objects {
            selector.matches(object);
        }
    }
}

/// A query string as it stands behind the question mark.
pub fn query(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let query = Query::parse(Some(&text));
    if let Ok(options) = ListOptions::parse(&query) {
        let _ = (options.check_list(), options.check_watch());
        let _ = options.continuation.as_deref().map(Token::decode);
    }
    let _ = (query.dry_run(), query.field_validation(), Include::parse(&query));
    let _ = delete::options(&Value::Null, &query);
    for kind in KINDS.iter().take(4) {
        let _ = Selector::parse(kind, &query);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_corpus_of_every_target_passes() {
        for (name, target) in TARGETS {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
            let inputs: Vec<_> = std::fs::read_dir(&folder)
                .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
                .map(|entry| entry.unwrap().path())
                .collect();
            assert!(!inputs.is_empty(), "{name} has no corpus");
            for input in inputs {
                // The panic's own message does not say which input it was.
                println!("{}", input.display());
                target(&std::fs::read(input).unwrap());
            }
        }
    }
}
