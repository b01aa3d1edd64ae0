//! Job: its entry, its defaults, its rules and its columns.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    defaults::workload::{fill_template, labels_from_template},
    field::{Errors, Path},
    human,
    json::{at, default_to, ensure_map, get, has, int, is_empty, items, items_mut, text, truth},
    kinds::{ALL, Entry, PLAIN, STATUS},
    table::{
        AGE, CONTAINERS, Column, IMAGES, NAME, SELECTOR, age, column, containers_and_images, name, number,
        selector,
    },
    validate::{all_immutable, formats, immutable, job::job_spec, job_status, meta, workload},
};

pub(crate) const ENTRY: Entry = Entry {
    group: "batch",
    kind: "Job",
    plural: "jobs",
    categories: ALL,
    subresources: &[STATUS],
    has_generation: true,
    fields: &["status.successful"],
    defaults,
    validate,
    update,
    columns: COLUMNS,
    row,
    ..PLAIN
};

/// Labels by which a Job finds its pods: the uid and the name of the Job, each under its old name too.
const UID_LABELS: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];

const NAME_LABELS: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];

/// A Job. Its selector is made of its uid, once it has one.
fn defaults(value: &mut Value) {
    let Some(spec) = ensure_map(value, "spec") else { return };
    if !has(spec, "completions") && !has(spec, "parallelism") {
        default_to(spec, "completions", 1);
    }
    default_to(spec, "parallelism", 1);
    let limit = if has(spec, "backoffLimitPerIndex") { i64::from(i32::MAX) } else { 6 };
    default_to(spec, "backoffLimit", limit);
    default_to(spec, "completionMode", "NonIndexed");
    default_to(spec, "suspend", false);
    default_to(spec, "manualSelector", false);
    let replacement = if has(spec, "podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
    default_to(spec, "podReplacementPolicy", replacement);
    if let Some(policy) = spec.get_mut("podFailurePolicy") {
        for rule in items_mut(policy, "rules") {
            items_mut(rule, "onPodConditions").for_each(|pattern| default_to(pattern, "status", "True"));
        }
    }
    fill_template(spec);
    generate_selector(value);
    // Those that were generated are among them: a Job is found by its name's label, too.
    let labels = at(value, "spec.template.metadata.labels").clone();
    if !is_empty(&labels) {
        labels_from_template(value, labels);
    }
}

fn generate_selector(value: &mut Value) {
    let (uid, name) = (text(value, "metadata.uid").to_owned(), text(value, "metadata.name").to_owned());
    let Some(spec) = value.get_mut("spec") else { return };
    if uid.is_empty() || name.is_empty() || truth(spec, "manualSelector") {
        return;
    }
    let own =
        UID_LABELS.map(|label| (label, &uid)).into_iter().chain(NAME_LABELS.map(|label| (label, &name)));
    if let Some(template) = ensure_map(spec, "template")
        && let Some(metadata) = ensure_map(template, "metadata")
        && let Some(labels) = ensure_map(metadata, "labels")
    {
        // What is there already, and differs, is refused.
        own.for_each(|(label, value)| default_to(labels, label, value.as_str()));
    }
    if is_empty(get(spec, "selector")) {
        spec["selector"] = json!({"matchLabels": {UID_LABELS[0]: uid}});
    }
}

fn validate(value: &Value, errors: &mut Errors) {
    let (spec, path) = (get(value, "spec"), Path::new("spec"));
    job_spec(spec, &path, errors);
    hostnames(value, errors);
    let selector = get(spec, "selector");
    if selector.is_null() {
        errors.required(&path.child("selector"), "");
        return;
    }
    meta::selector(selector, &path.child("selector"), errors);
    if !truth(spec, "manualSelector") {
        generated(value, errors);
    }
    workload::selected(selector, spec, &path, errors);
}

/// The hosts of an Indexed job have its name and an index.
fn hostnames(value: &Value, errors: &mut Errors) {
    let name = text(value, "metadata.name");
    let completions = int(value, "spec.completions").filter(|completions| *completions > 0);
    let Some(completions) = completions.filter(|_| text(value, "spec.completionMode") == "Indexed") else {
        return;
    };
    let longest = format!("{name}-{}", completions.saturating_sub(1));
    if !formats::label(&longest).is_empty() {
        let detail = format!("will not able to create pod with invalid DNS label: {longest}");
        errors.invalid(&Path::new("metadata.name"), name, detail);
    }
}

/// The labels and the selector are those that were made of the uid and the name.
fn generated(value: &Value, errors: &mut Errors) {
    let (uid, name) = (text(value, "metadata.uid"), text(value, "metadata.name"));
    let labels = at(value, "spec.template.metadata.labels");
    let path = Path::new("spec.template.metadata.labels");
    let own = UID_LABELS.map(|label| (label, uid)).into_iter().chain(NAME_LABELS.map(|label| (label, name)));
    let mut expected = json!({});
    for (label, wanted) in own {
        let detail = format!("must be '{wanted}'");
        match labels.get(label).and_then(Value::as_str) {
            None => errors.required(&path.key(label), detail),
            Some(found) if found != wanted => errors.invalid(&path.key(label), labels.clone(), detail),
            Some(_) => {}
        }
        expected[label] = wanted.into();
    }
    let selector = at(value, "spec.selector");
    if !meta::selects(selector, &expected) {
        errors.invalid(&Path::new("spec.selector"), selector.clone(), "`selector` not auto-generated");
    }
}

/// A change of a Job: what it is to do stays.
fn update(old: &Value, new: &Value, errors: &mut Errors) {
    job_status::update(old, new, errors);
    let path = Path::new("spec");
    let (before, after) = (get(old, "spec"), get(new, "spec"));
    if before == after {
        return;
    }
    completions_stay(before, after, &path.child("completions"), errors);
    all_immutable(
        before,
        after,
        &[
            "selector",
            "completionMode",
            "podFailurePolicy",
            "backoffLimitPerIndex",
            "managedBy",
            "successPolicy",
        ],
        &path,
        errors,
    );
    // Where its pods may run is open until it has begun.
    let is_open = truth(before, "suspend") && !has(get(old, "status"), "startTime");
    let fixed = |spec: &Value| {
        let template = get(spec, "template").clone();
        if is_open { without_placement(template) } else { template }
    };
    if fixed(before) != fixed(after) {
        errors.invalid(&path.child("template"), get(after, "template").clone(), "field is immutable");
    }
}

/// An Indexed job may be made longer or shorter, all of it in parallel.
fn completions_stay(before: &Value, after: &Value, path: &Path, errors: &mut Errors) {
    let (old, new) = (get(before, "completions"), get(after, "completions"));
    if text(after, "completionMode") != "Indexed" {
        immutable(old, new, path, errors);
    } else if old != new && !new.is_null() && new != get(after, "parallelism") {
        errors.invalid(path, new.clone(), "can only be modified in tandem with spec.parallelism");
    }
}

/// A template without what says where pods may run.
fn without_placement(mut template: Value) -> Value {
    for (part, fields) in [
        ("metadata", &["labels", "annotations"][..]),
        ("spec", &["nodeSelector", "schedulingGates", "tolerations"][..]),
    ] {
        let Some(map) = template.get_mut(part).and_then(Value::as_object_mut) else { continue };
        map.retain(|field, _| !fields.contains(&field.as_str()));
        if map.is_empty()
            && let Some(template) = template.as_object_mut()
        {
            template.remove(part);
        }
    }
    if let Some(spec) = template.get_mut("spec").and_then(Value::as_object_mut) {
        let affinity = spec.get_mut("affinity").and_then(Value::as_object_mut);
        let is_empty = affinity.is_none_or(|affinity| {
            affinity.remove("nodeAffinity");
            affinity.is_empty()
        });
        if is_empty {
            spec.remove("affinity");
        }
    }
    template
}

const COLUMNS: &[Column] = &[
    NAME,
    column("Status", "string", "Running, Suspended, or how it ended."),
    column("Completions", "string", "Number of the pods that succeeded, of the wanted ones."),
    column("Duration", "string", "How long it has run, or ran."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

fn row(value: &Value, now: Timestamp) -> Vec<Value> {
    let [containers, images] = containers_and_images(at(value, "spec.template"));
    vec![
        name(value),
        status(value).into(),
        completions(value).into(),
        run_time(value, now).into(),
        age(value, now),
        containers,
        images,
        selector(at(value, "spec.selector")),
    ]
}

fn status(value: &Value) -> &'static str {
    let holds = |kind: &str| {
        let mut conditions = items(value, "status.conditions").iter();
        conditions.any(|condition| text(condition, "type") == kind && text(condition, "status") == "True")
    };
    match () {
        () if holds("Complete") => "Complete",
        () if holds("Failed") => "Failed",
        () if has(get(value, "metadata"), "deletionTimestamp") => "Terminating",
        () if holds("Suspended") => "Suspended",
        () if holds("FailureTarget") => "FailureTarget",
        () if holds("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

fn completions(value: &Value) -> String {
    let succeeded = number(value, "status.succeeded");
    match (int(value, "spec.completions"), number(value, "spec.parallelism")) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, parallel) if parallel > 1 => format!("{succeeded}/1 of {parallel}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

fn run_time(value: &Value, now: Timestamp) -> String {
    let Some(start) = human::timestamp(at(value, "status.startTime")) else { return String::new() };
    let end = human::timestamp(at(value, "status.completionTime")).unwrap_or(now);
    human::duration(end.as_second() - start.as_second())
}
