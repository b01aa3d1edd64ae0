//! Table tests: one situation, one decision.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use warren_proto::control::{
    Container, ExecProbe, PodInstruction, PodStatus, Probe, RestartPolicy, container_state::State,
    probe::Handler,
};

use super::{
    Action, Desired, Exit, Failure, Image, ImageState, Instance, Kind, ObservedPods, Phase, Pod, Slot,
    Stopping, Why,
    model::after,
    plan,
    probes::{ProbeKind, Tracker},
    status,
};

const UID: &str = "u";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).expect("a valid time")
}

fn container() -> Container {
    Container { name: "web".into(), image: "nginx:1".into(), ..Container::default() }
}

fn instruction() -> PodInstruction {
    PodInstruction {
        uid: UID.into(),
        namespace: "default".into(),
        name: "pod".into(),
        containers: vec![container()],
        restart_policy: RestartPolicy::Always.into(),
        ..PodInstruction::default()
    }
}

fn instance(id: &str, kind: Kind, name: &str, phase: Phase) -> Instance {
    Instance {
        id: id.into(),
        kind,
        name: name.into(),
        attempt: 0,
        streak: 0,
        sandbox: if kind == Kind::Sandbox { String::new() } else { "box".into() },
        image: "nginx:1".into(),
        image_id: "sha256:1".into(),
        stop_signal: "SIGTERM".into(),
        phase,
    }
}

fn exited(code: i32, started: i64, finished: i64) -> Phase {
    Phase::Exited(Exit { code, started: Some(at(started)), finished: at(finished), ..Exit::default() })
}

/// A pod whose sandbox lives and is plugged in.
fn pod(members: Vec<Instance>) -> Pod {
    let mut pod = Pod::default();
    pod.memory.volumes_ready = true;
    pod.memory.has_data = true;
    pod.memory.linked = true;
    pod.memory.attached_to = Some("box".into());
    pod.instances = vec![instance("box", Kind::Sandbox, "", Phase::Running(at(0)))];
    pod.instances.extend(members);
    pod
}

fn decide(instruction: &PodInstruction, pod: &Pod, now: i64) -> (Vec<Action>, Option<i64>) {
    let desired = Desired {
        pods: BTreeMap::from([(UID.to_owned(), Arc::new(instruction.clone()))]),
        ..Desired::default()
    };
    let observed = ObservedPods { pods: BTreeMap::from([(UID.to_owned(), pod.clone())]) };
    let outcome = plan(&desired, &observed, at(now));
    (
        outcome.actions.into_iter().map(|planned| planned.action).collect(),
        outcome.wake_at.map(|moment| moment.as_second()),
    )
}

fn report(instruction: &PodInstruction, pod: &Pod, now: i64) -> PodStatus {
    status::pod_status(UID, instruction, pod, false, at(now))
}

fn state_of(status: &PodStatus) -> State {
    status.containers[0].state.clone().and_then(|state| state.state).expect("a state")
}

#[test]
fn the_order_is_volumes_sandbox_link_image_container() {
    let wanted = instruction();
    let mut now = Pod::default();
    assert_eq!(decide(&wanted, &now, 0).0, [Action::PrepareVolumes]);
    now.memory.volumes_ready = true;
    assert_eq!(decide(&wanted, &now, 0).0, [Action::CreateSandbox { attempt: 0 }]);
    now.instances.push(instance("box", Kind::Sandbox, "", Phase::Running(at(0))));
    assert_eq!(decide(&wanted, &now, 0).0, [Action::Attach { sandbox: "box".into() }]);
    now.memory.attached_to = Some("box".into());
    assert!(matches!(&decide(&wanted, &now, 0).0[..], [Action::PullImage { attempt: 0, .. }]));
    let image = Image { attempt: 0, image: "nginx:1".into(), state: ImageState::Ready };
    now.memory.images.insert("web".into(), image);
    assert!(matches!(
        &decide(&wanted, &now, 0).0[..],
        [Action::CreateContainer { attempt: 0, streak: 0, .. }]
    ));
    now.instances.push(instance("c", Kind::App, "web", Phase::Created));
    assert!(matches!(&decide(&wanted, &now, 0).0[..], [Action::StartContainer { .. }]));
    now.instances[1].phase = Phase::Running(at(1));
    assert_eq!(decide(&wanted, &now, 5), (vec![], None));
}

#[test]
fn a_crash_restarts_at_once_and_then_backs_off() {
    let wanted = instruction();
    let crashed = |streak: u32, ran: i64| {
        let mut dead = instance("c", Kind::App, "web", exited(1, 1000, 1000 + ran));
        (dead.attempt, dead.streak) = (streak, streak);
        pod(vec![dead])
    };
    // (crashes before, seconds it ran, seconds until the restart)
    for (streak, ran, wait) in [(0, 1, 0), (1, 1, 10), (2, 1, 20), (3, 599, 40), (9, 1, 300), (9, 600, 0)] {
        let now = crashed(streak, ran);
        let end = 1000 + ran;
        if wait > 0 {
            assert_eq!(decide(&wanted, &now, end), (vec![], Some(end + wait)), "streak {streak}");
            let status = report(&wanted, &now, end);
            let State::Waiting(waiting) = state_of(&status) else { panic!("{status:?}") };
            assert_eq!(waiting.reason, "CrashLoopBackOff");
            assert!(
                waiting.message.ends_with("restarting failed container=web pod=pod_default(u)"),
                "{waiting:?}"
            );
            assert_eq!(status.containers[0].restart_count, streak);
            let last = status.containers[0].last_state.clone().and_then(|state| state.state);
            assert!(
                matches!(last, Some(State::Terminated(ended)) if ended.exit_code == 1 && ended.reason == "Error")
            );
        }
        let (actions, _) = decide(&wanted, &now, end + wait);
        assert!(
            matches!(&actions[..], [Action::PullImage { attempt, .. }] if *attempt == streak + 1),
            "{actions:?}"
        );
    }
}

#[test]
fn a_back_off_counts_from_the_end_by_the_agents_clock_and_not_by_the_machines() {
    let wanted = instruction();
    for said in [-86_400, 86_400] {
        let mut dead = instance("c", Kind::App, "web", exited(1, said - 1, said));
        dead.streak = 1;
        let mut crashed = pod(vec![dead]);
        crashed.memory.moments.insert(("c".into(), true), at(100));
        assert_eq!(
            decide(&wanted, &crashed, 105),
            (vec![], Some(110)),
            "ended at {said} by the machine's clock"
        );
        let State::Waiting(waiting) = state_of(&report(&wanted, &crashed, 105)) else { panic!("it waits") };
        assert_eq!(waiting.reason, "CrashLoopBackOff");
        assert!(matches!(&decide(&wanted, &crashed, 110).0[..], [Action::PullImage { attempt: 1, .. }]));
    }
}

#[test]
fn the_restart_policy_is_kept() {
    let cases = [
        (RestartPolicy::Always, 0, true),
        (RestartPolicy::Always, 1, true),
        (RestartPolicy::OnFailure, 0, false),
        (RestartPolicy::OnFailure, 1, true),
        (RestartPolicy::Never, 0, false),
        (RestartPolicy::Never, 1, false),
    ];
    for (policy, code, restarts) in cases {
        let wanted = PodInstruction { restart_policy: policy.into(), ..instruction() };
        let now = pod(vec![instance("c", Kind::App, "web", exited(code, 0, 5))]);
        let (actions, _) = decide(&wanted, &now, 5);
        if restarts {
            assert!(matches!(&actions[..], [Action::PullImage { .. }]), "{policy:?} {code}: {actions:?}");
        } else {
            assert_eq!(actions, [Action::Detach], "{policy:?} {code}: a finished pod gives back its link");
            let reason = if code == 0 { "Completed" } else { "Error" };
            let state = state_of(&report(&wanted, &now, 5));
            assert!(matches!(state, State::Terminated(ended) if ended.reason == reason));
        }
    }
}

fn probe() -> Probe {
    let exec = Handler::Exec(ExecProbe { command: vec!["true".into()] });
    Probe { handler: Some(exec), period_seconds: 3, ..Probe::default() }
}

fn with_verdict(mut now: Pod, kind: ProbeKind, verdict: bool) -> Pod {
    now.memory.probes.insert(("c".into(), kind), Tracker::resumed(verdict));
    now
}

#[test]
fn the_startup_probe_gates_the_others() {
    let mut wanted = instruction();
    let spec = &mut wanted.containers[0];
    (spec.startup, spec.liveness, spec.readiness) = (Some(probe()), Some(probe()), Some(probe()));
    let running = pod(vec![instance("c", Kind::App, "web", Phase::Running(at(0)))]);
    let kinds = |pod: &Pod| -> Vec<ProbeKind> {
        let kind = |action| match action {
            Action::RunProbe { kind, .. } => kind,
            other => panic!("{other:?}"),
        };
        decide(&wanted, pod, 1).0.into_iter().map(kind).collect()
    };
    assert_eq!(kinds(&running), [ProbeKind::Startup]);
    assert!(!report(&wanted, &running, 1).containers[0].started);
    let up = with_verdict(running, ProbeKind::Startup, true);
    assert_eq!(kinds(&up), [ProbeKind::Liveness, ProbeKind::Readiness]);
    let status = report(&wanted, &up, 1);
    assert!(status.containers[0].started && !status.containers[0].ready && status.attached);
    let ready = with_verdict(up, ProbeKind::Readiness, true);
    assert!(report(&wanted, &ready, 1).containers[0].ready);
}

#[test]
fn a_failed_liveness_probe_stops_the_container_and_kills_it_after_its_grace() {
    let mut wanted = instruction();
    wanted.containers[0].liveness = Some(probe());
    let running = pod(vec![instance("c", Kind::App, "web", Phase::Running(at(0)))]);
    let mut failed = with_verdict(running, ProbeKind::Liveness, false);
    let (actions, _) = decide(&wanted, &failed, 10);
    let grace = Duration::from_secs(30);
    let stop = Action::StopContainer { id: "c".into(), name: "web".into(), grace, why: Why::Liveness };
    assert_eq!(actions, [stop]);
    let stopping = Stopping { since: at(10), deadline: after(at(10), grace), killed_at: None };
    failed.memory.stopping.insert("c".into(), stopping);
    assert_eq!(decide(&wanted, &failed, 39), (vec![], Some(40)));
    assert_eq!(
        decide(&wanted, &failed, 40).0,
        [Action::KillContainer { id: "c".into(), name: "web".into() }]
    );
}

#[test]
fn the_grace_of_a_restart_is_the_probes_own_else_the_pods() {
    let running = || pod(vec![instance("c", Kind::App, "web", Phase::Running(at(0)))]);
    // (the pod's, the probe's, what is kept to)
    for (pods, probes, seconds) in [
        (None, None, 30),
        (Some(3), None, 3),
        (Some(60), None, 60),
        (Some(60), Some(5), 5),
        (Some(3), Some(40), 40),
    ] {
        let mut wanted = PodInstruction { grace_seconds: pods, ..instruction() };
        let probe = Probe { grace_seconds: probes, ..probe() };
        (wanted.containers[0].liveness, wanted.containers[0].startup) = (Some(probe.clone()), Some(probe));
        let grace_of = |wanted: &PodInstruction, pod: &Pod| match &decide(wanted, pod, 10).0[..] {
            [Action::StopContainer { grace, .. }] => grace.as_secs(),
            other => panic!("{other:?}"),
        };
        for kind in [ProbeKind::Startup, ProbeKind::Liveness] {
            assert_eq!(grace_of(&wanted, &with_verdict(running(), kind, false)), seconds, "{kind:?}");
        }
        // Another image, a name that is wanted no more, a sandbox that died: the pod's.
        let pods = u64::from(pods.unwrap_or(30));
        wanted.containers[0].image = "nginx:2".into();
        assert_eq!(grace_of(&wanted, &running()), pods);
        wanted.containers[0].name = "other".into();
        let stopped = decide(&wanted, &running(), 10).0.remove(0);
        assert!(
            matches!(stopped, Action::StopContainer { grace, .. } if grace.as_secs() == pods),
            "{stopped:?}"
        );
        let mut homeless = running();
        homeless.instances[0].phase = exited(137, 0, 5);
        wanted.containers[0].name = "web".into();
        assert_eq!(grace_of(&wanted, &homeless), pods);
    }
}

/// The pod after one look at the engine, and then another at which all that does not live is gone.
fn pruned(wanted: &PodInstruction, mut pod: Pod, now: i64) -> Pod {
    let is_wanted = |kind, name: &str| super::wants(wanted, kind, name);
    pod.memory.past.observe(&pod.instances, at(now), is_wanted);
    pod.instances.retain(Instance::is_live);
    pod.memory.past.observe(&pod.instances, at(now), is_wanted);
    pod
}

#[test]
fn a_pruned_pod_stays_as_it_was() {
    let init = || instance("i", Kind::Init, "init", exited(0, 0, 2));
    let crashed = |attempt: u32| Instance {
        attempt,
        streak: attempt,
        ..instance("c", Kind::App, "web", exited(1, 1000, 1001))
    };
    let mut wanted = instruction();
    wanted.init_containers =
        vec![Container { name: "init".into(), image: "nginx:1".into(), ..Container::default() }];
    // It runs: initialised, ready, left alone.
    let running = pod(vec![init(), instance("c", Kind::App, "web", Phase::Running(at(3)))]);
    let after = pruned(&wanted, running.clone(), 4);
    assert_eq!(decide(&wanted, &after, 5), (vec![], None));
    assert_eq!(report(&wanted, &after, 5), report(&wanted, &running, 5));
    assert!(report(&wanted, &after, 5).init_containers[0].ready);
    // It crashed eight times: the count and the wait stay.
    let crashing = pod(vec![init(), crashed(8)]);
    let after = pruned(&wanted, crashing.clone(), 1002);
    assert_eq!(decide(&wanted, &after, 1002), (vec![], Some(1301)));
    assert_eq!(report(&wanted, &after, 1002), report(&wanted, &crashing, 1002));
    assert_eq!(report(&wanted, &after, 1002).containers[0].restart_count, 8);
    // It has ended.
    for (policy, code) in
        [(RestartPolicy::Never, 0), (RestartPolicy::Never, 3), (RestartPolicy::OnFailure, 0)]
    {
        let wanted = PodInstruction { restart_policy: policy.into(), ..wanted.clone() };
        let after =
            pruned(&wanted, pod(vec![init(), instance("c", Kind::App, "web", exited(code, 3, 5))]), 6);
        assert_eq!(decide(&wanted, &after, 60).0, [Action::Detach], "{policy:?} {code}");
        let mut lost = after;
        lost.instances.clear();
        let again = pruned(&wanted, lost, 70);
        assert_eq!(decide(&wanted, &again, 80).0, [Action::Detach], "the engine lost the sandbox, too");
        let state = state_of(&report(&wanted, &again, 80));
        assert!(matches!(state, State::Terminated(ended) if ended.exit_code == code));
    }
}

#[test]
fn a_lost_engine_restarts_what_ran_by_its_policy_and_counts_on() {
    let mut wanted = instruction();
    wanted.init_containers =
        vec![Container { name: "init".into(), image: "nginx:1".into(), ..Container::default() }];
    let mut web = instance("c", Kind::App, "web", Phase::Running(at(3)));
    web.attempt = 4;
    let mut lost = pod(vec![instance("i", Kind::Init, "init", exited(0, 0, 2)), web]);
    lost.instances[0].attempt = 2;
    lost = pruned(&wanted, lost, 9);
    lost.instances.clear();
    lost = pruned(&wanted, lost, 10);
    assert_eq!(decide(&wanted, &lost, 10).0, [Action::CreateSandbox { attempt: 3 }]);
    let status = report(&wanted, &lost, 10);
    let State::Terminated(ended) = state_of(&status) else { panic!("{status:?}") };
    assert_eq!((ended.exit_code, ended.reason.as_str()), (137, "ContainerStatusUnknown"));
    assert_eq!((status.containers[0].restart_count, ended.finished_at.as_str()), (4, "1970-01-01T00:00:10Z"));
    // In a new sandbox the init container runs again, as on Kubernetes, and the others only after it.
    let mut fresh = instance("box2", Kind::Sandbox, "", Phase::Running(at(11)));
    fresh.attempt = 3;
    lost.instances.push(fresh);
    lost.memory.attached_to = Some("box2".into());
    let actions = decide(&wanted, &lost, 12).0;
    assert!(
        matches!(&actions[..], [Action::PullImage { name, attempt: 1, .. }] if name == "init"),
        "{actions:?}"
    );
    let again = Instance {
        attempt: 1,
        sandbox: "box2".into(),
        ..instance("i2", Kind::Init, "init", exited(0, 12, 13))
    };
    lost.instances.push(again);
    let actions = decide(&wanted, &lost, 13).0;
    assert!(
        matches!(&actions[..], [Action::PullImage { name, attempt: 5, .. }] if name == "web"),
        "{actions:?}"
    );
    // Whoever must not be restarted is not.
    let never = PodInstruction { restart_policy: RestartPolicy::Never.into(), ..wanted };
    lost.instances.clear();
    lost = pruned(&never, lost, 20);
    assert_eq!(decide(&never, &lost, 20).0, [Action::Detach]);
}

#[test]
fn a_shorter_grace_hastens_a_stop_under_way() {
    let mut wanted = instruction();
    wanted.terminate_after_seconds = Some(5);
    let mut going = pod(vec![instance("c", Kind::App, "web", Phase::Running(at(0)))]);
    let stopping = Stopping { since: at(10), deadline: at(70), killed_at: None };
    going.memory.stopping.insert("c".into(), stopping);
    assert_eq!(decide(&wanted, &going, 14), (vec![], Some(15)));
    assert!(matches!(&decide(&wanted, &going, 15).0[..], [Action::KillContainer { .. }]));
}

#[test]
fn a_dead_sandbox_stops_its_containers_and_is_replaced() {
    let wanted = instruction();
    let mut now = pod(vec![instance("c", Kind::App, "web", Phase::Running(at(0)))]);
    now.instances[0].phase = exited(137, 0, 5);
    let (actions, _) = decide(&wanted, &now, 5);
    assert!(matches!(&actions[..], [Action::StopContainer { why: Why::SandboxGone, .. }]), "{actions:?}");
    now.instances[1].phase = exited(143, 0, 6);
    assert_eq!(decide(&wanted, &now, 6).0, [Action::CreateSandbox { attempt: 1 }]);
    let mut fresh = instance("box2", Kind::Sandbox, "", Phase::Running(at(7)));
    fresh.attempt = 1;
    now.instances.push(fresh);
    let (actions, _) = decide(&wanted, &now, 7);
    let expected = [Action::RemoveContainer { id: "box".into() }, Action::Attach { sandbox: "box2".into() }];
    assert_eq!(actions, expected);
}

#[test]
fn another_image_restarts_only_that_container() {
    let mut wanted = instruction();
    wanted.containers.push(Container {
        name: "side".into(),
        image: "nginx:1".into(),
        ..Container::default()
    });
    wanted.containers[0].image = "nginx:2".into();
    let running = |id: &str, name: &str| instance(id, Kind::App, name, Phase::Running(at(0)));
    let now = pod(vec![running("c", "web"), running("s", "side")]);
    let (actions, _) = decide(&wanted, &now, 5);
    assert!(
        matches!(&actions[..], [Action::StopContainer { id, why: Why::ImageChanged, .. }] if id == "c"),
        "{actions:?}"
    );
}

#[test]
fn an_image_that_cannot_be_had_is_named_and_tried_again() {
    let wanted = instruction();
    let mut now = pod(vec![]);
    let message = "Failed to pull image \"nginx:1\": no".to_owned();
    let failed =
        ImageState::Failed { reason: "ErrImagePull", message, count: 1, at: at(10), retry_at: at(20) };
    now.memory.images.insert("web".into(), Image { attempt: 0, image: "nginx:1".into(), state: failed });
    let reason = |now_seconds: i64| match state_of(&report(&wanted, &now, now_seconds)) {
        State::Waiting(waiting) => waiting.reason,
        other => panic!("{other:?}"),
    };
    assert_eq!((reason(10), reason(13)), ("ErrImagePull".into(), "ImagePullBackOff".into()));
    assert_eq!(decide(&wanted, &now, 10), (vec![], Some(12)), "the word changes");
    assert_eq!(decide(&wanted, &now, 13), (vec![], Some(20)));
    assert!(matches!(&decide(&wanted, &now, 20).0[..], [Action::PullImage { .. }]));
}

#[test]
fn an_unresolved_container_waits_with_its_reason() {
    let mut wanted = instruction();
    let spec = &mut wanted.containers[0];
    spec.unresolved_reason = "CreateContainerConfigError".into();
    spec.unresolved_message = "configmap \"x\" not found".into();
    let now = pod(vec![]);
    assert_eq!(decide(&wanted, &now, 0), (vec![], None));
    let State::Waiting(waiting) = state_of(&report(&wanted, &now, 0)) else { panic!("waits") };
    assert_eq!(waiting.message, "configmap \"x\" not found");
}

#[test]
fn what_comes_after_an_init_container_waits_for_initialization() {
    let mut wanted = instruction();
    wanted.init_containers = ["first", "second"]
        .map(|name| Container { name: name.into(), image: "nginx:1".into(), ..Container::default() })
        .into();
    let status = report(&wanted, &pod(vec![]), 0);
    for container in status.init_containers.iter().chain(&status.containers) {
        let state = container.state.clone().and_then(|state| state.state);
        let Some(State::Waiting(waiting)) = state else { panic!("{} waits", container.name) };
        assert_eq!(waiting.reason, "PodInitializing", "{}", container.name);
    }
}

#[test]
fn a_failed_init_container_fails_a_pod_that_never_restarts() {
    let mut wanted = instruction();
    wanted.restart_policy = RestartPolicy::Never.into();
    wanted.init_containers =
        vec![Container { name: "init".into(), image: "nginx:1".into(), ..Container::default() }];
    let now = pod(vec![instance("i", Kind::Init, "init", exited(1, 0, 5))]);
    assert_eq!(decide(&wanted, &now, 5).0, [Action::Detach]);
    let State::Waiting(waiting) = state_of(&report(&wanted, &now, 5)) else { panic!("waits") };
    assert_eq!(waiting.reason, "PodInitializing");
}

#[test]
fn back_offs_become_events_once() {
    let wanted = instruction();
    let mut dead = instance("c", Kind::App, "web", exited(1, 0, 5));
    (dead.attempt, dead.streak) = (1, 1);
    let status = report(&wanted, &pod(vec![dead]), 5);
    let events = super::events::between(None, &status);
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].message, "Back-off restarting failed container web in pod pod_default(u)");
    assert_eq!(events[0].field_path(), "spec.containers{web}");
    assert!(super::events::between(Some(&status), &status).is_empty());
}

#[test]
fn a_token_that_is_due_is_renewed_while_the_pod_runs_on() {
    let mut now = pod(vec![instance("web1", Kind::App, "web", Phase::Running(at(1)))]);
    now.memory.renew_at = Some(at(480));
    assert_eq!(decide(&instruction(), &now, 10), (vec![], Some(480)), "it is looked at again when it is due");
    assert_eq!(decide(&instruction(), &now, 480).0, [Action::RenewTokens]);
    now.memory.busy.insert(Slot::Tokens);
    assert!(decide(&instruction(), &now, 480).0.is_empty());
    now.memory.volumes_ready = false;
    assert!(decide(&instruction(), &now, 480).0.is_empty(), "nobody else writes the same files meanwhile");
    let mut going = instruction();
    going.terminate_after_seconds = Some(0);
    now.instances.clear();
    (now.memory.linked, now.memory.attached_to) = (false, None);
    assert!(decide(&going, &now, 480).0.is_empty(), "nor are they deleted under its hands");
    now.memory.busy.clear();
    assert_eq!(decide(&going, &now, 480).0, [Action::RemoveData]);
}

#[test]
fn a_token_that_cannot_be_renewed_stops_nothing() {
    let mut now = pod(vec![]);
    now.memory.renew_at = Some(at(5));
    let problem = Failure { reason: "FailedMount", message: "away".into(), count: 1, retry_at: at(20) };
    now.memory.failures.insert(Slot::Tokens, problem);
    let (actions, wake) = decide(&instruction(), &now, 10);
    assert!(matches!(actions.as_slice(), [Action::PullImage { .. }]), "{actions:?}");
    assert_eq!(wake, Some(20));
    let said = status::pod_status(UID, &instruction(), &now, false, at(10));
    assert_eq!(said.reason, "", "it runs with the old one");
}

#[test]
fn a_pod_that_is_over_is_stopped_and_never_begins_again() {
    let wanted = PodInstruction { ended: true, grace_seconds: Some(7), ..instruction() };
    let mut now = pod(vec![instance("c", Kind::App, "web", Phase::Running(at(0)))]);
    let stop = Action::StopContainer {
        id: "c".into(),
        name: "web".into(),
        grace: Duration::from_secs(7),
        why: Why::Ended,
    };
    assert_eq!(decide(&wanted, &now, 10).0, [stop]);
    now.instances[1].phase = exited(143, 0, 11);
    assert_eq!(decide(&wanted, &now, 12).0, [Action::Detach], "its policy would have it start again");
    let State::Terminated(end) = state_of(&report(&wanted, &now, 12)) else { panic!("it has ended") };
    assert_eq!(end.exit_code, 143);
    (now.memory.linked, now.memory.attached_to) = (false, None);
    assert_eq!(decide(&wanted, &now, 12).0, [Action::RemoveContainer { id: "box".into() }]);
    now.instances.remove(0);
    assert_eq!(decide(&wanted, &now, 12), (vec![], None), "the dead container stays for its log");
    // Of one that had not begun, nothing is begun.
    assert_eq!(decide(&wanted, &Pod::default(), 12), (vec![], None));
}
