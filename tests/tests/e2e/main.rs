//! End to end: the same scenarios on a cluster of containers by `warren up` and on one of plain processes, one
//! after the other; then every trace is removed.
//!
//! A binary of its own (no libtest) because each cluster is shared and must be taken down at the end.

mod accounts;
mod autoscaling;
mod charts;
mod clocks;
mod draining;
mod engines;
mod faults;
mod firewall;
mod guestbook;
mod hostile;
mod joining;
mod kubectl;
mod releases;
mod rollbacks;
mod schemas;
mod secrets;
mod state;
mod streams;
mod supervision;
mod traffic;
mod usage;

use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::{Arguments, Failed, Trial};
use warren_tests::{bare::Bare, cluster::Cluster};

/// A scenario on the shared cluster.
pub type Scenario = fn(&Cluster);

const SCENARIOS: &[(&str, Scenario)] = &[
    ("demo_reaches_every_pod_on_every_node", usage::demo_reaches_every_pod_on_every_node),
    ("documentation_manifests_work_unmodified", usage::documentation_manifests_work_unmodified),
    ("kubectl_does_its_everyday_work", usage::kubectl_does_its_everyday_work),
    ("bad_input_is_refused_with_the_field_named", usage::bad_input_is_refused_with_the_field_named),
    (
        "every_kubectl_explains_and_patches_by_the_schemas",
        schemas::every_kubectl_explains_and_patches_by_the_schemas,
    ),
    ("logs_and_watches_follow", usage::logs_and_watches_follow),
    ("a_pod_hears_why_it_is_where_it_is", usage::a_pod_hears_why_it_is_where_it_is),
    ("status_and_a_second_up_tell_the_truth", usage::status_and_a_second_up_tell_the_truth),
    ("every_process_serves_metrics_and_logs_json", usage::every_process_serves_metrics_and_logs_json),
    ("a_second_cluster_lives_beside_it", usage::a_second_cluster_lives_beside_it),
    (
        "names_lead_across_nodes_and_the_underlay_is_encrypted",
        traffic::names_lead_across_nodes_and_the_underlay_is_encrypted,
    ),
    ("every_kubectl_reaches_into_pods", streams::every_kubectl_reaches_into_pods),
    ("slow_and_lost_clients_cost_nothing", streams::slow_and_lost_clients_cost_nothing),
    ("every_kubectl_does_every_command", kubectl::every_kubectl_does_every_command),
    (
        "a_node_that_accepts_no_connection_serves_streams",
        streams::a_node_that_accepts_no_connection_serves_streams,
    ),
    ("rollouts_and_scaling_lose_no_request", traffic::rollouts_and_scaling_lose_no_request),
    (
        "a_drained_node_loses_no_request_and_no_budget",
        draining::a_drained_node_loses_no_request_and_no_budget,
    ),
    ("a_killed_container_is_restarted", faults::a_killed_container_is_restarted),
    ("the_data_plane_outlives_the_controller", faults::the_data_plane_outlives_the_controller),
    (
        "a_lost_controller_is_restored_and_nobody_notices",
        state::a_lost_controller_is_restored_and_nobody_notices,
    ),
    (
        "a_damaged_store_is_refused_with_the_mend_and_restored",
        state::a_damaged_store_is_refused_with_the_mend_and_restored,
    ),
    ("a_pod_asks_the_api_with_its_own_token", accounts::a_pod_asks_the_api_with_its_own_token),
    ("secrets_lie_on_no_disk_and_their_key_rotates", secrets::secrets_lie_on_no_disk_and_their_key_rotates),
    (
        "a_controller_whose_clock_is_a_day_off_loses_nobody",
        clocks::a_controller_whose_clock_is_a_day_off_loses_nobody,
    ),
    (
        "an_agent_whose_clock_is_set_keeps_its_deadlines",
        clocks::an_agent_whose_clock_is_set_keeps_its_deadlines,
    ),
    ("a_node_that_lost_its_state_joins_again", state::a_node_that_lost_its_state_joins_again),
    ("a_full_disk_refuses_writes_and_recovers", state::a_full_disk_refuses_writes_and_recovers),
    ("killed_netd_and_agent_cost_nothing", supervision::killed_netd_and_agent_cost_nothing),
    ("a_killed_gateway_loses_no_request", supervision::a_killed_gateway_loses_no_request),
    ("an_upgrade_in_place_loses_nothing", supervision::an_upgrade_in_place_loses_nothing),
    ("an_upgrade_to_what_cannot_run_is_refused", supervision::an_upgrade_to_what_cannot_run_is_refused),
    ("a_lost_node_is_replaced_and_rejoins", faults::a_lost_node_is_replaced_and_rejoins),
];

/// Scenarios that take minutes: `make test-full` runs them, too.
const LONG: &[(&str, Scenario)] = &[
    (
        "the_guestbook_survives_updates_and_lost_nodes",
        guestbook::the_guestbook_survives_updates_and_lost_nodes,
    ),
    (
        "helm_installs_what_is_served_and_removes_all_of_it",
        charts::helm_installs_what_is_served_and_removes_all_of_it,
    ),
    ("broken_rollouts_return_by_themselves", rollbacks::broken_rollouts_return_by_themselves),
    ("helm_keeps_a_chart_of_the_usual_shape", releases::helm_keeps_a_chart_of_the_usual_shape),
    ("a_loaded_deployment_is_scaled_up_and_down", autoscaling::a_loaded_deployment_is_scaled_up_and_down),
    ("attacks_cost_the_guestbook_nothing", hostile::attacks_cost_the_guestbook_nothing),
];

/// A scenario that needs the machines themselves.
type BareScenario = fn(&Cluster, &Bare);

/// What plain processes alone can show.
const ONLY_BARE: &[(&str, BareScenario)] = &[
    ("pods_reach_pods_although_docker_drops", firewall::pods_reach_pods_although_docker_drops),
    ("a_reloaded_firewall_is_repaired_at_once", firewall::a_reloaded_firewall_is_repaired_at_once),
    ("an_unfit_machine_is_told_why", joining::an_unfit_machine_is_told_why),
    ("a_second_machine_with_a_name_is_refused", joining::a_second_machine_with_a_name_is_refused),
    ("a_restarted_engine_goes_unnoticed", engines::a_restarted_engine_goes_unnoticed),
    ("an_engine_that_stops_its_pods_is_survived", engines::an_engine_that_stops_its_pods_is_survived),
];

/// Scenarios that run on containers only, and why.
const ONLY_LOCAL: &[(&str, &str)] = &[(
    "a_second_cluster_lives_beside_it",
    "two local clusters share a machine, an engine and its ports; machines of two clusters share nothing. That \
         a port is taken is told by bare::an_unfit_machine_is_told_why",
)];

/// What of the bare scenarios is telling enough for every `make test`; `make test-full` runs all.
const OFTEN: &[&str] = &[
    "pods_reach_pods_although_docker_drops",
    "a_reloaded_firewall_is_repaired_at_once",
    "an_unfit_machine_is_told_why",
    "a_second_machine_with_a_name_is_refused",
    "a_restarted_engine_goes_unnoticed",
];

/// What the scenarios of a trial run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Local,
    Bare,
}

/// The running cluster: one at a time, because each takes the whole machine.
type Shared = Arc<Mutex<Option<(Kind, Cluster)>>>;

/// The cluster's name and first port: `WARREN_E2E=NAME:PORT`, so that two runs can share a machine.
fn place() -> (String, u16) {
    let place = std::env::var("WARREN_E2E").unwrap_or_else(|_| "warren-e2e:17443".to_owned());
    let (name, port) = place.split_once(':').expect("WARREN_E2E is NAME:PORT");
    (name.to_owned(), port.parse().expect("WARREN_E2E is NAME:PORT"))
}

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let shared = Shared::default();
    let mut trials = trials(&shared);
    // Several filters, separated by commas: they share the cluster.
    if let Some(filters) = arguments.filter.take_if(|filters| filters.contains(',')) {
        trials.retain(|trial| {
            filters.split(',').any(|filter| match arguments.exact {
                true => trial.name() == filter,
                false => trial.name().contains(filter),
            })
        });
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    // Taken down here, whatever happened before.
    take_down(&mut shared.lock().unwrap_or_else(PoisonError::into_inner));
    conclusion.exit();
}

fn trials(shared: &Shared) -> Vec<Trial> {
    let local = |(name, scenario): &(&str, Scenario)| {
        let (shared, scenario) = (Arc::clone(shared), *scenario);
        Trial::test(*name, move || run(&shared, Kind::Local, scenario))
    };
    let bare = |(name, scenario): &(&'static str, Scenario)| {
        let (shared, scenario, often) = (Arc::clone(shared), *scenario, OFTEN.contains(name));
        let trial = Trial::test(format!("bare::{name}"), move || run(&shared, Kind::Bare, scenario));
        trial.with_ignored_flag(!often)
    };
    let only_bare = |(name, scenario): &(&'static str, BareScenario)| {
        let (shared, scenario) = (Arc::clone(shared), *scenario);
        let scenario = move |cluster: &Cluster| {
            scenario(cluster, cluster.machines.bare().expect("the machines are plain ones"));
        };
        let trial = Trial::test(format!("bare::{name}"), move || run(&shared, Kind::Bare, scenario));
        trial.with_ignored_flag(!OFTEN.contains(name))
    };
    let both = SCENARIOS.iter().filter(|(name, _)| ONLY_LOCAL.iter().all(|(only, _)| only != name));
    let long = LONG.iter().map(|scenario| local(scenario).with_ignored_flag(true));
    let locals = SCENARIOS.iter().map(local).chain(long);
    let bares = ONLY_BARE.iter().map(only_bare).chain(both.chain(LONG).map(bare));
    locals.chain(bares).collect()
}

/// Runs a scenario on a thread of its own, which enters the cluster's network and goes with the scenario.
fn run(shared: &Shared, kind: Kind, scenario: impl Fn(&Cluster) + Send) -> Result<(), Failed> {
    let mut guard = shared.lock().unwrap_or_else(PoisonError::into_inner);
    let running = &mut *guard;
    let ended = std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            let cluster = cluster_of(running, kind);
            cluster.machines.enter();
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| scenario(cluster)));
            if let Err(panic) = outcome {
                cluster.describe();
                std::panic::resume_unwind(panic);
            }
        });
        thread.join()
    });
    ended.map_err(|panic| {
        let message = panic.downcast_ref::<String>().cloned();
        let message = message.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        message.unwrap_or_else(|| "panicked".to_owned()).into()
    })
}

/// The running cluster, if it is of this kind; else a new one in its place.
fn cluster_of(running: &mut Option<(Kind, Cluster)>, kind: Kind) -> &Cluster {
    if running.as_ref().is_some_and(|(running, _)| *running != kind) {
        take_down(running);
    }
    &running.get_or_insert_with(|| (kind, start(kind))).1
}

fn start(kind: Kind) -> Cluster {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/images/build.sh");
    let built = std::process::Command::new(script).status().expect("the image script starts");
    assert!(built.success(), "{script} failed");
    let (name, port) = place();
    match kind {
        Kind::Local => Cluster::local(&name, 3, port),
        Kind::Bare => Cluster::bare(&format!("{name}-bare"), 3),
    }
}

/// Takes the cluster down, and sees that nothing is left of it.
fn take_down(running: &mut Option<(Kind, Cluster)>) {
    let Some((_, mut cluster)) = running.take() else { return };
    let left = cluster.take_down();
    assert!(left.is_empty(), "taking {} down left {left:#?}", cluster.name);
}
