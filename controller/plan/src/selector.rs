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

/// A selector of its own, which can be compared with others. Unlike [`matches`], an empty one chooses everything.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Chooser(BTreeSet<Rule>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Rule {
    In(String, BTreeSet<String>),
    NotIn(String, BTreeSet<String>),
    Exists(String),
    Absent(String),
    Never,
}

impl Rule {
    fn of(requirement: &LabelSelectorRequirement) -> Self {
        let (key, values) = (requirement.key.clone(), requirement.values.iter().flatten().cloned().collect());
        match requirement.operator.as_str() {
            "In" => Self::In(key, values),
            "NotIn" => Self::NotIn(key, values),
            "Exists" => Self::Exists(key),
            "DoesNotExist" => Self::Absent(key),
            _ => Self::Never,
        }
    }

    fn holds(&self, labels: &Labels) -> bool {
        match self {
            Self::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Self::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
            Self::Exists(key) => labels.contains_key(key),
            Self::Absent(key) => !labels.contains_key(key),
            Self::Never => false,
        }
    }
}

/// Where to look for what a [`Chooser`] chooses.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Narrowest<'c> {
    /// Nothing is chosen.
    Nowhere,
    /// All have one of these values of a label.
    Values(&'c str, &'c BTreeSet<String>),
    /// All have this label.
    Name(&'c str),
    Anywhere,
}

impl Chooser {
    /// No selector chooses nothing.
    pub(crate) fn of(selector: Option<&LabelSelector>) -> Self {
        let Some(selector) = selector else { return Self(BTreeSet::from([Rule::Never])) };
        let one = |(key, value): (&String, &String)| Rule::In(key.clone(), BTreeSet::from([value.clone()]));
        let equal = selector.match_labels.iter().flatten().map(one);
        Self(equal.chain(selector.match_expressions.iter().flatten().map(Rule::of)).collect())
    }

    /// Narrows it to those that have this value of a label, or to those that have it not.
    pub(crate) fn narrow(&mut self, key: &str, value: &str, same: bool) {
        let values = BTreeSet::from([value.to_owned()]);
        let kind = if same { Rule::In } else { Rule::NotIn };
        self.0.insert(kind(key.to_owned(), values));
    }

    pub(crate) fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|rule| rule.holds(labels))
    }

    /// Whether it says nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A label with its value that all have that are chosen.
    pub(crate) fn pair(&self) -> Option<(&str, &str)> {
        self.0.iter().find_map(|rule| match rule {
            Rule::In(key, values) if values.len() == 1 => Some((&**key, &**values.first()?)),
            _ => None,
        })
    }

    pub(crate) fn narrowest(&self) -> Narrowest<'_> {
        let width = |rule: &&Rule| match rule {
            Rule::Never => 0,
            Rule::In(_, values) => values.len(),
            Rule::Exists(_) => usize::MAX - 1,
            _ => usize::MAX,
        };
        match self.0.iter().min_by_key(width) {
            Some(Rule::Never) => Narrowest::Nowhere,
            Some(Rule::In(key, values)) => Narrowest::Values(key, values),
            Some(Rule::Exists(key)) => Narrowest::Name(key),
            _ => Narrowest::Anywhere,
        }
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
    fn choosers_choose_as_selectors_do() {
        let chooser = |json: &str| Chooser::of(Some(&serde_json::from_str(json).expect("valid")));
        let web = labels(&[("app", "web"), ("tier", "3")]);
        for (json, expected, narrowest) in [
            (r#"{}"#, true, Narrowest::Anywhere),
            (r#"{"matchExpressions":[{"key":"app","operator":"Exists"}]}"#, true, Narrowest::Name("app")),
            (
                r#"{"matchExpressions":[{"key":"zone","operator":"NotIn","values":["a"]}]}"#,
                true,
                Narrowest::Anywhere,
            ),
            (r#"{"matchExpressions":[{"key":"app","operator":"DoesNotExist"}]}"#, false, Narrowest::Anywhere),
            (
                r#"{"matchLabels":{"tier":"3"},"matchExpressions":[{"key":"app","operator":"Odd"}]}"#,
                false,
                Narrowest::Nowhere,
            ),
        ] {
            let chooser = chooser(json);
            assert_eq!((chooser.matches(&web), chooser.narrowest()), (expected, narrowest), "{json}");
        }
        let two = r#"{"matchExpressions":[{"key":"app","operator":"In","values":["web","db"]}],"matchLabels":{"tier":"3"}}"#;
        let mut two = chooser(two);
        assert_eq!(two.narrowest(), Narrowest::Values("tier", &BTreeSet::from(["3".to_owned()])));
        assert_eq!(two.pair(), Some(("tier", "3")));
        assert!(two.matches(&web));
        two.narrow("app", "web", false);
        assert!(!two.matches(&web));
        assert!(!Chooser::of(None).matches(&web), "no selector chooses nothing");
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
