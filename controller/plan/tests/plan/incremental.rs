//! Planners that plan for what was touched come to what they would come to afresh, whatever happens; and what was touched
//! is all that they look at.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};
use warren_objects::DEFINITIONS;
use warren_plan::{Planner, RefusedWrite, World};
use warren_state::{Key, Object};
use warren_vocabulary::{guard::Unwatched, resources::*};

use crate::{
    model::{Model, has_ended},
    properties::{self, happen},
};

#[derive(Debug, Clone)]
enum Event {
    Usual(properties::Event),
    /// Somebody makes or removes a namespace, or something in it.
    Namespace {
        deleted: bool,
    },
    Inside {
        finalizer: bool,
    },
    /// A pod that nobody controls, of some size.
    Pod {
        number: u8,
        app: bool,
        cpu: u8,
        namespace: bool,
    },
    /// A pod, set, service, slice or event is deleted, gracefully or not.
    Delete {
        resource: usize,
        which: usize,
        how: u8,
    },
    Service {
        headless: bool,
        app: bool,
    },
    Node {
        node: usize,
        change: u8,
    },
    Relabel {
        resource: usize,
        which: usize,
        app: bool,
    },
    Unowned {
        resource: usize,
        which: usize,
    },
    Idle,
    Job {
        number: u8,
        shape: u8,
        suspend: bool,
    },
    CronJob {
        policy: usize,
        suspend: bool,
    },
    /// A stateful set, a daemon set or a replication controller comes or changes.
    Set {
        resource: usize,
        change: u8,
    },
    /// A disruption budget comes or changes, or something that it depends on.
    Budget {
        which: usize,
        change: u8,
    },
    /// A quota comes or changes, or a pod counts elsewhere.
    Quota {
        which: usize,
        change: usize,
    },
    /// A cluster role comes or changes: one that gathers others, or one that is gathered.
    ClusterRole {
        which: usize,
        change: usize,
    },
    /// An autoscaler comes, changes or looks after something else; its target may be missing.
    Autoscaler {
        number: u8,
        target: usize,
        shape: u8,
    },
    /// Pods use so much, as far as that is told.
    Usage {
        millis: u64,
        every: usize,
    },
    /// Somebody copies a revision, or takes the labels of a pod that say which one it is.
    Copy {
        which: usize,
    },
    Disguise {
        which: usize,
    },
    /// A claim is bound.
    Bind {
        which: usize,
    },
    /// A pod that runs ends.
    End {
        which: usize,
        code: i32,
    },
    /// Endpoints that a user writes, for a service with or without a selector, to be mirrored or not.
    Endpoints {
        shape: u8,
        skip: bool,
    },
    Ingress {
        host: bool,
    },
    /// Some of the steps are carried out.
    Some {
        which: u32,
    },
    Clock {
        seconds: i64,
    },
    Fall {
        acknowledged: u64,
    },
    /// A write is refused, until so many seconds from now.
    Refuse {
        write: usize,
        which: usize,
        seconds: i64,
    },
    /// What was refused for an object is refused no longer.
    Allow {
        which: usize,
    },
}

/// By which planner, for objects of which resource, and what is made; or what is planned for is itself changed.
const WRITES: [(&str, &str, Option<&str>); 31] = [
    ("namespaces", NAMESPACES, Some(SERVICEACCOUNTS)),
    ("root certificates", NAMESPACES, Some(CONFIGMAPS)),
    ("deployments", DEPLOYMENTS, Some(REPLICASETS)),
    ("deployments", DEPLOYMENTS, None),
    ("replica sets", REPLICASETS, Some(PODS)),
    ("replica sets", REPLICASETS, None),
    ("cron jobs", CRONJOBS, Some(JOBS)),
    ("cron jobs", CRONJOBS, None),
    ("jobs", JOBS, Some(PODS)),
    ("jobs", JOBS, None),
    ("replica sets", REPLICATIONCONTROLLERS, Some(PODS)),
    ("stateful sets", STATEFULSETS, Some(PODS)),
    ("stateful sets", STATEFULSETS, Some(PERSISTENTVOLUMECLAIMS)),
    ("stateful sets", STATEFULSETS, Some(CONTROLLERREVISIONS)),
    ("daemon sets", DAEMONSETS, Some(PODS)),
    ("daemon sets", DAEMONSETS, None),
    ("node lifecycle", NODES, None),
    ("node lifecycle", PODS, None),
    ("endpoints", SERVICES, Some(ENDPOINTSLICES)),
    ("endpoints", SERVICES, Some(ENDPOINTS)),
    ("endpoints", ENDPOINTS, Some(ENDPOINTSLICES)),
    ("termination", PODS, None),
    ("ingresses", INGRESSES, Some(EVENTS)),
    ("scheduling", PODS, None),
    ("garbage", PODS, None),
    ("failures", SERVICES, None),
    ("disruption budgets", PODDISRUPTIONBUDGETS, None),
    ("disruption budgets", PODS, None),
    ("autoscaling", HORIZONTALPODAUTOSCALERS, None),
    ("resource quotas", RESOURCEQUOTAS, None),
    ("cluster roles", CLUSTERROLES, None),
];

const RESOURCES: [&str; 21] = [
    PODS,
    REPLICASETS,
    SERVICES,
    ENDPOINTS,
    ENDPOINTSLICES,
    EVENTS,
    DEPLOYMENTS,
    CONFIGMAPS,
    SERVICEACCOUNTS,
    INGRESSES,
    JOBS,
    CRONJOBS,
    STATEFULSETS,
    DAEMONSETS,
    REPLICATIONCONTROLLERS,
    CONTROLLERREVISIONS,
    PERSISTENTVOLUMECLAIMS,
    PODDISRUPTIONBUDGETS,
    HORIZONTALPODAUTOSCALERS,
    RESOURCEQUOTAS,
    CLUSTERROLES,
];

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => properties::event().prop_map(Event::Usual),
        1 => any::<bool>().prop_map(|deleted| Event::Namespace { deleted }),
        1 => any::<bool>().prop_map(|finalizer| Event::Inside { finalizer }),
        2 => (0..4u8, any::<bool>(), 0..6u8, any::<bool>())
            .prop_map(|(number, app, cpu, namespace)| Event::Pod { number, app, cpu, namespace }),
        3 => (0..RESOURCES.len(), 0..12usize, 0..5u8)
            .prop_map(|(resource, which, how)| Event::Delete { resource, which, how }),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(headless, app)| Event::Service { headless, app }),
        2 => (0..6u8, any::<bool>()).prop_map(|(shape, skip)| Event::Endpoints { shape, skip }),
        2 => (1..4usize, 0..8u8).prop_map(|(node, change)| Event::Node { node, change }),
        5 => (0..3usize, 0..10u8).prop_map(|(resource, change)| Event::Set { resource, change }),
        4 => (0..8usize, 0..9u8).prop_map(|(which, change)| Event::Budget { which, change }),
        4 => (0..8usize, 0..7usize).prop_map(|(which, change)| Event::Quota { which, change }),
        4 => (0..4usize, 0..4usize).prop_map(|(which, change)| Event::ClusterRole { which, change }),
        4 => (0..2u8, 0..4usize, 0..5u8)
            .prop_map(|(number, target, shape)| Event::Autoscaler { number, target, shape }),
        4 => (0..400u64, 1..4usize).prop_map(|(millis, every)| Event::Usage { millis, every }),
        1 => (0..4usize).prop_map(|which| Event::Copy { which }),
        1 => (0..12usize).prop_map(|which| Event::Disguise { which }),
        1 => (0..4usize).prop_map(|which| Event::Bind { which }),
        1 => (0..4usize, 0..12usize, any::<bool>())
            .prop_map(|(resource, which, app)| Event::Relabel { resource, which, app }),
        1 => (0..4usize, 0..12usize).prop_map(|(resource, which)| Event::Unowned { resource, which }),
        1 => Just(Event::Idle),
        3 => (0..3u8, 0..6u8, any::<bool>())
            .prop_map(|(number, shape, suspend)| Event::Job { number, shape, suspend }),
        2 => (0..3usize, any::<bool>()).prop_map(|(policy, suspend)| Event::CronJob { policy, suspend }),
        4 => (0..12usize, 0..4i32).prop_map(|(which, code)| Event::End { which, code }),
        1 => any::<bool>().prop_map(|host| Event::Ingress { host }),
        6 => any::<u32>().prop_map(|which| Event::Some { which }),
        1 => prop_oneof![Just(-90_000i64), Just(-1), Just(70), Just(4_000)]
            .prop_map(|seconds| Event::Clock { seconds }),
        4 => (0..WRITES.len(), 0..6usize, -1..6i64)
            .prop_map(|(write, which, seconds)| Event::Refuse { write, which, seconds }),
        1 => (0..4usize).prop_map(|which| Event::Allow { which }),
        1 => (0..40u64).prop_map(|acknowledged| Event::Fall { acknowledged }),
    ]
}

fn nth(model: &Model, resource: &str, which: usize) -> Option<Key> {
    model.list(resource).nth(which).map(|(key, _)| key.clone())
}

fn app(web: bool) -> &'static str {
    if web { "web" } else { "api" }
}

fn delete(model: &mut Model, key: &Key, how: u8) {
    let finalizers = match how {
        0 | 1 => {
            model.remove(key);
            return;
        }
        2 => json!(["foregroundDeletion"]),
        3 => json!(["orphan"]),
        _ => json!([]),
    };
    let now = model.now.to_string();
    model.change(key, |value| {
        value["metadata"]["finalizers"] = finalizers;
        value["metadata"]["deletionTimestamp"] = now.into();
        value["metadata"]["deletionGracePeriodSeconds"] = 30.into();
    });
}

/// A user's Endpoints: for the service "web", whose selector comes and goes, or for none.
fn write_endpoints(model: &mut Model, shape: u8, skip: bool) {
    let name = if shape == 5 { "nobody" } else { "web" };
    let address = if shape.is_multiple_of(2) { "10.9.9.1" } else { "10.9.9.2" };
    let mut value = json!({
        "apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": name, "labels": {"by": "hand"}},
        "subsets": [{"addresses": [{"ip": address}], "ports": [{"port": 80, "protocol": "TCP"}]}],
    });
    if skip {
        value["metadata"]["labels"]["endpointslice.kubernetes.io/skip-mirror"] = "true".into();
    }
    if shape >= 3 {
        let service = Key::new(SERVICES, "default", name);
        if model.objects.contains_key(&service) {
            model.change(&service, |value| {
                let spec = value["spec"].as_object_mut().unwrap();
                match spec.remove("selector") {
                    Some(_) => {}
                    None => drop(spec.insert("selector".into(), json!({"app": "web"}))),
                }
            });
        }
    }
    let key = Key::new(ENDPOINTS, "default", name);
    if model.objects.contains_key(&key) {
        let subsets = value["subsets"].take();
        model.change(&key, |value| value["subsets"] = subsets);
    } else {
        model.put(ENDPOINTS, "default", value);
    }
}

fn change_node(model: &mut Model, node: usize, change: u8) {
    let key = Key::new(NODES, "", &format!("node-{node}"));
    if !model.objects.contains_key(&key) {
        model.node(node, "4", "8Gi", "110");
        return;
    }
    let taint = |effect: &str| json!([{"key": "mine", "value": "x", "effect": effect}]);
    match change {
        0 => model.remove(&key),
        1 => model.change(&key, |value| value["spec"]["unschedulable"] = true.into()),
        2 => model.change(&key, |value| value["spec"] = json!({})),
        3 => model.change(&key, |value| value["spec"]["taints"] = taint("NoExecute")),
        4 => model.change(&key, |value| value["spec"]["taints"] = taint("NoSchedule")),
        7 => model.change(&key, |value| value["metadata"]["labels"]["disk"] = "fast".into()),
        5 => model.change(&key, |value| value["status"]["conditions"][0]["status"] = "False".into()),
        _ => model.change(&key, |value| value["status"]["allocatable"]["cpu"] = "1".into()),
    }
}

/// Makes the set of a kind, all of which have pods of the app `web`, or changes it.
fn change_set(model: &mut Model, resource: &str, change: u8) {
    let key = Key::new(resource, "default", "web");
    if !model.objects.contains_key(&key) {
        let claim = json!({"metadata": {"name": "data"}, "spec": {}});
        let claims = if change.is_multiple_of(2) { json!([claim]) } else { json!([]) };
        let more = json!({"replicas": 2, "serviceName": "web", "volumeClaimTemplates": claims});
        drop(crate::sets::set(model, resource, "web", &more));
        return;
    }
    model.change(&key, |value| {
        let spec = &mut value["spec"];
        let rolling = |fields: Value| json!({"type": "RollingUpdate", "rollingUpdate": fields});
        match change {
            0..3 => spec["replicas"] = change.into(),
            3 => spec["podManagementPolicy"] = "Parallel".into(),
            4 => spec["template"]["spec"]["nodeSelector"] = json!({"disk": "fast"}),
            5 => {
                spec["persistentVolumeClaimRetentionPolicy"] =
                    json!({"whenScaled": "Delete", "whenDeleted": "Delete"})
            }
            6 => {
                spec["updateStrategy"] = rolling(json!({"partition": 1, "maxSurge": 1, "maxUnavailable": 0}))
            }
            7 => spec["minReadySeconds"] = 3.into(),
            _ => spec["template"]["spec"]["containers"][0]["image"] = format!("image:{change}").into(),
        }
    });
}

/// Makes one of two budgets, or changes it, a pod or the kind of a pod's owner.
fn change_quota(model: &mut Model, which: usize, change: usize) {
    if let (0, Some(pod)) = (change, nth(model, PODS, which)) {
        let now = model.now.to_string();
        return model.change(&pod, |pod| {
            pod["spec"]["activeDeadlineSeconds"] = [3, 600][which % 2].into();
            pod["status"]["startTime"] = now.into();
        });
    }
    let scopes = [json!([]), json!(["Terminating"]), json!(["NotBestEffort", "NotTerminating"])];
    let hard = json!({"pods": which, "requests.cpu": "3", "memory": "2Gi", "count/configmaps": "1", "services": "1"});
    let name = format!("quota-{}", which % 2);
    let namespace = if change == 1 { "shop" } else { "default" };
    drop(model.put(
        RESOURCEQUOTAS,
        namespace,
        json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name},
            "spec": {"hard": hard, "scopes": scopes[change % 3]}, "status": {}}),
    ));
}

/// Two roles gather others, one of them the other one; two are gathered, or not.
fn change_cluster_role(model: &mut Model, which: usize, change: usize) {
    let selectors = [
        json!([{"matchLabels": {"to": "all"}}]),
        json!([{"matchExpressions": [{"key": "to", "operator": "Exists"}]}]),
        json!([{"matchLabels": {"to": "some"}}, {"matchLabels": {"to": "all"}}]),
        Value::Null,
    ];
    let labels = [json!({"to": "all"}), json!({"to": "some"}), json!({}), json!({"to": "all"})];
    let verb = ["get", "list", "watch", "get"][change];
    let rules = json!([{"verbs": [verb], "apiGroups": [""], "resources": ["pods"]}]);
    let mut role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": format!("role-{which}"), "labels": labels[change]}, "rules": rules});
    if which < 2 {
        role["aggregationRule"] = json!({"clusterRoleSelectors": selectors[change]});
    }
    drop(model.put(CLUSTERROLES, "", role));
}

fn change_budget(model: &mut Model, which: usize, change: u8) {
    let now = model.now.to_string();
    let herd = json!([{"apiVersion": "example.com/v1", "kind": "Herd", "name": "herd", "uid": "uid-herd",
        "controller": true}]);
    let pod = nth(model, PODS, which);
    match (change, pod) {
        (0, Some(pod)) => model.change(&pod, |pod| {
            let marked = json!({"type": "DisruptionTarget", "status": "True", "lastTransitionTime": now});
            pod["status"]["conditions"] = json!([marked]);
        }),
        (1, Some(pod)) => model.change(&pod, |pod| pod["metadata"]["ownerReferences"] = herd),
        (2, _) => {
            let scale =
                if which.is_multiple_of(2) { json!({"specReplicasPath": ".spec.size"}) } else { Value::Null };
            let schema = json!({"openAPIV3Schema": {"type": "object"}});
            drop(model.put(DEFINITIONS, "", json!({"metadata": {"name": "herds.example.com"},
                "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "herds", "kind": "Herd"},
                    "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema,
                        "subresources": {"scale": scale}}]}})));
        }
        (3, _) => {
            let herd = json!({"apiVersion": "example.com/v1", "kind": "Herd",
                "metadata": {"name": "herd", "uid": "uid-herd"}, "spec": {"size": which}});
            drop(model.put("herds.example.com", "default", herd));
        }
        (_, pod) => {
            let selector = [
                json!({}),
                json!({"matchLabels": {"app": "web"}}),
                Value::Null,
                json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}),
            ];
            let mut spec = json!({"selector": selector[which % 4]});
            match change {
                4 => spec["maxUnavailable"] = "30%".into(),
                5 => spec["maxUnavailable"] = 1.into(),
                6 => spec["minAvailable"] = "50%".into(),
                _ => spec["minAvailable"] = 1.into(),
            }
            let name = if which < 4 { "web" } else { "other" };
            let key = Key::new(PODDISRUPTIONBUDGETS, "default", name);
            if !model.objects.contains_key(&key) {
                drop(model.put(
                    PODDISRUPTIONBUDGETS,
                    "default",
                    json!({"apiVersion": "policy/v1",
                    "kind": "PodDisruptionBudget", "metadata": {"name": name}, "spec": spec}),
                ));
            } else if let (8, Some(pod)) = (change, pod) {
                model.change(&key, |value| value["status"]["disruptedPods"][&*pod.name] = now.into());
            } else {
                model.change(&key, |value| value["spec"] = spec);
            }
        }
    }
}

fn refuse(
    model: &mut Model,
    (planner, resource, made): (&'static str, &str, Option<&str>),
    which: usize,
    seconds: i64,
) {
    let Some(about) = nth(model, resource, which) else { return };
    let namespace = if about.namespace.is_empty() { &*about.name } else { &*about.namespace };
    let what = made.map_or_else(|| about.clone(), |made| Key::new(made, namespace, ""));
    let until = model.now + jiff::SignedDuration::from_secs(seconds);
    let message = format!("refused until {until}");
    let refusals = model.refusals.entry(about).or_default();
    refusals.retain(|refused| refused.planner != planner);
    refusals.push(RefusedWrite { planner, what, message, until });
}

fn bare(number: u8, web: bool, cpu: u8) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("bare-{number}"), "labels": {"app": app(web)}},
        "spec": {"containers": [{"name": "c", "image": "i",
            "resources": {"requests": {"cpu": format!("{}m", u32::from(cpu) * 900)}}}]},
        "status": {"phase": "Pending"},
    })
}

fn job(model: &mut Model, number: u8, shape: u8, suspend: bool) {
    let name = format!("job-{number}");
    let key = Key::new(JOBS, "default", &name);
    if model.objects.contains_key(&key) {
        return model.change(&key, |job| {
            job["spec"]["suspend"] = suspend.into();
            job["spec"]["parallelism"] = shape.into();
        });
    }
    let indexed = json!({"completions": 4, "parallelism": 2, "completionMode": "Indexed"});
    let mut spec = match shape {
        0 => json!({"parallelism": 2}),
        1 => json!({"completions": 3, "parallelism": 2, "backoffLimit": 1, "activeDeadlineSeconds": 30}),
        2 => json!({"completions": 2, "ttlSecondsAfterFinished": 5, "podReplacementPolicy": "Failed"}),
        _ => indexed,
    };
    match shape {
        4 => {
            spec["backoffLimitPerIndex"] = 1.into();
            spec["maxFailedIndexes"] = 1.into();
        }
        5 => {
            spec["successPolicy"] = json!({"rules": [{"succeededCount": 2}]});
            spec["podFailurePolicy"] = json!({"rules": [
                {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [3]}},
                {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [2]}}]});
        }
        _ => {}
    }
    spec["suspend"] = suspend.into();
    drop(model.job(&name, spec));
}

fn cron_job(model: &mut Model, policy: usize, suspend: bool) {
    let key = Key::new(CRONJOBS, "default", "cron");
    let policy = ["Allow", "Forbid", "Replace"][policy];
    if model.objects.contains_key(&key) {
        return model.change(&key, |cron| {
            cron["spec"]["concurrencyPolicy"] = policy.into();
            cron["spec"]["suspend"] = suspend.into();
        });
    }
    let spec = json!({"schedule": "* * * * *", "concurrencyPolicy": policy, "startingDeadlineSeconds": 45,
        "suspend": suspend, "successfulJobsHistoryLimit": 1});
    drop(model.cron_job("cron", spec));
}

fn autoscaler(model: &mut Model, number: u8, target: usize, shape: u8) {
    let (kind, api_version) = [
        ("Deployment", "apps/v1"),
        ("StatefulSet", "apps/v1"),
        ("ReplicationController", "v1"),
        ("DaemonSet", "apps/v1"),
    ][target];
    let mut spec = json!({"minReplicas": 1, "maxReplicas": 6,
        "scaleTargetRef": {"apiVersion": api_version, "kind": kind, "name": "web"}});
    match shape {
        0 => spec["maxReplicas"] = 2.into(),
        1 => spec["minReplicas"] = 3.into(),
        2 => {
            spec["behavior"] = json!({"scaleDown": {"stabilizationWindowSeconds": 0},
                "scaleUp": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 30}]}})
        }
        3 => {
            let service = json!({"apiVersion": "v1", "kind": "Service", "name": "web"});
            spec["metrics"] = json!([{"type": "Object", "object": {"describedObject": service,
                "metric": {"name": "requests-per-second"}, "target": {"type": "Value", "value": "10"}}}]);
            model.usage.gateways =
                [("gateway".to_owned(), Arc::new([(Key::new(SERVICES, "default", "web"), 30_000)].into()))]
                    .into();
        }
        _ => {}
    }
    drop(crate::autoscalers::put(model, &format!("scaler-{number}"), spec));
}

fn occur(model: &mut Model, event: &Event) {
    let shop = Key::new(NAMESPACES, "", "shop");
    match event {
        Event::Usual(event) => happen(model, event),
        Event::Namespace { deleted: true } if model.objects.contains_key(&shop) => delete(model, &shop, 4),
        Event::Namespace { .. } => model.namespace("shop"),
        Event::Inside { finalizer } => {
            let finalizers = if *finalizer { json!(["a/b"]) } else { json!([]) };
            let map = json!({"metadata": {"name": "settings", "finalizers": finalizers}});
            drop(model.put(CONFIGMAPS, "shop", map));
        }
        Event::Pod { number, app, cpu, namespace } => {
            let namespace = if *namespace { "default" } else { "shop" };
            let key = Key::new(PODS, namespace, &format!("bare-{number}"));
            if !model.objects.contains_key(&key) {
                drop(model.put(PODS, namespace, bare(*number, *app, *cpu)));
            }
        }
        Event::Delete { resource, which, how } => {
            if let Some(key) = nth(model, RESOURCES[*resource], *which) {
                delete(model, &key, *how);
            }
        }
        Event::Service { headless, app: web } => {
            let key = model.service("web", app(*web));
            if *headless {
                model.change(&key, |value| value["spec"]["clusterIP"] = "None".into());
            }
        }
        Event::Endpoints { shape, skip } => write_endpoints(model, *shape, *skip),
        Event::Node { node, change } => change_node(model, *node, *change),
        Event::Relabel { resource, which, app: web } => {
            if let Some(key) =
                nth(model, [PODS, REPLICASETS, SERVICES, CONTROLLERREVISIONS][*resource], *which)
            {
                model.change(&key, |value| value["metadata"]["labels"]["app"] = app(*web).into());
            }
        }
        Event::Unowned { resource, which } => {
            if let Some(key) = nth(
                model,
                [PODS, REPLICASETS, CONTROLLERREVISIONS, PERSISTENTVOLUMECLAIMS][*resource],
                *which,
            ) {
                model.change(&key, |value| value["metadata"]["ownerReferences"] = json!([]));
            }
        }
        Event::Idle => {
            let class =
                json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "box"}});
            drop(model.put("runtimeclasses.node.k8s.io", "", class));
        }
        Event::Set { resource, change } => {
            change_set(model, [STATEFULSETS, DAEMONSETS, REPLICATIONCONTROLLERS][*resource], *change);
        }
        Event::Budget { which, change } => change_budget(model, *which, *change),
        Event::Quota { which, change } => change_quota(model, *which, *change),
        Event::ClusterRole { which, change } => change_cluster_role(model, *which, *change),
        Event::Autoscaler { number, target, shape } => autoscaler(model, *number, *target, *shape),
        Event::Usage { millis, every } => {
            crate::autoscalers::start(model);
            let mut count = 0_usize;
            crate::autoscalers::measure(model, |_, _| {
                count += 1;
                count.is_multiple_of(*every).then_some(*millis)
            });
        }
        Event::Copy { which } => {
            if let Some(key) = nth(model, CONTROLLERREVISIONS, *which) {
                let mut copy = model.get(&key).clone();
                copy["metadata"]["name"] = format!("copy-{which}").into();
                copy["metadata"]["uid"] = Value::Null;
                copy["metadata"]["labels"]["controller-revision-hash"] = format!("copy{which}").into();
                copy["revision"] = (copy["revision"].as_i64().unwrap_or(0) + 1).into();
                model.put(CONTROLLERREVISIONS, "default", copy);
            }
        }
        Event::Disguise { which } => {
            if let Some(key) = nth(model, PODS, *which) {
                model.change(&key, |pod| pod["metadata"]["labels"] = json!({"app": "web"}));
            }
        }
        Event::Bind { which } => {
            if let Some(key) = nth(model, PERSISTENTVOLUMECLAIMS, *which) {
                model.change(&key, |value| {
                    value["spec"]["volumeName"] = "v".into();
                    value["status"]["phase"] = "Bound".into();
                });
            }
        }
        Event::Job { number, shape, suspend } => job(model, *number, *shape, *suspend),
        Event::CronJob { policy, suspend } => cron_job(model, *policy, *suspend),
        Event::End { which, code } => {
            let running = |(key, pod): (&Key, &Value)| (!has_ended(pod)).then(|| key.clone());
            let key = model.pods().filter_map(running).nth(*which);
            if let Some(key) = key {
                model.end(&key, *code);
            }
        }
        Event::Ingress { host } => {
            let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
            let rule = json!({"host": if *host { "a.example" } else { "" },
                "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}});
            let name = if *host { "one" } else { "other" };
            drop(model.put(
                INGRESSES,
                "default",
                json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
                "metadata": {"name": name}, "spec": {"tls": [{"secretName": "s"}], "rules": [rule]}}),
            ));
        }
        Event::Some { which } => {
            for (index, step) in model.plan().steps.iter().enumerate() {
                if which >> (index % 32) & 1 == 1 {
                    model.commit(&step.transaction);
                }
            }
        }
        Event::Clock { seconds } => model.now += jiff::SignedDuration::from_secs(*seconds),
        Event::Refuse { write, which, seconds } => refuse(model, WRITES[*write], *which, *seconds),
        Event::Allow { which } => {
            if let Some(about) = model.refusals.keys().nth(*which).cloned() {
                model.refusals.remove(&about);
            }
        }
        Event::Fall { acknowledged } => model.acknowledged = model.acknowledged.saturating_sub(*acknowledged),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    /// The model compares the two with each plan.
    #[test]
    fn what_was_touched_is_all_that_there_is_to_do(events in proptest::collection::vec(event(), 1..40)) {
        let mut model = Model::new(3);
        model.service("web", "web");
        for event in &events {
            occur(&mut model, event);
            drop(model.plan());
        }
        for _ in 0..8 {
            for step in &model.plan().steps {
                model.commit(&step.transaction);
            }
            model.agents();
            model.now += jiff::SignedDuration::from_secs(1);
        }
    }
}

/// Two pods of a deployment with a service, and ten thousand that nobody schedules.
fn crowd() -> (World, Planner, Model) {
    let mut model = Model::new(2);
    model.deployment("web", 2, json!({}));
    model.service("web", "web");
    model.settle();
    for number in 0..10_000u32 {
        let name = format!("bulk-{number:05}");
        drop(model.put(PODS, "default", json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": format!("bulk-{}", number % 50)}},
            "spec": {"schedulerName": "other", "containers": [{"name": "c", "image": "i"}]},
            "status": {"phase": "Pending"},
        })));
    }
    let (world, mut planner) = (model.world(), Planner::default());
    let plan = planner.plan(&world, model.now, &Unwatched);
    assert!(plan.steps.is_empty() && planner.planned() > 10_000, "a start looks at everything");
    (world, planner, model)
}

/// The same world with one object at a new revision.
fn touch(world: &World, key: Key, value: Value) -> World {
    let revision = world.snapshot.revision + 1;
    let mut snapshot = world.snapshot.with(Arc::new(Object::new(key, revision, value)));
    snapshot.revision = revision;
    World { snapshot: Arc::new(snapshot), ..world.clone() }
}

#[test]
fn one_touched_object_among_ten_thousand_costs_a_few_keys() {
    let (world, mut planner, model) = crowd();
    let mut planned = |world: &World| {
        let plan = planner.plan(world, model.now, &Unwatched);
        assert!(plan.steps.is_empty(), "{:?}", plan.steps.iter().map(|step| &step.why).collect::<Vec<_>>());
        planner.planned()
    };
    assert_eq!(planned(&world), 0, "nothing has happened");
    let map =
        json!({"metadata": {"name": "settings", "namespace": "default", "uid": "u"}, "data": {"a": "b"}});
    assert_eq!(
        planned(&touch(&world, Key::new(CONFIGMAPS, "default", "settings"), map)),
        0,
        "nobody plans for it"
    );
    for (prefix, most) in [("bulk-00077", 4), ("web-", 7)] {
        let (key, pod) = model.pods().find(|(key, _)| key.name.starts_with(prefix)).unwrap();
        let mut pod = pod.clone();
        pod["status"]["message"] = "news".into();
        let keys = planned(&touch(&world, key.clone(), pod));
        // The world before is come back to, so the ConfigMap or the last pod is touched, too.
        assert!((1..=most + 7).contains(&keys), "{prefix}: {keys} keys");
    }
}

#[test]
fn a_look_at_what_nothing_touched_goes_round_and_finds_nothing() {
    let (world, mut planner, model) = crowd();
    let mut looked: usize = 0;
    for _ in 0..6 {
        planner.revisit(world.snapshot.len().div_ceil(5));
        let plan = planner.plan(&world, model.now, &Unwatched);
        assert!(plan.steps.is_empty() && planner.missed().is_empty(), "{:?}", planner.missed());
        assert!(planner.planned() > 0);
        looked += planner.planned();
    }
    assert!(looked > 40_000, "each pod has four keys: {looked}");
}
