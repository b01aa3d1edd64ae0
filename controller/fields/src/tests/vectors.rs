//! Cases of Kubernetes' documentation, and the spelling of sets.

use super::*;
use crate::{BadFields, Set, check, extract};

const WEB: &str = "deployments.apps";
const MAP: &str = "configmaps";

fn pod(containers: &Value) -> Value {
    json!({"metadata": {"name": "a"}, "spec": {"containers": containers}})
}

#[test]
fn sets_are_spelt_as_in_kubernetes() {
    let object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "labels": {"app": "web"}, "finalizers": ["a.b/c"]},
        "spec": {
            "replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "strategy": {},
            "template": {"spec": {"containers": [{"name": "web", "args": ["x"], "ports": [{"containerPort": 80}]}]}},
        },
    });
    assert_eq!(
        fields_of(WEB, &object),
        json!({
            "f:apiVersion": {}, "f:kind": {},
            "f:metadata": {"f:name": {}, "f:labels": {"f:app": {}}, "f:finalizers": {"v:\"a.b/c\"": {}}},
            "f:spec": {
                "f:replicas": {}, "f:selector": {}, "f:strategy": {},
                "f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {
                    ".": {}, "f:name": {}, "f:args": {},
                    "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}},
                }}}},
            },
        }),
        "the selector is owned as a whole, and a port without a protocol is one of TCP"
    );
}

#[test]
fn what_is_made_by_an_update_is_owned_with_the_maps_that_hold_it() {
    let empty = State::of(WEB, json!({}));
    let spec = json!({
        "replicas": 1, "selector": {"matchLabels": {"app": "web"}},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}},
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "i"}]}},
    });
    let made = empty.update("kubectl-create", &deployment(&spec));
    assert_eq!(
        made.fields("kubectl-create"),
        json!({"f:spec": {
            "f:replicas": {}, "f:selector": {},
            "f:strategy": {"f:type": {}, "f:rollingUpdate": {".": {}, "f:maxSurge": {}}},
            "f:template": {
                "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                "f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {
                    ".": {}, "f:name": {}, "f:image": {}, "f:resources": {},
                }}},
            },
        }}),
        "structs that are no pointers in Go are there before, pointers and maps are made"
    );
}

#[test]
fn a_conflict_names_manager_and_field() {
    let made = State::of(WEB, json!({})).update("hpa", &deployment(&json!({"replicas": 5, "paused": true})));
    let refused = made.apply("me", &deployment(&json!({"replicas": 3})), false).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "Apply failed with 1 conflict: conflict with \"hpa\" using apps/v1: .spec.replicas"
    );
    let both = made.apply("me", &deployment(&json!({"replicas": 3, "paused": false})), false).unwrap_err();
    assert_eq!(
        both.to_string(),
        "Apply failed with 2 conflicts: conflicts with \"hpa\" using apps/v1:\n- .spec.paused\n- .spec.replicas"
    );
    let forced = made.apply("me", &deployment(&json!({"replicas": 3})), true).unwrap();
    assert_eq!(forced.object["spec"], json!({"replicas": 3, "paused": true}));
    assert_eq!(forced.fields("hpa"), json!({"f:spec": {"f:paused": {}}}));
    let other = forced.apply("you", &deployment(&json!({"replicas": 4})), false).unwrap_err();
    assert_eq!(other.to_string(), "Apply failed with 1 conflict: conflict with \"me\": .spec.replicas");
}

#[test]
fn who_says_the_same_shares_the_field() {
    let wanted = deployment(&json!({"replicas": 3}));
    let one = State::of(WEB, json!({})).apply("one", &wanted, false).unwrap();
    let two = one.apply("two", &wanted, false).unwrap();
    assert_eq!((two.fields("one"), &two.object), (two.fields("two"), &one.object));
    let left = two.apply("one", &deployment(&json!({"paused": true})), false).unwrap();
    assert_eq!(left.object["spec"], json!({"replicas": 3, "paused": true}), "two still has it");
    let gone = left.apply("two", &deployment(&json!({})), false).unwrap();
    assert_eq!(gone.object["spec"], json!({"paused": true}), "nobody has it any more");
    assert_eq!(gone.fields("two"), json!({"f:spec": {}}));
}

#[test]
fn what_is_no_longer_applied_goes_and_what_others_set_stays() {
    let map = |data: Value| json!({"metadata": {"name": "a"}, "data": data});
    let first = State::of(MAP, json!({})).apply("me", &map(json!({"a": "1", "b": "2"})), false).unwrap();
    let mut other = first.object.clone();
    other["data"]["c"] = json!("3");
    let second = first.update("you", &other).apply("me", &map(json!({"b": "2"})), false).unwrap();
    assert_eq!(second.object["data"], json!({"b": "2", "c": "3"}));
    let last = second.apply("me", &json!({"metadata": {"name": "a"}}), false).unwrap();
    assert_eq!(last.object["data"], json!({"c": "3"}));
    assert_eq!(last.fields("me"), Value::Null, "who manages nothing has no entry");
}

#[test]
fn lists_are_merged_by_their_keys() {
    let live = State::of("pods", pod(&json!([{"name": "a", "image": "i"}, {"name": "x", "image": "x"}])));
    let wanted = pod(&json!([
        {"name": "b", "image": "j"}, {"name": "a", "ports": [{"containerPort": 80, "name": "http"}]},
    ]));
    let merged = live.apply("me", &wanted, false).unwrap();
    assert_eq!(
        merged.object["spec"]["containers"],
        json!([
            {"name": "b", "image": "j"},
            {"name": "a", "image": "i", "ports": [{"containerPort": 80, "name": "http"}]},
            {"name": "x", "image": "x"},
        ])
    );
    let gone = merged.apply("me", &pod(&json!([{"name": "b", "image": "j"}])), false).unwrap();
    assert_eq!(
        gone.object["spec"]["containers"],
        json!([{"name": "b", "image": "j"}, {"name": "x", "image": "x"}]),
        "the container of no other manager goes as a whole"
    );
    let mut live = pod(&json!([{"name": "a", "ports": [{"containerPort": 80, "protocol": "TCP"}]}]));
    live["metadata"]["finalizers"] = json!(["x.y/1"]);
    let mut wanted = pod(&json!([{"name": "a", "ports": [{"containerPort": 80, "name": "http"}]}]));
    wanted["metadata"]["finalizers"] = json!(["x.y/2"]);
    let merged = State::of("pods", live).apply("me", &wanted, false).unwrap().object;
    let port = json!([{"containerPort": 80, "protocol": "TCP", "name": "http"}]);
    assert_eq!(merged["spec"]["containers"][0]["ports"], port);
    assert_eq!(merged["metadata"]["finalizers"], json!(["x.y/1", "x.y/2"]));
}

#[test]
fn entries_that_cannot_be_told_apart_are_named() {
    let schema = kinds::of("pods").unwrap().schema();
    let twice = check(schema, &pod(&json!([{"name": "a"}, {"name": "a"}]))).unwrap_err();
    assert_eq!(twice.to_string(), ".spec.containers: duplicate entries for key [name=\"a\"]");
    let bare = check(schema, &pod(&json!([{"image": "a"}]))).unwrap_err().to_string();
    assert!(
        bare.starts_with(".spec.containers: element 0: associative list with keys has an element"),
        "{bare}"
    );
    let finalizers = json!({"metadata": {"finalizers": [{}]}});
    assert!(check(schema, &finalizers).unwrap_err().to_string().contains("that's a map type"));
}

#[test]
fn a_part_is_taken_out() {
    let object = deployment(&json!({"replicas": 3, "template": {"spec": {"containers": [
        {"name": "a", "image": "i", "command": ["c"]}, {"name": "b"},
    ]}}}));
    let fields = json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {"f:image": {}}}}}}});
    let schema = kinds::of(WEB).unwrap().schema();
    let part = extract(schema, &object, &Set::of_json(&fields).unwrap());
    assert_eq!(part, json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "i"}]}}}}));
}

#[test]
fn many_updaters_become_one() {
    let mut state = State::of(MAP, json!({}));
    for index in 0..14 {
        let mut object = state.object.clone();
        object["data"][format!("k{index:02}")] = json!("v");
        state = state.update(&format!("m{index:02}"), &object);
        assert!(state.managers.0.len() <= 10);
    }
    let ancient = state.fields("ancient-changes");
    assert_eq!(ancient["f:data"].as_object().unwrap().len(), 6, "{ancient}: five of them and the map itself");
    let all: usize = state.managers.0.values().map(|entry| entry.fields.paths().len()).sum();
    assert_eq!(all, 15, "nothing is lost");
}

#[test]
fn broken_fields_are_refused_by_name() {
    let of = |json: Value| Set::of_json(&json).unwrap_err().to_string();
    assert_eq!(of(json!([])), "fieldsV1: must be a map of fields");
    assert_eq!(of(json!({"f:a": 1})), "f:a: must be a map of fields");
    assert_eq!(of(json!({"spec": {}})), "\"spec\": must begin with f:, k:, v: or i:");
    assert_eq!(of(json!({"k:[]": {}})), "\"k:[]\": must be followed by a map");
    assert_eq!(of(json!({"v:x": {}})), "\"v:x\": must be followed by JSON");
    assert_eq!(of(json!({"i:x": {}})), "\"i:x\": must be followed by a whole number");
    let deep = (0..200).fold(json!({}), |below, _| json!({"f:a": below}));
    assert_eq!(Set::of_json(&deep), Err(BadFields::TooDeep));
    let many: serde_json::Map<String, Value> =
        (0..=crate::MOST_ELEMENTS).map(|index| (format!("f:{index}"), json!({}))).collect();
    assert_eq!(Set::of_json(&Value::Object(many)), Err(BadFields::TooMany));
    let unknown = Set::of_json(&json!({"z:later": {}, "f:a": {}})).unwrap();
    assert_eq!(unknown.to_json(), json!({"f:a": {}}), "forms of later versions are left out");
    let entry = |field: &str, value: Value| {
        let mut entry =
            json!({"manager": "m", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1"});
        entry[field] = value;
        Managers::of_json(&json!([entry])).unwrap_err().to_string()
    };
    assert_eq!(
        entry("operation", json!("x")),
        "metadata.managedFields[0].operation: must be `Apply` or `Update`"
    );
    assert_eq!(entry("apiVersion", json!("")), "metadata.managedFields[0].apiVersion: must not be empty");
    assert_eq!(
        entry("fieldsV1", json!({"x": {}})),
        "metadata.managedFields[0].fieldsV1: \"x\": must begin with f:, k:, v: or i:"
    );
}
