//! The rules of what a Job does about pods that fail, and of which indexes are enough.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    field::{Errors, Path},
    json::{get, has, int, is_empty, items, text},
    validate::{formats, job_indexes, none_negative, one_of_if_set},
};

/// How many rules a policy may have.
const MOST_RULES: usize = 20;
/// How many patterns of conditions a rule may have.
const MOST_CONDITIONS: usize = 20;
/// How many exit codes a rule may name.
const MOST_CODES: usize = 255;
/// The longest text that names indexes.
const LONGEST_INDEXES: usize = 64 * 1_024;

const ACTIONS: &[&str] = &["Count", "FailIndex", "FailJob", "Ignore"];

/// What is to be done about pods that fail.
pub(super) fn failure(spec: &Value, path: &Path, errors: &mut Errors) {
    let policy = get(spec, "podFailurePolicy");
    if policy.is_null() {
        return;
    }
    one_of_if_set(spec, "podReplacementPolicy", path, &["Failed"], errors);
    let path = path.child("podFailurePolicy").child("rules");
    few(policy, "rules", MOST_RULES, &path, errors);
    for (index, rule) in items(policy, "rules").iter().enumerate() {
        failure_rule(spec, rule, &path.index(index), errors);
    }
}

fn few(value: &Value, list: &str, most: usize, path: &Path, errors: &mut Errors) {
    let count = items(value, list).len();
    if count > most {
        errors.too_many(path, count, most);
    }
}

/// One of a few, which is to be said, and how if it is not.
fn chosen(value: &Value, field: &str, known: &[&str], path: &Path, errors: &mut Errors) {
    let path = path.child(field);
    match text(value, field) {
        "" => {
            let list: Vec<String> = known.iter().map(|name| format!("{name:?}")).collect();
            errors.required(&path, format!("valid values: [{}]", list.join(" ")));
        }
        found if !known.contains(&found) => errors.not_supported(&path, found, known),
        _ => {}
    }
}

fn failure_rule(spec: &Value, rule: &Value, path: &Path, errors: &mut Errors) {
    chosen(rule, "action", ACTIONS, path, errors);
    if text(rule, "action") == "FailIndex" && !has(spec, "backoffLimitPerIndex") {
        errors.invalid(&path.child("action"), "FailIndex", "requires the backoffLimitPerIndex to be set");
    }
    let (codes, conditions) = (get(rule, "onExitCodes"), get(rule, "onPodConditions"));
    if !codes.is_null() {
        exit_codes(spec, codes, &path.child("onExitCodes"), errors);
    }
    pod_conditions(rule, &path.child("onPodConditions"), errors);
    match (codes.is_null(), is_empty(conditions)) {
        (false, false) => {
            errors.wrong(path, "specifying both OnExitCodes and OnPodConditions is not supported");
        }
        (true, true) => errors.wrong(path, "specifying one of OnExitCodes and OnPodConditions is required"),
        _ => {}
    }
}

fn exit_codes(spec: &Value, codes: &Value, path: &Path, errors: &mut Errors) {
    chosen(codes, "operator", &["In", "NotIn"], path, errors);
    let lists = ["containers", "initContainers"].map(|list| format!("template.spec.{list}"));
    let mut names = lists.iter().flat_map(|list| items(spec, list)).map(|container| text(container, "name"));
    let name = get(codes, "containerName").as_str();
    if let Some(name) = name.filter(|name| names.all(|known| known != *name)) {
        let detail = "must be one of the container or initContainer names in the pod template";
        errors.invalid(&path.child("containerName"), name, detail);
    }
    let path = path.child("values");
    let values = items(codes, "values");
    if values.is_empty() {
        errors.invalid(&path, get(codes, "values").clone(), "at least one value is required");
    }
    few(codes, "values", MOST_CODES, &path, errors);
    let numbers: Vec<i64> = values.iter().filter_map(Value::as_i64).collect();
    let mut seen = BTreeSet::new();
    for (index, code) in numbers.iter().enumerate() {
        if *code == 0 && text(codes, "operator") == "In" {
            errors.invalid(&path.index(index), *code, "must not be 0 for the In operator");
        }
        if !seen.insert(code) {
            errors.duplicate(&path.index(index), *code);
        }
    }
    if !numbers.is_sorted() {
        errors.invalid(&path, get(codes, "values").clone(), "must be ordered");
    }
}

fn pod_conditions(rule: &Value, path: &Path, errors: &mut Errors) {
    few(rule, "onPodConditions", MOST_CONDITIONS, path, errors);
    for (index, pattern) in items(rule, "onPodConditions").iter().enumerate() {
        let (path, kind) = (path.index(index), text(pattern, "type"));
        for message in formats::qualified_name(kind) {
            errors.invalid(&path.child("type"), kind, message);
        }
        chosen(pattern, "status", &["False", "True", "Unknown"], &path, errors);
    }
}

/// Which indexes are enough.
pub(super) fn success(spec: &Value, path: &Path, errors: &mut Errors) {
    let policy = get(spec, "successPolicy");
    if policy.is_null() {
        return;
    }
    let path = path.child("successPolicy");
    if text(spec, "completionMode") != "Indexed" {
        errors.invalid(&path, policy.clone(), "requires indexed completion mode");
        return;
    }
    let path = path.child("rules");
    if items(policy, "rules").is_empty() {
        errors.required(&path, "at least one rules must be specified when the successPolicy is specified");
    }
    few(policy, "rules", MOST_RULES, &path, errors);
    let completions = int(spec, "completions").unwrap_or(0);
    for (index, rule) in items(policy, "rules").iter().enumerate() {
        success_rule(rule, completions, &path.index(index), errors);
    }
}

fn success_rule(rule: &Value, completions: i64, path: &Path, errors: &mut Errors) {
    if !has(rule, "succeededCount") && !has(rule, "succeededIndexes") {
        errors.required(path, "at least one of succeededCount or succeededIndexes must be specified");
    }
    let mut named = None;
    if let Some(indexes) = get(rule, "succeededIndexes").as_str() {
        let path = path.child("succeededIndexes");
        if indexes.len() > LONGEST_INDEXES {
            errors.too_long(&path, LONGEST_INDEXES);
        }
        match job_indexes::parse(indexes, completions) {
            Ok(ranges) => named = Some(job_indexes::count(&ranges)),
            Err(fault) => {
                named = Some(0);
                errors.invalid(&path, indexes, format!("error parsing succeededIndexes: {fault}"));
            }
        }
    }
    none_negative(rule, &["succeededCount"], path, errors);
    let Some(count) = int(rule, "succeededCount") else { return };
    let bounds = [
        (Some(completions), "the number of specified completions"),
        (named, "the number of indexes in the specified succeededIndexes field"),
    ];
    for (most, what) in bounds {
        if let Some(most) = most.filter(|most| count > *most) {
            let detail = format!("must be less than or equal to {most} ({what})");
            errors.invalid(&path.child("succeededCount"), count, detail);
        }
    }
}
