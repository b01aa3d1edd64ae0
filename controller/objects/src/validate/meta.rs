//! The rules of metadata, of labels and of label selectors.

use serde_json::Value;

use crate::{
    field::{Errors, Path},
    json::{entries, get, has, is_empty, items, text, truth},
    validate::{formats, immutable, one_of, required_text},
};

/// The most bytes that all annotations of an object may have.
const ANNOTATIONS_LIMIT: usize = 256 * 1024;

/// How the names of a kind are spelt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameRule {
    /// RFC 1123 subdomain: most kinds.
    Subdomain,
    /// RFC 1123 label: namespaces.
    Label,
    /// RFC 1035 label: services.
    ServiceLabel,
    /// An address of the Internet Protocol, as it is written most shortly.
    Address,
    /// Whatever can be a part of a path: roles and bindings.
    PathSegment,
}

impl NameRule {
    fn messages(self, name: &str) -> Vec<String> {
        match self {
            Self::Subdomain => formats::subdomain(name),
            Self::Label => formats::label(name),
            Self::ServiceLabel => formats::dns_1035(name),
            Self::Address => formats::canonical_ip(name),
            Self::PathSegment => formats::path_segment(name),
        }
    }
}

/// The metadata of an object that is stored.
pub(crate) fn object(metadata: &Value, rule: NameRule, errors: &mut Errors) {
    let path = Path::new("metadata");
    let (name, generate) = (text(metadata, "name"), text(metadata, "generateName"));
    if name.is_empty() && generate.is_empty() {
        errors.required(&path.child("name"), "name or generateName is required");
    }
    if !name.is_empty() {
        for message in rule.messages(name) {
            errors.invalid(&path.child("name"), name, message);
        }
    }
    if !generate.is_empty() {
        // What is appended makes a trailing separator good.
        for message in rule.messages(&format!("{}a", generate.trim_end_matches('-'))) {
            errors.invalid(&path.child("generateName"), generate, message);
        }
    }
    super::formed(metadata, "namespace", &path, formats::label, errors);
    labels_and_annotations(metadata, &path, errors);
    owners(metadata, &path, errors);
    for (index, finalizer) in items(metadata, "finalizers").iter().enumerate() {
        let name = finalizer.as_str().unwrap_or("");
        for message in formats::qualified_name(name) {
            errors.invalid(&path.child("finalizers").index(index), name, message);
        }
    }
}

/// What must not change in metadata.
pub(crate) fn update(old: &Value, new: &Value, errors: &mut Errors) {
    let path = Path::new("metadata");
    for field in ["name", "namespace", "uid", "creationTimestamp"] {
        if has(old, field) && has(new, field) {
            immutable(get(old, field), get(new, field), &path.child(field), errors);
        }
    }
    if has(old, "deletionTimestamp") {
        for (index, finalizer) in items(new, "finalizers").iter().enumerate() {
            if !items(old, "finalizers").contains(finalizer) {
                let detail = "no new finalizers can be added if the object is being deleted";
                errors.forbidden(&path.child("finalizers").index(index), detail);
            }
        }
    }
}

/// The labels and annotations of an object or of a template.
pub(crate) fn labels_and_annotations(metadata: &Value, path: &Path, errors: &mut Errors) {
    labels(get(metadata, "labels"), &path.child("labels"), errors);
    let path = path.child("annotations");
    let mut size = 0;
    for (key, value) in entries(metadata, "annotations") {
        size += key.len() + value.as_str().map_or(0, str::len);
        for message in formats::qualified_name(&key.to_lowercase()) {
            errors.invalid(&path, key, message);
        }
    }
    if size > ANNOTATIONS_LIMIT {
        errors.too_long(&path, ANNOTATIONS_LIMIT);
    }
}

/// A map of labels.
pub(crate) fn labels(map: &Value, path: &Path, errors: &mut Errors) {
    for (key, value) in map.as_object().into_iter().flatten() {
        for message in formats::qualified_name(key) {
            errors.invalid(path, key.as_str(), message);
        }
        let value = value.as_str().unwrap_or("");
        for message in formats::label_value(value) {
            errors.invalid(path, value, message);
        }
    }
}

fn owners(metadata: &Value, path: &Path, errors: &mut Errors) {
    let path = path.child("ownerReferences");
    let mut controller: Option<&str> = None;
    for (index, owner) in items(metadata, "ownerReferences").iter().enumerate() {
        let path = path.index(index);
        for field in ["apiVersion", "kind", "name", "uid"] {
            required_text(owner, field, &path, errors);
        }
        if truth(owner, "controller") {
            if let Some(first) = controller {
                let detail = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {}",
                    text(owner, "name")
                );
                errors.invalid(&path, text(owner, "name"), detail);
            }
            controller.get_or_insert(text(owner, "name"));
        }
    }
}

/// A label selector of `matchLabels` and `matchExpressions`.
pub(crate) fn selector(selector: &Value, path: &Path, errors: &mut Errors) {
    labels(get(selector, "matchLabels"), &path.child("matchLabels"), errors);
    for (index, requirement) in items(selector, "matchExpressions").iter().enumerate() {
        let path = path.child("matchExpressions").index(index);
        super::formed(requirement, "key", &path, formats::qualified_name, errors);
        required_text(requirement, "key", &path, errors);
        one_of(requirement, "operator", &path, &["DoesNotExist", "Exists", "In", "NotIn"], errors);
        values_fit_operator(requirement, &path, errors);
        for (index, value) in items(requirement, "values").iter().enumerate() {
            let value = value.as_str().unwrap_or("");
            for message in formats::label_value(value) {
                errors.invalid(&path.child("values").index(index), value, message);
            }
        }
    }
}

/// In and NotIn need values, Exists and DoesNotExist must have none.
pub(crate) fn values_fit_operator(requirement: &Value, path: &Path, errors: &mut Errors) {
    let none = is_empty(get(requirement, "values"));
    match text(requirement, "operator") {
        "In" | "NotIn" if none => {
            errors.required(&path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !none => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.forbidden(&path.child("values"), detail);
        }
        _ => {}
    }
}

/// Whether a label selector chooses an object with these labels.
pub(crate) fn selects(selector: &Value, labels: &Value) -> bool {
    let all_labels = entries(selector, "matchLabels").all(|(key, value)| get(labels, key) == value);
    all_labels
        && items(selector, "matchExpressions").iter().all(|requirement| {
            let value = get(labels, text(requirement, "key"));
            let among = items(requirement, "values").contains(value);
            match text(requirement, "operator") {
                "In" => !value.is_null() && among,
                "NotIn" => value.is_null() || !among,
                "Exists" => !value.is_null(),
                "DoesNotExist" => value.is_null(),
                _ => false,
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn messages(metadata: Value, rule: NameRule) -> Vec<String> {
        let mut errors = Errors::default();
        object(&metadata, rule, &mut errors);
        errors.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_of_objects() {
        assert_eq!(
            messages(json!({}), NameRule::Subdomain),
            ["metadata.name: Required value: name or generateName is required"]
        );
        assert!(messages(json!({"generateName": "web-"}), NameRule::Subdomain).is_empty());
        assert!(messages(json!({"name": "a.b"}), NameRule::Subdomain).is_empty());
        let found = messages(json!({"name": "1web"}), NameRule::ServiceLabel);
        assert!(
            found[0].starts_with("metadata.name: Invalid value: \"1web\": a DNS-1035 label must"),
            "{found:?}"
        );
    }

    #[test]
    fn labels_annotations_and_owners() {
        let found = messages(
            json!({
                "name": "a", "labels": {"a b": "x", "c": "y/z"}, "annotations": {"UPPER.example/x": "any thing"},
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "1", "controller": true},
                    {"apiVersion": "v1", "kind": "Pod", "name": "q", "controller": true}
                ]
            }),
            NameRule::Subdomain,
        );
        assert_eq!(found.len(), 4, "{found:#?}");
        assert!(found[0].starts_with("metadata.labels: Invalid value: \"a b\": name part must consist of"));
        assert!(found[1].starts_with("metadata.labels: Invalid value: \"y/z\": a valid label must be"));
        assert_eq!(found[2], "metadata.ownerReferences[1].uid: Required value");
        assert!(found[3].contains("Only one reference"));
        let found =
            messages(json!({"name": "a", "annotations": {"a": "x".repeat(300_000)}}), NameRule::Subdomain);
        assert_eq!(found, ["metadata.annotations: Too long: may not be more than 262144 bytes"]);
    }

    #[test]
    fn selectors_select() {
        let selector = json!({"matchLabels": {"a": "1"}, "matchExpressions": [
            {"key": "b", "operator": "In", "values": ["x", "y"]}, {"key": "c", "operator": "DoesNotExist"}]});
        assert!(selects(&selector, &json!({"a": "1", "b": "y"})));
        assert!(!selects(&selector, &json!({"a": "1", "b": "z"})));
        assert!(!selects(&selector, &json!({"a": "1", "b": "y", "c": ""})));
    }
}
