//! Numbers at the edges of their types, in every place where users write them.

use serde_json::{Value, json};
use warren_state::Key;
use warren_vocabulary::resources::*;

use crate::{
    model::{Model, rolling},
    sets::{daemon, end, ready, stateful},
};

const REVISION: &str = "deployment.kubernetes.io/revision";
const MAXIMUM: &str = "deployment.kubernetes.io/max-replicas";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const NUMBERS: [&str; 7] =
    ["9223372036854775807", "-9223372036854775808", "0", "-1", "2147483648", "99999999999999999999", ""];

fn annotate(model: &mut Model, key: &Key, name: &str, text: &str) {
    model.change(key, |value| value["metadata"]["annotations"][name] = text.into());
}

fn sets(model: &Model) -> Vec<Key> {
    model.list(REPLICASETS).map(|(key, _)| key.clone()).collect()
}

#[test]
fn any_revision_on_a_replica_set_lets_the_rollout_go_on() {
    for number in NUMBERS {
        let mut model = Model::new(2);
        let key = model.deployment("web", 2, json!({}));
        model.settle();
        for set in sets(&model) {
            annotate(&mut model, &set, REVISION, number);
        }
        annotate(&mut model, &key, REVISION, number);
        for image in ["image:2", "image:3", "image:1"] {
            model.set_image(&key, image);
            model.settle();
            assert_eq!(model.active("web").count(), 2, "{number}");
        }
    }
}

#[test]
fn any_size_noted_on_a_replica_set_lets_a_deployment_scale() {
    for number in NUMBERS {
        for strategy in
            [rolling(json!(i32::MAX), json!(0)), rolling(json!("9223372036854775807%"), json!("50%"))]
        {
            let mut model = Model::new(2);
            model.broken = Some("image:2");
            let key = model.deployment("web", 4, strategy);
            model.settle();
            // A rollout that is stuck: two sets with pods.
            model.set_image(&key, "image:2");
            model.settle();
            for set in sets(&model) {
                annotate(&mut model, &set, MAXIMUM, number);
                annotate(&mut model, &set, DESIRED, "1");
            }
            model.change(&key, |value| value["spec"]["replicas"] = 6.into());
            model.settle();
            model.broken = None;
            model.settle();
            assert_eq!(model.active("web").count(), 6, "{number}");
            for (set, value) in model.list(REPLICASETS) {
                let replicas = value["spec"]["replicas"].as_i64().unwrap();
                assert!((0..=i64::from(i32::MAX)).contains(&replicas), "{set}: {replicas}");
            }
        }
    }
}

#[test]
fn counters_at_their_end_stay_there() {
    let mut model = Model::new(1);
    let key = model.deployment("web", 1, json!({}));
    model.change(&key, |value| {
        value["status"] = json!({"collisionCount": i32::MAX, "replicas": i32::MAX});
        value["metadata"]["generation"] = i64::MAX.into();
    });
    model.settle();
    let set = sets(&model).remove(0);
    model.write(set.clone(), {
        let mut value = model.get(&set).clone();
        value["metadata"]["generation"] = i64::MAX.into();
        value
    });
    model.write(key.clone(), {
        let mut value = model.get(&key).clone();
        value["spec"]["replicas"] = 2.into();
        value
    });
    model.settle();
    assert_eq!(model.active("web").count(), 2);
    assert_eq!(model.get(&set)["metadata"]["generation"], i64::MAX);
}

#[test]
fn any_time_and_grace_lets_a_pod_end() {
    for (grace, time) in [
        (i64::MAX, "9999-12-30T22:00:00Z"),
        (i64::MIN, "-009999-01-02T01:59:59Z"),
        (-1, "1970-01-01T00:00:00Z"),
        (i64::MAX, "2026-11-22T12:00:00Z"),
        (i64::MIN, "9999-12-30T22:00:00Z"),
    ] {
        let mut model = Model::new(1);
        model.deployment("web", 1, json!({}));
        model.service("web", "web");
        model.settle();
        let pod = model.pods().next().unwrap().0.clone();
        model.change(&pod, |value| {
            value["metadata"]["deletionTimestamp"] = time.into();
            value["metadata"]["creationTimestamp"] = time.into();
            value["metadata"]["deletionGracePeriodSeconds"] = grace.into();
            value["spec"]["terminationGracePeriodSeconds"] = grace.into();
        });
        model.settle();
        assert!(!model.objects.contains_key(&pod), "{grace} {time}");
    }
}

#[test]
fn any_toleration_and_grace_is_survived_when_a_node_is_lost() {
    for (seconds, grace) in [(i64::MAX, i64::MAX), (i64::MIN, i64::MIN), (-1, 0)] {
        let mut model = Model::new(2);
        let key = model.deployment("web", 2, json!({}));
        model.change(&key, |value| {
            let spec = &mut value["spec"]["template"]["spec"];
            spec["tolerations"] =
                json!([{"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}]);
            spec["terminationGracePeriodSeconds"] = grace.into();
            spec["priority"] = i32::MIN.into();
        });
        model.settle();
        model.hear(1, 1_000_000_000);
        model.settle();
        let (stay, _) = (model.spread("web")[0], model.spread("web")[1]);
        assert_eq!(stay, usize::from(seconds == i64::MAX), "{seconds}");
    }
}

#[test]
fn an_event_that_was_counted_to_the_end_is_counted_no_further() {
    let mut model = Model::new(1);
    let key = model.deployment("web", 0, json!({}));
    let scale = |model: &mut Model, replicas: i64| {
        model.change(&key, |value| value["spec"]["replicas"] = replicas.into());
        model.settle();
    };
    model.settle();
    scale(&mut model, 1);
    scale(&mut model, 0);
    let events: Vec<Key> = model.list(EVENTS).map(|(key, _)| key.clone()).collect();
    for count in [json!(i32::MAX), json!(i64::MAX), json!(i64::MIN), json!("many"), json!(1.5), Value::Null] {
        events.iter().for_each(|event| model.change(event, |value| value["count"] = count.clone()));
        scale(&mut model, 1);
        scale(&mut model, 0);
        for event in &events {
            let counted = &model.get(event)["count"];
            assert!(counted.as_i64().is_none_or(|count| count <= i64::from(i32::MAX)) || *counted == count);
        }
    }
}

const LIMITS: [i32; 5] = [i32::MIN, -1, 0, 1, i32::MAX];

/// Whatever an earlier version may have let in: passes without a panic, and pods that are not made and deleted for ever.
fn bears(model: &mut Model, what: &str) {
    for _ in 0..40 {
        let planned = model.pass();
        if !model.agents() && !planned {
            return;
        }
    }
    let steps: Vec<_> = model.plan().steps.into_iter().map(|step| step.why).collect();
    assert!(steps.is_empty(), "{what}: {steps:?}");
}

#[test]
fn any_number_in_a_stateful_set_is_borne() {
    let fields = [
        "/minReadySeconds",
        "/revisionHistoryLimit",
        "/ordinals/start",
        "/updateStrategy/rollingUpdate/partition",
        "/updateStrategy/rollingUpdate/maxUnavailable",
    ];
    for (field, number) in fields.iter().flat_map(|field| LIMITS.map(|number| (*field, number))) {
        let mut model = Model::new(1);
        let more = json!({"ordinals": {"start": 0}, "updateStrategy": {"type": "RollingUpdate",
            "rollingUpdate": {"partition": 0, "maxUnavailable": 1}}, "minReadySeconds": 0, "revisionHistoryLimit": 1});
        let key = stateful(&mut model, 2, more);
        model.settle();
        model.change(&key, |value| *value["spec"].pointer_mut(field).unwrap() = number.into());
        model.set_image(&key, "image:2");
        bears(&mut model, &format!("{field} {number}"));
    }
}

#[test]
fn any_number_in_a_daemon_set_is_borne() {
    let huge = "9223372036854775807%";
    for number in LIMITS {
        for (unavailable, surge) in [
            (json!(number), json!(0)),
            (json!(0), json!(number)),
            (json!(huge), json!(number)),
            (json!(number), json!(huge)),
        ] {
            let mut model = Model::new(2);
            let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": unavailable, "maxSurge": surge}});
            let key = daemon(&mut model, &json!({"minReadySeconds": number, "updateStrategy": rolling}));
            for image in ["image:1", "image:2"] {
                model.set_image(&key, image);
                bears(&mut model, &format!("{number} {unavailable} {surge}"));
            }
        }
    }
}

#[test]
fn any_text_where_sets_keep_numbers_is_borne() {
    for number in NUMBERS {
        let mut model = Model::new(1);
        daemon(&mut model, &json!({}));
        model.settle();
        let pod = model.pods().next().unwrap().0.clone();
        annotate(&mut model, &pod, "warren.dev/failures", number);
        end(&mut model, &pod, "Failed");
        bears(&mut model, number);
        model.now += jiff::SignedDuration::from_secs(1_000);
        model.settle();
        assert_eq!(ready(&model, "every"), 1, "{number}");
    }
}

#[test]
fn any_number_of_a_revision_and_of_collisions_is_borne() {
    for (number, collisions) in [(i64::MAX, i32::MAX), (i64::MIN, i32::MIN), (-1, -1)] {
        let mut model = Model::new(1);
        let keys = [stateful(&mut model, 1, json!({})), daemon(&mut model, &json!({}))];
        model.settle();
        let revisions: Vec<_> = model.list(CONTROLLERREVISIONS).map(|(key, _)| key.clone()).collect();
        for key in &revisions {
            model.change(key, |value| value["revision"] = number.into());
        }
        for image in ["image:2", "image:3", "image:1"] {
            for key in &keys {
                model.change(key, |value| value["status"]["collisionCount"] = collisions.into());
                model.set_image(key, image);
            }
            model.settle();
            assert!(
                model.pods().all(|(_, pod)| pod["spec"]["containers"][0]["image"] == image),
                "{number}: {image}"
            );
        }
    }
}
