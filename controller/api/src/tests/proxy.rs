//! Requests that are passed on to pods.

use std::convert::Infallible;

use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
};
use warren_proto::control::SessionFrame;

use super::{pods::running, *};

/// Where the pods of these tests serve HTTP.
pub(super) const PORT: u32 = 8_080;

/// What a node would do for a port on which a web server listens, which tells what it was asked.
pub(super) fn web() -> Session {
    let (input, mut from_client) = mpsc::channel::<SessionFrame>(4);
    let (to_client, output) = mpsc::channel(4);
    let (near, far) = tokio::io::duplex(1 << 16);
    tokio::spawn(async move {
        let server = hyper::server::conn::http1::Builder::new();
        let _ = server.serve_connection(TokioIo::new(far), service_fn(tell)).with_upgrades().await;
    });
    tokio::spawn(async move {
        let (mut read, mut write) = tokio::io::split(near);
        let up = async {
            while let Some(frame) = from_client.recv().await {
                let sent = write.write_all(&frame.data).await;
                if sent.is_err() || frame.close {
                    break;
                }
            }
            let _ = write.shutdown().await;
        };
        let down = async {
            let mut buffer = vec![0; 1 << 14];
            while let Ok(count @ 1..) = read.read(&mut buffer).await {
                let frame = SessionFrame { data: buffer[..count].to_vec(), ..SessionFrame::default() };
                if to_client.send(Ok(frame)).await.is_err() {
                    return;
                }
            }
            let _ = to_client.send(Ok(SessionFrame { end: true, ..SessionFrame::default() })).await;
        };
        tokio::join!(up, down);
    });
    Session { input, output }
}

async fn tell(request: Request<Incoming>) -> Result<axum::response::Response, Infallible> {
    let (parts, body) = request.into_parts();
    let header =
        |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut response = axum::response::Response::new(Body::empty());
    if parts.uri.path() == "/switch" {
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert("upgrade", "whatever".parse().unwrap());
        return Ok(response);
    }
    if parts.uri.path() == "/move" {
        *response.status_mut() = StatusCode::FOUND;
        response.headers_mut().insert("location", "/there?x=1".parse().unwrap());
        return Ok(response);
    }
    if parts.uri.path() == "/page" {
        let page =
            "<p class=/x><A HREF=/rewriteme?a=1&b=2>t</a><img src='near.png'><script>a < \"/b\"</script>";
        // In pieces, one of which ends within a tag.
        let pieces = [&page[..20], &page[20..]].map(|piece| Ok::<_, Infallible>(piece.to_owned()));
        *response.body_mut() = Body::from_stream(futures_util::stream::iter(pieces));
        response.headers_mut().insert("content-type", "text/html; charset=utf-8".parse().unwrap());
        return Ok(response);
    }
    let told = json!({
        "method": parts.method.as_str(), "path": parts.uri.to_string(), "host": header("host"),
        "authorization": header("authorization"), "uri": header("x-forwarded-uri"), "own": header("x-own"), "hop": header("x-hop"),
        "body": String::from_utf8_lossy(&body.collect().await.unwrap().to_bytes()),
    });
    *response.status_mut() = StatusCode::IM_A_TEAPOT;
    *response.body_mut() = Body::from(told.to_string());
    response.headers_mut().insert("x-pod", "yes".parse().unwrap());
    Ok(response)
}

const POD: &str = "/api/v1/namespaces/default/pods/web:8080/proxy";

async fn with_web() -> Server {
    let server = Server::new().await;
    running(&server, "web", "n1").await;
    let address = json!({"status": {"podIP": "10.42.1.9"}});
    let status = "/api/v1/namespaces/default/pods/web/status";
    server.patch(status, "merge-patch+json", &address).await.expect(200);
    server
}

#[tokio::test]
async fn a_request_reaches_the_pod_as_it_came() {
    let server = with_web().await;
    for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS] {
        let headers =
            [("x-own", "1"), ("authorization", "Bearer x"), ("connection", "close, x-hop"), ("x-hop", "1")];
        let body = if method == Method::GET { "" } else { "some" };
        let path = format!("{POD}/a%2Fb//c?q=%20x");
        let answer = server.send(Server::request(method.clone(), &path, &headers, body)).await;
        assert_eq!(
            (answer.code, answer.headers["x-pod"].to_str().unwrap()),
            (StatusCode::IM_A_TEAPOT, "yes"),
            "{method}"
        );
        let told = answer.json();
        let expected = json!({
            "method": method.as_str(), "path": "/a%2Fb//c?q=%20x", "host": "10.42.1.9:8080", "own": "1", "body": body,
            "authorization": null, "hop": null, "uri": format!("{POD}/a%2Fb//c"),
        });
        assert_eq!(told, expected);
    }
}

#[tokio::test]
async fn what_leads_elsewhere_in_the_pod_leads_there_behind_the_proxy() {
    let server = with_web().await;
    let answer = server.get(&format!("{POD}/move")).await;
    assert_eq!(
        (answer.code, answer.headers["location"].to_str().unwrap()),
        (StatusCode::FOUND, &*format!("{POD}/there?x=1"))
    );
    let status = server.get(&format!("{POD}/switch")).await.expect(503);
    assert!(status["message"].as_str().unwrap().ends_with("it changes the protocol unasked"), "{status}");
    let answer = server.get(&format!("{POD}?a=b")).await;
    assert_eq!(answer.code, StatusCode::MOVED_PERMANENTLY);
    assert_eq!(answer.headers["location"].to_str().unwrap(), format!("{POD}/?a=b"));
}

#[tokio::test]
async fn links_in_pages_lead_behind_the_proxy() {
    let server = with_web().await;
    let answer = server.get(&format!("{POD}/page")).await;
    assert_eq!(
        String::from_utf8_lossy(&answer.body),
        format!(
            "<p class=/x><A HREF=\"{POD}/rewriteme?a=1&b=2\">t</a><img src='near.png'><script>a < \"/b\"</script>"
        )
    );
}

#[tokio::test]
async fn a_service_leads_to_its_ready_pods() {
    let server = with_web().await;
    let mut web = service("web");
    web["spec"]["ports"] = json!([{"name": "http", "port": 80, "targetPort": PORT}]);
    server.post("/api/v1/namespaces/default/services", &web).await.expect(201);
    let path = |name: &str| format!("/api/v1/namespaces/default/services/{name}/proxy/x");
    let status = server.get(&path("web:http")).await.expect(503);
    assert_eq!(status["message"], "no endpoints available for service \"web\"");
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": PORT, "protocol": "TCP"}],
        "endpoints": [
            {"addresses": ["10.42.1.8"], "conditions": {"ready": false}, "targetRef": {"kind": "Pod", "name": "gone"}},
            {"addresses": ["10.42.1.9"], "conditions": {"ready": true}, "targetRef": {"kind": "Pod", "name": "web"}},
        ],
    });
    server.post("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", &slice).await.expect(201);
    for name in ["web", "web:http", "web:80", "http:web:http"] {
        let answer = server.get(&path(name)).await;
        assert_eq!(answer.code, StatusCode::IM_A_TEAPOT, "{name}");
        assert_eq!(
            (&answer.json()["path"], &answer.json()["host"]),
            (&json!("/x"), &json!("10.42.1.9:8080"))
        );
    }
    server.get(&path("web:81")).await.expect(503);
    server.get(&path("none")).await.expect(404);
    server.get(&path("ftp:web:80")).await.expect(400);
}

#[tokio::test]
async fn what_is_not_there_is_said() {
    let server = with_web().await;
    running(&server, "far", "lost").await;
    server.post("/api/v1/namespaces/default/pods", &pod("new")).await.expect(201);
    let get = async |name: &str, code: u16| -> String {
        let path = format!("/api/v1/namespaces/default/pods/{name}/proxy/");
        server.get(&path).await.expect(code)["message"].as_str().unwrap().to_owned()
    };
    assert_eq!(get("none", 404).await, "pods \"none\" not found");
    assert_eq!(get("new", 400).await, "pod new does not have a host assigned");
    assert!(get("web:http", 400).await.contains("is not a valid port"));
    // Nothing listens there: the node says so.
    assert!(get("web:1", 503).await.starts_with("error trying to reach service: "));
}
