//! The durable part: one redb file, its key file, and the reserve.

use std::{
    fs, io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use redb::Database;

use crate::{
    Object, Snapshot, file,
    head::Head,
    keys::{Key, KeyFile},
    reserve::Reserve,
};

pub(crate) use crate::file::Change;

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory or file could not be used.
    #[error("cannot open the store at {path}: {source}")]
    Open {
        /// The database file.
        path: PathBuf,
        /// What redb or the file system said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The content is not what was written.
    #[error(
        "the store at {path} cannot be read: {problem}. Move the data directory's content away \
         and restore a backup: `warren restore FILE`, or `warren controller --restore FILE`"
    )]
    Corrupt {
        /// The database file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The keys do not fit the store.
    #[error(
        "the key file {path} does not open this store: {problem}. Put back the key file that belongs to the store \
         (every backup contains it), or restore a backup into an empty data directory: `warren restore FILE`, or \
         `warren controller --restore FILE`"
    )]
    Keys {
        /// The key file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// What a fresh or reopened engine holds.
pub(crate) struct Loaded {
    pub(crate) epoch: u64,
    pub(crate) revision: u64,
    pub(crate) objects: Vec<Object>,
}

/// Why a write failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The disk has no room.
    pub(crate) is_full: bool,
    pub(crate) problem: String,
}

impl Failure {
    fn of_io(error: &io::Error) -> Self {
        let is_full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        Self { is_full, problem: error.to_string() }
    }
}

impl From<redb::Error> for Failure {
    fn from(error: redb::Error) -> Self {
        match &error {
            redb::Error::Io(cause) => Self::of_io(cause),
            _ => Self { is_full: false, problem: error.to_string() },
        }
    }
}

/// What the committer needs of a disk. A second implementation fails on purpose, in tests.
pub(crate) trait StorageEngine: Send {
    /// Adds changes to what is `held`; durable when it returns. After an error, [`StorageEngine::reopen`] decides.
    fn persist(&mut self, held: &Snapshot, revision: u64, changes: &[Change]) -> Result<(), Failure>;
    /// After a failed write: the disk shows what is `held`, and nothing else, when it succeeds.
    fn reopen(&mut self, held: &Snapshot) -> Result<(), Failure>;
    /// Seals everything by a new key; the old one opens nothing any more. After an error the old one stays.
    fn rotate(&mut self, held: &Snapshot) -> Result<Key, Failure>;
    /// Gives the reserve to the disk, for deletions.
    fn release_reserve(&mut self);
    /// Keeps the reserve back again; whether there was room for it.
    fn keep_reserve(&mut self) -> bool;
}

type Opener = Box<dyn Fn(&Path) -> Result<Database, redb::Error> + Send>;

pub(crate) struct Redb {
    path: PathBuf,
    keys: KeyFile,
    key: Key,
    head: Head,
    reserve: Reserve,
    database: Option<Database>,
    /// [`file::LOG_LIMIT`], less in tests.
    log_limit: u64,
    /// How the file is opened; tests put a disk in between that fails.
    opener: Opener,
    /// Something was written since space was last looked for inside the file.
    may_shrink: bool,
}

impl Redb {
    /// Opens or creates the store in `directory`, whose keys lie in `keys`.
    pub(crate) fn open(directory: &Path, keys: &Path) -> Result<(Self, Loaded), OpenError> {
        let (path, keys) = (directory.join("store.redb"), KeyFile::new(keys));
        let failed = |source| OpenError::Open { path: path.clone(), source };
        fs::create_dir_all(directory).map_err(|error| failed(error.into()))?;
        if !path.exists() {
            let key = usable_key(&keys)?;
            let head = Head::new(1, 1, key.id);
            replace(&path, &key, head, &[]).map_err(|error| failed(error.into()))?;
        }
        let (database, head) = open_checked(&path)?;
        let key = key_of(&keys, &head)?;
        let file::Content { objects, unopened } =
            guarded(&path, || file::read(&database, &head, key.as_ref()))?;
        if let Some(problem) = unopened {
            return Err(OpenError::Keys { path: keys.path(), problem });
        }
        let mut engine = Self {
            reserve: Reserve::new(directory),
            key: key.clone().unwrap_or_else(Key::generate),
            path,
            keys,
            head,
            database: Some(database),
            log_limit: file::LOG_LIMIT,
            opener: Box::new(file::open),
            may_shrink: true,
        };
        if key.is_none() {
            engine.seal_old_file(&objects)?;
        }
        if engine.reserve.keep().is_err() {
            tracing::warn!(
                directory = %directory.display(),
                "the disk has no room for the store's reserve: free space before it is full"
            );
        }
        Ok((engine, Loaded { epoch: head.epoch, revision: head.revision, objects }))
    }

    /// A file of an older Warren holds secrets in plain text: it is written anew.
    fn seal_old_file(&mut self, objects: &[Object]) -> Result<(), OpenError> {
        let all: Vec<&Object> = objects.iter().collect();
        let sealed = self.seal_anew(self.head.epoch, self.head.revision, &all);
        sealed.map_err(|failure| OpenError::Open {
            path: self.path.clone(),
            source: format!("its secrets cannot be encrypted: {}", failure.problem).into(),
        })?;
        tracing::info!(key = %self.key.id, "the store of an older version was written anew, secrets encrypted");
        Ok(())
    }

    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// Returns what the file does not need to the disk.
    fn shrink(&mut self) {
        let Some(mut database) = self.database.take() else { return };
        let shrunk = file::fold(&database, &mut self.head)
            .and_then(|()| database.compact().map_err(redb::Error::from));
        match shrunk {
            Ok(_) => self.database = Some(database),
            // The next write opens it anew.
            Err(error) => tracing::debug!(%error, "the store's file cannot be made smaller"),
        }
    }

    fn open_file(&mut self) -> Result<(), Failure> {
        let database = (self.opener)(&self.path)?;
        self.head = Head::read(&database).map_err(|problem| Failure { is_full: false, problem })?;
        self.database = Some(database);
        Ok(())
    }

    /// Puts a file with these objects, sealed by a new key, in the place of the old one.
    fn seal_anew(&mut self, epoch: u64, revision: u64, objects: &[&Object]) -> Result<Key, Failure> {
        let (old, new) = (self.key.clone(), Key::generate());
        let sealed_before = self.head.sealed_by.is_some();
        let both: Vec<&Key> = if sealed_before { vec![&old, &new] } else { vec![&new] };
        self.keys.save(&both).map_err(|error| Failure::of_io(&error))?;
        replace(&self.path, &new, Head::new(epoch, revision, new.id), objects)?;
        self.database = None;
        self.open_file()?;
        self.key = new.clone();
        // From here on the store is sealed by the new key alone; the next start drops the old one, too.
        if let Err(error) = self.keys.save(&[&new]) {
            tracing::warn!(%error, "the old key stays in the key file until the next start or rotation");
        }
        Ok(new)
    }
}

impl StorageEngine for Redb {
    fn persist(&mut self, held: &Snapshot, revision: u64, changes: &[Change]) -> Result<(), Failure> {
        if self.database.is_none() {
            self.reopen(held)?;
        }
        let Some(database) = &self.database else {
            return Err(Failure { is_full: false, problem: "the database file is closed".to_owned() });
        };
        file::write(database, &self.key, &mut self.head, revision, changes, self.log_limit)?;
        self.may_shrink = true;
        Ok(())
    }

    fn reopen(&mut self, held: &Snapshot) -> Result<(), Failure> {
        self.database = None;
        let wanted = self.head;
        match self.open_file() {
            Ok(()) if self.head == wanted => return Ok(()),
            // A write whose last step failed may be in the file all the same. It was refused, so it must not come
            // back at the next start, nor be built upon.
            Ok(()) => tracing::warn!(
                shown = self.head.revision,
                held = held.revision,
                "the store's file shows a write that failed; writing the file anew"
            ),
            Err(failure) if failure.is_full => return Err(failure),
            Err(failure) => {
                tracing::warn!(failure.problem, "the store's file cannot be used; writing it anew");
            }
        }
        (self.database, self.head) = (None, wanted);
        let objects: Vec<&Object> = held.iter().map(AsRef::as_ref).collect();
        replace(&self.path, &self.key, Head::new(held.epoch, held.revision, self.key.id), &objects)?;
        let opened = self.open_file();
        if opened.is_err() {
            self.head = wanted;
        }
        opened
    }

    fn rotate(&mut self, held: &Snapshot) -> Result<Key, Failure> {
        let objects: Vec<&Object> = held.iter().map(AsRef::as_ref).collect();
        let before = (self.head, self.key.clone());
        let rotated = self.seal_anew(held.epoch, held.revision, &objects);
        if rotated.is_err() {
            // The new file may be in place: back to what the old key opens. The key file holds both meanwhile.
            (self.head, self.key) = before;
            if let Err(failure) = self.reopen(held) {
                let problem = failure.problem;
                tracing::error!(problem, "the store could not be reopened; the next write tries again");
            }
        }
        rotated
    }

    fn release_reserve(&mut self) {
        self.reserve.release();
    }

    fn keep_reserve(&mut self) -> bool {
        if self.reserve.keep_again() {
            return true;
        }
        if !std::mem::take(&mut self.may_shrink) {
            return false;
        }
        self.shrink();
        self.reserve.keep_again()
    }
}

/// The key for a new store: the one in the key file, or a new one.
fn usable_key(keys: &KeyFile) -> Result<Key, OpenError> {
    let wrong = |problem| OpenError::Keys { path: keys.path(), problem };
    if let Some(key) = keys.load().map_err(wrong)?.and_then(|keys| keys.into_iter().next()) {
        return Ok(key);
    }
    let key = Key::generate();
    keys.save(&[&key]).map_err(|error| wrong(format!("it cannot be written: {error}")))?;
    Ok(key)
}

/// The key by which a file is sealed; `None` for a file of an older Warren, which has none.
fn key_of(keys: &KeyFile, head: &Head) -> Result<Option<Key>, OpenError> {
    let Some(id) = head.sealed_by else { return Ok(None) };
    let wrong = |problem| OpenError::Keys { path: keys.path(), problem };
    let held = keys.load().map_err(wrong)?.ok_or_else(|| wrong("it is missing".to_owned()))?;
    let names = held.iter().map(|key| key.id.to_string()).collect::<Vec<_>>().join(", ");
    let count = held.len();
    let key = held.into_iter().find(|key| key.id == id);
    let key =
        key.ok_or_else(|| wrong(format!("the store is sealed by the key {id}, the file holds {names}")))?;
    if count > 1 {
        // A rotation was interrupted. The store tells which key won.
        keys.save(&[&key]).map_err(|error| wrong(format!("it cannot be written: {error}")))?;
    }
    Ok(Some(key))
}

fn open_checked(path: &Path) -> Result<(Database, Head), OpenError> {
    let opened = catch_unwind(AssertUnwindSafe(|| file::open(path)));
    let database = match opened {
        Ok(Ok(database)) => database,
        Ok(Err(error)) => return Err(classify(path, error)),
        Err(_) => return Err(damaged(path, "the file is damaged".to_owned())),
    };
    let head = guarded(path, || Head::read(&database))?;
    Ok((database, head))
}

/// Runs what reads a file that may hold anything.
fn guarded<T>(path: &Path, read: impl FnOnce() -> Result<T, String>) -> Result<T, OpenError> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(outcome) => outcome.map_err(|problem| damaged(path, problem)),
        Err(_) => Err(damaged(path, "the file is damaged".to_owned())),
    }
}

fn damaged(path: &Path, problem: String) -> OpenError {
    OpenError::Corrupt { path: path.to_owned(), problem }
}

fn classify(path: &Path, error: redb::Error) -> OpenError {
    let content = match &error {
        redb::Error::Io(cause) => {
            matches!(cause.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
        }
        redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => false,
        _ => true,
    };
    if content {
        return damaged(path, error.to_string());
    }
    let source: Box<dyn std::error::Error + Send + Sync> = match error {
        redb::Error::DatabaseAlreadyOpen => {
            "another process uses it (is a controller running already?)".into()
        }
        error => error.into(),
    };
    OpenError::Open { path: path.to_owned(), source }
}

/// Puts a new file with these objects in the place of the old one, durably and in one step.
pub(crate) fn replace(path: &Path, key: &Key, head: Head, objects: &[&Object]) -> Result<(), redb::Error> {
    let fresh = path.with_extension("redb.new");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let written = file::create(&fresh, key, head, objects.iter().copied()).and_then(|()| {
        fs::File::open(&fresh)?.sync_all()?;
        fs::rename(&fresh, path)?;
        let directory = path.parent().unwrap_or(Path::new("."));
        Ok(fs::File::open(directory)?.sync_all()?)
    });
    if written.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    written
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
