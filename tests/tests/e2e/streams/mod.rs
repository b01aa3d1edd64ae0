//! Hands inside the pods: exec, attach, port-forward, cp, run and logs, by every kubectl at hand.

mod commands;
mod forward;
pub mod hands;
mod logs;
mod loss;
mod nat;

use std::{path::Path, time::Instant};

use warren_tests::{
    cluster::{Cluster, condition, kubectl_versions},
    eventually,
};

use hands::Hands;

pub use loss::slow_and_lost_clients_cost_nothing;
pub use nat::a_node_that_accepts_no_connection_serves_streams;

type Check = fn(&Hands<'_>) -> Result<(), String>;

const CHECKS: &[(&str, Check)] = &[
    ("exec: streams, exit code", commands::exec),
    ("exec -i: the input's end", commands::half_close),
    ("exec -it: terminal, resize", commands::terminal),
    ("exec: refusals, 126, 127", commands::refusals),
    ("exec: 64 MiB each way", commands::large_transfers),
    ("cp: file, both ways", commands::copy_file),
    ("cp: directory, both ways", commands::copy_directory),
    ("attach -i", commands::attach),
    ("attach -it", commands::attach_terminal),
    ("run -i --rm: exit code", commands::run_with_input),
    ("run -it --rm: terminal", commands::run_on_terminal),
    ("port-forward pod: page", forward::page),
    ("port-forward: four at once", forward::several),
    ("port-forward: half-close", forward::half_close),
    ("port-forward: no such port", forward::unknown_port),
    ("port-forward service", forward::service),
    ("port-forward deployment", forward::deployment),
    ("logs: tail, bytes, times", logs::parts),
    ("logs --since, --since-time", logs::since),
    ("logs -f", logs::follow),
    ("logs --previous", logs::previous),
    ("logs -l, --prefix", logs::selected),
    ("logs: which container", logs::which_container),
    ("debug: refused", commands::debug_is_refused),
];

pub fn every_kubectl_reaches_into_pods(cluster: &Cluster) {
    ready(cluster);
    let versions = kubectl_versions();
    let newest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/kubectl-sid/usr/bin/kubectl");
    assert!(newest.exists(), "the newest kubectl is missing: run deploy/prerequisites.sh --test");
    let mut failures = Vec::new();
    let mut table = format!("{:28}", "");
    for (version, _) in &versions {
        table += &format!(" {:>12}", version.split('-').next().unwrap_or(version));
    }
    for (name, check) in CHECKS {
        table += &format!("\n{name:28}");
        for (version, kubectl) in &versions {
            let (hands, begun) = (Hands::new(cluster, kubectl, version), Instant::now());
            match check(&hands) {
                Ok(()) => table += &format!(" {:>7.1} s ok", begun.elapsed().as_secs_f32()),
                Err(why) => {
                    table += &format!(" {:>12}", "FAILED");
                    failures.push(format!("{name} by {version}: {why}"));
                }
            }
        }
    }
    println!("\n{table}\n");
    remove(cluster);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The pods that are reached into.
fn ready(cluster: &Cluster) {
    cluster.apply(include_str!("../../../manifests/streams.yaml"));
    for pod in ["hands", "teller"] {
        eventually("the pod is ready", || {
            let pod = cluster.get(&["pod", pod]);
            let ready = condition(&pod, "Ready") == "True";
            if ready { Ok(()) } else { Err(pod["status"].to_string()) }
        });
    }
    cluster.rolled_out("deployment/forwarded");
}

fn remove(cluster: &Cluster) {
    let all = ["pod/hands", "pod/teller", "pod/visitor", "deployment/forwarded", "service/forwarded"];
    let _ = cluster.try_kubectl(&[&["delete", "--ignore-not-found", "--now"], &all[..]].concat());
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn expect(what: &str, fits: bool, seen: impl std::fmt::Debug) -> Result<(), String> {
    if fits { Ok(()) } else { Err(format!("{what}: {seen:?}")) }
}
