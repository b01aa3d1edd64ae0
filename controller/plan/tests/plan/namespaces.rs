//! What every namespace that lives has.

use serde_json::{Value, json};
use warren_plan::resources::*;
use warren_store::Key;

use crate::model::Model;

/// Lets the planners come to rest with certificates to give away; the answer is whether they had anything to do.
fn settle(model: &mut Model, pem: &str) -> bool {
    for round in 0..50 {
        let mut world = model.world();
        world.config.ca_pem = pem.to_owned();
        let plan = warren_plan::plan(&world, model.now);
        if plan.steps.is_empty() {
            return round > 0;
        }
        for step in plan.steps {
            assert!(model.commit(&step.transaction), "{}", step.why);
        }
    }
    panic!("the planners do not come to rest");
}

fn certificates(namespace: &str) -> Key {
    Key::new(CONFIGMAPS, namespace, "kube-root-ca.crt")
}

#[test]
fn every_namespace_has_the_certificates_of_the_api() {
    let mut model = Model::new(1);
    model.namespace("shop");
    settle(&mut model, "");
    assert!(!model.objects.contains_key(&certificates("shop")), "there are none to give");
    settle(&mut model, "PEM");
    for namespace in ["default", "shop"] {
        let map = model.get(&certificates(namespace));
        assert_eq!(map["data"], json!({"ca.crt": "PEM"}));
        assert_eq!(map["metadata"]["namespace"], namespace);
    }
    assert!(!settle(&mut model, "PEM"), "stable");
    // What is changed or removed is put back; a new authority replaces the old one; what others added stays.
    model.change(&certificates("shop"), |map| {
        map["data"] = json!({"ca.crt": "forged", "more": "x"});
        map["metadata"]["labels"] = json!({"mine": "yes"});
    });
    model.remove(&certificates("default"));
    settle(&mut model, "PEM");
    assert_eq!(model.get(&certificates("shop"))["data"], json!({"ca.crt": "PEM"}));
    assert_eq!(model.get(&certificates("shop"))["metadata"]["labels"], json!({"mine": "yes"}));
    assert_eq!(model.get(&certificates("default"))["data"]["ca.crt"], "PEM");
    settle(&mut model, "NEW");
    assert_eq!(model.get(&certificates("shop"))["data"]["ca.crt"], "NEW");
}

#[test]
fn a_namespace_that_goes_gets_nothing_more() {
    let mut model = Model::new(1);
    model.namespace("shop");
    settle(&mut model, "PEM");
    // Somebody holds the certificates themselves.
    model.change(&certificates("shop"), |map| map["metadata"]["finalizers"] = json!(["example.com/hold"]));
    let key = Key::new(NAMESPACES, "", "shop");
    let now = model.now.to_string();
    model.change(&key, |value| value["metadata"]["deletionTimestamp"] = now.into());
    settle(&mut model, "NEW");
    let held = model.get(&certificates("shop"));
    assert_eq!(held["data"]["ca.crt"], "PEM", "what goes is left alone");
    assert!(!held["metadata"]["deletionTimestamp"].is_null());
    model.change(&certificates("shop"), |map| map["metadata"]["finalizers"] = Value::Null);
    model.remove(&certificates("shop"));
    settle(&mut model, "NEW");
    assert!(!model.objects.contains_key(&certificates("shop")));
    assert!(!model.objects.contains_key(&key));
}
