//! Rights through the gate.

use serde_json::json;
use warren_objects::kinds::of;
use warren_state::{Key, Object, Transaction};
use warren_vocabulary::ClusterConfig;

use super::*;
use crate::{Author, Effect, Gate, Intent, Operation, Scope};

fn rule(verbs: &[&str], groups: &[&str], resources: &[&str]) -> Value {
    json!({"verbs": verbs, "apiGroups": groups, "resources": resources})
}

fn object(resource: &str, namespace: &str, name: &str, more: Value) -> Object {
    let kind = of(resource).unwrap();
    let mut value = json!({"apiVersion": kind.api_version(), "kind": kind.kind,
        "metadata": {"name": name, "namespace": namespace, "uid": name}});
    value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Object::new(Key::new(resource, namespace, name), 3, value)
}

fn binding(kind: &str, role: &str, user: &str) -> Value {
    let group = "rbac.authorization.k8s.io";
    json!({"roleRef": {"apiGroup": group, "kind": kind, "name": role},
        "subjects": [{"kind": "User", "apiGroup": group, "name": user}]})
}

/// `jane` reads pods in the namespace; `olga` may escalate and bind some; `root` may do all.
fn state() -> Snapshot {
    let rbac = &["rbac.authorization.k8s.io"];
    let mut bind = rule(&["bind"], rbac, &["clusterroles"]);
    bind["resourceNames"] = json!(["admin"]);
    let namespace = json!({"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}});
    Snapshot::from_objects(
        9,
        [
            object("namespaces", "", "d", namespace),
            object(ROLES, "d", "reader", json!({"rules": [rule(&["get", "list"], &[""], &["pods"])]})),
            object(ROLES, "d", "strong", json!({"rules": [rule(&["escalate"], rbac, &["roles"]), bind]})),
            object(
                CLUSTERROLES,
                "",
                "all",
                json!({"rules": [rule(&["*"], &["*"], &["*"]),
                {"verbs": ["*"], "nonResourceURLs": ["*"]}]}),
            ),
            object(CLUSTERROLES, "", "admin", json!({"rules": [rule(&["*"], &[""], &["secrets"])]})),
            object(ROLEBINDINGS, "d", "jane", binding("Role", "reader", "jane")),
            object(ROLEBINDINGS, "d", "olga", binding("Role", "strong", "olga")),
            object(CLUSTERROLEBINDINGS, "", "root", binding("ClusterRole", "all", "root")),
        ],
    )
}

fn user(name: &str) -> User {
    let group = if name == "master" { "system:masters" } else { "people" };
    User { name: name.to_owned(), groups: vec![group.to_owned()], ..User::default() }
}

fn makes(name: &str, object: &Object) -> Result<(), String> {
    let user = user(name);
    let author = Author { actor: Actor::Client(&user), manager: "kubectl" };
    let kind = of(&object.key.resource).unwrap();
    let operation = Operation::Create { object: object.value.clone() };
    let intent = Intent { author, kind, key: &object.key, operation };
    let admitted = Gate::new(&ClusterConfig::default()).admit(&state(), intent);
    admitted.map(drop).map_err(|refusal| format!("{} {}", refusal.code, refusal.message))
}

fn changes(name: &str, key: &Key, change: impl FnOnce(&mut Value)) -> Result<Effect, String> {
    let (state, user) = (state(), user(name));
    let author = Author { actor: Actor::Client(&user), manager: "kubectl" };
    let old = state.get(key).unwrap();
    let mut object = old.value.clone();
    change(&mut object);
    let operation = Operation::Update { old, object, scope: Scope::Main };
    let intent = Intent { author, kind: of(&key.resource).unwrap(), key, operation };
    let admitted = Gate::new(&ClusterConfig::default()).admit(&state, intent);
    admitted.map(|admitted| admitted.effect).map_err(|refusal| refusal.message)
}

#[test]
fn a_role_has_no_more_than_its_maker() {
    let role = |verbs| object(ROLES, "d", "new", json!({"rules": [rule(verbs, &[""], &["pods"])]}));
    assert_eq!(makes("jane", &role(&["get"])), Ok(()));
    assert_eq!(
        makes("jane", &role(&["get", "delete"])).unwrap_err(),
        "403 roles.rbac.authorization.k8s.io \"new\" is forbidden: user \"jane\" (groups=[\"people\"]) is attempting to \
         grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\"]}"
    );
    for stronger in ["olga", "root", "master"] {
        assert_eq!(makes(stronger, &role(&["*"])), Ok(()), "{stronger}");
    }
    let everywhere = object(CLUSTERROLES, "", "new", json!({"rules": [rule(&["get"], &[""], &["pods"])]}));
    assert!(makes("jane", &everywhere).is_err() && makes("olga", &everywhere).is_err());
    let gathers = object(
        CLUSTERROLES,
        "",
        "new",
        json!({"rules": [], "aggregationRule": {
        "clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}}),
    );
    assert_eq!(
        makes("jane", &gathers).unwrap_err(),
        "403 clusterroles.rbac.authorization.k8s.io \"new\" is forbidden: must have cluster-admin privileges to use \
         the aggregationRule"
    );
    assert_eq!(makes("root", &gathers), Ok(()));
}

#[test]
fn a_change_is_judged_as_a_new_role_but_housekeeping_is_not() {
    let key = Key::new(ROLES, "d", "strong");
    let more = |role: &mut Value| role["metadata"]["labels"] = json!({"a": "b"});
    assert!(changes("jane", &key, more).unwrap_err().contains("not currently held"));
    assert!(changes("olga", &key, more).is_ok());
    let finalizer = |role: &mut Value| role["metadata"]["finalizers"] = json!(["example.com/x"]);
    assert!(changes("jane", &key, finalizer).is_ok());
}

#[test]
fn a_binding_gives_no_more_than_its_maker_has() {
    let gives = |kind, role| object(ROLEBINDINGS, "d", "new", binding(kind, role, "eve"));
    assert_eq!(makes("jane", &gives("Role", "reader")), Ok(()));
    assert!(makes("jane", &gives("ClusterRole", "admin")).unwrap_err().contains("rolebindings.rbac"));
    assert_eq!(makes("olga", &gives("ClusterRole", "admin")), Ok(()), "may bind it");
    assert!(makes("olga", &gives("ClusterRole", "all")).is_err());
    assert_eq!(
        makes("jane", &gives("Role", "lost")).unwrap_err(),
        "404 roles.rbac.authorization.k8s.io \"lost\" not found"
    );
    assert_eq!(makes("master", &gives("Role", "lost")), Ok(()));
    let everywhere = object(CLUSTERROLEBINDINGS, "", "new", binding("ClusterRole", "admin", "eve"));
    assert!(makes("olga", &everywhere).is_err(), "only in the namespace");
    assert_eq!(makes("root", &everywhere), Ok(()));
}

#[test]
fn planners_pass() {
    let role = object(CLUSTERROLES, "", "new", json!({"rules": [rule(&["*"], &["*"], &["*"])]}));
    let transaction = Transaction::new().create(role.key.clone(), (*role.value).clone());
    let gate = Gate::new(&ClusterConfig::default());
    assert!(gate.admit_all(&state(), Author::controller("roles"), transaction).is_ok());
}
