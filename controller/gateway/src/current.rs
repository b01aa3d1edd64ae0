//! The route table in force, and the proof that it is: the barrier behind every acknowledgement.
//!
//! A worker thread runs one current_thread runtime. Between the choice of an endpoint and the moment the
//! request is handed to its connection there is no await, except to connect, after which the choice is
//! checked again. So once a task on the worker's own thread has run after the table was swapped, no new
//! request of that worker can go to an endpoint that the table has lost. [`Routes::publish`] waits for
//! such a task on each worker; only then may the revision be acknowledged to the controller.

use std::sync::Arc;

use arc_swap::{ArcSwapOption, Guard};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    addresses::Refused,
    metrics,
    routes::{RouteTable, Rules},
    tally::Member,
};

/// A worker answers it when it has passed the swap.
pub(crate) type Barrier = oneshot::Sender<()>;

/// The table that requests read, shared by all workers.
pub struct Routes {
    table: ArcSwapOption<RouteTable>,
    changes: watch::Sender<u64>,
    workers: Mutex<Vec<mpsc::UnboundedSender<Barrier>>>,
    publishing: tokio::sync::Mutex<()>,
    refused: Box<dyn Fn() -> Refused + Send + Sync>,
}

impl Routes {
    /// No table yet: requests are held until the first one comes. No table leads to what is `refused`.
    pub fn new(refused: Refused) -> Arc<Self> {
        Self::asking(move || refused.clone())
    }

    /// The same; what is refused is asked for with each table.
    pub fn asking(refused: impl Fn() -> Refused + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            refused: Box::new(refused),
            table: ArcSwapOption::empty(),
            changes: watch::Sender::new(0),
            workers: Mutex::default(),
            publishing: tokio::sync::Mutex::default(),
        })
    }

    /// Compiles the rules and puts them in force. When it returns, no worker starts a request to an
    /// endpoint that is not in the table any more, and idle connections to such endpoints are closed.
    pub async fn publish<'a>(&self, revision: u64, rules: impl Into<Rules<'a>>) {
        let rules = rules.into();
        let _one_at_a_time = self.publishing.lock().await;
        let previous = self.table.load_full();
        let table = Arc::new(RouteTable::compile(revision, &rules, &(self.refused)(), previous.as_deref()));
        self.table.store(Some(table.clone()));
        for endpoint in previous.iter().flat_map(|previous| previous.endpoints()) {
            if !table.holds(endpoint.address()) {
                endpoint.retire();
            }
        }
        self.changes.send_modify(|count| *count += 1);
        self.pass_all_workers().await;
        metrics::in_force(revision);
        let earlier = previous.as_deref().map(RouteTable::problems).unwrap_or_default();
        for problem in table.problems().iter().filter(|problem| !earlier.contains(problem)) {
            tracing::warn!(revision, problem, "a route is not in force");
        }
    }

    async fn pass_all_workers(&self) {
        let mut passed = Vec::new();
        // A worker that has ended starts no request: it leaves the list.
        self.workers.lock().retain(|worker| {
            let (barrier, pass) = oneshot::channel();
            passed.push(pass);
            worker.send(barrier).is_ok()
        });
        for pass in passed {
            // An error means that the worker ended meanwhile.
            let _ = pass.await;
        }
    }

    /// The table in force.
    pub(crate) fn load(&self) -> Guard<Option<Arc<RouteTable>>> {
        self.table.load()
    }

    /// How many requests were admitted for a service, "NAMESPACE/NAME", since rules began to lead to it.
    pub fn admitted(&self, service: &str) -> Option<u64> {
        self.load().as_ref()?.demands().get(service).map(|demand| demand.counted())
    }

    /// How many requests to a pod of a service, "NAMESPACE/NAME", have come to an end since rules began to lead to it, and how
    /// many of them failed by its fault.
    pub fn answered(&self, service: &str, pod: &str) -> Option<(u64, u64)> {
        let member = Member { service: service.into(), pod: pod.into() };
        self.load().as_ref()?.tallies().get(&member).map(|tally| tally.told())
    }

    /// Wakes after each new table that is put in force from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Takes part in the barrier until the receiver is dropped.
    pub(crate) fn register(&self) -> mpsc::UnboundedReceiver<Barrier> {
        let (worker, barriers) = mpsc::unbounded_channel();
        self.workers.lock().push(worker);
        barriers
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_table_is_in_force_only_when_every_worker_has_passed() {
        let routes = Routes::new(Refused::default());
        let (mut first, mut second) = (routes.register(), routes.register());
        let publishing = tokio::spawn({
            let routes = routes.clone();
            async move { routes.publish(7, Rules::default()).await }
        });
        first.recv().await.expect("a barrier").send(()).expect("awaited");
        let held = second.recv().await.expect("a barrier");
        assert_eq!(routes.load().as_ref().map(|table| table.revision()), Some(7), "requests see it already");
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!publishing.is_finished(), "the second worker has not passed yet");
        held.send(()).expect("awaited");
        publishing.await.expect("published");
    }

    #[tokio::test]
    async fn a_worker_that_ended_holds_nobody_up() {
        let routes = Routes::new(Refused::default());
        let (first, mut second) = (routes.register(), routes.register());
        drop(first);
        let publishing = tokio::spawn({
            let routes = routes.clone();
            async move { routes.publish(1, Rules::default()).await }
        });
        // This one ends with the barrier in its hands.
        drop(second.recv().await.expect("a barrier"));
        drop(second);
        publishing.await.expect("published");
        routes.publish(2, Rules::default()).await;
    }
}
