//! A copy of the whole state, as lines of JSON, and a store made from such a copy.
//!
//! What is sealed in the store is sealed in the copy, by the same key: the key travels beside it, in the text of
//! the key file.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Key, Object, Snapshot, engine, file,
    head::Head,
    keys::{self, KeyFile},
    seal,
};

/// How far a restored store's revision is ahead of its backup's: no client may take the time after the backup for
/// the time after the restore, or hold a revision that is in the store's future.
pub const RESTORE_LEAP: u64 = 1_000_000_000;

/// One object of a backup.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    resource: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    namespace: String,
    name: String,
    revision: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<Value>,
    /// Base64 of what the store would write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sealed: Option<String>,
}

/// The whole state at one revision.
pub struct Backup {
    snapshot: Arc<Snapshot>,
    key: keys::Key,
}

impl Backup {
    pub(crate) fn new(snapshot: Arc<Snapshot>, key: keys::Key) -> Self {
        Self { snapshot, key }
    }

    /// The state that is in the backup.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The text of the key file that opens the lines.
    pub fn key_file(&self) -> String {
        keys::text(&self.key).to_string()
    }

    /// One line of JSON per object, without line ends.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.snapshot.iter().map(|object| {
            let (value, sealed) = if seal::is_sealed(&object.key) {
                let json = serde_json::to_vec(&*object.value).expect("a JSON value can be written as JSON");
                let sealed = seal::seal(&self.key, &object.key, object.revision, &json);
                (None, Some(STANDARD.encode(sealed)))
            } else {
                (Some(object.value.clone()), None)
            };
            let line = Line {
                resource: object.key.resource.to_string(),
                namespace: object.key.namespace.to_string(),
                name: object.key.name.to_string(),
                revision: object.revision,
                value,
                sealed,
            };
            serde_json::to_string(&line).expect("a JSON value can be written as JSON")
        })
    }
}

/// Why a backup cannot be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The key file in the backup is not one.
    #[error("the backup's key file is unusable: {0}")]
    Keys(String),
    /// A line cannot be understood.
    #[error("object {number} of the backup is unusable: {problem}")]
    Object {
        /// Counted from one.
        number: usize,
        /// What is wrong.
        problem: String,
    },
    /// A store is there already.
    #[error("there is a store at {0} already: restore into an empty data directory")]
    Occupied(PathBuf),
    /// The new store cannot be written.
    #[error("the restored store cannot be written: {0}")]
    Write(String),
}

/// Takes in a backup, line by line, then writes a store.
pub struct Restorer {
    key: keys::Key,
    objects: BTreeMap<Key, Object>,
}

impl Restorer {
    /// Begins with the text of the backup's key file.
    pub fn new(key_file: &str) -> Result<Self, RestoreError> {
        let mut keys = keys::parse(key_file).map_err(RestoreError::Keys)?;
        Ok(Self { key: keys.swap_remove(0), objects: BTreeMap::new() })
    }

    /// Takes in one object.
    pub fn line(&mut self, line: &str) -> Result<(), RestoreError> {
        let object = self.object(line);
        let number = self.objects.len() + 1;
        let object = object.map_err(|problem| RestoreError::Object { number, problem })?;
        self.objects.insert(object.key.clone(), object);
        Ok(())
    }

    fn object(&self, line: &str) -> Result<Object, String> {
        // The parser's own words would quote the object.
        let line: Line = serde_json::from_str(line)
            .map_err(|error| format!("it is not as Warren writes them (column {})", error.column()))?;
        let key = Key::new(&line.resource, &line.namespace, &line.name);
        match (line.value, line.sealed) {
            (Some(value), None) => Ok(Object::new(key, line.revision, value)),
            (None, Some(sealed)) => {
                let sealed = STANDARD.decode(sealed).map_err(|error| format!("{key}: {error}"))?;
                file::decode(Some(&self.key), key, line.revision, &sealed)
            }
            _ => Err(format!("{key}: it must have either a value or a sealed value")),
        }
    }

    /// Leaves out every object of a resource; the answer is how many there were.
    pub fn leave_out(&mut self, resource: &str) -> usize {
        let before = self.objects.len();
        self.objects.retain(|key, _| &*key.resource != resource);
        before - self.objects.len()
    }

    /// How many objects were taken in.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether none was taken in.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Writes the store into `directory` and its key file into `keys`; neither may hold one. The revision leaps, so
    /// that clients start anew, and the epoch must be newer than any that members have seen.
    pub fn write(self, directory: &Path, keys: &Path, epoch: u64, revision: u64) -> Result<(), RestoreError> {
        let (path, key_file) = (directory.join("store.redb"), KeyFile::new(keys));
        for occupied in [&path, &key_file.path()] {
            if occupied.exists() {
                return Err(RestoreError::Occupied(occupied.clone()));
            }
        }
        let failed = |error: &dyn std::fmt::Display| RestoreError::Write(error.to_string());
        std::fs::create_dir_all(directory).map_err(|error| failed(&error))?;
        key_file.save(&[&self.key]).map_err(|error| failed(&error))?;
        let objects: Vec<&Object> = self.objects.values().collect();
        let head = Head::new(epoch, revision.saturating_add(RESTORE_LEAP), self.key.id);
        engine::replace(&path, &self.key, head, &objects).map_err(|error| failed(&error))
    }
}
