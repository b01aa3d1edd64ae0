//! What the driver remembers between passes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use warren_proto::{
    control::{PodInstruction, PodStatus, feed_item::Item},
    vocabulary::PodUid,
};
use warren_runtime::items::Items;

use super::{apply::Trouble, recall::Recall};
use crate::{
    clock,
    plan::{
        self, Action, Desired, Failure, Instance, Kind, Memory, Past, Phase, Pod, Slot, Stopping, World,
        backoff::doubling,
        model::after,
        probes::{ProbeKind, Tracker},
    },
    runtime::{Found, secrecy},
};

/// What is left to SIGTERM of a grace that the stop hook used up.
const AFTER_HOOK: Duration = Duration::from_secs(2);

/// Everything behind the driver's lock.
pub(super) struct State {
    /// What `desired` and `refused` were made of.
    taken: Items,
    pub(super) desired: Desired,
    /// Instructions that cannot be followed, and what is said about them.
    pub(super) refused: BTreeMap<String, PodStatus>,
    pub(super) memories: BTreeMap<String, Memory>,
    pub(super) statuses: BTreeMap<String, PodStatus>,
    /// From before a restart, until it was used.
    recalled: Option<Recall>,
    /// What the file says.
    pub(super) kept: Recall,
    /// Pods whose past has changed since it was last asked for.
    unsaved: BTreeSet<String>,
    /// Counts attachments and detachments, so that an older listing is not believed.
    pub(super) link_changes: u64,
}

impl State {
    /// The state of an agent that has just started.
    pub(super) fn new(recalled: Recall, with_data: BTreeSet<String>, pasts: BTreeMap<String, Past>) -> Self {
        let mut memories: BTreeMap<String, Memory> = BTreeMap::new();
        for (uid, past) in pasts {
            memories.entry(uid).or_default().past = past;
        }
        for uid in with_data {
            memories.entry(uid).or_default().has_data = true;
        }
        for (uid, sandbox) in &recalled.attached {
            let memory = memories.entry(uid.clone()).or_default();
            (memory.attached_to, memory.linked) = (Some(sandbox.clone()), true);
        }
        Self {
            taken: Items::new(),
            desired: Desired::default(),
            refused: BTreeMap::new(),
            memories,
            statuses: BTreeMap::new(),
            kept: recalled.clone(),
            unsaved: BTreeSet::new(),
            recalled: Some(recalled),
            link_changes: 0,
        }
    }

    /// Takes in what changed of the feed's items.
    pub(super) fn take_in(&mut self, items: &Items) {
        let taken = std::mem::replace(&mut self.taken, items.clone());
        let pod = |item| match item {
            Some(Item::Pod(pod)) => Some(pod),
            _ => None,
        };
        let changed: Vec<_> = items.since(&taken).map(|it| (pod(it.before), pod(it.after))).collect();
        for (before, after) in &changed {
            if let Some(gone) = before.filter(|before| after.is_none_or(|after| after.uid != before.uid)) {
                self.desired.pods.remove(&gone.uid);
                self.desired.held.remove(&gone.uid);
                self.refused.remove(&gone.uid);
            }
        }
        changed.into_iter().filter_map(|(_, after)| after).for_each(|pod| self.take_pod(pod));
    }

    /// Follows an instruction, or says why not. One that did not change keeps its identity.
    fn take_pod(&mut self, pod: &PodInstruction) {
        if let Err(problem) = check(pod) {
            tracing::error!(
                pod = format!("{}/{}", pod.namespace, pod.name),
                problem,
                "cannot follow an instruction"
            );
            self.desired.pods.remove(&pod.uid);
            self.desired.held.insert(pod.uid.clone());
            self.refused.insert(pod.uid.clone(), refusal(pod, problem));
            return;
        }
        self.desired.held.remove(&pod.uid);
        self.refused.remove(&pod.uid);
        let known = self.desired.pods.get(&pod.uid);
        if known.is_some_and(|known| known.as_ref() == pod) {
            return;
        }
        let memory = self.memories.entry(pod.uid.clone()).or_default();
        (memory.name, memory.namespace) = (pod.name.clone(), pod.namespace.clone());
        // What failed may succeed as it is wanted now.
        memory.failures.retain(|slot, _| *slot == Slot::Link);
        memory.volumes_ready &= known.map(|before| &before.volumes) == Some(&pod.volumes);
        self.desired.pods.insert(pod.uid.clone(), Arc::new(pod.clone()));
    }

    /// Joins what the engine holds with what is remembered. `now` is by the agent's clock, `machine` by the one that
    /// the engine writes down.
    pub(super) fn world(
        &mut self,
        found: BTreeMap<String, Found>,
        now: Timestamp,
        machine: Timestamp,
    ) -> World {
        let mut pods: BTreeMap<String, Pod> = BTreeMap::new();
        for found in found.values() {
            let instruction = self.desired.pods.get(&found.uid);
            let instance = discreet(found.instance.clone(), instruction.map(AsRef::as_ref));
            pods.entry(found.uid.clone()).or_default().instances.push(instance);
            let memory = self.memories.entry(found.uid.clone()).or_default();
            if memory.name.is_empty() {
                (memory.name, memory.namespace) = (found.pod.clone(), found.namespace.clone());
            }
        }
        if let Some(recalled) = self.recalled.take() {
            self.resume(&recalled, &found);
        }
        for (uid, memory) in &mut self.memories {
            memory.stopping.retain(|id, _| found.contains_key(id));
            memory.probes.retain(|(id, _), _| found.contains_key(id));
            let pod = pods.entry(uid.clone()).or_default();
            if remember(memory, self.desired.pods.get(uid).map(AsRef::as_ref), &pod.instances, machine) {
                self.unsaved.insert(uid.clone());
            }
            let known: BTreeMap<_, _> = memory
                .past
                .instances()
                .iter()
                .chain(&pod.instances)
                .filter_map(Instance::last_change)
                .collect();
            memory.moments.retain(|key, _| known.contains_key(key));
            for (key, said) in known {
                // Judged once, when it is new: the machine's clock may be set later.
                memory.moments.entry(key).or_insert_with(|| clock::moment(now, machine, said));
            }
            pod.memory = memory.clone();
        }
        World { pods }
    }

    /// The pasts that have changed since the last call.
    pub(super) fn changed_pasts(&mut self) -> Vec<(String, Past)> {
        let changed = std::mem::take(&mut self.unsaved).into_iter();
        changed.filter_map(|uid| Some((uid.clone(), self.memories.get(&uid)?.past.clone()))).collect()
    }

    /// Readiness is kept over a restart of the agent: nobody notices.
    fn resume(&mut self, recalled: &Recall, found: &BTreeMap<String, Found>) {
        for (id, seen) in &recalled.containers {
            let Some(found) = found.get(id).filter(|found| found.instance.is_live()) else { continue };
            let memory = self.memories.entry(found.uid.clone()).or_default();
            if seen.started {
                memory.probes.insert((id.clone(), ProbeKind::Startup), Tracker::resumed(true));
                memory.probes.insert((id.clone(), ProbeKind::Readiness), Tracker::resumed(seen.ready));
            }
        }
    }

    /// What a successor must know.
    pub(super) fn recall(&self, statuses: &BTreeMap<String, PodStatus>, world: &World) -> Recall {
        let mut recall = Recall::default();
        for (uid, pod) in &world.pods {
            if let Some(sandbox) = &pod.memory.attached_to {
                recall.attached.insert(uid.clone(), sandbox.clone());
            }
            for container in statuses.get(uid).into_iter().flat_map(|status| &status.containers) {
                if let Some(id) = container.container_id.strip_prefix("docker://")
                    && container.started
                {
                    recall.note(id, container.ready);
                }
            }
        }
        recall
    }
}

/// Notes what became of a pod's containers. True when that is news. Of a pod that nobody wants nothing is noted, for it
/// will not be started again.
fn remember(
    memory: &mut Memory,
    instruction: Option<&PodInstruction>,
    found: &[Instance],
    machine: Timestamp,
) -> bool {
    let Some(instruction) = instruction else { return false };
    let before = memory.past.clone();
    memory.past.observe(found, machine, |kind, name| plan::wants(instruction, kind, name));
    memory.past != before
}

/// An instance without what must not be repeated to everybody.
fn discreet(mut instance: Instance, instruction: Option<&PodInstruction>) -> Instance {
    let spec = instruction.and_then(|pod| {
        let list = if instance.kind == Kind::Init { &pod.init_containers } else { &pod.containers };
        list.iter().find(|spec| spec.name == instance.name)
    });
    if let (Phase::Exited(exit), Some(spec)) = (&mut instance.phase, spec)
        && !exit.start_error.is_empty()
    {
        exit.start_error = secrecy::tell(spec, &exit.start_error);
    }
    instance
}

/// Notes at once what the beginning of an action means, so that the next plan knows.
pub(super) fn note_begin(
    memory: &mut Memory,
    instruction: Option<&PodInstruction>,
    action: &Action,
    now: Timestamp,
) {
    match action {
        Action::PrepareVolumes => memory.has_data = true,
        Action::Attach { .. } => memory.linked = true,
        Action::StopContainer { id, name, grace, .. } => {
            let has_hook = instruction.is_some_and(|pod| {
                pod.containers.iter().any(|spec| spec.name == *name && spec.pre_stop.is_some())
            });
            let grace = if has_hook && !grace.is_zero() { *grace + AFTER_HOOK } else { *grace };
            let stopping = Stopping { since: now, deadline: after(now, grace), killed_at: None };
            memory.stopping.insert(id.clone(), stopping);
        }
        Action::KillContainer { id, .. } => {
            if let Some(stopping) = memory.stopping.get_mut(id) {
                stopping.killed_at = Some(now);
            }
        }
        Action::RunProbe { id, kind, .. } => {
            memory.probes.entry((id.clone(), *kind)).or_default().asked_at = Some(now);
        }
        _ => {}
    }
}

/// Notes a failure and when the work is tried again.
pub(super) fn note_failure(memory: &mut Memory, slot: Slot, trouble: Trouble, now: Timestamp) {
    let (first, longest) = match slot {
        Slot::Link => (Duration::from_millis(500), Duration::from_secs(5)),
        Slot::Container(_) => (Duration::from_secs(2), Duration::from_secs(300)),
        Slot::Sandbox | Slot::Data => (Duration::from_secs(1), Duration::from_secs(60)),
        _ => (Duration::from_secs(1), Duration::from_secs(30)),
    };
    let count = memory.failures.get(&slot).map_or(1, |failure| failure.count.saturating_add(1));
    let retry_at = after(now, doubling(first, longest, count));
    let Trouble { reason, message } = trouble;
    memory.failures.insert(slot, Failure { reason, message, count, retry_at });
}

/// What must hold before a UID becomes a path and a name becomes a container.
fn check(pod: &PodInstruction) -> Result<(), String> {
    pod.uid.parse::<PodUid>().map_err(|error| error.to_string())?;
    if pod.terminate_after_seconds.is_some() {
        // Going is always possible.
        return Ok(());
    }
    let mut names = BTreeSet::new();
    for container in pod.init_containers.iter().chain(&pod.containers) {
        if container.name.is_empty() || !names.insert(&container.name) {
            return Err(format!("container name {:?} is empty or used twice", container.name));
        }
    }
    if pod.containers.is_empty() {
        return Err("it has no containers".to_owned());
    }
    Ok(())
}

fn refusal(pod: &PodInstruction, problem: String) -> PodStatus {
    PodStatus {
        uid: pod.uid.clone(),
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        // Without a UID nothing was ever made of it.
        gone: pod.terminate_after_seconds.is_some(),
        reason: "InvalidInstruction".to_owned(),
        message: format!("the agent cannot follow the controller's instruction: {problem}"),
        ..PodStatus::default()
    }
}
