//! An Ingress says where it is reached.

use serde_json::{Value, json};
use warren_plan::{
    member::{Member, MemberRole},
    resources::*,
};
use warren_store::Key;

use crate::model::Model;

fn gateway(model: &mut Model, name: &str, endpoint: Option<&str>) {
    let member = Member {
        name: name.to_owned(),
        role: MemberRole::Gateway,
        pod_cidr: "10.42.200.0/24".parse().unwrap(),
        public_key: None,
        endpoint: endpoint.map(str::to_owned),
        backend: None,
        mtu: None,
        machine: None,
    };
    model.write(Member::key(name), member.to_value());
}

fn ingress(model: &mut Model, name: &str, class: Value, annotations: Value) -> Key {
    model.put(
        INGRESSES,
        "default",
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {"name": name, "annotations": annotations},
            "spec": {"ingressClassName": class, "defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}},
            "status": {"loadBalancer": {}},
        }),
    )
}

fn addresses(model: &Model, key: &Key) -> Value {
    model.get(key)["status"]["loadBalancer"]["ingress"].clone()
}

#[test]
fn the_gateways_addresses_are_published_and_follow_them() {
    let mut model = Model::new(1);
    let key = ingress(&mut model, "web", Value::Null, json!({}));
    gateway(&mut model, "gateway-1", None);
    model.settle();
    assert_eq!(addresses(&model, &key), Value::Null, "the gateway has not said where it is");

    gateway(&mut model, "gateway-1", Some("192.0.2.9:51820"));
    gateway(&mut model, "gateway-2", Some("192.0.2.8:51820"));
    gateway(&mut model, "gateway-3", Some("192.0.2.8:51821"));
    model.settle();
    assert_eq!(addresses(&model, &key), json!([{"ip": "192.0.2.8"}, {"ip": "192.0.2.9"}]));
    assert_eq!(model.get(&key)["metadata"]["generation"], 1, "a status is no new wish");
    assert!(!model.pass(), "stable");

    for name in ["gateway-1", "gateway-2", "gateway-3"] {
        model.remove(&Member::key(name));
    }
    model.settle();
    assert_eq!(addresses(&model, &key), Value::Null);
}

#[test]
fn only_our_classes_are_touched() {
    let mut model = Model::new(1);
    gateway(&mut model, "gateway", Some("192.0.2.9:51820"));
    let annotation = |class: &str| json!({"kubernetes.io/ingress.class": class});
    let cases = [
        ("none", Value::Null, json!({}), true),
        ("empty", json!(""), json!({}), true),
        ("ours", json!("warren"), json!({}), true),
        ("other", json!("nginx"), json!({}), false),
        ("annotated", Value::Null, annotation("warren"), true),
        ("annotated-other", Value::Null, annotation("nginx"), false),
        ("field-wins", json!("warren"), annotation("nginx"), true),
    ];
    let keys =
        cases.map(|(name, class, annotations, ours)| (ingress(&mut model, name, class, annotations), ours));
    model.settle();
    for (key, ours) in keys {
        let expected = if ours { json!([{"ip": "192.0.2.9"}]) } else { Value::Null };
        assert_eq!(addresses(&model, &key), expected, "{key}");
    }
}
