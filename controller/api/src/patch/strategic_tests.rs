//! Strategic merge: directives one by one, and the property that a two-way patch leads to its target.

use proptest::prelude::*;
use serde_json::json;
use warren_objects::schema;

use super::*;

fn kind(name: &str) -> &'static Message {
    let found =
        ["", "apps", "policy", "networking.k8s.io"].iter().find_map(|group| schema::root(group, "v1", name));
    found.unwrap_or_else(|| panic!("no kind {name}"))
}

fn patched(name: &str, current: Value, patch: Value) -> Value {
    apply(kind(name), &current, &patch).unwrap()
}

fn containers(list: Value) -> Value {
    json!({"spec": {"template": {"spec": {"containers": list}}}})
}

#[test]
fn lists_of_objects_merge_by_key() {
    let current =
        containers(json!([{"name": "a", "image": "x:1", "args": ["1", "2"]}, {"name": "b", "image": "y:1"}]));
    let patch = containers(json!([{"name": "b", "image": "y:2"}, {"name": "c", "image": "z"}]));
    let expected = containers(json!([
        {"name": "a", "image": "x:1", "args": ["1", "2"]}, {"name": "b", "image": "y:2"}, {"name": "c", "image": "z"}
    ]));
    assert_eq!(patched("Deployment", current, patch), expected);
}

/// As in the documentation of `kubectl patch`.
#[test]
fn what_is_new_comes_before_what_only_the_server_has() {
    let current = containers(json!([{"name": "patch-demo-ctr", "image": "nginx"}]));
    let patch = containers(json!([{"name": "patch-demo-ctr-2", "image": "redis"}]));
    let expected = containers(json!([
        {"name": "patch-demo-ctr-2", "image": "redis"}, {"name": "patch-demo-ctr", "image": "nginx"}
    ]));
    assert_eq!(patched("Deployment", current, patch), expected);
}

#[test]
fn the_same_field_name_merges_by_its_parent() {
    let service = json!({"spec": {"ports": [{"port": 80, "name": "a"}, {"port": 81}]}});
    let patch = json!({"spec": {"ports": [{"port": 80, "targetPort": 8080}]}});
    let expected = json!({"spec": {"ports": [{"port": 80, "name": "a", "targetPort": 8080}, {"port": 81}]}});
    assert_eq!(patched("Service", service, patch), expected);
    let pod = json!({"spec": {"containers": [{"name": "a", "ports": [{"containerPort": 80, "name": "x"}]}]}});
    let patch =
        json!({"spec": {"containers": [{"name": "a", "ports": [{"containerPort": 80, "protocol": "UDP"}]}]}});
    let expected = json!({"spec": {"containers": [{"name": "a", "ports": [{"containerPort": 80, "name": "x", "protocol": "UDP"}]}]}});
    assert_eq!(patched("Pod", pod, patch), expected);
}

#[test]
fn other_lists_are_atomic() {
    let node = json!({"spec": {"taints": [{"key": "a"}, {"key": "b"}]}});
    assert_eq!(
        patched("Node", node, json!({"spec": {"taints": [{"key": "c"}]}})),
        json!({"spec": {"taints": [{"key": "c"}]}})
    );
    let ingress = json!({"spec": {"rules": [{"host": "a"}]}});
    assert_eq!(patched("Ingress", ingress, json!({"spec": {"rules": []}})), json!({"spec": {"rules": []}}));
}

#[test]
fn directives_in_items() {
    let current = containers(json!([{"name": "a"}, {"name": "b"}]));
    let deleted =
        patched("Deployment", current.clone(), containers(json!([{"name": "a", "$patch": "delete"}])));
    assert_eq!(deleted, containers(json!([{"name": "b"}])));
    let replaced =
        patched("Deployment", current.clone(), containers(json!([{"name": "c"}, {"$patch": "replace"}])));
    assert_eq!(replaced, containers(json!([{"name": "c"}])));
    let merged = patched(
        "Deployment",
        current.clone(),
        containers(json!([{"name": "a", "image": "x", "$patch": "merge"}])),
    );
    assert_eq!(merged, containers(json!([{"name": "a", "image": "x"}, {"name": "b"}])));
    let gone = patched(
        "Deployment",
        json!({}),
        containers(json!([{"name": "a", "$patch": "delete"}, {"name": "b", "image": null}])),
    );
    assert_eq!(gone, containers(json!([{"name": "b"}])));
}

#[test]
fn directives_in_maps() {
    let current = json!({"data": {"a": "1", "b": "2"}});
    let replaced =
        patched("ConfigMap", current.clone(), json!({"data": {"c": "3", "d": null, "$patch": "replace"}}));
    assert_eq!(replaced, json!({"data": {"c": "3"}}));
    assert_eq!(
        patched("ConfigMap", current.clone(), json!({"data": {"$patch": "delete"}})),
        json!({"data": {}})
    );
    assert_eq!(
        patched("ConfigMap", current.clone(), json!({"data": {"a": null, "$patch": "merge"}})),
        json!({"data": {"b": "2"}})
    );
    assert_eq!(patched("ConfigMap", current, json!({"data": null})), json!({}));
}

#[test]
fn retain_keys_drop_what_they_do_not_name() {
    let current = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    assert_eq!(
        patched("Deployment", current.clone(), patch),
        json!({"spec": {"strategy": {"type": "Recreate"}}})
    );
    let wrong = json!({"spec": {"strategy": {"$retainKeys": ["type"], "rollingUpdate": {}}}});
    assert!(matches!(apply(kind("Deployment"), &current, &wrong), Err(PatchError::NotRetained { .. })));
}

#[test]
fn a_selector_of_a_budget_is_replaced() {
    let current = json!({"spec": {"selector": {"matchLabels": {"a": "1"}}, "minAvailable": 1}});
    let patch = json!({"spec": {"selector": {"matchLabels": {"b": "2", "c": null}}}});
    let expected = json!({"spec": {"selector": {"matchLabels": {"b": "2"}}, "minAvailable": 1}});
    assert_eq!(patched("PodDisruptionBudget", current, patch), expected);
}

#[test]
fn sets_of_scalars() {
    let current = json!({"metadata": {"finalizers": ["a", "b", "c"]}});
    let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["b"], "finalizers": ["d", "a"]}});
    assert_eq!(patched("Pod", current.clone(), patch), json!({"metadata": {"finalizers": ["d", "a", "c"]}}));
    let ordered = json!({"metadata": {"$setElementOrder/finalizers": ["d", "a"], "finalizers": ["d"]}});
    assert_eq!(patched("Pod", current, ordered), json!({"metadata": {"finalizers": ["d", "a", "b", "c"]}}));
}

#[test]
fn element_order_keeps_what_only_the_server_has_in_place() {
    let current = containers(json!([{"name": "a"}, {"name": "sidecar"}, {"name": "b"}]));
    let patch = json!({"spec": {"template": {"spec": {
        "$setElementOrder/containers": [{"name": "a"}, {"name": "c"}, {"name": "b"}],
        "containers": [{"name": "c"}],
    }}}});
    let expected = containers(json!([{"name": "a"}, {"name": "c"}, {"name": "sidecar"}, {"name": "b"}]));
    assert_eq!(patched("Deployment", current.clone(), patch), expected);
    let only_order = json!({"spec": {"template": {"spec": {
        "$setElementOrder/containers": [{"name": "b"}, {"name": "a"}],
    }}}});
    let reordered = patched("Deployment", current, only_order);
    let names: Vec<&Value> = reordered["spec"]["template"]["spec"]["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["name"])
        .collect();
    assert_eq!(names, ["sidecar", "b", "a"]);
}

#[test]
fn nonsense_is_refused_with_its_path() {
    let error = apply(kind("Deployment"), &json!({}), &containers(json!([{"image": "x"}]))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "spec.template.spec.containers[0]: every item must be an object with the merge key \"name\""
    );
    assert!(apply(kind("Pod"), &json!({}), &json!({"spec": {"containers": ["x"]}})).is_err());
    assert!(apply(kind("Pod"), &json!({}), &json!({"spec": {"$patch": "maybe"}})).is_err());
    assert!(apply(kind("Pod"), &json!({}), &json!({"spec": {"$retainKeys": 1}})).is_err());
    assert!(apply(kind("Pod"), &json!({}), &json!({"spec": {"$setElementOrder/containers": 1}})).is_err());
}

/// What kubectl does: the patch that leads from one object to another.
fn two_way(kind: Node, from: &Object, to: &Object) -> Object {
    let mut patch = Object::new();
    for key in from.keys().filter(|key| !to.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, new) in to {
        let old = from.get(key);
        if old == Some(new) {
            continue;
        }
        let topology = topology::field(kind, key);
        match (old, new) {
            (Some(Value::Object(old)), Value::Object(new)) => {
                let mut below = two_way(topology.child, old, new);
                if key == "strategy" {
                    below.insert("$retainKeys".into(), new.keys().map(|k| json!(k)).collect());
                }
                patch.insert(key.clone(), Value::Object(below));
            }
            (Some(Value::Array(old)), Value::Array(new)) => match topology.merge {
                Merge::Atomic | Merge::Replace => drop(patch.insert(key.clone(), Value::Array(new.clone()))),
                Merge::Set => two_way_set(key, old, new, &mut patch),
                Merge::By(by) => two_way_keyed(topology.child, by, key, old, new, &mut patch),
            },
            (_, new) => drop(patch.insert(key.clone(), new.clone())),
        }
    }
    patch
}

fn two_way_set(field: &str, old: &[Value], new: &[Value], patch: &mut Object) {
    patch.insert(format!("{ORDER_PREFIX}{field}"), json!(new));
    let gone: Vec<&Value> = old.iter().filter(|item| !new.contains(item)).collect();
    if !gone.is_empty() {
        patch.insert(format!("{DELETE_PREFIX}{field}"), json!(gone));
    }
    let added: Vec<&Value> = new.iter().filter(|item| !old.contains(item)).collect();
    if !added.is_empty() {
        patch.insert(field.into(), json!(added));
    }
}

fn two_way_keyed(child: Node, by: &str, field: &str, old: &[Value], new: &[Value], patch: &mut Object) {
    let find = |list: &[Value], name: &Value| list.iter().find(|item| item[by] == *name).cloned();
    let order: Vec<Value> = new.iter().map(|item| json!({by: item[by]})).collect();
    patch.insert(format!("{ORDER_PREFIX}{field}"), json!(order));
    let mut items = Vec::new();
    for item in new {
        match find(old, &item[by]) {
            Some(before) if before == *item => {}
            Some(before) => {
                let mut change = two_way(child, before.as_object().unwrap(), item.as_object().unwrap());
                change.insert(by.into(), item[by].clone());
                items.push(Value::Object(change));
            }
            None => items.push(item.clone()),
        }
    }
    for item in old.iter().filter(|item| find(new, &item[by]).is_none()) {
        items.push(json!({by: item[by], "$patch": "delete"}));
    }
    if !items.is_empty() {
        patch.insert(field.into(), json!(items));
    }
}

fn unique_by(key: &'static str, items: Vec<Value>) -> Value {
    let mut kept: Vec<Value> = Vec::new();
    for item in items {
        if kept.iter().all(|other| other[key] != item[key]) {
            kept.push(item);
        }
    }
    Value::Array(kept)
}

fn small() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "c", "d"]).prop_map(str::to_owned)
}

fn container() -> impl Strategy<Value = Value> {
    let env = prop::collection::vec((small(), small()), 0..4).prop_map(|list| {
        unique_by(
            "name",
            list.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect(),
        )
    });
    let ports = prop::collection::vec((1..4, prop::option::of(small())), 0..3).prop_map(|list| {
        let port = |(number, name): (i32, Option<String>)| match name {
            Some(name) => json!({"containerPort": number, "name": name}),
            None => json!({"containerPort": number}),
        };
        unique_by("containerPort", list.into_iter().map(port).collect())
    });
    let args = prop::collection::vec(small(), 0..3);
    (small(), small(), prop::option::of(env), prop::option::of(ports), prop::option::of(args)).prop_map(
        |(name, image, env, ports, args)| {
            let mut value = json!({"name": name, "image": image});
            for (field, part) in [("env", env), ("ports", ports), ("args", args.map(|args| json!(args)))] {
                if let Some(part) = part {
                    value[field] = part;
                }
            }
            value
        },
    )
}

fn deployment() -> impl Strategy<Value = Value> {
    let containers = prop::collection::vec(container(), 1..5).prop_map(|list| unique_by("name", list));
    let labels = prop::collection::btree_map(small(), small(), 0..4);
    let finalizers = prop::collection::btree_set(small(), 0..4).prop_shuffle_values();
    let strategy = prop::option::of(prop_oneof![
        Just(json!({"type": "Recreate"})),
        (0..3).prop_map(|surge| json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge}})),
    ]);
    (containers, labels, finalizers, strategy, prop::option::of(0..5)).prop_map(
        |(containers, labels, finalizers, strategy, replicas)| {
            let mut value = json!({
                "metadata": {"labels": labels, "finalizers": finalizers},
                "spec": {"template": {"spec": {"containers": containers}}},
            });
            if let Some(strategy) = strategy {
                value["spec"]["strategy"] = strategy;
            }
            if let Some(replicas) = replicas {
                value["spec"]["replicas"] = json!(replicas);
            }
            value
        },
    )
}

/// Sets in random order.
trait Shuffled: Strategy<Value = std::collections::BTreeSet<String>> + Sized {
    fn prop_shuffle_values(self) -> impl Strategy<Value = Vec<String>> {
        self.prop_map(|set| set.into_iter().collect::<Vec<_>>()).prop_shuffle()
    }
}
impl<S: Strategy<Value = std::collections::BTreeSet<String>>> Shuffled for S {}

proptest! {
    #[test]
    fn a_two_way_patch_leads_to_its_target(from in deployment(), to in deployment()) {
        let patch = Value::Object(two_way(topology::root(kind("Deployment")), from.as_object().unwrap(), to.as_object().unwrap()));
        let result = apply(kind("Deployment"), &from, &patch).unwrap();
        prop_assert_eq!(&result, &to, "patch {}", patch);
        prop_assert_eq!(&apply(kind("Deployment"), &result, &patch).unwrap(), &to, "not idempotent: {}", patch);
    }

    #[test]
    fn what_others_added_survives(from in deployment(), to in deployment()) {
        let mut live = from.clone();
        live["metadata"]["annotations"] = json!({"other": "1"});
        live["spec"]["template"]["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "injected"}));
        let patch = Value::Object(two_way(topology::root(kind("Deployment")), from.as_object().unwrap(), to.as_object().unwrap()));
        let result = apply(kind("Deployment"), &live, &patch).unwrap();
        prop_assert_eq!(&result["metadata"]["annotations"]["other"], "1");
        let containers = result["spec"]["template"]["spec"]["containers"].as_array().unwrap();
        let wanted = to["spec"]["template"]["spec"]["containers"].as_array().unwrap();
        prop_assert!(containers.iter().any(|container| container["name"] == "injected"));
        let own: Vec<&Value> = containers.iter().filter(|container| container["name"] != "injected").collect();
        prop_assert_eq!(own, wanted.iter().collect::<Vec<_>>());
    }
}
