//! Endpoints: made of slices, and mirrored to slices.

use serde_json::{Value, json};
use warren_state::Key;
use warren_vocabulary::resources::*;

use crate::model::Model;

fn key(name: &str) -> Key {
    Key::new(ENDPOINTS, "default", name)
}

/// A service without a selector.
fn by_hand(model: &mut Model, name: &str) -> Key {
    let service = model.service(name, "x");
    model.change(&service, |value| drop(value["spec"].as_object_mut().unwrap().remove("selector")));
    service
}

fn written(name: &str, labels: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": name, "labels": labels},
        "subsets": [{
            "addresses": [{"ip": "10.1.2.3", "hostname": "a"}, {"ip": "fd00::3"}],
            "notReadyAddresses": [{"ip": "10.1.2.4"}],
            "ports": [{"port": 80, "protocol": "TCP"}],
        }],
    })
}

fn mirrors(model: &Model) -> Vec<&Value> {
    let signed = |value: &&Value| {
        value["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"]
            == "endpointslicemirroring-controller.k8s.io"
    };
    model.list(ENDPOINTSLICES).map(|(_, value)| value).filter(signed).collect()
}

#[test]
fn a_service_with_pods_has_endpoints_that_follow_them() {
    let mut model = Model::new(2);
    let deployment = model.deployment("web", 2, json!({}));
    let service = model.service("web", "web");
    model.settle();
    let made = model.get(&key("web"));
    assert!(serde_json::from_value::<k8s_openapi::api::core::v1::Endpoints>(made.clone()).is_ok());
    assert_eq!(made["metadata"]["labels"]["endpoints.kubernetes.io/managed-by"], "endpoint-controller");
    let subset = &made["subsets"][0];
    assert_eq!(subset["ports"], json!([{"name": "web", "port": 8080, "protocol": "TCP"}]));
    assert_eq!(subset["addresses"][0]["ip"], "10.42.1.2");
    assert_eq!(subset["addresses"][0]["targetRef"]["kind"], "Pod");
    assert_eq!(
        (subset["addresses"].as_array().unwrap().len(), made["subsets"].as_array().unwrap().len()),
        (2, 1)
    );
    model.change(&deployment, |value| value["spec"]["replicas"] = 0.into());
    model.settle();
    assert!(model.get(&key("web")).get("subsets").is_none(), "nothing is ready, nothing is listed");
    model.remove(&service);
    model.settle();
    assert!(!model.objects.contains_key(&key("web")), "they go with their service");
}

#[test]
fn what_a_user_writes_into_endpoints_that_are_made_is_put_back() {
    let mut model = Model::new(1);
    model.deployment("web", 1, json!({}));
    model.service("web", "web");
    model.settle();
    let before = model.get(&key("web")).clone();
    model.change(&key("web"), |value| value["subsets"] = json!([]));
    model.settle();
    assert_eq!(model.get(&key("web"))["subsets"], before["subsets"]);
}

#[test]
fn a_thousand_addresses_are_the_most_and_those_that_are_ready_come_first() {
    let mut model = Model::new(1);
    let service = model.service("web", "web");
    model.settle();
    let owner = json!([{"uid": model.get(&service)["metadata"]["uid"], "kind": "Service", "name": "web",
        "apiVersion": "v1", "controller": true}]);
    let slice = |ready: bool, count: usize| {
        let endpoint = |index: usize| {
            json!({
                "addresses": [format!("10.7.{}.{}", index / 250, index % 250)], "conditions": {"ready": ready},
            })
        };
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": format!("web-{ready}"), "ownerReferences": owner,
                "labels": {
                    "kubernetes.io/service-name": "web",
                    "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                },
            },
            "endpoints": (0..count).map(endpoint).collect::<Vec<_>>(),
            "ports": [{"name": "", "port": 80, "protocol": "TCP"}],
        })
    };
    model.put(ENDPOINTSLICES, "default", slice(false, 300));
    model.put(ENDPOINTSLICES, "default", slice(true, 900));
    // One pass: the next removes slices that no pod stands behind.
    model.pass();
    let made = model.get(&key("web"));
    let count = |list: &str| made["subsets"][0][list].as_array().map_or(0, Vec::len);
    assert_eq!((count("addresses"), count("notReadyAddresses")), (900, 100));
    assert_eq!(made["metadata"]["annotations"]["endpoints.kubernetes.io/over-capacity"], "truncated");
    model.settle();
    assert!(
        model.get(&key("web"))["metadata"]["annotations"]["endpoints.kubernetes.io/over-capacity"].is_null()
    );
}

#[test]
fn endpoints_of_a_service_without_a_selector_are_mirrored() {
    let mut model = Model::new(1);
    let service = by_hand(&mut model, "manual");
    let endpoints = model.put(ENDPOINTS, "default", written("manual", &json!({"tier": "x"})));
    model.settle();
    let slices = mirrors(&model);
    assert_eq!(slices.len(), 2, "one for each family of addresses");
    let slice = slices.iter().find(|slice| slice["addressType"] == "IPv4").unwrap();
    assert!(
        serde_json::from_value::<k8s_openapi::api::discovery::v1::EndpointSlice>((*slice).clone()).is_ok()
    );
    assert_eq!(slice["metadata"]["labels"]["kubernetes.io/service-name"], "manual");
    assert_eq!(slice["metadata"]["labels"]["tier"], "x");
    assert_eq!(
        slice["endpoints"],
        json!([
            {"addresses": ["10.1.2.3"], "conditions": {"ready": true}, "hostname": "a"},
            {"addresses": ["10.1.2.4"], "conditions": {"ready": false}},
        ])
    );
    assert_eq!(slice["ports"], json!([{"name": "", "port": 80, "protocol": "TCP"}]));
    let name = slice["metadata"]["name"].clone();

    model.change(&endpoints, |value| value["subsets"][0]["addresses"] = json!([{"ip": "10.2.3.4"}]));
    model.settle();
    let [slice] = mirrors(&model)[..] else { panic!("{:?}", mirrors(&model)) };
    assert_eq!((&slice["metadata"]["name"], &slice["metadata"]["generation"]), (&name, &json!(2)));
    assert_eq!(slice["endpoints"][0]["addresses"], json!(["10.2.3.4"]));

    let skip = "endpointslice.kubernetes.io/skip-mirror";
    model.change(&endpoints, |value| value["metadata"]["labels"][skip] = "true".into());
    model.settle();
    assert!(mirrors(&model).is_empty());
    model.change(&endpoints, |value| value["metadata"]["labels"] = json!({}));
    model.settle();
    assert_eq!(mirrors(&model).len(), 1);
    model.change(&service, |value| value["spec"]["selector"] = json!({"app": "web"}));
    model.settle();
    assert!(mirrors(&model).is_empty(), "the service selects now: its slices are made of pods");
}

#[test]
fn mirrors_go_with_endpoints_and_endpoints_of_no_service_stay() {
    let mut model = Model::new(1);
    by_hand(&mut model, "manual");
    let endpoints = model.put(ENDPOINTS, "default", written("manual", &json!({})));
    let alone = model.put(ENDPOINTS, "default", written("alone", &json!({})));
    model.settle();
    assert_eq!(mirrors(&model).len(), 2);
    model.remove(&endpoints);
    model.settle();
    assert!(mirrors(&model).is_empty() && model.objects.contains_key(&alone));
}
