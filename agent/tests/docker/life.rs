//! The life of pods that are well.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use warren_proto::control::{
    Dns, EmptyDir, EnvVar, ExecProbe, File, Files, Hook, HostPath, HttpProbe, LogsRequest, Mount,
    PodInstruction, Probe, Resources, SecurityContext, Volume, container_state::State, hook, probe,
    volume::Source,
};

use crate::bench::{Bench, STAY, container, container_id, container_of, containers_of, pod, state};

fn volume(name: &str, source: Source) -> Volume {
    Volume { name: name.into(), source: Some(source) }
}

fn mount(volume: &str, path: &str) -> Mount {
    Mount { volume: volume.into(), path: path.into(), ..Mount::default() }
}

fn files(secret: bool, path: &str, content: &str, mode: u32) -> Source {
    let file = File { path: path.into(), content: content.into(), mode };
    Source::Files(Files { files: vec![file], secret, ..Files::default() })
}

fn furnished() -> PodInstruction {
    let mut app = container("app", STAY);
    app.env = vec![EnvVar { name: "GREETING".into(), value: "good day = yes".into() }];
    app.working_dir = "/tmp".into();
    app.mounts =
        ["config", "secret", "scratch", "fast", "host"].map(|name| mount(name, &format!("/{name}"))).into();
    app.resources =
        Some(Resources { cpu_limit_millis: 500, memory_limit_bytes: 64 << 20, ..Resources::default() });
    app.security = Some(SecurityContext {
        run_as_user: Some(1234),
        no_new_privileges: true,
        capabilities_drop: vec!["ALL".into()],
        ..SecurityContext::default()
    });
    let mut side = container("side", STAY);
    side.mounts = vec![mount("scratch", "/scratch"), mount("fast", "/fast")];
    let mut wanted = pod(1, vec![app, side]);
    wanted.dns = Some(Dns {
        nameservers: vec!["10.43.0.10".into()],
        searches: vec!["default.svc.cluster.local".into()],
        options: vec!["ndots:5".into()],
        ..Dns::default()
    });
    wanted.volumes = vec![
        volume("config", files(false, "app.conf", "colour=blue", 0)),
        volume("secret", files(true, "password", "hunter2", 0o444)),
        volume("scratch", Source::EmptyDir(EmptyDir::default())),
        volume("fast", Source::EmptyDir(EmptyDir { memory: true, size_limit_bytes: 1 << 20 })),
        volume(
            "host",
            Source::HostPath(HostPath { path: "/data".into(), r#type: "DirectoryOrCreate".into() }),
        ),
    ];
    wanted
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_gets_all_that_its_instruction_says() {
    let mut bench = Bench::new("furnished").await;
    let wanted = furnished();
    let uid = wanted.uid.clone();
    bench.want(wanted.clone());
    let status = bench.until_ready(&uid).await;
    let link = bench.netd.links.lock().get(&uid).cloned().expect("plugged in");
    assert_eq!((link.address.as_str(), link.pod.as_str()), ("10.42.1.1", "default/pod-1"));
    let line = "echo $GREETING; cat /config/app.conf; echo; cat /secret/password; echo; hostname; id -u; pwd; \
        cat /etc/resolv.conf; cat /etc/hosts";
    let seen = bench.sh(&status, "app", line).await;
    for part in [
        "good day = yes\ncolour=blue\nhunter2\npod-1\n1234\n/tmp\n",
        "nameserver 10.43.0.10",
        "search default.svc.cluster.local",
        "options ndots:5",
        "10.42.1.1\tpod-1",
    ] {
        assert!(seen.contains(part), "{part:?} is missing in:\n{seen}");
    }
    bench.sh(&status, "app", "echo one >/scratch/a; echo two >/fast/b").await;
    assert_eq!(bench.sh(&status, "side", "cat /scratch/a /fast/b").await, "one\ntwo\n");
    assert!(bench.dir.path().join("host/data").is_dir(), "a hostPath lies below the prefix");
    let on_disk = bench.dir.path().join("pods").join(&uid).join("files/secret");
    assert!(!on_disk.exists(), "a secret is not written to the state directory");
    let inspect =
        bench.docker.inspect_container(&container_id(container_of(&status, "app")), None).await.unwrap();
    let host = inspect.host_config.unwrap();
    assert_eq!((host.cpu_quota, host.memory, host.cpu_shares), (Some(50_000), Some(64 << 20), Some(512)));
    let name = format!("/warren_pod-1_default_app_{}_0", &uid[..8]);
    assert_eq!(inspect.name, Some(name));
    assert_eq!(host.restart_policy.unwrap().name.unwrap().to_string(), "no");
    let seconds = Duration::from_secs(60);
    tokio::time::timeout(seconds, bench.acknowledged.wait_for(|revision| *revision == 1))
        .await
        .unwrap()
        .unwrap();

    // Files change under the feet of the running container, which is not restarted for it.
    let mut changed = wanted;
    changed.volumes[0] = volume("config", files(false, "app.conf", "colour=green", 0));
    changed.volumes[1] = volume("secret", files(true, "password", "hunter3", 0o444));
    bench.want(changed);
    let begun = Instant::now();
    loop {
        let seen = bench.sh(&status, "app", "cat /config/app.conf /secret/password").await;
        if seen == "colour=greenhunter3" {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "the files did not change: {seen}");
    }
    let after = bench.until_ready(&uid).await;
    assert_eq!(container_of(&after, "app").container_id, container_of(&status, "app").container_id);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn init_containers_run_one_by_one_and_before_the_others() {
    let mut bench = Bench::new("init").await;
    let share = |mut container: warren_proto::control::Container| {
        container.mounts = vec![mount("shared", "/shared")];
        container
    };
    let mut wanted = pod(2, vec![share(container("app", &format!("cat /shared/log; {STAY}")))]);
    wanted.volumes = vec![volume("shared", Source::EmptyDir(EmptyDir::default()))];
    wanted.init_containers = vec![
        // Fails the first time; Kubernetes tries again.
        share(container(
            "first",
            "echo first >>/shared/log; test -f /shared/once || { touch /shared/once; exit 7; }",
        )),
        share(container("second", "echo second >>/shared/log")),
    ];
    let uid = wanted.uid.clone();
    bench.want(wanted);
    let status = bench.until_ready(&uid).await;
    assert_eq!(bench.logs(&uid, "app", LogsRequest::default()).await.unwrap(), "first\nfirst\nsecond\n");
    assert_eq!(container_of(&status, "first").restart_count, 1);
    assert!(container_of(&status, "second").ready);
    let ended = state(container_of(&status, "second"));
    assert!(matches!(ended, Some(State::Terminated(ended)) if ended.reason == "Completed"));
    bench.end().await;
}

const WEB_PORT: u16 = 8080;

/// Answers every request inside a pod's network with a code that can be changed.
async fn web_server(namespace_path: String) -> Arc<AtomicBool> {
    // A namespace belongs to a thread.
    let bind = move || {
        let namespace = std::fs::File::open(namespace_path).unwrap();
        nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        std::net::TcpListener::bind(("127.0.0.1", WEB_PORT)).unwrap()
    };
    let listener = std::thread::spawn(bind).join().unwrap();
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let healthy = Arc::new(AtomicBool::new(true));
    let shared = Arc::clone(&healthy);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 2048];
            let length = stream.read(&mut request).await.unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..length]).to_ascii_lowercase();
            let expected =
                request.starts_with("get /health http/1.1\r\n") && request.contains("x-probe: yes\r\n");
            let code =
                if shared.load(Ordering::SeqCst) && expected { "204 No Content" } else { "503 Unavailable" };
            let answer = format!("HTTP/1.1 {code}\r\ncontent-length: 0\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    healthy
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_decide_about_readiness_and_restarts() {
    let mut bench = Bench::new("probes").await;
    let header = warren_proto::control::HttpHeader { name: "X-Probe".into(), value: "yes".into() };
    let http = HttpProbe {
        port: WEB_PORT.into(),
        path: "/health".into(),
        host: "127.0.0.1".into(),
        headers: vec![header],
        ..HttpProbe::default()
    };
    let timed = |handler| Probe {
        handler: Some(handler),
        period_seconds: 1,
        timeout_seconds: 20,
        failure_threshold: 1,
        ..Probe::default()
    };
    let command = |line: &str| ExecProbe { command: ["/bin/sh", "-c", line].map(str::to_owned).into() };
    let mut app = container("app", &format!("touch /tmp/alive; {STAY}"));
    app.readiness = Some(timed(probe::Handler::Http(http)));
    app.liveness = Some(timed(probe::Handler::Exec(command("cat /tmp/alive"))));
    let mut startup = timed(probe::Handler::Exec(command("test -f /tmp/alive")));
    startup.failure_threshold = 60;
    app.startup = Some(startup);
    let wanted = pod(3, vec![app]);
    let uid = wanted.uid.clone();
    bench.want(wanted);
    // Loopback is the pod's own: the node's would not be asked.
    bench.until(&uid, "a start", waits_to_be_ready).await;
    let namespace = bench.netd.links.lock()[&uid].namespace_path.clone();
    let healthy = web_server(namespace).await;
    let status = bench.until_ready(&uid).await;
    healthy.store(false, Ordering::SeqCst);
    let unready = bench.until(&uid, "unreadiness", |status| !container_of(status, "app").ready).await;
    assert!(container_of(&unready, "app").started, "unready, not restarted");
    assert!(bench.has_event("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503"));
    healthy.store(true, Ordering::SeqCst);
    bench.until_ready(&uid).await;
    bench.sh(&status, "app", "rm /tmp/alive").await;
    let restarted =
        |status: &warren_proto::control::PodStatus| container_of(status, "app").restart_count == 1;
    bench.until(&uid, "a restart", restarted).await;
    bench.until_ready(&uid).await;
    assert!(bench.has_event("Unhealthy", "Liveness probe failed: cat: can't open '/tmp/alive'"));
    assert!(bench.has_event("Killing", "Container app failed liveness probe, will be restarted"));
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_ends_with_hook_signal_and_grace_and_leaves_nothing() {
    let mut bench = Bench::new("termination").await;
    let mut polite =
        container("polite", "trap 'echo terminated >>/out/log; exit 0' TERM; sleep 1000 & wait $!");
    polite.mounts = vec![mount("out", "/out")];
    let hook = ExecProbe { command: ["/bin/sh", "-c", "echo hook >>/out/log"].map(str::to_owned).into() };
    polite.pre_stop = Some(Hook { handler: Some(hook::Handler::Exec(hook)) });
    let stubborn = container("stubborn", "trap '' TERM; while :; do sleep 1; done");
    let mut wanted = pod(4, vec![polite, stubborn]);
    wanted.volumes = vec![
        volume("out", Source::HostPath(HostPath { path: "/out".into(), r#type: String::new() })),
        volume("fast", Source::EmptyDir(EmptyDir { memory: true, size_limit_bytes: 0 })),
    ];
    let uid = wanted.uid.clone();
    bench.want(wanted.clone());
    bench.until_ready(&uid).await;
    wanted.terminate_after_seconds = Some(3);
    let begun = Instant::now();
    bench.want(wanted);
    let ended = |status: &warren_proto::control::PodStatus| matches!(state(container_of(status, "polite")), Some(State::Terminated(ended)) if ended.exit_code == 0);
    bench.until(&uid, "the polite one's end", ended).await;
    bench.until(&uid, "the pod's end", |status| status.gone).await;
    assert!(begun.elapsed() >= Duration::from_secs(3), "the stubborn one had its grace");
    assert_eq!(std::fs::read_to_string(bench.dir.path().join("host/out/log")).unwrap(), "hook\nterminated\n");
    assert_eq!(containers_of(&bench.docker, &bench.node).await, Vec::<String>::new());
    assert!(bench.netd.links.lock().is_empty() && bench.netd.calls.lock().contains(&format!("detach {uid}")));
    assert!(!bench.dir.path().join("pods").join(&uid).exists());
    assert!(bench.has_event("Killing", "Stopping container polite"));
    // The controller takes it out of the feed; that changes nothing any more.
    bench.feed(|pods| pods.clear());
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_agent_adopts_what_runs_and_removes_what_is_unknown() {
    let mut bench = Bench::new("adoption").await;
    let mut app = container("app", STAY);
    let never_again = ExecProbe { command: vec!["/bin/test".into(), "-f".into(), "/tmp/ready".into()] };
    app.readiness = Some(Probe {
        handler: Some(probe::Handler::Exec(never_again)),
        // The next question comes long after the test: readiness after the restart must come from memory.
        period_seconds: 1,
        initial_delay_seconds: 0,
        timeout_seconds: 20,
        failure_threshold: 10_000,
        ..Probe::default()
    });
    let (kept, stray) = (pod(5, vec![app]), pod(6, vec![container("app", STAY)]));
    let (kept_uid, stray_uid) = (kept.uid.clone(), stray.uid.clone());
    bench.want(kept);
    bench.want(stray);
    let begun = bench.until(&kept_uid, "a start", waits_to_be_ready).await;
    bench.sh(&begun, "app", "touch /tmp/ready").await;
    let before = bench.until_ready(&kept_uid).await;
    bench.until_ready(&stray_uid).await;
    let mut running = containers_of(&bench.docker, &bench.node).await;
    // From now on the probe fails, and it would take 10,000 failures to be believed.
    bench.sh(&before, "app", "rm /tmp/ready").await;
    bench.stop_agent().await;
    bench.start_agent();
    let after = bench.until(&kept_uid, "the first status", |status| !status.uid.is_empty()).await;
    assert_eq!(after, before, "nothing is reported differently after a restart of the agent");
    let mut still = containers_of(&bench.docker, &bench.node).await;
    running.sort();
    still.sort();
    assert_eq!(still, running, "the same containers");

    bench.stop_agent().await;
    bench.start_agent();
    bench.feed(|pods| drop(pods.remove(&stray_uid)));
    bench.until(&stray_uid, "the orphan's end", |status| status.gone).await;
    assert_eq!(
        containers_of(&bench.docker, &bench.node).await.len(),
        2,
        "sandbox and app of the one that stays"
    );
    assert_eq!(bench.status(&kept_uid), before);
    bench.end().await;
}

fn waits_to_be_ready(status: &warren_proto::control::PodStatus) -> bool {
    status.containers.iter().any(|container| container.started && !container.ready)
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_followed_cut_and_kept() {
    let mut bench = Bench::new("logs").await;
    let line = "for i in 1 2 3 4 5; do echo line $i; done; echo wrong >&2; while ! test -f /out/go; do sleep 0.1; done; \
        echo last; exit 4";
    let mut app = container("app", line);
    app.mounts = vec![mount("out", "/out")];
    let mut wanted = pod(7, vec![app]);
    wanted.volumes =
        vec![volume("out", Source::HostPath(HostPath { path: "/out".into(), r#type: String::new() }))];
    let uid = wanted.uid.clone();
    bench.want(wanted);
    bench.until_ready(&uid).await;
    let begun = Instant::now();
    loop {
        let seen = bench.logs(&uid, "app", LogsRequest::default()).await.unwrap();
        if seen.contains("line 5\n") && seen.contains("wrong\n") {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{seen}");
    }
    let tail = LogsRequest { tail_lines: Some(2), ..LogsRequest::default() };
    assert_eq!(bench.logs(&uid, "app", tail).await.unwrap().lines().count(), 2);
    let limited = LogsRequest { limit_bytes: Some(9), ..LogsRequest::default() };
    assert_eq!(bench.logs(&uid, "app", limited).await.unwrap().len(), 9);
    let stamped = LogsRequest { timestamps: true, tail_lines: Some(1), ..LogsRequest::default() };
    let stamped = bench.logs(&uid, "app", stamped).await.unwrap();
    let stamp = stamped.split(' ').next().unwrap();
    assert!(stamp.parse::<jiff::Timestamp>().is_ok(), "{stamped}");
    let previous = LogsRequest { previous: true, ..LogsRequest::default() };
    assert!(
        bench
            .logs(&uid, "app", previous.clone())
            .await
            .unwrap_err()
            .contains("previous terminated container")
    );
    let follow = LogsRequest { follow: true, ..LogsRequest::default() };
    let (followed, ()) = tokio::join!(bench.logs(&uid, "app", follow), async {
        std::fs::write(bench.dir.path().join("host/out/go"), "").unwrap();
    });
    assert!(followed.unwrap().ends_with("last\n"), "the stream ends with the container");
    bench.until(&uid, "a restart", |status| container_of(status, "app").restart_count >= 1).await;
    let before = bench.logs(&uid, "app", previous).await.unwrap();
    // The container before may be the second already, which ends at once: the engine orders lines within an output,
    // not across standard output and error.
    assert!(
        before.contains("line 1\n") && before.contains("last\n") && before.contains("wrong\n"),
        "{before}"
    );
    assert!(bench.logs(&uid, "nobody", LogsRequest::default()).await.is_err());
    bench.end().await;
}
