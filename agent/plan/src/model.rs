//! The vocabulary of the plan: what is wanted, what is observed, what can be done.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use warren_proto::control::{PodInstruction, PullPolicy};

use super::{
    past::{self, Past},
    probes::{ProbeKind, Tracker},
};

/// The pods that the controller wants on this node.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    /// By UID.
    pub pods: BTreeMap<String, Arc<PodInstruction>>,
    /// UIDs whose instruction cannot be understood: left alone, neither started nor removed.
    pub held: BTreeSet<String>,
}

/// What exists on this node.
#[derive(Clone, Debug, Default)]
pub struct ObservedPods {
    /// By UID.
    pub pods: BTreeMap<String, Pod>,
}

/// What exists of one pod.
#[derive(Clone, Debug, Default)]
pub struct Pod {
    /// Every container that carries the pod's label, dead ones too.
    pub instances: Vec<Instance>,
    /// What the engine does not remember for us.
    pub memory: Memory,
}

/// What a container is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// Owns the pod's namespaces.
    Sandbox,
    /// Runs to completion before the others start.
    Init,
    /// One of `spec.containers`.
    #[default]
    App,
}

impl Kind {
    /// The value of the label `warren.kind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Init => "init",
            Self::App => "container",
        }
    }
    /// Reads the label `warren.kind`.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Sandbox, Self::Init, Self::App].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// One container of the engine, or one that it had.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Instance {
    /// The engine's id.
    pub id: String,
    /// What it is for.
    pub kind: Kind,
    /// Name within the pod; empty for a sandbox.
    pub name: String,
    /// Counts the instances of this name; the restart count.
    pub attempt: u32,
    /// Counts the crashes in a row that led to this instance.
    pub streak: u32,
    /// Id of the sandbox whose namespaces it joined; empty for a sandbox.
    pub sandbox: String,
    /// The image by the name that the instruction used.
    pub image: String,
    /// The image by content.
    pub image_id: String,
    /// The signal that asks it to stop.
    pub stop_signal: String,
    /// Where in its life it is.
    pub phase: Phase,
}

/// Where in its life a container is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Made, never started.
    #[default]
    Created,
    /// Alive since.
    Running(#[serde(with = "past::moment")] Timestamp),
    /// Dead.
    Exited(Exit),
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Exit {
    /// As the engine reports it: 128 + signal for a killed process.
    pub code: i32,
    /// The kernel killed it for its memory.
    pub out_of_memory: bool,
    /// Why it could not even be started; empty when it ran.
    pub start_error: String,
    /// What it left as its termination message, or the end of its log in place of it.
    pub message: String,
    /// When it began.
    #[serde(with = "past::moment::optional")]
    pub started: Option<Timestamp>,
    /// When it ended.
    #[serde(with = "past::moment")]
    pub finished: Timestamp,
    /// The agent did not see it end: the engine does not know the container any more, and it ran when it was last seen.
    pub unseen: bool,
}

impl Instance {
    /// Whether its process lives.
    pub fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Running(_))
    }
    /// What last became of it (its id, and whether it has ended), and when, as the engine wrote it down by the
    /// machine's clock.
    pub fn last_change(&self) -> Option<((String, bool), Timestamp)> {
        match &self.phase {
            Phase::Created => None,
            Phase::Running(since) => Some(((self.id.clone(), false), *since)),
            Phase::Exited(exit) => Some(((self.id.clone(), true), exit.finished)),
        }
    }
    /// How it ended, if it did.
    pub fn exit(&self) -> Option<&Exit> {
        match &self.phase {
            Phase::Exited(exit) => Some(exit),
            _ => None,
        }
    }
}

impl Pod {
    /// When a container of the pod began or ended, by the clock that plans are made by.
    pub fn moment(&self, instance: &Instance) -> Option<Timestamp> {
        let (key, said) = instance.last_change()?;
        Some(self.memory.moments.get(&key).copied().unwrap_or(said))
    }
    /// The latest instance of a name, whether the engine still holds it or not.
    pub fn latest(&self, kind: Kind, name: &str) -> Option<&Instance> {
        self.known(kind, name).max_by_key(|instance| instance.attempt)
    }
    /// The latest dead instance of a name, whether the engine still holds it or not.
    pub fn latest_dead(&self, kind: Kind, name: &str) -> Option<&Instance> {
        self.known(kind, name)
            .filter(|instance| instance.exit().is_some())
            .max_by_key(|instance| instance.attempt)
    }
    /// The latest instance of a name that the engine tried to start, whether it still holds it or not.
    pub fn latest_begun(&self, kind: Kind, name: &str) -> Option<&Instance> {
        self.known(kind, name)
            .filter(|instance| instance.phase != Phase::Created)
            .max_by_key(|instance| instance.attempt)
    }
    /// Every instance of a name that is known of; those that the engine holds come last.
    fn known<'a>(&'a self, kind: Kind, name: &str) -> impl Iterator<Item = &'a Instance> {
        self.all_known().filter(move |instance| instance.kind == kind && instance.name == name)
    }
    /// Every instance that is known of; those that the engine holds come last.
    pub fn all_known(&self) -> impl Iterator<Item = &Instance> {
        let is_held = |id: &str| self.instances.iter().any(|instance| instance.id == id);
        let past = self.memory.past.instances().iter().filter(move |instance| !is_held(&instance.id));
        past.chain(&self.instances)
    }
    /// Every instance of a name that the engine holds.
    pub fn of<'a>(&'a self, kind: Kind, name: &str) -> impl Iterator<Item = &'a Instance> {
        self.instances.iter().filter(move |instance| instance.kind == kind && instance.name == name)
    }
    /// The sandbox that counts: a live one, else the latest.
    pub fn sandbox(&self) -> Option<&Instance> {
        self.of(Kind::Sandbox, "").max_by_key(|instance| (instance.is_live(), instance.attempt))
    }
    /// The id of the sandbox that counts, though the engine may hold it no more.
    pub fn home(&self) -> Option<&str> {
        let sandbox = self.sandbox().or_else(|| self.latest(Kind::Sandbox, ""));
        sandbox.map(|sandbox| sandbox.id.as_str())
    }
    /// Containers that live, without the sandbox.
    pub fn live_members(&self) -> impl Iterator<Item = &Instance> {
        self.instances.iter().filter(|instance| instance.kind != Kind::Sandbox && instance.is_live())
    }
    /// Whether netd has plugged in the sandbox that lives now.
    pub fn is_attached(&self) -> bool {
        self.sandbox().is_some_and(|sandbox| {
            sandbox.is_live() && self.memory.attached_to.as_deref() == Some(sandbox.id.as_str())
        })
    }
}

/// What the agent knows of a pod beyond the engine's list.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// The pod's name, for people; kept because an orphan has no instruction.
    pub name: String,
    /// The pod's namespace.
    pub namespace: String,
    /// What became of its containers.
    pub past: Past,
    /// Volumes are on the disk as the instruction wants them.
    pub volumes_ready: bool,
    /// When a token in the volumes is to be renewed; none for a pod without tokens.
    pub renew_at: Option<Timestamp>,
    /// Something of the pod is on the disk.
    pub has_data: bool,
    /// The sandbox that netd was told to plug in.
    pub attached_to: Option<String>,
    /// netd may hold a link for this pod.
    pub linked: bool,
    /// netd no longer lists the link: it is asked again, and the pod counts as plugged in until that fails.
    pub relink: bool,
    /// Work under way.
    pub busy: BTreeSet<Slot>,
    /// Work that failed, and when to try again.
    pub failures: BTreeMap<Slot, Failure>,
    /// Containers (by id) that were asked to stop.
    pub stopping: BTreeMap<String, Stopping>,
    /// When containers (by id, and whether they had ended) began or ended, by the agent's own clock.
    pub moments: BTreeMap<(String, bool), Timestamp>,
    /// Probe results by container id.
    pub probes: BTreeMap<(String, ProbeKind), Tracker>,
    /// Images by container name.
    pub images: BTreeMap<String, Image>,
}

/// A place where at most one piece of work goes on at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    /// Making or starting the sandbox.
    Sandbox,
    /// Talking to netd.
    Link,
    /// Writing or deleting volumes.
    Data,
    /// Renewing tokens in volumes that are in use.
    Tokens,
    /// Fetching the image of the named container.
    Image(String),
    /// Making or starting the named container.
    Container(String),
    /// Removing the container with this id.
    Remove(String),
    /// Running the stop hook of, and signalling, the container with this id.
    Stop(String),
    /// Killing the container with this id.
    Kill(String),
    /// Probing the container with this id.
    Probe(String, ProbeKind),
}

/// Work that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Kubernetes' reason, e.g. `CreateContainerError`.
    pub reason: &'static str,
    /// What happened, and the mend.
    pub message: String,
    /// How many times in a row.
    pub count: u32,
    /// Not before this.
    pub retry_at: Timestamp,
}

/// A container that was asked to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopping {
    /// When it was asked.
    pub since: Timestamp,
    /// When it is killed.
    pub deadline: Timestamp,
    /// When it was last killed.
    pub killed_at: Option<Timestamp>,
}

/// The image for one instance-to-be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// For which attempt it was fetched: a policy of Always asks again each time.
    pub attempt: u32,
    /// The name as instructed.
    pub image: String,
    /// Where it stands.
    pub state: ImageState,
}

/// Where an image stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageState {
    /// On this node.
    Ready,
    /// Not to be had.
    Failed {
        /// `ErrImagePull`, `ErrImageNeverPull` or `InvalidImageName`.
        reason: &'static str,
        /// What happened, and the mend.
        message: String,
        /// How many times in a row.
        count: u32,
        /// When it failed.
        at: Timestamp,
        /// Not before this.
        retry_at: Timestamp,
    },
}

/// Why a container is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The pod is deleted.
    Terminate,
    /// The controller does not know the pod.
    Orphan,
    /// The pod has failed whatever runs of it.
    Ended,
    /// The instruction has no such container.
    NotWanted,
    /// The image in the instruction is another one.
    ImageChanged,
    /// The liveness probe failed.
    Liveness,
    /// The startup probe failed.
    Startup,
    /// Its sandbox is dead or was replaced.
    SandboxGone,
}

/// One idempotent effect for one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Whose.
    pub uid: String,
    /// What.
    pub action: Action,
}

/// One idempotent effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Bring directories and files to what the instruction says.
    PrepareVolumes,
    /// Ask for the tokens anew that are due, and put them in place of the old ones.
    RenewTokens,
    /// Make and start the container that owns the namespaces.
    CreateSandbox {
        /// Its number.
        attempt: u32,
    },
    /// Start a sandbox that was made before.
    StartSandbox {
        /// The engine's id.
        id: String,
    },
    /// Have netd plug the sandbox into the overlay.
    Attach {
        /// The engine's id of the sandbox.
        sandbox: String,
    },
    /// Have the image on this node, by the container's policy.
    PullImage {
        /// For which container.
        name: String,
        /// For which attempt.
        attempt: u32,
        /// The image.
        image: String,
        /// When to ask the registry.
        policy: PullPolicy,
    },
    /// Make a container, without starting it.
    CreateContainer {
        /// Init or app.
        kind: Kind,
        /// Name within the pod.
        name: String,
        /// Its number.
        attempt: u32,
        /// Crashes in a row before it.
        streak: u32,
        /// The sandbox to join.
        sandbox: String,
    },
    /// Start a container that was made.
    StartContainer {
        /// The engine's id.
        id: String,
        /// Init or app.
        kind: Kind,
        /// Name within the pod.
        name: String,
    },
    /// Run the stop hook, then ask the process to stop.
    StopContainer {
        /// The engine's id.
        id: String,
        /// Name within the pod.
        name: String,
        /// Until it is killed.
        grace: Duration,
        /// Why, for the event.
        why: Why,
    },
    /// Kill the process.
    KillContainer {
        /// The engine's id.
        id: String,
        /// Name within the pod.
        name: String,
    },
    /// Ask a container how it is.
    RunProbe {
        /// The engine's id.
        id: String,
        /// Name within the pod.
        name: String,
        /// What is asked.
        kind: ProbeKind,
    },
    /// Remove a container, dead or alive.
    RemoveContainer {
        /// The engine's id.
        id: String,
    },
    /// Have netd unplug the pod.
    Detach,
    /// Delete the pod's directories and volumes.
    RemoveData,
}

impl Action {
    /// Where the action's work goes on.
    pub fn slot(&self) -> Slot {
        match self {
            Self::PrepareVolumes | Self::RemoveData => Slot::Data,
            Self::RenewTokens => Slot::Tokens,
            Self::CreateSandbox { .. } | Self::StartSandbox { .. } => Slot::Sandbox,
            Self::Attach { .. } | Self::Detach => Slot::Link,
            Self::PullImage { name, .. } => Slot::Image(name.clone()),
            Self::CreateContainer { name, .. } | Self::StartContainer { name, .. } => {
                Slot::Container(name.clone())
            }
            Self::StopContainer { id, .. } => Slot::Stop(id.clone()),
            Self::KillContainer { id, .. } => Slot::Kill(id.clone()),
            Self::RunProbe { id, kind, .. } => Slot::Probe(id.clone(), *kind),
            Self::RemoveContainer { id } => Slot::Remove(id.clone()),
        }
    }
}

/// `moment + span`, or the end of time.
pub fn after(moment: Timestamp, span: Duration) -> Timestamp {
    moment.checked_add(span).unwrap_or(Timestamp::MAX)
}
