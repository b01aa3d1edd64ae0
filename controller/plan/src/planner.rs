//! Plans for what was touched.
//!
//! ```text
//!  world ──► what differs from the last one ──► views advance ──► rules: which keys ──► planners ──► memories, steps
//! ```
//!
//! A start is the difference from nothing, so there is one path. What was said of keys that nothing has touched stays
//! true: a plan holds it as if all keys had been planned.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use warren_objects::Registries;
use warren_state::{Difference, Key, Object, Snapshot};
use warren_vocabulary::{
    ClusterConfig,
    guard::{Failure, Progress},
};

use crate::{
    Answers, Explanation, Health, Liveness, Plan, Problem, RefusedWrite, World, failures, garbage, health,
    indexes::{By, Indexes},
    memory::{Memories, Memory, Unit},
    node_lifecycle::{brakes, next_silence},
    object,
    outcome::{Finished, Outcome},
    schedule::explain::with_indexes,
    stages::{STAGES, Stage},
    touch::{Due, Rules},
    view::View,
};

/// Plans again and again, and only for what was touched since the last time.
#[derive(Default)]
pub struct Planner {
    indexes: Indexes,
    memories: Memories,
    seen: Option<LastWorld>,
    /// Where the next look at keys that nothing has touched begins, and at how many objects.
    revisit: (Option<Key>, usize),
    planned: usize,
    missed: Vec<String>,
}

/// The world of the last plan, as far as differences from it matter.
struct LastWorld {
    now: Timestamp,
    snapshot: Arc<Snapshot>,
    config: ClusterConfig,
    nodes: BTreeMap<String, NodeState>,
    silence: SilentNodes,
    acknowledged: u64,
    released_since: u64,
    quarantined: Vec<Arc<Object>>,
    refusals: BTreeMap<Key, Vec<RefusedWrite>>,
    windows: Vec<Arc<Answers>>,
}

/// What matters of a node's liveness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NodeState {
    health: Health,
    network_ready: bool,
}

impl NodeState {
    fn of(liveness: &Liveness) -> Self {
        Self { health: health(liveness), network_ready: liveness.network_ready }
    }
}

/// How many nodes are suspect or lost, of how many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct SilentNodes {
    silent: usize,
    all: usize,
}

impl Planner {
    /// A planner that knows of the kinds that are served.
    pub fn for_kinds(registries: Arc<Registries>) -> Self {
        let mut planner = Self::default();
        planner.indexes.registries = registries;
        planner
    }

    /// What to do next. Nothing that was planned before needs to have been carried out.
    pub fn plan(&mut self, world: &World, now: Timestamp, progress: &dyn Progress) -> Plan {
        let mut outcome = Outcome::new(now, progress).minding(&world.refusals);
        let Some(mut due) = self.due(world, now, &mut outcome) else {
            // Views that advanced half-way are worth nothing.
            *self = Self::for_kinds(Arc::clone(&self.indexes.registries));
            let Finished { failures, .. } = outcome.finish();
            return Plan { failures, wake_at: Some(object::later(now, 1)), ..Plan::default() };
        };
        let checked = self.checked(world);
        let unexpected = due.extend(&checked);
        if due.room || checked.room {
            let waiting = self.indexes.waiting.keys();
            waiting.for_each(|(.., key)| due.add(Stage::Scheduling, key));
        }
        self.planned = due.len();
        let silence = silence(world, &self.indexes);
        let view = View::new(world, &self.indexes, now, silence.silent);
        let mut done = Vec::new();
        for (place, (name, planner)) in STAGES.iter().enumerate() {
            let whole = outcome.stage(place, name, |outcome| planner(&view, due.of(place), outcome));
            done.push(whole.is_some());
        }
        outcome.stage(STAGES.len(), "garbage", |outcome| garbage::forget_events(&view, outcome));
        let failed = self.failures(&due, &outcome);
        outcome.stage(STAGES.len(), "failures", |outcome| failures::plan(&view, &failed, outcome));
        let finished = outcome.finish();
        self.missed = missed(&unexpected, &finished);
        let plan = self.remember(&due, &done, finished);
        self.see(world, now, silence);
        self.plan_of(plan, world, now)
    }

    /// Explains where a pod may run in the world of the last plan; nothing if it has no such pod. It costs about what it
    /// costs to plan for that pod alone.
    pub fn explain(&self, world: &World, pod: &Key, now: Timestamp) -> Option<Explanation> {
        let knows = |seen: &LastWorld| Arc::ptr_eq(&seen.snapshot, &world.snapshot);
        if self.seen.as_ref().is_some_and(knows) {
            with_indexes(world, &self.indexes, pod, now)
        } else {
            crate::explain(world, pod, now)
        }
    }

    /// How many keys the last plan looked at.
    pub fn planned(&self) -> usize {
        self.planned
    }

    /// With the next plan, looks at the keys of so many objects that nothing has touched; the next call goes on behind
    /// them. It costs little, and finds whatever the rules of what concerns what have forgotten.
    pub fn revisit(&mut self, objects: usize) {
        self.revisit.1 = objects;
    }

    /// Keys that the last plan looked at without reason, and that wanted something all the same: a fault of ours.
    pub fn missed(&self) -> &[String] {
        &self.missed
    }

    /// Advances the views, and says which keys are concerned.
    fn due(&mut self, world: &World, now: Timestamp, outcome: &mut Outcome<'_>) -> Option<Due> {
        let mut due = Due::default();
        let nothing = Arc::default();
        let differences: Vec<Difference> = {
            let older = self.seen.as_ref().map_or(&nothing, |seen| &seen.snapshot);
            world.snapshot.diff(older).collect()
        };
        outcome.stage(0, crate::indexes::STAGE, |outcome| {
            differences.iter().for_each(|difference| self.indexes.apply(difference, outcome));
        })?;
        let circles = self.indexes.find_circles();
        let Self { indexes, memories, seen, .. } = self;
        let rules = Rules { indexes, snapshot: &world.snapshot, memories };
        differences.iter().for_each(|difference| rules.object(difference, &mut due));
        rules.circles(&circles, &mut due);
        memories.open().for_each(|unit| due.add_unit(unit));
        memories.due(now).for_each(|unit| due.add_unit(unit));
        memories.acknowledged(world.acknowledged).for_each(|unit| due.add_unit(unit));
        match seen {
            Some(seen) if seen.is_comparable(world, now) => {
                if seen.acknowledged > world.acknowledged {
                    indexes.all(By::Stopping).for_each(|pod| due.add(Stage::Termination, &pod.key));
                    due.room = true;
                }
                due.room |= seen.released_since != world.released_since;
                liveness(seen, world, &rules, &mut due);
                refusals(seen, world, now, &rules, &mut due);
                answers(seen, world, memories, &mut due);
            }
            // What cannot be compared may concern everybody.
            _ => world.snapshot.iter().for_each(|object| rules.object(&first(object), &mut due)),
        }
        Some(due)
    }

    /// The keys of the next objects that are looked at again.
    fn checked(&mut self, world: &World) -> Due {
        let mut due = Due::default();
        let (from, count) = std::mem::take(&mut self.revisit);
        if count == 0 {
            self.revisit.0 = from;
            return due;
        }
        let rules = Rules { indexes: &self.indexes, snapshot: &world.snapshot, memories: &self.memories };
        let mut objects = world.snapshot.from(from.as_ref());
        for object in objects.by_ref().take(count) {
            let same = Difference { previous: Some(Arc::clone(object)), current: Some(Arc::clone(object)) };
            rules.object(&same, &mut due);
        }
        self.revisit.0 = objects.next().map(|object| object.key.clone());
        due
    }

    /// What we fail on: now, earlier, and while reading.
    fn failures(&self, due: &Due, outcome: &Outcome<'_>) -> Vec<Failure> {
        let earlier = self.memories.said().filter(|(unit, _)| !due.contains(unit));
        let earlier = earlier.flat_map(|(_, memory)| &memory.failures);
        self.indexes.failures().chain(earlier).chain(outcome.failures()).cloned().collect()
    }

    /// Remembers what was said of each key that was planned.
    fn remember(&mut self, due: &Due, done: &[bool], finished: Finished) -> Plan {
        let Finished { steps, mut units, outside, failures, scaling_records } = finished;
        for stage in 0..STAGES.len() {
            for key in due.of(stage) {
                let unit = Unit { stage, key: key.clone() };
                if units.contains_key(&unit) {
                    continue;
                }
                if done.get(stage) == Some(&true) {
                    self.memories.remember(unit, Memory::default());
                } else {
                    // The planner failed before it came to it.
                    self.memories.reopen(unit);
                }
            }
        }
        while let Some((unit, memory)) = units.pop_first() {
            self.memories.remember(unit, memory);
        }
        Plan {
            steps,
            problems: outside.problems,
            failures: [failures, outside.failures].concat(),
            wake_at: outside.wake_at,
            scaling_records,
        }
    }

    /// The whole plan: what this pass came to, and what is still true.
    fn plan_of(&self, mut plan: Plan, world: &World, now: Timestamp) -> Plan {
        let mut problems: Vec<Problem> = self.indexes.problems().cloned().collect();
        let mut failures: Vec<Failure> = self.indexes.failures().cloned().collect();
        for (_, memory) in self.memories.said() {
            problems.extend(memory.problems.iter().cloned());
            failures.extend(memory.failures.iter().cloned());
        }
        problems.append(&mut plan.problems);
        failures.append(&mut plan.failures);
        let silences = world.nodes.values().filter_map(next_silence).min();
        let silence = silences.and_then(|rest| now.checked_add(rest).ok());
        let wake_at = [plan.wake_at, self.memories.wake_at(), silence].into_iter().flatten().min();
        Plan { problems, failures, wake_at, ..plan }
    }

    fn see(&mut self, world: &World, now: Timestamp, silence: SilentNodes) {
        let before = self.seen.take().filter(|seen| seen.is_comparable(world, now));
        let now = before.as_ref().map_or(now, |seen| seen.now.max(now));
        let mut nodes = before.map(|seen| seen.nodes).unwrap_or_default();
        if !world.nodes.iter().map(heard).eq(nodes.iter().map(|(name, heard)| (name, *heard))) {
            nodes =
                world.nodes.iter().map(|(name, liveness)| (name.clone(), NodeState::of(liveness))).collect();
        }
        self.seen = Some(LastWorld {
            now,
            snapshot: Arc::clone(&world.snapshot),
            config: world.config.clone(),
            nodes,
            silence,
            acknowledged: world.acknowledged,
            released_since: world.released_since,
            quarantined: world.quarantined.clone(),
            refusals: world.refusals.clone(),
            windows: world.usage.windows.clone(),
        });
    }
}

impl LastWorld {
    /// Whether what has changed since says whom it concerns.
    fn is_comparable(&self, world: &World, now: Timestamp) -> bool {
        // A clock that was set back by less changes no decision.
        self.now <= object::later(now, 1)
            && self.snapshot.epoch == world.snapshot.epoch
            && self.config == world.config
            && self.quarantined == world.quarantined
    }
}

fn first(object: &Arc<Object>) -> Difference {
    Difference { previous: None, current: Some(Arc::clone(object)) }
}

fn heard<'w>((name, liveness): (&'w String, &Liveness)) -> (&'w String, NodeState) {
    (name, NodeState::of(liveness))
}

fn silence(world: &World, indexes: &Indexes) -> SilentNodes {
    let silent = world.nodes.iter().filter(|(_, liveness)| health(liveness) != Health::Alive);
    SilentNodes { silent: silent.filter(|(name, _)| indexes.has_node(name)).count(), all: indexes.nodes }
}

/// Whom it concerns that nodes were heard of, or were not.
fn liveness(seen: &LastWorld, world: &World, rules: &Rules<'_>, due: &mut Due) {
    let same = world.nodes.iter().map(heard).eq(seen.nodes.iter().map(|(name, heard)| (name, *heard)));
    if !same {
        for name in world.nodes.keys().chain(seen.nodes.keys()) {
            let now = world.nodes.get(name).map(NodeState::of);
            if now != seen.nodes.get(name).copied() {
                rules.liveness(name, due);
            }
        }
    }
    let silence = silence(world, rules.indexes);
    let brake = |silence: SilentNodes| brakes(silence.silent, silence.all);
    if silence != seen.silence && (brake(silence) || brake(seen.silence)) {
        for (name, liveness) in &world.nodes {
            if health(liveness) != Health::Alive {
                rules.silence(name, due);
            }
        }
    }
}

/// Whom it concerns that something was refused, or is refused for other reasons, until another time or no longer.
fn refusals(seen: &LastWorld, world: &World, now: Timestamp, rules: &Rules<'_>, due: &mut Due) {
    for about in world.refusals.keys().chain(seen.refusals.keys()) {
        let current = world.refusals.get(about);
        // What could be tried again waits once more when the clock was set back.
        let waits_again = |refused: &RefusedWrite| now < refused.until && refused.until <= seen.now;
        if current != seen.refusals.get(about) || current.is_some_and(|all| all.iter().any(waits_again)) {
            rules.refusal(about, due);
        }
    }
}

/// Whom it concerns that gateways told what pods answered, or that it was too long ago: those who looked at it.
fn answers(seen: &LastWorld, world: &World, memories: &Memories, due: &mut Due) {
    let places = |windows: &[Arc<Answers>]| windows.iter().map(Arc::as_ptr).collect::<BTreeSet<_>>();
    let (before, now) = (places(&seen.windows), places(&world.usage.windows));
    for window in seen.windows.iter().chain(&world.usage.windows) {
        let place = Arc::as_ptr(window);
        if before.contains(&place) != now.contains(&place) {
            window.keys().flat_map(|key| memories.readers(key)).for_each(|unit| due.add_unit(unit));
        }
    }
}

/// Which keys wanted a step though nothing had touched them.
fn missed(unexpected: &[Unit], finished: &Finished) -> Vec<String> {
    let open = |unit: &&Unit| finished.units.get(*unit).is_some_and(|memory| memory.open);
    let name = |unit: &Unit| format!("{} {}", STAGES.get(unit.stage).map_or("", |(name, _)| name), unit.key);
    unexpected.iter().filter(open).map(name).collect()
}
