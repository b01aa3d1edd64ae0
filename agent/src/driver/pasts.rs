//! What became of each pod's containers, on this machine's own disk: a small file per pod.
//!
//! The engine's dead containers say the same for as long as nobody removes them, so a file that is written a moment
//! late loses nothing but by two accidents at once. Therefore the loop does not wait for the disk: what changed is
//! handed to a task that writes it, each file whole and flushed before it takes the place of the last.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::Notify;
use warren_proto::vocabulary::PodUid;
use warren_runtime::CancellationToken;

use crate::plan::Past;

/// A larger file is none of ours.
const LARGEST: u64 = 4 << 20;
/// After a write that failed.
const RETRY: Duration = Duration::from_secs(5);
const ENDING: &str = "json";

/// The files, and what waits to be written.
pub(super) struct Pasts {
    dir: PathBuf,
    /// By UID; none for a file that must go.
    waiting: Mutex<BTreeMap<String, Option<Past>>>,
    changed: Notify,
}

impl Pasts {
    /// The files below `dir`, which need not exist yet.
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir, waiting: Mutex::default(), changed: Notify::new() }
    }

    /// Reads all of them. One that cannot be understood is named and passed over: the engine may still know.
    pub(super) fn load(&self) -> BTreeMap<String, Past> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return BTreeMap::new(),
            Err(error) => {
                tracing::error!(path = %self.dir.display(), %error, "cannot read what became of this node's containers");
                return BTreeMap::new();
            }
        };
        let mut pasts = BTreeMap::new();
        for path in entries.flatten().map(|entry| entry.path()) {
            let Some(uid) = uid_of(&path) else { continue };
            match read(&path) {
                Ok(past) => drop(pasts.insert(uid, past)),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "cannot understand what became of a pod's containers");
                }
            }
        }
        pasts
    }

    /// Writes the file of a pod soon.
    pub(super) fn save(&self, uid: &str, past: Past) {
        self.note(uid, Some(past));
    }

    /// Removes the file of a pod soon.
    pub(super) fn forget(&self, uid: &str) {
        self.note(uid, None);
    }

    fn note(&self, uid: &str, past: Option<Past>) {
        // A UID becomes a path, and an orphan's comes from a container's label.
        if uid.parse::<PodUid>().is_ok() {
            self.waiting.lock().insert(uid.to_owned(), past);
            self.changed.notify_one();
        }
    }

    /// Writes what waits, until `stop`; then a last time.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) -> anyhow::Result<()> {
        loop {
            let stopped = tokio::select! {
                () = stop.cancelled() => true,
                () = self.changed.notified() => false,
            };
            let this = Arc::clone(&self);
            let done = tokio::task::spawn_blocking(move || this.write_all()).await?;
            if stopped {
                return Ok(());
            }
            if !done {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(RETRY) => {}
                }
                self.changed.notify_one();
            }
        }
    }

    /// False when something could not be written; it waits on, unless something newer does.
    fn write_all(&self) -> bool {
        let batch = std::mem::take(&mut *self.waiting.lock());
        if batch.is_empty() {
            return true;
        }
        let mut left = BTreeMap::new();
        for (uid, past) in batch {
            let outcome = match &past {
                Some(past) => self.write(&uid, past),
                None => remove(&self.path(&uid)),
            };
            if let Err(error) = outcome {
                tracing::error!(pod = uid, path = %self.dir.display(), %error, "cannot keep what became of a pod's containers");
                left.insert(uid, past);
            }
        }
        if let Err(error) = File::open(&self.dir).and_then(|dir| dir.sync_all())
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.dir.display(), %error, "cannot flush a directory");
        }
        let done = left.is_empty();
        let mut waiting = self.waiting.lock();
        for (uid, past) in left {
            waiting.entry(uid).or_insert(past);
        }
        done
    }

    fn write(&self, uid: &str, past: &Past) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let path = self.path(uid);
        let fresh = path.with_extension("fresh");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(&serde_json::to_vec(past)?)?;
        file.sync_all()?;
        fs::rename(fresh, path)
    }

    fn path(&self, uid: &str) -> PathBuf {
        self.dir.join(uid).with_extension(ENDING)
    }
}

fn uid_of(path: &Path) -> Option<String> {
    let is_ours = path.extension().is_some_and(|ending| ending == ENDING);
    let uid = path.file_stem()?.to_str()?;
    (is_ours && uid.parse::<PodUid>().is_ok()).then(|| uid.to_owned())
}

fn read(path: &Path) -> io::Result<Past> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST).read_to_end(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::plan::{Exit, Instance, Phase};

    const UID: &str = "0123abcd-0000-0000-0000-000000000000";

    fn past(id: &str) -> Past {
        let exit = Exit { code: 3, started: Some(Timestamp::UNIX_EPOCH), ..Exit::default() };
        let ended = Instance { id: id.into(), phase: Phase::Exited(exit), ..Instance::default() };
        let mut past = Past::default();
        past.observe(&[ended], Timestamp::UNIX_EPOCH, |_, _| true);
        past
    }

    #[tokio::test]
    async fn a_file_per_pod_is_written_replaced_and_removed_and_a_broken_one_is_passed_over() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("past");
        let pasts = Arc::new(Pasts::new(dir.clone()));
        assert!(pasts.load().is_empty(), "nothing was kept yet");
        pasts.save(UID, past("a"));
        pasts.save(UID, past("b"));
        pasts.save("../../outside", past("a"));
        // A task that is stopped writes what waits.
        let stop = CancellationToken::new();
        stop.cancel();
        Arc::clone(&pasts).run(stop.clone()).await.unwrap();
        fs::write(dir.join("11111111-0000-0000-0000-000000000000.json"), "{\"instances\": 7").unwrap();
        fs::write(dir.join("readme.txt"), "not ours").unwrap();
        let loaded = Pasts::new(dir.clone()).load();
        assert_eq!(loaded, BTreeMap::from([(UID.to_owned(), past("b"))]));
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "a UID is no path");
        pasts.forget(UID);
        Arc::clone(&pasts).run(stop).await.unwrap();
        assert!(pasts.load().is_empty());
    }

    #[tokio::test]
    async fn what_cannot_be_written_waits_and_what_is_newer_wins() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("past");
        fs::write(&dir, "a file where the directory should be").unwrap();
        let pasts = Pasts::new(dir.clone());
        pasts.save(UID, past("a"));
        assert!(!pasts.write_all());
        pasts.save(UID, past("b"));
        fs::remove_file(&dir).unwrap();
        assert!(pasts.write_all());
        assert_eq!(pasts.load()[UID], past("b"));
    }
}
