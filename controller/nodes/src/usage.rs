//! What nodes and their pods use, as their agents last told, and when they were last heard of. Kept in memory only:
//! it is worth nothing after a few seconds.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use warren_proto::control::{Consumer, UsageReport};

use crate::{Nodes, identity::Caller, texts};

/// How old a measurement may be; agents measure about every 10 s.
const FRESH: Duration = Duration::from_secs(60);

/// One node's last report.
pub(crate) struct Measured {
    received: Instant,
    time: Timestamp,
    report: Arc<UsageReport>,
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

    /// By node: when its agent was last heard of.
    pub fn heartbeats(&self) -> Vec<(String, Timestamp)> {
        let (now, time) = (Instant::now(), Timestamp::now());
        let leases = self.leases.lock();
        let heard = leases.heard_of(Consumer::Agent);
        heard.map(|(node, beat)| (node.to_owned(), time - now.saturating_duration_since(beat))).collect()
    }
}
