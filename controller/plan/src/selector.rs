//! Label selectors and requirements.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1::NodeSelectorRequirement,
    apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement},
};

/// Labels by name.
pub(crate) type Labels = BTreeMap<String, String>;

/// Whether a selector says anything; an empty one would select everything.
pub(crate) fn is_empty(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}

/// Whether labels match a selector; an empty selector matches nothing here.
pub(crate) fn matches(selector: &LabelSelector, labels: &Labels) -> bool {
    Prepared::new(selector).matches(labels)
}

/// A selector that is asked of many: its lists of values, which users may make long, are searched and not read through.
pub(crate) struct Prepared<'s> {
    selector: &'s LabelSelector,
    values: Vec<(&'s LabelSelectorRequirement, BTreeSet<&'s str>)>,
}

impl<'s> Prepared<'s> {
    pub(crate) fn new(selector: &'s LabelSelector) -> Self {
        let values = |requirement: &'s LabelSelectorRequirement| {
            let values = requirement.values.iter().flatten().map(String::as_str).collect();
            (requirement, values)
        };
        Self { selector, values: selector.match_expressions.iter().flatten().map(values).collect() }
    }

    /// As [`matches`].
    pub(crate) fn matches(&self, labels: &Labels) -> bool {
        let holds = |(requirement, values): &(&LabelSelectorRequirement, BTreeSet<&str>)| {
            let actual = labels.get(&requirement.key);
            match requirement.operator.as_str() {
                "In" => actual.is_some_and(|actual| values.contains(actual.as_str())),
                "NotIn" => actual.is_none_or(|actual| !values.contains(actual.as_str())),
                "Exists" => actual.is_some(),
                "DoesNotExist" => actual.is_none(),
                _ => false,
            }
        };
        !is_empty(self.selector)
            && self.selector.match_labels.as_ref().is_none_or(|wanted| contains(labels, wanted))
            && self.values.iter().all(holds)
    }
}

/// Whether all wanted labels are there.
pub(crate) fn contains(labels: &Labels, wanted: &Labels) -> bool {
    wanted.iter().all(|(name, value)| labels.get(name) == Some(value))
}

/// Whether a node's labels satisfy a requirement.
pub(crate) fn node_holds(requirement: &NodeSelectorRequirement, actual: Option<&String>) -> bool {
    compare(&requirement.operator, actual, requirement.values.as_deref().unwrap_or_default())
}

fn compare(operator: &str, actual: Option<&String>, values: &[String]) -> bool {
    let number = |text: &String| text.parse::<i64>().ok();
    let pair = || Some((number(actual?)?, number(values.first()?)?));
    match operator {
        "In" => actual.is_some_and(|actual| values.contains(actual)),
        "NotIn" => actual.is_none_or(|actual| !values.contains(actual)),
        "Exists" => actual.is_some(),
        "DoesNotExist" => actual.is_none(),
        "Gt" => pair().is_some_and(|(actual, bound)| actual > bound),
        "Lt" => pair().is_some_and(|(actual, bound)| actual < bound),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn selectors_match_as_kubernetes_says() {
        let selector = |json: &str| serde_json::from_str::<LabelSelector>(json).expect("valid");
        let web = labels(&[("app", "web"), ("tier", "3")]);
        for (json, expected) in [
            (r#"{}"#, false),
            (r#"{"matchLabels":{"app":"web"}}"#, true),
            (r#"{"matchLabels":{"app":"db"}}"#, false),
            (r#"{"matchExpressions":[{"key":"app","operator":"In","values":["db","web"]}]}"#, true),
            (r#"{"matchExpressions":[{"key":"app","operator":"NotIn","values":["web"]}]}"#, false),
            (r#"{"matchExpressions":[{"key":"zone","operator":"NotIn","values":["a"]}]}"#, true),
            (r#"{"matchExpressions":[{"key":"zone","operator":"Exists"}]}"#, false),
            (r#"{"matchExpressions":[{"key":"zone","operator":"DoesNotExist"}]}"#, true),
            (r#"{"matchExpressions":[{"key":"app","operator":"Odd"}]}"#, false),
        ] {
            assert_eq!(matches(&selector(json), &web), expected, "{json}");
        }
        assert!(compare("Gt", web.get("tier"), &["2".into()]));
        assert!(!compare("Lt", web.get("app"), &["2".into()]));
    }
}
