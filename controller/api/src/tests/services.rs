//! Service addresses: unique, kept, released.

use std::collections::BTreeSet;

use warren_store::Store;
use warren_vocabulary::resources::SERVICEADDRESSES;

use super::*;

fn reservations(server: &Server) -> BTreeSet<String> {
    server.store.snapshot().list(SERVICEADDRESSES).map(|object| object.key.name.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_creations_get_different_addresses() {
    let server = Arc::new(Server::new().await);
    let tasks: Vec<_> = (0..24)
        .map(|index| {
            let server = Arc::clone(&server);
            tokio::spawn(async move {
                let created = server.post(SERVICES, &service(&format!("s{index}"))).await.expect(201);
                created["spec"]["clusterIP"].as_str().unwrap().to_owned()
            })
        })
        .collect();
    let mut addresses = BTreeSet::new();
    for task in tasks {
        assert!(addresses.insert(task.await.unwrap()), "an address was given twice");
    }
    assert_eq!(reservations(&server), addresses);
    assert!(!addresses.contains("10.43.0.1") && !addresses.contains("10.43.0.10"));
    for index in 0..24 {
        server.delete(&format!("{SERVICES}/s{index}"), &json!({})).await.expect(200);
    }
    assert!(reservations(&server).is_empty());
}

#[tokio::test]
async fn addresses_stay_and_are_exclusive() {
    let server = Server::new().await;
    let mut chosen = service("a");
    chosen["spec"]["clusterIP"] = json!("10.43.7.7");
    let created = server.post(SERVICES, &chosen).await.expect(201);
    assert_eq!(created["spec"]["clusterIPs"], json!(["10.43.7.7"]));
    chosen["metadata"]["name"] = json!("b");
    let taken = server.post(SERVICES, &chosen).await.expect(422);
    assert!(taken["message"].as_str().unwrap().contains("provided IP is already allocated"), "{taken}");
    chosen["spec"]["clusterIP"] = json!("192.168.0.1");
    server.post(SERVICES, &chosen).await.expect(422);
    let replaced = server.put(&format!("{SERVICES}/a"), &service("a")).await.expect(200);
    assert_eq!(replaced["spec"]["clusterIP"], "10.43.7.7", "PUT without the address keeps it");
    let moved = json!({"spec": {"clusterIP": "10.43.7.8"}});
    server.patch(&format!("{SERVICES}/a"), "merge-patch+json", &moved).await.expect(422);
    assert_eq!(reservations(&server), BTreeSet::from(["10.43.7.7".to_owned()]));
}

#[tokio::test]
async fn becoming_external_releases_and_back_allocates() {
    let server = Server::new().await;
    server.post(SERVICES, &service("a")).await.expect(201);
    let mut external = service("a");
    external["spec"] =
        json!({"type": "ExternalName", "externalName": "example.com", "ports": [{"port": 80}]});
    let changed = server.put(&format!("{SERVICES}/a"), &external).await.expect(200);
    assert!(changed["spec"].get("clusterIP").is_none(), "{changed}");
    assert!(reservations(&server).is_empty());
    let back = server.put(&format!("{SERVICES}/a"), &service("a")).await.expect(200);
    assert_eq!(
        reservations(&server),
        BTreeSet::from([back["spec"]["clusterIP"].as_str().unwrap().to_owned()])
    );
    let mut headless = service("h");
    headless["spec"]["clusterIP"] = json!("None");
    assert_eq!(server.post(SERVICES, &headless).await.expect(201)["spec"]["clusterIPs"], json!(["None"]));
}

const INGRESSES: &str = "/apis/networking.k8s.io/v1/namespaces/default/ingresses";
const CLASSES: &str = "/apis/networking.k8s.io/v1/ingressclasses";

fn ingress(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}}})
}

fn class(name: &str, is_default: &str) -> Value {
    json!({"metadata": {"name": name, "annotations": {"ingressclass.kubernetes.io/is-default-class": is_default}},
        "spec": {"controller": "example.com/controller"}})
}

#[tokio::test]
async fn an_ingress_without_a_class_gets_the_default_one() {
    let server = Server::new().await;
    let made = async |body: Value| server.post(INGRESSES, &body).await;
    let plain = made(ingress("before")).await.expect(201);
    assert!(plain["spec"].get("ingressClassName").is_none(), "there is no default: {plain}");
    server.post(CLASSES, &class("warren", "true")).await.expect(201);
    server.post(CLASSES, &class("other", "false")).await.expect(201);
    assert_eq!(made(ingress("web")).await.expect(201)["spec"]["ingressClassName"], "warren");
    let mut named = ingress("named");
    named["spec"]["ingressClassName"] = json!("other");
    assert_eq!(made(named).await.expect(201)["spec"]["ingressClassName"], "other");
    let mut old = ingress("old");
    old["metadata"]["annotations"] = json!({"kubernetes.io/ingress.class": "nginx"});
    assert!(made(old).await.expect(201)["spec"].get("ingressClassName").is_none());
    // Only what is new: what is stored without a class stays so.
    let labelled = json!({"metadata": {"labels": {"a": "b"}}});
    let patched =
        server.patch(&format!("{INGRESSES}/before"), "merge-patch+json", &labelled).await.expect(200);
    assert!(patched["spec"].get("ingressClassName").is_none());
    server.post(CLASSES, &class("third", "true")).await.expect(201);
    let refused = made(ingress("torn")).await.expect(403);
    assert_eq!(
        refused["message"],
        "ingresses.networking.k8s.io \"torn\" is forbidden: 2 default IngressClasses were found (third, warren), only 1 \
         is allowed: name one in spec.ingressClassName"
    );
}

/// Go's clients do not say when, and the time that nobody set is what they read.
#[tokio::test]
async fn a_condition_without_a_time_is_taken() {
    let server = Server::new().await;
    server.post(SERVICES, &service("web")).await.expect(201);
    let condition = json!({
        "type": "Ready", "status": "True", "reason": "Test", "message": "", "lastTransitionTime": null,
    });
    let patch = json!({"status": {"conditions": [condition]}});
    let path = format!("{SERVICES}/web/status");
    let service = server.patch(&path, "merge-patch+json", &patch).await.expect(200);
    assert_eq!(service["status"]["conditions"][0]["lastTransitionTime"], "0001-01-01T00:00:00Z");
    let typed = serde_json::from_value::<k8s_openapi::api::core::v1::Service>(service);
    assert!(typed.is_ok(), "{typed:?}");
}
