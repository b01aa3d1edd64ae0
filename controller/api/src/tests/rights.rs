//! Who may do what, through the router: every kind, verb and subresource for several identities beside a golden file; and
//! what people are told about their rights.

use std::{collections::BTreeMap, fmt::Write as _};

use warren_access::{aggregated, aggregates, defaults};
use warren_objects::Registry;

use super::*;

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tests/golden/rights.txt");

/// Who asks: a name, and the organisation of the certificate; none for who has no certificate.
const IDENTITIES: [(&str, Option<&str>); 8] = [
    ("anonymous", None),
    ("member", Some("system:warren:members")),
    ("somebody", Some("people")),
    ("viewer", Some("people")),
    ("editor", Some("people")),
    ("admin", Some("people")),
    ("root", Some("people")),
    ("master", Some("system:masters")),
];

fn request(who: (&str, Option<&str>), method: &Method, path: &str, body: &Value) -> Request<Body> {
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    let request = match who.1 {
        Some(organization) => request.extension(PeerIdentity {
            common_name: who.0.into(),
            organizations: vec![organization.into()],
            ..PeerIdentity::default()
        }),
        None => request,
    };
    let body = if body.is_null() { Body::empty() } else { body.to_string().into() };
    request.body(body).unwrap()
}

fn binding(kind: &str, name: &str, role: (&str, &str), user: &str) -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role.0, "name": role.1},
        "subjects": [{"kind": "User", "name": user}]})
}

/// A server with the default roles, as the planner of a cluster fills them, and people in the namespace `team`.
async fn with_people() -> Server {
    let server = Server::new().await;
    let mut all: BTreeMap<String, (&str, Value)> = BTreeMap::new();
    for (resource, object) in defaults::all() {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        all.insert(format!("{resource} {name}"), (resource, object));
    }
    // Those that others are made of are made of others themselves.
    for _ in 0..3 {
        let roles: Vec<Value> = all.values().map(|(_, object)| object.clone()).collect();
        for (_, object) in all.values_mut().filter(|(_, object)| aggregates(object)) {
            object["rules"] = aggregated(object, roles.iter()).into();
        }
    }
    for (resource, object) in all.values() {
        let plural = resource.split('.').next().unwrap();
        server.post(&format!("{RBAC}/{plural}"), object).await.expect(201);
    }
    server.post("/api/v1/namespaces", &json!({"metadata": {"name": "team"}})).await.expect(201);
    for (user, role) in [("viewer", "view"), ("editor", "edit"), ("admin", "admin")] {
        let binding = binding("RoleBinding", user, ("ClusterRole", role), user);
        server.post(&format!("{RBAC}/namespaces/team/rolebindings"), &binding).await.expect(201);
    }
    let root = binding("ClusterRoleBinding", "root", ("ClusterRole", "cluster-admin"), "root");
    server.post(&format!("{RBAC}/clusterrolebindings"), &root).await.expect(201);
    server
}

/// What is asked of every collection, object and subresource.
const VERBS: [(&str, Method, bool, &str); 8] = [
    ("get", Method::GET, true, ""),
    ("list", Method::GET, false, ""),
    ("watch", Method::GET, false, "&watch=1&timeoutSeconds=1"),
    ("create", Method::POST, false, ""),
    ("update", Method::PUT, true, ""),
    ("patch", Method::PATCH, true, ""),
    ("delete", Method::DELETE, true, ""),
    ("deletecollection", Method::DELETE, false, ""),
];

impl Server {
    /// Whether somebody may; what comes of it does not matter, and nothing is changed.
    async fn lets(&self, who: (&str, Option<&str>), method: &Method, path: &str) -> bool {
        let response = self.open(request(who, method, path, &Value::Null)).await;
        if response.status() != StatusCode::FORBIDDEN {
            return true;
        }
        let body = tokio::time::timeout(PATIENCE, response.into_body().collect()).await.unwrap().unwrap();
        !String::from_utf8_lossy(&body.to_bytes()).contains(" cannot ")
    }

    /// For each verb (of a path without its object and query) those who may, as lines.
    async fn matrix(&self, collection: &str, below: &str, title: &str, table: &mut String) {
        let mut by_people: Vec<(String, Vec<&str>)> = Vec::new();
        for (verb, method, named, query) in VERBS {
            // Below an object there is no collection, and to make something there names the object.
            if !below.is_empty() && ["list", "watch", "deletecollection"].contains(&verb) {
                continue;
            }
            let name = if named || !below.is_empty() { format!("/x{below}") } else { String::new() };
            let path = format!("{collection}{name}?dryRun=All{query}");
            let mut people = Vec::new();
            for who in IDENTITIES {
                if self.lets(who, &method, &path).await {
                    people.push(who.0);
                }
            }
            let people = people.join(" ");
            match by_people.iter_mut().find(|(known, _)| *known == people) {
                Some((_, verbs)) => verbs.push(verb),
                None => by_people.push((people, vec![verb])),
            }
        }
        for (people, verbs) in by_people {
            writeln!(table, "{title}: {}: {people}", verbs.join(" ")).unwrap();
        }
    }
}

/// Made of the registry of kinds: one that is added shows up here, and whoever adds it sees who may do what with it.
/// `WARREN_WRITE_GOLDEN=1` writes the file anew.
#[tokio::test]
async fn the_matrix_of_rights_is_the_golden_one() {
    let server = with_people().await;
    let mut table = String::from(
        "Who may do what: viewer, editor and admin have these roles in the namespace that is asked for, root is bound to \
         cluster-admin, somebody to nothing.\n",
    );
    for kind in Registry::built_in().kinds() {
        let place = if kind.namespaced { "/namespaces/team" } else { "" };
        let group = if kind.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", kind.group) };
        let collection = format!("{group}/{}{place}/{}", kind.version, kind.plural);
        let title = format!("{}/{}", kind.api_version(), kind.plural);
        server.matrix(&collection, "", &title, &mut table).await;
        for subresource in kind.subresources {
            let below = format!("/{}", subresource.name);
            server.matrix(&collection, &below, &format!("{title}{below}"), &mut table).await;
        }
    }
    for path in [
        "/healthz",
        "/livez/ping",
        "/version",
        "/api",
        "/apis",
        "/apis/apps/v1",
        "/openapi/v2",
        "/metrics",
        "/",
    ] {
        let mut people = Vec::new();
        for who in IDENTITIES {
            if server.lets(who, &Method::GET, path).await {
                people.push(who.0);
            }
        }
        writeln!(table, "{path}: get: {}", people.join(" ")).unwrap();
    }
    if std::env::var_os("WARREN_WRITE_GOLDEN").is_some() {
        std::fs::write(GOLDEN, &table).unwrap();
    }
    let golden = std::fs::read_to_string(GOLDEN).unwrap();
    let differing = table.lines().zip(golden.lines()).find(|(one, other)| one != other);
    assert!(differing.is_none() && table == golden, "it differs first in {differing:?}");
}

/// Whoever has rights in one namespace has none in others, nor in the cluster, of whatever kind.
#[tokio::test]
async fn rights_end_with_the_namespace() {
    let server = with_people().await;
    for kind in Registry::built_in().kinds().iter().filter(|kind| kind.namespaced) {
        let group = if kind.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", kind.group) };
        for place in ["", "/namespaces/default"] {
            let collection = format!("{group}/{}{place}/{}", kind.version, kind.plural);
            for (verb, method, named, query) in VERBS {
                if place.is_empty() && !["list", "watch"].contains(&verb) {
                    continue;
                }
                let name = if named { "/x" } else { "" };
                let path = format!("{collection}{name}?dryRun=All{query}");
                assert!(!server.lets(IDENTITIES[5], &method, &path).await, "{verb} {path}");
            }
        }
    }
}

/// An answer to somebody.
async fn ask(server: &Server, who: &str, method: Method, path: &str, body: &Value) -> Answer {
    server.send(request((who, Some("people")), &method, path, body)).await
}

#[tokio::test]
async fn people_learn_what_they_may_and_by_what() {
    let server = with_people().await;
    let reviews = "/apis/authorization.k8s.io/v1";
    let may = |verb: &str, resource: &str, namespace: &str| json!({"spec": {"resourceAttributes": {"verb": verb, "resource": resource, "namespace": namespace}}});
    let path = format!("{reviews}/selfsubjectaccessreviews");
    let answer = ask(&server, "viewer", Method::POST, &path, &may("list", "pods", "team")).await.expect(201);
    let reason = "RBAC: allowed by RoleBinding \"viewer/team\" of ClusterRole \"view\" to User \"viewer\"";
    assert_eq!(answer["status"], json!({"allowed": true, "reason": reason}));
    let answer =
        ask(&server, "viewer", Method::POST, &path, &may("list", "secrets", "team")).await.expect(201);
    assert_eq!(answer["status"], json!({"allowed": false}));
    let mut about = may("delete", "pods", "team");
    about["spec"]["user"] = json!("editor");
    let path = format!("{reviews}/subjectaccessreviews");
    let answer = ask(&server, "root", Method::POST, &path, &about).await.expect(201);
    assert_eq!(answer["status"]["allowed"], true);
    let refused = ask(&server, "viewer", Method::POST, &path, &about).await.expect(403);
    assert_eq!(
        refused["message"],
        "subjectaccessreviews.authorization.k8s.io is forbidden: User \"viewer\" cannot create resource \
         \"subjectaccessreviews\" in API group \"authorization.k8s.io\" at the cluster scope"
    );
    let local = format!("{reviews}/namespaces/team/localsubjectaccessreviews");
    let answer = ask(&server, "admin", Method::POST, &local, &about).await.expect(201);
    assert_eq!(answer["status"]["allowed"], true);
    let path = format!("{reviews}/selfsubjectrulesreviews");
    let answer = ask(&server, "viewer", Method::POST, &path, &json!({"spec": {"namespace": "team"}}))
        .await
        .expect(201);
    let lists = |answer: &Value, resource: &str| {
        let rules = answer["status"]["resourceRules"].as_array().unwrap();
        rules.iter().any(|rule| rule["resources"].as_array().unwrap().contains(&json!(resource)))
    };
    assert!(lists(&answer, "pods/log") && !lists(&answer, "secrets"), "{answer}");
    assert_eq!(answer["status"]["incomplete"], false);
    let answer = ask(&server, "viewer", Method::POST, &path, &json!({"spec": {"namespace": "default"}}))
        .await
        .expect(201);
    assert!(!lists(&answer, "pods") && lists(&answer, "selfsubjectreviews"), "{answer}");
}

#[tokio::test]
async fn who_administers_a_namespace_gives_no_more_than_he_has() {
    let server = with_people().await;
    let roles = format!("{RBAC}/namespaces/team/roles");
    let role = |verbs: &[&str], resource: &str| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "robot"},
            "rules": [{"verbs": verbs, "apiGroups": [""], "resources": [resource]}]})
    };
    let refused =
        ask(&server, "admin", Method::POST, &roles, &role(&["get", "create"], "resourcequotas")).await;
    assert_eq!(
        refused.expect(403)["message"],
        "roles.rbac.authorization.k8s.io \"robot\" is forbidden: user \"admin\" (groups=[\"people\" \
         \"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n\
         {APIGroups:[\"\"], Resources:[\"resourcequotas\"], Verbs:[\"create\"]}"
    );
    ask(&server, "admin", Method::POST, &roles, &role(&["get", "create"], "pods")).await.expect(201);
    let bindings = format!("{RBAC}/namespaces/team/rolebindings");
    let refused = binding("RoleBinding", "more", ("ClusterRole", "cluster-admin"), "eve");
    ask(&server, "admin", Method::POST, &bindings, &refused).await.expect(403);
    let given = binding("RoleBinding", "eve", ("Role", "robot"), "eve");
    ask(&server, "admin", Method::POST, &bindings, &given).await.expect(201);
    let pods = "/api/v1/namespaces/team/pods";
    ask(&server, "eve", Method::POST, pods, &pod("made")).await.expect(201);
    ask(&server, "eve", Method::GET, pods, &Value::Null).await.expect(403);
    // What is taken away is gone with the answer.
    ask(&server, "admin", Method::DELETE, &format!("{bindings}/eve"), &Value::Null).await.expect(200);
    ask(&server, "eve", Method::GET, &format!("{pods}/made"), &Value::Null).await.expect(403);
    let other = json!([{"op": "replace", "path": "/roleRef/name", "value": "edit"}]);
    let patched = server.patch(&format!("{bindings}/viewer"), "json-patch+json", &other).await.expect(422);
    assert!(patched["message"].as_str().unwrap().ends_with("cannot change roleRef"), "{patched}");
}
