//! What a list of 10,000 pods costs in memory, measured in a process that does nothing else: keep this the only test
//! of its file.

mod common;

use axum::body::Body;
use common::{forget_peak, peak};
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::json;
use tower::ServiceExt as _;
use warren_store::{Key, Object};

const COUNT: usize = 10_000;

fn pod(number: usize) -> Object {
    let name = format!("p{number:05}");
    let environment: Vec<_> =
        (0..20).map(|n| json!({"name": format!("VARIABLE_{n}"), "value": "x".repeat(100)})).collect();
    let value = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default", "uid": name},
        "spec": {"containers": [{"name": "main", "image": "nginx:1", "env": environment}]},
        "status": {"phase": "Running"},
    });
    Object::new(Key::new("pods", "default", &name), 7, value)
}

#[tokio::test]
async fn a_list_of_ten_thousand_pods_is_sent_without_a_copy() {
    let router = common::router((0..COUNT).map(pod));
    let list = async |accept: &str| {
        let request = Request::get("/api/v1/pods").header("accept", accept).extension(common::admin());
        let response = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
        let mut body = response.into_body();
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            length += frame.unwrap().into_data().unwrap().len();
        }
        length
    };
    // The objects' texts are made by whoever asks first (otherwise by their commits), and are there for all.
    list("application/json").await;
    for accept in ["application/json", "application/json;as=Table;v=v1;g=meta.k8s.io"] {
        forget_peak();
        let before = peak();
        let length = list(accept).await;
        let grown = peak() - before;
        println!("{accept}: {length} bytes sent, {grown} bytes more at the peak");
        assert!(length > COUNT * 100);
        assert!(grown < 4 << 20, "{accept}: {grown} bytes more for a list of {length}");
    }
}
