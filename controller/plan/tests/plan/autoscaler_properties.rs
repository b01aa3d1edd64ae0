//! Whatever the load: the size stays within its bounds, never goes faster than its policies, and comes to rest.
//!
//! Only the autoscaler's own steps are carried out, and pods follow the size by themselves: the other planners have tests
//! of their own.

use std::{collections::BTreeMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};
use warren_plan::{NodeUsage, Planner, ScalingRecord, Usage, World};
use warren_proto::control::{ContainerUsage, PodUsage, Usage as Amounts, UsageReport};
use warren_state::{Key, Object, Snapshot, Write};
use warren_vocabulary::{guard::Unwatched, resources::*};

#[derive(Debug, Clone)]
enum Event {
    /// All pods together use so many thousandths of a processor, for so many looks.
    Load(u64, usize),
    /// Of this pod nothing is known for so many looks.
    Lose(usize, usize),
    /// So many looks during which no new pod becomes ready.
    Slow(usize),
    /// What was planned is not carried out.
    Drop,
    /// The controller starts anew.
    Restart,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..3_000u64, 1..30usize).prop_map(|(load, looks)| Event::Load(load, looks)),
        1 => (0..8usize, 1..4usize).prop_map(|(which, looks)| Event::Lose(which, looks)),
        1 => (1..4usize).prop_map(Event::Slow),
        1 => Just(Event::Drop),
        1 => Just(Event::Restart),
    ]
}

#[derive(Debug, Clone)]
struct Policy {
    percent: bool,
    value: i64,
    seconds: i64,
}

#[derive(Debug, Clone)]
struct Rules {
    policies: Vec<Policy>,
    smallest: bool,
    window: i64,
}

fn rules() -> impl Strategy<Value = Rules> {
    let policy = (any::<bool>(), 1..5i64, 1..100i64);
    let policy = policy.prop_map(|(percent, value, seconds)| {
        // Half of few is none at the end: nothing that shrinks to one may stand still.
        Policy { percent, value: if percent { 50 + value * 10 } else { value }, seconds }
    });
    let window = prop_oneof![Just(0i64), Just(30), Just(120)];
    (proptest::collection::vec(policy, 1..3), any::<bool>(), window)
        .prop_map(|(policies, smallest, window)| Rules { policies, smallest, window })
}

impl Rules {
    fn json(&self) -> Value {
        let policies = self.policies.iter().map(|policy| {
            let kind = if policy.percent { "Percent" } else { "Pods" };
            json!({"type": kind, "value": policy.value, "periodSeconds": policy.seconds})
        });
        json!({"policies": policies.collect::<Vec<_>>(), "stabilizationWindowSeconds": self.window,
            "selectPolicy": if self.smallest { "Min" } else { "Max" }})
    }

    /// How far a size may go, by the sizes that it had at the beginning of each period.
    fn farthest(&self, up: bool, began: impl Fn(i64) -> i64) -> i64 {
        let reach = self.policies.iter().map(|policy| {
            let began = began(policy.seconds);
            match (policy.percent, up) {
                (false, true) => began + policy.value,
                (false, false) => began - policy.value,
                (true, true) => (began * (100 + policy.value) + 99) / 100,
                (true, false) => began * (100 - policy.value).max(0) / 100,
            }
        });
        if up == self.smallest { reach.min() } else { reach.max() }.unwrap()
    }
}

/// What a test has seen.
struct Run {
    objects: BTreeMap<Key, (u64, Value)>,
    revision: u64,
    now: Timestamp,
    planner: Planner,
    records: BTreeMap<Key, Arc<ScalingRecord>>,
    /// Which pods there are, and whether they are ready.
    pods: Vec<bool>,
    up: Rules,
    down: Rules,
    bounds: (i64, i64),
    /// Each size, and since when.
    sizes: Vec<(Timestamp, i64)>,
}

fn scaler() -> Key {
    Key::new(HORIZONTALPODAUTOSCALERS, "default", "web")
}

fn target() -> Key {
    Key::new(STATEFULSETS, "default", "web")
}

impl Run {
    fn new(replicas: i64, bounds: (i64, i64), up: Rules, down: Rules) -> Self {
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        let mut run = Self {
            objects: BTreeMap::new(),
            revision: 0,
            now,
            planner: Planner::default(),
            records: BTreeMap::new(),
            pods: Vec::new(),
            up,
            down,
            bounds,
            sizes: vec![(now, replicas)],
        };
        let cpu = json!({"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": 50}}});
        let spec = json!({"minReplicas": bounds.0, "maxReplicas": bounds.1,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web"},
            "behavior": {"scaleUp": run.up.json(), "scaleDown": run.down.json()}, "metrics": [cpu]});
        run.put(
            scaler(),
            json!({"metadata": {"name": "web", "namespace": "default", "uid": "a"}, "spec": spec}),
        );
        run.put(
            target(),
            json!({"metadata": {"name": "web", "namespace": "default", "uid": "t"}, "spec": {
                "replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": {}}}),
        );
        run
    }

    fn put(&mut self, key: Key, value: Value) {
        self.revision += 1;
        self.objects.insert(key, (self.revision, value));
    }

    fn size(&self) -> i64 {
        self.objects[&target()].1["spec"]["replicas"].as_i64().unwrap()
    }

    /// As many pods as are wanted; new ones are ready, if they are quick.
    fn follow(&mut self, quick: bool) {
        let count = usize::try_from(self.size()).unwrap();
        if quick {
            self.pods.iter_mut().for_each(|ready| *ready = true);
        }
        self.pods.resize(count, quick);
        self.objects.retain(|key, _| &*key.resource != PODS);
        for (number, ready) in self.pods.clone().into_iter().enumerate() {
            let name = format!("web-{number:03}");
            let ready = json!({"type": "Ready", "status": if ready { "True" } else { "False" },
                "lastTransitionTime": "2026-11-22T10:00:00Z"});
            let pod = json!({"metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"app": "web"}},
                "spec": {"nodeName": "node", "containers": [
                    {"name": "main", "resources": {"requests": {"cpu": "100m"}}}]},
                "status": {"phase": "Running", "startTime": "2026-11-22T10:00:00Z", "conditions": [ready]}});
            self.put(Key::new(PODS, "default", &name), pod);
        }
    }

    /// What the ready pods use, which share the load.
    fn usage(&self, load: u64, lost: Option<usize>) -> Usage {
        let ready = self.pods.iter().filter(|ready| **ready).count().max(1) as u64;
        let share = Some(Amounts { cpu_nanos: load.div_ceil(ready) * 1_000_000, memory_bytes: 1 });
        let told = self.pods.iter().enumerate().filter(|(number, _)| lost != Some(*number));
        let pods = told.map(|(number, ready)| PodUsage {
            uid: format!("web-{number:03}"),
            namespace: "default".into(),
            name: format!("web-{number:03}"),
            containers: vec![ContainerUsage {
                name: "main".into(),
                usage: share.filter(|_| *ready).or(Some(Amounts::default())),
            }],
        });
        let report = UsageReport { window_milliseconds: 10_000, node: None, pods: pods.collect() };
        let node = NodeUsage { measured: self.now, report: Arc::new(report) };
        Usage { nodes: [("node".to_owned(), node)].into(), ..Usage::default() }
    }

    /// One look, so many seconds after the last one.
    fn look(&mut self, seconds: i64, usage: Usage, carried_out: bool) -> Result<(), TestCaseError> {
        self.now += SignedDuration::from_secs(seconds);
        let object = |(key, (revision, value)): (&Key, &(u64, Value))| {
            Object::new(key.clone(), *revision, value.clone())
        };
        let world = World {
            snapshot: Arc::new(Snapshot::from_objects(self.revision, self.objects.iter().map(object))),
            usage,
            scaling_records: self.records.clone(),
            ..World::default()
        };
        let plan = self.planner.plan(&world, self.now, &Unwatched);
        prop_assert!(plan.failures.is_empty(), "{:?}", plan.failures);
        self.records.extend(plan.scaling_records);
        let steps = plan.steps.into_iter().filter(|step| step.planner == "autoscaling" && carried_out);
        for write in steps.flat_map(|step| step.transaction.writes) {
            if let Write::Put(key, value) = write {
                self.put(key, value);
            }
        }
        self.check()
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
        let ((_, before), size) = (*self.sizes.last().unwrap(), self.size());
        let (least, most) = self.bounds;
        prop_assert!((least..=most).contains(&size), "{size} is not within {least} and {most}");
        if size == before {
            return Ok(());
        }
        let now = Timestamp::from_second(self.now.as_second()).unwrap();
        let began = |seconds: i64| {
            let since = now - SignedDuration::from_secs(seconds);
            let earlier = self.sizes.iter().rev().find(|(time, _)| *time <= since);
            earlier.unwrap_or(&self.sizes[0]).1
        };
        let up = size > before;
        let farthest = if up { &self.up } else { &self.down }.farthest(up, began);
        let keeps = if up { size <= farthest } else { size >= farthest };
        prop_assert!(keeps, "{before} became {size}, and {farthest} was allowed: {:?}", self.sizes);
        self.sizes.push((now, size));
        Ok(())
    }

    fn looks(
        &mut self,
        count: usize,
        load: u64,
        lost: Option<usize>,
        quick: bool,
    ) -> Result<(), TestCaseError> {
        for number in 0..count {
            self.follow(quick);
            let usage = self.usage(load, lost);
            // Sometimes there is a pass before it is time.
            self.look(if number % 3 == 2 { 7 } else { 15 }, usage, true)?;
        }
        Ok(())
    }

    fn happen(&mut self, event: &Event, load: &mut u64) -> Result<(), TestCaseError> {
        match event {
            Event::Load(now, looks) => {
                *load = *now;
                self.looks(*looks, *load, None, true)
            }
            Event::Lose(which, looks) => self.looks(*looks, *load, Some(*which), true),
            Event::Slow(looks) => self.looks(*looks, *load, None, false),
            Event::Drop => {
                self.follow(true);
                let usage = self.usage(*load, None);
                self.look(15, usage, false)
            }
            Event::Restart => {
                (self.planner, self.records) = (Planner::default(), BTreeMap::new());
                // What was done is forgotten: rates begin anew.
                self.sizes.drain(..self.sizes.len() - 1);
                Ok(())
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_size_keeps_its_bounds_and_rates_and_comes_to_rest(
        events in proptest::collection::vec(event(), 1..12),
        up in rules(),
        down in rules(),
        least in 1..3i64,
        more in 0..12i64,
        replicas in 0..12i64,
    ) {
        let most = least + more;
        let mut run = Run::new(replicas.clamp(least, most), (least, most), up, down);
        let mut load = 100;
        for event in &events {
            run.happen(event, &mut load)?;
        }
        // At one pod in a hundred seconds from one end to the other.
        run.looks(140, load, None, true)?;
        let rest = run.size();
        // Each pod should use 50 thousandths of a processor. Shares are rounded up, so that more than one size may be right.
        let each = i64::try_from(load.div_ceil(u64::try_from(rest).unwrap())).unwrap();
        let wanted = if (45..=55).contains(&each) { rest } else { (each * rest + 49) / 50 };
        prop_assert_eq!(rest, wanted.clamp(least, most), "each uses {}", each);
        run.looks(20, load, None, true)?;
        prop_assert_eq!(run.size(), rest, "it comes to rest");
    }
}
