//! Services, peers and routes.

use warren_proto::control::{HttpRoute, Service};

use super::*;

fn compiled_service(compiled: &Compiled, name: &str) -> Service {
    match compiled.network.get(&format!("service/shop/{name}")).and_then(|item| item.item.clone()) {
        Some(Item::Service(service)) => service,
        other => panic!("no service: {other:?}"),
    }
}

fn addresses(service: &Service) -> Vec<&str> {
    service.ports[0].endpoints.iter().map(|endpoint| endpoint.address.as_str()).collect()
}

#[test]
fn a_service_leads_to_ready_endpoints_or_to_draining_ones() {
    let table = [
        (
            json!([
                endpoint("10.42.1.3", true, true, false),
                endpoint("10.42.1.2", true, true, false),
                endpoint("10.42.1.4", false, true, true)
            ]),
            vec!["10.42.1.2", "10.42.1.3"],
        ),
        (
            json!([endpoint("10.42.1.4", false, true, true), endpoint("10.42.1.5", false, false, true)]),
            vec!["10.42.1.4"],
        ),
        (json!([endpoint("10.42.1.6", false, true, false)]), vec![]),
        (json!([{"addresses": ["10.42.1.7"]}]), vec!["10.42.1.7"]),
        (json!([]), vec![]),
    ];
    for (endpoints, expected) in table {
        let service = compiled_service(&compile(vec![web(), slice("web", endpoints.clone())]), "web");
        assert_eq!(addresses(&service), expected, "{endpoints}");
        assert_eq!((service.address.as_str(), service.ports[0].port), ("10.43.0.20", 80));
        assert!(service.ports[0].endpoints.iter().all(|endpoint| endpoint.port == 8080));
    }
}

#[test]
fn headless_external_and_unaddressed_services() {
    let objects = vec![
        service("db", json!({"clusterIP": "None", "ports": [{"name": "http", "port": 80}]})),
        slice(
            "db",
            json!([endpoint("10.42.1.2", true, true, false), endpoint("10.42.1.3", false, true, true)]),
        ),
        service("out", json!({"type": "ExternalName", "externalName": "example.com"})),
        service("new", json!({"ports": [{"port": 80}]})),
        service(
            "sticky",
            json!({"clusterIP": "10.43.0.21", "sessionAffinity": "ClientIP", "ports": [{"port": 80}]}),
        ),
    ];
    let compiled = compile(objects);
    let headless = compiled_service(&compiled, "db");
    assert_eq!((headless.address.as_str(), headless.endpoints.len()), ("", 1));
    assert_eq!(
        (headless.endpoints[0].address.as_str(), headless.endpoints[0].hostname.as_str()),
        ("10.42.1.2", "h")
    );
    assert_eq!(compiled_service(&compiled, "out").external_name, "example.com");
    assert!(!compiled.network.contains_key("service/shop/new"));
    assert_eq!(compiled_service(&compiled, "sticky").affinity_seconds, 10_800);
}

#[test]
fn a_member_never_receives_itself_and_a_member_without_key_is_no_peer() {
    let compiled = compile(vec![member("new", "node", 3, None)]);
    let keys = |name: &str| {
        let selection = compiled.select(name, Consumer::Netd).expect("a member");
        let batches = view::snapshot(&selection, compiled.cursor);
        batches.into_iter().flat_map(|batch| batch.upserts).map(|item| item.key).collect::<Vec<_>>()
    };
    assert_eq!(keys("n"), ["network", "peer/gw"]);
    assert_eq!(keys("gw"), ["network", "peer/n"]);
    assert_eq!(keys("new"), ["network", "peer/gw", "peer/n"]);
    assert!(compiled.select("nobody", Consumer::Netd).is_none());
}

fn route(compiled: &Compiled, index: &str) -> HttpRoute {
    match compiled.gateway.get(&format!("route/shop/front/{index}")).and_then(|item| item.item.clone()) {
        Some(Item::HttpRoute(route)) => route,
        other => panic!("no route {index}: {other:?}"),
    }
}

#[test]
fn rules_become_routes_with_endpoints() {
    let backend = |port: Value| json!({"service": {"name": "web", "port": port}});
    let spec = json!({
        "defaultBackend": backend(json!({"number": 80})),
        "rules": [
            {"host": "Shop.Example.com", "http": {"paths": [
                {"path": "/a", "pathType": "Exact", "backend": backend(json!({"number": 80}))},
                {"path": "/b", "pathType": "ImplementationSpecific", "backend": backend(json!({"name": "http"}))},
            ]}},
            {"http": {"paths": [{"pathType": "Prefix", "backend": backend(json!({"number": 81}))}]}},
            {"host": "all.example.com"},
        ],
    });
    let compiled =
        compile(vec![web(), slice("web", json!([endpoint("10.42.1.2", true, true, false)])), ingress(spec)]);
    assert_eq!(compiled.gateway.len(), 5);
    let first = route(&compiled, "0");
    assert_eq!((first.host.as_str(), first.path.as_str(), first.path_type), ("shop.example.com", "/a", 1));
    assert_eq!((first.backend.as_str(), first.ingress.as_str()), ("shop/web:80", "shop/front"));
    assert_eq!((first.endpoints[0].address.as_str(), first.endpoints[0].port), ("10.42.1.2", 8080));
    assert_eq!((route(&compiled, "1").path_type, route(&compiled, "1").endpoints.len()), (2, 1));
    let nowhere = route(&compiled, "2");
    assert_eq!(
        (nowhere.path.as_str(), nowhere.backend.as_str(), nowhere.endpoints.len()),
        ("/", "shop/web:81", 0)
    );
    assert_eq!(route(&compiled, "3").host, "all.example.com");
    assert!(route(&compiled, "default").is_default && !first.is_default);
}

#[test]
fn ingresses_of_other_classes_are_not_ours() {
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    for (class, ours) in
        [(json!(null), true), (json!(""), true), (json!("warren"), true), (json!("nginx"), false)]
    {
        let compiled = compile(vec![ingress(json!({"ingressClassName": class, "defaultBackend": backend}))]);
        assert_eq!(!compiled.gateway.is_empty(), ours, "{class}");
    }
}
