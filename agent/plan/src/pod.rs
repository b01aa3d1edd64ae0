//! The life of one pod: volumes → sandbox → link → init containers one by one → containers; and back.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use warren_proto::control::{Container, PodInstruction, Probe, PullPolicy, RestartPolicy};

use super::{
    backoff::{self, Next},
    earliest,
    model::{Action, ImageState, Instance, Kind, Phase, Pod, Slot, Why, after},
    probes::{ProbeKind, Tracker},
};

/// The grace of a container that is restarted while its pod stays, where the instruction names none.
const RESTART_GRACE: Duration = Duration::from_secs(30);
/// How often a process that does not die is killed again.
const KILL_AGAIN: Duration = Duration::from_secs(10);

/// What is to be done for one pod.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) actions: Vec<Action>,
    pub(super) wake_at: Option<Timestamp>,
    pub(super) gone: bool,
}

/// Plans one pod.
pub(super) fn plan(instruction: Option<&PodInstruction>, pod: &Pod, now: Timestamp) -> Outcome {
    let mut planner = Planner { pod, now, out: Outcome::default() };
    match instruction {
        None => planner.tear_down(Duration::ZERO, Why::Orphan),
        Some(pod_instruction) => match pod_instruction.terminate_after_seconds {
            Some(seconds) => planner.tear_down(Duration::from_secs(seconds.into()), Why::Terminate),
            None if pod_instruction.ended => planner.end(pod_instruction),
            None if is_finished(pod_instruction, pod) => planner.retire(pod_instruction),
            None => planner.keep(pod_instruction),
        },
    }
    planner.out
}

/// Whether the pod has run to its end: nothing of it will be started again.
pub(crate) fn is_finished(instruction: &PodInstruction, pod: &Pod) -> bool {
    let policy = instruction.restart_policy();
    let sandbox = pod.home();
    let is_done = |kind: Kind, spec: &Container| {
        let latest = pod.latest(kind, &spec.name);
        latest.is_some_and(|latest| backoff::next(latest, &spec.image, policy, sandbox) == Some(Next::Done))
    };
    let init_failed = instruction.init_containers.iter().any(|spec| {
        let failed = |instance: &Instance| instance.exit().is_some_and(|exit| exit.code != 0);
        is_done(Kind::Init, spec) && pod.latest(Kind::Init, &spec.name).is_some_and(failed)
    });
    if pod.live_members().next().is_some() {
        return false;
    }
    init_failed
        || (!instruction.containers.is_empty()
            && instruction.containers.iter().all(|spec| is_done(Kind::App, spec)))
}

/// Whether all init containers have done their work for the present sandbox.
pub(crate) fn is_initialised(instruction: &PodInstruction, pod: &Pod) -> bool {
    let Some(sandbox) = pod.home() else {
        return instruction.init_containers.is_empty();
    };
    // A container that joined this sandbox proves it.
    let begun = pod.all_known().any(|instance| instance.kind == Kind::App && instance.sandbox == sandbox);
    begun
        || instruction.init_containers.iter().all(|spec| {
            let latest = pod.latest(Kind::Init, &spec.name);
            latest.is_some_and(|latest| {
                latest.sandbox == sandbox && latest.exit().is_some_and(|exit| exit.code == 0)
            })
        })
}

struct Planner<'a> {
    pod: &'a Pod,
    now: Timestamp,
    out: Outcome,
}

impl<'a> Planner<'a> {
    // ---- helpers

    fn is_busy(&self, slot: &Slot) -> bool {
        self.pod.memory.busy.contains(slot)
    }

    fn wake(&mut self, at: Timestamp) {
        self.out.wake_at = earliest(self.out.wake_at, Some(at));
    }

    /// Emits the action unless its slot is taken or waits after a failure.
    fn act(&mut self, action: Action) {
        let slot = action.slot();
        if self.is_busy(&slot) {
            return;
        }
        match self.pod.memory.failures.get(&slot).map(|failure| failure.retry_at) {
            Some(retry_at) if retry_at > self.now => self.wake(retry_at),
            _ => self.out.actions.push(action),
        }
    }

    fn remove(&mut self, instance: &Instance) {
        self.act(Action::RemoveContainer { id: instance.id.clone() });
    }

    /// Asks a live container to stop, and kills it when its grace is over.
    fn stop(&mut self, instance: &Instance, grace: Duration, why: Why) {
        let (id, name) = (instance.id.clone(), instance.name.clone());
        let Some(stopping) = self.pod.memory.stopping.get(&instance.id) else {
            return self.act(Action::StopContainer { id, name, grace, why });
        };
        let deadline = match why {
            Why::Terminate | Why::Orphan => stopping.deadline.min(after(stopping.since, grace)),
            _ => stopping.deadline,
        };
        let again = stopping.killed_at.map_or(deadline, |killed| after(killed, KILL_AGAIN));
        if self.now >= again.max(deadline) {
            self.act(Action::KillContainer { id, name });
        } else {
            self.wake(again.max(deadline));
        }
    }

    // ---- going

    /// Stops and removes everything, in that order.
    fn tear_down(&mut self, grace: Duration, why: Why) {
        let pod = self.pod;
        let mut lives = false;
        for instance in pod.live_members() {
            lives = true;
            self.stop(instance, grace, why);
        }
        let under_way = |slot: &Slot| {
            matches!(slot, Slot::Container(_) | Slot::Sandbox | Slot::Link | Slot::Data | Slot::Tokens)
        };
        if lives || pod.memory.busy.iter().any(under_way) {
            return;
        }
        if pod.memory.linked {
            return self.act(Action::Detach);
        }
        for instance in &pod.instances {
            self.remove(instance);
        }
        // A container under removal is invisible before it is gone.
        if !pod.instances.is_empty() || pod.memory.busy.iter().any(|slot| matches!(slot, Slot::Remove(_))) {
            return;
        }
        if pod.memory.has_data {
            return self.act(Action::RemoveData);
        }
        self.out.gone = true;
    }

    /// Stops what runs of a pod that is over; then it is as one that ran to its end.
    fn end(&mut self, instruction: &PodInstruction) {
        let (pod, grace) = (self.pod, restart_grace(instruction, None));
        let mut lives = false;
        for instance in pod.live_members() {
            lives = true;
            self.stop(instance, grace, Why::Ended);
        }
        if !lives && !pod.memory.busy.iter().any(|slot| matches!(slot, Slot::Container(_))) {
            self.retire(instruction);
        }
    }

    /// A pod that ran to its end keeps its dead containers (for logs) and gives back its sandbox and link.
    fn retire(&mut self, instruction: &PodInstruction) {
        self.remove_garbage(instruction);
        if self.is_busy(&Slot::Link) || self.is_busy(&Slot::Sandbox) {
            return;
        }
        if self.pod.memory.linked {
            return self.act(Action::Detach);
        }
        let pod = self.pod;
        for sandbox in pod.of(Kind::Sandbox, "") {
            self.remove(sandbox);
        }
    }

    // ---- staying

    fn keep(&mut self, instruction: &'a PodInstruction) {
        self.remove_garbage(instruction);
        self.stop_strangers(instruction);
        self.watch_running(instruction);
        if !self.pod.memory.volumes_ready {
            // Both write the same files.
            if !self.is_busy(&Slot::Tokens) {
                self.act(Action::PrepareVolumes);
            }
            return;
        }
        self.renew_tokens();
        let Some(sandbox) = self.ensure_sandbox() else { return };
        let attached = self.pod.memory.attached_to.as_deref() == Some(sandbox.id.as_str());
        if !attached || self.pod.memory.relink {
            self.act(Action::Attach { sandbox: sandbox.id.clone() });
        }
        if !attached {
            return;
        }
        self.ensure_containers(instruction, &sandbox.id);
    }

    /// What runs goes on with its old token until there is a new one.
    fn renew_tokens(&mut self) {
        match self.pod.memory.renew_at {
            Some(at) if at > self.now => self.wake(at),
            Some(_) if !self.is_busy(&Slot::Data) => self.act(Action::RenewTokens),
            _ => {}
        }
    }

    /// Removes dead containers, except the last of each name: it holds the restart count and the previous log.
    fn remove_garbage(&mut self, instruction: &PodInstruction) {
        let pod = self.pod;
        let wanted = wanted_names(instruction);
        for instance in pod.instances.iter().filter(|instance| instance.kind != Kind::Sandbox) {
            let is_latest =
                pod.latest(instance.kind, &instance.name).is_some_and(|latest| latest.id == instance.id);
            let is_last_dead =
                pod.latest_dead(instance.kind, &instance.name).is_some_and(|dead| dead.id == instance.id);
            let is_wanted = wanted.contains(&(instance.kind, instance.name.as_str()));
            let starting = self.is_busy(&Slot::Container(instance.name.clone()));
            match instance.phase {
                Phase::Exited(_) if !(is_wanted && is_last_dead) => self.remove(instance),
                Phase::Created if !(starting || is_wanted && is_latest) => self.remove(instance),
                _ => {}
            }
        }
    }

    /// Stops what should not run: unwanted names, older copies, containers of another sandbox.
    fn stop_strangers(&mut self, instruction: &PodInstruction) {
        let (pod, grace) = (self.pod, restart_grace(instruction, None));
        let wanted = wanted_names(instruction);
        let home = pod.sandbox().filter(|sandbox| sandbox.is_live()).map(|sandbox| sandbox.id.as_str());
        for instance in pod.live_members() {
            let is_latest =
                pod.latest(instance.kind, &instance.name).is_some_and(|latest| latest.id == instance.id);
            if !wanted.contains(&(instance.kind, instance.name.as_str())) || !is_latest {
                self.stop(instance, grace, Why::NotWanted);
            } else if home != Some(instance.sandbox.as_str()) {
                self.stop(instance, grace, Why::SandboxGone);
            }
        }
    }

    /// Probes what runs, and stops what must be restarted.
    fn watch_running(&mut self, instruction: &'a PodInstruction) {
        let pod = self.pod;
        let home = pod.sandbox().filter(|sandbox| sandbox.is_live()).map(|sandbox| sandbox.id.as_str());
        for spec in &instruction.containers {
            let Some(instance) = pod.latest(Kind::App, &spec.name) else { continue };
            let Some(started) = pod.moment(instance).filter(|_| instance.is_live()) else { continue };
            if home != Some(instance.sandbox.as_str()) {
                continue;
            }
            let verdict = |kind| {
                pod.memory.probes.get(&(instance.id.clone(), kind)).and_then(|tracker| tracker.verdict)
            };
            let failed = |kind: ProbeKind| kind.of(spec).filter(|_| verdict(kind) == Some(false));
            let grace = |probe| restart_grace(instruction, probe);
            if instance.image != spec.image {
                self.stop(instance, grace(None), Why::ImageChanged);
            } else if let Some(probe) = failed(ProbeKind::Startup) {
                self.stop(instance, grace(Some(probe)), Why::Startup);
            } else if let Some(probe) = failed(ProbeKind::Liveness) {
                self.stop(instance, grace(Some(probe)), Why::Liveness);
            } else if pod.memory.stopping.contains_key(&instance.id) {
                // Asked to stop for a reason that has passed; the signal cannot be taken back.
                self.stop(instance, grace(None), Why::NotWanted);
            } else if pod.is_attached() && !self.is_busy(&Slot::Container(spec.name.clone())) {
                let up = ProbeKind::Startup.of(spec).is_none() || verdict(ProbeKind::Startup) == Some(true);
                self.probe(spec, instance, started, up);
            }
        }
    }

    /// Asks the probes that are due; the others only after the startup probe has succeeded.
    fn probe(&mut self, spec: &Container, instance: &Instance, started: Timestamp, up: bool) {
        for kind in ProbeKind::ALL {
            let (Some(probe), true) = (kind.of(spec), (kind == ProbeKind::Startup) != up) else { continue };
            let fresh = Tracker::default();
            let key = (instance.id.clone(), kind);
            let due = self.pod.memory.probes.get(&key).unwrap_or(&fresh).due_at(probe, started);
            if due > self.now {
                self.wake(due);
            } else {
                self.act(Action::RunProbe { id: instance.id.clone(), name: spec.name.clone(), kind });
            }
        }
    }

    /// The live sandbox, or the next step towards it.
    fn ensure_sandbox(&mut self) -> Option<&'a Instance> {
        let pod = self.pod;
        let Some(sandbox) = pod.sandbox() else {
            if pod.live_members().next().is_none() {
                let before = pod.latest(Kind::Sandbox, "");
                let attempt = before.map_or(0, |before| before.attempt.saturating_add(1));
                self.act(Action::CreateSandbox { attempt });
            }
            return None;
        };
        for other in pod.of(Kind::Sandbox, "").filter(|other| other.id != sandbox.id) {
            self.remove(other);
        }
        match sandbox.phase {
            Phase::Running(_) => return Some(sandbox),
            Phase::Created => self.act(Action::StartSandbox { id: sandbox.id.clone() }),
            // Its members are being stopped; when the last is gone, the next pass makes a new one.
            Phase::Exited(_) if pod.live_members().next().is_some() => {}
            Phase::Exited(_) => {
                self.act(Action::CreateSandbox { attempt: sandbox.attempt.saturating_add(1) });
            }
        }
        None
    }

    fn ensure_containers(&mut self, instruction: &'a PodInstruction, sandbox: &str) {
        let policy = instruction.restart_policy();
        if !is_initialised(instruction, self.pod) {
            for spec in &instruction.init_containers {
                let latest = self.pod.latest(Kind::Init, &spec.name);
                let is_complete = latest.is_some_and(|latest| {
                    latest.sandbox == sandbox && latest.exit().is_some_and(|exit| exit.code == 0)
                });
                if !is_complete {
                    return self.ensure_container(Kind::Init, spec, policy, sandbox);
                }
            }
        }
        for spec in &instruction.containers {
            self.ensure_container(Kind::App, spec, policy, sandbox);
        }
    }

    /// The next step towards a running container.
    fn ensure_container(&mut self, kind: Kind, spec: &Container, policy: RestartPolicy, sandbox: &str) {
        if !spec.unresolved_reason.is_empty() {
            return;
        }
        let Some(latest) = self.pod.latest(kind, &spec.name) else {
            return self.create(kind, spec, 0, 0, sandbox);
        };
        match &latest.phase {
            Phase::Running(_) => {}
            Phase::Created if latest.sandbox == sandbox && latest.image == spec.image => {
                self.act(Action::StartContainer { id: latest.id.clone(), kind, name: spec.name.clone() });
            }
            Phase::Created => {
                if !self.is_busy(&Slot::Container(spec.name.clone())) {
                    self.remove(latest);
                }
            }
            Phase::Exited(_) => {
                let next = backoff::next(latest, &spec.image, policy, Some(sandbox));
                let Some(Next::Restart { streak, delay }) = next else { return };
                let at = after(self.pod.moment(latest).unwrap_or(self.now), delay);
                if at > self.now {
                    return self.wake(at);
                }
                self.create(kind, spec, latest.attempt.saturating_add(1), streak, sandbox);
            }
        }
    }

    /// Image first, then the container.
    fn create(&mut self, kind: Kind, spec: &Container, attempt: u32, streak: u32, sandbox: &str) {
        let image = self.pod.memory.images.get(&spec.name);
        let image = image.filter(|image| image.attempt == attempt && image.image == spec.image);
        match image.map(|image| &image.state) {
            Some(ImageState::Ready) => {
                let (name, sandbox) = (spec.name.clone(), sandbox.to_owned());
                self.act(Action::CreateContainer { kind, name, attempt, streak, sandbox });
            }
            Some(ImageState::Failed { at, retry_at, .. }) if *retry_at > self.now => {
                // The status changes its word from ErrImagePull to ImagePullBackOff shortly after the failure.
                let turn = after(*at, super::status::ERR_IMAGE_PULL_SHOWN);
                let wake = if turn > self.now { turn.min(*retry_at) } else { *retry_at };
                self.wake(wake);
            }
            _ => {
                let policy = match spec.pull_policy() {
                    PullPolicy::Unspecified => PullPolicy::IfNotPresent,
                    policy => policy,
                };
                let (name, image) = (spec.name.clone(), spec.image.clone());
                self.act(Action::PullImage { name, attempt, image, policy });
            }
        }
    }
}

/// What a container has between SIGTERM and SIGKILL when it is restarted: the failed probe's own grace, else the pod's.
fn restart_grace(instruction: &PodInstruction, probe: Option<&Probe>) -> Duration {
    let seconds = probe.and_then(|probe| probe.grace_seconds).or(instruction.grace_seconds);
    seconds.map_or(RESTART_GRACE, |seconds| Duration::from_secs(seconds.into()))
}

/// Whether the instruction knows a container of that name, the sandbox among them.
pub fn wants(instruction: &PodInstruction, kind: Kind, name: &str) -> bool {
    let has = |list: &[Container]| list.iter().any(|spec| spec.name == name);
    match kind {
        Kind::Sandbox => name.is_empty(),
        Kind::Init => has(&instruction.init_containers),
        Kind::App => has(&instruction.containers),
    }
}

/// The containers that the instruction knows.
fn wanted_names(instruction: &PodInstruction) -> BTreeSet<(Kind, &str)> {
    let init = instruction.init_containers.iter().map(|spec| (Kind::Init, spec.name.as_str()));
    init.chain(instruction.containers.iter().map(|spec| (Kind::App, spec.name.as_str()))).collect()
}
