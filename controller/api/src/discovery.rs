//! Discovery: what is served, in the old form (one document per group version) and aggregated. Pure.

use std::{fmt::Write as _, ops::Deref};

use http::HeaderMap;
use serde_json::{Value, json};
use warren_objects::Registry;

use crate::{
    kinds::{Kind, Subresource, api_version},
    negotiate,
};

/// The Kubernetes level whose features are honoured.
pub(crate) const GIT_VERSION: &str = "v1.34.0+warren";

/// `/version`.
pub(crate) fn version() -> Value {
    json!({
        "major": "1", "minor": "34", "gitVersion": GIT_VERSION,
        "gitCommit": option_env!("WARREN_COMMIT").unwrap_or("unknown"), "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "n/a",
        "compiler": "rustc", "platform": concat!("linux/", "amd64"),
    })
}

/// The version of `apidiscovery.k8s.io` that the client wants, when it wants the aggregated form.
pub(crate) fn wants_aggregated(headers: &HeaderMap) -> Option<&'static str> {
    negotiate::accepted(headers)
        .iter()
        .find_map(|media| {
            if media.parameter("as") != "APIGroupDiscoveryList"
                || media.parameter("g") != "apidiscovery.k8s.io"
            {
                // The first acceptable plain form wins over a later aggregated one.
                return (media.essence == "application/json").then_some("");
            }
            match media.parameter("v") {
                "v2" => Some("v2"),
                "v2beta1" => Some("v2beta1"),
                _ => None,
            }
        })
        .filter(|version| !version.is_empty())
}

/// The content type of an aggregated answer.
pub(crate) fn aggregated_content_type(version: &str) -> String {
    format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList")
}

/// `/api` (core) or `/apis` in the aggregated form.
pub(crate) fn aggregated(registry: &Registry, core: bool, version: &str) -> Value {
    let mut items: Vec<Value> = Vec::new();
    for group in registry.groups().into_iter().filter(|group| group.is_empty() == core) {
        let of_group = registry.group_versions().into_iter().filter(|(name, _)| *name == group);
        let versions: Vec<Value> = of_group
            .map(|(_, group_version)| {
                let resources: Vec<Value> =
                    kinds_of(registry, group, group_version).map(aggregated_resource).collect();
                json!({"version": group_version, "resources": resources, "freshness": "Current"})
            })
            .collect();
        let metadata = if group.is_empty() { json!({}) } else { json!({"name": group}) };
        items.push(json!({"metadata": metadata, "versions": versions}));
    }
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"), "metadata": {},
        "items": items,
    })
}

fn kinds_of<'a>(
    registry: &'a Registry,
    group: &'a str,
    version: &'a str,
) -> impl Iterator<Item = &'a Kind> + 'a {
    registry
        .kinds()
        .iter()
        .map(Deref::deref)
        .filter(move |kind| kind.group == group && kind.version == version)
}

fn aggregated_resource(kind: &Kind) -> Value {
    let mut resource = json!({
        "resource": kind.plural,
        "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular,
        "verbs": kind.verbs,
    });
    add_names(&mut resource, kind);
    if !kind.subresources.is_empty() {
        resource["subresources"] = kind
            .subresources
            .iter()
            .filter(|subresource| !subresource.verbs.is_empty())
            .map(|subresource| {
                let (group, version, name) = speaks(kind, subresource);
                json!({
                    "subresource": subresource.name,
                    "responseKind": {"group": group, "version": version, "kind": name},
                    "verbs": subresource.verbs,
                })
            })
            .collect();
    }
    resource
}

/// Group, version and kind that a subresource speaks.
fn speaks<'k>(kind: &'k Kind, subresource: &Subresource) -> (&'k str, &'k str, &'k str) {
    if subresource.kind.is_empty() {
        (&kind.group, &kind.version, &kind.kind)
    } else {
        (subresource.group, subresource.version, subresource.kind)
    }
}

fn add_names(resource: &mut Value, kind: &Kind) {
    if !kind.short_names.is_empty() {
        resource["shortNames"] = json!(kind.short_names);
    }
    if !kind.categories.is_empty() {
        resource["categories"] = json!(kind.categories);
    }
}

/// `/api`.
pub(crate) fn core_versions(host: &str) -> Value {
    json!({
        "kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": host}],
    })
}

/// `/apis`.
pub(crate) fn groups(registry: &Registry) -> Value {
    let groups: Vec<Value> =
        registry.groups().into_iter().filter_map(|group| group_entry(registry, group)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/GROUP`.
pub(crate) fn group(registry: &Registry, name: &str) -> Option<Value> {
    let mut entry = group_entry(registry, name)?;
    entry["kind"] = json!("APIGroup");
    entry["apiVersion"] = json!("v1");
    Some(entry)
}

fn group_entry(registry: &Registry, name: &str) -> Option<Value> {
    let versions: Vec<Value> = registry
        .group_versions()
        .iter()
        .filter(|(group, _)| !group.is_empty() && *group == name)
        .map(|(group, version)| json!({"groupVersion": api_version(group, version), "version": version}))
        .collect();
    let preferred = versions.first()?.clone();
    Some(json!({"name": name, "versions": versions, "preferredVersion": preferred}))
}

/// `/api/v1`, `/apis/GROUP/VERSION`.
pub(crate) fn resources(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    let mut resources: Vec<Value> = Vec::new();
    for kind in kinds_of(registry, group, version) {
        let mut resource = json!({
            "name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind,
            "verbs": kind.verbs,
        });
        add_names(&mut resource, kind);
        resources.push(resource);
        for subresource in kind.subresources.iter().filter(|subresource| !subresource.verbs.is_empty()) {
            let (group, version, name) = speaks(kind, subresource);
            let mut entry = json!({
                "name": format!("{}/{}", kind.plural, subresource.name), "singularName": "",
                "namespaced": kind.namespaced, "kind": name, "verbs": subresource.verbs,
            });
            if (group, version) != (&*kind.group, &*kind.version) {
                entry["group"] = json!(group);
                entry["version"] = json!(version);
            }
            resources.push(entry);
        }
    }
    if resources.is_empty() {
        return None;
    }
    Some(json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version(group, version),
        "resources": resources,
    }))
}

/// The text of `/livez?verbose` and its like: one line per check. The flag says whether all passed.
pub(crate) fn health_report(
    endpoint: &str,
    checks: &[(&str, Result<(), String>)],
    verbose: bool,
) -> (bool, String) {
    let healthy = checks.iter().all(|(_, outcome)| outcome.is_ok());
    if healthy && !verbose {
        return (true, "ok".to_owned());
    }
    let mut text = String::new();
    for (name, outcome) in checks {
        let _ = match outcome {
            Ok(()) => writeln!(text, "[+]{name} ok"),
            Err(why) => writeln!(text, "[-]{name} failed: {why}"),
        };
    }
    let verdict = if healthy { "passed" } else { "failed" };
    let _ = writeln!(text, "{endpoint} check {verdict}");
    (healthy, text)
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header};

    use super::*;

    #[test]
    fn legacy_and_aggregated_say_the_same() {
        let legacy = resources(&Registry::built_in(), "apps", "v1").unwrap();
        let names: Vec<&str> =
            legacy["resources"].as_array().unwrap().iter().filter_map(|r| r["name"].as_str()).collect();
        assert_eq!(
            names,
            [
                "controllerrevisions",
                "daemonsets",
                "daemonsets/status",
                "deployments",
                "deployments/scale",
                "deployments/status",
                "replicasets",
                "replicasets/scale",
                "replicasets/status",
                "statefulsets",
                "statefulsets/scale",
                "statefulsets/status"
            ]
        );
        assert_eq!(legacy["resources"][4]["group"], "autoscaling");
        let all = aggregated(&Registry::built_in(), false, "v2");
        let apps =
            all["items"].as_array().unwrap().iter().find(|item| item["metadata"]["name"] == "apps").unwrap();
        let deployment = &apps["versions"][0]["resources"][2];
        assert_eq!(deployment["resource"], "deployments");
        assert_eq!(deployment["responseKind"]["kind"], "Deployment");
        assert_eq!(deployment["subresources"][0]["responseKind"]["kind"], "Scale");
        assert_eq!(aggregated(&Registry::built_in(), true, "v2")["items"].as_array().unwrap().len(), 1);
        assert!(resources(&Registry::built_in(), "apps", "v1beta1").is_none());
        assert!(group(&Registry::built_in(), "").is_none());
        assert_eq!(
            group(&Registry::built_in(), "apps").unwrap()["preferredVersion"]["groupVersion"],
            "apps/v1"
        );
    }

    #[test]
    fn a_group_of_two_versions_is_listed_once_and_prefers_the_stored_one() {
        let name = "discovery.k8s.io";
        let listed = groups(&Registry::built_in());
        let found: Vec<&Value> =
            listed["groups"].as_array().unwrap().iter().filter(|group| group["name"] == name).collect();
        assert_eq!(found.len(), 1, "{listed}");
        assert_eq!(found[0]["preferredVersion"]["version"], "v1");
        assert_eq!(found[0]["versions"][1]["version"], "v1beta1");
        let all = aggregated(&Registry::built_in(), false, "v2");
        let found: Vec<&Value> =
            all["items"].as_array().unwrap().iter().filter(|item| item["metadata"]["name"] == name).collect();
        assert_eq!(found.len(), 1, "{all}");
        assert_eq!(found[0]["versions"].as_array().unwrap().len(), 2);
        assert_eq!(found[0]["versions"][1]["resources"][0]["verbs"], json!(["get", "list", "watch"]));
        let core = resources(&Registry::built_in(), "", "v1").unwrap();
        let endpoints =
            core["resources"].as_array().unwrap().iter().find(|entry| entry["name"] == "endpoints").unwrap();
        assert_eq!((&endpoints["kind"], &endpoints["shortNames"]), (&json!("Endpoints"), &json!(["ep"])));
        assert_eq!(endpoints["verbs"].as_array().map(Vec::len), Some(8));
    }

    #[test]
    fn aggregated_only_when_asked_for() {
        let with = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_str(text).unwrap());
            wants_aggregated(&headers)
        };
        let v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        let beta = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
        assert_eq!(with(&format!("{v2},{beta},application/json")), Some("v2"));
        assert_eq!(with(&format!("{beta},application/json")), Some("v2beta1"));
        assert_eq!(with("application/json, */*"), None);
        assert_eq!(with("application/json"), None);
    }

    #[test]
    fn health_names_what_fails() {
        let checks = [("ping", Ok(())), ("store", Err("closed".to_owned()))];
        let (healthy, text) = health_report("readyz", &checks, false);
        assert!(!healthy);
        assert!(text.contains("[-]store failed: closed"), "{text}");
        assert_eq!(health_report("livez", &checks[..1], false), (true, "ok".to_owned()));
    }
}
