//! The history of stateful sets and daemon sets: ControllerRevisions, which users may change, too.

use serde_json::{Value, json};
use warren_state::Key;
use warren_vocabulary::resources::*;

use crate::{
    model::Model,
    sets::{daemon, gated, images, quiet, revisions, set, stateful},
};

fn revision(name: &str) -> Key {
    Key::new(CONTROLLERREVISIONS, "default", name)
}

fn uids(model: &Model) -> Vec<String> {
    model.pods().map(|(_, pod)| pod["metadata"]["uid"].as_str().unwrap().to_owned()).collect()
}

fn numbers(model: &Model) -> Vec<i64> {
    revisions(model).into_iter().map(|(number, _)| number).collect()
}

/// A copy of a revision under another name and number, with a hash of its own.
fn copy(model: &mut Model, of: &str, name: &str, number: i64) -> Key {
    let mut copy = model.get(&revision(of)).clone();
    copy["metadata"]["name"] = name.into();
    copy["metadata"]["uid"] = Value::Null;
    copy["metadata"]["labels"]["controller-revision-hash"] = "mine".into();
    copy["revision"] = number.into();
    model.put(CONTROLLERREVISIONS, "default", copy)
}

/// `kubectl rollout undo`, and others, compare the bytes with those that Go's encoder makes of the template.
#[test]
fn a_template_is_kept_as_go_writes_it() {
    for resource in [STATEFULSETS, DAEMONSETS] {
        let mut model = gated(1);
        let template = json!({
            "metadata": {"creationTimestamp": null, "labels": {"app": "a"}},
            "spec": {"hostNetwork": false, "volumes": [], "containers": [{"name": "c", "image": "i", "env": []}]},
        });
        set(&mut model, resource, "a", &json!({"template": template}));
        quiet(&mut model);
        let kept = model.list(CONTROLLERREVISIONS).next().unwrap().1["data"].to_string();
        let expected = r#"{"spec":{"template":{"$patch":"replace","metadata":{"labels":{"app":"a"}},"#
            .to_owned()
            + r#""spec":{"containers":[{"image":"i","name":"c","resources":{}}]}}}}"#;
        assert_eq!(kept, expected);
    }
}

#[test]
fn a_copy_of_the_present_revision_may_take_its_place() {
    let mut model = gated(2);
    let key = daemon(&mut model, &json!({}));
    model.settle();
    let (_, first) = revisions(&model).remove(0);
    model.change(&revision(&first), |value| value["metadata"]["labels"]["its"] = "patched".into());
    let before = uids(&model);
    let copied = copy(&mut model, &first, "every-mine", 2);
    model.settle();
    assert_eq!(numbers(&model), [1, 2]);
    model.remove(&revision(&first));
    model.settle();
    assert_eq!((numbers(&model), uids(&model)), (vec![2], before), "no pod is restarted");
    model.change(&key, |value| value["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 1.into());
    model.settle();
    assert_eq!(numbers(&model), [2, 3]);
    let after = uids(&model);
    model.remove(&copied);
    model.settle();
    assert_eq!((numbers(&model), uids(&model)), (vec![3], after));
}

#[test]
fn a_revision_that_is_deleted_is_made_again() {
    for resource in [STATEFULSETS, DAEMONSETS] {
        let mut model = gated(2);
        set(&mut model, resource, "a", &json!({"replicas": 2}));
        model.settle();
        let (before, all) = (uids(&model), revisions(&model));
        model.remove(&revision(&all[0].1));
        model.settle();
        assert_eq!((revisions(&model), uids(&model)), (all, before), "{resource}");
    }
}

#[test]
fn a_revision_without_its_hash_keeps_its_pods() {
    let mut model = gated(2);
    daemon(&mut model, &json!({}));
    model.settle();
    let (before, all) = (uids(&model), revisions(&model));
    model.change(&revision(&all[0].1), |value| {
        value["metadata"]["labels"].as_object_mut().unwrap().remove("controller-revision-hash");
    });
    model.settle();
    assert_eq!((revisions(&model), uids(&model)), (all, before));
}

/// As after `kubectl delete --cascade=orphan`.
#[test]
fn a_set_that_is_made_again_adopts_pods_and_revisions() {
    for resource in [STATEFULSETS, DAEMONSETS] {
        let mut model = gated(2);
        let key = set(&mut model, resource, "a", &json!({"replicas": 2}));
        model.settle();
        model.set_image(&key, "image:2");
        model.settle();
        let (before, all) = (uids(&model), revisions(&model));
        let orphans: Vec<_> = [PODS, CONTROLLERREVISIONS]
            .iter()
            .flat_map(|of| model.list(of).map(|(key, _)| key.clone()))
            .collect();
        model.remove(&key);
        for orphan in &orphans {
            model.change(orphan, |value| value["metadata"]["ownerReferences"] = json!([]));
        }
        let key = set(&mut model, resource, "a", &json!({"replicas": 2}));
        model.set_image(&key, "image:2");
        model.settle();
        assert_eq!((revisions(&model), uids(&model)), (all, before), "{resource}");
        let uid = &model.get(&key)["metadata"]["uid"];
        assert!(
            orphans.iter().all(|orphan| model.get(orphan)["metadata"]["ownerReferences"][0]["uid"] == *uid)
        );
        model.set_image(&key, "image:1");
        model.settle();
        assert_eq!(numbers(&model), [2, 3], "{resource}: the first one is found again");
        assert_eq!(images(&model, "a"), ["image:1", "image:1"]);
    }
}

/// As `kubectl rollout undo` does: the template is what the revision says.
#[test]
fn undoing_finds_the_revision_that_it_undoes_to() {
    for resource in [STATEFULSETS, DAEMONSETS] {
        let mut model = gated(2);
        let template = json!({
            "metadata": {"creationTimestamp": null, "labels": {"app": "a"}},
            "spec": {"hostNetwork": false, "containers": [{"name": "c", "image": "image:1", "env": []}]},
        });
        let key = set(&mut model, resource, "a", &json!({"replicas": 2, "template": template}));
        model.settle();
        let (_, first) = revisions(&model).remove(0);
        model.set_image(&key, "image:2");
        model.settle();
        let mut back = model.get(&revision(&first))["data"]["spec"]["template"].clone();
        back.as_object_mut().unwrap().remove("$patch");
        model.change(&key, |value| value["spec"]["template"] = back);
        model.settle();
        assert_eq!((numbers(&model), &revisions(&model)[1].1), (vec![2, 3], &first), "{resource}");
        assert_eq!(images(&model, "a"), ["image:1", "image:1"]);
        let labels = model.pods().map(|(_, pod)| &pod["metadata"]["labels"]["controller-revision-hash"]);
        assert!(labels.into_iter().all(|hash| first.ends_with(hash.as_str().unwrap())));
    }
}

#[test]
fn a_name_that_is_taken_is_counted_and_avoided() {
    let mut model = gated(1);
    let key = stateful(&mut model, 1, json!({}));
    model.settle();
    let (_, name) = revisions(&model).remove(0);
    let owner = model.put(CONFIGMAPS, "default", json!({"metadata": {"name": "owner"}}));
    let reference = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "controller": true,
        "uid": model.get(&owner)["metadata"]["uid"]}]);
    model.change(&revision(&name), |value| {
        value["metadata"]["ownerReferences"] = reference;
        value["data"] = json!({"spec": {}});
    });
    model.settle();
    assert_eq!(model.get(&key)["status"]["collisionCount"], 1);
    let current = &model.get(&key)["status"]["currentRevision"];
    assert_ne!(*current, json!(name));
    assert!(model.objects.contains_key(&revision(current.as_str().unwrap())));
}
