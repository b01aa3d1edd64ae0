//! Who may do what, and that the index that is led on is that which is made afresh.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};
use warren_access::{
    Access, Authorities, Request, Resource, Rule, Who, aggregated, aggregates, grants, selects,
};
use warren_state::{Key, Object, Snapshot};
use warren_vocabulary::resources::{CLUSTERROLEBINDINGS, CLUSTERROLES, ROLEBINDINGS, ROLES};

fn object(resource: &str, namespace: &str, name: &str, value: Value) -> Object {
    Object::new(Key::new(resource, namespace, name), 1, value)
}

fn role(verbs: &[&str], resources: &[&str]) -> Value {
    json!({"rules": [{"verbs": verbs, "apiGroups": [""], "resources": resources}]})
}

fn binding(kind: &str, role: &str, subjects: Value) -> Value {
    json!({"roleRef": {"apiGroup": warren_access::GROUP, "kind": kind, "name": role}, "subjects": subjects})
}

fn cluster() -> Snapshot {
    Snapshot::from_objects(
        7,
        [
            object(CLUSTERROLES, "", "reader", role(&["get", "list"], &["pods"])),
            object(ROLES, "shop", "writer", role(&["create"], &["pods"])),
            object(
                CLUSTERROLEBINDINGS,
                "",
                "all",
                binding("ClusterRole", "reader", json!([{"kind": "Group", "name": "ops"}])),
            ),
            object(
                ROLEBINDINGS,
                "shop",
                "here",
                binding(
                    "Role",
                    "writer",
                    json!([{"kind": "User", "name": "jane"}, {"kind": "ServiceAccount", "name": "robot"}]),
                ),
            ),
            object(
                ROLEBINDINGS,
                "shop",
                "read",
                binding("ClusterRole", "reader", json!([{"kind": "User", "name": "jane"}])),
            ),
            object(
                ROLEBINDINGS,
                "shop",
                "lost",
                binding("Role", "gone", json!([{"kind": "User", "name": "jane"}])),
            ),
        ],
    )
}

fn asks<'a>(verb: &'a str, namespace: &'a str) -> Request<'a> {
    Request::Resource(Resource { verb, resource: "pods", namespace, ..Resource::default() })
}

fn verdict(access: &Access, name: &str, groups: &[&str], request: &Request<'_>) -> Result<String, String> {
    let groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
    let who = Who { name, groups: &groups };
    access.judge(who, request).map(|why| why.to_string()).map_err(|denial| denial.to_string())
}

#[test]
fn bindings_give_rights_where_they_are() {
    let access = Access::of(&cluster());
    assert_eq!(
        verdict(&access, "olga", &["ops"], &asks("list", "")).unwrap(),
        "RBAC: allowed by ClusterRoleBinding \"all\" of ClusterRole \"reader\" to Group \"ops\""
    );
    assert_eq!(verdict(&access, "olga", &[], &asks("list", "")), Err(String::new()));
    assert_eq!(
        verdict(&access, "jane", &[], &asks("get", "shop")).unwrap(),
        "RBAC: allowed by RoleBinding \"read/shop\" of ClusterRole \"reader\" to User \"jane\""
    );
    assert_eq!(
        verdict(&access, "system:serviceaccount:shop:robot", &[], &asks("create", "shop")).unwrap(),
        "RBAC: allowed by RoleBinding \"here/shop\" of Role \"writer\" to ServiceAccount \"robot/shop\""
    );
    assert_eq!(
        verdict(&access, "jane", &[], &asks("delete", "shop")).unwrap_err(),
        "RBAC: role.rbac.authorization.k8s.io \"gone\" not found"
    );
    for elsewhere in ["", "other"] {
        assert!(verdict(&access, "jane", &[], &asks("get", elsewhere)).is_err(), "{elsewhere}");
    }
}

#[test]
fn nobody_grants_what_he_does_not_hold() {
    let access = Access::of(&cluster());
    let groups = vec!["a".to_owned(), "b".to_owned()];
    let who = Who { name: "jane", groups: &groups };
    let wanted = |role: Value| Rule::all_of(&role);
    let may = |namespace, rules: &[Rule]| grants::refusal(&access, who, namespace, rules);
    assert_eq!(may("shop", &wanted(role(&["get", "create"], &["pods"]))), None, "by two roles");
    assert_eq!(
        may("shop", &wanted(role(&["get", "delete", "watch"], &["pods", "secrets"]))).unwrap(),
        "user \"jane\" (groups=[\"a\" \"b\"]) is attempting to grant RBAC permissions not currently held:\n\
         {APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\" \"watch\"]}\n\
         {APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"delete\" \"watch\"]}; \
         resolution errors: [role.rbac.authorization.k8s.io \"gone\" not found]"
    );
    assert!(may("", &wanted(role(&["get"], &["pods"]))).is_some(), "not in the cluster");
    assert!(may("shop", &wanted(role(&["get"], &["*"]))).is_some());
    let named = json!({"rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}]});
    assert_eq!(may("shop", &wanted(named)), None, "some of all");
}

#[test]
fn a_role_of_too_many_combinations_is_refused_at_once() {
    let many: Vec<String> = (0..5_000).map(|number| format!("r{number}")).collect();
    let rule = Rule { verbs: many.clone(), groups: many.clone(), resources: many, ..Rule::default() };
    let access = Access::default();
    let refusal =
        grants::refusal(&access, Who { name: "eve", groups: &[] }, "", std::slice::from_ref(&rule)).unwrap();
    assert!(refusal.contains("make several roles of it"), "{refusal}");
    let all = Rule {
        verbs: vec!["*".into()],
        groups: vec!["*".into()],
        resources: vec!["*".into()],
        ..Rule::default()
    };
    assert_eq!(grants::missing(&[&all], &[rule]), Ok(vec![]), "who may all may grant all");
}

#[test]
fn roles_are_made_of_others() {
    let part = |name: &str, verb: &str, label: &str| json!({"metadata": {"name": name, "labels": {label: "true"}}, "rules": [{"verbs": [verb]}]});
    let whole = json!({"metadata": {"name": "whole", "labels": {"a": "true"}}, "rules": [{"verbs": ["old"]}],
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "true"}},
            {"matchExpressions": [{"key": "b", "operator": "In", "values": ["true", "1"]}]}]}});
    let all = [
        part("one", "get", "b"),
        part("two", "list", "a"),
        part("three", "get", "a"),
        part("x", "x", "c"),
        whole.clone(),
    ];
    assert_eq!(aggregated(&whole, all.iter()), [json!({"verbs": ["list"]}), json!({"verbs": ["get"]})]);
    assert!(aggregates(&whole) && !aggregates(&all[0]));
    assert!(selects(&whole, &json!({"b": "1"})) && !selects(&whole, &json!({"b": "2"})));
}

/// One role or binding comes, changes or goes; or something else does.
fn change() -> impl Strategy<Value = (usize, u8, u8, u8)> {
    (0..5_usize, 0..3_u8, 0..3_u8, 0..4_u8)
}

fn put(state: &mut Snapshot, (resource, which, what, how): (usize, u8, u8, u8)) {
    let (resource, namespace) = [
        (CLUSTERROLES, ""),
        (ROLES, "shop"),
        (CLUSTERROLEBINDINGS, ""),
        (ROLEBINDINGS, "shop"),
        ("pods", "shop"),
    ][resource];
    let key = Key::new(resource, namespace, &format!("n{which}"));
    state.revision += 1;
    if how == 0 {
        state.remove(&key);
        return;
    }
    let value = if resource.contains("bindings") {
        let kind = if namespace.is_empty() || how == 1 { "ClusterRole" } else { "Role" };
        let subjects = [
            json!({"kind": "User", "name": "jane"}),
            json!({"kind": "Group", "name": "ops"}),
            json!({"kind": "ServiceAccount", "name": "robot", "namespace": "shop"}),
        ];
        binding(kind, &format!("n{what}"), subjects[..usize::from(how)].into())
    } else {
        role(&[["get", "list", "create"][usize::from(what)]], &["pods"])
    };
    state.insert(Arc::new(Object::new(key, state.revision, value)));
}

proptest! {
    #[test]
    fn led_on_is_as_made_afresh(changes in prop::collection::vec(change(), 1..60)) {
        let authorities = Authorities::default();
        let mut state = Snapshot::from_objects(1, [object("pods", "d", "p", json!({}))]);
        for change in changes {
            put(&mut state, change);
            let (led, fresh) = (authorities.of(&state), Access::of(&state));
            for (name, groups) in [("jane", &[][..]), ("olga", &["ops"]), ("system:serviceaccount:shop:robot", &[])] {
                for request in ["get", "list", "create"].iter().flat_map(|verb| [asks(verb, ""), asks(verb, "shop")]) {
                    prop_assert_eq!(verdict(&led, name, groups, &request), verdict(&fresh, name, groups, &request));
                }
            }
        }
    }
}

#[test]
fn what_was_taken_away_does_not_come_back_with_an_older_state() {
    let authorities = Authorities::default();
    let old = cluster();
    let mut new = old.clone();
    new.remove(&Key::new(CLUSTERROLEBINDINGS, "", "all"));
    new.revision += 1;
    assert!(verdict(&authorities.of(&old), "olga", &["ops"], &asks("get", "")).is_ok());
    assert!(verdict(&authorities.of(&new), "olga", &["ops"], &asks("get", "")).is_err());
    assert!(verdict(&authorities.of(&old), "olga", &["ops"], &asks("get", "")).is_err());
}
