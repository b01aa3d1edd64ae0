//! What the most hostile bodies cost in memory, measured in a process that does nothing else: keep this the only test of
//! its file.

mod common;

use axum::body::Body;
use common::{forget_peak, peak};
use http::{Method, Request};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use warren_store::{Key, Object};

/// The largest body that is taken.
const LARGEST: usize = 3 * 1024 * 1024;
/// No request may cost more than this, of whatever it is made.
const MOST: usize = 80 << 20;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
const POD: &str = "/api/v1/namespaces/default/pods/web";

/// A list of as many pieces as fit.
fn full(opening: &str, piece: &str, closing: &str) -> String {
    let count = (LARGEST - opening.len() - closing.len()) / piece.len();
    format!("{opening}{}{closing}", piece.repeat(count).trim_end_matches(','))
}

struct Attack {
    name: &'static str,
    method: Method,
    path: &'static str,
    content_type: &'static str,
    body: Vec<u8>,
}

fn attack(
    name: &'static str,
    path: &'static str,
    content_type: &'static str,
    body: impl Into<Vec<u8>>,
) -> Attack {
    let method = if path == POD { Method::PATCH } else { Method::POST };
    Attack { name, method, path, content_type, body: body.into() }
}

fn attacks() -> Vec<Attack> {
    const JSON: &str = "application/json";
    const YAML: &str = "application/yaml";
    const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
    let large = "x".repeat(1_000_000);
    let aliases = |count: usize| format!("a: &a {large}\nb: [{}]\n", vec!["*a"; count].join(", "));
    let anchors: String = (0..120).map(|n| format!("&a{n} [")).collect();
    let twice: String = (0..1_000).map(|n| format!("\"{n}\":1,\"{n}\":2,")).collect();
    let keyed = "k".repeat(2_000_000);
    let labels: serde_json::Map<String, Value> =
        (0..90_000).map(|n| (format!("-{n}-"), json!("-bad-"))).collect();
    let raw = full("[", "{\"\":0},", "]");
    // metadata { managedFields { fieldsV1 { Raw } } }
    let framed = |tag: u8, inside: &[u8]| -> Vec<u8> {
        let mut out = vec![tag];
        let mut length = inside.len();
        while length >= 0x80 {
            out.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend_from_slice(inside);
        out
    };
    let wrapped = |object: &[u8]| [b"k8s\0".as_slice(), &framed(0x12, object)].concat();
    let fields = framed(0x3a, &framed(0x0a, &raw.as_bytes()[..LARGEST - 64]));
    // The tag of managedFields has two bytes.
    let managed = [&[0x8a_u8, 0x01], &framed(0, &fields)[1..]].concat();
    let containers = [0x12, 0x00].repeat((LARGEST - 64) / 2);
    let copies: Vec<Value> = std::iter::once(
        json!({"op": "add", "path": "/metadata/annotations", "value": {"a": ["x".repeat(1_000)]}}),
    )
    .chain((0..9_000).map(
        |_| json!({"op": "copy", "from": "/metadata/annotations/a", "path": "/metadata/annotations/a/-"}),
    ))
    .collect();
    let mentions = full("{\"spec\":{\"containers\":[", "{\"name\":\"main\"},", "]}}");
    vec![
        attack("yaml: aliases of a large text", MAPS, YAML, aliases(5_000)),
        attack(
            "yaml: aliases of a large text in fields' names",
            MAPS,
            YAML,
            aliases(5_000).replace("*a", "{*a : 1}"),
        ),
        attack("yaml: small scalars", MAPS, YAML, full("a: [", "a,", "]")),
        attack("yaml: small maps", MAPS, YAML, full("a: [", "{a: },", "]")),
        attack("yaml: block items", MAPS, YAML, full("a:\n", "- a\n", "")),
        attack("yaml: anchors in anchors", MAPS, YAML, format!("{anchors}{large}{}", "]".repeat(120))),
        attack(
            "yaml: merges",
            MAPS,
            YAML,
            format!("a: &a {{k: {large}}}\nb: [{}]\n", vec!["{<<: *a}"; 5_000].join(", ")),
        ),
        attack("yaml: documents", MAPS, YAML, full("", "---\na: b\n", "")),
        attack("json: small maps", MAPS, JSON, full("{\"a\":[", "{\"\":0},", "]}")),
        attack("json: numbers", MAPS, JSON, full("{\"a\":[", "0,", "]}")),
        attack("json: one field again and again", MAPS, JSON, full("{", "\"a\":0,", "}")),
        attack(
            "json: fields twice below a long one",
            MAPS,
            JSON,
            format!("{{\"{keyed}\":{{{}}}}}", twice.trim_end_matches(',')),
        ),
        attack(
            "json: unknown fields",
            PODS,
            JSON,
            full("{\"spec\":{\"containers\":[", "{\"y\":0,\"z\":1},", "]}}"),
        ),
        attack(
            "json: faults without end",
            MAPS,
            JSON,
            json!({"metadata": {"name": "a", "labels": labels}}).to_string(),
        ),
        attack(
            "json: a value that is wrong and long",
            MAPS,
            JSON,
            json!({"metadata": {"name": "\u{1}".repeat(500_000)}}).to_string(),
        ),
        attack("json: brackets", MAPS, JSON, "[".repeat(LARGEST)),
        attack("protobuf: empty containers", PODS, PROTOBUF, wrapped(&framed(0x12, &containers))),
        attack("protobuf: raw JSON", PODS, PROTOBUF, wrapped(&framed(0x0a, &managed))),
        attack("json patch: copies", POD, "application/json-patch+json", json!(copies).to_string()),
        attack(
            "json patch: operations",
            POD,
            "application/json-patch+json",
            full("[", "{\"op\":\"test\",\"path\":\"\",\"value\":0},", "]"),
        ),
        attack(
            "merge patch: small maps",
            POD,
            "application/merge-patch+json",
            full("{\"a\":[", "{\"\":0},", "]}"),
        ),
        attack(
            "strategic patch: one item again and again",
            POD,
            "application/strategic-merge-patch+json",
            mentions,
        ),
        attack("a body without end", MAPS, JSON, "x".repeat(LARGEST + 1)),
    ]
}

fn stored() -> [Object; 2] {
    let environment: Vec<_> =
        (0..2_000).map(|n| json!({"name": format!("V{n}"), "value": "x".repeat(100)})).collect();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "default", "uid": "u"},
        "spec": {"containers": [{"name": "main", "image": "nginx:1", "env": environment}]},
    });
    let namespace = json!({"metadata": {"name": "default"}, "status": {"phase": "Active"}});
    [
        Object::new(Key::new("pods", "default", "web"), 7, pod),
        Object::new(Key::new("namespaces", "", "default"), 7, namespace),
    ]
}

#[tokio::test]
async fn no_body_costs_much_more_than_it_weighs() {
    let router = common::router(stored());
    let mut over = Vec::new();
    let attacks = attacks();
    // What an earlier one has left behind counts, too.
    forget_peak();
    let before = peak();
    for Attack { name, method, path, content_type, body } in attacks {
        assert!(body.len() <= LARGEST + 1, "{name}: {}", body.len());
        let request = Request::builder().method(method).uri(path).header("content-type", content_type);
        let request = request.extension(common::admin()).body(Body::from(body)).unwrap();
        forget_peak();
        let response = router.clone().oneshot(request).await.unwrap();
        let code = response.status();
        let answer = response.into_body().collect().await.unwrap().to_bytes();
        let grown = peak().saturating_sub(before);
        println!("{name}: {code}, {grown} bytes more than at first, {} answered", answer.len());
        assert!(code.is_client_error(), "{name}: {code} {:.300}", String::from_utf8_lossy(&answer));
        assert!(answer.len() < 1 << 20, "{name}: {} bytes answered", answer.len());
        if grown > MOST {
            over.push(format!("{name}: {grown}"));
        }
    }
    assert!(over.is_empty(), "{over:#?}");
}
