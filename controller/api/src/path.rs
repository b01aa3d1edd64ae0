//! From a URL's path to what is asked for. Pure.

use std::sync::Arc;

use warren_objects::Registry;

use crate::{
    kinds::{Kind, Subresource},
    query::decode,
};

/// What a path names.
#[derive(Debug)]
pub(crate) enum Target {
    /// `/healthz`, `/livez`, `/readyz`, with the single check that is asked for.
    Health { endpoint: &'static str, check: Option<String> },
    /// `/version`.
    Version,
    /// `/api`.
    CoreVersions,
    /// `/apis`.
    Groups,
    /// `/apis/GROUP`.
    Group(String),
    /// `/api/v1`, `/apis/GROUP/VERSION`.
    GroupVersion(String, String),
    /// `/openapi/v2`.
    OpenApiV2,
    /// `/openapi/v3`.
    OpenApiV3,
    /// `/openapi/v3/api/v1`, `/openapi/v3/apis/GROUP/VERSION`.
    OpenApiV3GroupVersion(String, String),
    /// `/.well-known/openid-configuration`: who issues tokens.
    OpenIdConfiguration,
    /// `/openid/v1/jwks`: the keys that verify them.
    KeySet,
    /// Objects.
    Resource(ResourceTarget),
}

/// A collection, an object or a subresource.
#[derive(Debug, Clone)]
pub(crate) struct ResourceTarget {
    pub(crate) kind: Arc<Kind>,
    /// Empty for cluster-scoped kinds and for "all namespaces".
    pub(crate) namespace: String,
    /// Empty for a collection.
    pub(crate) name: String,
    pub(crate) subresource: Option<&'static Subresource>,
    /// Not the pod is asked for but why it is where it is. That is judged as if the pod were.
    pub(crate) why: bool,
}

/// `None`: nothing is served there.
pub(crate) fn parse(registry: &Registry, path: &str) -> Option<Target> {
    let segments: Vec<String> = path.split('/').filter(|s| !s.is_empty()).map(|s| decode(s, false)).collect();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    match segments.as_slice() {
        ["version"] => Some(Target::Version),
        ["healthz", rest @ ..] => health("healthz", rest),
        ["livez", rest @ ..] => health("livez", rest),
        ["readyz", rest @ ..] => health("readyz", rest),
        ["openapi", "v2"] => Some(Target::OpenApiV2),
        ["openapi", "v3"] => Some(Target::OpenApiV3),
        ["openapi", "v3", "api", version] => {
            Some(Target::OpenApiV3GroupVersion(String::new(), (*version).into()))
        }
        ["openapi", "v3", "apis", group, version] => {
            Some(Target::OpenApiV3GroupVersion((*group).into(), (*version).into()))
        }
        [".well-known", "openid-configuration"] => Some(Target::OpenIdConfiguration),
        ["openid", "v1", "jwks"] => Some(Target::KeySet),
        ["api"] => Some(Target::CoreVersions),
        ["apis"] => Some(Target::Groups),
        ["api", version] => Some(Target::GroupVersion(String::new(), (*version).into())),
        ["apis", group] => Some(Target::Group((*group).into())),
        ["apis", group, version] => Some(Target::GroupVersion((*group).into(), (*version).into())),
        ["api", version, rest @ ..] => resource(registry, "", version, rest).map(Target::Resource),
        ["apis", group, version, rest @ ..] => resource(registry, group, version, rest).map(Target::Resource),
        ["warren", "v1", rest @ .., "why"] if matches!(rest, ["namespaces", _, "pods", _]) => {
            let pod = resource(registry, "", "v1", rest)?;
            Some(Target::Resource(ResourceTarget { why: true, ..pod }))
        }
        _ => None,
    }
}

fn health(endpoint: &'static str, rest: &[&str]) -> Option<Target> {
    match rest {
        [] => Some(Target::Health { endpoint, check: None }),
        [check] => Some(Target::Health { endpoint, check: Some((*check).into()) }),
        _ => None,
    }
}

fn resource(registry: &Registry, group: &str, version: &str, rest: &[&str]) -> Option<ResourceTarget> {
    if let ["namespaces", namespace, plural, below @ ..] = rest
        && let Some(kind) = registry.find(group, version, plural)
    {
        return if kind.namespaced { below_collection(kind, namespace, below) } else { None };
    }
    let [plural, below @ ..] = rest else { return None };
    let kind = registry.find(group, version, plural)?;
    if kind.namespaced && !below.is_empty() {
        return None; // an object of a namespaced kind is only found in its namespace
    }
    below_collection(kind, "", below)
}

fn below_collection(kind: &Arc<Kind>, namespace: &str, below: &[&str]) -> Option<ResourceTarget> {
    let (name, subresource) = match below {
        [] => ("", None),
        [name] => (*name, None),
        [name, subresource] => (*name, Some(kind.subresource(subresource)?)),
        // What is behind it is the pod's path.
        [name, subresource @ "proxy", ..] => (*name, Some(kind.subresource(subresource)?)),
        _ => return None,
    };
    let kind = Arc::clone(kind);
    Some(ResourceTarget {
        kind,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        subresource,
        why: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(path: &str) -> ResourceTarget {
        match parse(&Registry::built_in(), path) {
            Some(Target::Resource(target)) => target,
            other => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn objects_and_collections() {
        let target = object("/api/v1/namespaces/shop/pods/web-1/log");
        assert_eq!((&*target.kind.kind, &*target.namespace, &*target.name), ("Pod", "shop", "web-1"));
        assert_eq!(target.subresource.unwrap().name, "log");
        let target = object("/apis/apps/v1/deployments");
        assert_eq!((&*target.kind.kind, &*target.namespace, &*target.name), ("Deployment", "", ""));
        let target = object("/apis/apps/v1/namespaces/shop/deployments/");
        assert_eq!((&*target.namespace, &*target.name), ("shop", ""));
    }

    #[test]
    fn namespaces_are_both_a_kind_and_a_prefix() {
        assert_eq!(object("/api/v1/namespaces").kind.kind, "Namespace");
        assert_eq!(object("/api/v1/namespaces/shop").name, "shop");
        assert_eq!(object("/api/v1/namespaces/shop/finalize").subresource.unwrap().name, "finalize");
        assert_eq!(object("/api/v1/namespaces/shop/status").subresource.unwrap().name, "status");
    }

    #[test]
    fn what_is_not_served_is_not_found() {
        let registry = Registry::built_in();
        for path in [
            "/",
            "/api/v1/widgets",
            "/api/v2/pods",
            "/api/v1/pods/x",
            "/api/v1/namespaces/shop/nodes",
            "/api/v1/namespaces/shop/configmaps/x/proxy",
            "/api/v1/nodes/n/proxy/logs",
            "/api/v1/namespaces/shop/pods/x/log/y",
            "/apis/apps/v1beta1/deployments",
            "/api/v1/nodes/n/log",
        ] {
            assert!(parse(&registry, path).is_none(), "{path}");
        }
        assert!(matches!(parse(&registry, "/version/"), Some(Target::Version)));
        assert!(matches!(
            parse(&registry, "/openapi/v3/apis/apps/v1"),
            Some(Target::OpenApiV3GroupVersion(..))
        ));
    }
}
