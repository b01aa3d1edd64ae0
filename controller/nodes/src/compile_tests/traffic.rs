//! Services, peers and routes.

use warren_proto::control::{BasicAuthentication, HttpRoute, PathType, Service, TlsCertificate};

use super::{feed_item::Item, *};

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
        let feed = &compiled.feeds[&(name.to_owned(), Consumer::Netd)];
        feed.iter().map(|item| item.key.clone()).collect::<Vec<_>>()
    };
    assert_eq!(keys("n"), ["network", "peer/gw"]);
    assert_eq!(keys("gw"), ["network", "peer/n"]);
    assert_eq!(keys("new"), ["network", "peer/gw", "peer/n"]);
    assert!(!compiled.feeds.contains_key(&("nobody".to_owned(), Consumer::Netd)));
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
fn gateways_learn_the_pods_behind_endpoints_and_nodes_do_not() {
    let of = |address: &str, ready, target: Value| {
        let mut endpoint = endpoint(address, ready, ready, false);
        endpoint["targetRef"] = target;
        endpoint
    };
    let endpoints = json!([
        of("10.42.1.4", true, json!({"kind": "Pod", "namespace": "shop", "name": "web-1-aaaaa"})),
        of("10.42.1.3", true, json!({"kind": "Node", "name": "n"})),
        of("10.42.1.2", true, json!({"kind": "Pod", "name": "web-1-bbbbb"})),
        of("10.42.1.5", true, json!({"kind": "Pod", "name": "x".repeat(254)})),
        of("10.42.1.6", false, json!({"kind": "Pod", "name": "web-1-ccccc"})),
    ]);
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    let compiled = compile(vec![web(), slice("web", endpoints), ingress(json!({"defaultBackend": backend}))]);
    let route = route(&compiled, "default");
    let addresses: Vec<_> = route.endpoints.iter().map(|endpoint| endpoint.address.as_str()).collect();
    assert_eq!(addresses, ["10.42.1.2", "10.42.1.3", "10.42.1.4", "10.42.1.5"]);
    assert_eq!(route.pods, ["web-1-bbbbb", "", "web-1-aaaaa", ""]);
    // Without pods, or with too many, there is no list.
    let many: Vec<_> = (0..2_001)
        .map(|number| {
            let address = format!("10.42.{}.{}", number / 250, number % 250 + 2);
            of(&address, true, json!({"kind": "Pod", "name": format!("web-1-{number:05}")}))
        })
        .collect();
    for endpoints in [json!([endpoint("10.42.1.2", true, true, false)]), json!(many)] {
        let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
        let compiled =
            compile(vec![web(), slice("web", endpoints), ingress(json!({"defaultBackend": backend}))]);
        assert!(self::route(&compiled, "default").pods.is_empty());
    }
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

#[test]
fn classes_are_known_by_their_controller() {
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    let class = |name: &str, controller: &str| {
        object(INGRESSCLASSES, "", 2, json!({"metadata": {"name": name}, "spec": {"controller": controller}}))
    };
    for (class_name, controller, ours) in [
        ("warren", "warren.dev/gateway", true),
        ("public", "warren.dev/gateway", true),
        ("warren", "example.com/other", false),
        ("nginx", "k8s.io/ingress-nginx", false),
    ] {
        let ingress = ingress(json!({"ingressClassName": class_name, "defaultBackend": backend}));
        let compiled = compile(vec![ingress, class(class_name, controller)]);
        assert_eq!(!compiled.gateway.is_empty(), ours, "{class_name} of {controller}");
    }
}

/// An Ingress with annotations below nginx's prefix.
fn annotated(name: &str, created: &str, annotations: &[(&str, &str)], spec: Value) -> Object {
    let annotations: serde_json::Map<String, Value> = annotations
        .iter()
        .map(|(name, value)| (format!("nginx.ingress.kubernetes.io/{name}"), json!(value)))
        .collect();
    let metadata = json!({
        "name": name, "uid": format!("uid-{name}"), "creationTimestamp": created, "annotations": annotations,
    });
    object(INGRESSES, "shop", 4, json!({"metadata": metadata, "spec": spec}))
}

fn one_rule(host: &str, path_type: &str) -> Value {
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    json!({"host": host, "http": {"paths": [{"path": "/a(.*)", "pathType": path_type, "backend": backend}]}})
}

const THEN: &str = "2026-01-01T00:00:00Z";
const LATER: &str = "2026-01-02T00:00:00Z";

#[test]
fn annotations_become_the_policy_of_each_route() {
    let spec = json!({
        "tls": [{"hosts": ["*.test"], "secretName": "web"}],
        "rules": [one_rule("a.test", "ImplementationSpecific"), one_rule("b.org", "Exact")],
    });
    let annotations = [
        ("ssl-redirect", "true"),
        ("rewrite-target", "/$1"),
        ("proxy-read-timeout", "90"),
        ("auth-type", "basic"),
        ("auth-secret", "users"),
    ];
    let compiled = compile(vec![annotated("front", THEN, &annotations, spec)]);
    let (first, second) = (route(&compiled, "0"), route(&compiled, "1"));
    assert_eq!((first.path_type(), second.path_type()), (PathType::Regex, PathType::Exact));
    assert_eq!((first.created, first.uid.as_str()), (1_767_225_600, "uid-front"));
    let (first, second) = (first.policy.expect("a policy"), second.policy.expect("a policy"));
    assert_eq!((first.rewrite_target.as_str(), first.read_timeout_seconds), ("/$1", 90));
    assert_eq!(first.basic_authentication, "basic/shop/users");
    assert!(first.redirect_to_https && !second.redirect_to_https, "only where there is a certificate");
    let plain = compile(vec![ingress(json!({"rules": [one_rule("a.test", "Prefix")]}))]);
    assert_eq!((route(&plain, "0").policy, route(&plain, "0").path_type()), (None, PathType::Prefix));
}

fn secret(name: &str, revision: u64, data: &[(&str, &str)]) -> Object {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let data: serde_json::Map<String, Value> =
        data.iter().map(|(key, value)| ((*key).to_owned(), json!(STANDARD.encode(value)))).collect();
    object(
        SECRETS,
        "shop",
        revision,
        json!({"metadata": {"name": name}, "type": "kubernetes.io/tls", "data": data}),
    )
}

fn certificate(compiled: &Compiled, key: &str) -> Option<TlsCertificate> {
    match compiled.gateway.get(key)?.item.clone() {
        Some(Item::TlsCertificate(certificate)) => Some(certificate),
        other => panic!("no certificate: {other:?}"),
    }
}

#[test]
fn certificates_and_users_go_to_gateways_alone_and_follow_their_secrets() {
    let tls = |hosts: Value, secret: &str| json!({"tls": [{"hosts": hosts, "secretName": secret}], "rules": [one_rule("a.test", "Prefix")]});
    let base = |revision: u64, key: &str| {
        vec![
            member("n", "node", 1, Some("key-n")),
            member("gw", "gateway", 2, Some("key-gw")),
            // By name, the newer one comes first.
            annotated("attack", LATER, &[], tls(json!(["Shop.test", "other.test"]), "mine")),
            annotated(
                "front",
                THEN,
                &[("auth-type", "basic"), ("auth-secret", "users"), ("auth-secret-type", "auth-map")],
                tls(json!(["shop.test", "*.shop.test"]), "web"),
            ),
            annotated("any", THEN, &[], tls(json!([]), "web")),
            secret("web", revision, &[("tls.crt", "cert"), ("tls.key", key)]),
            secret("mine", 4, &[("tls.crt", "mine"), ("tls.key", "mine")]),
            secret("users", 4, &[("anna", "hash")]),
            secret("unused", 4, &[("tls.crt", "unused"), ("tls.key", "unused")]),
        ]
    };
    let mut compiler = compiler();
    let compiled = compiler.compile(&Snapshot::from_objects(9, base(4, "key")));
    let web = certificate(&compiled, "tls/shop/web").expect("the older one's");
    assert_eq!(web.hosts, ["*.shop.test", "shop.test"]);
    assert_eq!((web.certificate.as_slice(), web.key.as_slice()), (&b"cert"[..], &b"key"[..]));
    assert_eq!(certificate(&compiled, "tls/shop/mine").expect("for the rest").hosts, ["other.test"]);
    assert!(certificate(&compiled, "tls/shop/web/any").expect("for all others").hosts.is_empty());
    assert!(!compiled.gateway.keys().any(|key| key.contains("unused")));
    let users = compiled.gateway.get("basic/shop/users:map").and_then(|item| item.item.clone());
    let expected = BasicAuthentication { users: b"anna:hash\n".to_vec(), lost: false };
    assert_eq!(users, Some(Item::BasicAuthentication(expected)));
    for (name, consumer) in [("n", Consumer::Agent), ("n", Consumer::Netd), ("gw", Consumer::Netd)] {
        let mut keys = compiled.feeds[&(name.to_owned(), consumer)].iter().map(|item| &item.key);
        assert!(keys.all(|key| !key.starts_with("tls/") && !key.starts_with("basic/")));
    }
    let changed = compiler.compile(&Snapshot::from_objects(10, base(10, "new key")));
    assert_eq!(certificate(&changed, "tls/shop/web").expect("renewed").key, b"new key");
    assert_eq!(changed.changed, [Name::Gateway].into());
    let gone: Vec<_> = base(10, "").into_iter().filter(|object| &*object.key.name != "web").collect();
    let gone = compiler.compile(&Snapshot::from_objects(11, gone));
    assert_eq!(certificate(&gone, "tls/shop/web"), None);
    let back = compiler.compile(&Snapshot::from_objects(12, base(12, "back")));
    assert_eq!(certificate(&back, "tls/shop/web").expect("made again").key, b"back");
}

#[test]
fn external_names_lead_outside_or_to_another_service_and_never_to_the_api() {
    let leads = |name: &str, ports: Value| {
        let out = service("web", json!({"type": "ExternalName", "externalName": name, "ports": ports}));
        let mut other =
            service("db", json!({"clusterIP": "10.43.0.22", "ports": [{"name": "http", "port": 80}]}));
        other.value["metadata"]["namespace"] = "shop".into();
        let objects = vec![
            out,
            other,
            slice("db", json!([endpoint("10.42.1.2", true, true, false)])),
            ingress(json!({"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}})),
        ];
        let route = route(&compile(objects), "default");
        (route.external.map(|target| (target.name, target.port, target.refused)), route.endpoints.len())
    };
    let refused = || vec!["10.42.0.0/16".to_owned(), "10.43.0.0/16".to_owned()];
    assert_eq!(leads("DB.example.", json!(null)), (Some(("db.example".into(), 80, refused())), 0));
    let ports = json!([{"port": 80, "targetPort": 8080}]);
    assert_eq!(leads("db.example", ports), (Some(("db.example".into(), 8080, refused())), 0));
    assert_eq!(leads("db.shop.svc.cluster.local", json!(null)), (None, 1));
    assert_eq!(leads("db.shop.svc", json!(null)), (None, 1));
    for nowhere in ["kubernetes.default.svc.cluster.local", "kubernetes.default.svc", "none.shop.svc", ""] {
        assert_eq!(leads(nowhere, json!(null)), (None, 0), "{nowhere}");
    }
}
