//! The store of a single controller: state in memory, one committer thread, group commit.

use std::{collections::BTreeMap, path::Path, sync::Arc, thread::JoinHandle, time::Instant};

use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, oneshot};

use crate::{
    BoxFuture, CommitError, Event, Expired, Key, Object, Precondition, Snapshot, Store, Transaction, Watch,
    Write,
    engine::{self, Engine, OpenError, Redb},
    history::{Change, History},
};

/// How many transactions share one disk write at most.
const MAXIMUM_BATCH: usize = 512;
/// How many transactions may wait; further ones wait to be queued.
const QUEUE: usize = 4_096;

struct Request {
    transaction: Transaction,
    reply: oneshot::Sender<Result<u64, CommitError>>,
}

/// Objects in memory, durable in one file.
pub struct EmbeddedStore {
    state: Arc<RwLock<Arc<Snapshot>>>,
    history: Arc<History>,
    queue: Mutex<Option<mpsc::Sender<Request>>>,
    committer: Mutex<Option<JoinHandle<()>>>,
}

impl EmbeddedStore {
    /// Opens or creates the store in `directory`.
    pub fn open(directory: &Path) -> Result<Arc<Self>, OpenError> {
        let (engine, loaded) = Redb::open(directory)?;
        let objects =
            loaded.objects.into_iter().map(|object| (object.key.clone(), Arc::new(object))).collect();
        Ok(Self::start(engine, Snapshot { epoch: loaded.epoch, revision: loaded.revision, objects }))
    }

    fn start(engine: impl Engine + 'static, snapshot: Snapshot) -> Arc<Self> {
        let history = History::new(snapshot.revision);
        let state = Arc::new(RwLock::new(Arc::new(snapshot)));
        let (sender, receiver) = mpsc::channel(QUEUE);
        let committer = Committer { engine, state: Arc::clone(&state), history: Arc::clone(&history) };
        let thread = std::thread::Builder::new()
            .name("store-committer".into())
            .spawn(move || committer.run(receiver))
            .expect("a thread can be started while the process starts");
        Arc::new(Self {
            state,
            history,
            queue: Mutex::new(Some(sender)),
            committer: Mutex::new(Some(thread)),
        })
    }

    /// Finishes what is queued, closes the file and ends all watches. Blocks; later commits fail.
    pub fn close(&self) {
        self.queue.lock().take();
        if let Some(thread) = self.committer.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the store's committer thread panicked");
        }
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.close();
    }
}

impl Store for EmbeddedStore {
    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<u64, CommitError>> {
        let queue = self.queue.lock().clone();
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let queue = queue.ok_or(CommitError::Closed)?;
            queue.send(Request { transaction, reply }).await.map_err(|_| CommitError::Closed)?;
            drop(queue);
            answer.await.map_err(|_| CommitError::Closed)?
        })
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.state.read())
    }

    fn watch(&self, after: u64) -> Result<Watch, Expired> {
        self.history.watch(after)
    }
}

struct Committer<E> {
    engine: E,
    state: Arc<RwLock<Arc<Snapshot>>>,
    history: Arc<History>,
}

/// A batch under construction: the state as it will be, and what must be written for it.
struct Batch {
    pending: Snapshot,
    changes: Vec<Change>,
    writes: BTreeMap<Key, Option<(u64, Vec<u8>)>>,
}

impl<E: Engine> Committer<E> {
    fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        while let Some(first) = queue.blocking_recv() {
            let mut requests = vec![first];
            while requests.len() < MAXIMUM_BATCH
                && let Ok(request) = queue.try_recv()
            {
                requests.push(request);
            }
            self.commit(requests);
        }
        self.history.close();
    }

    fn commit(&mut self, requests: Vec<Request>) {
        let before = Arc::clone(&self.state.read());
        let mut batch = Batch { pending: (*before).clone(), changes: Vec::new(), writes: BTreeMap::new() };
        let answers: Vec<_> =
            requests.into_iter().map(|request| (request.reply, batch.apply(request.transaction))).collect();
        let outcome = if batch.changes.is_empty() { Ok(()) } else { self.persist(&mut batch) };
        // A reader may have gone; that is its own affair.
        for (reply, answer) in answers {
            let answer = match &outcome {
                Ok(()) => answer,
                Err(problem) => answer.and_then(|_| Err(CommitError::Storage(problem.clone()))),
            };
            let _ = reply.send(answer);
        }
    }

    /// Durable first, then visible.
    fn persist(&mut self, batch: &mut Batch) -> Result<(), String> {
        let started = Instant::now();
        let writes: Vec<engine::Change> = std::mem::take(&mut batch.writes).into_iter().collect();
        if let Err(problem) = self.engine.persist(batch.pending.revision, &writes) {
            tracing::error!(problem, "the store could not write; reopening it");
            metrics::counter!("warren_store_failed_batches_total").increment(1);
            if let Err(problem) = self.engine.reopen() {
                tracing::error!(problem, "the store could not be reopened; the next write tries again");
            }
            return Err(problem);
        }
        metrics::counter!("warren_store_commits_total").increment(batch.changes.len() as u64);
        metrics::histogram!("warren_store_batch_seconds").record(started.elapsed().as_secs_f64());
        *self.state.write() = Arc::new(batch.pending.clone());
        self.history.extend(std::mem::take(&mut batch.changes));
        Ok(())
    }
}

impl Batch {
    fn apply(&mut self, transaction: Transaction) -> Result<u64, CommitError> {
        for precondition in transaction.preconditions {
            if !holds(&self.pending, &precondition) {
                return Err(CommitError::Conflict(precondition));
            }
        }
        let revision = self.pending.revision + 1;
        let mut events = Vec::new();
        for write in transaction.writes {
            events.extend(self.write(revision, write));
        }
        if events.is_empty() {
            return Ok(self.pending.revision);
        }
        self.pending.revision = revision;
        self.changes.push(Change { revision, events: events.into() });
        Ok(revision)
    }

    fn write(&mut self, revision: u64, write: Write) -> Option<Event> {
        match write {
            Write::Put(key, value) => {
                let object = Arc::new(Object::new(key.clone(), revision, value));
                let json = serde_json::to_vec(&object.value).expect("a JSON value can be written as JSON");
                self.writes.insert(key.clone(), Some((revision, json)));
                let previous = self.pending.objects.insert(key.clone(), Arc::clone(&object));
                Some(Event { key, previous, current: Some(object) })
            }
            Write::Delete(key) => {
                let previous = self.pending.objects.remove(&key)?;
                self.writes.insert(key.clone(), None);
                Some(Event { key, previous: Some(previous), current: None })
            }
        }
    }
}

fn holds(state: &Snapshot, precondition: &Precondition) -> bool {
    match precondition {
        Precondition::Absent(key) => state.get(key).is_none(),
        Precondition::Exists(key) => state.get(key).is_some(),
        Precondition::Revision(key, revision) => state.get(key).is_some_and(|o| o.revision == *revision),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// An engine whose disk can be broken.
    struct Faulty {
        broken: Arc<std::sync::atomic::AtomicBool>,
        persisted: Arc<Mutex<Vec<u64>>>,
    }
    impl Engine for Faulty {
        fn persist(&mut self, revision: u64, _: &[engine::Change]) -> Result<(), String> {
            if self.broken.load(std::sync::atomic::Ordering::SeqCst) {
                return Err("no space left on device".into());
            }
            self.persisted.lock().push(revision);
            Ok(())
        }
        fn reopen(&mut self) -> Result<(), String> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_failed_write_leaves_nothing_visible_and_the_next_one_succeeds() {
        let broken = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let persisted = Arc::new(Mutex::new(Vec::new()));
        let engine = Faulty { broken: Arc::clone(&broken), persisted: Arc::clone(&persisted) };
        let store = EmbeddedStore::start(engine, Snapshot { epoch: 1, revision: 7, ..Snapshot::default() });
        let mut watch = store.watch(7).expect("the present");
        let key = Key::new("pods", "default", "a");
        let create = || Transaction::new().create(key.clone(), json!({"metadata": {"name": "a"}}));

        assert!(matches!(store.commit(create()).await, Err(CommitError::Storage(_))));
        assert_eq!(store.snapshot().revision, 7);
        assert!(store.snapshot().get(&key).is_none());
        assert!(watch.ready().expect("in history").is_empty());

        broken.store(false, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(store.commit(create()).await.expect("disk is back"), 8);
        assert_eq!(watch.next().await.expect("in history").len(), 1);
        assert_eq!(*persisted.lock(), [8]);
    }
}
