//! Throw-away: serves plain HTTP for a real kubectl, with the planners running.
use super::*;
use warren_store::Store;

#[tokio::test(flavor = "multi_thread")]
#[ignore]
async fn serve() {
    let server = Server::new().await;
    let port = std::env::var("WARREN_SERVE_PORT").unwrap();
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await.unwrap();
    let app = server.router.clone().layer(axum::middleware::from_fn(
        async |mut request: axum::extract::Request, next: axum::middleware::Next| {
            request.extensions_mut().insert(admin());
            let line = format!("{} {}", request.method(), request.uri());
            let ct =
                format!("{:?} {:?}", request.headers().get("content-type"), request.headers().get("accept"));
            let response = next.run(request).await;
            eprintln!("{line} {} {ct}", response.status().as_u16());
            response
        },
    ));
    let store = Arc::clone(&server.store);
    tokio::spawn(async move {
        loop {
            let world = warren_plan::World {
                snapshot: store.snapshot(),
                config: ClusterConfig::default(),
                nodes: Default::default(),
                acknowledged: u64::MAX,
                released: Default::default(),
            };
            let plan = warren_plan::plan(&world, jiff::Timestamp::now());
            for step in plan.steps {
                let outcome = store.commit(step.transaction).await;
                eprintln!("PLAN {} -> {outcome:?}", step.why);
            }
            for problem in plan.problems {
                eprintln!("PROBLEM {problem:?}");
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    });
    let serving = async { axum::serve(listener, app).await };
    let _ = tokio::time::timeout(Duration::from_secs(3000), serving).await;
}
