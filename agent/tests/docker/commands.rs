//! Commands that the agent runs in containers, and what is left of them.

use std::time::{Duration, Instant};

use warren_agent::runtime::{ContainerEngine, EngineError};
use warren_proto::control::{
    ExecProbe, Hook, LogsRequest, PodStatus, Probe, container_state::State, hook, probe,
};

use crate::bench::{Bench, STAY, container, container_id, container_of, pod};

fn line(line: &str) -> ExecProbe {
    ExecProbe { command: ["/bin/sh", "-c", line].map(str::to_owned).into() }
}

impl Bench {
    /// Command lines of all that runs in a container.
    async fn processes(&self, status: &PodStatus, container: &str) -> Vec<String> {
        let id = container_id(container_of(status, container));
        let top = self.docker.top_processes(&id, None).await.unwrap();
        top.processes
            .unwrap_or_default()
            .into_iter()
            .map(|words| words.last().cloned().unwrap_or_default())
            .collect()
    }

    async fn until_gone(&self, status: &PodStatus, container: &str, command: &str) {
        let begun = Instant::now();
        loop {
            let all = self.processes(status, container).await;
            if !all.iter().any(|line| line.contains(command)) {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{command} runs on: {all:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_takes_too_long_is_killed_with_all_it_started() {
    let mut bench = Bench::new("timeouts").await;
    let wanted = pod(1, vec![container("app", STAY)]);
    let uid = wanted.uid.clone();
    bench.want(wanted);
    let status = bench.until_ready(&uid).await;
    let id = container_id(container_of(&status, "app"));
    let before = bench.processes(&status, "app").await.len();
    let run = async |line: &str, seconds: u64| {
        let command = ["/bin/sh", "-c", line].map(str::to_owned);
        bench.driver.engine().exec(&id, &command, Duration::from_secs(seconds)).await
    };
    // Itself, its children, those that left its session, and one that ignores what can be ignored.
    for line in [
        "exec sleep 5555",
        "sleep 5555; true",
        "busybox setsid sleep 5555 & sleep 5555",
        "(sleep 5555 & (sleep 5555 & sleep 5555)); wait",
        "trap '' TERM HUP INT; sleep 5555; sleep 5555",
        "yes | busybox grep -v y; sleep 5555",
    ] {
        let ended =
            run(&line.replace("busybox ", "/bin/busybox ").replace("yes", "/bin/busybox yes"), 1).await;
        assert_eq!(ended, Err(EngineError::TimedOut { call: "exec", seconds: 1 }), "{line}");
        bench.until_gone(&status, "app", "5555").await;
        assert_eq!(bench.processes(&status, "app").await.len(), before, "{line}");
    }
    // What ends in time may leave something behind, as a hook that starts a server does, though it holds the output.
    let ended = run("echo done; sleep 4444 & exit 3", 30).await.unwrap();
    assert_eq!((ended.code, ended.output.as_str()), (3, "done\n"));
    assert!(bench.processes(&status, "app").await.iter().any(|line| line.contains("4444")));
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_and_hooks_leave_no_process_behind() {
    let mut bench = Bench::new("leak").await;
    let mut app = container("app", STAY);
    app.readiness = Some(Probe {
        handler: Some(probe::Handler::Exec(line("sleep 5555; true"))),
        period_seconds: 1,
        timeout_seconds: 1,
        failure_threshold: 1,
        ..Probe::default()
    });
    let mut hooked = container("hooked", "trap '' TERM; while :; do sleep 0.2; done");
    hooked.pre_stop =
        Some(Hook { handler: Some(hook::Handler::Exec(line("touch /tmp/begun; sleep 6666; true"))) });
    hooked.liveness = Some(Probe {
        handler: Some(probe::Handler::Exec(line("! test -f /tmp/ill"))),
        period_seconds: 1,
        timeout_seconds: 20,
        failure_threshold: 1,
        // Three seconds for the hook, then the rest.
        grace_seconds: Some(3),
        ..Probe::default()
    });
    let mut wanted = pod(2, vec![app, hooked]);
    wanted.grace_seconds = Some(600);
    let uid = wanted.uid.clone();
    bench.want(wanted);
    let both_run = |status: &PodStatus| status.containers.iter().filter(|c| c.started).count() == 2;
    let status = bench.until(&uid, "a start", both_run).await;
    let mut seen = 0;
    // Several periods; never more than the one that is asked now: a shell and its child.
    for _ in 0..40 {
        let probes =
            bench.processes(&status, "app").await.iter().filter(|line| line.contains("5555")).count();
        assert!(probes <= 2, "{probes} processes of a probe");
        seen = seen.max(probes);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(seen > 0 && bench.has_event("Unhealthy", "timed out after 1 s"));

    let begun = Instant::now();
    bench.sh(&status, "hooked", "touch /tmp/ill").await;
    let restarted = |status: &PodStatus| container_of(status, "hooked").restart_count == 1;
    let after = bench.until(&uid, "a restart within the probe's grace", restarted).await;
    assert!(begun.elapsed() < Duration::from_secs(60), "the pod's grace of 600 s was taken");
    let last = container_of(&after, "hooked").last_state.clone().and_then(|state| state.state);
    assert!(matches!(last, Some(State::Terminated(ended)) if ended.exit_code == 137), "{after:#?}");
    assert!(bench.has_event("FailedPreStopHook", ""));
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_with_a_host_sees_the_pods_network_and_not_the_nodes() {
    let mut bench = Bench::new("hosts").await;
    // Something of the node that only the node may reach.
    let node = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = u32::from(node.local_addr().unwrap().port());
    let tcp = warren_proto::control::TcpProbe { port, host: "127.0.0.1".into() };
    let mut app = container("app", STAY);
    app.readiness = Some(Probe {
        handler: Some(probe::Handler::Tcp(tcp)),
        period_seconds: 1,
        timeout_seconds: 20,
        failure_threshold: 1,
        ..Probe::default()
    });
    let wanted = pod(3, vec![app]);
    let uid = wanted.uid.clone();
    bench.want(wanted);
    bench.until(&uid, "a start", |status| status.containers.iter().any(|c| c.started)).await;
    let begun = Instant::now();
    while !bench.has_event("Unhealthy", "Connection refused") {
        assert!(begun.elapsed() < Duration::from_secs(60), "{:#?}", bench.driver.outbox().pending_events());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    node.set_nonblocking(true).unwrap();
    assert_eq!(node.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    bench.end().await;
}

/// 5, 40,000 and 4 characters; the other output speaks in the middle of the long line.
const LONG_LINE: &str = "echo 55555; x=aaaaaaaaaa; for i in 1 2 3; do x=$x$x$x$x$x$x$x$x$x$x; done; \
    x=$x$x$x$x; printf $x; /bin/busybox sleep 1; echo wrong >&2; echo; echo 4444;";

#[tokio::test(flavor = "multi_thread")]
async fn a_long_line_is_one_line() {
    let mut bench = Bench::new("lines").await;
    let plain = container("plain", &format!("{LONG_LINE} {STAY}"));
    let mut terminal = container("terminal", &format!("{LONG_LINE} {STAY}"));
    terminal.tty = true;
    let wanted = pod(4, vec![plain, terminal]);
    let uid = wanted.uid.clone();
    bench.want(wanted);
    bench.until_ready(&uid).await;
    let long = "a".repeat(40_000);
    for name in ["plain", "terminal"] {
        let begun = Instant::now();
        let all = loop {
            let all = bench.logs(&uid, name, LogsRequest::default()).await.unwrap();
            // The engine reads the two outputs side by side: either may be the last to arrive.
            if ["4444", "wrong"].iter().all(|word| all.contains(word)) {
                break all;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{} bytes", all.len());
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let words =
            |text: &str| text.lines().map(|line| line.trim_end_matches('\r').to_owned()).collect::<Vec<_>>();
        let all = words(&all);
        let long = if name == "terminal" { format!("{long}wrong") } else { long.clone() };
        assert!(all.contains(&long) && all.first().is_some_and(|first| first == "55555"), "{name}");
        for tail in 0..=all.len() + 1 {
            let request =
                LogsRequest { tail_lines: Some(tail as i64), timestamps: true, ..LogsRequest::default() };
            let shown = words(&bench.logs(&uid, name, request).await.unwrap());
            let untimed: Vec<String> =
                shown.iter().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect();
            assert!(
                shown.iter().all(|line| line.split(' ').next().unwrap().parse::<jiff::Timestamp>().is_ok())
            );
            assert_eq!(untimed.len(), tail.min(all.len()), "{name} {tail}");
            let first = all.len().saturating_sub(tail);
            assert!(untimed == all[first..], "{name} {tail}: not the last lines");
        }
        let since = LogsRequest {
            since_time: "2001-01-01T00:00:00Z".into(),
            tail_lines: Some(2),
            ..LogsRequest::default()
        };
        assert_eq!(words(&bench.logs(&uid, name, since).await.unwrap()).len(), 2);
        let later = LogsRequest { since_time: "2100-01-01T00:00:00Z".into(), ..LogsRequest::default() };
        assert_eq!(bench.logs(&uid, name, later).await.unwrap(), "");
        let limited = LogsRequest { limit_bytes: Some(30_000), ..LogsRequest::default() };
        assert_eq!(bench.logs(&uid, name, limited).await.unwrap().len(), 30_000);
    }
    bench.end().await;
}
