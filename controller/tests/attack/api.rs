//! Attacks on the Kubernetes API: every path that discovery names, as whoever may dial.

use std::time::Duration;

use http::{Request, StatusCode};
use serde_json::Value;

use crate::fixture::{Who, unfinished, url, whole};

const MEBIBYTE: usize = 1 << 20;
/// Documents and health.
const FIXED: [&str; 9] =
    ["/version", "/healthz", "/livez", "/readyz", "/api", "/apis", "/openapi/v2", "/openapi/v3", "/metrics"];
const PATCHES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

/// A path of the API, and what may be done there.
pub(crate) struct Served {
    path: String,
    verbs: Vec<String>,
}

impl Served {
    fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|known| known == verb)
    }
}

/// Every resource and subresource that discovery names.
pub(crate) async fn discover(administrator: &Who) -> Vec<Served> {
    let json = async |path: &str| -> Value {
        let answer = administrator.get(path).await.expect("an answer");
        assert_eq!(answer.code, StatusCode::OK, "{path}");
        serde_json::from_slice(&answer.body).expect("JSON")
    };
    let mut roots = vec!["/api/v1".to_owned()];
    let groups = json("/apis").await;
    for group in groups["groups"].as_array().expect("groups") {
        for version in group["versions"].as_array().expect("versions") {
            roots.push(format!("/apis/{}", version["groupVersion"].as_str().expect("a version")));
        }
    }
    let mut served = Vec::new();
    for root in roots {
        for resource in json(&root).await["resources"].as_array().expect("resources") {
            let name = resource["name"].as_str().expect("a name");
            let place = if resource["namespaced"] == true { "/namespaces/default" } else { "" };
            // A subresource is one of an object; whether that is there is found out after who asks.
            let path = match name.split_once('/') {
                Some((parent, sub)) => format!("{root}{place}/{parent}/x/{sub}"),
                None => format!("{root}{place}/{name}"),
            };
            let verbs = resource["verbs"].as_array().expect("verbs").iter().filter_map(Value::as_str);
            served.push(Served { path, verbs: verbs.map(str::to_owned).collect() });
        }
    }
    assert!(served.len() > 30, "{}", served.len());
    served
}

/// Whatever a stranger or a member sends, it is refused, and its body is not waited for.
pub(crate) async fn refuse(who: Who, served: &[Served]) {
    let mut paths: Vec<&str> = served.iter().map(|served| served.path.as_str()).collect();
    paths.extend([
        "/apis/none/v1/things",
        "/warren/v1/tokens",
        "/warren/v1/secrets/rotate",
        "/warren/v1/backup",
    ]);
    for path in paths {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let request =
                Request::builder().method(method).uri(url(path)).header("content-type", "application/json");
            // What never ends: an answer shows that nobody waited for it. But whoever is somebody may ask who that is.
            let begin = vec![b'['; 64 << 10];
            let body = if path.contains("/selfsubject") { whole(begin) } else { unfinished(begin, None) };
            match who.ask(request, body).await {
                Ok(answer) => {
                    assert!(answer.code.is_client_error(), "{} {method} {path}: {}", who.label, answer.code)
                }
                Err(error) => panic!("{} {method} {path}: {error}", who.label),
            }
        }
    }
}

/// What is read again and again, as often as it is allowed.
pub(crate) async fn read(who: Who) {
    for _ in 0..20 {
        for path in FIXED {
            let _ = who.get(path).await;
        }
    }
}

/// Texts that grow when they are decoded.
fn bombs() -> Vec<(&'static str, Vec<u8>)> {
    let size = 2_900 << 10;
    let mut wide = b"{\"apiVersion\":\"v1\",\"data\":{".to_vec();
    for number in 0.. {
        if wide.len() > size {
            break;
        }
        wide.extend(format!("\"{number}\":\"\",").as_bytes());
    }
    wide.extend(b"\"x\":\"\"}}");
    let mut aliases = format!("a: &a {}\nb:\n", "x".repeat(MEBIBYTE)).into_bytes();
    aliases.extend(b"- *a\n".repeat(5_000));
    let mut protobuf = b"k8s\0".to_vec();
    protobuf.extend([0x12, 0x80, 0x80, 0x80, 0x01]);
    protobuf.extend([0x0a, 0].repeat(MEBIBYTE));
    vec![
        ("application/json", vec![b'0'; 14 * MEBIBYTE]),
        ("application/json", vec![b'['; size]),
        ("application/json", [b"[".to_vec(), b"0,".repeat(size / 2), b"0]".to_vec()].concat()),
        ("application/json", [b"[".to_vec(), b"{},".repeat(size / 3), b"{}]".to_vec()].concat()),
        ("application/json", wide),
        ("application/yaml", aliases),
        ("application/yaml", [b"a: ".to_vec(), b"[".repeat(size)].concat()),
        ("application/yaml", [b"[".to_vec(), b"0,".repeat(size / 2), b"0]".to_vec()].concat()),
        ("application/yaml", [b"a: [[".to_vec(), b"{},".repeat(size / 3), b"{}]]".to_vec()].concat()),
        ("application/yaml", [b"[".to_vec(), b"? ".repeat(size / 2), b"]".to_vec()].concat()),
        // As many as are parsed.
        ("application/yaml", [b"[".to_vec(), b",".repeat(399_990), b"]".to_vec()].concat()),
        ("application/vnd.kubernetes.protobuf", protobuf),
        ("application/vnd.kubernetes.protobuf", b"\x0a\0".repeat(size / 2)),
    ]
}

/// Even an administrator's bodies are bounded. Each path gets one of them, in turn.
pub(crate) async fn swell(administrator: Who, served: &[Served]) {
    let bombs = bombs();
    let mut next = (0..).map(|number| &bombs[number % bombs.len()]);
    let mut tried: Vec<(String, String, String, Vec<u8>)> = Vec::new();
    for served in served {
        if served.can("create")
            && let Some((kind, body)) = next.next()
        {
            tried.push(("POST".into(), served.path.clone(), (*kind).to_owned(), body.clone()));
        }
    }
    for (kind, body) in &bombs {
        let path = "/api/v1/namespaces/default/configmaps".to_owned();
        tried.push(("POST".into(), path, (*kind).to_owned(), body.clone()));
    }
    for kind in PATCHES {
        let path = "/api/v1/namespaces/default/configmaps/x?fieldManager=a".to_owned();
        for body in bombs
            .iter()
            .filter(|(kind, _)| *kind != "application/vnd.kubernetes.protobuf")
            .map(|(_, body)| body)
        {
            tried.push(("PATCH".into(), path.clone(), kind.to_owned(), body.clone()));
        }
    }
    for (method, path, kind, body) in tried {
        let request =
            Request::builder().method(method.as_str()).uri(url(&path)).header("content-type", &kind);
        if let Ok(answer) = administrator.ask(request, whole(body)).await {
            assert!(answer.code.is_client_error(), "{method} {path} {kind}: {}", answer.code);
        }
    }
}

/// A body that comes byte by byte must end, an administrator's too.
pub(crate) async fn drip(administrator: Who) {
    let request = Request::post(url("/api/v1/namespaces/default/configmaps"))
        .header("content-type", "application/json");
    let answer = administrator.ask(request, unfinished(b"{".to_vec(), Some(Duration::from_secs(5)))).await;
    assert!(!answer.is_ok_and(|answer| answer.code.is_success()));
}

/// Requests with as many and as long headers as they like.
pub(crate) async fn flood_headers(who: Who) {
    for _ in 0..50 {
        let mut request = Request::get(url("/readyz"));
        for number in 0..200 {
            request = request.header(format!("x-flood-{number}"), "y".repeat(4_000));
        }
        if let Ok(answer) = who.ask(request, whole("")).await {
            assert!(answer.code.is_client_error(), "{}", answer.code);
        }
    }
}

/// Connections that say nothing, or the first letter of something.
pub(crate) async fn sit_there(who: Who) {
    use tokio::io::AsyncWriteExt as _;
    let mut seats = Vec::new();
    for number in 0..700 {
        if let Ok(mut stream) = who.dial().await {
            if number % 2 == 0 {
                let _ = stream.write_all(b"P").await;
            }
            seats.push(stream);
        }
    }
}
