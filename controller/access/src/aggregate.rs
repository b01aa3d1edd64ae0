//! Cluster roles that are made of others, which they choose by labels.

use std::collections::BTreeSet;

use serde_json::Value;

/// Whether a role is made of others.
pub fn aggregates(role: &Value) -> bool {
    selectors(role).next().is_some()
}

/// Whether a role is made of others with such labels.
pub fn selects(role: &Value, labels: &Value) -> bool {
    selectors(role).any(|selector| matches(selector, labels))
}

/// The rules of a role that is made of others: of each selector's roles in the order of their names, each rule once.
/// `all` are the cluster roles by name; the role itself is none of what it is made of.
pub fn aggregated<'v>(role: &Value, all: impl Iterator<Item = &'v Value> + Clone) -> Vec<Value> {
    let mut rules = Vec::new();
    let mut seen = BTreeSet::new();
    for selector in selectors(role) {
        let chosen = all.clone().filter(|other| {
            other["metadata"]["name"] != role["metadata"]["name"]
                && matches(selector, &other["metadata"]["labels"])
        });
        for rule in chosen.flat_map(|other| other["rules"].as_array().into_iter().flatten()) {
            if seen.insert(rule.to_string()) {
                rules.push(rule.clone());
            }
        }
    }
    rules
}

fn selectors(role: &Value) -> impl Iterator<Item = &Value> {
    role["aggregationRule"]["clusterRoleSelectors"].as_array().into_iter().flatten()
}

fn matches(selector: &Value, labels: &Value) -> bool {
    let pairs = selector["matchLabels"].as_object().into_iter().flatten();
    let expressions = selector["matchExpressions"].as_array().into_iter().flatten();
    pairs.into_iter().all(|(key, value)| labels.get(key) == Some(value))
        && expressions.into_iter().all(|expression| holds(expression, labels))
}

fn holds(expression: &Value, labels: &Value) -> bool {
    let label = expression["key"].as_str().and_then(|key| labels.get(key));
    let among = |label: &Value| expression["values"].as_array().is_some_and(|values| values.contains(label));
    match expression["operator"].as_str() {
        Some("In") => label.is_some_and(among),
        Some("NotIn") => !label.is_some_and(among),
        Some("Exists") => label.is_some(),
        Some("DoesNotExist") => label.is_none(),
        _ => false,
    }
}
