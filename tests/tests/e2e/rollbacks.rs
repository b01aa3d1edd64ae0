//! Rollouts that are broken, under load: what was there goes on serving, and returns by itself.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use serde_json::Value;
use warren_tests::{
    cluster::{Cluster, condition},
    eventually,
    load::{Load, Report},
};

use crate::usage::gateway;

const NAMESPACE: [&str; 2] = ["-n", "steady"];
const DEPLOYMENT: &str = "deployment/steady";
const PATH: &str = "/steady";
/// As many as the manifest says; none of them may be missing.
const REPLICAS: usize = 4;
/// What the broken application says when it answers.
const OWN_WORDS: &str = "said on purpose";
/// A missing image is borne for a minute, and an engine may take as long to miss it.
const UNTIL_TAKEN_BACK: Duration = Duration::from_secs(240);
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

/// A way to break a rollout.
struct Breakage {
    what: &'static str,
    /// What kubectl is told.
    change: &'static [&'static str],
    /// Any of these is the reason of the condition.
    reasons: &'static [&'static str],
    /// Whether the application itself answers requests with errors.
    answers: bool,
}

const CRASHES: &str = r#"[{"op": "replace", "path": "/spec/template/spec/containers/0/command",
    "value": ["sh", "-c", "sleep 1; exit 7"]}]"#;
const NEVER_READY: &str = r#"[{"op": "replace", "path": "/spec/progressDeadlineSeconds", "value": 30},
    {"op": "replace", "path": "/spec/template/spec/containers/0/readinessProbe/httpGet/port", "value": 81}]"#;
const PATIENT_AGAIN: &str = r#"[{"op": "replace", "path": "/spec/progressDeadlineSeconds", "value": 600}]"#;

const BREAKAGES: [Breakage; 4] = [
    Breakage {
        what: "a command that crashes",
        change: &["patch", DEPLOYMENT, "--type=json", "-p", CRASHES],
        reasons: &["CrashLoopBackOff"],
        answers: false,
    },
    Breakage {
        what: "an image that is missing",
        change: &["set", "image", DEPLOYMENT, "web=nginx:no-such-version"],
        reasons: &["ErrImagePull", "ImagePullBackOff"],
        answers: false,
    },
    Breakage {
        what: "a readiness that fails",
        change: &["patch", DEPLOYMENT, "--type=json", "-p", NEVER_READY],
        reasons: &["ProgressDeadlineExceeded"],
        answers: false,
    },
    Breakage {
        what: "an application that answers 500",
        change: &["set", "env", DEPLOYMENT, "STATUS=500"],
        reasons: &["ErrorRateRegressed"],
        answers: true,
    },
];

fn kubectl(cluster: &Cluster, arguments: &[&str]) -> String {
    cluster.kubectl(&[&NAMESPACE[..], arguments].concat())
}

fn deployment(cluster: &Cluster) -> Value {
    cluster.get(&[&NAMESPACE[..], &[DEPLOYMENT]].concat())
}

fn pods(cluster: &Cluster) -> Vec<Value> {
    cluster.items(&[&NAMESPACE[..], &["pods", "-l", "app=steady"]].concat())
}

/// The pods that a rollout may rely on.
fn available(cluster: &Cluster) -> usize {
    let counts =
        |pod: &&Value| condition(pod, "Ready") == "True" && pod["metadata"]["deletionTimestamp"].is_null();
    pods(cluster).iter().filter(counts).count()
}

/// Waits until the wanted pods are there and no others.
fn settled(cluster: &Cluster) {
    kubectl(cluster, &["rollout", "status", DEPLOYMENT, "--timeout=180s"]);
    eventually("the deployment has settled", || match (available(cluster), pods(cluster).len()) {
        (REPLICAS, REPLICAS) => Ok(()),
        (available, all) => Err(format!("{available} of {all} pods are available")),
    });
}

/// Looks at the pods again and again while something is done; the fewest that were available, and how often it looked.
fn fewest_available(cluster: &Cluster, doing: impl FnOnce()) -> (usize, usize) {
    /// Ends the looking however the rest ends.
    struct Done<'d>(&'d AtomicBool);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            cluster.machines.enter();
            let (mut fewest, mut looks) = (usize::MAX, 0);
            while !done.load(Ordering::Relaxed) {
                fewest = fewest.min(available(cluster));
                looks += 1;
                std::thread::sleep(BETWEEN_LOOKS);
            }
            (fewest, looks)
        });
        let finished = Done(&done);
        doing();
        drop(finished);
        looking.join().expect("looking at pods does not panic")
    })
}

/// Waits until the deployment has its former template again, and says for which of these reasons.
fn taken_back(cluster: &Cluster, breakage: &Breakage, template: &Value) -> String {
    let started = Instant::now();
    loop {
        let deployment = deployment(cluster);
        let conditions = deployment["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let said = conditions.into_iter().find(|condition| condition["type"] == "RolledBack");
        if let Some(said) = said.filter(|_| deployment["spec"]["template"] == *template) {
            let (reason, message) = (said["reason"].as_str(), said["message"].as_str());
            let (reason, message) = (reason.unwrap_or_default(), message.unwrap_or_default());
            assert!(breakage.reasons.contains(&reason), "{}: {reason}: {message}", breakage.what);
            return message.to_owned();
        }
        assert!(
            started.elapsed() < UNTIL_TAKEN_BACK,
            "{}: not taken back within {UNTIL_TAKEN_BACK:?}: {}",
            breakage.what,
            deployment["status"]
        );
        std::thread::sleep(BETWEEN_LOOKS);
    }
}

/// An event of the deployment says the same as its condition.
fn told(cluster: &Cluster, message: &str) {
    eventually("an event tells of the rollback", || {
        let events = cluster.items(&[&NAMESPACE[..], &["events"]].concat());
        let rollbacks: Vec<_> = events.iter().filter(|event| event["reason"] == "RolledBack").collect();
        let tells = |event: &&&Value| event["type"] == "Warning" && event["message"] == message;
        if rollbacks.iter().any(|event| tells(&event)) { Ok(()) } else { Err(format!("{rollbacks:?}")) }
    });
}

pub fn broken_rollouts_return_by_themselves(cluster: &Cluster) {
    cluster.nodes_ready(3);
    cluster.apply(include_str!("../../manifests/steady.yaml"));
    settled(cluster);
    let template = deployment(cluster)["spec"]["template"].clone();
    eventually("the gateway leads there", || {
        let load = Load::start(gateway(cluster), PATH, 1);
        load.more(1);
        let Report { failures, .. } = load.stop();
        failures.first().map_or(Ok(()), |(_, failure)| Err(failure.clone()))
    });
    for breakage in &BREAKAGES {
        breaks(cluster, breakage, &template);
    }
    kubectl(cluster, &["delete", "namespace", "steady", "--timeout=120s"]);
}

fn breaks(cluster: &Cluster, breakage: &Breakage, template: &Value) {
    let what = breakage.what;
    let load = Load::start(gateway(cluster), PATH, 4);
    load.more(200);
    let before = load.report();
    assert!(before.failures.is_empty(), "{what}: before anything is broken: {:?}", before.failures.first());
    let started = Instant::now();
    let mut caught = (Duration::ZERO, String::new());
    let (fewest, looks) = fewest_available(cluster, || {
        kubectl(cluster, breakage.change);
        let message = taken_back(cluster, breakage, template);
        caught = (started.elapsed(), message);
        settled(cluster);
    });
    let back = Instant::now();
    // Nothing of it is left: neither answers, nor another try.
    load.more(300);
    let report = load.stop();
    let (after, message) = caught;
    let (own, others): (Vec<_>, Vec<_>) =
        report.failures.iter().partition(|(_, failure)| breakage.answers && is_own(failure));
    println!(
        "{what}: taken back after {:.1} s; at least {fewest} of {REPLICAS} pods available in {looks} looks; {} requests, {} \
         answered with an error by the application itself, {} failed otherwise\n  {message}",
        after.as_secs_f64(),
        report.requests,
        own.len(),
        others.len()
    );
    assert!(looks > 10, "{what}: only {looks} looks");
    assert!(fewest >= REPLICAS, "{what}: only {fewest} of {REPLICAS} pods were available at some time");
    assert!(others.is_empty(), "{what}: {} requests failed; the first: {}", others.len(), others[0].1);
    let late = own.iter().find(|(at, _)| *at > back);
    assert!(late.is_none(), "{what}: the application that was taken back answered: {late:?}");
    assert_eq!(own.is_empty(), !breakage.answers, "{what}: it is to be seen that the application answered");
    told(cluster, &message);
    let deployment = deployment(cluster);
    assert_eq!(deployment["spec"]["template"], *template, "{what}: what came back stays");
    kubectl(cluster, &["patch", DEPLOYMENT, "--type=json", "-p", PATIENT_AGAIN]);
}

/// Whether a failure is the broken application's own answer, as the gateway passed it on.
fn is_own(failure: &str) -> bool {
    failure.starts_with("status 500") && failure.ends_with(OWN_WORDS)
}
