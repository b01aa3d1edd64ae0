//! What a change costs: that which it concerns, however much else there is; and how failing on one object ends.

use parking_lot::Mutex;

use super::{feed_item::Item, *};

/// What is turned to; panics at what is poisoned.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) seen: Mutex<Vec<String>>,
    pub(super) poisoned: Mutex<BTreeSet<Key>>,
}

impl Seen {
    /// What was turned to since the last time.
    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock())
    }
}

impl Progress for Seen {
    fn at(&self, stage: &'static str, key: &Key) {
        self.seen.lock().push(format!("{stage} {key}"));
        assert!(!self.poisoned.lock().contains(key), "poisoned");
    }
}

const PODS_OF_ONE: usize = 5;

/// A pod of the application of that number, on a node of many.
fn pod_of(application: usize, index: usize, revision: u64) -> Object {
    let node = format!("n{}", (application * PODS_OF_ONE + index) % 100);
    let environment = json!([{"configMapRef": {"name": format!("m{application}")}}]);
    // Variables for thousands of services would be all that this test makes.
    let links = application < 5;
    let container = json!({"name": "c", "image": "i", "envFrom": environment});
    let spec = json!({"nodeName": node, "enableServiceLinks": links, "containers": [container]});
    let metadata = json!({
        "name": format!("a{application}-{index}"), "uid": format!("u{application}-{index}"),
        "creationTimestamp": "2026-01-01T00:00:10Z",
    });
    let address = format!("10.42.{}.{}", application % 200, index + 2);
    object(PODS, "shop", revision, json!({"metadata": metadata, "spec": spec, "status": {"podIP": address}}))
}

fn service_of(application: usize, revision: u64, created: &str) -> Object {
    let spec = json!({"clusterIP": format!("10.43.{}.{}", application / 250, application % 250), "ports": [{"port": 80}]});
    let metadata = json!({"name": format!("a{application}"), "creationTimestamp": created});
    object(SERVICES, "shop", revision, json!({"metadata": metadata, "spec": spec}))
}

fn with(state: &Snapshot, object: Object) -> Snapshot {
    let mut state = state.with(Arc::new(object));
    state.revision += 1;
    state
}

/// As many applications, each with its pods, ConfigMap, service and slice; and a node for every hundredth pod.
fn cluster(applications: usize) -> Snapshot {
    let mut objects: Vec<Object> =
        (0..100).map(|index| member(&format!("n{index}"), "node", index, Some("k"))).collect();
    objects.push(member("gw", "gateway", 200, Some("k")));
    for application in 0..applications {
        objects.extend((0..PODS_OF_ONE).map(|index| pod_of(application, index, 5)));
        objects.push(config_map(&format!("m{application}"), json!({"a": "b"})));
        objects.push(service_of(application, 4, "2026-01-01T00:00:00Z"));
        objects.push(slice(&format!("a{application}"), json!([endpoint("10.42.1.2", true, true, false)])));
    }
    let backend = json!({"service": {"name": "a3", "port": {"number": 80}}});
    objects.push(ingress(json!({"defaultBackend": backend})));
    Snapshot::from_objects(9, objects)
}

#[test]
fn a_change_compiles_what_it_concerns_among_ten_thousand_pods() {
    let seen = Arc::new(Seen::default());
    let mut kept = Kept::watched(Arc::clone(&seen) as Arc<dyn Progress>);
    let mut state = cluster(2_000);
    kept.advance(&state);
    let pods = seen.take().iter().filter(|seen| seen.starts_with("compiling pods")).count();
    assert_eq!(pods, 10_000, "boot is the difference from nothing");
    let map = Object::new(Key::new(CONFIGMAPS, "shop", "m7"), 11, config_map("m7", json!({"a": "c"})).value);
    let endpoints = slice("a3", json!([endpoint("10.42.1.9", true, true, false)])).value;
    let endpoints = Object::new(Key::new(ENDPOINTSLICES, "shop", "a3-1"), 13, endpoints);
    let four =
        ["a7-0", "a7-1", "a7-2", "a7-3", "a7-4"].map(|name| format!("compiling pods pods/shop/{name}"));
    let steps = [
        (pod_of(3, 1, 10), vec!["compiling pods pods/shop/a3-1".to_owned()]),
        (map, four.to_vec()),
        // Younger than every pod: it is in no pod's environment.
        (
            service_of(5_000, 12, "2026-02-01T00:00:00Z"),
            vec!["compiling services services/shop/a5000".to_owned()],
        ),
        (
            endpoints,
            vec![
                "compiling services services/shop/a3".to_owned(),
                "compiling routes ingresses.networking.k8s.io/shop/front".to_owned(),
            ],
        ),
        (object(NODES, "", 14, json!({"metadata": {"name": "n1"}, "status": {}})), vec![]),
        (object("events", "shop", 15, json!({"metadata": {"name": "e"}})), vec![]),
    ];
    for (change, expected) in steps {
        let key = change.key.clone();
        state = with(&state, change);
        kept.advance(&state);
        assert_eq!(seen.take(), expected, "{key}");
    }
}

#[test]
fn one_object_that_we_fail_on_keeps_its_item_and_the_others_go_on() {
    let seen = Arc::new(Seen::default());
    let mut kept = Kept::watched(Arc::clone(&seen) as Arc<dyn Progress>);
    let mut state = cluster(4);
    let before = kept.compile(&state);
    let (bad_pod, bad_service) = (pod_of(0, 0, 10), service_of(1, 10, "2026-01-01T00:00:00Z"));
    let front = ingress(json!({})).key;
    *seen.poisoned.lock() = [&bad_pod.key, &bad_service.key, &front].into_iter().cloned().collect();
    let mut changed = bad_service.value;
    changed["spec"]["ports"] = json!([{"port": 81}]);
    for object in [
        bad_pod,
        Object::new(bad_service.key, 10, changed.clone()),
        Object::new(Key::new(SERVICES, "shop", "a2"), 10, {
            changed["metadata"]["name"] = "a2".into();
            changed
        }),
        Object::new(front, 10, ingress(json!({})).value),
    ] {
        state = with(&state, object);
    }
    let after = kept.compile(&state);
    let failed: Vec<_> =
        after.failures.iter().map(|failure| format!("{} {}", failure.stage, failure.key)).collect();
    let expected = [
        "compiling pods pods/shop/a0-0",
        "compiling services services/shop/a1",
        "compiling routes ingresses.networking.k8s.io/shop/front",
    ];
    assert_eq!(failed, expected);
    assert_eq!(after.agents["n0"], before.agents["n0"]);
    assert_eq!(after.gateway, before.gateway);
    assert_eq!(after.network["service/shop/a1"], before.network["service/shop/a1"]);
    assert_ne!(after.network["service/shop/a2"], before.network["service/shop/a2"], "the others go on");

    // A pod that has to end now ends, however we fail on it; one of that name with another life is another pod.
    let mut ending = pod_of(0, 0, 20).value;
    ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    ending["metadata"]["deletionGracePeriodSeconds"] = 0.into();
    state = with(&state, Object::new(Key::new(PODS, "shop", "a0-0"), 20, ending));
    let Some(Item::Pod(pod)) = kept.compile(&state).agents["n0"]["pod/u0-0"].item.clone() else { panic!() };
    assert_eq!(pod.terminate_after_seconds, Some(0));
    let mut another = pod_of(0, 0, 21).value;
    another["metadata"]["uid"] = "another".into();
    state = with(&state, Object::new(Key::new(PODS, "shop", "a0-0"), 21, another));
    let compiled = kept.compile(&state);
    let Some(Item::Pod(pod)) = compiled.agents["n0"]["pod/another"].item.clone() else { panic!() };
    assert!(!pod.containers[0].unresolved_reason.is_empty(), "nothing is known of it but that it failed");
    assert!(!compiled.agents["n0"].contains_key("pod/u0-0"));

    seen.poisoned.lock().clear();
    state = with(&state, pod_of(0, 0, 22));
    let compiled = kept.compile(&state);
    let Some(Item::Pod(pod)) = compiled.agents["n0"]["pod/u0-0"].item.clone() else { panic!() };
    assert_eq!((compiled.agents["n0"].len(), pod.containers[0].unresolved_reason.as_str()), (1, ""));
    assert_eq!(kept.failures.len(), 2, "the others were not written again");
}
