//! What holds for all objects: configurations of containers, ports, labels and data, by several managers.

use proptest::prelude::*;

use super::*;
use crate::Set;

const PODS: &str = "pods";

/// A configuration of a pod; what it sets is marked with the prefix.
fn configuration(prefix: &'static str) -> impl Strategy<Value = Value> {
    let name = move || (0..3u8).prop_map(move |number| format!("{prefix}{number}"));
    let labels = proptest::collection::btree_map(name(), "[xy]", 0..3);
    let finalizers = proptest::collection::btree_set(name().prop_map(|name| format!("a.b/{name}")), 0..3);
    let ports = proptest::collection::btree_map(1..4u16, proptest::option::of("[ab]"), 0..3);
    let containers =
        proptest::collection::btree_map(name(), (proptest::option::of("[ij]"), ports, any::<bool>()), 0..3);
    (labels, finalizers, containers).prop_map(|(labels, finalizers, containers)| {
        let containers: Vec<Value> = containers
            .into_iter()
            .map(|(name, (image, ports, has_arguments))| {
                let port = |(number, name): (u16, Option<String>)| {
                    let mut port = json!({"containerPort": number});
                    if let Some(name) = name {
                        port["name"] = json!(name);
                    }
                    port
                };
                let mut container = json!({"name": name, "image": image.unwrap_or_else(|| "i".into())});
                let ports: Vec<Value> = ports.into_iter().map(port).collect();
                if !ports.is_empty() {
                    container["ports"] = json!(ports);
                }
                if has_arguments {
                    container["args"] = json!(["a", "b"]);
                }
                container
            })
            .collect();
        let mut object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}});
        let mut put = |at: &str, name: &str, value: Value, is_there: bool| {
            if is_there {
                object[at][name] = value;
            }
        };
        put("metadata", "labels", json!(labels), !labels.is_empty());
        put("metadata", "finalizers", json!(finalizers), !finalizers.is_empty());
        put("spec", "containers", json!(containers), !containers.is_empty());
        object
    })
}

/// Lists by key and sets are the same in any order.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => map.iter().map(|(name, value)| (name.clone(), sorted(value))).collect(),
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(sorted).collect();
            items.sort_by_key(ToString::to_string);
            Value::Array(items)
        }
        other => other.clone(),
    }
}

fn live() -> State {
    let pod =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"nodeName": "n"}});
    State::of(PODS, json!({})).update("server", &pod)
}

proptest! {
    #[test]
    fn a_set_is_read_as_it_is_written(object in configuration("a")) {
        let set = set_of(kinds::of(PODS).unwrap().schema(), &object);
        prop_assert_eq!(Set::of_json(&set.to_json()), Ok(set));
    }

    #[test]
    fn applying_twice_is_applying_once(first in configuration("a"), then in configuration("a")) {
        let before = live().apply("me", &first, false).unwrap();
        let once = before.apply("me", &then, false).unwrap();
        prop_assert_eq!(once.apply("me", &then, false).unwrap(), once);
    }

    #[test]
    fn what_is_applied_is_there_and_nothing_that_was(first in configuration("a"), then in configuration("a")) {
        let after = live().apply("me", &first, false).unwrap().apply("me", &then, false).unwrap();
        let alone = live().apply("me", &then, false).unwrap();
        prop_assert_eq!(sorted(&after.object), sorted(&alone.object));
        prop_assert_eq!(after.fields("me"), alone.fields("me"));
    }

    #[test]
    fn disjoint_owners_commute(a in configuration("a"), b in configuration("b"), c in configuration("a")) {
        let ways = [
            live().apply("one", &a, false).unwrap().apply("two", &b, false).unwrap().apply("one", &c, false),
            live().apply("two", &b, false).unwrap().apply("one", &a, false).unwrap().apply("one", &c, false),
            live().apply("one", &a, false).unwrap().apply("one", &c, false).unwrap().apply("two", &b, false),
        ];
        let ends: Vec<(Value, Value, Value)> = ways
            .into_iter()
            .map(|end| end.map(|end| (sorted(&end.object), end.fields("one"), end.fields("two"))).unwrap())
            .collect();
        prop_assert_eq!(&ends[0], &ends[1]);
        prop_assert_eq!(&ends[0], &ends[2]);
    }

    #[test]
    fn a_field_that_was_updated_has_one_manager(first in configuration("a"), then in configuration("a")) {
        let applied = live().apply("one", &first, false).unwrap();
        let mut object = then;
        object["spec"]["nodeName"] = json!("n");
        let after = applied.update("two", &object);
        let all: Vec<_> = after.managers.0.values().map(|entry| entry.fields.clone()).collect();
        if let [one, two] = &all[..] {
            prop_assert!(one.intersection(two).is_empty());
        }
        // Whoever takes all by force is alone.
        let forced = after.apply("three", &first, true).unwrap();
        prop_assert!(forced.apply("three", &first, false).is_ok());
    }

    #[test]
    fn sets_are_sets(a in configuration("a"), b in configuration("a")) {
        let schema = kinds::of(PODS).unwrap().schema();
        let (a, b) = (set_of(schema, &a), set_of(schema, &b));
        let both = a.intersection(&b);
        prop_assert_eq!(&a.clone().difference(&b).union(&both), &a);
        prop_assert_eq!(a.clone().union(&b), b.clone().union(&a));
        prop_assert!(a.clone().difference(&b).intersection(&b).is_empty());
        prop_assert!(both.paths().iter().all(|path| a.has(&path.0) && b.has(&path.0)));
    }
}
