//! Roles and bindings: their rules, their defaults and what is printed of them.

use serde_json::{Value, json};
use warren_objects::{defaults, kinds, table, validate};

fn faults(resource: &str, mut object: Value) -> Vec<String> {
    let kind = kinds::of(resource).unwrap();
    object["metadata"] =
        json!({"name": "system:any", "namespace": if kind.namespaced { "shop" } else { "" }});
    defaults::apply(kind, &mut object);
    validate::create(kind, &object).iter().map(ToString::to_string).collect()
}

const ROLES: &str = "roles.rbac.authorization.k8s.io";
const CLUSTER_ROLES: &str = "clusterroles.rbac.authorization.k8s.io";
const BINDINGS: &str = "rolebindings.rbac.authorization.k8s.io";
const CLUSTER_BINDINGS: &str = "clusterrolebindings.rbac.authorization.k8s.io";

#[test]
fn rules_say_what_of_what() {
    let empty = json!({"rules": [{}]});
    let wanted = [
        "rules[0].verbs: Required value: verbs must contain at least one value",
        "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
        "rules[0].resources: Required value: resource rules must supply at least one resource",
    ];
    assert_eq!(faults(ROLES, empty.clone()), wanted);
    assert_eq!(faults(CLUSTER_ROLES, empty), wanted);
    let urls = json!({"rules": [{"verbs": ["get"], "nonResourceURLs": ["/metrics"]}]});
    assert_eq!(
        faults(ROLES, urls.clone()),
        [
            "rules[0].nonResourceURLs: Invalid value: [\"/metrics\"]: namespaced rules cannot apply to non-resource URLs"
        ]
    );
    assert_eq!(faults(CLUSTER_ROLES, urls), [""; 0]);
    let both = json!({"rules": [{"verbs": ["get"], "nonResourceURLs": ["/"], "apiGroups": [""], "resources": ["pods"]}]});
    assert_eq!(
        faults(CLUSTER_ROLES, both),
        [
            "rules[0].nonResourceURLs: Invalid value: [\"/\"]: rules cannot apply to both regular resources and \
             non-resource URLs"
        ]
    );
    assert_eq!(
        faults(CLUSTER_ROLES, json!({"aggregationRule": {"clusterRoleSelectors": []}})),
        [
            "aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if \
             aggregationRule is non-nil"
        ]
    );
}

#[test]
fn bindings_name_a_role_and_subjects() {
    let group = "rbac.authorization.k8s.io";
    let role = json!({"kind": "Role", "name": "reader"});
    let subjects =
        json!([{"kind": "User", "name": "system:jane"}, {"kind": "ServiceAccount", "name": "robot"}]);
    assert_eq!(faults(BINDINGS, json!({"roleRef": role, "subjects": subjects})), [""; 0]);
    assert_eq!(
        faults(CLUSTER_BINDINGS, json!({"roleRef": role, "subjects": subjects})),
        [
            "roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\"",
            "subjects[1].namespace: Required value"
        ]
    );
    let wrong = json!({"roleRef": {"kind": "Role", "name": "a/b", "apiGroup": "x"}, "subjects": [
        {"kind": "Group", "apiGroup": "x", "name": "g"}, {"kind": "Robot", "name": ""},
        {"kind": "ServiceAccount", "apiGroup": group, "name": "Robot"}]});
    let found = faults(BINDINGS, wrong);
    assert_eq!(
        found[..6],
        [
            "roleRef.apiGroup: Unsupported value: \"x\": supported values: \"rbac.authorization.k8s.io\"",
            "roleRef.name: Invalid value: \"a/b\": may not contain '/'",
            "subjects[0].apiGroup: Unsupported value: \"x\": supported values: \"rbac.authorization.k8s.io\"",
            "subjects[1].name: Required value",
            "subjects[1].kind: Unsupported value: \"Robot\": supported values: \"ServiceAccount\", \"User\", \"Group\"",
            &found[5],
        ]
    );
    assert!(
        found[5].starts_with("subjects[2].name: Invalid value: \"Robot\": a lowercase RFC 1123 subdomain")
    );
    assert_eq!(
        found[6..],
        ["subjects[2].apiGroup: Unsupported value: \"rbac.authorization.k8s.io\": supported values: \"\""]
    );
}

#[test]
fn groups_are_filled_in_and_the_role_stays() {
    let kind = kinds::of(BINDINGS).unwrap();
    let mut binding = json!({"metadata": {"name": "b", "namespace": "shop"}, "roleRef": {"kind": "Role", "name": "r"},
        "subjects": [{"kind": "User", "name": "u"}, {"kind": "Group", "name": "g"},
            {"kind": "ServiceAccount", "name": "s", "namespace": "n"}]});
    defaults::apply(kind, &mut binding);
    let groups: Vec<&Value> =
        binding["subjects"].as_array().unwrap().iter().map(|one| &one["apiGroup"]).collect();
    let group = json!("rbac.authorization.k8s.io");
    assert_eq!(groups, [&group, &group, &Value::Null]);
    assert_eq!(binding["roleRef"]["apiGroup"], group);
    let mut other = binding.clone();
    other["roleRef"]["name"] = json!("other");
    let faults = validate::update(kind, &binding, &other);
    assert_eq!(
        faults[0].to_string(),
        "roleRef: Invalid value: {\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":\"Role\",\"name\":\"other\"}: \
         cannot change roleRef"
    );
    let cells = table::row(kind, &binding, "2026-11-22T12:00:00Z".parse().unwrap());
    assert_eq!([&cells[1], &cells[3], &cells[4], &cells[5]], ["Role/r", "u", "g", "n/s"]);
}
