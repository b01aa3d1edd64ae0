use http::{HeaderMap, HeaderValue, header};
use warren_objects::Registry;
use warren_runtime::tls::PeerIdentity;

use super::{authenticate, authorize};
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
    let status =
        authorize(&anonymous, "get", parse(&Registry::built_in(), "/apis").as_ref(), "/apis").unwrap_err();
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
