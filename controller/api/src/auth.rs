//! Who asks, and whether they may. Until RBAC comes there are two answers: administrators
//! (`system:masters`) may do everything, everybody else may see whether the server lives.

use std::collections::BTreeMap;

use http::{HeaderMap, header};
use warren_runtime::tls::PeerIdentity;
use warren_write::User;

use crate::{
    path::{ResourceTarget, Target},
    query,
    status::Status,
};

/// The client certificate decides; without one a bearer token is refused (none is issued yet) and the rest is
/// anonymous. Administrators may act as another user (`kubectl --as`).
pub(crate) fn authenticate(peer: Option<&PeerIdentity>, headers: &HeaderMap) -> Result<User, Status> {
    let user = match peer {
        Some(peer) => {
            let mut groups = peer.organizations.clone();
            groups.push("system:authenticated".to_owned());
            User { name: peer.common_name.clone(), groups, ..User::default() }
        }
        None if headers.contains_key(header::AUTHORIZATION) => return Err(Status::unauthorized()),
        None => {
            let groups = vec!["system:unauthenticated".to_owned()];
            User { name: "system:anonymous".to_owned(), groups, ..User::default() }
        }
    };
    impersonate(user, headers)
}

/// Begins the headers that say what else is known of whom an administrator acts as.
const EXTRA: &str = "impersonate-extra-";

fn impersonate(user: User, headers: &HeaderMap) -> Result<User, Status> {
    let texts = |name: &str| -> Vec<String> {
        headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).map(str::to_owned).collect()
    };
    let (names, mut groups) = (texts("impersonate-user"), texts("impersonate-group"));
    let uid = texts("impersonate-uid").into_iter().next();
    let extra: BTreeMap<String, Vec<String>> = headers
        .keys()
        .filter_map(|name| Some((name, name.as_str().strip_prefix(EXTRA)?)))
        .map(|(name, key)| (query::decode(key, false), texts(name.as_str())))
        .collect();
    let Some(name) = names.into_iter().next() else {
        let what = match (groups.is_empty(), &uid, extra.is_empty()) {
            (true, None, true) => return Ok(user),
            (false, ..) => "a group",
            (_, Some(_), _) => "a uid",
            _ => "what else is known of a user",
        };
        let message = format!("impersonating {what} requires the header Impersonate-User too");
        return Err(Status::bad_request(message));
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
    Ok(User { name, uid: uid.unwrap_or_default(), groups, extra })
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
    let kind = &target.kind;
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
    use warren_objects::Registry;

    use crate::path::parse;

    const MASTERS: &str = "system:masters";

    fn peer(name: &str, organization: &str) -> PeerIdentity {
        PeerIdentity {
            common_name: name.into(),
            organizations: vec![organization.into()],
            ..PeerIdentity::default()
        }
    }

    #[test]
    fn administrators_may_everything_members_nothing() {
        let target = parse(&Registry::built_in(), "/api/v1/namespaces/d/pods");
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
        let nodes = parse(&Registry::built_in(), "/api/v1/nodes/n/status");
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
            assert!(authorize(&anonymous, "get", parse(&Registry::built_in(), path).as_ref(), path).is_ok());
        }
        let status = authorize(&anonymous, "get", parse(&Registry::built_in(), "/apis").as_ref(), "/apis")
            .unwrap_err();
        assert_eq!(status.message, "forbidden: User \"system:anonymous\" cannot get path \"/apis\"");
    }

    #[test]
    fn tokens_and_impersonation() {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer x"));
        assert_eq!(authenticate(None, &headers).unwrap_err().code, 401);
        headers.insert("impersonate-user", HeaderValue::from_static("jane"));
        let jane = authenticate(Some(&peer("warren-admin", MASTERS)), &headers).unwrap();
        assert_eq!((jane.name.as_str(), jane.uid.as_str(), jane.extra.len()), ("jane", "", 0));
        assert!(authorize(&jane, "get", parse(&Registry::built_in(), "/apis").as_ref(), "/apis").is_err());
        assert_eq!(authenticate(Some(&peer("x", "y")), &headers).unwrap_err().code, 403);
        headers.insert("impersonate-uid", HeaderValue::from_static("u-1"));
        headers.append("impersonate-extra-example.com%2fteam", HeaderValue::from_static("blue"));
        headers.append("impersonate-extra-example.com%2fteam", HeaderValue::from_static("green"));
        let jane = authenticate(Some(&peer("warren-admin", MASTERS)), &headers).unwrap();
        assert_eq!(jane.uid, "u-1");
        assert_eq!(jane.extra["example.com/team"], ["blue", "green"]);
        headers.remove("impersonate-user");
        assert_eq!(authenticate(Some(&peer("warren-admin", MASTERS)), &headers).unwrap_err().code, 400);
    }
}
