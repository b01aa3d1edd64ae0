//! One rule of a role.

use std::fmt;

use serde_json::{Value, json};

use crate::{Request, Resource};

/// Stands for every verb, group, resource or path.
const ALL: &str = "*";

/// One rule of a role: what of what may be done.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// What may be done.
    pub verbs: Vec<String>,
    /// In which groups of the API.
    pub groups: Vec<String>,
    /// To which resources; `pods/log` is a subresource, `*/scale` that of all.
    pub resources: Vec<String>,
    /// To which objects; empty: to all.
    pub names: Vec<String>,
    /// Of which paths that are no resources; one may end with `*`.
    pub urls: Vec<String>,
}

impl Rule {
    /// A rule as it is stored. What is no text grants nothing.
    pub fn of(rule: &Value) -> Self {
        let texts = |field: &str| -> Vec<String> {
            rule[field]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect()
        };
        Self {
            verbs: texts("verbs"),
            groups: texts("apiGroups"),
            resources: texts("resources"),
            names: texts("resourceNames"),
            urls: texts("nonResourceURLs"),
        }
    }

    /// The rules of a stored role.
    pub fn all_of(role: &Value) -> Vec<Self> {
        role["rules"].as_array().into_iter().flatten().map(Self::of).collect()
    }

    /// The rule as it is stored.
    pub fn to_value(&self) -> Value {
        let mut rule = json!({ "verbs": self.verbs });
        let lists = [
            ("apiGroups", &self.groups),
            ("resources", &self.resources),
            ("resourceNames", &self.names),
            ("nonResourceURLs", &self.urls),
        ];
        for (field, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
            rule[field] = json!(list);
        }
        rule
    }

    /// Whether it allows what is asked.
    pub fn allows(&self, request: &Request<'_>) -> bool {
        match request {
            Request::Resource(asked) => {
                has(&self.verbs, asked.verb)
                    && has(&self.groups, asked.group)
                    && self.resources.iter().any(|resource| is_resource(resource, asked))
                    && (self.names.is_empty() || self.names.iter().any(|name| name == asked.name))
            }
            Request::Path { verb, path } => {
                has(&self.verbs, verb) && self.urls.iter().any(|url| covers_path(url, path))
            }
        }
    }

    /// Whether it allows all that another one does.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let all = |own: &[String], others: &[String]| others.iter().all(|other| has(own, other));
        let resource = |path: &String| {
            has(&self.resources, path)
                || path.split_once('/').is_some_and(|(_, below)| {
                    self.resources.iter().any(|own| own.strip_prefix("*/") == Some(below))
                })
        };
        let names = self.names.is_empty()
            || (!other.names.is_empty() && other.names.iter().all(|name| self.names.contains(name)));
        all(&self.verbs, &other.verbs)
            && all(&self.groups, &other.groups)
            && other.resources.iter().all(resource)
            && names
            && other.urls.iter().all(|path| self.urls.iter().any(|own| covers_path(own, path)))
    }
}

/// As Kubernetes writes a rule in its refusals.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lists = [
            ("APIGroups", &self.groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.urls),
            ("ResourceNames", &self.names),
            ("Verbs", &self.verbs),
        ];
        f.write_str("{")?;
        let said = lists.into_iter().filter(|(_, list)| !list.is_empty());
        for (place, (name, list)) in said.enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            let quoted: Vec<String> = list.iter().map(|text| format!("{text:?}")).collect();
            write!(f, "{comma}{name}:[{}]", quoted.join(" "))?;
        }
        f.write_str("}")
    }
}

/// Whether a list has a word, or the one that stands for all.
fn has(list: &[String], word: &str) -> bool {
    list.iter().any(|own| own == word || own == ALL)
}

/// Whether what a rule names is the resource that is asked for.
fn is_resource(named: &str, asked: &Resource<'_>) -> bool {
    if named == ALL {
        return true;
    }
    if asked.subresource.is_empty() {
        return named == asked.resource;
    }
    match named.split_once('/') {
        Some((resource, below)) => {
            below == asked.subresource && (resource == ALL || resource == asked.resource)
        }
        None => false,
    }
}

/// Whether a path of a rule, which may end with `*`, is that path.
fn covers_path(own: &str, path: &str) -> bool {
    own == path || own.ends_with('*') && path.starts_with(own.trim_end_matches('*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(verbs: &str, groups: &str, resources: &str, names: &str) -> Rule {
        let words = |text: &str| text.split_whitespace().map(|word| word.replace('-', "")).collect();
        Rule {
            verbs: words(verbs),
            groups: words(groups),
            resources: words(resources),
            names: words(names),
            urls: vec![],
        }
    }

    fn asks(verb: &'static str, resource: &'static str, name: &'static str) -> Request<'static> {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Request::Resource(Resource { verb, resource, subresource, name, ..Resource::default() })
    }

    #[test]
    fn resources_subresources_and_names() {
        let pods = rule("get list", "-", "pods", "");
        assert!(pods.allows(&asks("get", "pods", "a")) && pods.allows(&asks("list", "pods", "")));
        for refused in [asks("watch", "pods", ""), asks("get", "pods/log", "a"), asks("get", "nodes", "a")] {
            assert!(!pods.allows(&refused), "{refused:?}");
        }
        let log = rule("*", "*", "pods/log */scale", "");
        assert!(log.allows(&asks("get", "pods/log", "a")) && log.allows(&asks("update", "sets/scale", "a")));
        assert!(!log.allows(&asks("get", "pods", "a")) && !log.allows(&asks("get", "pods/exec", "a")));
        assert!(rule("get", "-", "*", "").allows(&asks("get", "pods/exec", "a")), "all is all");
        let named = rule("get list", "-", "pods", "a b");
        assert!(named.allows(&asks("get", "pods", "b")) && !named.allows(&asks("get", "pods", "c")));
        assert!(!named.allows(&asks("list", "pods", "")), "a collection has no name");
        let other = Resource { verb: "get", group: "apps", resource: "pods", ..Resource::default() };
        assert!(!pods.allows(&Request::Resource(other)));
    }

    #[test]
    fn paths_end_with_a_star_or_are_whole() {
        let rule = |url: &str| Rule { verbs: vec!["get".into()], urls: vec![url.into()], ..Rule::default() };
        let asks = |path| Request::Path { verb: "get", path };
        for (own, path, good) in [
            ("/healthz/*", "/healthz/ping", true),
            ("/healthz/*", "/healthz", false),
            ("/api*", "/apis/apps", true),
            ("*", "/metrics", true),
            ("/a", "/a/b", false),
        ] {
            assert_eq!(rule(own).allows(&asks(path)), good, "{own} {path}");
        }
        assert!(!rule("*").allows(&Request::Path { verb: "post", path: "/" }));
        let resource = Resource { verb: "get", resource: "pods", ..Resource::default() };
        assert!(!rule("*").allows(&Request::Resource(resource)), "paths are no resources");
    }

    #[test]
    fn wording() {
        assert_eq!(
            rule("get list", "-", "pods", "a").to_string(),
            r#"{APIGroups:[""], Resources:["pods"], ResourceNames:["a"], Verbs:["get" "list"]}"#
        );
    }
}
