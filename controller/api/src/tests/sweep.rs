//! Each warning and each refusal of the tables of classes comes out of the API, by the name of its field.

use warren_objects::{
    classes::{self, Class, Field, Step, When},
    schema::{Message, Type as Content},
};

use super::*;
use crate::kinds::{KINDS, Kind};

/// Values where any value of the type would not do, by the field's name.
fn example_of(name: &str) -> Option<Value> {
    Some(match name {
        "addressType" => json!("IPv6"),
        "containerPort" => json!(80),
        "emptyDir" => json!({"sizeLimit": "1Gi"}),
        "externalIPs" => json!(["192.0.2.1"]),
        "externalTrafficPolicy" | "internalTrafficPolicy" => json!("Local"),
        "fsGroupChangePolicy" => json!("Always"),
        "healthCheckNodePort" => json!(30_001),
        "hostPort" => json!(8080),
        "loadBalancerIP" => json!("192.0.2.1"),
        "loadBalancerSourceRanges" => json!(["192.0.2.0/24"]),
        "medium" => json!("HugePages-2Mi"),
        "mountPropagation" => json!("HostToContainer"),
        "trafficDistribution" => json!("PreferClose"),
        _ => return None,
    })
}

/// A value of a type, with what is required in it.
fn example(content: Content) -> Value {
    match content {
        Content::Bool => json!(true),
        Content::Int32 | Content::Int64 | Content::Double | Content::IntOrString => json!(1),
        Content::String => json!("example"),
        Content::Quantity => json!("1"),
        Content::Bytes => json!("eA=="),
        Content::Time => json!("2026-01-01T00:00:00Z"),
        Content::MicroTime => json!("2026-01-01T00:00:00.000000Z"),
        Content::Duration => json!("1s"),
        Content::Json | Content::OneOf(_) => json!({"example": 1}),
        Content::List(item) | Content::Items(item) => json!([example(*item)]),
        Content::Map(item) => json!({"example": example(*item)}),
        Content::Object(message) => object(message),
    }
}

fn object(message: &'static Message) -> Value {
    let fields = message.json_fields();
    let required = fields.iter().filter(|field| field.is_required());
    let mut value = json!({});
    for field in required {
        value[field.json] = example(field.kind);
    }
    if value == json!({})
        && let Some(first) = fields.first()
    {
        value[first.json] = example(first.kind);
    }
    value
}

/// A value for which a warning or a refusal is due.
fn offending(name: &str, when: &When, content: Content) -> Value {
    match when {
        When::OneOf(texts) => json!(texts[0]),
        When::True => json!(true),
        When::False => json!(false),
        When::Given | When::Not(_) | When::NotZero | When::That(_) => {
            example_of(name).unwrap_or_else(|| example(content))
        }
    }
}

fn pod_spec(restarts: &str) -> Value {
    let container = |name: &str| {
        json!({"name": name, "image": "image:1", "env": [{"name": "A"}], "ports": [{"containerPort": 80}],
            "volumeMounts": [{"name": "v", "mountPath": "/v"}]})
    };
    json!({"restartPolicy": restarts, "volumes": [{"name": "v"}], "initContainers": [container("init")],
        "containers": [container("main")]})
}

fn template(restarts: &str) -> Value {
    json!({"metadata": {"labels": {"app": "a"}}, "spec": pod_spec(restarts)})
}

/// An object of a kind to which every field can be added that has something to say.
fn base(kind: &Kind) -> Value {
    let selector = json!({"matchLabels": {"app": "a"}});
    let rest = match &*kind.kind {
        "Pod" => json!({"spec": pod_spec("Always")}),
        "Deployment" | "ReplicaSet" | "DaemonSet" => {
            json!({"spec": {"selector": selector, "template": template("Always")}})
        }
        "StatefulSet" => {
            json!({"spec": {"serviceName": "a", "selector": selector, "template": template("Always")}})
        }
        "ReplicationController" => {
            json!({"spec": {"selector": {"app": "a"}, "template": template("Always")}})
        }
        "Job" => json!({"spec": {"template": {"spec": pod_spec("Never")}}}),
        "CronJob" => json!({"spec": {"schedule": "1 * * * *",
            "jobTemplate": {"spec": {"template": {"spec": pod_spec("Never")}}}}}),
        "PodTemplate" => json!({"template": template("Always")}),
        "Service" => json!({"spec": {"ports": [{"port": 80}]}}),
        "EndpointSlice" => {
            json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.42.0.9"]}], "ports": [{"port": 80}]})
        }
        "Ingress" => {
            let service = json!({"service": {"name": "a", "port": {"number": 80}}});
            let path = json!({"path": "/", "pathType": "Prefix", "backend": service});
            json!({"spec": {"defaultBackend": service, "rules": [{"http": {"paths": [path]}}]}})
        }
        "IngressClass" => json!({"spec": {"controller": "example.com/controller"}}),
        "Lease" => json!({"spec": {}}),
        "HorizontalPodAutoscaler" => {
            json!({"spec": {"maxReplicas": 2, "scaleTargetRef": {"kind": "Deployment", "name": "a"}}})
        }
        _ => json!({}),
    };
    let mut object =
        json!({"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": {"name": "example"}});
    object.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    object
}

/// What else must be so for an object with the field to be valid.
fn accompany(object: &mut Value, path: &str, value: &Value) {
    match path {
        "spec.externalTrafficPolicy" => object["spec"]["type"] = json!("NodePort"),
        "spec.volumeClaimTemplates" => {
            object["spec"]["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}, "spec": {
                "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]);
        }
        "addressType" => object["endpoints"] = json!([]),
        _ if path.starts_with("spec.metrics[0].") => {
            let metric = &mut object["spec"]["metrics"][0];
            let source = path.split('.').nth(2).unwrap();
            let kinds = json!({"pods": "Pods", "external": "External", "object": "Object"});
            metric["type"] = kinds[source].clone();
            metric[source]["metric"]["name"] = json!("a");
            metric[source]["target"] = json!({"type": "AverageValue", "averageValue": "1"});
            if source == "object" {
                metric[source]["describedObject"] = json!({"kind": "Service", "name": "a"});
            }
        }
        "type" if value == "kubernetes.io/service-account-token" => {
            object["metadata"]["annotations"]["kubernetes.io/service-account.name"] = json!("a");
        }
        _ => {}
    }
}

fn put(object: &mut Value, steps: &[Step], value: &Value) {
    match steps {
        [] => *object = value.clone(),
        [Step::Field(name), rest @ ..] => put(&mut object[*name], rest, value),
        [Step::Each, rest @ ..] => {
            if !object.is_array() {
                *object = json!([{}]);
            }
            put(&mut object[0], rest, value);
        }
    }
}

/// What Kubernetes, too, forbids there.
fn is_forbidden_anyway(kind: &Kind, path: &str) -> bool {
    let never_ends = ["Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "ReplicationController"]
        .contains(&&*kind.kind);
    let in_init = path.contains("initContainers") && (path.contains("Probe") || path.contains(".lifecycle"));
    in_init || (never_ends && path.ends_with(".activeDeadlineSeconds"))
}

fn collection(kind: &Kind) -> String {
    let root = if kind.group.is_empty() { "api".to_owned() } else { format!("apis/{}", kind.group) };
    let namespace = if kind.namespaced { "/namespaces/default" } else { "" };
    format!("/{root}/{}{namespace}/{}", kind.version, kind.plural)
}

/// Writes an object with one offending value and looks for the field in the answer. Nothing is kept.
async fn judge(server: &Server, kind: &Kind, steps: &[Step], path: &str, class: &Class, object: &Value) {
    let answer = server.post(&format!("{}?dryRun=All", collection(kind)), object).await;
    let shown = || format!("{} {path} {steps:?}: {object}\n{}", kind.kind, answer.json());
    let refused = |field: &str| {
        let causes = &answer.json()["details"]["causes"];
        causes.as_array().into_iter().flatten().any(|cause| cause["field"] == field)
    };
    match class {
        Class::Warns(_, _) if is_forbidden_anyway(kind, path) => assert_eq!(answer.code, 422, "{}", shown()),
        Class::Warns(_, text) => {
            assert_eq!(answer.code, 201, "{}", shown());
            let text = format!("299 - \"{path}: {}\"", text.replace('"', "\\\""));
            assert!(answer.warnings().contains(&&*text), "{text}: {:?}\n{}", answer.warnings(), shown());
        }
        Class::Refused(_, advice) => {
            assert_eq!(answer.code, 422, "{}", shown());
            assert!(refused(path), "{}", shown());
            assert!(answer.json()["message"].as_str().unwrap().contains(advice), "{}", shown());
        }
        _ => unreachable!("only what tells is judged"),
    }
}

/// All that one field can say; how many things these are.
async fn judge_field(server: &Server, kind: &Kind, field: &Field) -> usize {
    let path = field.to_string().replace("[*]", "[0]");
    let name = path.rsplit('.').next().unwrap();
    let mut count = 0;
    for class in &field.classes {
        match class {
            Class::Warns(when, _) | Class::Refused(when, _) => {
                let mut object = base(kind);
                let value = offending(name, when, field.content);
                put(&mut object, &field.steps, &value);
                accompany(&mut object, &path, &value);
                judge(server, kind, &field.steps, &path, class, &object).await;
                count += 1;
            }
            Class::Keys(tables) => {
                for (pattern, class) in tables.iter().copied().flatten() {
                    let (Class::Warns(when, _) | Class::Refused(when, _)) = class else { continue };
                    let key = if *pattern == "*" { "example.com/thing" } else { pattern };
                    let key = key.replace('*', "thing");
                    let content = match field.content {
                        Content::Map(item) => *item,
                        other => other,
                    };
                    let mut object = base(kind);
                    let value = json!({key.as_str(): offending(&key, when, content)});
                    put(&mut object, &field.steps, &value);
                    let path = format!("{path}[{key}]");
                    judge(server, kind, &field.steps, &path, class, &object).await;
                    count += 1;
                }
            }
            Class::Acts(_) | Class::Leads | Class::Informs(_) | Class::Follows(_) => {}
        }
    }
    count
}

#[tokio::test]
async fn what_is_not_acted_upon_is_said_by_name() {
    let server = Server::new().await;
    let class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "example"},
        "handler": "runc"});
    server.post("/apis/node.k8s.io/v1/runtimeclasses", &class).await.expect(201);
    let mut counts = Vec::new();
    for kind in KINDS.iter().filter(|kind| kind.verbs.contains(&"create") && !kind.is_converted()) {
        let mut count = 0;
        for field in classes::fields(kind) {
            count += judge_field(&server, kind, &field).await;
        }
        counts.push((&*kind.kind, count));
    }
    let of = |kind: &str| counts.iter().find(|(name, _)| *name == kind).unwrap().1;
    assert!(of("Pod") > 80 && of("Ingress") > 40 && of("Service") > 20, "{counts:?}");
    assert!(of("CronJob") > 80, "a template within a template is judged, too: {counts:?}");
}

#[tokio::test]
async fn bases_are_accepted_without_a_word() {
    let server = Server::new().await;
    for name in ["Pod", "Deployment", "PodTemplate", "Service", "EndpointSlice", "Ingress", "IngressClass"] {
        let kind = KINDS.iter().find(|kind| kind.kind == name).unwrap();
        let answer = server.post(&collection(kind), &base(kind)).await;
        assert_eq!(answer.code, 201, "{name}: {}", answer.json());
        assert!(answer.warnings().is_empty(), "{name}: {:?}", answer.warnings());
    }
}

#[tokio::test]
async fn more_warnings_than_fit_are_counted() {
    let server = Server::new().await;
    let mut object = pod("many");
    object["spec"]["containers"][0]["ports"] =
        (1..200).map(|port| json!({"containerPort": port, "hostPort": port})).collect();
    let answer = server.post(PODS, &object).await;
    answer.expect(201);
    let warnings = answer.warnings();
    let (last, told) = warnings.split_last().unwrap();
    assert_eq!(*last, format!("299 - \"{} more warnings do not fit here\"", 199 - told.len()));
}
