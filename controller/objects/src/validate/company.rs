//! The rules of where a pod may run beside others: affinity to pods, topology spread, and the gates that hold it back.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    field::{Errors, Path},
    json::{at, get, has, int, is_empty, items, text},
    validate::{affinity, formats, meta, one_of, one_of_if_set},
};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
/// What a spread constraint says of nodes that the pod may not run on.
const POLICIES: [&str; 2] = ["Honor", "Ignore"];

/// All of a pod's spec that is about other pods, or about when it may be scheduled.
pub(crate) fn all(spec: &Value, path: &Path, errors: &mut Errors) {
    let preferences = at(spec, "affinity.nodeAffinity");
    let place = path.child("affinity").child("nodeAffinity").child(PREFERRED);
    for (index, preference) in items(preferences, PREFERRED).iter().enumerate() {
        let place = place.index(index);
        weight(preference, &place, errors);
        affinity::node_selector_term(get(preference, "preference"), &place.child("preference"), errors);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let (terms, place) = (at(spec, &format!("affinity.{kind}")), path.child("affinity").child(kind));
        for (index, required) in items(terms, REQUIRED).iter().enumerate() {
            term(required, &place.child(REQUIRED).index(index), errors);
        }
        for (index, preferred) in items(terms, PREFERRED).iter().enumerate() {
            let place = place.child(PREFERRED).index(index);
            weight(preferred, &place, errors);
            term(get(preferred, "podAffinityTerm"), &place.child("podAffinityTerm"), errors);
        }
    }
    let mut seen = BTreeSet::new();
    for (index, constraint) in items(spec, "topologySpreadConstraints").iter().enumerate() {
        spread(constraint, &mut seen, &path.child("topologySpreadConstraints").index(index), errors);
    }
    gates(spec, path, errors);
}

fn weight(preference: &Value, path: &Path, errors: &mut Errors) {
    let weight = int(preference, "weight").unwrap_or(0);
    if !(1..=100).contains(&weight) {
        errors.invalid(&path.child("weight"), weight, "must be in the range 1-100");
    }
}

fn term(term: &Value, path: &Path, errors: &mut Errors) {
    for selector in ["labelSelector", "namespaceSelector"] {
        meta::selector(get(term, selector), &path.child(selector), errors);
    }
    for (index, namespace) in items(term, "namespaces").iter().enumerate() {
        let namespace = namespace.as_str().unwrap_or("");
        for message in formats::label(namespace) {
            errors.invalid(&path.child("namespaces").index(index), namespace, message);
        }
    }
    keys(term, "matchLabelKeys", path, errors);
    keys(term, "mismatchLabelKeys", path, errors);
    topology(term, path, errors);
}

/// The label of nodes whose values make the domains.
fn topology(of: &Value, path: &Path, errors: &mut Errors) {
    let (key, path) = (text(of, "topologyKey"), path.child("topologyKey"));
    if key.is_empty() {
        errors.required(&path, "can not be empty");
        return;
    }
    for message in formats::qualified_name(key) {
        errors.invalid(&path, key, message);
    }
}

/// Labels of the pod that narrow a selector, which must be there.
fn keys(of: &Value, list: &str, path: &Path, errors: &mut Errors) {
    let (found, path) = (items(of, list), path.child(list));
    if !found.is_empty() && !has(of, "labelSelector") {
        errors.forbidden(&path, "must not be specified when labelSelector is not set");
    }
    for (index, key) in found.iter().enumerate() {
        let key = key.as_str().unwrap_or("");
        for message in formats::qualified_name(key) {
            errors.invalid(&path.index(index), key, message);
        }
    }
}

fn spread<'v>(
    constraint: &'v Value,
    seen: &mut BTreeSet<(&'v str, &'v str)>,
    path: &Path,
    errors: &mut Errors,
) {
    let skew = int(constraint, "maxSkew").unwrap_or(0);
    if skew <= 0 {
        errors.invalid(&path.child("maxSkew"), skew, "must be greater than zero");
    }
    topology(constraint, path, errors);
    one_of(constraint, "whenUnsatisfiable", path, &["DoNotSchedule", "ScheduleAnyway"], errors);
    let (key, when) = (text(constraint, "topologyKey"), text(constraint, "whenUnsatisfiable"));
    if !seen.insert((key, when)) {
        errors.duplicate(&path.child("{topologyKey, whenUnsatisfiable}"), format!("{{{key}, {when}}}"));
    }
    if let Some(domains) = int(constraint, "minDomains") {
        if domains <= 0 {
            errors.invalid(&path.child("minDomains"), domains, "must be greater than zero");
        }
        if when != "DoNotSchedule" {
            let detail = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {when}");
            errors.invalid(&path.child("minDomains"), domains, detail);
        }
    }
    for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
        one_of_if_set(constraint, policy, path, &POLICIES, errors);
    }
    keys(constraint, "matchLabelKeys", path, errors);
    meta::selector(get(constraint, "labelSelector"), &path.child("labelSelector"), errors);
}

fn gates(spec: &Value, path: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (index, gate) in items(spec, "schedulingGates").iter().enumerate() {
        let (name, path) = (text(gate, "name"), path.child("schedulingGates").index(index));
        for message in formats::qualified_name(name) {
            errors.invalid(&path, name, message);
        }
        if !seen.insert(name) {
            errors.duplicate(&path, name);
        }
    }
    if !seen.is_empty() && !text(spec, "nodeName").is_empty() {
        let detail = "cannot be set until all schedulingGates have been cleared";
        errors.forbidden(&path.child("nodeName"), detail);
    }
}

/// A change of a pod: gates may go, none may come. While there are some, the choice of nodes may be narrowed.
pub(crate) fn changed_gates(old: &Value, new: &Value, path: &Path, errors: &mut Errors) {
    let before = items(old, "schedulingGates");
    for gate in items(new, "schedulingGates").iter().filter(|gate| !before.contains(gate)) {
        let detail =
            format!("only deletion is allowed, but found new scheduling gate '{}'", text(gate, "name"));
        errors.forbidden(&path.child("schedulingGates"), detail);
    }
}

/// Whether the choice of nodes of a pod with gates was narrowed, and no more than that: labels were added that its nodes
/// must have, and requirements to each of the ways to meet its affinity.
pub(crate) fn is_narrowed(old: &Value, new: &Value) -> bool {
    let kept = |list: &str, old: &Value, new: &Value| {
        items(old, list).iter().all(|requirement| items(new, list).contains(requirement))
    };
    let labels = get(old, "nodeSelector").as_object().into_iter().flatten();
    let mut labels = labels.map(|(name, value)| get(get(new, "nodeSelector"), name) == value);
    let (before, after) = (terms_of(old), terms_of(new));
    let narrower = |(old, new): (&Value, &Value)| {
        !is_empty(new) && kept("matchExpressions", old, new) && kept("matchFields", old, new)
    };
    labels.all(|kept| kept)
        && (before.is_empty() || (before.len() == after.len() && before.iter().zip(after).all(narrower)))
}

fn terms_of(spec: &Value) -> &[Value] {
    items(
        at(spec, "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution"),
        "nodeSelectorTerms",
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{kinds, validate};

    fn faults(spec: &Value) -> Vec<String> {
        let mut errors = Errors::default();
        all(spec, &Path::new("spec"), &mut errors);
        errors.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_wrong_with_the_wishes_of_a_pod_is_named() {
        let constraint = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"});
        let term = json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"a": "b"}}});
        let near = |kind: &str, list: &str, item: Value| json!({"affinity": {kind: {list: [item]}}});
        let with = |base: &Value, field: &str, value: Value| {
            let mut changed = base.clone();
            changed[field] = value;
            changed
        };
        let weighted = |weight: i64| json!({"weight": weight, "podAffinityTerm": term});
        let spread = |constraints: Value| json!({"topologySpreadConstraints": constraints});
        assert_eq!(faults(&near("podAffinity", REQUIRED, term.clone())), Vec::<String>::new());
        assert_eq!(faults(&near("podAntiAffinity", PREFERRED, weighted(100))), Vec::<String>::new());
        assert_eq!(faults(&spread(json!([constraint.clone()]))), Vec::<String>::new());
        for (spec, message) in [
            (
                near("podAffinity", PREFERRED, weighted(101)),
                "weight: Invalid value: 101: must be in the range 1-100",
            ),
            (near("podAffinity", REQUIRED, json!({})), "topologyKey: Required value: can not be empty"),
            (
                near("podAntiAffinity", REQUIRED, json!({"topologyKey": "z", "matchLabelKeys": ["a"]})),
                "matchLabelKeys: Forbidden: must not be specified when labelSelector is not set",
            ),
            (
                near("nodeAffinity", PREFERRED, json!({"weight": 0, "preference": {}})),
                "weight: Invalid value: 0: must be in the range 1-100",
            ),
            (
                spread(json!([with(&constraint, "maxSkew", json!(0))])),
                "maxSkew: Invalid value: 0: must be greater than zero",
            ),
            (
                spread(json!([with(&constraint, "minDomains", json!(2))])),
                "minDomains: Invalid value: 2: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not \
                 ScheduleAnyway",
            ),
            (
                spread(json!([with(&constraint, "nodeTaintsPolicy", json!("Maybe"))])),
                "nodeTaintsPolicy: Unsupported value: \"Maybe\": supported values: \"Honor\", \"Ignore\"",
            ),
            (spread(json!([constraint, constraint])), "Duplicate value: \"{zone, ScheduleAnyway}\""),
            (
                json!({"schedulingGates": [{"name": "a"}, {"name": "a"}]}),
                "schedulingGates[1]: Duplicate value: \"a\"",
            ),
            (
                json!({"schedulingGates": [{"name": "a"}], "nodeName": "n"}),
                "nodeName: Forbidden: cannot be set until all schedulingGates have been cleared",
            ),
        ] {
            let found = faults(&spec);
            assert!(found.len() == 1 && found[0].contains(message), "{spec}: {found:?}");
        }
    }

    #[test]
    fn gates_go_and_do_not_come_and_choices_are_narrowed_meanwhile() {
        let pods = kinds::of("pods").expect("it is served");
        let term = |values: Value| json!({"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": values}]}}});
        let one = json!({"key": "a", "operator": "Exists"});
        let two = json!({"key": "b", "operator": "Exists"});
        let base = json!({"metadata": {"name": "p", "namespace": "d"}, "spec": {
            "containers": [{"name": "c", "image": "i"}], "nodeSelector": {"x": "1"},
            "affinity": term(json!([one])), "schedulingGates": [{"name": "a"}, {"name": "b"}]}});
        let mut old = base;
        crate::defaults::apply(pods, &mut old);
        let judged = |old: &Value, field: &str, value: Value| {
            let mut new = old.clone();
            new["spec"][field] = value;
            validate::update(pods, old, &new).is_empty()
        };
        assert!(judged(&old, "schedulingGates", json!([{"name": "b"}])));
        assert!(judged(&old, "schedulingGates", Value::Null));
        assert!(!judged(&old, "schedulingGates", json!([{"name": "c"}])));
        assert!(judged(&old, "nodeSelector", json!({"x": "1", "y": "2"})));
        assert!(!judged(&old, "nodeSelector", json!({"y": "2"})));
        assert!(judged(&old, "affinity", term(json!([one, two]))));
        assert!(!judged(&old, "affinity", term(json!([two]))));
        assert!(!judged(&old, "affinity", Value::Null));
        let mut open = old.clone();
        open["spec"]["schedulingGates"] = Value::Null;
        assert!(!judged(&open, "nodeSelector", json!({"x": "1", "y": "2"})), "it may be placed any moment");
        assert!(!judged(&open, "schedulingGates", json!([{"name": "a"}])));
        let mut bound = old.clone();
        bound["spec"]["nodeName"] = "n".into();
        assert!(!validate::binding(&old, &bound).is_empty());
    }

    #[test]
    fn what_users_add_to_a_node_is_allocatable_and_what_they_take_is_not() {
        let nodes = kinds::of("nodes").expect("it is served");
        let mut node = json!({"status": {"capacity": {"cpu": "2", "example.com/x": "3"},
            "allocatable": {"cpu": "1", "example.com/y": "4"}}});
        crate::defaults::apply(nodes, &mut node);
        assert_eq!(node["status"]["allocatable"], json!({"cpu": "1", "example.com/x": "3"}));
    }
}
