//! The rules of PodDisruptionBudgets.

use serde_json::Value;

use super::{meta, one_of_if_set, workload};
use crate::{
    field::{Errors, Path},
    json::{get, has, text},
};

/// A PodDisruptionBudget.
pub(crate) fn budget(value: &Value, errors: &mut Errors) {
    let (spec, path) = (get(value, "spec"), Path::new("spec"));
    if has(spec, "minAvailable") && has(spec, "maxUnavailable") {
        errors.invalid(&path, spec.clone(), "minAvailable and maxUnavailable cannot be both set");
    }
    for field in ["minAvailable", "maxUnavailable"] {
        let amount = workload::amount(spec, field, &path, errors);
        let percent = text(spec, field).ends_with('%');
        if percent && amount.is_some_and(|amount| amount > 100) {
            errors.invalid(&path.child(field), text(spec, field), "must not be greater than 100%");
        }
    }
    meta::selector(get(spec, "selector"), &path.child("selector"), errors);
    let known = ["AlwaysAllow", "IfHealthyBudget"];
    one_of_if_set(spec, "unhealthyPodEvictionPolicy", &path, &known, errors);
}
