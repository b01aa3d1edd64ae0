//! End to end: one cluster, the scenarios one after the other, then every trace removed.
//!
//! A binary of its own (no libtest) because the cluster is shared and must be taken down at the end.

mod faults;
mod guestbook;
mod streams;
mod supervision;
mod traffic;
mod usage;

use std::sync::{Arc, Mutex};

use libtest_mimic::{Arguments, Failed, Trial};
use warren_tests::cluster::{Cluster, docker};

/// A scenario on the shared cluster.
pub type Scenario = fn(&Cluster);

const SCENARIOS: &[(&str, Scenario)] = &[
    ("demo_reaches_every_pod_on_every_node", usage::demo_reaches_every_pod_on_every_node),
    ("documentation_manifests_work_unmodified", usage::documentation_manifests_work_unmodified),
    ("kubectl_does_its_everyday_work", usage::kubectl_does_its_everyday_work),
    ("bad_input_is_refused_with_the_field_named", usage::bad_input_is_refused_with_the_field_named),
    ("logs_and_watches_follow", usage::logs_and_watches_follow),
    ("status_and_a_second_up_tell_the_truth", usage::status_and_a_second_up_tell_the_truth),
    ("every_process_serves_metrics_and_logs_json", usage::every_process_serves_metrics_and_logs_json),
    ("a_second_cluster_lives_beside_it", usage::a_second_cluster_lives_beside_it),
    (
        "names_lead_across_nodes_and_the_underlay_is_encrypted",
        traffic::names_lead_across_nodes_and_the_underlay_is_encrypted,
    ),
    ("every_kubectl_reaches_into_pods", streams::every_kubectl_reaches_into_pods),
    ("slow_and_lost_clients_cost_nothing", streams::slow_and_lost_clients_cost_nothing),
    (
        "a_node_that_accepts_no_connection_serves_streams",
        streams::a_node_that_accepts_no_connection_serves_streams,
    ),
    ("rollouts_and_scaling_lose_no_request", traffic::rollouts_and_scaling_lose_no_request),
    ("a_killed_container_is_restarted", faults::a_killed_container_is_restarted),
    ("the_data_plane_outlives_the_controller", faults::the_data_plane_outlives_the_controller),
    ("killed_netd_and_agent_cost_nothing", supervision::killed_netd_and_agent_cost_nothing),
    ("a_killed_gateway_refuses_nobody", supervision::a_killed_gateway_refuses_nobody),
    ("an_upgrade_in_place_loses_nothing", supervision::an_upgrade_in_place_loses_nothing),
    ("a_lost_node_is_replaced_and_rejoins", faults::a_lost_node_is_replaced_and_rejoins),
];

/// Scenarios that take minutes: `make test-full` runs them, too.
const LONG: &[(&str, Scenario)] = &[(
    "the_guestbook_survives_updates_and_lost_nodes",
    guestbook::the_guestbook_survives_updates_and_lost_nodes,
)];

/// The cluster's name and first port: `WARREN_E2E=NAME:PORT`, so that two runs can share a machine.
fn place() -> (String, u16) {
    let place = std::env::var("WARREN_E2E").unwrap_or_else(|_| "warren-e2e:17443".to_owned());
    let (name, port) = place.split_once(':').expect("WARREN_E2E is NAME:PORT");
    (name.to_owned(), port.parse().expect("WARREN_E2E is NAME:PORT"))
}

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    if arguments.list {
        libtest_mimic::run(&arguments, trials(&Arc::default())).exit();
    }
    let cluster: Arc<Mutex<Option<Cluster>>> = Arc::default();
    let conclusion = libtest_mimic::run(&arguments, trials(&cluster));
    // Taken down here, whatever happened before.
    drop(cluster.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take());
    if std::env::var_os("WARREN_KEEP").is_none() {
        assert_nothing_is_left();
    }
    conclusion.exit();
}

fn trials(cluster: &Arc<Mutex<Option<Cluster>>>) -> Vec<Trial> {
    let trial = |(name, scenario): &(&str, Scenario)| {
        let (cluster, scenario) = (Arc::clone(cluster), *scenario);
        Trial::test(*name, move || run(&cluster, scenario))
    };
    let long = LONG.iter().map(|scenario| trial(scenario).with_ignored_flag(true));
    SCENARIOS.iter().map(trial).chain(long).collect()
}

fn run(shared: &Mutex<Option<Cluster>>, scenario: Scenario) -> Result<(), Failed> {
    let mut guard = shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let cluster = guard.get_or_insert_with(start);
        scenario(cluster);
    }));
    if let Err(panic) = outcome {
        if let Some(cluster) = &*guard {
            cluster.describe();
        }
        let message = panic.downcast_ref::<String>().cloned();
        let message = message.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        return Err(message.unwrap_or_else(|| "panicked".to_owned()).into());
    }
    Ok(())
}

fn start() -> Cluster {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/images/build.sh");
    let built = std::process::Command::new(script).status().expect("the image script starts");
    assert!(built.success(), "{script} failed");
    let (name, port) = place();
    Cluster::up(&name, 3, port)
}

fn assert_nothing_is_left() {
    let (name, _) = place();
    let filter = format!("label=warren.cluster={name}");
    let containers = docker(&["ps", "-aq", "--filter", &filter]);
    let networks = docker(&["network", "ls", "-q", "--filter", &filter]);
    assert!(containers.is_empty() && networks.is_empty(), "warren down left {containers} {networks}");
    assert!(
        !std::path::Path::new("/var/lib/warren").join(name).exists(),
        "warren down left the state directory"
    );
}
