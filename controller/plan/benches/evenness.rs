//! How evenly are nodes loaded after pods have come and gone, beside kube-scheduler's ways to score nodes?
//! `cargo bench -p warren-plan --bench evenness`. `WARREN_BENCH_QUICK=1` takes four traces instead of forty.
//!
//! A trace fills a cluster of unlike nodes to some level; then 1,000 times a pod of some size comes, or one goes. All
//! schedulers get the same traces. Ours is the real planner. The others are models of what Kubernetes documents:
//!
//! * `LeastAllocated` (of the plugin `NodeResourcesFit`): per resource the part of a node that is left after the pod, in
//!   whole hundredths; of these the mean.
//! * `NodeResourcesBalancedAllocation`: a hundred less the standard deviation of the used parts, in hundredths.
//! * The default profile adds both with weight 1.
//!
//! Nodes that score alike are chosen among by chance, as kube-scheduler does. Source:
//! <https://kubernetes.io/docs/reference/scheduling/config/> and the published scoring formulas of version 1.34. Nothing else
//! is scored here: no pod has an owner, an image that is known or wishes.
//!
//! No time is measured, so the table is the same on each machine. It fails when ours is less even than any of the others, or
//! refuses more pods, or fills its fullest node more, than the default profile.

#![allow(clippy::print_stdout, reason = "a benchmark's result goes to standard output")]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads its environment")]

mod cluster;

use std::{collections::BTreeMap, process::ExitCode, sync::Arc};

use serde_json::json;
use warren_plan::{Planner, World};
use warren_state::{Key, Object, Snapshot, Write};
use warren_vocabulary::{ClusterConfig, guard::Unwatched, resources::PODS};

/// Cores and gibibytes of the kinds of nodes; there are as many of each.
const NODE_KINDS: [(i64, i64); 6] = [(4, 16), (8, 16), (8, 32), (16, 64), (32, 128), (16, 32)];
const NODES_OF_A_KIND: usize = 10;
const PODS_OF_A_NODE: i64 = 110;
/// How much of the cluster's cores is asked for while pods come and go, in hundredths.
const LEVELS: [i64; 4] = [30, 60, 80, 95];
const EVENTS: usize = 1_000;
/// By how much the fullest node may be fuller: a hundredth of a node is no difference that anybody notices.
const SAME: f64 = 0.01;

/// Thousandths of a core, mebibytes, pods.
type Amounts = [i64; 3];

#[derive(Clone, Copy)]
enum Event {
    Comes(usize, Amounts),
    Goes(usize),
}

/// Numbers by chance, the same ones for the same seed (SplitMix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % (limit.max(1) as u64)).unwrap_or(0)
    }

    fn between(&mut self, low: i64, high: i64) -> i64 {
        low + i64::try_from(self.below(usize::try_from(high - low + 1).unwrap_or(1))).unwrap_or(0)
    }

    /// Half are small, some middling, and some want much of one thing.
    fn size(&mut self) -> Amounts {
        let (cpu, memory) = match self.below(10) {
            0..5 => ((50, 500), (64, 512)),
            5..8 => ((500, 2_000), (512, 4_096)),
            8 => ((2_000, 4_000), (512, 1_024)),
            _ => ((100, 500), (4_096, 12_288)),
        };
        [self.between(cpu.0, cpu.1), self.between(memory.0, memory.1), 1]
    }
}

fn nodes() -> Vec<Amounts> {
    let kinds = NODE_KINDS.map(|(cores, gibibytes)| [cores * 1_000, gibibytes * 1_024, PODS_OF_A_NODE]);
    std::iter::repeat_n(kinds, NODES_OF_A_KIND).flatten().collect()
}

/// Pods come until the level is reached; then they come and go around it.
fn trace(seed: u64, level: i64) -> Vec<Event> {
    let mut chance = Chance(seed);
    let all: i64 = nodes().iter().map(|[cpu, ..]| cpu).sum();
    let (mut events, mut there, mut asked, mut next) = (Vec::new(), Vec::new(), 0, 0);
    let mut left = EVENTS;
    while left > 0 {
        let below = asked * 100 < all * level;
        let full = left < EVENTS || !below;
        if full {
            left -= 1;
        }
        // Two of three times towards the level.
        let comes = if full { (chance.below(3) < 2) == below } else { true };
        if comes || there.is_empty() {
            let size = chance.size();
            asked += size[0];
            there.push((next, size));
            events.push(Event::Comes(next, size));
            next += 1;
        } else {
            let (pod, size) = there.swap_remove(chance.below(there.len()));
            asked -= size[0];
            events.push(Event::Goes(pod));
        }
    }
    events
}

/// Whoever chooses a node for a pod.
trait Scheduler {
    fn place(&mut self, pod: usize, size: Amounts, used: &[Amounts], all: &[Amounts]) -> Option<usize>;
    fn goes(&mut self, pod: usize);
}

/// One of kube-scheduler's ways to score nodes.
struct Model {
    score: Scoring,
    chance: Chance,
}

impl Scheduler for Model {
    fn place(&mut self, _: usize, size: Amounts, used: &[Amounts], all: &[Amounts]) -> Option<usize> {
        let after = |node: usize| std::array::from_fn(|kind| used[node][kind] + size[kind]);
        let fits =
            |node: &usize| after(*node).iter().zip(&all[*node]).all(|(used, all): (&i64, _)| used <= all);
        let scores: Vec<(i64, usize)> =
            (0..all.len()).filter(fits).map(|node| ((self.score)(after(node), all[node]), node)).collect();
        let best = scores.iter().map(|(score, _)| *score).max()?;
        let tied: Vec<usize> =
            scores.into_iter().filter(|(score, _)| *score == best).map(|(_, node)| node).collect();
        tied.get(self.chance.below(tied.len())).copied()
    }

    fn goes(&mut self, _: usize) {}
}

/// What a node is worth that has so much used of so much, with the pod.
type Scoring = fn(Amounts, Amounts) -> i64;

const MODELS: [(&str, Scoring); 3] = [
    ("LeastAllocated", least_allocated),
    ("BalancedAllocation", balanced_allocation),
    ("both, the default", default_profile),
];

fn least_allocated(used: Amounts, all: Amounts) -> i64 {
    let left = |kind: usize| (all[kind] - used[kind]) * 100 / all[kind];
    (left(0) + left(1)) / 2
}

fn balanced_allocation(used: Amounts, all: Amounts) -> i64 {
    let part = |kind: usize| (used[kind] as f64 / all[kind] as f64).min(1.0);
    // Of two numbers, half their distance is the standard deviation.
    ((1.0 - (part(0) - part(1)).abs() / 2.0) * 100.0) as i64
}

fn default_profile(used: Amounts, all: Amounts) -> i64 {
    least_allocated(used, all) + balanced_allocation(used, all)
}

/// The real planner, and the state that it plans for.
struct Ours {
    snapshot: Snapshot,
    planner: Planner,
    world: World,
}

impl Ours {
    fn new() -> Self {
        let mut snapshot = cluster::empty();
        for (index, [cpu, memory, pods]) in nodes().into_iter().enumerate() {
            let allocatable = json!({"cpu": format!("{cpu}m"), "memory": format!("{memory}Mi"),
                "pods": pods.to_string()});
            cluster::add_node(&mut snapshot, index, json!({}), &allocatable);
        }
        let world = World { config: ClusterConfig::default(), ..World::default() };
        Self { snapshot, planner: Planner::default(), world }
    }
}

fn pod_name(pod: usize) -> String {
    format!("pod-{pod:06}")
}

impl Scheduler for Ours {
    fn place(
        &mut self,
        pod: usize,
        [cpu, memory, _]: Amounts,
        _: &[Amounts],
        _: &[Amounts],
    ) -> Option<usize> {
        let name = pod_name(pod);
        self.snapshot.revision += 1;
        let requests = json!({"cpu": format!("{cpu}m"), "memory": format!("{memory}Mi")});
        let value = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", "uid": name,
                "creationTimestamp": "2026-11-22T11:00:00Z"},
            "spec": {"containers": [{"name": "main", "image": "image:1", "resources": {"requests": requests}}]},
            "status": {"phase": "Pending"},
        });
        cluster::put(&mut self.snapshot, PODS, "default", value);
        (self.world.snapshot, self.world.acknowledged) =
            (Arc::new(self.snapshot.clone()), self.snapshot.revision);
        let now = "2026-11-22T12:00:00Z".parse().expect("a time");
        let plan = self.planner.plan(&self.world, now, &Unwatched);
        let bound = plan.steps.into_iter().find(|step| step.why.starts_with("bind "));
        let Some(bound) = bound else {
            self.goes(pod);
            return None;
        };
        let mut place = None;
        self.snapshot.revision += 1;
        for write in bound.transaction.writes {
            if let Write::Put(key, value) = write
                && &*key.resource == PODS
            {
                let node = value["spec"]["nodeName"].as_str().map(str::to_owned);
                place = (0..nodes().len()).find(|index| Some(cluster::node_name(*index)) == node);
                self.snapshot.insert(Arc::new(Object::new(key, self.snapshot.revision, value)));
            }
        }
        place
    }

    fn goes(&mut self, pod: usize) {
        self.snapshot.revision += 1;
        self.snapshot.remove(&Key::new(PODS, "default", &pod_name(pod)));
    }
}

/// How even the nodes are in the end.
#[derive(Clone, Copy, Default)]
struct Evenness {
    mean: f64,
    most: f64,
    deviation: f64,
    /// Deviation by mean.
    variation: f64,
    /// Pods that came when no node had room.
    refused: f64,
}

impl Evenness {
    fn add(&mut self, other: Self, part: f64) {
        self.mean += other.mean * part;
        self.most += other.most * part;
        self.deviation += other.deviation * part;
        self.variation += other.variation * part;
        self.refused += other.refused * part;
    }

    /// Whether it is worse than kube-scheduler's default profile.
    fn is_worse_than_the_default(self, other: Self) -> bool {
        self.is_less_even(other) || self.refused > other.refused || self.most > other.most + SAME
    }

    fn is_less_even(self, other: Self) -> bool {
        self.deviation > other.deviation || self.variation > other.variation
    }
}

/// Plays a trace.
fn play(events: &[Event], scheduler: &mut dyn Scheduler) -> Evenness {
    let all = nodes();
    let mut used = vec![[0; 3]; all.len()];
    let mut places = BTreeMap::new();
    let mut refused = 0;
    for event in events {
        match *event {
            Event::Comes(pod, size) => match scheduler.place(pod, size, &used, &all) {
                Some(node) => {
                    (0..3).for_each(|kind| used[node][kind] += size[kind]);
                    assert!((0..3).all(|kind| used[node][kind] <= all[node][kind]), "too much on a node");
                    places.insert(pod, (node, size));
                }
                None => refused += 1,
            },
            Event::Goes(pod) => {
                if let Some((node, size)) = places.remove(&pod) {
                    (0..3).for_each(|kind| used[node][kind] -= size[kind]);
                    scheduler.goes(pod);
                }
            }
        }
    }
    let load = |(used, all): (&Amounts, &Amounts)| {
        (0..3).map(|kind| used[kind] as f64 / all[kind] as f64).fold(0.0, f64::max)
    };
    let loads: Vec<f64> = used.iter().zip(&all).map(load).collect();
    let count = loads.len() as f64;
    let mean = loads.iter().sum::<f64>() / count;
    let deviation = (loads.iter().map(|load| (load - mean).powi(2)).sum::<f64>() / count).sqrt();
    let most = loads.iter().copied().fold(0.0, f64::max);
    Evenness { mean, most, deviation, variation: deviation / mean, refused: f64::from(refused) }
}

fn main() -> ExitCode {
    let traces = if std::env::var("WARREN_BENCH_QUICK").is_ok() { 4 } else { 40 };
    println!(
        "{} nodes of {} kinds; {traces} traces of {EVENTS} pods that come or go at each level; means over traces",
        nodes().len(),
        NODE_KINDS.len()
    );
    println!("load: that of a node's most loaded dimension (cpu, memory, pods)");
    println!(
        "{:5} {:20} {:>6} {:>6} {:>10} {:>10} {:>8}",
        "level", "scheduler", "mean", "most", "deviation", "variation", "refused"
    );
    let mut worse_at = 0;
    for level in LEVELS {
        let mut results = [Evenness::default(); 4];
        for seed in 0..traces {
            let events = trace(seed, level);
            let part = 1.0 / traces as f64;
            results[0].add(play(&events, &mut Ours::new()), part);
            for (result, (_, score)) in results.iter_mut().skip(1).zip(MODELS) {
                result.add(play(&events, &mut Model { score, chance: Chance(!seed) }), part);
            }
        }
        let names = std::iter::once("Warren").chain(MODELS.iter().map(|(name, _)| *name));
        for (name, result) in names.zip(results) {
            println!(
                "{level:4}% {name:20} {:5.1}% {:5.1}% {:9.2}% {:10.4} {:8.2}",
                result.mean * 100.0,
                result.most * 100.0,
                result.deviation * 100.0,
                result.variation,
                result.refused
            );
        }
        let [ours, least, balanced, default] = results;
        let worse = ours.is_less_even(least)
            || ours.is_less_even(balanced)
            || ours.is_worse_than_the_default(default);
        worse_at += usize::from(worse);
    }
    println!("ours is worse at {worse_at} of {} levels", LEVELS.len());
    if worse_at > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
