//! Defaults of HorizontalPodAutoscalers.

use serde_json::{Value, json};

use crate::json::{default_to, ensure_map, get, is_empty};

/// A HorizontalPodAutoscaler. Its behaviour is filled in only when some of it is given.
pub(crate) fn autoscaler(value: &mut Value) {
    let Some(spec) = ensure_map(value, "spec") else { return };
    default_to(spec, "minReplicas", 1);
    if is_empty(get(spec, "metrics")) {
        spec["metrics"] = json!([{"type": "Resource", "resource": {
            "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]);
    }
    let Some(behavior) = spec.get_mut("behavior").filter(|behavior| behavior.is_object()) else { return };
    if let Some(up) = ensure_map(behavior, "scaleUp") {
        default_to(up, "stabilizationWindowSeconds", 0);
        default_to(up, "selectPolicy", "Max");
        default_to(up, "policies", json!([policy("Pods", 4), policy("Percent", 100)]));
    }
    if let Some(down) = ensure_map(behavior, "scaleDown") {
        default_to(down, "selectPolicy", "Max");
        default_to(down, "policies", json!([policy("Percent", 100)]));
    }
}

fn policy(kind: &str, value: i64) -> Value {
    json!({"type": kind, "value": value, "periodSeconds": 15})
}

#[cfg(test)]
mod tests {
    use crate::defaults::apply;
    use serde_json::json;

    #[test]
    fn behaviour_is_filled_in_only_when_given() {
        let mut value = json!({"spec": {"maxReplicas": 3}});
        apply("horizontalpodautoscalers.autoscaling", &mut value);
        assert_eq!(value["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 80);
        assert_eq!(value["spec"]["minReplicas"], 1);
        assert!(value["spec"].get("behavior").is_none());
        let mut value =
            json!({"spec": {"maxReplicas": 3, "behavior": {"scaleDown": {"selectPolicy": "Disabled"}}}});
        apply("horizontalpodautoscalers.autoscaling", &mut value);
        let behavior = &value["spec"]["behavior"];
        assert_eq!(behavior["scaleUp"]["policies"].as_array().map(Vec::len), Some(2));
        assert_eq!(behavior["scaleDown"]["selectPolicy"], "Disabled");
    }
}
