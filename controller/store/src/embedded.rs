//! The store of a single controller: state in memory, one committer thread, group commit.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::Instant,
};

use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, oneshot};

use crate::{
    BoxFuture, Change, CommitError, Event, Expired, Object, Precondition, Snapshot, Store, Transaction,
    Watch, Write,
    backup::Backup,
    engine::{self, Failure, OpenError, Redb, StorageEngine},
    history::History,
    keys, seal,
};

/// How many transactions share one disk write at most.
const MAXIMUM_BATCH: usize = 512;
/// How many transactions may wait; further ones wait to be queued.
const QUEUE: usize = 4_096;

struct Request {
    transaction: Transaction,
    reply: oneshot::Sender<Result<u64, CommitError>>,
}

/// What the committer thread is asked for.
enum Order {
    Commit(Request),
    Rotate(oneshot::Sender<Result<Rotated, CommitError>>),
}

/// What a rotation did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotated {
    /// The name of the new key.
    pub key: String,
    /// How many objects are encrypted.
    pub objects: usize,
}

/// Objects in memory, durable in one file.
pub struct EmbeddedStore {
    state: Arc<RwLock<Arc<Snapshot>>>,
    history: Arc<History>,
    queue: Mutex<Option<mpsc::Sender<Order>>>,
    committer: Mutex<Option<JoinHandle<()>>>,
    /// The key that seals now; changed by the committer.
    key: Arc<RwLock<keys::Key>>,
}

impl EmbeddedStore {
    /// Opens or creates the store in `directory`, with its keys in `directory/keys`.
    pub fn open(directory: &Path) -> Result<Arc<Self>, OpenError> {
        Self::open_with_keys(directory, &directory.join("keys"))
    }

    /// Opens or creates the store in `directory`, with the key file in `keys`.
    pub fn open_with_keys(directory: &Path, keys: &Path) -> Result<Arc<Self>, OpenError> {
        let (engine, loaded) = Redb::open(directory, keys)?;
        let key = engine.key().clone();
        let mut snapshot = Snapshot::from_objects(loaded.revision, loaded.objects);
        snapshot.epoch = loaded.epoch;
        Ok(Self::start(engine, directory.to_owned(), key, snapshot))
    }

    fn start(
        engine: impl StorageEngine + 'static,
        directory: PathBuf,
        key: keys::Key,
        snapshot: Snapshot,
    ) -> Arc<Self> {
        let history = History::new(snapshot.revision);
        let state = Arc::new(RwLock::new(Arc::new(snapshot)));
        let key = Arc::new(RwLock::new(key));
        let (sender, receiver) = mpsc::channel(QUEUE);
        let committer = Committer {
            engine,
            directory,
            state: Arc::clone(&state),
            history: Arc::clone(&history),
            key: Arc::clone(&key),
            is_full: false,
        };
        let thread = std::thread::Builder::new()
            .name("store-committer".into())
            .spawn(move || committer.run(receiver))
            .expect("a thread can be started while the process starts");
        Arc::new(Self {
            state,
            history,
            queue: Mutex::new(Some(sender)),
            committer: Mutex::new(Some(thread)),
            key,
        })
    }

    /// Encrypts all secrets anew by a new key, and forgets the old one. Other commits wait meanwhile.
    pub async fn rotate(&self) -> Result<Rotated, CommitError> {
        let (reply, answer) = oneshot::channel();
        let queue = self.queue.lock().clone().ok_or(CommitError::Closed)?;
        queue.send(Order::Rotate(reply)).await.map_err(|_| CommitError::Closed)?;
        drop(queue);
        answer.await.map_err(|_| CommitError::Closed)?
    }

    /// The whole state at one revision, and the key to it.
    pub fn backup(&self) -> Backup {
        Backup::new(self.snapshot(), self.key.read().clone())
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
            queue
                .send(Order::Commit(Request { transaction, reply }))
                .await
                .map_err(|_| CommitError::Closed)?;
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
    directory: PathBuf,
    state: Arc<RwLock<Arc<Snapshot>>>,
    history: Arc<History>,
    key: Arc<RwLock<keys::Key>>,
    /// The disk was full at the last write: only what frees space is tried, until the reserve is kept again.
    is_full: bool,
}

/// A batch under construction: the state as it will be, and what must be written for it.
struct Batch {
    pending: Snapshot,
    changes: Vec<Change>,
    /// In order; of several writes to one object the last counts.
    writes: Vec<engine::Change>,
}

impl<E: StorageEngine> Committer<E> {
    fn run(mut self, mut queue: mpsc::Receiver<Order>) {
        while let Some(first) = queue.blocking_recv() {
            let mut next = Some(first);
            let mut requests = Vec::new();
            while let Some(Order::Commit(request)) = next {
                requests.push(request);
                next = if requests.len() < MAXIMUM_BATCH { queue.try_recv().ok() } else { None };
            }
            if !requests.is_empty() {
                self.look_for_space();
                self.commit(requests);
            }
            if let Some(Order::Rotate(reply)) = next {
                let _ = reply.send(self.rotate());
            }
        }
        self.history.close();
    }

    fn commit(&mut self, requests: Vec<Request>) {
        let before = Arc::clone(&self.state.read());
        let mut batch = Batch { pending: (*before).clone(), changes: Vec::new(), writes: Vec::new() };
        let mut answers = Vec::with_capacity(requests.len());
        let mut deletions = Vec::new();
        for Request { transaction, reply } in requests {
            if !frees_space(&transaction) {
                let answer = if self.is_full {
                    Err(self.full("nothing was written"))
                } else {
                    batch.apply(transaction)
                };
                answers.push((reply, answer));
            } else if self.is_full {
                answers.push((reply, batch.apply(transaction)));
            } else {
                // Kept for a second try, from the reserve.
                let answer = batch.apply(transaction.clone());
                deletions.push((reply, answer, transaction));
            }
        }
        let outcome = if batch.changes.is_empty() { Ok(()) } else { self.persist(&mut batch) };
        let retried = outcome.as_ref().is_err_and(|failure| failure.is_full) && !deletions.is_empty();
        let mut again = Vec::new();
        for (reply, answer, transaction) in deletions {
            if retried { again.push(Request { transaction, reply }) } else { answers.push((reply, answer)) }
        }
        // A reader may have gone; that is its own affair.
        for (reply, answer) in answers {
            let _ = reply.send(match &outcome {
                Ok(()) => answer,
                Err(failure) => answer.and_then(|_| Err(self.error(failure))),
            });
        }
        if retried {
            // The disk counts as full now, so this happens once.
            self.commit(again);
        }
    }

    /// Durable first, then visible.
    fn persist(&mut self, batch: &mut Batch) -> Result<(), Failure> {
        let started = Instant::now();
        let writes = std::mem::take(&mut batch.writes);
        let held = Arc::clone(&self.state.read());
        if let Err(failure) = self.engine.persist(&held, batch.pending.revision, &writes) {
            return Err(self.recover(failure, &held));
        }
        metrics::counter!("warren_store_commits_total").increment(batch.changes.len() as u64);
        metrics::histogram!("warren_store_batch_seconds").record(started.elapsed().as_secs_f64());
        *self.state.write() = Arc::new(batch.pending.clone());
        self.history.extend(std::mem::take(&mut batch.changes));
        Ok(())
    }

    /// Nothing of the failed write is visible, and nothing of it stays on the disk: the next one finds an engine that
    /// works, as far as there can be. The answer is what to tell the writers.
    fn recover(&mut self, mut failure: Failure, held: &Snapshot) -> Failure {
        metrics::counter!("warren_store_failed_batches_total").increment(1);
        if failure.is_full {
            if !self.is_full {
                tracing::error!(
                    directory = %self.directory.display(),
                    problem = failure.problem,
                    "the disk is full: only deletions are accepted until there is space"
                );
            }
            self.is_full = true;
            metrics::gauge!("warren_store_full").set(1.0);
            self.engine.release_reserve();
        } else {
            tracing::error!(failure.problem, "the store could not write; reopening it");
        }
        if let Err(again) = self.engine.reopen(held) {
            tracing::error!(again.problem, "the store could not be reopened; the next write tries again");
            if !failure.is_full {
                let also = format!("; nor can the file be opened again ({}): see to the disk", again.problem);
                failure.problem.push_str(&also);
            }
        }
        failure
    }

    fn look_for_space(&mut self) {
        if self.is_full && self.engine.keep_reserve() {
            self.is_full = false;
            metrics::gauge!("warren_store_full").set(0.0);
            tracing::info!("the disk has space again: all writes are accepted");
        }
    }

    fn full(&self, problem: &str) -> CommitError {
        CommitError::Full { directory: self.directory.clone(), problem: problem.to_owned() }
    }

    fn error(&self, failure: &Failure) -> CommitError {
        if failure.is_full {
            self.full(&failure.problem)
        } else {
            CommitError::Storage(failure.problem.clone())
        }
    }

    fn rotate(&mut self) -> Result<Rotated, CommitError> {
        let state = Arc::clone(&self.state.read());
        match self.engine.rotate(&state) {
            Ok(key) => {
                let sealed = state.iter().filter(|object| seal::is_sealed(&object.key)).count();
                tracing::info!(key = %key.id, objects = sealed, "secrets are encrypted by a new key");
                let rotated = Rotated { key: key.id.to_string(), objects: sealed };
                *self.key.write() = key;
                Ok(rotated)
            }
            Err(failure) => {
                tracing::error!(failure.problem, "the key of the secrets could not be changed");
                Err(self.error(&failure))
            }
        }
    }
}

/// Whether a transaction only removes objects, or writes such as are being removed.
fn frees_space(transaction: &Transaction) -> bool {
    transaction.writes.iter().all(|write| match write {
        Write::Delete(_) => true,
        Write::Put(_, value) => value.get("metadata").is_some_and(|m| m.get("deletionTimestamp").is_some()),
    })
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
                self.writes.push((key.clone(), Some((revision, object.json().clone()))));
                let previous = self.pending.insert(Arc::clone(&object));
                Some(Event::new(key, previous, Some(object)))
            }
            Write::Delete(key) => {
                let previous = self.pending.remove(&key)?;
                self.writes.push((key.clone(), None));
                Some(Event::new(key, Some(previous), None))
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
    use crate::Key;

    /// An engine whose disk can be broken.
    struct Faulty {
        broken: Arc<std::sync::atomic::AtomicBool>,
        persisted: Arc<Mutex<Vec<u64>>>,
    }
    impl StorageEngine for Faulty {
        fn persist(&mut self, _: &Snapshot, revision: u64, _: &[engine::Change]) -> Result<(), Failure> {
            if self.broken.load(std::sync::atomic::Ordering::SeqCst) {
                return Err(Failure { is_full: false, problem: "input/output error".into() });
            }
            self.persisted.lock().push(revision);
            Ok(())
        }
        fn reopen(&mut self, _: &Snapshot) -> Result<(), Failure> {
            Ok(())
        }
        fn rotate(&mut self, _: &Snapshot) -> Result<keys::Key, Failure> {
            Ok(keys::Key::generate())
        }
        fn release_reserve(&mut self) {}
        fn keep_reserve(&mut self) -> bool {
            true
        }
    }

    #[tokio::test]
    async fn a_failed_write_leaves_nothing_visible_and_the_next_one_succeeds() {
        let broken = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let persisted = Arc::new(Mutex::new(Vec::new()));
        let engine = Faulty { broken: Arc::clone(&broken), persisted: Arc::clone(&persisted) };
        let snapshot = Snapshot::from_objects(7, []);
        let store = EmbeddedStore::start(engine, PathBuf::from("/store"), keys::Key::generate(), snapshot);
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
