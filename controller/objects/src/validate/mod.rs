//! The rules an object must keep, with Kubernetes' messages.
//!
//! Objects come here typed ([`crate::strict::decode`]) and defaulted ([`crate::defaults::apply`]); on anything else the
//! rules still only report, they never panic.

pub(crate) mod affinity;
pub(crate) mod company;
pub(crate) mod config;
pub(crate) mod container;
pub(crate) mod env;
pub(crate) mod formats;
pub(crate) mod handlers;
pub(crate) mod job;
pub(crate) mod job_indexes;
mod job_policies;
pub(crate) mod job_status;
pub(crate) mod meta;
pub(crate) mod pod;
pub(crate) mod review;
pub(crate) mod status;
pub(crate) mod storage;
pub(crate) mod volume;
pub(crate) mod workload;

pub use meta::NameRule;
use serde_json::Value;

use crate::{
    field::{Errors, FieldError, Path},
    json::{get, int, is_empty, items, text},
    kinds::{Kind, judge_binding},
    rollback, unsupported,
};

/// What is wrong with a question, which is answered and not stored: it needs no name.
pub fn question(kind: &Kind, value: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    kind.judge(value, &mut errors);
    errors.0
}

/// What is wrong with an object that is to be created; empty when nothing is.
pub fn create(kind: &Kind, value: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    meta::object(get(value, "metadata"), kind.name_rule(), &mut errors);
    rollback::judge(kind, value, &mut errors);
    kind.judge(value, &mut errors);
    unsupported::refuse(kind, value, &mut errors);
    errors.0
}

/// What is wrong with a change of a stored object; empty when nothing is.
pub fn update(kind: &Kind, old: &Value, new: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    meta::object(get(new, "metadata"), kind.name_rule(), &mut errors);
    rollback::judge(kind, new, &mut errors);
    meta::update(get(old, "metadata"), get(new, "metadata"), &mut errors);
    kind.judge(new, &mut errors);
    kind.judge_change(old, new, &mut errors);
    unsupported::refuse(kind, new, &mut errors);
    errors.0
}

/// What is wrong with a change that leaves the desired state as it is: metadata and status are judged, and no more, for
/// such changes are many.
pub fn around(kind: &Kind, old: &Value, new: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let (before, after) = (get(old, "metadata"), get(new, "metadata"));
    if before != after {
        meta::object(after, kind.name_rule(), &mut errors);
        rollback::judge(kind, new, &mut errors);
        meta::update(before, after, &mut errors);
    }
    kind.judge_change(old, new, &mut errors);
    errors.0
}

/// What is wrong with giving a pod its node; empty when nothing is.
pub fn binding(old: &Value, new: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    judge_binding(old, new, &mut errors);
    errors.0
}

/// The field may not change any more.
pub(crate) fn immutable(old: &Value, new: &Value, path: &Path, errors: &mut Errors) {
    if old != new && !(is_empty(old) && is_empty(new)) {
        errors.invalid(path, new.clone(), "field is immutable");
    }
}

/// The text must be one of a few; an absent one is required.
pub(crate) fn one_of(value: &Value, field: &str, path: &Path, known: &[&str], errors: &mut Errors) {
    let found = text(value, field);
    if found.is_empty() && !known.contains(&"") {
        errors.required(&path.child(field), "");
    } else if !known.contains(&found) {
        errors.not_supported(&path.child(field), found, known);
    }
}

/// As [`one_of`], for a field that may be absent.
pub(crate) fn one_of_if_set(value: &Value, field: &str, path: &Path, known: &[&str], errors: &mut Errors) {
    let found = text(value, field);
    if !found.is_empty() && !known.contains(&found) {
        errors.not_supported(&path.child(field), found, known);
    }
}

/// The number, if given, must not be negative.
pub(crate) fn not_negative(value: &Value, field: &str, path: &Path, errors: &mut Errors) {
    if let Some(number) = int(value, field).filter(|number| *number < 0) {
        errors.invalid(&path.child(field), number, "must be greater than or equal to 0");
    }
}

/// Each number, if given, must not be negative.
pub(crate) fn none_negative(value: &Value, fields: &[&str], path: &Path, errors: &mut Errors) {
    for field in fields {
        not_negative(value, field, path, errors);
    }
}

/// Each field must stay as it was.
pub(crate) fn all_immutable(old: &Value, new: &Value, fields: &[&str], path: &Path, errors: &mut Errors) {
    for field in fields {
        immutable(get(old, field), get(new, field), &path.child(field), errors);
    }
}

/// Each item of a list must be one of a few.
pub(crate) fn each_one_of(value: &Value, list: &str, path: &Path, known: &[&str], errors: &mut Errors) {
    for (index, item) in items(value, list).iter().enumerate() {
        let found = item.as_str().unwrap_or("");
        if !known.contains(&found) {
            errors.not_supported(&path.child(list).index(index), found, known);
        }
    }
}

/// The number, if given, must lie between two others.
pub(crate) fn in_range(value: &Value, field: &str, path: &Path, range: (i64, i64), errors: &mut Errors) {
    let (least, most) = range;
    if let Some(number) = int(value, field).filter(|number| !(least..=most).contains(number)) {
        errors.invalid(&path.child(field), number, format!("must be between {least} and {most}, inclusive"));
    }
}

/// The text must be given.
pub(crate) fn required_text(value: &Value, field: &str, path: &Path, errors: &mut Errors) -> bool {
    let there = !text(value, field).is_empty();
    if !there {
        errors.required(&path.child(field), "");
    }
    there
}

/// The text, if given, must have a form; each message is one fault.
pub(crate) fn formed(
    value: &Value,
    field: &str,
    path: &Path,
    form: fn(&str) -> Vec<String>,
    errors: &mut Errors,
) {
    let found = text(value, field);
    if !found.is_empty() {
        for message in form(found) {
            errors.invalid(&path.child(field), found, message);
        }
    }
}

/// Reports the items of a list whose key was seen before.
#[derive(Default)]
pub(crate) struct Unique(std::collections::BTreeSet<String>);

impl Unique {
    /// Whether the key is new; a duplicate is reported. Empty keys are not compared.
    pub(crate) fn check(&mut self, key: &str, path: &Path, errors: &mut Errors) -> bool {
        let new = key.is_empty() || self.0.insert(key.to_owned());
        if !new {
            errors.duplicate(path, key);
        }
        new
    }
}
