//! Defaults of LimitRanges and ResourceQuotas.

use serde_json::{Map, Value};

use super::pod::numbers_to_quantities;
use crate::json::{ensure_map, get, items_mut, text};

/// A LimitRange: for containers a missing default limit is the most that they may have, a missing default request is
/// the default limit, else the least.
pub(crate) fn limit_range(value: &mut Value) {
    let Some(spec) = value.get_mut("spec") else { return };
    for item in items_mut(spec, "limits") {
        for list in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
            if let Some(quantities) = item.get_mut(list) {
                numbers_to_quantities(quantities);
            }
        }
        if text(item, "type") != "Container" {
            continue;
        }
        for (from, into) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")] {
            let known = get(item, from).as_object().cloned().unwrap_or_default();
            fill(item, into, known);
        }
    }
}

fn fill(item: &mut Value, field: &str, from: Map<String, Value>) {
    if from.is_empty() {
        return;
    }
    if let Some(into) = ensure_map(item, field).and_then(Value::as_object_mut) {
        for (name, quantity) in from {
            into.entry(name).or_insert(quantity);
        }
    }
}

/// A ResourceQuota.
pub(crate) fn resource_quota(value: &mut Value) {
    for (part, list) in [("spec", "hard"), ("status", "hard"), ("status", "used")] {
        if let Some(quantities) = value.get_mut(part).and_then(|part| part.get_mut(list)) {
            numbers_to_quantities(quantities);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::defaults::apply;
    use serde_json::json;

    #[test]
    fn limits_follow_from_each_other() {
        let mut value = json!({"spec": {"limits": [
            {"type": "Container", "max": {"cpu": 2}, "min": {"memory": "1Mi"}, "default": {"memory": "64Mi"}},
            {"type": "Pod", "max": {"cpu": "4"}}]}});
        apply("limitranges", &mut value);
        assert_eq!(
            value["spec"]["limits"][0],
            json!({"type": "Container", "max": {"cpu": "2"},
            "min": {"memory": "1Mi"}, "default": {"cpu": "2", "memory": "64Mi"},
            "defaultRequest": {"cpu": "2", "memory": "64Mi"}})
        );
        assert_eq!(value["spec"]["limits"][1], json!({"type": "Pod", "max": {"cpu": "4"}}));
        let mut quota = json!({"spec": {"hard": {"pods": 4}}});
        apply("resourcequotas", &mut quota);
        assert_eq!(quota["spec"]["hard"]["pods"], "4");
    }
}
