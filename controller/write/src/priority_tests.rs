//! Priorities through the gate.

use warren_objects::kinds::of;
use warren_state::{Transaction, Write};
use warren_vocabulary::ClusterConfig;

use super::*;
use crate::{Actor, Author, Effect, Gate, Intent, Operation, Scope, User, deletion::DeleteOptions};

fn class(name: &str, value: i64, more: &Value) -> Object {
    let mut class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
        "metadata": {"name": name, "uid": name}, "value": value, "preemptionPolicy": DISPLACES});
    for (field, value) in more.as_object().unwrap() {
        class[field] = value.clone();
    }
    Object::new(Key::new(PRIORITYCLASSES, "", name), 3, class)
}

fn state(classes: Vec<Object>) -> Snapshot {
    let namespace = json!({"metadata": {"name": "d"}, "status": {"phase": "Active"}});
    let namespace = Object::new(Key::new("namespaces", "", "d"), 2, namespace);
    let account = json!({"metadata": {"name": "default"}, "automountServiceAccountToken": false});
    let account = Object::new(Key::new("serviceaccounts", "d", "default"), 2, account);
    Snapshot::from_objects(9, classes.into_iter().chain([namespace, account]))
}

fn pod(more: &Value) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "d", "uid": "u"},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    for (field, value) in more.as_object().unwrap() {
        pod["spec"][field] = value.clone();
    }
    pod
}

fn admit(
    snapshot: &Snapshot,
    resource: &str,
    name: &str,
    operation: Operation<'_>,
) -> Result<Effect, Refusal> {
    let (kind, user) = (of(resource).unwrap(), User::default());
    let author = Author { actor: Actor::Client(&user), manager: "kubectl" };
    let key = Key::new(resource, if kind.namespaced { "d" } else { "" }, name);
    let intent = Intent { author, kind, key: &key, operation };
    Gate::new(&ClusterConfig::default()).admit(snapshot, intent).map(|admitted| admitted.effect)
}

/// Priority, policy and class of a new pod.
fn resolved(classes: Vec<Object>, more: Value) -> Result<[Value; 3], String> {
    let made = admit(&state(classes), "pods", "p", Operation::Create { object: pod(&more) });
    let Effect::Stored(pod) = made.map_err(|refusal| refusal.message)? else { panic!("it is new") };
    Ok(["priority", "preemptionPolicy", "priorityClassName"].map(|field| pod["spec"][field].clone()))
}

#[test]
fn a_pod_has_what_its_class_says() {
    let classes =
        || vec![class("high", 1_000, &json!({})), class("calm", 7, &json!({"preemptionPolicy": "Never"}))];
    assert_eq!(resolved(classes(), json!({})), Ok([json!(0), json!(DISPLACES), Value::Null]));
    let high = Ok([json!(1_000), json!(DISPLACES), json!("high")]);
    assert_eq!(resolved(classes(), json!({"priorityClassName": "high"})), high);
    assert_eq!(resolved(classes(), json!({"priorityClassName": "high", "priority": 1_000})), high);
    assert_eq!(
        resolved(classes(), json!({"priorityClassName": "calm", "preemptionPolicy": "Never"})),
        Ok([json!(7), json!("Never"), json!("calm")])
    );
}

#[test]
fn what_a_pod_says_itself_must_be_what_its_class_says() {
    let classes = || vec![class("high", 1_000, &json!({}))];
    for (more, why) in [
        (json!({"priorityClassName": "low"}), "no PriorityClass with name low was found"),
        (
            json!({"priority": 5}),
            "the integer value of priority (5) must not be provided in pod spec; priority admission controller computed \
             0 from the given PriorityClass name",
        ),
        (
            json!({"priorityClassName": "high", "preemptionPolicy": "Never"}),
            "the string value of PreemptionPolicy (Never) must not be provided in pod spec; priority admission \
             controller computed PreemptLowerPriority from the given PriorityClass name",
        ),
    ] {
        assert_eq!(resolved(classes(), more), Err(format!("pods \"p\" is forbidden: {why}")));
    }
}

#[test]
fn the_default_class_is_that_of_pods_that_name_none() {
    let default = |name: &str, value| class(name, value, &json!({"globalDefault": true}));
    assert_eq!(
        resolved(vec![default("usual", 5), class("high", 9, &json!({}))], json!({"priorityClassName": ""})),
        Ok([json!(5), json!(DISPLACES), json!("usual")])
    );
    let several = resolved(vec![default("a", 5), default("b", 3)], json!({})).unwrap();
    assert_eq!(several[2], "b", "of several the lowest");
    let second = |state: &Snapshot, name: &str| {
        let object = Value::clone(&default(name, 7).value);
        admit(state, PRIORITYCLASSES, name, Operation::Create { object })
    };
    assert_eq!(
        second(&state(vec![default("usual", 5)]), "other").unwrap_err().message,
        "priorityclasses.scheduling.k8s.io \"other\" is forbidden: PriorityClass usual is already marked as default. \
         Only one default can exist"
    );
    assert!(second(&state(vec![]), "other").is_ok());
    let snapshot = state(vec![default("usual", 5), class("high", 9, &json!({}))]);
    let change = |name: &str, field: &str, value: Value| {
        let old = snapshot.get(&Key::new(PRIORITYCLASSES, "", name)).unwrap();
        let mut object = Value::clone(&old.value);
        object[field] = value;
        admit(&snapshot, PRIORITYCLASSES, name, Operation::Update { old, object, scope: Scope::Main })
    };
    assert!(change("usual", "description", json!("mine")).is_ok());
    assert!(change("high", "description", json!("mine")).is_ok());
    assert_eq!(change("high", "globalDefault", json!(true)).unwrap_err().code, 403);
    assert_eq!(change("high", "value", json!(10)).unwrap_err().code, 422);
}

#[test]
fn an_update_that_leaves_out_what_was_resolved_keeps_it() {
    let stored = pod(&json!({"priority": 1_000, "preemptionPolicy": "Never", "priorityClassName": "high"}));
    let mut old = Object::new(Key::new("pods", "d", "p"), 3, stored);
    warren_objects::defaults::apply(of("pods").unwrap(), &mut old.value);
    let old = Arc::new(old);
    let mut object = Value::clone(&old.value);
    for field in RESOLVED {
        object["spec"].as_object_mut().unwrap().remove(field);
    }
    object["metadata"]["labels"] = json!({"a": "b"});
    let change = |object: Value| {
        let operation = Operation::Update { old: &old, object, scope: Scope::Main };
        admit(&state(vec![]), "pods", "p", operation)
    };
    let Effect::Stored(new) = change(object.clone()).unwrap() else { panic!("it is changed") };
    assert_eq!(new["spec"], old.value["spec"]);
    object["spec"]["priority"] = json!(5);
    assert_eq!(change(object).unwrap_err().code, 422);
}

#[test]
fn planners_pods_have_priorities_too() {
    let snapshot = state(vec![class("high", 1_000, &json!({}))]);
    let make = |name: &str| {
        let pod = pod(&json!({"priorityClassName": name}));
        let transaction = Transaction::new().create(Key::new("pods", "d", "p"), pod);
        Gate::new(&ClusterConfig::default()).admit_all(&snapshot, Author::controller("planner"), transaction)
    };
    let passed = make("high").unwrap();
    assert!(
        matches!(&passed.transaction.writes[..], [Write::Put(_, pod)] if pod["spec"]["priority"] == 1_000)
    );
    assert!(make("low").unwrap_err().to_string().ends_with("no PriorityClass with name low was found"));
}

#[test]
fn the_clusters_own_classes_stay_and_users_have_their_bounds() {
    let ours = SYSTEM_CLASSES.iter().map(|ours| class(ours.name, ours.value, &json!({}))).collect();
    let (snapshot, options) = (state(ours), DeleteOptions::default());
    for ours in &SYSTEM_CLASSES {
        let old = snapshot.get(&Key::new(PRIORITYCLASSES, "", ours.name));
        let now = jiff::Timestamp::UNIX_EPOCH;
        let delete = Operation::Delete { old, options: &options, now };
        let refused = admit(&snapshot, PRIORITYCLASSES, ours.name, delete).unwrap_err();
        assert_eq!(refused.code, 403);
        assert!(refused.message.ends_with("this is a system priority class and cannot be deleted"));
    }
    let make = |name: &str, value: i64| {
        let object = Value::clone(&class(name, value, &json!({})).value);
        admit(&state(vec![]), PRIORITYCLASSES, name, Operation::Create { object })
    };
    assert!(make("mine", 1_000_000_000).is_ok() && make("low", i64::from(i32::MIN)).is_ok());
    assert!(make("system-node-critical", 2_000_001_000).is_ok());
    for (name, value, why) in [
        ("mine", 1_000_000_001, "maximum allowed value of a user defined priority is 1000000000"),
        ("system-mine", 5, "error: system-mine is not a known system priority class"),
        ("system-node-critical", 5, "error: value of system-node-critical PriorityClass must be 2000001000"),
    ] {
        let refused = make(name, value).unwrap_err();
        assert!(refused.code == 422 && refused.message.ends_with(why), "{}", refused.message);
    }
}
