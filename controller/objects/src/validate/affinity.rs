//! The rules of where a pod may run: node selector, node affinity, tolerations, and of taints.

use serde_json::Value;

use crate::{
    field::{Errors, Path},
    json::{at, get, has, int, items, text},
    validate::{formats, formed, meta, one_of, one_of_if_set, required_text},
};

/// What a taint does to pods that do not tolerate it.
pub(crate) const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "PreferNoSchedule"];

/// All of a pod's spec that chooses nodes.
pub(crate) fn placement(spec: &Value, path: &Path, errors: &mut Errors) {
    meta::labels(get(spec, "nodeSelector"), &path.child("nodeSelector"), errors);
    for (index, toleration) in items(spec, "tolerations").iter().enumerate() {
        self::toleration(toleration, &path.child("tolerations").index(index), errors);
    }
    let required = at(spec, "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution");
    if !required.is_null() {
        let path = path
            .child("affinity")
            .child("nodeAffinity")
            .child("requiredDuringSchedulingIgnoredDuringExecution")
            .child("nodeSelectorTerms");
        if items(required, "nodeSelectorTerms").is_empty() {
            errors.required(&path, "must have at least one node selector term");
        }
        for (index, term) in items(required, "nodeSelectorTerms").iter().enumerate() {
            node_selector_term(term, &path.index(index), errors);
        }
    }
}

pub(crate) fn node_selector_term(term: &Value, path: &Path, errors: &mut Errors) {
    for (index, requirement) in items(term, "matchExpressions").iter().enumerate() {
        let path = path.child("matchExpressions").index(index);
        if required_text(requirement, "key", &path, errors) {
            formed(requirement, "key", &path, formats::qualified_name, errors);
        }
        one_of(
            requirement,
            "operator",
            &path,
            &["DoesNotExist", "Exists", "Gt", "In", "Lt", "NotIn"],
            errors,
        );
        meta::values_fit_operator(requirement, &path, errors);
        if ["Gt", "Lt"].contains(&text(requirement, "operator")) && items(requirement, "values").len() != 1 {
            let detail = "must be specified single value when `operator` is 'Lt' or 'Gt'";
            errors.required(&path.child("values"), detail);
        }
    }
    for (index, requirement) in items(term, "matchFields").iter().enumerate() {
        let path = path.child("matchFields").index(index);
        one_of(requirement, "key", &path, &["metadata.name"], errors);
        one_of(requirement, "operator", &path, &["In", "NotIn"], errors);
        if items(requirement, "values").len() != 1 {
            let detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            errors.required(&path.child("values"), detail);
        }
    }
}

fn toleration(toleration: &Value, path: &Path, errors: &mut Errors) {
    let operator = text(toleration, "operator");
    formed(toleration, "key", path, formats::qualified_name, errors);
    one_of_if_set(toleration, "operator", path, &["Equal", "Exists"], errors);
    one_of_if_set(toleration, "effect", path, &EFFECTS, errors);
    if text(toleration, "key").is_empty() && operator != "Exists" {
        let detail =
            "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        errors.invalid(&path.child("operator"), operator, detail);
    }
    if operator == "Exists" && !text(toleration, "value").is_empty() {
        let detail = "value must be empty when `operator` is 'Exists'";
        errors.invalid(&path.child("operator"), text(toleration, "value"), detail);
    }
    if operator != "Exists" {
        formed(toleration, "value", path, formats::label_value, errors);
    }
    if has(toleration, "tolerationSeconds") && text(toleration, "effect") != "NoExecute" {
        let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        errors.invalid(&path.child("effect"), text(toleration, "effect"), detail);
    }
}

/// The seconds that a pod may run.
pub(crate) fn deadline(spec: &Value, path: &Path, errors: &mut Errors) {
    if int(spec, "activeDeadlineSeconds").is_some() {
        super::in_range(spec, "activeDeadlineSeconds", path, (1, 2_147_483_647), errors);
    }
}
