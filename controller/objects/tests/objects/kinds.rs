//! What is refused of the kinds beside pods, services and Deployments, in which words; and what they print.

use crate::{
    more_samples::*,
    samples::{SAMPLES, served, yaml},
};
use serde_json::{Value, json};
use warren_objects::{defaults, kinds, strict, table, validate};

pub(crate) fn defaulted(resource: &str, value: Value) -> Value {
    let mut value = value;
    defaults::apply(served(resource), &mut value);
    value
}

pub(crate) fn changed(text: &str, changes: &[(&str, Value)]) -> Value {
    let mut value = yaml(text);
    for (path, change) in changes {
        let slot = path.split('.').fold(&mut value, |value, field| match field.parse::<usize>() {
            Ok(index) if value.is_array() => &mut value[index],
            _ => &mut value[field],
        });
        *slot = change.clone();
    }
    value
}

/// The messages about a sample after some changes.
pub(crate) fn refused(resource: &str, text: &str, changes: &[(&str, Value)]) -> Vec<String> {
    let value = defaulted(resource, changed(text, changes));
    validate::create(served(resource), &value).iter().map(ToString::to_string).collect()
}

/// The messages about a change of a sample.
pub(crate) fn update_refused(resource: &str, text: &str, changes: &[(&str, Value)]) -> Vec<String> {
    let (old, new) = (defaulted(resource, yaml(text)), defaulted(resource, changed(text, changes)));
    validate::update(served(resource), &old, &new).iter().map(ToString::to_string).collect()
}

fn cells(resource: &str, text: &str) -> Vec<Value> {
    let now = "2026-11-22T12:00:00Z".parse().unwrap();
    table::row(served(resource), &defaulted(resource, yaml(text)), now)
}

#[test]
fn every_kind_has_a_real_object_that_is_accepted() {
    for kind in kinds::KINDS.iter().filter(|kind| kind.group != "metrics.k8s.io") {
        let known =
            SAMPLES.iter().chain(MORE_SAMPLES).chain(REFUSED).any(|(resource, _)| *resource == kind.resource);
        assert!(known, "{} needs a sample", kind.resource);
    }
    for (resource, text) in MORE_SAMPLES.iter().chain(REFUSED) {
        assert_eq!(
            strict::decode(served(resource), &yaml(text)).unwrap(),
            strict::Unknown::default(),
            "{resource}"
        );
        let value = defaulted(resource, yaml(text));
        assert_eq!(
            strict::decode(served(resource), &value).unwrap(),
            strict::Unknown::default(),
            "{resource}, defaulted"
        );
        assert_eq!(
            defaulted(resource, value.clone()),
            value,
            "{resource}: defaults are settled after one pass"
        );
        assert_eq!(refused(resource, text, &[]), Vec::<String>::new(), "{resource}");
        assert_eq!(update_refused(resource, text, &[]), Vec::<String>::new(), "{resource}");
    }
}

#[test]
fn stateful_sets_and_daemon_sets() {
    let resource = "statefulsets.apps";
    assert_eq!(
        refused(resource, STATEFUL_SET, &[("spec.podManagementPolicy", json!("Random"))]),
        ["spec.podManagementPolicy: Invalid value: \"Random\": must be 'OrderedReady' or 'Parallel'"]
    );
    assert_eq!(
        refused(resource, STATEFUL_SET, &[("spec.selector", json!({}))]),
        ["spec.selector: Invalid value: {}: empty selector is invalid for statefulset"]
    );
    assert_eq!(
        update_refused(resource, STATEFUL_SET, &[("spec.serviceName", json!("other"))]),
        [
            "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
          'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are \
          forbidden"
        ]
    );
    let allowed = [
        ("spec.replicas", json!(5)),
        ("spec.ordinals", json!({"start": 3})),
        ("spec.template.spec.containers.0.image", json!("postgres:18")),
        ("spec.updateStrategy", json!({"type": "OnDelete"})),
        ("spec.persistentVolumeClaimRetentionPolicy", json!({"whenScaled": "Delete"})),
        ("spec.minReadySeconds", json!(7)),
        ("spec.revisionHistoryLimit", json!(0)),
    ];
    assert!(update_refused(resource, STATEFUL_SET, &allowed).is_empty());
    let fixed = [
        ("spec.podManagementPolicy", json!("Parallel")),
        ("spec.volumeClaimTemplates.0.spec.resources.requests.storage", json!("2Gi")),
    ];
    for change in fixed {
        let messages = update_refused(resource, STATEFUL_SET, &[change]);
        assert!(
            matches!(&messages[..], [message] if message.starts_with("spec: Forbidden: updates to")),
            "{messages:?}"
        );
    }
    let resource = "daemonsets.apps";
    let zero = [("spec.updateStrategy", json!({"rollingUpdate": {"maxUnavailable": 0}}))];
    assert_eq!(
        refused(resource, DAEMON_SET, &zero),
        ["spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0"]
    );
    assert_eq!(
        refused(resource, DAEMON_SET, &[("spec.updateStrategy", json!({"type": "Never"}))]),
        [
            "spec.updateStrategy.type: Unsupported value: \"Never\": supported values: \"RollingUpdate\", \"OnDelete\""
        ]
    );
    let other = json!({"matchLabels": {"app": "other"}});
    let messages = update_refused(resource, DAEMON_SET, &[("spec.selector", other)]);
    assert!(messages.last().unwrap().ends_with("field is immutable"), "{messages:?}");
}

#[test]
fn stateful_sets_are_named_like_hosts_and_their_claims_are_judged() {
    let wrong = |field: &str, value: Value| refused("statefulsets.apps", STATEFUL_SET, &[(field, value)]);
    for (field, name) in [("metadata.name", "a.b"), ("spec.serviceName", "a.b")] {
        let messages = wrong(field, json!(name));
        let expected = format!("{field}: Invalid value: \"a.b\": a lowercase RFC 1123 label must consist of");
        assert!(matches!(&messages[..], [message] if message.starts_with(&expected)), "{messages:?}");
    }
    assert_eq!(
        wrong("spec.volumeClaimTemplates.0.spec", json!({"accessModes": ["Often"]})),
        [
            "spec.volumeClaimTemplates[0].spec.accessModes[0]: Unsupported value: \"Often\": supported values: \
             \"ReadOnlyMany\", \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\"",
            "spec.volumeClaimTemplates[0].spec.resources[storage]: Required value",
        ]
    );
    let path = "spec.updateStrategy.rollingUpdate.maxUnavailable";
    let unavailable =
        |amount: Value| wrong("spec.updateStrategy", json!({"rollingUpdate": {"maxUnavailable": amount}}));
    assert_eq!(unavailable(json!(0)), [format!("{path}: Invalid value: 0: cannot be 0")]);
    assert_eq!(
        unavailable(json!("101%")),
        [format!("{path}: Invalid value: \"101%\": must not be greater than 100%")]
    );
    assert!(unavailable(json!("100%")).is_empty());
    // What pods get from the set is not asked of the template.
    assert!(wrong("spec.template.spec.hostname", json!("Not a name")).is_empty());
}

#[test]
fn jobs_and_cron_jobs() {
    let restart = "spec.template.spec.restartPolicy";
    assert_eq!(
        refused("jobs.batch", JOB, &[(restart, json!("Always"))]),
        ["spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""]
    );
    assert_eq!(
        refused("jobs.batch", JOB, &[(restart, json!("OnFailure"))]),
        ["spec.template.spec.restartPolicy: Invalid value: \"OnFailure\": only \"Never\" is supported when \
          podFailurePolicy is specified"]
    );
    assert_eq!(
        refused("jobs.batch", JOB, &[("spec.completions", Value::Null)]),
        ["spec.completions: Required value: when completion mode is Indexed"]
    );
    assert_eq!(
        refused("jobs.batch", JOB, &[("spec.selector", json!({"matchLabels": {"app": "pi"}}))])[0],
        "spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"pi\"}}: `selector` not auto-generated"
    );
    let image = [("spec.template.spec.containers.0.image", json!("perl:6"))];
    let messages = update_refused("jobs.batch", JOB, &image);
    assert!(messages[0].starts_with("spec.template: Invalid value: "), "{messages:?}");
    assert!(messages[0].ends_with(": field is immutable"), "{messages:?}");
    assert!(update_refused("jobs.batch", JOB, &[("spec.parallelism", json!(1))]).is_empty());
    assert_eq!(
        refused("cronjobs.batch", CRON_JOB, &[("spec.schedule", json!("* * *"))]),
        ["spec.schedule: Invalid value: \"* * *\": expected exactly 5 fields, found 3: [* * *]"]
    );
    assert_eq!(
        refused("cronjobs.batch", CRON_JOB, &[("spec.concurrencyPolicy", json!("Maybe"))]),
        [
            "spec.concurrencyPolicy: Unsupported value: \"Maybe\": supported values: \"Allow\", \"Forbid\", \"Replace\""
        ]
    );
    assert_eq!(
        refused("cronjobs.batch", CRON_JOB, &[("spec.timeZone", json!("Mars/Olympus"))]),
        ["spec.timeZone: Invalid value: \"Mars/Olympus\": unknown time zone Mars/Olympus"]
    );
    let name = "a".repeat(53);
    assert_eq!(
        refused("cronjobs.batch", CRON_JOB, &[("metadata.name", json!(name))]),
        [format!("metadata.name: Invalid value: \"{name}\": must be no more than 52 characters")]
    );
}

#[test]
fn autoscalers_and_budgets() {
    let resource = "horizontalpodautoscalers.autoscaling";
    assert_eq!(
        refused(resource, AUTOSCALER, &[("spec.minReplicas", json!(11))]),
        ["spec.maxReplicas: Invalid value: 10: must be greater than or equal to `minReplicas`"]
    );
    assert_eq!(
        refused(resource, AUTOSCALER, &[("spec.metrics.0.resource.target", json!({"type": "Utilization"}))]),
        [
            "spec.metrics[0].resource.target.averageUtilization: Required value: must set either a target raw value or \
          a target utilization"
        ]
    );
    assert_eq!(
        refused(resource, AUTOSCALER, &[("spec.scaleTargetRef.name", Value::Null)]),
        ["spec.scaleTargetRef.name: Required value"]
    );
    let rules = json!({"tolerance": "-0.1", "policies": [{"type": "Pods", "value": 1, "periodSeconds": 15}]});
    assert_eq!(
        refused(resource, AUTOSCALER, &[("spec.behavior", json!({"scaleUp": rules}))]),
        ["spec.behavior.scaleUp.tolerance: Invalid value: \"-0.1\": must be greater than or equal to 0"]
    );
    let resource = "poddisruptionbudgets.policy";
    let both = refused(resource, BUDGET, &[("spec.maxUnavailable", json!(1))]);
    assert!(both[0].ends_with("minAvailable and maxUnavailable cannot be both set"), "{both:?}");
    assert_eq!(
        refused(resource, BUDGET, &[("spec.minAvailable", json!("150%"))]),
        ["spec.minAvailable: Invalid value: \"150%\": must not be greater than 100%"]
    );
}

#[test]
fn storage() {
    let resource = "persistentvolumeclaims";
    assert_eq!(
        refused(resource, CLAIM, &[("spec.accessModes", Value::Null)]),
        ["spec.accessModes: Required value: at least 1 access mode is required"]
    );
    assert_eq!(
        refused(resource, CLAIM, &[("spec.accessModes", json!(["Often"]))]),
        [
            "spec.accessModes[0]: Unsupported value: \"Often\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \
          \"ReadWriteOnce\", \"ReadWriteOncePod\""
        ]
    );
    assert_eq!(
        refused(resource, CLAIM, &[("spec.resources", json!({}))]),
        ["spec.resources[storage]: Required value"]
    );
    assert_eq!(
        update_refused(resource, CLAIM, &[("spec.storageClassName", json!("slow"))]),
        [
            "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName \
          for bound claims"
        ]
    );
    assert!(update_refused(resource, CLAIM, &[("spec.volumeName", json!("disk-1"))]).is_empty());
    assert_eq!(
        refused("persistentvolumes", VOLUME, &[("spec.nodeAffinity", Value::Null)]),
        ["spec.nodeAffinity: Required value: Local volume requires node affinity"]
    );
    assert_eq!(
        update_refused("persistentvolumes", VOLUME, &[("spec.local.path", json!("/mnt/2"))]),
        ["spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation"]
    );
    let (_, class) =
        MORE_SAMPLES.iter().find(|(resource, _)| resource.starts_with("storageclasses")).unwrap();
    let resource = "storageclasses.storage.k8s.io";
    assert_eq!(
        update_refused(resource, class, &[("parameters.type", json!("hdd"))]),
        ["parameters: Forbidden: updates to parameters are forbidden."]
    );
    assert_eq!(refused(resource, class, &[("provisioner", Value::Null)]), ["provisioner: Required value"]);
}

#[test]
fn quotas_classes_and_the_rest() {
    assert_eq!(
        refused("resourcequotas", RESOURCE_QUOTA, &[("spec.hard", json!({"bananas": "1"}))]),
        ["spec.hard[bananas]: Invalid value: \"bananas\": must be a standard resource for quota"]
    );
    assert_eq!(
        refused("resourcequotas", RESOURCE_QUOTA, &[("spec.hard", json!({"pods": "1.5"}))]),
        ["spec.hard[pods]: Invalid value: \"1.5\": must be an integer"]
    );
    let selecting = |scope: &str, operator: &str, values: serde_json::Value| {
        let selector =
            json!({"matchExpressions": [{"scopeName": scope, "operator": operator, "values": values}]});
        refused("resourcequotas", RESOURCE_QUOTA, &[("spec.scopeSelector", selector)])
    };
    let path = "spec.scopeSelector.matchExpressions[0]";
    assert_eq!(
        selecting("PriorityClass", "In", json!([])),
        [format!(
            "{path}.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
        )]
    );
    assert_eq!(
        selecting("BestEffort", "In", json!(["a"])),
        [format!("{path}.operator: Invalid value: \"In\": must be 'Exists' for this scope")]
    );
    assert_eq!(
        selecting("PriorityClass", "Is", json!(["a"])),
        [format!("{path}.operator: Invalid value: \"Is\": not a valid selector operator")]
    );
    assert_eq!(
        refused("limitranges", LIMIT_RANGE, &[("spec.limits.0.min.cpu", json!("3"))])[0],
        "spec.limits[0].min[cpu]: Invalid value: \"3\": min value 3 is greater than default request value 100m"
    );
    let find = |resource: &str| MORE_SAMPLES.iter().find(|(found, _)| *found == resource).unwrap().1;
    let resource = "priorityclasses.scheduling.k8s.io";
    assert_eq!(
        update_refused(resource, find(resource), &[("value", json!(5))]),
        ["value: Forbidden: may not be changed in an update."]
    );
    assert_eq!(
        refused(resource, find(resource), &[("value", json!(1_000_000_001))]),
        ["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"]
    );
    let resource = "runtimeclasses.node.k8s.io";
    assert_eq!(
        update_refused(resource, find(resource), &[("handler", json!("kata"))]),
        ["handler: Invalid value: \"kata\": field is immutable"]
    );
    let resource = "ingressclasses.networking.k8s.io";
    assert_eq!(
        refused(resource, INGRESS_CLASS, &[("spec.controller", json!("nginx"))]),
        [
            "spec.controller: Invalid value: \"nginx\": must be a domain-prefixed path (such as \"acme.io/foo\")"
        ]
    );
    assert_eq!(
        refused("replicationcontrollers", REPLICATION_CONTROLLER, &[("spec.selector", json!({"app": "x"}))]),
        [
            "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`"
        ]
    );
    assert_eq!(
        update_refused("controllerrevisions.apps", CONTROLLER_REVISION, &[("data", json!({"a": 1}))]),
        ["data: Invalid value: {\"a\":1}: field is immutable"]
    );
    assert_eq!(
        refused("controllerrevisions.apps", CONTROLLER_REVISION, &[("data", json!([1]))]),
        ["data: Required value: data must be a valid JSON object"]
    );
}

#[test]
fn what_is_printed() {
    assert_eq!(cells("statefulsets.apps", STATEFUL_SET)[..2], [json!("db"), json!("0/3")]);
    assert_eq!(
        cells("daemonsets.apps", DAEMON_SET)[1..7],
        [json!(3), json!(3), json!(2), json!(0), json!(0), json!("disk=ssd")]
    );
    assert_eq!(cells("jobs.batch", JOB)[1..4], [json!("Running"), json!("0/5"), json!("")]);
    assert_eq!(
        cells("cronjobs.batch", CRON_JOB)[1..6],
        [json!("*/5 1-3 * * mon-fri"), json!("Europe/Berlin"), json!("False"), json!(0), json!("<none>")]
    );
    assert_eq!(
        cells("horizontalpodautoscalers.autoscaling", AUTOSCALER)[1..6],
        [json!("Deployment/web"), json!("cpu: <unknown>/60%, <unknown>/1k"), json!("1"), json!(10), json!(0)]
    );
    assert_eq!(cells("poddisruptionbudgets.policy", BUDGET)[1..4], [json!("50%"), json!("N/A"), json!(0)]);
    assert_eq!(
        cells("persistentvolumes", VOLUME)[1..7],
        [json!("10Gi"), json!("RWO,ROX"), json!("Retain"), json!("Pending"), json!(""), json!("local")]
    );
    assert_eq!(
        cells("persistentvolumeclaims", CLAIM)[1..6],
        ["Pending", "", "", "", "fast"].map(Value::from)
    );
    assert_eq!(
        cells("resourcequotas", RESOURCE_QUOTA)[1..3],
        [json!("pods: 3/10"), json!("limits.memory: 0/8Gi")]
    );
    assert_eq!(
        cells("controllerrevisions.apps", CONTROLLER_REVISION)[1..3],
        [json!("statefulset.apps/db"), json!(3)]
    );
    assert_eq!(
        cells("ingressclasses.networking.k8s.io", INGRESS_CLASS)[1..3],
        [json!("example.com/ingress"), json!("Settings.example.com/all")]
    );
    assert_eq!(cells("replicationcontrollers", REPLICATION_CONTROLLER)[7], "app=web");
}
