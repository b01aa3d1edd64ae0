//! One object of each kind that somebody here reads, with much in it: what is changed at one place needs its siblings.

use serde_json::{Value, json};

use crate::places::Place;

/// A valid object.
pub(crate) fn of(resource: &str) -> Value {
    let meta = json!({
        "labels": {"app": "web"}, "annotations": {"note": "x"}, "finalizers": ["example.com/f"],
        "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "m", "uid": "uid-m", "controller": true, "blockOwnerDeletion": true}],
    });
    let mut object = match resource {
        "configmaps" => {
            json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": "v"}, "binaryData": {"b": "AAAA"}})
        }
        "secrets" => json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": {"k": "AAAA"}}),
        "serviceaccounts" => json!({"apiVersion": "v1", "kind": "ServiceAccount"}),
        "namespaces" => {
            json!({"apiVersion": "v1", "kind": "Namespace", "spec": {"finalizers": ["kubernetes"]}})
        }
        "events" => json!({
            "apiVersion": "v1", "kind": "Event", "reason": "R", "message": "m", "type": "Normal", "count": 1,
            "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default", "uid": "u"},
            "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z",
        }),
        "nodes" => node(),
        "pods" => json!({"apiVersion": "v1", "kind": "Pod", "spec": pod_spec()}),
        "deployments.apps" | "replicasets.apps" => workload(resource),
        "services" => json!({
            "apiVersion": "v1", "kind": "Service",
            "spec": {
                "type": "ClusterIP", "selector": {"app": "web"}, "sessionAffinity": "ClientIP",
                "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10}},
                "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}],
            },
        }),
        "endpointslices.discovery.k8s.io" => json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": [{"addresses": ["10.42.1.9"], "conditions": {"ready": true}, "hostname": "h", "nodeName": "node-1",
                "targetRef": {"kind": "Pod", "name": "p", "namespace": "default", "uid": "u"}}],
        }),
        "ingresses.networking.k8s.io" => json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "spec": {
                "defaultBackend": {"service": {"name": "web", "port": {"number": 80}}},
                "rules": [{"host": "a.example.com", "http": {"paths": [
                    {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"name": "http"}}}},
                ]}}],
            },
        }),
        other => panic!("no base for {other}"),
    };
    object["metadata"] = meta;
    match resource {
        "endpointslices.discovery.k8s.io" => {
            object["metadata"]["labels"]["kubernetes.io/service-name"] = "web".into()
        }
        // Such owners would have to be in no namespace, and finalizers keep it from being used at all.
        "namespaces" | "nodes" => drop(object["metadata"].as_object_mut().unwrap().remove("ownerReferences")),
        _ => {}
    }
    object
}

/// The object as it is; a pod as one that has a node, for the compiler sees only those, and where it matters to the
/// scheduler also as one that has none.
pub(crate) fn variants(resource: &str, place: &Place, object: Value) -> Vec<Value> {
    if resource != "pods" {
        return vec![object];
    }
    let matters = !place.is_below(&["spec", "volumes"])
        && (!place.is_below(&["spec", "containers"]) || place.is_below(&["spec", "containers", "resources"]));
    let mut bound = object.clone();
    if let Some(spec) = bound["spec"].as_object_mut() {
        spec.entry("nodeName").or_insert("node-1".into());
    }
    if matters { vec![bound, object] } else { vec![bound] }
}

fn node() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "spec": {"taints": [{"key": "k", "value": "v", "effect": "PreferNoSchedule"}], "unschedulable": false},
        "status": {
            "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}, "capacity": {"cpu": "4"},
            "addresses": [{"type": "InternalIP", "address": "192.0.2.9"}],
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "ContainerRuntimeReady", "status": "True"}],
        },
    })
}

fn workload(resource: &str) -> Value {
    let template = json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Always"},
    });
    let selector = json!({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]});
    match resource {
        "deployments.apps" => json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "spec": {
                "replicas": 1, "selector": selector, "template": template, "minReadySeconds": 1,
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            },
        }),
        _ => json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "spec": {"replicas": 1, "selector": selector, "template": template},
        }),
    }
}

fn pod_spec() -> Value {
    let container = |name: &str| {
        json!({
            "name": name, "image": "i", "command": ["c", "$(A)"], "args": ["$(B)"], "workingDir": "/w",
            "ports": [{"name": if name == "c" { "http" } else { "other" }, "containerPort": 8080, "protocol": "TCP"}],
            "envFrom": [{"prefix": "P_", "configMapRef": {"name": "m"}}],
            "env": [
                {"name": "A", "value": "1"},
                {"name": "B", "valueFrom": {"resourceFieldRef": {"resource": "limits.ephemeral-storage", "divisor": "1"}}},
            ],
            "resources": {"limits": {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}},
            "volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "s"}],
            "livenessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1},
            "lifecycle": {"preStop": {"sleep": {"seconds": 1}}},
            "securityContext": {"runAsUser": 1},
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
        })
    };
    let mut init = container("init");
    for field in ["livenessProbe", "lifecycle"] {
        init.as_object_mut().unwrap().remove(field);
    }
    let condition = json!({"key": "app", "operator": "In", "values": ["web"]});
    json!({
        "containers": [container("c")], "initContainers": [init], "hostname": "h", "subdomain": "web",
        "terminationGracePeriodSeconds": 30, "priority": 0, "enableServiceLinks": true,
        "nodeSelector": {}, "tolerations": [{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "Exists"}]},
        ]}}, "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 1, "podAffinityTerm": {"topologyKey": "t", "labelSelector": {"matchExpressions": [condition]}}},
        ]}},
        "dnsConfig": {"nameservers": ["192.0.2.53"], "searches": ["a.test"], "options": [{"name": "ndots", "value": "1"}]},
        "hostAliases": [{"ip": "192.0.2.1", "hostnames": ["h.test"]}],
        "volumes": [{"name": "v", "projected": {"sources": [
            {"configMap": {"name": "m", "items": [{"key": "k", "path": "p"}]}},
        ]}}],
    })
}
