//! What the gate refuses of the planners' writes comes back to them: it is said at the owner, and tried again ever after.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde_json::json;
use warren_plan::RefusedWrite;
use warren_state::{Key, Snapshot, Write};
use warren_vocabulary::{ClusterConfig, resources::*};
use warren_write::{
    Gate, Refusal, Review, Verb,
    chain::{self, Step},
};

use crate::model::{Model, condition};

/// Lets no more than so many objects of a resource be there.
struct Quota(&'static str, Arc<AtomicUsize>);

impl Step for Quota {
    fn name(&self) -> &'static str {
        "quota"
    }

    fn review(&self, snapshot: &Snapshot, review: &mut Review<'_>) -> Result<(), Refusal> {
        let is_counted = |write: &&Write| matches!(write, Write::Put(key, _) if &*key.resource == self.0);
        let before = review.before.iter().filter(is_counted).count();
        let is_full = snapshot.list(self.0).count() + before >= self.1.load(Ordering::Relaxed);
        if review.verb == Verb::Create && review.kind.resource == self.0 && is_full {
            return Err(Refusal::forbidden(review.kind, review.name(), "exceeded quota: few"));
        }
        Ok(())
    }
}

fn bounded(model: &mut Model, resource: &'static str, most: usize) -> Arc<AtomicUsize> {
    let most = Arc::new(AtomicUsize::new(most));
    let mut chain = chain::standard(&ClusterConfig::default());
    chain.push(Box::new(Quota(resource, Arc::clone(&most))));
    model.gate = Some(Gate::with_chain(chain));
    model.may_refuse = true;
    most
}

/// So many passes, with what agents do after each.
fn passes(model: &mut Model, count: usize) {
    for _ in 0..count {
        model.pass();
        model.agents();
    }
}

#[test]
fn pods_that_are_refused_are_told_at_the_set_and_its_deployment_until_they_come() {
    let mut model = Model::new(2);
    let most = bounded(&mut model, PODS, 0);
    let deployment = model.deployment("web", 4, json!({}));
    passes(&mut model, 12);
    assert_eq!(model.pods().count(), 0);
    assert!((2..=6).contains(&model.refused), "tried again, but not in every pass: {}", model.refused);
    let set = model.list(REPLICASETS).next().unwrap().0.clone();
    for key in [&set, &deployment] {
        let said = condition(model.get(key), "ReplicaFailure").clone();
        assert_eq!((&said["status"], &said["reason"]), (&json!("True"), &json!("FailedCreate")), "{key}");
        let message = said["message"].as_str().unwrap();
        assert!(message.starts_with("pods \"web-") && message.ends_with("is forbidden: exceeded quota: few"));
    }
    let event = model.list(EVENTS).find(|(_, event)| event["reason"] == "FailedCreate").unwrap().1;
    assert_eq!((&event["type"], &event["involvedObject"]["kind"]), (&json!("Warning"), &json!("ReplicaSet")));
    assert!(event["message"].as_str().unwrap().starts_with("Error creating: pods \"web-"));

    most.store(2, Ordering::Relaxed);
    passes(&mut model, 20);
    assert_eq!(model.active("web").count(), 2, "as many as are let in");
    assert_eq!(condition(model.get(&deployment), "ReplicaFailure")["status"], "True");

    most.store(100, Ordering::Relaxed);
    passes(&mut model, 10);
    model.may_refuse = false;
    model.settle();
    assert_eq!(model.active("web").count(), 4);
    for key in [&set, &deployment] {
        assert!(condition(model.get(key), "ReplicaFailure").is_null(), "{key}");
    }
}

#[test]
fn a_set_that_wants_no_more_pods_says_nothing_of_refusals() {
    let mut model = Model::new(1);
    bounded(&mut model, PODS, 1);
    let deployment = model.deployment("web", 2, json!({}));
    passes(&mut model, 12);
    assert_eq!(condition(model.get(&deployment), "ReplicaFailure")["status"], "True");
    model.change(&deployment, |value| value["spec"]["replicas"] = 1.into());
    passes(&mut model, 6);
    assert!(condition(model.get(&deployment), "ReplicaFailure").is_null());
    assert_eq!(model.active("web").count(), 1);
}

#[test]
fn a_replica_set_that_is_refused_is_told_at_the_deployment() {
    let mut model = Model::new(1);
    let most = bounded(&mut model, REPLICASETS, 0);
    let deployment = model.deployment("web", 1, json!({}));
    passes(&mut model, 12);
    assert_eq!(model.list(REPLICASETS).count(), 0);
    assert!((2..=6).contains(&model.refused), "{}", model.refused);
    let said = condition(model.get(&deployment), "Progressing").clone();
    assert_eq!((&said["status"], &said["reason"]), (&json!("False"), &json!("ReplicaSetCreateError")));
    assert!(model.told("web").contains("ReplicaSetCreateError"));
    most.store(9, Ordering::Relaxed);
    model.settle();
    assert_eq!(model.active("web").count(), 1);
    assert_eq!(condition(model.get(&deployment), "Progressing")["status"], "True");
}

#[test]
fn a_template_that_is_valid_no_more_is_refused_by_the_rules() {
    let mut model = Model::new(1);
    model.gate = Some(Gate::new(&ClusterConfig::default()));
    model.may_refuse = true;
    let deployment = model.deployment("web", 1, json!({}));
    // As another version may have let it in.
    model.change(&deployment, |value| {
        value["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"] = 70_000.into();
    });
    passes(&mut model, 8);
    assert_eq!(model.pods().count(), 0);
    let told = model.told("web");
    assert!(told.contains("FailedCreate") || told.contains("ReplicaSetCreateError"), "{told:?}");
    assert!(model.refused > 0);
}

#[test]
fn what_no_planner_has_a_word_for_is_told_as_a_failure_and_is_not_tried_in_every_pass() {
    let mut model = Model::new(1);
    let service = model.service("web", "web");
    bounded(&mut model, ENDPOINTSLICES, 0);
    model.deployment("web", 1, json!({}));
    passes(&mut model, 20);
    assert_eq!(model.endpoints("web").len(), 0);
    assert!((2..=12).contains(&model.refused), "{}", model.refused);
    let said = condition(model.get(&service), "warren.dev/PlanningFailed").clone();
    assert_eq!(said["status"], "True", "{:?}", model.refusals);
    assert!(said["message"].as_str().unwrap().contains("exceeded quota: few"), "{said}");
}

#[test]
fn nothing_that_planners_write_of_their_own_accord_is_refused() {
    let mut model = Model::new(2);
    model.gate = Some(Gate::new(&ClusterConfig::default()));
    let deployment = model.deployment("web", 3, json!({}));
    model.service("web", "web");
    model.settle();
    model.set_image(&deployment, "image:2");
    model.settle();
    model.hear(1, 1_000_000_000);
    model.settle();
    assert_eq!(model.active("web").count(), 3);
    let pod = model.active("web").next().unwrap().1;
    assert_eq!(pod["spec"]["restartPolicy"], "Always", "what the template leaves out is filled in");
}

#[test]
fn only_what_was_refused_waits() {
    let mut model = Model::new(1);
    let deployment = model.deployment("web", 2, json!({}));
    model.settle();
    let set = model.list(REPLICASETS).next().unwrap().0.clone();
    let what = Key::new(PODS, "default", "");
    let until = model.now + jiff::SignedDuration::from_hours(1);
    let refused = RefusedWrite { planner: "replica sets", what, message: "no".into(), until };
    model.refusals.insert(set, vec![refused]);
    model.change(&deployment, |value| value["spec"]["replicas"] = 1.into());
    model.settle();
    assert_eq!(model.active("web").count(), 1, "pods may be deleted");
    model.change(&deployment, |value| value["spec"]["replicas"] = 3.into());
    model.settle();
    assert_eq!(model.active("web").count(), 1, "and none is made");
    assert_eq!(model.refused, 0, "nor tried");
}
