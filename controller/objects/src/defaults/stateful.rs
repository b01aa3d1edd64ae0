//! Defaults of StatefulSets.

use serde_json::Value;

use super::{storage, workload};
use crate::json::{default_to, ensure_map, items_mut, text};

/// A StatefulSet.
pub(crate) fn stateful_set(value: &mut Value) {
    let Some(spec) = ensure_map(value, "spec") else { return };
    default_to(spec, "replicas", 1);
    default_to(spec, "revisionHistoryLimit", 10);
    default_to(spec, "podManagementPolicy", "OrderedReady");
    if let Some(strategy) = ensure_map(spec, "updateStrategy") {
        default_to(strategy, "type", "RollingUpdate");
        if text(strategy, "type") == "RollingUpdate"
            && let Some(rolling) = ensure_map(strategy, "rollingUpdate")
        {
            default_to(rolling, "partition", 0);
        }
    }
    if let Some(retention) = ensure_map(spec, "persistentVolumeClaimRetentionPolicy") {
        default_to(retention, "whenDeleted", "Retain");
        default_to(retention, "whenScaled", "Retain");
    }
    items_mut(spec, "volumeClaimTemplates").for_each(|claim| {
        default_to(claim, "apiVersion", "v1");
        default_to(claim, "kind", "PersistentVolumeClaim");
        storage::claim(claim);
    });
    workload::template(spec);
}

#[cfg(test)]
mod tests {
    use crate::defaults::apply;
    use serde_json::json;

    #[test]
    fn stateful_sets_and_their_claims() {
        let mut value = json!({"spec": {"serviceName": "db", "volumeClaimTemplates": [{"metadata": {"name": "data"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": 1024}}}}]}});
        apply("statefulsets.apps", &mut value);
        let spec = &value["spec"];
        assert_eq!(
            spec["updateStrategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}})
        );
        assert_eq!(spec["podManagementPolicy"], "OrderedReady");
        assert_eq!(spec["persistentVolumeClaimRetentionPolicy"]["whenScaled"], "Retain");
        let claim = &spec["volumeClaimTemplates"][0];
        assert_eq!(
            (&claim["spec"]["volumeMode"], &claim["status"]["phase"]),
            (&json!("Filesystem"), &json!("Pending"))
        );
        assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "1024");
        assert_eq!(spec["template"]["spec"]["restartPolicy"], "Always");
    }
}
