//! Cluster roles that gather others have the rules of these.

use serde_json::{Value, json};
use warren_state::Key;
use warren_vocabulary::resources::CLUSTERROLES;

use crate::model::Model;

fn role(model: &mut Model, name: &str, labels: Value, verb: &str, gathers: Option<&str>) -> Key {
    let mut role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": name, "labels": labels}, "rules": []});
    match gathers {
        Some(label) => {
            role["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]});
        }
        None => role["rules"] = json!([{"verbs": [verb], "apiGroups": [""], "resources": ["pods"]}]),
    }
    model.put(CLUSTERROLES, "", role)
}

fn verbs(model: &Model, key: &Key) -> Vec<String> {
    let rules = model.get(key)["rules"].as_array().unwrap();
    rules.iter().map(|rule| rule["verbs"][0].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_is_gathered_follows_its_parts() {
    let mut model = Model::new(1);
    let admin = role(&mut model, "admin", json!({}), "", Some("to-admin"));
    let edit = role(&mut model, "edit", json!({"to-admin": "true"}), "", Some("to-edit"));
    let part = role(&mut model, "part", json!({"to-edit": "true"}), "create", None);
    role(&mut model, "more", json!({"to-admin": "true"}), "bind", None);
    role(&mut model, "other", json!({"to-view": "true"}), "get", None);
    model.settle();
    assert_eq!(verbs(&model, &edit), ["create"]);
    assert_eq!(verbs(&model, &admin), ["create", "bind"], "by the names of its parts");
    model.change(&part, |part| part["rules"][0]["verbs"] = json!(["delete"]));
    model.settle();
    assert_eq!(verbs(&model, &admin), ["delete", "bind"], "through the one between");
    model.change(&admin, |admin| admin["rules"] = json!([{"verbs": ["*"]}]));
    model.settle();
    assert_eq!(verbs(&model, &admin), ["delete", "bind"], "what others write is undone");
    model.change(&part, |part| part["metadata"]["labels"] = json!({}));
    model.settle();
    assert_eq!(verbs(&model, &edit), [""; 0]);
    assert_eq!(verbs(&model, &admin), ["bind"]);
}
