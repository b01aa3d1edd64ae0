//! Paths that a pod can change, and files that the agent gives it.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use warren_proto::control::{
    Container, EmptyDir, HostAlias, HostPath, LogsRequest, Mount, PodInstruction, PodStatus, RestartPolicy,
    SecurityContext, Volume, container_state::State, volume::Source,
};

use crate::bench::{Bench, STAY, container, container_id, container_of, pod, state, waits_for};

fn volume(name: &str, source: Source) -> Volume {
    Volume { name: name.into(), source: Some(source) }
}

fn empty_dir(name: &str) -> Volume {
    volume(name, Source::EmptyDir(EmptyDir::default()))
}

fn part(volume: &str, path: &str, sub_path: &str) -> Mount {
    Mount { volume: volume.into(), path: path.into(), sub_path: sub_path.into(), read_only: false }
}

fn with(mut container: Container, mounts: Vec<Mount>) -> Container {
    container.mounts = mounts;
    container
}

fn ended(status: &PodStatus, name: &str) -> Option<warren_proto::control::Terminated> {
    match state(container_of(status, name)) {
        Some(State::Terminated(ended)) => Some(ended.clone()),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_volumes_are_mounted_and_outlive_restarts() {
    let mut bench = Bench::new("parts").await;
    let maker = "echo made >/data/file; /bin/busybox mkdir /host/dir; echo host >/host/dir/file";
    let mut app = with(
        container("app", STAY),
        vec![
            part("data", "/part", "deep/er"),
            part("data", "/file", "file"),
            part("host", "/dir", "dir"),
            part("fast", "/fast", "cache/hot"),
            part("fast", "/tmp", ""),
            part("data", "/whole", ""),
        ],
    );
    app.security = Some(SecurityContext { run_as_user: Some(1000), ..SecurityContext::default() });
    let mut wanted = pod(11, vec![app]);
    wanted.init_containers =
        vec![with(container("maker", maker), vec![part("data", "/data", ""), part("host", "/host", "")])];
    wanted.volumes = vec![
        empty_dir("data"),
        volume("fast", Source::EmptyDir(EmptyDir { memory: true, size_limit_bytes: 1 << 20 })),
        volume(
            "host",
            Source::HostPath(HostPath { path: "/srv".into(), r#type: "DirectoryOrCreate".into() }),
        ),
    ];
    let uid = wanted.uid.clone();
    bench.want(wanted);
    let status = bench.until_ready(&uid).await;
    let look = "cat /file /dir/file; stat -c %a /part /fast /tmp /whole; echo x >/part/x; echo y >/fast/y; cat \
        /whole/deep/er/x /tmp/cache/hot/y";
    let seen = bench.sh(&status, "app", look).await;
    assert_eq!(seen, "made\nhost\n777\n777\n1777\n777\nx\ny\n");
    // The image has /tmp of its own; the volume is as empty and as large as it was asked for.
    let size =
        bench.sh(&status, "app", "/bin/busybox df -k /tmp /fast | /bin/busybox awk '{print $2}'").await;
    assert_eq!(size, "1K-blocks\n1024\n1024\n");
    let left = || std::fs::read_dir(bench.dir.path().join("mounts")).map(Iterator::count).unwrap_or_default();
    assert_eq!(left(), 0, "nothing stays mounted for a container that runs");

    // The agent restarts it; another agent, too.
    for (count, agent) in [(1, false), (2, true)] {
        if agent {
            bench.stop_agent().await;
            bench.start_agent();
        }
        let status = bench.until_ready(&uid).await;
        bench.kill(&container_id(container_of(&status, "app"))).await;
        let again = |status: &PodStatus| {
            let app = container_of(status, "app");
            app.restart_count == count && app.ready
        };
        let status = bench.until(&uid, "a restart", again).await;
        assert_eq!(
            bench.sh(&status, "app", "cat /part/x /fast/y /file /dir/file").await,
            "x\ny\nmade\nhost\n"
        );
    }
    bench.end().await;
}

/// A pod whose init container makes `x` in an emptyDir a link, and whose container mounts the part `sub_path`.
fn attacker(n: u8, target: &str, sub_path: &str) -> PodInstruction {
    let line = format!("/bin/busybox ln -s {target} /data/x");
    let mut wanted = pod(n, vec![with(container("app", STAY), vec![part("data", "/m", sub_path)])]);
    wanted.init_containers = vec![with(container("link", &line), vec![part("data", "/data", "")])];
    wanted.volumes = vec![empty_dir("data")];
    wanted
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_in_a_volume_opens_nothing_and_makes_nothing() {
    let mut bench = Bench::new("links").await;
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().to_str().unwrap();
    let all = [
        attacker(21, target, "x"),
        attacker(22, target, "x/made/by/root"),
        attacker(23, &format!("../../../../../../../../../../..{target}"), "x"),
        attacker(24, &format!("/proc/1/root{target}"), "x"),
    ];
    let uids = all.each_ref().map(|pod| pod.uid.clone());
    for pod in all {
        bench.want(pod);
    }
    // A hostPath below the node's prefix, in which an earlier pod left a link.
    std::fs::create_dir_all(bench.dir.path().join("host")).unwrap();
    std::os::unix::fs::symlink(outside.path(), bench.dir.path().join("host/out")).unwrap();
    let mut host = pod(25, vec![with(container("app", STAY), vec![part("host", "/m", "")])]);
    let source = HostPath { path: "/out/made".into(), r#type: "DirectoryOrCreate".into() };
    host.volumes = vec![volume("host", Source::HostPath(source))];
    let host_uid = host.uid.clone();
    bench.want(host);
    for uid in &uids {
        let refused = |status: &PodStatus| waits_for(status, "app") == "CreateContainerConfigError";
        let status = bench.until(uid, "a refusal", refused).await;
        let Some(State::Waiting(waiting)) = state(container_of(&status, "app")) else {
            panic!("{status:#?}")
        };
        assert!(waiting.message.contains("leads out of the volume"), "{}", waiting.message);
    }
    let refused = bench.until(&host_uid, "a refusal", |status| status.reason == "FailedMount").await;
    assert!(refused.message.contains("leads out of"), "{}", refused.message);
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0, "nothing was made outside");
    bench.end().await;
}

/// The attack of the review: `x`, a directory, and a link that leads out are exchanged all the time, while containers
/// that mount `x` are started. Not one may see what is outside. The exchanging is done from here, on the same file
/// system: faster than a container could. (The link leads to a directory of the test, not to `/`: should this ever
/// fail, whatever cleans up must not find the machine.)
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute"]
async fn names_that_are_exchanged_all_the_time_open_nothing() {
    const CONTAINERS: usize = 8;
    let mut bench = Bench::new("exchange").await;
    let (mut inside, mut number) = (0, 0);
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("treasure"), "gold").unwrap();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(60) {
        let look = "if test -e /m/treasure; then echo OUTSIDE; else echo inside; fi";
        let name = |index: usize| format!("app-{index}");
        let app = |index| with(container(&name(index), look), vec![part("data", "/m", "x")]);
        number += 1;
        let mut wanted = pod(number, (0..CONTAINERS).map(app).collect());
        wanted.volumes = vec![empty_dir("data")];
        wanted.restart_policy = RestartPolicy::Never.into();
        let uid = wanted.uid.clone();
        let data = bench.dir.path().join("pods").join(&uid).join("volumes/data");
        bench.want(wanted.clone());
        let stop = Arc::new(AtomicBool::new(false));
        let exchanging = std::thread::spawn({
            let (stop, outside) = (Arc::clone(&stop), outside.path().to_owned());
            move || exchange(&data, &outside, &stop)
        });
        // Long enough for most to be made, refused, and tried again.
        let all_ended = async {
            loop {
                let status = bench.status(&uid);
                let ended = |index| ended(&status, &name(index)).is_some();
                if !status.containers.is_empty() && (0..CONTAINERS).all(ended) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(10), all_ended).await;
        stop.store(true, Ordering::Relaxed);
        exchanging.join().unwrap();
        for index in 0..CONTAINERS {
            if ended(&bench.status(&uid), &name(index)).is_some() {
                let log = bench.logs(&uid, &name(index), LogsRequest::default()).await.unwrap_or_default();
                assert!(!log.contains("OUTSIDE"), "{} of pod {number} saw what is outside", name(index));
                inside += usize::from(log.contains("inside"));
            }
        }
        wanted.terminate_after_seconds = Some(0);
        bench.want(wanted);
        bench.until(&uid, "the pod's end", |status| status.gone).await;
        bench.feed(|pods| drop(pods.remove(&uid)));
    }
    assert!(inside > 0, "not one container was started: nothing was tried");
    bench.end().await;
}

fn exchange(data: &Path, outside: &Path, stop: &AtomicBool) {
    while !data.exists() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        std::thread::yield_now();
    }
    let base = std::fs::File::open(data).unwrap();
    std::fs::create_dir_all(data.join("x")).unwrap();
    std::os::unix::fs::symlink(outside, data.join("y")).unwrap();
    while !stop.load(Ordering::Relaxed) {
        rustix::fs::renameat_with(&base, "x", &base, "y", rustix::fs::RenameFlags::EXCHANGE).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_tell_why_they_end() {
    let mut bench = Bench::new("last-words").await;
    let told = |name: &str, path: &str, line: &str, user: i64| {
        let mut container = container(name, line);
        container.termination_message_path = path.into();
        container.security = Some(SecurityContext { run_as_user: Some(user), ..SecurityContext::default() });
        container
    };
    let usual = "/dev/termination-log";
    let long = "i=0; while test $i -lt 2000; do echo $i-abcdefg; i=$((i+1)); done";
    let mut from_log = told("from-log", usual, "for i in 1 2 3; do echo line $i; done; exit 3", 1000);
    from_log.termination_message_from_log = true;
    let mut well = told("well", usual, "echo all is well", 0);
    well.termination_message_from_log = true;
    let mut wanted = pod(
        31,
        vec![
            told("root", usual, &format!("echo because root >{usual}; exit 1"), 0),
            told("user", usual, &format!("echo because user >{usual}"), 1000),
            told("custom", "/tmp/why", "echo because custom >/tmp/why; exit 2", 1000),
            told("long", usual, &format!("{{ {long}; }} >{usual}"), 1000),
            told("linked", "/tmp/why", "rm -f /tmp/why; /bin/busybox ln -sf /etc/passwd /tmp/why; exit 5", 0),
            from_log,
            well,
        ],
    );
    wanted.restart_policy = RestartPolicy::Never.into();
    let uid = wanted.uid.clone();
    let names: Vec<String> = wanted.containers.iter().map(|container| container.name.clone()).collect();
    bench.want(wanted);
    // End and reason come together: whoever sees the one sees the other.
    let expected = [
        ("root", "because root\n"),
        ("user", "because user\n"),
        ("custom", "because custom\n"),
        ("linked", ""),
        ("from-log", "line 1\nline 2\nline 3\n"),
        ("well", ""),
    ];
    let done = |status: &PodStatus| {
        if status.containers.is_empty() {
            return false;
        }
        for (name, message) in expected {
            if let Some(ended) = ended(status, name) {
                assert_eq!(ended.message, message, "{name}: {ended:?}");
            }
        }
        names.iter().all(|name| ended(status, name).is_some())
    };
    let status = bench.until(&uid, "the end of all", done).await;
    let long = ended(&status, "long").unwrap().message;
    assert_eq!(long.len(), 12 * 1024 / names.len(), "its share of what the pod may say: {long}");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_finds_itself_by_its_full_name() {
    let mut bench = Bench::new("names").await;
    let mut own = container("own", STAY);
    own.mounts = vec![part("data", "/etc/hosts", "hosts")];
    let mut wanted = pod(32, vec![container("app", STAY), own]);
    wanted.fully_qualified_name = "pod-32.cluster.default.svc.cluster.local".into();
    wanted.host_aliases = vec![HostAlias { ip: "1.2.3.4".into(), hostnames: vec!["a".into(), "b".into()] }];
    let mut maker = container("maker", "echo mine >/data/hosts");
    maker.mounts = vec![part("data", "/data", "")];
    wanted.init_containers = vec![maker];
    wanted.volumes = vec![empty_dir("data")];
    let uid = wanted.uid.clone();
    bench.want(wanted);
    let status = bench.until_ready(&uid).await;
    assert_eq!(
        bench.sh(&status, "app", "hostname; /bin/busybox hostname -f").await,
        "pod-32\npod-32.cluster.default.svc.cluster.local\n"
    );
    let hosts = bench.sh(&status, "app", "cat /etc/hosts").await;
    assert!(hosts.starts_with("# Kubernetes-managed hosts file.\n"), "{hosts}");
    assert!(hosts.contains("\n10.42.1.32\tpod-32.cluster.default.svc.cluster.local\tpod-32\n"), "{hosts}");
    assert!(hosts.contains("\n1.2.3.4\ta\tb\n"), "{hosts}");
    assert_eq!(bench.sh(&status, "own", "cat /etc/hosts").await, "mine\n", "a container's own file wins");
    bench.end().await;
}

fn files_below(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => files_below(&entry.path()),
            Ok(kind) if kind.is_file() => vec![entry.path()],
            _ => Vec::new(),
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_in_a_command_that_cannot_start_is_not_repeated() {
    let mut bench = Bench::new("secrecy").await;
    let mut app = container("app", "");
    // What the controller makes of `command: ["$(PASSWORD)"]`.
    app.command = vec!["hunter2-of-the-secret".into()];
    app.env = vec![warren_proto::control::EnvVar {
        name: "PASSWORD".into(),
        value: "hunter2-of-the-secret".into(),
    }];
    (app.holds_secrets, app.words_hold_secrets) = (true, true);
    app.secret_variables = vec!["PASSWORD".into()];
    let wanted = pod(33, vec![app]);
    let uid = wanted.uid.clone();
    bench.want(wanted);
    let failed = |status: &PodStatus| waits_for(status, "app") == "CrashLoopBackOff";
    let status = bench.until(&uid, "a back-off", failed).await;
    let Some(State::Terminated(ended)) =
        container_of(&status, "app").last_state.clone().and_then(|s| s.state)
    else {
        panic!("{status:#?}")
    };
    assert_eq!(ended.reason, "StartError");
    assert!(!format!("{status:?}").contains("hunter2"), "{status:#?}");
    let events = format!("{:?}", bench.driver.outbox().pending_events());
    assert!(events.contains("withheld") && !events.contains("hunter2"), "{events}");
    // Nor is it in anything that the agent keeps.
    bench.stop_agent().await;
    let kept = files_below(bench.dir.path());
    assert!(kept.iter().any(|file| file.ends_with("agent.json")), "{kept:?}");
    for file in kept {
        let content = std::fs::read(&file).unwrap();
        assert!(!String::from_utf8_lossy(&content).contains("hunter2"), "{file:?}");
    }
    bench.start_agent();
    bench.end().await;
}
