//! ClusterRole: its entry and its rules.

use serde_json::Value;

use super::{ROLE, shared::rules};
use crate::{
    field::{Errors, Path},
    json::{get, has, items},
    kinds::Entry,
    validate::meta,
};

pub(crate) const ENTRY: Entry =
    Entry { kind: "ClusterRole", plural: "clusterroles", namespaced: false, validate, ..ROLE };

fn validate(value: &Value, errors: &mut Errors) {
    rules(value, false, errors);
    if !has(value, "aggregationRule") {
        return;
    }
    let path = Path::new("aggregationRule").child("clusterRoleSelectors");
    let selectors = items(get(value, "aggregationRule"), "clusterRoleSelectors");
    if selectors.is_empty() {
        errors.required(&path, "at least one clusterRoleSelector required if aggregationRule is non-nil");
    }
    for (index, selector) in selectors.iter().enumerate() {
        meta::selector(selector, &path.index(index), errors);
    }
}
