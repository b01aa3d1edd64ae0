//! Who asks, and whether they may. Until RBAC comes there are two answers: administrators
//! (`system:masters`) may do everything, everybody else may see whether the server lives.

use http::{HeaderMap, header};
use warren_runtime::tls::PeerIdentity;

use crate::{
    path::{ResourceTarget, Target},
    status::Status,
};

/// The group that may do everything.
const MASTERS: &str = "system:masters";

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) groups: Vec<String>,
}

impl User {
    pub(crate) fn is_master(&self) -> bool {
        self.groups.iter().any(|group| group == MASTERS)
    }

    fn is_authenticated(&self) -> bool {
        self.groups.iter().any(|group| group == "system:authenticated")
    }
}

/// The client certificate decides; without one a bearer token is refused (none is issued yet) and the rest is
/// anonymous. Administrators may act as somebody else (`kubectl --as`).
pub(crate) fn authenticate(peer: Option<&PeerIdentity>, headers: &HeaderMap) -> Result<User, Status> {
    let user = match peer {
        Some(peer) => {
            let mut groups = peer.organizations.clone();
            groups.push("system:authenticated".to_owned());
            User { name: peer.common_name.clone(), groups }
        }
        None if headers.contains_key(header::AUTHORIZATION) => return Err(Status::unauthorized()),
        None => {
            User { name: "system:anonymous".to_owned(), groups: vec!["system:unauthenticated".to_owned()] }
        }
    };
    impersonate(user, headers)
}

fn impersonate(user: User, headers: &HeaderMap) -> Result<User, Status> {
    let texts = |name: &str| -> Vec<String> {
        headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).map(str::to_owned).collect()
    };
    let (names, mut groups) = (texts("impersonate-user"), texts("impersonate-group"));
    let Some(name) = names.into_iter().next() else {
        if groups.is_empty() {
            return Ok(user);
        }
        return Err(Status::bad_request("impersonating a group requires the header Impersonate-User too"));
    };
    if !user.is_master() {
        let message = format!(
            "users \"{name}\" is forbidden: User \"{}\" cannot impersonate resource \"users\" in API group \"\" at \
             the cluster scope",
            user.name
        );
        return Err(Status::new(403, "Forbidden", message));
    }
    groups.push("system:authenticated".to_owned());
    Ok(User { name, groups })
}

/// Questions about oneself, which everybody with a name may ask.
const ABOUT_ONESELF: [&str; 3] = [
    "selfsubjectaccessreviews.authorization.k8s.io",
    "selfsubjectreviews.authentication.k8s.io",
    "selfsubjectrulesreviews.authorization.k8s.io",
];

/// May this user do this?
pub(crate) fn authorize(user: &User, verb: &str, target: Option<&Target>, path: &str) -> Result<(), Status> {
    if user.is_master() || matches!(target, Some(Target::Health { .. } | Target::Version)) {
        return Ok(());
    }
    match target {
        Some(Target::Resource(resource))
            if user.is_authenticated() && ABOUT_ONESELF.contains(&&*resource.kind.resource) =>
        {
            Ok(())
        }
        Some(Target::Resource(resource)) => Err(forbidden(user, verb, resource)),
        _ => Err(Status::forbidden_path(&user.name, &verb.to_ascii_lowercase(), path)),
    }
}

fn forbidden(user: &User, verb: &str, target: &ResourceTarget) -> Status {
    let kind = target.kind;
    let resource = match target.subresource {
        Some(subresource) => format!("{}/{}", kind.plural, subresource.name),
        None => kind.plural.to_string(),
    };
    let place = if target.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace \"{}\"", target.namespace)
    };
    let why = format!(
        "User \"{}\" cannot {verb} resource \"{resource}\" in API group \"{}\" {place}",
        user.name, kind.group
    );
    Status::forbidden(kind, &target.name, &why)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::path::parse;

    fn peer(name: &str, organization: &str) -> PeerIdentity {
        PeerIdentity {
            common_name: name.into(),
            organizations: vec![organization.into()],
            ..PeerIdentity::default()
        }
    }

    #[test]
    fn administrators_may_everything_members_nothing() {
        let target = parse("/api/v1/namespaces/d/pods");
        let headers = HeaderMap::new();
        let admin = authenticate(Some(&peer("warren-admin", MASTERS)), &headers).unwrap();
        assert!(authorize(&admin, "list", target.as_ref(), "").is_ok());
        let member =
            authenticate(Some(&peer("system:warren:node:a", "system:warren:members")), &headers).unwrap();
        let status = authorize(&member, "list", target.as_ref(), "").unwrap_err();
        assert_eq!(
            status.message,
            "pods is forbidden: User \"system:warren:node:a\" cannot list resource \"pods\" in API group \"\" in the \
             namespace \"d\""
        );
        let nodes = parse("/api/v1/nodes/n/status");
        assert_eq!(
            authorize(&member, "patch", nodes.as_ref(), "").unwrap_err().message,
            "nodes \"n\" is forbidden: User \"system:warren:node:a\" cannot patch resource \"nodes/status\" in API \
             group \"\" at the cluster scope"
        );
    }

    #[test]
    fn anonymous_sees_health_and_version() {
        let anonymous = authenticate(None, &HeaderMap::new()).unwrap();
        for path in ["/healthz", "/readyz/ping", "/version"] {
            assert!(authorize(&anonymous, "get", parse(path).as_ref(), path).is_ok());
        }
        let status = authorize(&anonymous, "get", parse("/apis").as_ref(), "/apis").unwrap_err();
        assert_eq!(status.message, "forbidden: User \"system:anonymous\" cannot get path \"/apis\"");
    }

    #[test]
    fn tokens_and_impersonation() {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer x"));
        assert_eq!(authenticate(None, &headers).unwrap_err().code, 401);
        headers.insert("impersonate-user", HeaderValue::from_static("jane"));
        let jane = authenticate(Some(&peer("warren-admin", MASTERS)), &headers).unwrap();
        assert_eq!(jane.name, "jane");
        assert!(authorize(&jane, "get", parse("/apis").as_ref(), "/apis").is_err());
        assert_eq!(authenticate(Some(&peer("x", "y")), &headers).unwrap_err().code, 403);
    }
}
