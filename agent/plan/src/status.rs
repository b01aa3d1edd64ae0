//! What is reported of a pod: a pure view of the instruction and of what is observed.

use std::time::Duration;

use jiff::Timestamp;
use warren_proto::control::{
    Container, ContainerState, ContainerStatus, PodInstruction, PodStatus, Running, Terminated, Waiting,
    container_state::State,
};

use super::{
    backoff::{self, Next},
    model::{Exit, ImageState, Instance, Kind, Phase, Pod, Slot, after},
    probes::ProbeKind,
};

/// How long a failed pull is called `ErrImagePull` before it is called `ImagePullBackOff`.
pub(crate) const ERR_IMAGE_PULL_SHOWN: Duration = Duration::from_secs(2);
/// What all containers of a pod together may say about their ends, as on Kubernetes.
const MOST_MESSAGE_BYTES_OF_A_POD: usize = 12 * 1024;

/// What is said of a container whose end the agent did not see.
const UNSEEN: &str = "the container was removed from the engine while it ran: how it ended is not known";

/// The report about one pod that is wanted.
pub fn pod_status(
    uid: &str,
    instruction: &PodInstruction,
    pod: &Pod,
    gone: bool,
    now: Timestamp,
) -> PodStatus {
    let view = View { uid, instruction, pod, now };
    let (reason, message) = view.trouble();
    let sandbox = pod.sandbox().or_else(|| pod.latest(Kind::Sandbox, ""));
    let sandbox = sandbox.and_then(|sandbox| match &sandbox.phase {
        Phase::Running(started) => Some(*started),
        Phase::Exited(exit) => exit.started,
        Phase::Created => None,
    });
    let mut status = PodStatus {
        uid: uid.to_owned(),
        namespace: instruction.namespace.clone(),
        name: instruction.name.clone(),
        attached: pod.is_attached(),
        gone,
        containers: instruction.containers.iter().map(|spec| view.container(Kind::App, spec)).collect(),
        init_containers: instruction
            .init_containers
            .iter()
            .map(|spec| view.container(Kind::Init, spec))
            .collect(),
        reason,
        message,
        started_at: sandbox.map(seconds).unwrap_or_default(),
    };
    bound_messages(&mut status);
    status
}

/// No container's last words take more than its share of what a pod may say.
fn bound_messages(status: &mut PodStatus) {
    let containers = status.containers.len() + status.init_containers.len();
    let share = MOST_MESSAGE_BYTES_OF_A_POD / containers.max(1);
    for container in status.containers.iter_mut().chain(&mut status.init_containers) {
        for state in [&mut container.state, &mut container.last_state].into_iter().flatten() {
            if let Some(State::Terminated(terminated)) = &mut state.state {
                let cut = terminated.message.floor_char_boundary(share);
                terminated.message.truncate(cut);
            }
        }
    }
}

/// The last report about a pod of which nothing is left and nothing is known but its name.
pub fn gone_status(uid: &str, namespace: &str, name: &str) -> PodStatus {
    PodStatus {
        uid: uid.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        gone: true,
        ..PodStatus::default()
    }
}

/// A moment as Kubernetes writes it: RFC 3339 with whole seconds.
pub fn seconds(moment: Timestamp) -> String {
    Timestamp::from_second(moment.as_second()).unwrap_or(moment).to_string()
}

struct View<'a> {
    uid: &'a str,
    instruction: &'a PodInstruction,
    pod: &'a Pod,
    now: Timestamp,
}

impl View<'_> {
    /// Why the pod as a whole cannot go on.
    fn trouble(&self) -> (String, String) {
        let slots = [Slot::Data, Slot::Sandbox, Slot::Link];
        let failure = slots.iter().find_map(|slot| self.pod.memory.failures.get(slot));
        failure.map(|failure| (failure.reason.to_owned(), failure.message.clone())).unwrap_or_default()
    }

    fn container(&self, kind: Kind, spec: &Container) -> ContainerStatus {
        let latest = self.pod.latest(kind, &spec.name);
        let state = self.state(spec, latest);
        let started = latest.is_some_and(|latest| self.is_started(spec, latest));
        let ready = match (kind, latest) {
            (Kind::Init, Some(latest)) => latest.exit().is_some_and(|exit| exit.code == 0),
            (_, Some(latest)) => started && self.is_ready(spec, latest),
            (_, None) => false,
        };
        ContainerStatus {
            name: spec.name.clone(),
            ready,
            started,
            restart_count: self.pod.latest_begun(kind, &spec.name).map_or(0, |begun| begun.attempt),
            image: latest.map_or(&spec.image, |latest| &latest.image).clone(),
            image_id: latest.map(|latest| format!("docker://{}", latest.image_id)).unwrap_or_default(),
            container_id: latest.map(container_id).unwrap_or_default(),
            last_state: self.last_state(kind, spec, &state),
            state: Some(ContainerState { state: Some(state) }),
        }
    }

    fn verdict(&self, instance: &Instance, kind: ProbeKind) -> Option<bool> {
        self.pod.memory.probes.get(&(instance.id.clone(), kind)).and_then(|tracker| tracker.verdict)
    }

    fn is_started(&self, spec: &Container, instance: &Instance) -> bool {
        // While the post-start hook runs, the container's slot is taken and it does not count as started.
        instance.is_live()
            && !self.pod.memory.busy.contains(&Slot::Container(spec.name.clone()))
            && (ProbeKind::Startup.of(spec).is_none()
                || self.verdict(instance, ProbeKind::Startup) == Some(true))
    }

    fn is_ready(&self, spec: &Container, instance: &Instance) -> bool {
        !self.pod.memory.stopping.contains_key(&instance.id)
            && (ProbeKind::Readiness.of(spec).is_none()
                || self.verdict(instance, ProbeKind::Readiness) == Some(true))
    }

    fn state(&self, spec: &Container, latest: Option<&Instance>) -> State {
        if let Some(instance) = latest
            && let Phase::Running(started) = instance.phase
        {
            return State::Running(Running { started_at: seconds(started) });
        }
        let over = self.instruction.terminate_after_seconds.is_some() || self.instruction.ended;
        if let (Some(instance), true) = (latest, over)
            && let Some(exit) = instance.exit()
        {
            return State::Terminated(terminated(instance, exit));
        }
        if !spec.unresolved_reason.is_empty() {
            return waiting(&spec.unresolved_reason, spec.unresolved_message.clone());
        }
        if let Some(failure) = self.pod.memory.failures.get(&Slot::Container(spec.name.clone())) {
            return waiting(failure.reason, failure.message.clone());
        }
        if let Some(state) = self.image_trouble(spec) {
            return state;
        }
        match latest.and_then(|instance| instance.exit().map(|exit| (instance, exit))) {
            Some((instance, exit)) => self.after_exit(spec, instance, exit),
            // As long as nothing of it was created, in a pod that has something to do before.
            None if !self.instruction.init_containers.is_empty() => waiting("PodInitializing", String::new()),
            None => waiting("ContainerCreating", String::new()),
        }
    }

    /// Waiting for the back-off, or simply ended.
    fn after_exit(&self, spec: &Container, instance: &Instance, exit: &Exit) -> State {
        let policy = self.instruction.restart_policy();
        let next = backoff::next(instance, &spec.image, policy, self.pod.home());
        match next {
            Some(Next::Restart { delay, .. }) if !delay.is_zero() && self.waits(instance, delay) => {
                let PodInstruction { name, namespace, .. } = self.instruction;
                let message = format!(
                    "back-off {} restarting failed container={} pod={name}_{namespace}({})",
                    short(delay),
                    spec.name,
                    self.uid
                );
                waiting("CrashLoopBackOff", message)
            }
            _ => State::Terminated(terminated(instance, exit)),
        }
    }

    /// Whether the back-off of a container that ended is not over yet.
    fn waits(&self, instance: &Instance, delay: Duration) -> bool {
        self.pod.moment(instance).is_some_and(|ended| after(ended, delay) > self.now)
    }

    fn image_trouble(&self, spec: &Container) -> Option<State> {
        let image = self.pod.memory.images.get(&spec.name).filter(|image| image.image == spec.image)?;
        let ImageState::Failed { reason, message, at, .. } = &image.state else { return None };
        if *reason == "ErrImagePull" && self.now >= after(*at, ERR_IMAGE_PULL_SHOWN) {
            return Some(waiting(
                "ImagePullBackOff",
                format!("Back-off pulling image \"{}\": {message}", spec.image),
            ));
        }
        Some(waiting(reason, message.clone()))
    }

    /// How the previous instance ended; while the latest is dead but shown as waiting, the latest itself.
    fn last_state(&self, kind: Kind, spec: &Container, state: &State) -> Option<ContainerState> {
        if matches!(state, State::Terminated(_)) {
            return None;
        }
        let dead = self.pod.latest_dead(kind, &spec.name)?;
        let exit = dead.exit()?;
        Some(ContainerState { state: Some(State::Terminated(terminated(dead, exit))) })
    }
}

fn container_id(instance: &Instance) -> String {
    format!("docker://{}", instance.id)
}

fn waiting(reason: &str, message: String) -> State {
    State::Waiting(Waiting { reason: reason.to_owned(), message })
}

fn terminated(instance: &Instance, exit: &Exit) -> Terminated {
    let reason = match exit {
        Exit { unseen: true, .. } => "ContainerStatusUnknown",
        Exit { out_of_memory: true, .. } => "OOMKilled",
        Exit { start_error, .. } if !start_error.is_empty() => "StartError",
        Exit { code: 0, .. } => "Completed",
        _ => "Error",
    };
    Terminated {
        exit_code: exit.code,
        reason: reason.to_owned(),
        message: match exit {
            Exit { unseen: true, .. } => UNSEEN.to_owned(),
            Exit { start_error, .. } if !start_error.is_empty() => start_error.clone(),
            Exit { message, .. } => message.clone(),
        },
        started_at: exit.started.map(seconds).unwrap_or_default(),
        finished_at: seconds(exit.finished),
        container_id: container_id(instance),
    }
}

/// A span as Go prints it: `40s`, `2m40s`, `5m0s`.
pub(crate) fn short(span: Duration) -> String {
    match (span.as_secs() / 60, span.as_secs() % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}
