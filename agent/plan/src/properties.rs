//! Property tests over an engine in memory: whatever happens, in whatever order, the pods come out right.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use proptest::prelude::*;
use warren_proto::control::{Container, PodInstruction, RestartPolicy};

use super::{
    Action, Desired, Exit, Image, ImageState, Instance, Kind, ObservedPods, Phase, Pod, Slot, Stopping,
    model::after, plan, status::pod_status, wants,
};

/// An engine, netd and disk in memory. Effects are immediate; processes obey or ignore SIGTERM by their name.
#[derive(Clone, Default)]
struct Model {
    pods: BTreeMap<String, Pod>,
    now: Timestamp,
    next_id: u32,
    /// The highest restart count that was ever reported, by pod and container.
    restarts: BTreeMap<(String, String), u32>,
}

impl Model {
    /// Looks at the engine, as the driver does before each plan.
    fn observed(&mut self, desired: &Desired) -> ObservedPods {
        for (uid, instruction) in &desired.pods {
            let Some(pod) = self.pods.get_mut(uid) else { continue };
            let is_wanted = |kind, name: &str| wants(instruction, kind, name);
            pod.memory.past.observe(&pod.instances, self.now, is_wanted);
            self.restarts_only_grow(uid, instruction);
        }
        ObservedPods { pods: self.pods.clone() }
    }

    fn restarts_only_grow(&mut self, uid: &str, instruction: &PodInstruction) {
        let status = pod_status(uid, instruction, &self.pods[uid], false, self.now);
        for container in status.containers.iter().chain(&status.init_containers) {
            let key = (uid.to_owned(), container.name.clone());
            let highest = self.restarts.entry(key).or_default();
            assert!(container.restart_count >= *highest, "{uid}: {} from {highest}", container.restart_count);
            *highest = container.restart_count;
        }
    }

    fn fresh_id(&mut self) -> String {
        self.next_id += 1;
        format!("id{}", self.next_id)
    }

    fn end(&mut self, uid: &str, id: &str, code: i32) {
        let now = self.now;
        let Some(pod) = self.pods.get_mut(uid) else { return };
        for instance in pod.instances.iter_mut().filter(|instance| instance.id == id) {
            if let Phase::Running(started) = instance.phase {
                let exit = Exit { code, started: Some(started), finished: now, ..Exit::default() };
                instance.phase = Phase::Exited(exit);
            }
        }
    }

    /// What must hold before an action may take effect, whatever the history.
    fn check(&self, uid: &str, desired: &Desired, action: &Action) {
        let nothing = Pod::default();
        let pod = self.pods.get(uid).unwrap_or(&nothing);
        match action {
            Action::CreateContainer { kind, name, sandbox, .. } => {
                assert!(pod.is_attached(), "a container is made before its pod is plugged in: {action:?}");
                assert!(pod.memory.volumes_ready, "a container is made before its volumes");
                assert_eq!(pod.sandbox().map(|sandbox| &sandbox.id), Some(sandbox));
                assert!(!pod.of(*kind, name).any(Instance::is_live), "a second copy of {name}");
            }
            Action::StartContainer { id, kind, name } => {
                assert!(pod.is_attached());
                assert!(
                    !pod.of(*kind, name).any(|other| other.is_live() && other.id != *id),
                    "two copies of {name}"
                );
                let instruction = &desired.pods[uid];
                if *kind == Kind::App {
                    assert!(
                        super::pod::is_initialised(instruction, pod),
                        "{name} starts before the init containers"
                    );
                } else {
                    let others = pod.live_members().filter(|other| other.id != *id).count();
                    assert_eq!(others, 0, "init containers run one by one");
                }
            }
            Action::CreateSandbox { .. } => {
                assert!(!pod.of(Kind::Sandbox, "").any(Instance::is_live), "a second sandbox");
                assert_eq!(
                    pod.live_members().count(),
                    0,
                    "a new sandbox while containers of the old one live"
                );
            }
            Action::RemoveContainer { id } => {
                let kind =
                    pod.instances.iter().find(|instance| instance.id == *id).map(|instance| instance.kind);
                if kind == Some(Kind::Sandbox) {
                    let orphaned = pod.live_members().filter(|member| member.sandbox == *id).count();
                    assert_eq!(orphaned, 0, "a sandbox is removed under its containers");
                }
            }
            Action::RemoveData => assert!(pod.instances.is_empty(), "data is deleted under containers"),
            Action::RenewTokens => {
                assert!(pod.memory.volumes_ready, "a token is renewed where there is none")
            }
            Action::Detach => assert_eq!(pod.live_members().count(), 0, "a living pod is unplugged"),
            _ => {}
        }
    }

    fn apply(&mut self, uid: &str, desired: &Desired, action: &Action) {
        self.check(uid, desired, action);
        let (now, id) = (self.now, self.fresh_id());
        let instruction = desired.pods.get(uid).cloned();
        let pod = self.pods.entry(uid.to_owned()).or_default();
        let start = |pod: &mut Pod, id: &str| {
            if let Some(instance) = pod.instances.iter_mut().find(|instance| instance.id == id) {
                instance.phase = Phase::Running(now);
            }
        };
        match action {
            Action::PrepareVolumes => {
                (pod.memory.volumes_ready, pod.memory.has_data) = (true, true);
                pod.memory.renew_at = Some(after(now, Duration::from_secs(480)));
            }
            Action::RenewTokens => pod.memory.renew_at = None,
            Action::CreateSandbox { attempt } => {
                let phase = Phase::Running(now);
                pod.instances.push(instance(&id, Kind::Sandbox, "", *attempt, 0, "", "pause", phase));
            }
            Action::StartSandbox { id } | Action::StartContainer { id, .. } => start(pod, id),
            Action::Attach { sandbox } => {
                (pod.memory.attached_to, pod.memory.linked) = (Some(sandbox.clone()), true);
                pod.memory.relink = false;
            }
            Action::Detach => (pod.memory.attached_to, pod.memory.linked) = (None, false),
            Action::PullImage { name, attempt, image, .. } => {
                let (attempt, image, state) = (*attempt, image.clone(), ImageState::Ready);
                pod.memory.images.insert(name.clone(), Image { attempt, image, state });
            }
            Action::CreateContainer { kind, name, attempt, streak, sandbox } => {
                let instruction = instruction.expect("only wanted pods get containers");
                let specs = instruction.init_containers.iter().chain(&instruction.containers);
                let image = specs.into_iter().find(|spec| spec.name == *name).expect("known").image.clone();
                let made = instance(&id, *kind, name, *attempt, *streak, sandbox, &image, Phase::Created);
                pod.instances.push(made);
            }
            Action::StopContainer { id, name, grace, .. } => {
                let stopping = Stopping { since: now, deadline: after(now, *grace), killed_at: None };
                pod.memory.stopping.insert(id.clone(), stopping);
                if !name.starts_with("stubborn") {
                    self.end(uid, id, 143);
                }
            }
            Action::KillContainer { id, .. } => self.end(uid, id, 137),
            Action::RunProbe { id, kind, .. } => {
                pod.memory.probes.entry((id.clone(), *kind)).or_default().asked_at = Some(now);
            }
            Action::RemoveContainer { id } => pod.instances.retain(|instance| instance.id != *id),
            Action::RemoveData => (pod.memory.volumes_ready, pod.memory.has_data) = (false, false),
        }
    }

    /// Plans and applies until nothing changes any more, letting time pass where the plan waits for it.
    /// `pick` chooses the order; init containers end with success once everything else is settled.
    fn settle(&mut self, desired: &Desired, mut pick: impl FnMut(usize) -> usize) -> usize {
        for round in 0..2000 {
            let outcome = plan(desired, &self.observed(desired), self.now);
            let mut actions: Vec<_> = outcome
                .actions
                .into_iter()
                .filter(|planned| !matches!(planned.action, Action::RunProbe { .. }))
                .collect();
            if !actions.is_empty() {
                let chosen = actions.remove(pick(actions.len()) % actions.len());
                self.apply(&chosen.uid, desired, &chosen.action);
                continue;
            }
            let running_init: Vec<(String, String)> = self
                .pods
                .iter()
                .flat_map(|(uid, pod)| pod.live_members().map(move |member| (uid.clone(), member)))
                .filter(|(_, member)| member.kind == Kind::Init)
                .map(|(uid, member)| (uid, member.id.clone()))
                .collect();
            if let Some((uid, id)) = running_init.first() {
                self.end(uid, id, 0);
                continue;
            }
            match outcome.wake_at {
                Some(at) if at > self.now => self.now = at,
                _ => return round,
            }
        }
        let observed = self.observed(desired);
        panic!("it does not converge: {:?}", plan(desired, &observed, self.now).actions);
    }

    /// Somebody removes all containers but these.
    fn prune(&mut self, is_spared: impl Fn(&Instance) -> bool) {
        for pod in self.pods.values_mut() {
            pod.instances.retain(&is_spared);
        }
    }

    /// A restarted agent: what only its memory held is lost, containers and disk are not.
    fn forget(&mut self) {
        for pod in self.pods.values_mut() {
            let memory = &mut pod.memory;
            memory.stopping.clear();
            memory.images.clear();
            memory.volumes_ready = false;
        }
    }
}

#[allow(clippy::too_many_arguments)]
fn instance(
    id: &str,
    kind: Kind,
    name: &str,
    attempt: u32,
    streak: u32,
    sandbox: &str,
    image: &str,
    phase: Phase,
) -> Instance {
    Instance {
        id: id.to_owned(),
        kind,
        name: name.to_owned(),
        attempt,
        streak,
        sandbox: sandbox.to_owned(),
        image: image.to_owned(),
        image_id: String::new(),
        stop_signal: "SIGTERM".to_owned(),
        phase,
    }
}

/// What can befall a node between two passes.
#[derive(Clone, Debug)]
enum Blow {
    /// The n-th live container (sandboxes count) dies.
    Die(usize, i32),
    /// Somebody removes the n-th container by force.
    Vanish(usize),
    /// Somebody removes every container that does not run, as every night.
    Prune,
    /// The engine's directory is lost, with all that ran.
    LoseEngine,
    /// netd lost the n-th pod's link; the agent knows already that it cannot be had back, or not yet.
    Unlink(usize, bool),
    /// The agent starts anew.
    Restart,
    /// Power cut: everything dies, links are gone.
    PowerCut,
    /// Only that many actions are carried out before the next blow.
    Work(usize),
    /// Time goes by.
    Pass(u64),
}

fn blows() -> impl Strategy<Value = Vec<Blow>> {
    let blow = prop_oneof![
        (0usize..12, prop_oneof![Just(0), Just(1), Just(137)]).prop_map(|(n, code)| Blow::Die(n, code)),
        (0usize..12).prop_map(Blow::Vanish),
        Just(Blow::Prune),
        Just(Blow::LoseEngine),
        (0usize..4, any::<bool>()).prop_map(|(n, known)| Blow::Unlink(n, known)),
        Just(Blow::Restart),
        Just(Blow::PowerCut),
        (0usize..12).prop_map(Blow::Work),
        (0u64..700).prop_map(Blow::Pass),
    ];
    prop::collection::vec(blow, 0..25)
}

fn strike(model: &mut Model, desired: &Desired, blow: &Blow) {
    let all = |model: &Model, live: bool| -> Vec<(String, String)> {
        let pods = model.pods.iter();
        pods.flat_map(|(uid, pod)| pod.instances.iter().map(move |instance| (uid.clone(), instance)))
            .filter(|(_, instance)| !live || instance.is_live())
            .map(|(uid, instance)| (uid, instance.id.clone()))
            .collect()
    };
    match blow {
        Blow::Die(n, code) => {
            let live = all(model, true);
            if let Some((uid, id)) = live.get(n % live.len().max(1)) {
                model.end(uid, id, *code);
            }
        }
        Blow::Vanish(n) => {
            let every = all(model, false);
            if let Some((uid, id)) = every.get(n % every.len().max(1)) {
                let pod = model.pods.get_mut(uid).expect("listed");
                pod.instances.retain(|instance| instance.id != *id);
            }
        }
        Blow::Prune => model.prune(Instance::is_live),
        Blow::LoseEngine => model.prune(|_| false),
        Blow::Unlink(n, known) => {
            if let Some(pod) = model.pods.values_mut().nth(*n) {
                let memory = &mut pod.memory;
                (memory.linked, memory.relink) = (false, memory.attached_to.is_some());
                if *known {
                    (memory.relink, memory.attached_to) = (false, None);
                }
            }
        }
        Blow::Restart => model.forget(),
        Blow::PowerCut => {
            for (uid, id) in all(model, true) {
                model.end(&uid, &id, 137);
            }
            for pod in model.pods.values_mut() {
                (pod.memory.linked, pod.memory.attached_to) = (false, None);
            }
            model.forget();
        }
        Blow::Work(steps) => {
            for _ in 0..*steps {
                let outcome = plan(desired, &model.observed(desired), model.now);
                let Some(next) = outcome.actions.into_iter().next() else { break };
                model.apply(&next.uid, desired, &next.action);
            }
        }
        Blow::Pass(seconds) => model.now = after(model.now, Duration::from_secs(*seconds)),
    }
}

fn container(name: &str) -> Container {
    Container { name: name.to_owned(), image: format!("image-of-{name}"), ..Container::default() }
}

fn pods() -> impl Strategy<Value = Vec<PodInstruction>> {
    let policy =
        prop_oneof![Just(RestartPolicy::Always), Just(RestartPolicy::OnFailure), Just(RestartPolicy::Never)];
    let pod = (0usize..3, 1usize..3, policy, any::<bool>());
    prop::collection::vec(pod, 1..4).prop_map(|pods| {
        let make =
            |(index, (inits, apps, policy, stubborn)): (usize, (usize, usize, RestartPolicy, bool))| {
                let prefix = if stubborn { "stubborn" } else { "app" };
                PodInstruction {
                    uid: format!("pod{index}"),
                    name: format!("pod{index}"),
                    init_containers: (0..inits).map(|n| container(&format!("init{n}"))).collect(),
                    containers: (0..apps).map(|n| container(&format!("{prefix}{n}"))).collect(),
                    restart_policy: policy.into(),
                    ..PodInstruction::default()
                }
            };
        pods.into_iter().enumerate().map(make).collect()
    })
}

fn desired(pods: &[PodInstruction]) -> Desired {
    let pods = pods.iter().map(|pod| (pod.uid.clone(), Arc::new(pod.clone()))).collect();
    Desired { pods, held: BTreeSet::new() }
}

/// Every pod is as its instruction says: all run, or it came to its end by its policy.
fn assert_right(model: &Model, desired: &Desired) {
    for (uid, instruction) in &desired.pods {
        let pod = &model.pods[uid];
        if super::pod::is_finished(instruction, pod) {
            assert_ne!(instruction.restart_policy(), RestartPolicy::Always, "{uid} must never finish");
            assert_eq!(pod.of(Kind::Sandbox, "").count(), 0, "a finished pod gives back its sandbox");
            assert!(!pod.memory.linked);
            continue;
        }
        assert!(pod.is_attached() && pod.memory.linked && !pod.memory.relink, "{uid} is plugged in");
        for spec in &instruction.containers {
            let live = pod.of(Kind::App, &spec.name).filter(|instance| instance.is_live()).count();
            let done = pod.latest(Kind::App, &spec.name).is_some_and(|latest| latest.exit().is_some());
            assert!(
                live == 1 || (live == 0 && done && instruction.restart_policy() != RestartPolicy::Always)
            );
            let dead = pod.of(Kind::App, &spec.name).filter(|instance| instance.exit().is_some()).count();
            assert!(dead <= 1, "one dead container of a name is kept, not {dead}");
        }
    }
    let strangers: Vec<_> = model
        .pods
        .iter()
        .filter(|(uid, pod)| {
            !desired.pods.contains_key(*uid) && (!pod.instances.is_empty() || pod.memory.has_data)
        })
        .collect();
    assert!(strangers.is_empty(), "orphans are removed: {strangers:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever befalls the node, and in whatever order actions are carried out, it ends as wanted and stays so.
    /// The invariants of [`Model::check`] hold at every step.
    #[test]
    fn it_converges_and_is_stable_after_any_blows(
        pods in pods(), blows in blows(), order in prop::collection::vec(0usize..64, 40),
    ) {
        let desired = desired(&pods);
        let mut model = Model::default();
        for blow in &blows {
            strike(&mut model, &desired, blow);
        }
        let mut order = order.into_iter().cycle();
        model.settle(&desired, |_| order.next().unwrap_or(0));
        assert_right(&model, &desired);
        let again = plan(&desired, &model.observed(&desired), model.now);
        prop_assert!(again.actions.is_empty(), "{:?}", again.actions);
        let later = after(model.now, Duration::from_secs(3600));
        let again = plan(&desired, &model.observed(&desired), later);
        prop_assert!(again.actions.is_empty(), "an hour later: {:?}", again.actions);
    }

    /// An agent that crashes after any number of actions leaves a world from which its successor comes to the end.
    #[test]
    fn it_is_crash_safe_at_each_prefix(pods in pods(), prefix in 0usize..60) {
        let desired = desired(&pods);
        let mut model = Model::default();
        strike(&mut model, &desired, &Blow::Work(prefix));
        model.forget();
        model.settle(&desired, |_| 0);
        assert_right(&model, &desired);
    }

    /// Whatever has happened: when somebody removes the dead containers, the next decision is the same, and what is
    /// reported, too, but for the removals that are no longer needed.
    #[test]
    fn pruning_changes_no_decision_and_no_report(
        pods in pods(), blows in blows(), passing in 0u64..700, restarted: bool,
    ) {
        let desired = desired(&pods);
        let mut model = Model::default();
        for blow in &blows {
            strike(&mut model, &desired, blow);
        }
        model.observed(&desired);
        let mut pruned = model.clone();
        pruned.prune(|instance| instance.exit().is_none());
        if restarted {
            model.forget();
            pruned.forget();
        }
        for model in [&mut model, &mut pruned] {
            model.now = after(model.now, Duration::from_secs(passing));
        }
        let decide = |model: &mut Model| {
            let outcome = plan(&desired, &model.observed(&desired), model.now);
            let is_removal = |action: &Action| matches!(action, Action::RemoveContainer { .. });
            let kept = outcome.actions.into_iter().filter(|planned| !is_removal(&planned.action));
            (kept.collect::<Vec<_>>(), outcome.wake_at)
        };
        prop_assert_eq!(decide(&mut model), decide(&mut pruned));
        for (uid, pod) in &model.pods {
            let report = |pod| pod_status(uid, &desired.pods[uid], pod, false, model.now);
            prop_assert_eq!(report(pod), report(&pruned.pods[uid]));
        }
    }

    /// A pod that has ended never runs again, whatever is taken from the engine.
    #[test]
    fn what_has_ended_never_begins_again(pods in pods(), codes in prop::collection::vec(0i32..2, 12), blows in blows()) {
        let desired = desired(&pods);
        let mut model = Model::default();
        model.settle(&desired, |_| 0);
        for code in codes {
            strike(&mut model, &desired, &Blow::Die(0, code));
            model.settle(&desired, |_| 0);
        }
        let ended = |model: &Model| -> BTreeMap<String, u32> {
            let finished = model.pods.iter().filter(|(uid, pod)| super::pod::is_finished(&desired.pods[*uid], pod));
            let newest = |pod: &Pod| pod.all_known().map(|instance| instance.attempt).sum();
            finished.map(|(uid, pod)| (uid.clone(), newest(pod))).collect()
        };
        let before = ended(&model);
        for blow in &blows {
            strike(&mut model, &desired, blow);
        }
        model.settle(&desired, |_| 0);
        let after = ended(&model);
        for (uid, attempts) in &before {
            prop_assert_eq!(after.get(uid), Some(attempts), "{}", uid);
        }
    }

    /// Pods that are deleted, or unknown, leave nothing behind, and are reported gone only then.
    #[test]
    fn deleted_and_unknown_pods_leave_nothing(
        pods in pods(), blows in blows(), grace in 0u32..40, unknown: bool,
        order in prop::collection::vec(0usize..64, 40),
    ) {
        let wanted = desired(&pods);
        let mut model = Model::default();
        for blow in &blows {
            strike(&mut model, &wanted, blow);
        }
        let mut leaving = pods.clone();
        leaving.iter_mut().for_each(|pod| pod.terminate_after_seconds = Some(grace));
        let leaving = if unknown { Desired::default() } else { desired(&leaving) };
        let begun = model.now;
        let mut order = order.into_iter().cycle();
        model.settle(&leaving, |_| order.next().unwrap_or(0));
        let allowed = if unknown { 0 } else { i64::from(grace) };
        prop_assert!(model.now.duration_since(begun).as_secs() <= allowed, "the grace is kept");
        for pod in model.pods.values() {
            prop_assert!(pod.instances.is_empty() && !pod.memory.linked && !pod.memory.has_data);
        }
        let end = plan(&leaving, &model.observed(&leaving), model.now);
        prop_assert!(model.pods.keys().all(|uid| end.gone.contains(uid)));
    }

    /// While work is under way in a slot, nothing more is begun there.
    #[test]
    fn a_busy_slot_gets_no_second_action(pods in pods(), blows in blows()) {
        let desired = desired(&pods);
        let mut model = Model::default();
        for blow in &blows {
            strike(&mut model, &desired, blow);
        }
        let first = plan(&desired, &model.observed(&desired), model.now);
        for planned in &first.actions {
            let pod = model.pods.entry(planned.uid.clone()).or_default();
            pod.memory.busy.insert(planned.action.slot());
        }
        let second = plan(&desired, &model.observed(&desired), model.now);
        for planned in &second.actions {
            let busy: &BTreeSet<Slot> = &model.pods[&planned.uid].memory.busy;
            prop_assert!(!busy.contains(&planned.action.slot()), "{:?}", planned.action);
        }
    }
}
