//! Strict decoding says of every object what the typed structs of k8s-openapi say, which planners read it by: the same
//! unknown fields, the same wrong types, in the same words.
// The corpus is files.
#![allow(clippy::disallowed_methods)]
#![allow(clippy::unwrap_used)]

#[path = "../../tests/objects/more_samples.rs"]
mod more_samples;
#[path = "../../tests/objects/samples.rs"]
mod samples;

use std::path::Path;

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use warren_objects::{
    kinds::{KINDS, Kind},
    strict,
};
use warren_oracle as oracle;

/// Objects with every field set, as Go writes them.
const EVERY_FIELD: &str = include_str!("../../tests/objects/protobuf/go_every_field.jsonl");

/// One step to a place in an object.
#[derive(Debug, Clone)]
enum Step {
    Field(String),
    Item(usize),
}

fn typed_kinds() -> impl Iterator<Item = (&'static Kind, oracle::Decode)> {
    KINDS.iter().filter_map(|kind| Some((kind, oracle::of(kind)?)))
}

/// The places where the structs are not Kubernetes: a type without fields, in a kind that is refused, takes anything; and
/// a condition must say its time, where Go's clients write null.
fn is_known_to_differ(kind: &Kind, value: &Value) -> bool {
    let mut conditions = value["status"]["conditions"].as_array().into_iter().flatten();
    if conditions.any(|condition| condition["lastTransitionTime"].is_null()) {
        return true;
    }
    let mut versions = value["spec"]["versions"].as_array().into_iter().flatten();
    kind.kind == "CustomResourceDefinition"
        && versions.any(|version| ![json!(null), json!({})].contains(&version["subresources"]["status"]))
}

/// Says both answers if they differ.
fn judge(kind: &Kind, oracle: oracle::Decode, value: &Value) {
    if is_known_to_differ(kind, value) {
        return;
    }
    let expected = oracle(kind, value);
    let found = strict::decode(kind, value);
    assert!(expected == found, "{}: {value}\nexpected {expected:?}\nfound    {found:?}", kind.kind);
}

/// Every place in a value.
fn places(value: &Value, at: &mut Vec<Step>, found: &mut Vec<Vec<Step>>) {
    found.push(at.clone());
    let fields =
        value.as_object().into_iter().flatten().map(|(name, item)| (Step::Field(name.clone()), item));
    let items =
        value.as_array().into_iter().flatten().enumerate().map(|(index, item)| (Step::Item(index), item));
    for (step, below) in fields.chain(items) {
        at.push(step);
        places(below, at, found);
        at.pop();
    }
}

/// An object that has nothing but one place.
fn alone(place: &[Step], value: Value) -> Value {
    place.iter().rev().fold(value, |value, step| match step {
        Step::Field(name) => Value::Object(Map::from_iter([(name.clone(), value)])),
        Step::Item(_) => json!([value]),
    })
}

fn go_samples() -> Vec<(&'static Kind, Value)> {
    let sample = |line: &str| {
        let value = serde_json::from_str::<Value>(line).unwrap()["json"].take();
        let (group, version) = {
            let said = value["apiVersion"].as_str().unwrap();
            said.split_once('/').unwrap_or(("", said))
        };
        let is_it = |kind: &&Kind| {
            (&*kind.group, &*kind.version, &*kind.kind) == (group, version, value["kind"].as_str().unwrap())
        };
        KINDS.iter().find(is_it).map(|kind| (kind, value.clone()))
    };
    EVERY_FIELD.lines().filter_map(sample).collect()
}

/// What a client may write where something else is expected.
fn wrong_values() -> Vec<Value> {
    let texts = [
        "",
        "x",
        "25%",
        "1Gi",
        "aGVsbG8=",
        "aGVsbG8",
        "2026-01-02T03:04:05Z",
        "2026-01-02T03:04:05.5+02:00",
        "2026-13-02",
    ];
    let mut all: Vec<Value> = texts.iter().map(|text| json!(text)).collect();
    all.extend([
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(3_000_000_000_u64),
        json!(i64::MIN),
        json!(u64::MAX),
    ]);
    all.extend([json!(1.0), json!(0.5), json!(1e300), json!([]), json!([null]), json!(["x"]), json!([{}])]);
    all.extend([json!({}), json!({"x": null}), json!({"x": 1}), json!({"x": {"y": "z"}})]);
    all
}

#[test]
fn every_kind_that_can_be_written_has_an_oracle() {
    for kind in KINDS.iter().filter(|kind| kind.verbs.contains(&"create")) {
        assert!(oracle::of(kind).is_some(), "{}", kind.kind);
    }
}

#[test]
fn whole_objects() {
    for (resource, text) in
        samples::SAMPLES.iter().chain(more_samples::MORE_SAMPLES).chain(more_samples::REFUSED)
    {
        let kind = samples::served(resource);
        judge(kind, oracle::of(kind).unwrap(), &samples::yaml(text));
    }
    let mut seen = 0;
    for (kind, value) in go_samples() {
        if let Some(oracle) = oracle::of(kind) {
            judge(kind, oracle, &value);
            seen += 1;
        }
    }
    assert!(seen > 40, "{seen}");
}

#[test]
fn any_value_at_any_place() {
    let wrong = wrong_values();
    let mut seen = 0;
    for (kind, value) in go_samples() {
        let Some(oracle) = oracle::of(kind) else { continue };
        let mut found = Vec::new();
        places(&value, &mut Vec::new(), &mut found);
        for place in found {
            for value in &wrong {
                judge(kind, oracle, &alone(&place, value.clone()));
                seen += 1;
            }
        }
    }
    assert!(seen > 50_000, "{seen}");
}

#[test]
fn an_object_in_another_one_may_say_what_it_is() {
    let kind = samples::served("statefulsets.apps");
    for (field, value) in [("apiVersion", "v1"), ("kind", "PersistentVolumeClaim")] {
        for value in [json!(value), json!("x"), json!(1), json!(null)] {
            let claim = json!({field: value, "metadata": {"name": "data"}});
            judge(kind, oracle::of(kind).unwrap(), &json!({"spec": {"volumeClaimTemplates": [claim]}}));
        }
    }
}

#[test]
fn the_corpus_of_bodies() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../api/fuzz/corpus/json_body");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let body = bytes.get(1..).and_then(|text| serde_json::from_slice::<Value>(text).ok());
        for (kind, oracle) in typed_kinds() {
            body.iter().for_each(|value| judge(kind, oracle, value));
        }
        seen += usize::from(body.is_some());
    }
    assert!(seen > 0);
}

/// A whole object with a few places replaced.
fn mutated() -> impl Strategy<Value = (usize, Value)> {
    let changes = prop::collection::vec(
        (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<bool>()),
        1..5,
    );
    let samples = go_samples();
    (0..samples.len(), changes).prop_map(move |(sample, changes)| {
        let mut value = samples[sample].1.clone();
        for (place, change, is_addition) in changes {
            let mut found = Vec::new();
            places(&value, &mut Vec::new(), &mut found);
            let mut slot = &mut value;
            for step in place.get::<Vec<Step>>(&found) {
                slot = match step {
                    Step::Field(name) => &mut slot[name.as_str()],
                    Step::Item(index) => &mut slot[*index],
                };
            }
            let change = change.get::<Value>(&wrong_values()).clone();
            match slot {
                Value::Object(map) if is_addition => drop(map.insert("noSuchField".into(), change)),
                slot => *slot = change,
            }
        }
        (sample, value)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn several_wrongs_in_one_object((sample, value) in mutated()) {
        let kind = go_samples()[sample].0;
        if let Some(oracle) = oracle::of(kind) {
            judge(kind, oracle, &value);
        }
    }
}
