//! What others would have to find out later (a node, a gateway, a reader of a log) is refused when it is written.

use serde_json::{Value, json};
use warren_objects::{defaults, validate};

use crate::samples::{SAMPLES, served, yaml};

fn defaulted(resource: &str, mut value: Value) -> Value {
    defaults::apply(served(resource), &mut value);
    value
}

#[test]
fn nobody_is_sent_to_the_machine_itself() {
    let slice = |address: &str, kind: &str| {
        let good = if kind == "IPv4" { "10.42.0.1" } else { "fd00::1" };
        json!({"metadata": {"name": "web", "namespace": "shop"}, "addressType": kind,
            "endpoints": [{"addresses": [good]}, {"addresses": [address]}], "ports": []})
    };
    let judged = |address: &str, kind: &str| -> Vec<String> {
        let errors = validate::create(served("endpointslices.discovery.k8s.io"), &slice(address, kind));
        errors.iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        judged("127.0.0.1", "IPv4"),
        [
            "endpoints[1].addresses[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, \
             ::1/128)"
        ]
    );
    for (address, kind) in [
        ("169.254.1.1", "IPv4"),
        ("239.0.0.1", "IPv4"),
        ("255.255.255.255", "IPv4"),
        ("0.0.0.0", "IPv4"),
        ("::1", "IPv6"),
        ("fe80::1", "IPv6"),
        ("ff02::1", "IPv6"),
        ("::ffff:127.0.0.1", "IPv6"),
    ] {
        assert_eq!(judged(address, kind).len(), 1, "{address}");
    }
    assert_eq!(judged("10.42.1.2", "IPv4"), Vec::<String>::new());
    // A change is judged like a new one.
    let (old, new) = (slice("10.42.1.2", "IPv4"), slice("127.0.0.1", "IPv4"));
    assert_eq!(validate::update(served("endpointslices.discovery.k8s.io"), &old, &new).len(), 1);
}

#[test]
fn addresses_in_a_status_are_addresses() {
    let judged = |resource: &str, old: &Value, new: &Value| -> Vec<String> {
        validate::update(served(resource), old, new).iter().map(ToString::to_string).collect()
    };
    let service = |ingress: Value| {
        json!({"metadata": {"name": "web", "namespace": "shop"}, "status": {"loadBalancer": {"ingress": ingress}},
            "spec": {"type": "ClusterIP", "ports": [{"port": 80, "protocol": "TCP"}]}})
    };
    let before = service(json!([{"ip": "nonsense"}]));
    assert_eq!(judged("services", &before, &before), Vec::<String>::new(), "what is there holds nothing up");
    let after =
        service(json!([{"ip": "x"}, {"hostname": "10.0.0.1"}, {"ip": "10.0.0.1", "ipMode": "Other"}]));
    assert_eq!(
        judged("services", &before, &after),
        [
            "status.loadBalancer.ingress[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or \
             2001:db8::ffff)",
            "status.loadBalancer.ingress[1].hostname: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address",
            "status.loadBalancer.ingress[2].ipMode: Unsupported value: \"Other\": supported values: \"Proxy\", \"VIP\"",
        ]
    );
    let pod = |status: Value| {
        let mut pod = defaulted("pods", yaml(SAMPLES.iter().find(|sample| sample.0 == "pods").unwrap().1));
        pod["status"] = status;
        pod
    };
    let fresh = pod(json!({}));
    let lying = pod(json!({"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}], "hostIP": "nonsense"}));
    assert_eq!(judged("pods", &fresh, &lying).len(), 3, "{:?}", judged("pods", &fresh, &lying));
    let honest = pod(json!({"podIP": "10.42.0.9", "podIPs": [{"ip": "10.42.0.9"}], "hostIP": "192.0.2.1"}));
    assert_eq!(judged("pods", &fresh, &honest), Vec::<String>::new());
    let node = |address: &str| {
        json!({"metadata": {"name": "n"}, "spec": {}, "status": {"addresses": [
            {"type": "InternalIP", "address": address}, {"type": "Hostname", "address": "n"}]}})
    };
    assert_eq!(judged("nodes", &node("192.0.2.1"), &node("localhost")).len(), 1);
    assert_eq!(judged("nodes", &node("192.0.2.1"), &node("192.0.2.2")), Vec::<String>::new());
}

#[test]
fn names_of_images_are_one_line() {
    let bad = json!("nginx\n2026-01-01 ERROR forged");
    let pod = SAMPLES.iter().find(|sample| sample.0 == "pods").unwrap().1;
    let mut pod = yaml(pod);
    pod["spec"]["containers"][0]["image"] = bad;
    let errors = validate::create(served("pods"), &defaulted("pods", pod));
    let messages: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert!(messages[0].ends_with("must not contain control characters"), "{messages:?}");
}

/// What a node would only find out when it starts the pod.
#[test]
fn what_a_node_would_refuse_is_refused_at_once() {
    let pod = |change: Value| -> Vec<String> {
        let mut pod = json!({"metadata": {"name": "a", "namespace": "shop"}, "spec": {
            "containers": [{"name": "main", "image": "nginx:1"}]}});
        for (field, value) in change.as_object().unwrap() {
            match field.as_str() {
                "volumes" => pod["spec"]["volumes"] = value.clone(),
                field => pod["spec"]["containers"][0][field] = value.clone(),
            }
        }
        let errors = validate::create(served("pods"), &defaulted("pods", pod));
        errors.iter().map(ToString::to_string).collect()
    };
    let c = "spec.containers[0]";
    let env =
        |reference: Value| json!({"env": [{"name": "A", "valueFrom": {"resourceFieldRef": reference}}]});
    let mount = |volume: Value| json!({"volumes": [volume]});
    for (change, message) in [
        (
            json!({"resources": {"limits": {"memory": "128"}}}),
            format!("{c}.resources.limits[memory]: Invalid value: \"128\": must be at least 6Mi, the least that the Docker \
                     engine takes"),
        ),
        (
            json!({"command": ["a\0b"]}),
            format!("{c}.command[0]: Invalid value: \"a\\u0000b\": must not contain the character NUL"),
        ),
        (
            env(json!({"resource": "limits.cpu", "divisor": "1n"})),
            format!("{c}.env[0].valueFrom.resourceFieldRef.divisor: Invalid value: \"1n\": only divisor's values 1, 1m are \
                     supported with the cpu resource"),
        ),
        (
            env(json!({"resource": "limits.memory", "divisor": "3"})),
            format!("{c}.env[0].valueFrom.resourceFieldRef.divisor: Invalid value: \"3\": only divisor's values 1, 1k, 1M, \
                     1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the memory resource"),
        ),
        (
            env(json!({"resource": "limits.cpu", "containerName": "other"})),
            format!("{c}.env[0].valueFrom.resourceFieldRef.containerName: Not found: \"other\""),
        ),
        (
            mount(json!({"name": "v", "hostPath": {"path": "data"}})),
            "spec.volumes[0].hostPath.path: Invalid value: \"data\": must be an absolute path".to_owned(),
        ),
        (
            mount(json!({"name": "v", "configMap": {"name": "c", "items": [{"key": "k", "path": "a//b"}]}})),
            "spec.volumes[0].configMap.items[0].path: Invalid value: \"a//b\": must not have empty parts or '.' as a part"
                .to_owned(),
        ),
        (
            json!({"volumes": [{"name": "v", "emptyDir": {}}],
                "volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "./a"}]}),
            format!("{c}.volumeMounts[0].subPath: Invalid value: \"./a\": must not begin with '.' as a part: leave it out"),
        ),
    ] {
        assert_eq!(pod(change), [message]);
    }
    for good in [
        json!({"resources": {"limits": {"memory": "6Mi"}}}),
        env(json!({"resource": "limits.cpu", "divisor": "1m", "containerName": "main"})),
        env(json!({"resource": "limits.cpu"})),
        env(json!({"resource": "limits.memory", "divisor": "1Mi"})),
        mount(json!({"name": "v", "configMap": {"name": "c", "items": [{"key": "k", "path": "a/b"}]}})),
    ] {
        assert_eq!(pod(good.clone()), Vec::<String>::new(), "{good}");
    }
}
