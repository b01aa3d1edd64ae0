//! Defaults of what keeps pods running, and of the pod templates in it.

use serde_json::Value;

use super::pod;
use crate::json::{at, default_to, ensure_map, get, is_empty, text};

/// A Deployment.
pub(crate) fn deployment(value: &mut Value) {
    let Some(spec) = ensure_map(value, "spec") else { return };
    default_to(spec, "replicas", 1);
    default_to(spec, "revisionHistoryLimit", 10);
    default_to(spec, "progressDeadlineSeconds", 600);
    if let Some(strategy) = ensure_map(spec, "strategy") {
        default_to(strategy, "type", "RollingUpdate");
        if text(strategy, "type") == "RollingUpdate"
            && let Some(rolling) = ensure_map(strategy, "rollingUpdate")
        {
            default_to(rolling, "maxUnavailable", "25%");
            default_to(rolling, "maxSurge", "25%");
        }
    }
    template(spec);
}

/// A ReplicaSet.
pub(crate) fn replica_set(value: &mut Value) {
    let Some(spec) = ensure_map(value, "spec") else { return };
    default_to(spec, "replicas", 1);
    template(spec);
}

/// A ReplicationController: selector and labels are the template's, unless it has its own.
pub(crate) fn replication_controller(value: &mut Value) {
    let Some(spec) = ensure_map(value, "spec") else { return };
    default_to(spec, "replicas", 1);
    template(spec);
    let labels = at(spec, "template.metadata.labels").clone();
    if is_empty(&labels) {
        return;
    }
    if is_empty(get(spec, "selector")) {
        spec["selector"] = labels.clone();
    }
    labels_from_template(value, labels);
}

/// Gives an object without labels those of its template.
pub(super) fn labels_from_template(value: &mut Value, labels: Value) {
    if let Some(metadata) = ensure_map(value, "metadata")
        && is_empty(get(metadata, "labels"))
    {
        metadata["labels"] = labels;
    }
}

/// A DaemonSet.
pub(crate) fn daemon_set(value: &mut Value) {
    let Some(spec) = ensure_map(value, "spec") else { return };
    default_to(spec, "revisionHistoryLimit", 10);
    if let Some(strategy) = ensure_map(spec, "updateStrategy") {
        default_to(strategy, "type", "RollingUpdate");
        if text(strategy, "type") == "RollingUpdate"
            && let Some(rolling) = ensure_map(strategy, "rollingUpdate")
        {
            default_to(rolling, "maxUnavailable", 1);
            default_to(rolling, "maxSurge", 0);
        }
    }
    template(spec);
}

/// A PodTemplate, whose template is at its root.
pub(crate) fn pod_template(value: &mut Value) {
    template(value);
}

/// The pod template in a workload's spec.
pub(super) fn template(spec: &mut Value) {
    if let Some(template) = ensure_map(spec, "template")
        && let Some(pod_spec) = ensure_map(template, "spec")
    {
        pod::spec_of_pod_or_template(pod_spec);
    }
}

#[cfg(test)]
mod tests {
    use crate::defaults::apply;
    use serde_json::json;

    #[test]
    fn deployments() {
        let mut value =
            json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "b"}]}}}});
        apply("deployments.apps", &mut value);
        let spec = &value["spec"];
        assert_eq!(spec["replicas"], 1);
        assert_eq!(
            spec["strategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}})
        );
        assert_eq!(spec["template"]["spec"]["containers"][0]["imagePullPolicy"], "Always");
        // What only pods get is not in templates: the hash must not depend on it.
        assert!(spec["template"]["spec"].get("enableServiceLinks").is_none());
        assert!(spec["template"]["spec"].get("serviceAccountName").is_none());
        assert!(value["metadata"].get("labels").is_none());
    }

    #[test]
    fn recreate_has_no_rolling_update_and_zero_is_a_number_of_replicas() {
        let mut value = json!({"spec": {"replicas": 0, "strategy": {"type": "Recreate"}}});
        apply("deployments.apps", &mut value);
        assert_eq!(value["spec"]["strategy"], json!({"type": "Recreate"}));
        assert_eq!(value["spec"]["replicas"], 0);
    }
}
