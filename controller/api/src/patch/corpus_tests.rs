//! Arbitrary patches over arbitrary objects: an answer or a refusal, never a panic, never much more than came in.

use proptest::prelude::*;
use serde_json::json;
use warren_objects::schema;

use super::*;

const KINDS: [&str; 5] = ["Pod", "Deployment", "Service", "Node", "Scale"];
const TYPES: [&str; 3] =
    ["application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json"];

fn kind(name: &str) -> Option<&'static Message> {
    ["", "apps", "autoscaling"].iter().find_map(|group| schema::root(group, "v1", name))
}

/// Values full of what patches give a meaning to.
fn value() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        Just("spec"),
        Just("metadata"),
        Just("template"),
        Just("containers"),
        Just("ports"),
        Just("name"),
        Just("containerPort"),
        Just("env"),
        Just("finalizers"),
        Just("strategy"),
        Just("$patch"),
        Just("$retainKeys"),
        Just("$setElementOrder/containers"),
        Just("$setElementOrder/finalizers"),
        Just("$deleteFromPrimitiveList/finalizers"),
        Just("$deleteFromPrimitiveList/containers"),
        Just("x"),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        prop_oneof![
            Just("a"),
            Just("b"),
            Just("name"),
            Just("delete"),
            Just("replace"),
            Just("merge"),
            Just("")
        ]
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map(key.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn operation() -> impl Strategy<Value = Value> {
    let path = prop_oneof![
        Just("".to_owned()),
        Just("/spec".to_owned()),
        Just("/spec/containers/-".to_owned()),
        Just("/spec/containers/0".to_owned()),
        "(/[a-c0-9~-]{0,3}){0,4}",
    ];
    let name = prop_oneof![
        Just("add"),
        Just("remove"),
        Just("replace"),
        Just("move"),
        Just("copy"),
        Just("test"),
        Just("x")
    ];
    (name, path.clone(), path, value())
        .prop_map(|(op, path, from, value)| json!({"op": op, "path": path, "from": from, "value": value}))
}

fn judge(content_type: &str, body: &[u8], current: &Value) {
    let Ok(patch) = Patch::parse(content_type, body) else { return };
    for name in KINDS {
        if let Ok(new) = patch.apply(kind(name), current) {
            let most = decode::encoded_length(current) + body.len() + crate::body::LIMIT;
            assert!(decode::encoded_length(&new) <= most);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn strategic_and_merge_patches_are_judged(current in value(), patch in value()) {
        for content_type in &TYPES[1..] {
            judge(content_type, patch.to_string().as_bytes(), &current);
        }
    }

    #[test]
    fn json_patches_are_judged(current in value(), operations in proptest::collection::vec(operation(), 0..8)) {
        judge(TYPES[0], json!(operations).to_string().as_bytes(), &current);
    }

    #[test]
    fn bytes_that_are_no_patch_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for content_type in TYPES {
            judge(content_type, &bytes, &json!({"spec": {"containers": [{"name": "a"}]}}));
        }
    }

    #[test]
    fn a_strategic_patch_applied_twice_changes_nothing_more(names in proptest::collection::vec("[a-d]", 0..6)) {
        let containers: Vec<Value> = names.iter().map(|name| json!({"name": name, "image": format!("i{name}")})).collect();
        let patch = json!({"spec": {"containers": containers, "$setElementOrder/containers": containers}});
        let current = json!({"spec": {"containers": [{"name": "c"}, {"name": "z"}, {"name": "a"}]}});
        let once = strategic::apply(kind("Pod").unwrap(), &current, &patch).unwrap();
        prop_assert_eq!(&strategic::apply(kind("Pod").unwrap(), &once, &patch).unwrap(), &once);
    }
}

/// Lists that are long and all different cost what they are long, not its square.
#[test]
fn long_lists_merge_in_one_pass() {
    let list = |prefix: &str| -> Vec<Value> {
        (0..20_000).map(|n| json!({"name": format!("{prefix}{n}")})).collect()
    };
    let current = json!({"spec": {"containers": [{"name": "a", "env": list("x")}]}});
    let patch = json!({"spec": {"containers": [
        {"name": "a", "env": list("y"), "$setElementOrder/env": list("y")},
    ]}});
    let merged = strategic::apply(kind("Pod").unwrap(), &current, &patch).unwrap();
    assert_eq!(merged["spec"]["containers"][0]["env"].as_array().unwrap().len(), 40_000);
}
