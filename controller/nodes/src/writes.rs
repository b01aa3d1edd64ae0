//! What members report, and what is written for them, passes the gate for writes like everything else.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use warren_proto::control::PodStatus;
use warren_store::{CommitError, Key, Snapshot, Store, Transaction};
use warren_vocabulary::guard::Failure;
use warren_write::{Author, Gate, Refused};

/// Why something was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The gate did not let it pass.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] CommitError),
}

/// The store behind the gate.
#[derive(Clone)]
pub(crate) struct Writer {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) gate: Arc<Gate>,
}

impl Writer {
    /// Commits what was planned from a state, if the gate lets it pass.
    pub(crate) async fn commit(
        &self,
        author: Author<'_>,
        snapshot: &Snapshot,
        transaction: Transaction,
    ) -> Result<u64, WriteError> {
        let passed = self.gate.admit_all(snapshot, author, transaction)?;
        for (event, refusal) in &passed.left_out {
            tracing::debug!(%event, %refusal, "an event was refused; what it tells of happens all the same");
        }
        Ok(self.store.commit(passed.transaction).await?)
    }
}

/// Reports about pods that the gate refused. No other report is held up by them: the member is answered as if they were
/// written, and they are tried again here until they are, or the pod is gone or reported anew.
#[derive(Default)]
pub(crate) struct RefusedReports(Mutex<BTreeMap<Key, RefusedReport>>);

/// The last report about a pod, which was refused.
#[derive(Clone)]
pub(crate) struct RefusedReport {
    pub(crate) node: String,
    pub(crate) report: PodStatus,
    message: String,
}

impl RefusedReports {
    /// Keeps a report. It is said once that one is refused, and again when it is refused for another reason.
    pub(crate) fn note(&self, key: Key, node: &str, report: &PodStatus, refused: &Refused) {
        metrics::counter!("warren_nodes_refused_reports_total").increment(1);
        let message = refused.to_string();
        let entry = RefusedReport { node: node.to_owned(), report: report.clone(), message: message.clone() };
        let before = self.0.lock().insert(key.clone(), entry);
        if before.is_none_or(|before| before.message != message) {
            tracing::warn!(%key, node, message, "a report about a pod is refused; it is tried again");
        }
    }

    /// The report about a pod was written.
    pub(crate) fn forget(&self, key: &Key) {
        self.0.lock().remove(key);
    }

    /// All that are kept, of pods that are there.
    pub(crate) fn all(&self, snapshot: &Snapshot) -> Vec<RefusedReport> {
        let mut kept = self.0.lock();
        kept.retain(|key, _| snapshot.get(key).is_some());
        kept.values().cloned().collect()
    }

    /// As what could not be done for an object: it is told there.
    pub(crate) fn failures(&self) -> Vec<Failure> {
        let failure = |(key, refused): (&Key, &RefusedReport)| Failure {
            stage: "reports of the node",
            key: key.clone(),
            message: refused.message.clone(),
        };
        self.0.lock().iter().map(failure).collect()
    }
}
