//! Quotas are counted, and what they do not allow is told at whoever wants it.

use jiff::SignedDuration;
use serde_json::{Value, json};
use warren_state::Key;
use warren_vocabulary::{ClusterConfig, resources::*};
use warren_write::Gate;

use crate::{
    model::{Model, condition},
    scheduling::pod,
};

fn quota(model: &mut Model, name: &str, hard: Value, scopes: Value) -> Key {
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name},
        "spec": {"hard": hard, "scopes": scopes}, "status": {}});
    model.put(RESOURCEQUOTAS, "default", quota)
}

fn used(model: &Model, key: &Key) -> Value {
    model.get(key)["status"]["used"].clone()
}

/// A pod that fits nowhere, so that it stays as it is.
fn waiting(model: &mut Model, name: &str, more: &Value) -> Key {
    let mut spec = json!({"nodeSelector": {"nobody": "has"}, "containers": [{"name": "c", "image": "i",
        "resources": {"requests": {"cpu": "500m", "memory": "252Mi"}, "limits": {"cpu": "1"}}}]});
    for (field, value) in more.as_object().unwrap() {
        spec[field] = value.clone();
    }
    pod(model, name, spec)
}

#[test]
fn a_status_says_what_is_allowed_and_used_and_follows_what_comes_and_goes() {
    let mut model = Model::new(1);
    let hard = json!({"pods": "5", "cpu": "1", "memory": "500Mi", "limits.cpu": "4", "resourcequotas": "1",
        "secrets": "3", "services": "10", "services.nodeports": "1", "count/replicasets.apps": "5",
        "requests.example.com/dongle": "3"});
    let key = quota(&mut model, "all", hard.clone(), json!([]));
    model.settle();
    assert_eq!(model.get(&key)["status"]["hard"], hard);
    let none = json!({"pods": "0", "cpu": "0", "memory": "0", "limits.cpu": "0", "resourcequotas": "1",
        "secrets": "0", "services": "0", "services.nodeports": "0", "count/replicasets.apps": "0",
        "requests.example.com/dongle": "0"});
    assert_eq!(used(&model, &key), none, "it counts itself");
    let one = waiting(&mut model, "one", &json!({}));
    model.put(SECRETS, "default", json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}));
    model.put(
        SECRETS,
        "kube-system",
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}),
    );
    let service = model.service("web", "web");
    model.change(&service, |service| service["spec"]["type"] = "NodePort".into());
    model.settle();
    let now = used(&model, &key);
    for (name, amount) in [
        ("pods", "1"),
        ("cpu", "500m"),
        ("memory", "252Mi"),
        ("limits.cpu", "1"),
        ("secrets", "1"),
        ("services", "1"),
        ("services.nodeports", "1"),
    ] {
        assert_eq!(now[name], amount, "{name}");
    }
    model.change(&one, |pod| pod["status"]["phase"] = "Failed".into());
    model.remove(&service);
    model.settle();
    assert_eq!(
        (&used(&model, &key)["pods"], &used(&model, &key)["services.nodeports"]),
        (&json!("0"), &json!("0"))
    );
    model.change(&key, |quota| quota["spec"]["hard"] = json!({"secrets": "9"}));
    model.settle();
    assert_eq!(model.get(&key)["status"], json!({"hard": {"secrets": "9"}, "used": {"secrets": "1"}}));
    model.change(&key, |quota| quota["status"]["hard"] = json!({"secrets": "7"}));
    model.settle();
    assert_eq!(model.get(&key)["status"]["hard"], json!({"secrets": "9"}), "others' words do not stay");
}

#[test]
fn scopes_say_which_pods_count() {
    let mut model = Model::new(1);
    let keys = ["Terminating", "NotTerminating", "BestEffort", "NotBestEffort"]
        .map(|scope| quota(&mut model, &scope.to_lowercase(), json!({"pods": "5"}), json!([scope])));
    let counts = |model: &mut Model| {
        model.settle();
        keys.each_ref().map(|key| used(model, key)["pods"].as_str().unwrap().to_owned())
    };
    let long = waiting(&mut model, "long", &json!({}));
    waiting(&mut model, "small", &json!({"containers": [{"name": "c", "image": "i"}]}));
    assert_eq!(counts(&mut model), ["0", "2", "1", "1"]);
    model.change(&long, |pod| pod["spec"]["activeDeadlineSeconds"] = 3_600.into());
    assert_eq!(counts(&mut model), ["1", "1", "1", "1"]);
}

#[test]
fn a_pod_that_does_not_end_in_time_counts_no_longer() {
    let mut model = Model::new(1);
    let key = quota(&mut model, "few", json!({"pods": "5", "count/pods": "5"}), json!([]));
    let one = waiting(&mut model, "one", &json!({}));
    let until = model.now + SignedDuration::from_secs(30);
    model.change(&one, |pod| {
        pod["metadata"]["deletionTimestamp"] = until.to_string().into();
        pod["metadata"]["deletionGracePeriodSeconds"] = 30.into();
        pod["metadata"]["finalizers"] = json!(["a/b"]);
    });
    model.settle();
    assert_eq!(used(&model, &key), json!({"pods": "1", "count/pods": "1"}));
    assert!(model.wake_at() <= until + SignedDuration::from_secs(30));
    model.now = until + SignedDuration::from_secs(31);
    model.settle();
    assert_eq!(
        used(&model, &key),
        json!({"pods": "0", "count/pods": "1"}),
        "it is there and may be replaced"
    );
}

#[test]
fn a_replication_controller_makes_as_many_pods_as_are_allowed_and_says_so() {
    let mut model = Model::new(1);
    (model.gate, model.may_refuse) = (Some(Gate::new(&ClusterConfig::default())), true);
    let few = quota(&mut model, "few", json!({"pods": "2"}), json!([]));
    model.settle();
    let controller = json!({"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "web"},
        "spec": {"replicas": 3, "selector": {"app": "web"}, "template": {"metadata": {"labels": {"app": "web"}},
            "spec": {"nodeSelector": {"nobody": "has"}, "containers": [{"name": "c", "image": "i"}]}}}});
    let mut complete = controller;
    warren_objects::defaults::apply(
        warren_objects::kinds::of(REPLICATIONCONTROLLERS).unwrap(),
        &mut complete,
    );
    let set = model.put(REPLICATIONCONTROLLERS, "default", complete);
    for _ in 0..20 {
        model.pass();
    }
    assert_eq!(model.pods().count(), 2);
    assert_eq!(used(&model, &few)["pods"], "2");
    let failed = condition(model.get(&set), "ReplicaFailure");
    assert_eq!((&failed["status"], &failed["reason"]), (&json!("True"), &json!("FailedCreate")));
    assert!(
        failed["message"].as_str().unwrap().contains("exceeded quota: few, requested: pods=1"),
        "{failed}"
    );
    model.change(&set, |set| set["spec"]["replicas"] = 2.into());
    for _ in 0..10 {
        model.pass();
    }
    assert!(condition(model.get(&set), "ReplicaFailure").is_null());
}

#[test]
fn what_counts_as_before_is_no_work() {
    let mut model = Model::new(1);
    quota(&mut model, "few", json!({"pods": "5"}), json!([]));
    let one = waiting(&mut model, "one", &json!({}));
    model.settle();
    let status = |model: &Model| {
        model.plan().steps.iter().any(|step| step.why.starts_with("status of resourcequotas"))
    };
    model.change(&one, |pod| pod["status"]["message"] = "news".into());
    assert!(!status(&model));
    model.change(&one, |pod| pod["status"]["phase"] = "Succeeded".into());
    assert!(status(&model));
}
