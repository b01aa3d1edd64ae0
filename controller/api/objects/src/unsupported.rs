//! What is stored but not acted upon by this version, said in a warning per field.
//!
//! What would run wrongly without the field is refused by [`crate::validate`] instead.

use serde_json::Value;

use crate::{
    field::Path,
    json::{at, get, is_empty, items},
    kinds,
};

/// What is stored but not acted upon: the object as a whole, when nobody does anything with its kind yet, and one
/// sentence per field, for `Warning` headers.
pub fn warnings(resource: &str, value: &Value) -> Vec<String> {
    let Some(kind) = kinds::of(resource) else { return Vec::new() };
    let idle = (!kind.idle.is_empty()).then(|| kind.idle.to_owned());
    idle.into_iter().chain((kind.warnings)(value)).collect()
}

/// When a field deserves its warning.
enum When {
    /// It says anything.
    Given,
    /// It says something else than these, which are the default or what happens anyway.
    Not(&'static [&'static str]),
    /// It is this text.
    Is(&'static str),
    /// It is true.
    True,
    /// It is a number other than 0.
    NotZero,
    /// The function says so.
    That(fn(&Value) -> bool),
}

/// One field, from where its table is applied; `*` stands for every item of a list.
struct Rule(&'static str, When, &'static str);

const STORED: &str = "stored, but not acted upon by this version of Warren";

/// The spec of a pod or of a template.
const POD_SPEC: &[Rule] = &[
    Rule("activeDeadlineSeconds", When::Given, STORED),
    Rule("affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution", When::Given, STORED),
    Rule("affinity.podAffinity", When::Given, STORED),
    Rule("affinity.podAntiAffinity", When::Given, STORED),
    Rule("automountServiceAccountToken", When::True, "stored, but this version of Warren mounts no token"),
    Rule("ephemeralContainers", When::Given, STORED),
    Rule("hostUsers", When::Given, STORED),
    Rule(
        "imagePullSecrets",
        When::Given,
        "stored, but images are pulled without them by this version of Warren",
    ),
    Rule("preemptionPolicy", When::Not(&["PreemptLowerPriority"]), STORED),
    Rule("priorityClassName", When::Given, STORED),
    Rule("readinessGates", When::Given, "stored, but not waited for by this version of Warren"),
    Rule("resources", When::Given, STORED),
    Rule("runtimeClassName", When::Given, STORED),
    Rule(
        "schedulerName",
        When::Not(&["default-scheduler"]),
        "Warren's scheduler leaves the pod alone: it stays Pending until a scheduler of that name binds it",
    ),
    Rule("securityContext.appArmorProfile", When::Given, STORED),
    Rule(
        "securityContext.fsGroup",
        When::Given,
        "a group of the pod's processes, but volumes are not made this group's by this version of Warren",
    ),
    Rule("securityContext.fsGroupChangePolicy", When::Given, STORED),
    Rule("securityContext.seLinuxOptions", When::Given, STORED),
    Rule("securityContext.seccompProfile.type", When::Not(&["RuntimeDefault"]), STORED),
    Rule("securityContext.sysctls", When::Given, STORED),
    Rule("securityContext.windowsOptions", When::Given, STORED),
    Rule("shareProcessNamespace", When::True, STORED),
    Rule("topologySpreadConstraints", When::Given, STORED),
    Rule("volumes.*.emptyDir", When::That(limits_a_disk), "sizeLimit is enforced for medium Memory only"),
];

/// Each container and init container.
const CONTAINER: &[Rule] = &[
    Rule("lifecycle.stopSignal", When::Given, STORED),
    Rule("ports.*.hostPort", When::NotZero, "stored, but not opened on the node by this version of Warren"),
    Rule("ports.*.protocol", When::Is("SCTP"), "stored, but SCTP is not carried by this version of Warren"),
    Rule("resizePolicy", When::Given, STORED),
    Rule("resources.claims", When::Given, STORED),
    Rule("securityContext.appArmorProfile", When::Given, STORED),
    Rule("securityContext.procMount", When::Not(&["Default"]), STORED),
    Rule("securityContext.seLinuxOptions", When::Given, STORED),
    Rule("securityContext.seccompProfile.type", When::Not(&["RuntimeDefault"]), STORED),
    Rule("securityContext.windowsOptions", When::Given, STORED),
    Rule("volumeMounts.*.mountPropagation", When::Not(&["None"]), STORED),
    Rule("volumeMounts.*.recursiveReadOnly", When::Not(&["Disabled"]), STORED),
];

/// A Service, from its root.
const SERVICE: &[Rule] = &[
    Rule(
        "spec.type",
        When::Is("NodePort"),
        "stored, but node ports are not opened by this version of Warren",
    ),
    Rule(
        "spec.type",
        When::Is("LoadBalancer"),
        "stored, but no address is assigned and node ports are not opened by this version of Warren",
    ),
    Rule("spec.externalIPs", When::Given, STORED),
    Rule("spec.externalTrafficPolicy", When::Not(&["Cluster"]), STORED),
    Rule("spec.internalTrafficPolicy", When::Not(&["Cluster"]), STORED),
    Rule("spec.loadBalancerClass", When::Given, STORED),
    Rule("spec.loadBalancerIP", When::Given, STORED),
    Rule("spec.loadBalancerSourceRanges", When::Given, STORED),
    Rule(
        "spec.ports.*.protocol",
        When::Is("SCTP"),
        "stored, but SCTP is not carried by this version of Warren",
    ),
    Rule("spec.trafficDistribution", When::Given, STORED),
];

/// An Ingress, from its root.
const INGRESS: &[Rule] = &[Rule(
    "spec.tls",
    When::Given,
    "stored, but TLS is not terminated with this certificate by this version of Warren",
)];

/// A ServiceAccount, from its root.
const SERVICE_ACCOUNT: &[Rule] = &[
    Rule(
        "imagePullSecrets",
        When::Given,
        "stored, but images are pulled without them by this version of Warren",
    ),
    Rule("automountServiceAccountToken", When::True, "stored, but this version of Warren mounts no token"),
];

/// An emptyDir on disk with a limit.
fn limits_a_disk(source: &Value) -> bool {
    !is_empty(get(source, "sizeLimit")) && get(source, "medium").as_str() != Some("Memory")
}

/// A pod.
pub(crate) fn pod(value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    pod_spec(get(value, "spec"), &Path::new("spec"), &mut found);
    found
}

/// A workload with a pod template.
pub(crate) fn template(value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    pod_spec(at(value, "spec.template.spec"), &Path::new("spec.template.spec"), &mut found);
    found
}

/// A CronJob, whose pod template is in its job template.
pub(crate) fn job_template(value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let path = "spec.jobTemplate.spec.template.spec";
    pod_spec(at(value, path), &Path::new(path), &mut found);
    found
}

/// A Service.
pub(crate) fn service(value: &Value) -> Vec<String> {
    from_root(SERVICE, value)
}

/// An Ingress.
pub(crate) fn ingress(value: &Value) -> Vec<String> {
    from_root(INGRESS, value)
}

/// A ServiceAccount.
pub(crate) fn service_account(value: &Value) -> Vec<String> {
    from_root(SERVICE_ACCOUNT, value)
}

fn from_root(rules: &[Rule], value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    apply(rules, value, &Path::default(), &mut found);
    found
}

fn pod_spec(spec: &Value, path: &Path, found: &mut Vec<String>) {
    apply(POD_SPEC, spec, path, found);
    for list in ["initContainers", "containers"] {
        for (index, container) in items(spec, list).iter().enumerate() {
            apply(CONTAINER, container, &path.child(list).index(index), found);
        }
    }
}

fn apply(rules: &[Rule], value: &Value, path: &Path, found: &mut Vec<String>) {
    for Rule(field, when, message) in rules {
        visit(value, path, field, &mut |value, path| {
            if when.holds(value) {
                found.push(format!("{path}: {message}"));
            }
        });
    }
}

/// Calls back with every value at a dotted path; `*` stands for every item.
fn visit(value: &Value, path: &Path, field: &str, report: &mut dyn FnMut(&Value, &Path)) {
    let (first, rest) = field.split_once('.').map_or((field, None), |(first, rest)| (first, Some(rest)));
    let mut step = |value: &Value, path: &Path| match rest {
        Some(rest) => visit(value, path, rest, report),
        None => report(value, path),
    };
    if first == "*" {
        for (index, item) in value.as_array().into_iter().flatten().enumerate() {
            step(item, &path.index(index));
        }
    } else {
        step(get(value, first), &path.child(first));
    }
}

impl When {
    fn holds(&self, value: &Value) -> bool {
        match self {
            Self::Given => !is_empty(value),
            Self::Not(fine) => value.as_str().is_some_and(|text| !text.is_empty() && !fine.contains(&text)),
            Self::Is(text) => value.as_str() == Some(text),
            Self::True => value.as_bool() == Some(true),
            Self::NotZero => value.as_i64().is_some_and(|number| number != 0),
            Self::That(holds) => holds(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaults_are_never_warned_about() {
        let mut pod = json!({"metadata": {"name": "a"}, "spec": {
            "volumes": [{"name": "v"}],
            "containers": [{"name": "a", "image": "b", "ports": [{"containerPort": 80}],
                "livenessProbe": {"httpGet": {"port": 80}}}]}});
        crate::defaults::apply("pods", &mut pod);
        assert_eq!(warnings("pods", &pod), Vec::<String>::new());
        let mut service = json!({"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}});
        crate::defaults::apply("services", &mut service);
        assert_eq!(warnings("services", &service), Vec::<String>::new());
    }

    #[test]
    fn fields_are_named() {
        let value = json!({"spec": {"template": {"spec": {
            "priorityClassName": "high", "topologySpreadConstraints": [{}],
            "containers": [{"name": "a"}, {"name": "b", "ports": [{"hostPort": 0}, {"hostPort": 80}],
                "securityContext": {"procMount": "Unmasked"}}]}}}});
        let found = warnings("deployments.apps", &value);
        assert_eq!(found.len(), 4, "{found:#?}");
        assert_eq!(
            found[0],
            "spec.template.spec.priorityClassName: stored, but not acted upon by this version of Warren"
        );
        assert!(
            found[2]
                .starts_with("spec.template.spec.containers[1].ports[1].hostPort: stored, but not opened")
        );
    }

    #[test]
    fn what_the_scheduler_does_is_told_as_it_is() {
        let value = json!({"spec": {"priority": 7, "overhead": {"cpu": "1m"}, "schedulerName": "mine"}});
        let found = warnings("pods", &value);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(
            found[0].starts_with("spec.schedulerName: Warren's scheduler leaves the pod alone"),
            "{found:?}"
        );
    }

    #[test]
    fn services_and_ingresses() {
        let value = json!({"spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}});
        assert_eq!(warnings("services", &value).len(), 2);
        let value = json!({"spec": {"tls": [{"hosts": ["a"]}]}});
        assert!(warnings("ingresses.networking.k8s.io", &value)[0].starts_with("spec.tls: "));
        assert!(warnings("configmaps", &json!({"data": {}})).is_empty());
        assert!(warnings("widgets", &json!({})).is_empty());
    }
}
