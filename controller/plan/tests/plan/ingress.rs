//! An Ingress says where it is reached.

use serde_json::{Value, json};
use warren_state::Key;
use warren_vocabulary::{
    member::{Member, MemberRole},
    resources::*,
};

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
        id: None,
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

fn events(model: &Model, about: &Key) -> Vec<(String, String)> {
    let mut events: Vec<_> = model
        .objects
        .iter()
        .filter(|(key, (_, value))| {
            &*key.resource == EVENTS && value["involvedObject"]["name"] == *about.name
        })
        .map(|(_, (_, value))| {
            assert_eq!(value["count"], 1, "told once");
            (value["reason"].as_str().unwrap().to_owned(), value["message"].as_str().unwrap().to_owned())
        })
        .collect();
    events.sort_unstable();
    events
}

fn made(
    model: &mut Model,
    namespace: &str,
    name: &str,
    created: &str,
    annotations: Value,
    spec: Value,
) -> Key {
    let key = model.put(
        INGRESSES,
        namespace,
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {"name": name, "annotations": annotations}, "spec": spec, "status": {},
        }),
    );
    let mut value = model.get(&key).clone();
    value["metadata"]["creationTimestamp"] = created.into();
    model.write(key.clone(), value);
    key
}

fn host(host: &str, path: &str) -> Value {
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    json!({"host": host, "http": {"paths": [{"path": path, "pathType": "Prefix", "backend": backend}]}})
}

#[test]
fn who_comes_later_is_told_that_the_place_is_taken() {
    let mut model = Model::new(1);
    model.namespace("attack");
    let taken = json!({
        "rules": [host("Shop.test", "/cart/"), host("free.test", "/")],
        "tls": [{"hosts": ["shop.test"], "secretName": "mine"}],
    });
    // Its namespace and name come first, and it is younger.
    let thief = made(&mut model, "attack", "a", "2026-02-02T00:00:00Z", json!({}), taken);
    let spec = json!({"rules": [host("shop.test", "/cart")], "tls": [{"hosts": ["shop.test"], "secretName": "web"}]});
    let owner = made(&mut model, "default", "shop", "2026-01-01T00:00:00Z", json!({}), spec);
    model.settle();
    let told = events(&model, &thief);
    let reasons: Vec<_> = told.iter().map(|(reason, _)| reason.as_str()).collect();
    assert_eq!(reasons, ["CertificateConflict", "CertificateUnusable", "RouteConflict"]);
    assert_eq!(
        told[2].1,
        "shop.test, path /cart is already routed by Ingress default/shop, which is older: the rule is not in force"
    );
    assert_eq!(events(&model, &owner).len(), 1, "its Secret does not exist: {:?}", events(&model, &owner));
    assert!(!model.pass(), "stable");
}

#[test]
fn what_is_not_served_is_said_on_the_ingress() {
    let mut model = Model::new(1);
    let annotations = json!({
        "nginx.ingress.kubernetes.io/proxy-read-timeout": "soon",
        "nginx.ingress.kubernetes.io/auth-type": "basic",
        "nginx.ingress.kubernetes.io/auth-secret": "nobody",
    });
    let odd = made(
        &mut model,
        "default",
        "odd",
        "2026-01-01T00:00:00Z",
        annotations,
        json!({"rules": [host("a.test", "/")]}),
    );
    let other = json!({"ingressClassName": "nginx", "rules": [host("a.test", "/")]});
    let other = made(&mut model, "default", "other", "2026-01-01T00:00:00Z", json!({}), other);
    model.put(
        SECRETS,
        "default",
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "half"}, "data": {"tls.crt": "eA=="}}),
    );
    let tls = json!({"rules": [host("b.test", "/")], "tls": [{"secretName": "half"}]});
    let tls = made(&mut model, "default", "tls", "2026-01-01T00:00:00Z", json!({}), tls);
    model.settle();
    let reasons = |key: &Key| events(&model, key).into_iter().map(|(reason, _)| reason).collect::<Vec<_>>();
    assert_eq!(reasons(&odd), ["AnnotationIgnored", "AuthenticationUnusable"]);
    assert_eq!(reasons(&other), ["ClassNotServed"]);
    assert_eq!(reasons(&tls), ["CertificateUnusable"]);
    assert!(events(&model, &tls)[0].1.contains("has no key \"tls.key\""), "{:?}", events(&model, &tls));
}

fn class(model: &mut Model, name: &str, controller: &str) {
    let value = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": name, "uid": name},
        "spec": {"controller": controller},
    });
    model.write(Key::new(INGRESSCLASSES, "", name), value);
}

#[test]
fn the_controller_of_a_class_decides_whose_it_is() {
    let mut model = Model::new(1);
    gateway(&mut model, "gateway-1", Some("192.0.2.9:51820"));
    class(&mut model, "own", "warren.dev/gateway");
    class(&mut model, "nginx", "k8s.io/ingress-nginx");
    class(&mut model, "warren", "example.com/somebody-elses");
    let annotation = json!({"kubernetes.io/ingress.class": "own"});
    let ours = [
        ingress(&mut model, "own", json!("own"), json!({})),
        ingress(&mut model, "old", Value::Null, annotation),
        ingress(&mut model, "none", Value::Null, json!({})),
    ];
    let others =
        ["nginx", "warren", "missing"].map(|class| ingress(&mut model, class, json!(class), json!({})));
    model.settle();
    for key in &ours {
        assert_eq!(addresses(&model, key), json!([{"ip": "192.0.2.9"}]), "{key}");
    }
    for key in &others {
        assert_eq!(addresses(&model, key), Value::Null, "{key}");
    }
}

#[test]
fn an_ingress_of_another_class_is_told_once() {
    let mut model = Model::new(1);
    class(&mut model, "nginx", "k8s.io/ingress-nginx");
    ingress(&mut model, "web", json!("nginx"), json!({}));
    let lost = ingress(&mut model, "lost", json!("traefik"), json!({}));
    let told = |model: &Model, name: &str| -> Vec<Value> {
        let world = model.world();
        let events = world.snapshot.list(EVENTS).map(|event| event.value.clone());
        events.filter(|event| event["involvedObject"]["name"] == name).collect()
    };
    model.settle();
    assert!(!model.pass(), "stable: nothing is told again");
    let events = told(&model, "web");
    assert_eq!((events.len(), &events[0]["reason"]), (1, &json!("ClassNotServed")));
    assert_eq!((&events[0]["type"], &events[0]["count"]), (&json!("Normal"), &json!(1)));
    let message = events[0]["message"].as_str().unwrap();
    assert!(message.contains("\"nginx\"") && message.contains("k8s.io/ingress-nginx"), "{message}");
    let events = told(&model, "lost");
    assert_eq!((events.len(), &events[0]["type"]), (1, &json!("Warning")));
    assert!(events[0]["message"].as_str().unwrap().contains("there is no such class"));
    // A new status is not news.
    let mut value = model.get(&lost).clone();
    value["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}});
    model.write(lost, value);
    model.settle();
    assert_eq!(told(&model, "lost")[0]["count"], 1);
}
