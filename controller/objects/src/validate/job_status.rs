//! The rules of a Job's status, whoever runs the Job: how it has ended stays, and what is said fits together. Only what
//! changes is judged: a change of the desired state may run ahead of what is said.

use serde_json::Value;

use crate::{
    field::{Errors, Path},
    human,
    json::{at, get, has, int, items, text, truth},
    validate::{job_indexes, none_negative},
};

/// A Job before or after a change.
struct Side<'a> {
    value: &'a Value,
    status: &'a Value,
}

impl<'a> Side<'a> {
    fn of(value: &'a Value) -> Self {
        Self { value, status: get(value, "status") }
    }

    fn says(&self, kind: &str, status: &str) -> bool {
        let mut conditions = items(self.status, "conditions").iter();
        conditions.any(|condition| text(condition, "type") == kind && text(condition, "status") == status)
    }

    fn holds(&self, kind: &str) -> bool {
        self.says(kind, "True")
    }

    fn has_ended(&self) -> bool {
        self.holds("Complete") || self.holds("Failed")
    }

    fn count(&self, field: &str) -> i64 {
        int(self.status, field).unwrap_or(0)
    }

    fn is_indexed(&self) -> bool {
        text(self.value, "spec.completionMode") == "Indexed"
    }
}

/// A change, with what is judged of it.
struct Change<'a> {
    old: Side<'a>,
    new: Side<'a>,
    path: Path,
}

pub(crate) fn update(old: &Value, new: &Value, errors: &mut Errors) {
    if get(old, "status") == get(new, "status") {
        return;
    }
    let change = Change { old: Side::of(old), new: Side::of(new), path: Path::new("status") };
    let numbers = ["active", "succeeded", "failed", "ready", "terminating"];
    none_negative(change.new.status, &numbers, &change.path, errors);
    change.uncounted(errors);
    change.conditions(errors);
    change.times(errors);
    change.counts(errors);
    change.indexes(errors);
}

impl Change<'_> {
    fn differs(&self, field: &str) -> bool {
        get(self.old.status, field) != get(self.new.status, field)
    }

    fn turns(&self, kind: &str) -> bool {
        self.old.holds(kind) != self.new.holds(kind)
    }

    fn ends(&self) -> bool {
        self.old.has_ended() != self.new.has_ended()
    }

    fn refuse(&self, field: &str, detail: &str, errors: &mut Errors) {
        errors.invalid(&self.path.child(field), get(self.new.status, field).clone(), detail);
    }

    fn uncounted(&self, errors: &mut Errors) {
        let path = self.path.child("uncountedTerminatedPods");
        let all = at(self.new.status, "uncountedTerminatedPods");
        let mut seen = std::collections::BTreeSet::new();
        for list in ["succeeded", "failed"] {
            for (index, uid) in items(all, list).iter().enumerate() {
                let (path, uid) = (path.child(list).index(index), uid.as_str().unwrap_or(""));
                if uid.is_empty() {
                    errors.invalid(&path, uid, "must not be empty");
                } else if !seen.insert(uid) {
                    errors.duplicate(&path, uid);
                }
            }
        }
        let judged = self.ends() || self.differs("uncountedTerminatedPods");
        if judged && self.new.has_ended() && !seen.is_empty() {
            errors.invalid(&path, all.clone(), "must be empty for finished job");
        }
    }

    /// What a Job has come to, and what leads to it.
    fn conditions(&self, errors: &mut Errors) {
        let (old, new, path) = (&self.old, &self.new, self.path.child("conditions"));
        let holds = |kind| new.holds(kind);
        let [complete, failed, enough, target] =
            ["Complete", "Failed", "SuccessCriteriaMet", "FailureTarget"].map(holds);
        let [completes, fails, is_enough, aims] =
            ["Complete", "Failed", "SuccessCriteriaMet", "FailureTarget"].map(|kind| self.turns(kind));
        let both = "cannot set Complete=True and";
        let rules = [
            ((completes || fails) && complete && failed, format!("{both} Failed=true conditions")),
            ((completes || aims) && complete && target, format!("{both} FailureTarget=true conditions")),
            (
                (fails || self.differs("failedIndexes")) && failed && !target,
                "cannot set Failed=True condition without the FailureTarget=true condition".to_owned(),
            ),
            (
                (completes || is_enough) && complete && !enough,
                "cannot set Complete=True condition without the SuccessCriteriaMet=true condition".to_owned(),
            ),
            (enough && failed, "cannot set SuccessCriteriaMet=True and Failed=true conditions".to_owned()),
            (
                enough && target,
                "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions".to_owned(),
            ),
            (
                old.holds("Complete") && is_enough && enough,
                "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions".to_owned(),
            ),
        ];
        rules.into_iter().filter(|(broken, _)| *broken).for_each(|(_, detail)| errors.wrong(&path, detail));
        for kind in ["Failed", "Complete", "FailureTarget"] {
            if old.holds(kind) && !new.holds(kind) {
                errors.wrong(&path, format!("cannot disable the terminal {kind}=True condition"));
            }
        }
        if old.holds("SuccessCriteriaMet") && !enough {
            errors.wrong(&path, "cannot disable the SuccessCriteriaMet=True condition");
        }
    }

    fn times(&self, errors: &mut Errors) {
        let (old, new) = (&self.old, &self.new);
        let time = |side: &Side<'_>, field: &str| human::timestamp(get(side.status, field));
        let moves = |field: &str| time(old, field) != time(new, field);
        let [begins, completes] = ["startTime", "completionTime"].map(moves);
        let [start, completion] = ["startTime", "completionTime"].map(|field| time(new, field));
        let complete = new.holds("Complete");
        if (self.turns("Complete") || completes) && completion.is_some() && !complete {
            let detail = "cannot set completionTime when there is no Complete=True condition";
            self.refuse("completionTime", detail, errors);
        }
        if (self.turns("Complete") || completes) && completion.is_none() && complete {
            let detail = "completionTime is required for Complete jobs";
            errors.required(&self.path.child("completionTime"), detail);
        }
        if (begins || completes) && completion.zip(start).is_some_and(|(end, start)| end < start) {
            self.refuse("completionTime", "must be equal to or after `startTime`", errors);
        }
        if completes && completion.is_some() && has(old.status, "completionTime") {
            self.refuse("completionTime", "field is immutable", errors);
        }
        let had_nothing_to_do =
            truth(new.value, "spec.suspend") && int(new.value, "spec.completions") == Some(0);
        if (self.ends() || begins) && start.is_none() && new.has_ended() && !had_nothing_to_do {
            errors.required(&self.path.child("startTime"), "startTime is required for finished job");
        }
        let resumes = old.holds("Suspended") && new.says("Suspended", "False");
        let stays = !truth(new.value, "spec.suspend") && !resumes;
        if begins && stays && has(old.status, "startTime") {
            let detail = "startTime cannot be removed for unsuspended job";
            errors.required(&self.path.child("startTime"), detail);
        }
    }

    fn counts(&self, errors: &mut Errors) {
        let (old, new) = (&self.old, &self.new);
        for field in ["active", "terminating"] {
            if (self.ends() || self.differs(field)) && new.has_ended() && new.count(field) > 0 {
                self.refuse(field, &format!("{field}>0 is invalid for finished job"), errors);
            }
        }
        if (self.differs("ready") || self.differs("active")) && new.count("ready") > new.count("active") {
            self.refuse("ready", "cannot set more ready pods than active", errors);
        }
        if new.count("failed") < old.count("failed") {
            self.refuse("failed", "cannot decrease the failed counter", errors);
        }
        // The indexes of an Indexed job are counted, and there may be fewer of them than there were.
        if new.count("succeeded") < old.count("succeeded") && !new.is_indexed() {
            self.refuse("succeeded", "cannot decrease the succeeded counter", errors);
        }
    }

    fn indexes(&self, errors: &mut Errors) {
        let new = &self.new;
        let [completed, failed] = ["completedIndexes", "failedIndexes"].map(|field| text(new.status, field));
        let [completes, fails] = ["completedIndexes", "failedIndexes"].map(|field| self.differs(field));
        let completions = int(new.value, "spec.completions");
        let parsed = |text| completions.and_then(|most| job_indexes::parse(text, most).ok());
        let fault = |text| completions.and_then(|most| job_indexes::parse(text, most).err());
        if completes && !completed.is_empty() && !new.is_indexed() {
            let detail = "cannot set non-empty completedIndexes when non-indexed completion mode";
            self.refuse("completedIndexes", detail, errors);
        }
        if fails && has(new.status, "failedIndexes") && !has(get(new.value, "spec"), "backoffLimitPerIndex") {
            let detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
            self.refuse("failedIndexes", detail, errors);
        }
        for (changes, field, text) in
            [(completes, "completedIndexes", completed), (fails, "failedIndexes", failed)]
        {
            if let Some(fault) = fault(text).filter(|_| changes) {
                self.refuse(field, &format!("error parsing {field}: {fault}"), errors);
            }
        }
        if let Some((completed, failed)) =
            parsed(completed).zip(parsed(failed)).filter(|_| completes || fails)
            && let Some(index) = job_indexes::shared(&completed, &failed)
        {
            let detail = format!("failedIndexes and completedIndexes overlap at index: {index}");
            self.refuse("failedIndexes", &detail, errors);
        }
    }
}
