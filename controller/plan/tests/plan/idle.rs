//! Kinds that are kept and not run say so, once per object.

use jiff::SignedDuration;
use serde_json::{Value, json};
use warren_objects::kinds::KINDS;
use warren_vocabulary::resources::*;

use crate::model::Model;

const CLAIMS: &str = PERSISTENTVOLUMECLAIMS;

fn claim(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": {}})
}

fn events(model: &Model) -> Vec<Value> {
    let ours = |event: &Value| event["reason"] == "NotImplemented";
    model.list(EVENTS).filter(|(_, event)| ours(event)).map(|(_, event)| event.clone()).collect()
}

#[test]
fn an_object_that_is_not_run_has_one_event() {
    let mut model = Model::new(1);
    let key = model.put(CLAIMS, "default", claim("db"));
    model.settle();
    let told = events(&model);
    assert_eq!(told.len(), 1);
    assert_eq!((&told[0]["type"], &told[0]["count"]), (&json!("Warning"), &json!(1)));
    assert_eq!(told[0]["message"], "warren does not bind PersistentVolumeClaims yet: it stays Pending");
    assert_eq!(told[0]["involvedObject"]["uid"], model.get(&key)["metadata"]["uid"]);
    assert_eq!(told[0]["metadata"]["namespace"], "default");
    for _ in 0..20 {
        assert!(!model.pass(), "it is said once, not in every pass");
    }
    model.change(&key, |value| value["spec"]["volumeName"] = json!("disk"));
    model.settle();
    assert_eq!(events(&model), told, "a change is no news");
}

#[test]
fn it_is_told_again_when_the_event_has_expired() {
    let mut model = Model::new(1);
    let key = model.put(CLAIMS, "default", claim("db"));
    model.settle();
    model.now += SignedDuration::from_secs(3_700);
    model.settle();
    assert_eq!(events(&model).len(), 1, "the old one is gone, a new one is there");
    model.remove(&key);
    model.now += SignedDuration::from_secs(3_700);
    model.settle();
    assert!(events(&model).is_empty(), "nothing is said of what is not there");
}

#[test]
fn every_such_kind_says_it_and_a_replay_says_nothing_twice() {
    let mut model = Model::new(1);
    let idle: Vec<_> = KINDS.iter().filter(|kind| !kind.idle.is_empty() && !kind.is_converted()).collect();
    assert!(idle.iter().any(|kind| kind.kind == "PersistentVolumeClaim"));
    for kind in &idle {
        let namespace = if kind.namespaced { "default" } else { "" };
        let object = json!({"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": {"name": "a"}});
        model.put(&kind.resource, namespace, object);
    }
    let (first, replay) = (model.plan(), model.plan());
    for step in &first.steps {
        assert!(model.commit(&step.transaction), "{}", step.why);
    }
    for step in replay.steps.iter().filter(|step| step.why.contains("is not run")) {
        assert!(!model.commit(&step.transaction), "{} was done", step.why);
    }
    let told = events(&model);
    let kinds: Vec<_> = told.iter().map(|event| event["involvedObject"]["kind"].as_str().unwrap()).collect();
    for kind in &idle {
        assert!(kinds.contains(&&*kind.kind), "{} says nothing", kind.kind);
    }
    assert_eq!(told.len(), idle.len());
}

#[test]
fn many_objects_take_several_passes_and_a_namespace_that_goes_none() {
    let mut model = Model::new(1);
    model.namespace("leaving");
    for index in 0..700 {
        model.put(CLAIMS, "default", claim(&format!("db-{index}")));
    }
    let told =
        |model: &Model| model.plan().steps.iter().filter(|step| step.why.contains("is not run")).count();
    assert_eq!(told(&model), 500);
    model.settle();
    assert_eq!(events(&model).len(), 700);
    model.put(CLAIMS, "leaving", claim("db"));
    let key = warren_state::Key::new(NAMESPACES, "", "leaving");
    model.change(&key, |value| value["status"]["phase"] = "Terminating".into());
    assert_eq!(told(&model), 0);
}
