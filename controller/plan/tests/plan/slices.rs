//! Services with more pods than a slice holds.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use warren_state::Key;
use warren_vocabulary::resources::*;

use crate::model::Model;

/// A service with so many ready pods on three nodes.
fn large(pods: u32) -> Model {
    let mut model = Model::new(3);
    (1..=3).for_each(|node| model.node(node, "400", "800Gi", "1000"));
    model.service("web", "web");
    for number in 0..pods {
        let (node, host) = (number % 3 + 1, number / 3 + 2);
        drop(model.put(
            PODS,
            "default",
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": format!("web-{number:03}"), "labels": {"app": "web"}},
                "spec": {"nodeName": format!("node-{node}"), "containers": [{"name": "c", "image": "i",
                    "ports": [{"name": "http", "containerPort": 8080}]}]},
                "status": {"phase": "Running", "podIP": format!("10.42.{node}.{host}"),
                    "conditions": [{"type": "Ready", "status": "True"}]},
            }),
        ));
    }
    model.settle();
    model
}

fn slices(model: &Model) -> Vec<(Key, u64, Value)> {
    let slices = model.objects.iter().filter(|(key, _)| *key.resource == *ENDPOINTSLICES);
    slices.map(|(key, (revision, value))| (key.clone(), *revision, value.clone())).collect()
}

#[test]
fn no_slice_has_more_than_a_hundred_endpoints_and_none_is_left_out() {
    for pods in [100, 101, 250, 600] {
        let model = large(pods);
        let sizes: Vec<usize> =
            slices(&model).iter().map(|(_, _, slice)| slice["endpoints"].as_array().unwrap().len()).collect();
        assert!(sizes.iter().all(|size| *size <= 100), "{sizes:?}");
        assert!(sizes.len() <= 2 * pods.div_ceil(100) as usize, "{sizes:?}");
        let addresses: BTreeSet<String> =
            model.endpoints("web").iter().map(|endpoint| endpoint["addresses"][0].to_string()).collect();
        assert_eq!((addresses.len(), model.ready_endpoints("web")), (pods as usize, pods as usize));
    }
}

#[test]
fn a_pod_that_changes_writes_its_own_slice_alone() {
    let mut model = large(600);
    let before = slices(&model);
    let pod = Key::new(PODS, "default", "web-123");
    model.change(&pod, |value| value["status"]["conditions"][0]["status"] = "False".into());
    model.pass();
    let written = slices(&model).into_iter().filter(|slice| !before.contains(slice)).count();
    assert_eq!((written, model.ready_endpoints("web")), (1, 599));
    model.remove(&pod);
    model.pass();
    assert_eq!((slices(&model).len(), model.endpoints("web").len()), (before.len(), 599));
}

#[test]
fn a_pod_in_one_of_many_slices_stops_when_its_slice_is_acknowledged() {
    let mut model = large(250);
    model.acknowledging = false;
    let pod = Key::new(PODS, "default", "web-200");
    let until = model.now + jiff::SignedDuration::from_secs(30);
    model.change(&pod, |value| {
        value["metadata"]["deletionTimestamp"] = until.to_string().into();
        value["metadata"]["deletionGracePeriodSeconds"] = 30.into();
    });
    model.pass();
    let stops = |model: &Model| {
        !model.get(&pod)["metadata"]["annotations"][warren_vocabulary::STOP_ANNOTATION].is_null()
    };
    assert!(!stops(&model));
    model.acknowledged = model.revision;
    model.pass();
    assert!(stops(&model), "the others serve");
}
