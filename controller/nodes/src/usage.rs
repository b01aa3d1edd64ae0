//! What nodes and their pods use, as their agents last told, and when they were last heard of. Kept in memory only:
//! it is worth nothing after a few seconds.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use warren_plan::{Answers, NodeUsage, Traffic, Usage};
use warren_proto::control::{Consumer, TrafficReport, UsageReport};

use crate::{Nodes, identity::Caller, texts};

/// How old a measurement may be; agents measure about every 10 s.
const FRESH: Duration = Duration::from_secs(60);
/// The same of what gateways count: what one of several let in goes to the others when it is gone, and is not to be
/// counted twice for long.
const FRESH_TRAFFIC: Duration = Duration::from_secs(25);

/// How long it is remembered what pods answered, and in how many reports of one gateway; they come about every 10 s.
const REMEMBERED: Duration = Duration::from_secs(60);
const MOST_WINDOWS: usize = 8;

/// One node's last report.
pub(crate) struct Measured {
    received: Instant,
    time: Timestamp,
    report: Arc<UsageReport>,
}

/// What one gateway counted last.
pub(crate) struct Counted {
    received: Instant,
    traffic: Arc<Traffic>,
    /// What pods answered it, the oldest first.
    windows: VecDeque<(Instant, Arc<Answers>)>,
}

impl Nodes {
    pub(crate) fn report_usage(&self, caller: &Caller, mut report: UsageReport) {
        texts::usage(&mut report, &self.store.snapshot(), &caller.name);
        let measured =
            Measured { received: Instant::now(), time: Timestamp::now(), report: Arc::new(report) };
        self.usages.lock().insert(caller.name.clone(), measured);
    }

    /// By node: when its last fresh measurement arrived, and what it says.
    pub fn usage(&self) -> Vec<(String, Timestamp, Arc<UsageReport>)> {
        let usages = self.usages.lock();
        let fresh = usages.iter().filter(|(_, measured)| measured.received.elapsed() < FRESH);
        fresh.map(|(node, measured)| (node.clone(), measured.time, Arc::clone(&measured.report))).collect()
    }

    pub(crate) fn report_traffic(&self, caller: &Caller, report: &TrafficReport) {
        let snapshot = self.store.snapshot();
        let traffic = Arc::new(texts::traffic(report, &snapshot));
        let answers = texts::answers(report, &snapshot);
        let some_failed = answers.values().any(|answered| answered.failures > 0);
        let received = Instant::now();
        {
            let mut gateways = self.traffic.lock();
            let former = gateways.remove(&caller.name);
            let mut windows = former.map(|counted| counted.windows).unwrap_or_default();
            if !answers.is_empty() {
                windows.push_back((received, Arc::new(answers)));
            }
            while windows.len() > MOST_WINDOWS {
                windows.pop_front();
            }
            gateways.insert(caller.name.clone(), Counted { received, traffic, windows });
        }
        // A rollout that fails is not to wait for the next pass.
        if some_failed {
            self.wake.notify_one();
        }
    }

    /// What pods answered in the last minute: all that planners ask for where there is no autoscaler.
    pub fn answers(&self) -> Usage {
        let mut gateways = self.traffic.lock();
        for counted in gateways.values_mut() {
            counted.windows.retain(|(received, _)| received.elapsed() < REMEMBERED);
        }
        let windows = gateways.values().flat_map(|counted| &counted.windows);
        Usage { windows: windows.map(|(_, answers)| Arc::clone(answers)).collect(), ..Usage::default() }
    }

    /// All that is fresh, as autoscalers read it.
    pub fn measurements(&self) -> Usage {
        let Usage { windows, .. } = self.answers();
        let nodes = self.usage().into_iter();
        let nodes = nodes.map(|(node, measured, report)| (node, NodeUsage { measured, report }));
        let gateways = self.traffic.lock();
        let fresh = gateways.iter().filter(|(_, counted)| counted.received.elapsed() < FRESH_TRAFFIC);
        let gateways: BTreeMap<_, _> =
            fresh.map(|(gateway, counted)| (gateway.clone(), Arc::clone(&counted.traffic))).collect();
        Usage { nodes: nodes.collect(), gateways, windows }
    }

    /// By node: when its agent was last heard of.
    pub fn heartbeats(&self) -> Vec<(String, Timestamp)> {
        let (now, time) = (Instant::now(), Timestamp::now());
        let leases = self.leases.lock();
        let heard = leases.heard_of(Consumer::Agent);
        heard.map(|(node, beat)| (node.to_owned(), time - now.saturating_duration_since(beat))).collect()
    }
}
