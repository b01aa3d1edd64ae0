//! Bodies in protobuf as real clients make them: the decoded JSON is the one that the same client would have sent.
//!
//! `go_*.jsonl` are made by `generate/` with Go's own serializers: every field of every kind set, every pointer at a
//! zero, nothing set, and objects for single rules. `kubectl.jsonl` holds what kubectl 1.32 sent for `create` and its
//! like (`generate/capture`), with what the same command prints under `--dry-run=client -o json`.

use base64::{Engine, engine::general_purpose::STANDARD};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use warren_objects::{
    protobuf::{self, DecodeError},
    schema, strict,
};

/// What kubectl sent, and what it prints.
const KUBECTL: &str = include_str!("protobuf/kubectl.jsonl");

struct Sample {
    name: String,
    body: Vec<u8>,
    json: Value,
}

const GO: &[&str] = &[
    include_str!("protobuf/go_every_field.jsonl"),
    include_str!("protobuf/go_zero_pointers.jsonl"),
    include_str!("protobuf/go_nothing.jsonl"),
    include_str!("protobuf/go_rules.jsonl"),
];

fn samples(text: &str) -> Vec<Sample> {
    let sample = |line: &str| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        Sample {
            name: line["name"].as_str().unwrap().to_owned(),
            body: STANDARD.decode(line["body"].as_str().unwrap()).unwrap(),
            json: line["json"].take(),
        }
    };
    text.lines().map(sample).collect()
}

/// What a server does with a body: the kind is the one that it states.
fn decode(body: &[u8]) -> Result<Option<Value>, DecodeError> {
    let envelope = protobuf::open(body)?;
    let (group, version) = envelope.api_version.split_once('/').unwrap_or(("", envelope.api_version));
    let Some(message) = schema::root(group, version, envelope.kind) else { return Ok(None) };
    let mut value: Map<String, Value> = envelope.decode(message)?;
    value.insert("apiVersion".into(), envelope.api_version.into());
    value.insert("kind".into(), envelope.kind.into());
    Ok(Some(Value::Object(value)))
}

fn without_nulls(mut value: Value) -> Value {
    strict::strip_nulls(&mut value);
    value
}

#[test]
fn decoded_is_what_go_writes_as_json() {
    let mut kinds = 0;
    for sample in GO.iter().flat_map(|text| samples(text)) {
        let decoded = decode(&sample.body).unwrap_or_else(|error| panic!("{}: {error}", sample.name));
        let decoded = decoded.unwrap_or_else(|| panic!("{}: the kind is not in the table", sample.name));
        assert_eq!(without_nulls(decoded), without_nulls(sample.json), "{}", sample.name);
        kinds += 1;
    }
    assert!(kinds > 3 * schema::roots().len(), "{kinds}");
}

#[test]
fn decoded_is_what_kubectl_prints() {
    let all = samples(KUBECTL);
    assert!(all.len() > 20);
    for sample in all {
        let decoded =
            decode(&sample.body).unwrap().unwrap_or_else(|| panic!("{}: no such kind", sample.name));
        assert_eq!(without_nulls(decoded), without_nulls(sample.json), "{}", sample.name);
    }
}

#[test]
fn what_go_writes_is_as_written() {
    let message = |json: &Value| {
        let (group, version) =
            text(json, "apiVersion").split_once('/').unwrap_or(("", text(json, "apiVersion")));
        schema::root(group, version, text(json, "kind")).unwrap()
    };
    for sample in GO.iter().flat_map(|text| samples(text)) {
        let written = schema::as_written(message(&sample.json), &sample.json);
        assert_eq!(without_nulls(written), without_nulls(sample.json), "{}", sample.name);
    }
    for sample in samples(include_str!("protobuf/go_nothing.jsonl")) {
        let json = without_nulls(sample.json);
        let bare = json!({"apiVersion": json["apiVersion"], "kind": json["kind"]});
        assert_eq!(schema::as_written(message(&json), &bare), json, "{}", sample.name);
    }
}

#[test]
fn what_go_leaves_out_is_not_written() {
    let template = json!({"metadata": {"creationTimestamp": null, "labels": {"app": "a"}}, "$patch": "replace",
        "spec": {"hostNetwork": false, "volumes": [], "nodeSelector": {}, "hostname": "", "enableServiceLinks": false,
            "containers": [{"name": "c", "image": "i", "command": [], "resources": null}]}});
    let written = json!({"metadata": {"labels": {"app": "a"}}, "$patch": "replace",
        "spec": {"enableServiceLinks": false, "containers": [{"name": "c", "image": "i", "resources": {}}]}});
    let message = schema::message("k8s.io.api.core.v1", "PodTemplateSpec").unwrap();
    assert_eq!(schema::as_written(message, &template), written);
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_default()
}

/// The corpus with every field set has each field of the table: a row with a wrong name or number cannot hide.
#[test]
fn the_corpus_covers_the_table() {
    let everything = samples(GO[0]);
    let mut texts = std::collections::BTreeSet::new();
    for sample in &everything {
        names(&sample.json, &mut texts);
    }
    for message in schema::messages() {
        for field in message.json_fields() {
            let one_of_several = message.name.starts_with("JSONSchemaPropsOr");
            assert!(one_of_several || texts.contains(field.json), "{}.{}", message.name, field.json);
        }
    }
}

fn names(value: &Value, found: &mut std::collections::BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                found.insert(name.clone());
                names(value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| names(item, found)),
        _ => {}
    }
}

#[test]
fn a_body_cut_anywhere_never_panics() {
    let mut refused = 0;
    for sample in GO.iter().chain([&KUBECTL]).flat_map(|text| samples(text)) {
        for end in 0..sample.body.len() {
            refused += usize::from(decode(&sample.body[..end]).is_err());
        }
    }
    assert!(refused > 1000, "{refused}");
}

fn any_sample() -> impl Strategy<Value = Sample> {
    let all: Vec<(String, Vec<u8>)> = GO
        .iter()
        .chain([&KUBECTL])
        .flat_map(|text| samples(text))
        .map(|sample| (sample.name, sample.body))
        .collect();
    prop::sample::select(all).prop_map(|(name, body)| Sample { name, body, json: Value::Null })
}

impl std::fmt::Debug for Sample {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {:?}", self.name, self.body)
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(data in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode(&data);
        let behind = [protobuf::MAGIC, &data].concat();
        let _ = decode(&behind);
    }

    #[test]
    fn arbitrary_objects_never_panic(
        root in prop::sample::select(schema::roots().iter().collect::<Vec<_>>()),
        data in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        // A short body: magic, then field 2 with the object.
        let mut body = protobuf::MAGIC.to_vec();
        body.push(0x12);
        body.extend(if data.len() < 128 { vec![data.len() as u8] } else { vec![data.len() as u8 | 0x80, (data.len() >> 7) as u8] });
        body.extend(&data);
        let envelope = protobuf::open(&body).unwrap();
        let _ = envelope.decode(root.message);
    }

    #[test]
    fn damaged_bodies_never_panic(sample in any_sample(), damage in prop::collection::vec((any::<usize>(), any::<u8>()), 1..8)) {
        let mut body = sample.body;
        for (place, byte) in damage {
            let place = place % body.len();
            body[place] = byte;
        }
        let _ = decode(&body);
    }
}
