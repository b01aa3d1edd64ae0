//! Small objects that ask for a great deal: what they get is bounded, and what is around them goes on.

use serde_json::{Value, json};
use warren_store::Key;
use warren_vocabulary::resources::*;

use crate::world::World;

fn meta(name: &str) -> Value {
    json!({
        "name": name, "namespace": "default", "uid": format!("uid-{name}"), "generation": 1, "labels": {"app": name},
        "creationTimestamp": "2026-01-01T00:00:00Z",
    })
}

fn pod(world: &mut World, annotations: Value, spec: Value) {
    let mut all = json!({"nodeName": "node-2", "containers": [{"name": "c", "image": "i"}]});
    all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let mut metadata = meta("p");
    metadata["annotations"] = annotations;
    world.add(PODS, json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": all}));
}

fn many(count: usize, item: impl Fn(usize) -> Value) -> Value {
    (0..count).map(item).collect()
}

fn env(name: &str, value: &str) -> Value {
    json!({"name": name, "value": value})
}

#[test]
fn variables_that_repeat_variables() {
    let mut world = World::new();
    let tenfold = many(9, |index| match index {
        0 => env("V0", "0123456789"),
        _ => env(&format!("V{index}"), &format!("$(V{})", index - 1).repeat(10)),
    });
    pod(&mut world, json!({}), json!({"containers": [{"name": "c", "image": "i", "env": tenfold}]}));
    let doubling = many(5_000, |index| env("A", if index == 0 { "x" } else { "$(A)$(A)" }));
    pod(&mut world, json!({}), json!({"containers": [{"name": "c", "image": "i", "env": doubling}]}));
    let args = many(5_000, |_| json!("$(A)".repeat(100)));
    let long = json!([env("A", &"x".repeat(100_000))]);
    pod(
        &mut world,
        json!({}),
        json!({"containers": [{"name": "c", "image": "i", "env": long, "args": args}]}),
    );
    world.settle();
}

#[test]
fn many_containers_that_take_much() {
    let mut world = World::new();
    world.put(
        Key::new(CONFIGMAPS, "default", "large"),
        json!({"metadata": meta("large"), "data": {"k": "x".repeat(1 << 20)}}),
    );
    let from = json!([{"configMapRef": {"name": "large"}}]);
    let containers =
        many(10_000, |index| json!({"name": format!("c{index}"), "image": "i", "envFrom": from}));
    pod(&mut world, json!({}), json!({"containers": containers}));
    let volumes = many(20_000, |index| json!({"name": format!("v{index}"), "configMap": {"name": "large"}}));
    pod(&mut world, json!({}), json!({"volumes": volumes}));
    let field = json!({"fieldRef": {"fieldPath": "metadata.annotations"}});
    let variables = many(10_000, |index| json!({"name": format!("V{index}"), "valueFrom": field}));
    let note = json!({"note": "\u{1}".repeat(200_000)});
    pod(&mut world, note.clone(), json!({"containers": [{"name": "c", "image": "i", "env": variables}]}));
    let items = many(
        10_000,
        |index| json!({"path": format!("p{index}"), "fieldRef": {"fieldPath": "metadata.annotations"}}),
    );
    pod(&mut world, note, json!({"volumes": [{"name": "v", "downwardAPI": {"items": items}}]}));
    world.settle();
}

#[test]
fn long_lists_that_refer_to_long_lists() {
    let mut world = World::new();
    let volumes = many(30_000, |index| json!({"name": format!("v{index}"), "emptyDir": {}}));
    let mounts = many(
        30_000,
        |index| json!({"name": format!("v{}", 29_999 - index), "mountPath": format!("/{index}")}),
    );
    pod(
        &mut world,
        json!({}),
        json!({"volumes": volumes, "containers": [{"name": "c", "image": "i", "volumeMounts": mounts}]}),
    );
    let options = many(60_000, |index| json!({"name": format!("o{index}"), "value": "1"}));
    pod(&mut world, json!({}), json!({"dnsConfig": {"options": options}}));
    pod(
        &mut world,
        json!({}),
        json!({"containers": [{"name": "c", "image": "i", "args": ["$(".repeat(1_000_000)]}]}),
    );
    world.settle();
}

#[test]
fn numbers_of_pods_that_nobody_can_run() {
    let mut world = World::new();
    let template = json!({
        "metadata": {"labels": {"app": "many"}, "annotations": {"note": "x".repeat(200_000)}},
        "spec": {"nodeSelector": {"no": "node"}, "containers": [{"name": "c", "image": "i"}]},
    });
    let spec =
        json!({"replicas": i32::MAX, "selector": {"matchLabels": {"app": "many"}}, "template": template});
    world.add(
        DEPLOYMENTS,
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta("many"), "spec": spec}),
    );
    world.settle();
}

#[test]
fn ports_times_endpoints() {
    let mut world = World::new();
    let ports = many(
        10_000,
        |index| json!({"name": format!("p{index}"), "port": index + 1, "protocol": "TCP", "targetPort": format!("p{}", index % 7)}),
    );
    let wide = json!({"metadata": meta("wide"), "spec": {"clusterIP": "10.43.0.78", "selector": {"app": "p"}, "ports": ports}});
    world.put(Key::new(SERVICES, "default", "wide"), wide);
    for (name, headless) in [("by-hand", false), ("headless", true)] {
        let address = if headless { "None" } else { "10.43.0.79" };
        world.put(
            Key::new(SERVICES, "default", name),
            json!({"metadata": meta(name), "spec": {"clusterIP": address, "ports": many(10_000, |index| json!({"name": format!("p{index}"), "port": index + 1, "protocol": "TCP"}))}}),
        );
        for slice in 0..3 {
            let mut metadata = meta(&format!("{name}-{slice}"));
            metadata["labels"] = json!({"kubernetes.io/service-name": name});
            let endpoints = many(
                1_000,
                |index| json!({"addresses": [format!("192.0.{}.{}", index / 250 + 10 * slice, index % 250)], "conditions": {"ready": true}}),
            );
            world.put(
                Key::new(ENDPOINTSLICES, "default", &format!("{name}-{slice}")),
                json!({"metadata": metadata, "addressType": "IPv4", "endpoints": endpoints,
                    "ports": many(10_000, |index| json!({"name": format!("p{index}"), "port": index + 1, "protocol": "TCP"}))}),
            );
        }
    }
    let paths = many(10_000, |index| {
        json!({"path": format!("/{index}"), "pathType": "Prefix",
        "backend": {"service": {"name": "by-hand", "port": {"number": 1}}}})
    });
    world.put(
        Key::new(INGRESSES, "default", "wide"),
        json!({"metadata": meta("wide"), "spec": {"rules": [{"http": {"paths": paths}}]}}),
    );
    for index in 0..100 {
        let ports =
            many(7, |port| json!({"name": format!("p{port}"), "containerPort": 1_000 + port + 7 * index}));
        pod(&mut world, json!({}), json!({"containers": [{"name": "c", "image": "i", "ports": ports}]}));
    }
    world.settle();
}

#[test]
fn long_chains_and_large_circles_of_owners() {
    let mut world = World::new();
    let owner = |name: &str| json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": format!("uid-{name}"), "blockOwnerDeletion": true}]);
    for (prefix, count, round) in [("chain", 20, false), ("ring", 2_000, true)] {
        for index in 0..count {
            let mut metadata = meta(&format!("{prefix}{index}"));
            metadata["finalizers"] = json!(["foregroundDeletion"]);
            metadata["deletionTimestamp"] = "2026-06-01T12:00:00Z".into();
            if round || index > 0 {
                metadata["ownerReferences"] = owner(&format!("{prefix}{}", (index + count - 1) % count));
            }
            world.put(
                Key::new(CONFIGMAPS, "default", &format!("{prefix}{index}")),
                json!({"metadata": metadata}),
            );
        }
    }
    world.settle();
    world.assert_gone(CONFIGMAPS, "chain");
    world.assert_gone(CONFIGMAPS, "ring");
}

#[test]
fn many_hosts_with_one_large_certificate() {
    let mut world = World::new();
    // Base64 of zeros: no certificate, and all of it must be looked through to know.
    let data = json!({"tls.crt": "AAAA".repeat(250_000), "tls.key": "AAAA".repeat(60_000), "auth": "AAAA".repeat(10_000)});
    world.put(
        Key::new(SECRETS, "default", "large"),
        json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": meta("large"), "data": data}),
    );
    let tls =
        many(20_000, |index| json!({"hosts": [format!("h{index}.example.com")], "secretName": "large"}));
    let mut metadata = meta("wide");
    metadata["annotations"] = json!({
        "nginx.ingress.kubernetes.io/auth-type": "basic",
        "nginx.ingress.kubernetes.io/auth-secret": "large",
    });
    let rules = many(5_000, |index| {
        json!({"host": format!("h{index}.example.com"), "http": {"paths": [{"path": "/", "pathType": "Prefix",
            "backend": {"service": {"name": "web", "port": {"number": 80}}}}]}})
    });
    world.put(
        Key::new(INGRESSES, "default", "wide"),
        json!({"metadata": metadata, "spec": {"tls": tls, "rules": rules}}),
    );
    world.settle();
}
