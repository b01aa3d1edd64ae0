//! Nothing a client sends makes this crate panic, and defaults are settled after one pass.

use crate::samples::{SAMPLES, served, yaml};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use warren_objects::{defaults, strict, table, unsupported, validate};

/// Field names that occur in objects, so that arbitrary JSON reaches deep.
const FIELDS: [&str; 24] = [
    "metadata",
    "spec",
    "status",
    "template",
    "containers",
    "initContainers",
    "volumes",
    "ports",
    "name",
    "labels",
    "resources",
    "limits",
    "env",
    "valueFrom",
    "livenessProbe",
    "httpGet",
    "port",
    "selector",
    "matchLabels",
    "rules",
    "type",
    "data",
    "conditions",
    "securityContext",
];

fn arbitrary() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-3i64..100_000).prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        any::<u64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        proptest::sample::select(vec![
            "",
            "a",
            "80",
            "25%",
            "1Gi",
            "ClusterIP",
            "Always",
            "None",
            "/x/../y",
            "ü"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 48, 5, |inner| {
        let field =
            prop_oneof![proptest::sample::select(FIELDS.to_vec()).prop_map(str::to_owned), "\\PC{0,6}"];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((field, inner), 0..6)
                .prop_map(|entries| Value::Object(entries.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// Every place in a value, as JSON pointers.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(map) => {
            for (key, item) in map {
                places(item, &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                places(item, &format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
}

/// A real object with a few places replaced by arbitrary JSON.
fn mutated() -> impl Strategy<Value = (&'static str, Value, Value)> {
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), arbitrary()), 0..4);
    (0..SAMPLES.len(), changes, any::<bool>()).prop_map(|(index, changes, defaulted)| {
        let (resource, text) = SAMPLES[index];
        let mut original = yaml(text);
        if defaulted {
            defaults::apply(served(resource), &mut original);
        }
        let mut value = original.clone();
        for (place, change) in changes {
            let mut all = Vec::new();
            places(&value, "", &mut all);
            *value.pointer_mut(place.get::<String>(&all)).unwrap() = change;
        }
        (resource, original, value)
    })
}

/// Everything this crate does with one object.
fn exercise(resource: &str, old: &Value, value: &Value) {
    let now = "2026-11-22T12:00:00Z".parse().unwrap();
    let decoded = strict::decode(served(resource), value);
    validate::create(served(resource), value);
    validate::update(served(resource), old, value);
    validate::update(served(resource), value, old);
    unsupported::warnings(served(resource), value);
    assert_eq!(table::row(served(resource), value, now).len(), table::columns(served(resource)).len());
    let mut adapted = value.clone();
    defaults::adapt(served(resource), old, &mut adapted);
    if decoded.is_ok() {
        let mut pruned = value.clone();
        strict::prune(served(resource), &mut pruned);
        strict::strip_nulls(&mut pruned);
        assert_eq!(strict::decode(served(resource), &pruned).unwrap(), strict::Unknown::default());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn arbitrary_json_never_panics(value in arbitrary(), kind in 0..SAMPLES.len()) {
        let resource = SAMPLES[kind].0;
        exercise(resource, &Value::Null, &value);
        let mut defaulted = value;
        defaults::apply(served(resource), &mut defaulted);
        exercise(resource, &json!({}), &defaulted);
    }

    #[test]
    fn mutated_objects_never_panic((resource, old, value) in mutated()) {
        exercise(resource, &old, &value);
    }

    #[test]
    fn defaults_are_idempotent((resource, _, value) in mutated()) {
        let mut once = value;
        defaults::apply(served(resource), &mut once);
        let mut twice = once.clone();
        defaults::apply(served(resource), &mut twice);
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn defaults_keep_an_object_decodable((resource, _, value) in mutated()) {
        if strict::decode(served(resource), &value).is_ok() {
            let mut defaulted = value;
            defaults::apply(served(resource), &mut defaulted);
            let decoded = strict::decode(served(resource), &defaulted);
            prop_assert!(decoded.is_ok(), "{:?}", decoded);
        }
    }

    #[test]
    fn unknown_fields_are_found_wherever_they_are(kind in 0..SAMPLES.len(), place in any::<prop::sample::Index>()) {
        let (resource, text) = SAMPLES[kind];
        let mut value = yaml(text);
        strict::strip_nulls(&mut value);
        let mut all = Vec::new();
        places(&value, "", &mut all);
        // Maps of free keys take any field; everything else knows its own.
        let free = ["labels", "annotations", "nodeSelector", "matchLabels", "selector", "limits", "requests", "data",
            "binaryData", "stringData", "capacity"];
        all.retain(|at| value.pointer(at).is_some_and(Value::is_object) && !free.iter().any(|name| at.ends_with(name)));
        let at = place.get(&all).clone();
        value.pointer_mut(&at).unwrap()["noSuchField"] = json!({"x": 1});
        let unknown = strict::decode(served(resource), &value).unwrap();
        prop_assert_eq!(unknown.0.len(), 1, "{} {:?}", at, unknown);
        prop_assert!(unknown.0[0].ends_with("noSuchField"));
        let shape = |path: &str| path.replace(['[', '.'], "/").replace(']', "");
        prop_assert_eq!(format!("/{}", shape(&unknown.0[0])), format!("{at}/noSuchField"));
    }
}
