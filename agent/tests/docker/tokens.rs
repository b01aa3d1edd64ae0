//! Tokens of service accounts: a pod waits for its first, keeps what it has, and an agent that starts anew asks for none.

use std::sync::atomic::Ordering;

use warren_proto::control::{Files, LogsRequest, Mount, PodStatus, TokenFile, Volume, volume::Source};

use crate::bench::{Bench, container, pod, waits_for};

const SHOW: &str = "ls -ln /token/..data/ | tail -1; cat /token/token; echo; exec sleep 1000";

fn says(told: &str, what: &str) -> bool {
    told.contains(what)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_waits_for_its_token_and_keeps_it() {
    let mut bench = Bench::new("tokens").await;
    let mut app = container("app", SHOW);
    app.mounts =
        vec![Mount { volume: "token".into(), path: "/token".into(), read_only: true, ..Mount::default() }];
    let mut wanted = pod(1, vec![app]);
    let token = TokenFile {
        path: "token".into(),
        audience: "vault".into(),
        expiration_seconds: 600,
        mode: 0o640,
        user: Some(4711),
        group: Some(815),
    };
    let files = Files { tokens: vec![token], ..Files::default() };
    wanted.volumes = vec![Volume { name: "token".into(), source: Some(Source::Files(files)) }];
    let uid = wanted.uid.clone();
    bench.issuer.refuses.store(true, Ordering::Relaxed);
    bench.want(wanted);
    let waits = bench.until(&uid, "that it waits", |status: &PodStatus| status.reason == "FailedMount").await;
    assert!(says(&waits.message, "failed to fetch token: nobody is at home"), "{}", waits.message);
    assert_eq!(waits_for(&waits, "app"), "ContainerCreating");

    bench.issuer.refuses.store(false, Ordering::Relaxed);
    bench.until_ready(&uid).await;
    let log = bench.logs(&uid, "app", LogsRequest::default()).await.unwrap();
    assert!(says(&log, "-rw-r-----") && says(&log, "4711") && says(&log, "815"), "{log}");
    let asked = bench.issuer.asked.lock().clone();
    let last = asked.last().unwrap();
    assert_eq!((last.audience.as_str(), last.pod_uid.as_str()), ("vault", uid.as_str()));
    assert!(says(&log, &format!("token-{}", asked.len())), "{log}");

    // Nobody answers any more: what is there is used.
    bench.issuer.refuses.store(true, Ordering::Relaxed);
    bench.stop_agent().await;
    bench.start_agent();
    bench.until_ready(&uid).await;
    assert_eq!(bench.issuer.asked.lock().len(), asked.len(), "a token that is good is not asked for again");
    bench.end().await;
}
