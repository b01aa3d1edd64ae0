//! What is refused, in which words.

use crate::samples::{DEPLOYMENT, INGRESS, POD, SAMPLES, SERVICE, served, yaml};
use serde_json::{Value, json};
use warren_objects::{defaults, strict, unsupported, validate};

fn defaulted(resource: &str, text: &str) -> Value {
    let mut value = yaml(text);
    defaults::apply(served(resource), &mut value);
    value
}

/// The messages about a sample after one change by JSON pointer (null removes).
fn after(resource: &str, text: &str, changes: &[(&str, Value)]) -> Vec<String> {
    let mut value = yaml(text);
    for (pointer, change) in changes {
        set(&mut value, pointer, change.clone());
    }
    defaults::apply(served(resource), &mut value);
    messages(&validate::create(served(resource), &value))
}

fn messages(errors: &[warren_objects::FieldError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

fn set(value: &mut Value, pointer: &str, change: Value) {
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    let parent = value.pointer_mut(parent).unwrap();
    match parent {
        Value::Array(items) => match field.parse::<usize>() {
            Ok(index) => items[index] = change,
            Err(_) => items.push(change),
        },
        other => other[field] = change,
    }
}

#[test]
fn real_objects_are_accepted() {
    for (resource, text) in SAMPLES {
        assert_eq!(
            strict::decode(served(resource), &yaml(text)).unwrap(),
            strict::Unknown::default(),
            "{resource}"
        );
        let value = defaulted(resource, text);
        assert_eq!(
            strict::decode(served(resource), &value).unwrap(),
            strict::Unknown::default(),
            "{resource}, defaulted"
        );
        assert_eq!(messages(&validate::create(served(resource), &value)), Vec::<String>::new(), "{resource}");
        assert_eq!(
            messages(&validate::update(served(resource), &value, &value)),
            Vec::<String>::new(),
            "{resource}"
        );
    }
    assert_eq!(unsupported::warnings(served("pods"), &defaulted("pods", POD)), Vec::<String>::new());
    assert_eq!(
        unsupported::warnings(served("deployments.apps"), &defaulted("deployments.apps", DEPLOYMENT)),
        Vec::<String>::new()
    );
}

#[test]
fn pods() {
    let one = |pointer: &str, change: Value| after("pods", POD, &[(pointer, change)]).join("\n");
    for (pointer, change, message) in [
        ("/spec/containers", json!([]), "spec.containers: Required value"),
        ("/spec/containers/1/image", json!(null), "spec.containers[1].image: Required value"),
        ("/spec/containers/1/name", json!("web"), "spec.containers[1].name: Duplicate value: \"web\""),
        (
            "/spec/containers/1/name",
            json!("prepare"),
            "spec.containers[1].name: Duplicate value: \"prepare\"",
        ),
        (
            "/spec/containers/0/ports/0/containerPort",
            json!(70000),
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            "/spec/containers/0/ports/0/protocol",
            json!("tcp"),
            "spec.containers[0].ports[0].protocol: Unsupported value: \"tcp\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
        ),
        (
            "/spec/containers/0/volumeMounts/0/name",
            json!("nope"),
            "spec.containers[0].volumeMounts[0].name: Not found: \"nope\"",
        ),
        (
            "/spec/containers/0/volumeMounts/1/mountPath",
            json!("/tmp"),
            "spec.containers[0].volumeMounts[1].mountPath: Invalid value: \"/tmp\": must be unique",
        ),
        (
            "/spec/containers/0/resources/requests/cpu",
            json!("2"),
            "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
        ),
        (
            "/spec/containers/0/resources/requests/memory",
            json!("1Q"),
            "spec.containers[0].resources.requests[memory]: Invalid value: \"1Q\": quantities must match the regular \
             expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            "/spec/containers/0/livenessProbe/exec",
            json!({"command": ["true"]}),
            "spec.containers[0].livenessProbe.httpGet: Forbidden: may not specify more than 1 handler type",
        ),
        (
            "/spec/containers/0/readinessProbe",
            json!({}),
            "spec.containers[0].readinessProbe: Required value: must specify a handler type",
        ),
        (
            "/spec/containers/0/readinessProbe",
            json!({"grpc": {"port": 0}}),
            "spec.containers[0].readinessProbe.grpc.port: Invalid value: 0: must be between 1 and 65535, inclusive",
        ),
        (
            "/spec/containers/0/env/1/value",
            json!("x"),
            "spec.containers[0].env[1].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
        ),
        (
            "/spec/hostNetwork",
            json!(true),
            "spec.hostNetwork: Forbidden: not supported by this version of Warren: make a Service or an Ingress for what others shall reach",
        ),
        (
            "/spec/volumes/0/csi",
            json!({"driver": "example.com"}),
            "spec.volumes[0].csi: Forbidden: not supported by this version of Warren: use an emptyDir, or a hostPath with a nodeSelector for what must stay",
        ),
        (
            "/spec/restartPolicy",
            json!("Sometimes"),
            "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
        ),
        (
            "/spec/terminationGracePeriodSeconds",
            json!(-1),
            "spec.terminationGracePeriodSeconds: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            "/spec/initContainers/0/restartPolicy",
            json!("Always"),
            "spec.initContainers[0].restartPolicy: Forbidden: not supported by this version of Warren: run what shall go on beside the others as a container",
        ),
        (
            "/spec/initContainers/0/readinessProbe",
            json!({"tcpSocket": {"port": 1}}),
            "spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
        ),
        (
            "/spec/securityContext",
            json!({"sysctls": [{"name": "kernel.shm_rmid_forced", "value": "1"}, {"name": "bar..", "value": "1"}]}),
            "spec.securityContext.sysctls[1].name: Invalid value: \"bar..\": must be words of lower case alphanumeric characters, '-' or '_', which start and end with an alphanumeric character, joined by '.' or '/' (e.g. 'net.ipv4.tcp_syncookies')",
        ),
        (
            "/spec/hostAliases/0/ip",
            json!("here"),
            "spec.hostAliases[0].ip: Invalid value: \"here\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
    ] {
        assert_eq!(one(pointer, change), message);
    }
    assert!(one("/metadata/name", json!("Web")).starts_with(
        "metadata.name: Invalid value: \"Web\": a lowercase RFC 1123 subdomain must consist of lower case"
    ));
}

#[test]
fn pods_change_little() {
    let old = defaulted("pods", POD);
    let change = |pointer: &str, to: Value| {
        let mut new = old.clone();
        set(&mut new, pointer, to);
        messages(&validate::update(served("pods"), &old, &new)).join("\n")
    };
    assert_eq!(change("/spec/containers/0/image", json!("nginx:1.16")), "");
    assert_eq!(change("/spec/activeDeadlineSeconds", json!(60)), "");
    assert_eq!(change("/spec/tolerations/-", json!({"key": "x", "operator": "Exists"})), "");
    assert_eq!(change("/metadata/labels", json!({"app": "other"})), "");
    let found = change("/spec/containers/0/env/0/value", json!("81"));
    assert!(
        found.starts_with(
            "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`"
        ),
        "{found}"
    );
    assert!(found.ends_with("changed here: spec.containers[0].env[0].value"), "{found}");
    assert_eq!(
        change("/spec/tolerations", json!([])),
        "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"
    );
    assert_eq!(
        change("/spec/containers/-", json!({"name": "z", "image": "z", "imagePullPolicy": "Always"})),
        "spec.containers: Forbidden: pod updates may not add or remove containers"
    );
}

#[test]
fn deployments() {
    let one =
        |pointer: &str, change: Value| after("deployments.apps", DEPLOYMENT, &[(pointer, change)]).join("\n");
    for (pointer, change, message) in [
        ("/spec/replicas", json!(-1), "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
        ("/spec/selector", json!(null), "spec.selector: Required value"),
        (
            "/spec/selector/matchLabels/app",
            json!("other"),
            "spec.template.metadata.labels: Invalid value: {\"app\":\"nginx\"}: `selector` does not match template `labels`",
        ),
        (
            "/spec/template/spec/restartPolicy",
            json!("Never"),
            "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
        ),
        (
            "/spec/strategy",
            json!({"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}),
            "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
        ),
        (
            "/spec/strategy",
            json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}),
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0",
        ),
        (
            "/spec/strategy",
            json!({"type": "Blue"}),
            "spec.strategy.type: Unsupported value: \"Blue\": supported values: \"Recreate\", \"RollingUpdate\"",
        ),
        (
            "/spec/progressDeadlineSeconds",
            json!(0),
            "spec.progressDeadlineSeconds: Invalid value: 0: must be greater than minReadySeconds",
        ),
        (
            "/spec/template/spec/hostPID",
            json!(true),
            "spec.template.spec.hostPID: Forbidden: not supported by this version of Warren",
        ),
    ] {
        assert_eq!(one(pointer, change), message);
    }
    let bad = one("/spec/strategy", json!({"rollingUpdate": {"maxSurge": "many"}}));
    assert!(bad.starts_with(
        "spec.strategy.rollingUpdate.maxSurge: Invalid value: \"many\": a valid percent string"
    ));
    let old = defaulted("deployments.apps", DEPLOYMENT);
    let mut new = old.clone();
    new["spec"]["selector"]["matchLabels"]["x"] = json!("y");
    new["spec"]["template"]["metadata"]["labels"]["x"] = json!("y");
    assert_eq!(
        messages(&validate::update(served("deployments.apps"), &old, &new)),
        [
            "spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"nginx\",\"x\":\"y\"}}: field is immutable"
        ]
    );
}

#[test]
fn services() {
    let one = |pointer: &str, change: Value| after("services", SERVICE, &[(pointer, change)]).join("\n");
    for (pointer, change, message) in [
        ("/spec/ports", json!([]), "spec.ports: Required value"),
        ("/spec/ports/1/name", json!(null), "spec.ports[1].name: Required value"),
        ("/spec/ports/1/name", json!("http"), "spec.ports[1].name: Duplicate value: \"http\""),
        (
            "/spec/ports/1/nodePort",
            json!(30000),
            "spec.ports[1].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
        ),
        (
            "/spec/ports/0/port",
            json!(0),
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
        ),
        (
            "/spec/type",
            json!("Cluster"),
            "spec.type: Unsupported value: \"Cluster\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
        ),
        (
            "/spec/clusterIP",
            json!("x"),
            "spec.clusterIPs[0]: Invalid value: \"x\": must be a valid IP address",
        ),
        (
            "/spec/externalTrafficPolicy",
            json!("Local"),
            "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
        ),
    ] {
        assert_eq!(one(pointer, change), message);
    }
    assert!(
        one("/spec/ports/1", json!({"name": "x", "port": 80}))
            .starts_with("spec.ports[1]: Duplicate value: {")
    );
    assert_eq!(one("/spec/clusterIP", json!("None")), "");
    assert!(one("/metadata/name", json!("1a")).contains("a DNS-1035 label must"));
    let old = after_change("services", SERVICE, "/spec/clusterIP", json!("10.43.0.7"));
    let new = after_change("services", SERVICE, "/spec/clusterIP", json!("10.43.0.8"));
    assert_eq!(
        messages(&validate::update(served("services"), &old, &new)),
        ["spec.clusterIPs[0]: Invalid value: [\"10.43.0.8\"]: may not change once set"]
    );
}

fn after_change(resource: &str, text: &str, pointer: &str, change: Value) -> Value {
    let mut value = yaml(text);
    set(&mut value, pointer, change);
    defaults::apply(served(resource), &mut value);
    value
}

#[test]
fn ingresses() {
    let one = |pointer: &str, change: Value| {
        after("ingresses.networking.k8s.io", INGRESS, &[(pointer, change)]).join("\n")
    };
    for (pointer, change, message) in [
        (
            "/spec/rules/0/http/paths/0/pathType",
            json!(null),
            "spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified",
        ),
        (
            "/spec/rules/0/http/paths/0/path",
            json!("x"),
            "spec.rules[0].http.paths[0].path: Invalid value: \"x\": must be an absolute path",
        ),
        (
            "/spec/rules/0/http/paths/0/backend/service/port",
            json!(null),
            "spec.rules[0].http.paths[0].backend: Required value: port name or number is required",
        ),
        (
            "/spec/rules/0/http/paths/0/backend/service/name",
            json!(""),
            "spec.rules[0].http.paths[0].backend.service.name: Required value",
        ),
        (
            "/spec/rules/0/host",
            json!("10.0.0.1"),
            "spec.rules[0].host: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address",
        ),
        ("/spec/rules/0/http/paths", json!([]), "spec.rules[0].http.paths: Required value"),
        (
            "/spec/defaultBackend",
            json!({"resource": {"kind": "Bucket", "name": "x"}}),
            "spec.defaultBackend.resource: Forbidden: not supported by this version of Warren: name a Service",
        ),
    ] {
        assert_eq!(one(pointer, change), message);
    }
    assert!(
        one("/spec/rules/0/host", json!("a.*.b"))
            .contains("a wildcard DNS-1123 subdomain must start with '*.'")
    );
    assert!(one("/spec/rules", json!([])).ends_with("either `defaultBackend` or `rules` must be specified"));
}

#[test]
fn config_maps_and_secrets() {
    let map = |data: Value| {
        messages(&validate::create(served("configmaps"), &json!({"metadata": {"name": "c"}, "data": data})))
    };
    assert!(
        map(json!({"a/b": "x"}))[0].starts_with("data[a/b]: Invalid value: \"a/b\": a valid config key must")
    );
    assert_eq!(map(json!({"a": "x".repeat(1024 * 1024)})), Vec::<String>::new());
    assert_eq!(
        map(json!({"a": "x".repeat(1024 * 1024), "b": "x"})),
        ["data: Too long: may not be more than 1048576 bytes"]
    );
    let secret = |kind: &str, data: Value| json!({"metadata": {"name": "s"}, "type": kind, "data": data});
    assert_eq!(
        messages(&validate::create(served("secrets"), &secret("Opaque", json!({"a": "not base64!"})))),
        ["data[a]: Invalid value: \"<content>\": must be base64"]
    );
    assert_eq!(
        messages(&validate::create(served("secrets"), &secret("kubernetes.io/tls", json!({"tls.crt": ""})))),
        ["data[tls.key]: Required value"]
    );
    let (old, new) = (secret("Opaque", json!({})), secret("other", json!({})));
    assert_eq!(
        messages(&validate::update(served("secrets"), &old, &new)),
        ["type: Invalid value: \"other\": field is immutable"]
    );
    let frozen = json!({"metadata": {"name": "c"}, "data": {"a": "1"}, "immutable": true});
    let thawed = json!({"metadata": {"name": "c"}, "data": {"a": "2"}});
    assert_eq!(
        messages(&validate::update(served("configmaps"), &frozen, &thawed)),
        [
            "immutable: Forbidden: field is immutable when `immutable` is set",
            "data: Forbidden: field is immutable when `immutable` is set"
        ]
    );
}

#[test]
fn nodes_events_and_slices() {
    let node = json!({"metadata": {"name": "n"}, "spec": {"taints": [{"key": "a", "effect": "Never"}]}});
    assert_eq!(
        messages(&validate::create(served("nodes"), &node)),
        [
            "spec.taints[0].effect: Unsupported value: \"Never\": supported values: \"NoExecute\", \"NoSchedule\", \"PreferNoSchedule\""
        ]
    );
    let event = json!({"metadata": {"name": "e", "namespace": "a"}, "involvedObject": {"namespace": "b"}});
    assert_eq!(
        messages(&validate::create(served("events"), &event)),
        ["involvedObject.namespace: Invalid value: \"b\": does not match event.namespace"]
    );
    let slice =
        json!({"metadata": {"name": "s"}, "addressType": "IPv4", "endpoints": [{"addresses": ["::1"]}, {}]});
    assert_eq!(
        messages(&validate::create(served("endpointslices.discovery.k8s.io"), &slice)),
        [
            "endpoints[0].addresses[0]: Invalid value: \"::1\": must be a valid IPv4 address",
            "endpoints[1].addresses: Required value: must contain at least 1 address"
        ]
    );
}
