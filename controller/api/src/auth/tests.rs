//! Who asks and whether he may, through the rights that every cluster begins with.

use http::{HeaderMap, HeaderValue, header};
use serde_json::{Value, json};
use warren_access::{Access, defaults};
use warren_objects::Registry;
use warren_runtime::tls::PeerIdentity;
use warren_store::{Key, Object, Snapshot};
use warren_vocabulary::resources::{CLUSTERROLEBINDINGS, CLUSTERROLES, ROLEBINDINGS, ROLES};
use warren_write::User;

use crate::{path::parse, query::Query, status::Status};

/// What every cluster begins with, and more.
fn rights(more: &[(&str, &str, &str, Value)]) -> Access {
    let defaults = defaults::all().into_iter().map(|(resource, object)| {
        let name = object["metadata"]["name"].as_str().unwrap();
        Object::new(Key::new(resource, "", name), 1, object.clone())
    });
    let more = more.iter().map(|(resource, namespace, name, object)| {
        Object::new(Key::new(resource, namespace, name), 1, object.clone())
    });
    Access::of(&Snapshot::from_objects(1, defaults.chain(more)))
}

fn binding(kind: &str, role: &str, user: &str) -> Value {
    json!({"roleRef": {"kind": kind, "name": role}, "subjects": [{"kind": "User", "name": user}]})
}

fn authenticate(peer: Option<&PeerIdentity>, headers: &HeaderMap) -> Result<User, Status> {
    super::authenticate(peer, headers, &rights(&[]))
}

fn asks(access: &Access, user: &User, verb: &str, url: &str) -> Result<(), Status> {
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let target = parse(&Registry::built_in(), path);
    super::authorize(access, user, verb, target.as_ref(), path, &Query::parse(Some(query)))
}

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
    let rights = rights(&[(
        "clusterrolebindings.rbac.authorization.k8s.io",
        "",
        "x",
        binding("ClusterRole", "cluster-admin", "system:warren:node:a"),
    )]);
    let headers = HeaderMap::new();
    let admin = authenticate(Some(&peer("warren-admin", MASTERS)), &headers).unwrap();
    assert!(
        asks(&Access::default(), &admin, "list", "/api/v1/namespaces/d/pods").is_ok(),
        "without any role"
    );
    let member =
        authenticate(Some(&peer("system:warren:node:a", "system:warren:members")), &headers).unwrap();
    assert_eq!(
        asks(&rights, &member, "list", "/api/v1/namespaces/d/pods").unwrap_err().message,
        "pods is forbidden: User \"system:warren:node:a\" cannot list resource \"pods\" in API group \"\" in the \
         namespace \"d\""
    );
    assert_eq!(
        asks(&rights, &member, "patch", "/api/v1/nodes/n/status").unwrap_err().message,
        "nodes \"n\" is forbidden: User \"system:warren:node:a\" cannot patch resource \"nodes/status\" in API \
         group \"\" at the cluster scope"
    );
    assert!(asks(&rights, &member, "get", "/apis").is_err());
}

#[test]
fn anonymous_sees_health_and_version() {
    let anonymous = authenticate(None, &HeaderMap::new()).unwrap();
    for path in ["/healthz", "/readyz/ping", "/version"] {
        assert!(asks(&Access::default(), &anonymous, "get", path).is_ok());
    }
    let status = asks(&rights(&[]), &anonymous, "get", "/apis").unwrap_err();
    assert_eq!(status.message, "forbidden: User \"system:anonymous\" cannot get path \"/apis\"");
}

#[test]
fn roles_give_what_they_say_where_they_are_bound() {
    let rules = |names: Value| {
        json!({"rules": [{"verbs": ["get", "list", "watch", "delete"], "apiGroups": [""],
        "resources": ["pods", "pods/log", "namespaces"], "resourceNames": names}]})
    };
    let rights = rights(&[
        (ROLES, "shop", "all", rules(json!([]))),
        (ROLES, "shop", "one", rules(json!(["web"]))),
        (
            CLUSTERROLES,
            "",
            "scaler",
            json!({"rules": [{"verbs": ["patch"], "apiGroups": ["apps"], "resources": ["*/scale"]}]}),
        ),
        (ROLEBINDINGS, "shop", "all", binding("Role", "all", "jane")),
        (ROLEBINDINGS, "shop", "one", binding("Role", "one", "eve")),
        (ROLEBINDINGS, "shop", "lost", binding("Role", "lost", "eve")),
        (CLUSTERROLEBINDINGS, "", "scaler", binding("ClusterRole", "scaler", "jane")),
    ]);
    let user = |name| authenticate(Some(&peer(name, "people")), &HeaderMap::new()).unwrap();
    let pods = "/api/v1/namespaces/shop/pods";
    for (name, verb, url, good) in [
        ("jane", "list", pods, true),
        ("jane", "deletecollection", pods, false),
        ("jane", "list", "/api/v1/pods", false),
        ("jane", "list", "/api/v1/namespaces/other/pods", false),
        ("jane", "get", "/api/v1/namespaces/shop/pods/web/log", true),
        ("jane", "create", "/api/v1/namespaces/shop/pods/web/exec", false),
        ("jane", "get", "/api/v1/namespaces/shop", true),
        ("jane", "get", "/api/v1/namespaces/other", false),
        ("jane", "list", "/api/v1/namespaces", false),
        ("jane", "patch", "/apis/apps/v1/namespaces/any/deployments/web/scale", true),
        ("jane", "patch", "/apis/apps/v1/namespaces/any/deployments/web", false),
        ("eve", "get", "/api/v1/namespaces/shop/pods/web", true),
        ("eve", "get", "/api/v1/namespaces/shop/pods/db", false),
        ("eve", "list", pods, false),
        ("eve", "watch", "/api/v1/namespaces/shop/pods?fieldSelector=metadata.name%3Dweb", true),
        ("eve", "list", "/api/v1/namespaces/shop/pods?fieldSelector=metadata.name%3Ddb", false),
        ("eve", "list", "/api/v1/namespaces/shop/pods?fieldSelector=metadata.name%21%3Dweb", false),
        ("eve", "delete", "/api/v1/namespaces/shop/pods?fieldSelector=metadata.name%3Dweb", false),
        ("eve", "get", "/apis/apps/v1", true),
        ("eve", "get", "/metrics", false),
    ] {
        assert_eq!(asks(&rights, &user(name), verb, url).is_ok(), good, "{name} {verb} {url}");
    }
    assert_eq!(
        asks(&rights, &user("eve"), "get", "/api/v1/namespaces/shop/pods/db").unwrap_err().message,
        "pods \"db\" is forbidden: User \"eve\" cannot get resource \"pods\" in API group \"\" in the namespace \
         \"shop\": RBAC: role.rbac.authorization.k8s.io \"lost\" not found"
    );
}

#[test]
fn tokens_and_impersonation() {
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer x"));
    assert_eq!(authenticate(None, &headers).unwrap_err().code, 401);
    headers.insert("impersonate-user", HeaderValue::from_static("jane"));
    let jane = authenticate(Some(&peer("warren-admin", MASTERS)), &headers).unwrap();
    assert_eq!((jane.name.as_str(), jane.uid.as_str(), jane.extra.len()), ("jane", "", 0));
    assert!(asks(&rights(&[]), &jane, "get", "/metrics").is_err());
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

/// By which headers somebody acts as whom.
fn acts_as(access: &Access, headers: &[(&'static str, &'static str)]) -> Result<User, Status> {
    let mut all = HeaderMap::new();
    for (name, value) in headers {
        all.append(*name, HeaderValue::from_static(value));
    }
    super::authenticate(Some(&peer("jane", "people")), &all, access)
}

#[test]
fn who_acts_as_another_may_be_all_that_he_asks_for() {
    let rule = |group: &str, resource: &str, name: &str| json!({"verbs": ["impersonate"], "apiGroups": [group], "resources": [resource], "resourceNames": [name]});
    let authentication = "authentication.k8s.io";
    let rights = rights(&[
        (
            CLUSTERROLES,
            "",
            "be",
            json!({"rules": [rule("", "users", "eve"), rule("", "groups", "ops"),
            rule(authentication, "userextras/team", "blue"), rule(authentication, "uids", "7")]}),
        ),
        (CLUSTERROLEBINDINGS, "", "be", binding("ClusterRole", "be", "jane")),
        (ROLES, "shop", "be", json!({"rules": [rule("", "serviceaccounts", "robot")]})),
        (ROLEBINDINGS, "shop", "be", binding("Role", "be", "jane")),
    ]);
    let eve = ("impersonate-user", "eve");
    let all =
        [eve, ("impersonate-group", "ops"), ("impersonate-extra-team", "blue"), ("impersonate-uid", "7")];
    let user = acts_as(&rights, &all).unwrap();
    assert_eq!((user.name.as_str(), user.groups.join(" ").as_str()), ("eve", "ops system:authenticated"));
    let robot = acts_as(&rights, &[("impersonate-user", "system:serviceaccount:shop:robot")]).unwrap();
    assert_eq!(
        robot.groups.join(" "),
        "system:serviceaccounts system:serviceaccounts:shop system:authenticated"
    );
    for (headers, why) in [
        (
            vec![("impersonate-user", "olga")],
            "users \"olga\" is forbidden: User \"jane\" cannot impersonate resource \
            \"users\" in API group \"\" at the cluster scope",
        ),
        (
            vec![eve, ("impersonate-group", MASTERS)],
            "groups \"system:masters\" is forbidden: User \"jane\" cannot \
            impersonate resource \"groups\" in API group \"\" at the cluster scope",
        ),
        (
            vec![("impersonate-user", "system:serviceaccount:other:robot")],
            "serviceaccounts \"robot\" is forbidden: \
            User \"jane\" cannot impersonate resource \"serviceaccounts\" in API group \"\" in the namespace \"other\"",
        ),
        (
            vec![eve, ("impersonate-extra-team", "red")],
            "userextras.authentication.k8s.io \"red\" is forbidden: User \
            \"jane\" cannot impersonate resource \"userextras/team\" in API group \"authentication.k8s.io\" at the \
            cluster scope",
        ),
        (
            vec![eve, ("impersonate-uid", "8")],
            "uids.authentication.k8s.io \"8\" is forbidden: User \"jane\" cannot \
            impersonate resource \"uids\" in API group \"authentication.k8s.io\" at the cluster scope",
        ),
    ] {
        let status = acts_as(&rights, &headers).unwrap_err();
        assert_eq!((status.code, status.message.as_str()), (403, why));
    }
}
