//! The durable part: one redb file.

use std::path::{Path, PathBuf};

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use serde_json::Value;

use crate::{Key, Object};

const OBJECTS: TableDefinition<'_, &[u8], (u64, &[u8])> = TableDefinition::new("objects");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// The layout of the tables; a store written by a newer layout is refused.
const FORMAT: u64 = 1;

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
    /// The content is not what this version writes.
    #[error(
        "the store at {path} cannot be read: {problem}; restore it from a backup or use an empty directory"
    )]
    Corrupt {
        /// The database file.
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

/// One durable change: a value, or `None` for a deletion.
pub(crate) type Change = (Key, Option<(u64, Vec<u8>)>);

/// What the committer needs of a disk. A second implementation fails on purpose, in tests.
pub(crate) trait Engine: Send {
    /// Durable when it returns; on an error nothing of it is.
    fn persist(&mut self, revision: u64, changes: &[Change]) -> Result<(), String>;
    /// After a failed write: forget the handle and open anew.
    fn reopen(&mut self) -> Result<(), String>;
}

pub(crate) struct Redb {
    path: PathBuf,
    database: Option<Database>,
}

impl Redb {
    pub(crate) fn open(directory: &Path) -> Result<(Self, Loaded), OpenError> {
        let path = directory.join("store.redb");
        let failed = |source| OpenError::Open { path: path.clone(), source };
        std::fs::create_dir_all(directory).map_err(|error| failed(error.into()))?;
        let database = open_database(&path).map_err(failed)?;
        let loaded = load(&database).map_err(|problem| OpenError::Corrupt { path: path.clone(), problem })?;
        Ok((Self { path, database: Some(database) }, loaded))
    }
}

impl Engine for Redb {
    fn persist(&mut self, revision: u64, changes: &[Change]) -> Result<(), String> {
        let database =
            self.database.as_ref().ok_or("the database file is closed after an earlier failure")?;
        write(database, revision, changes).map_err(|error| error.to_string())
    }

    fn reopen(&mut self) -> Result<(), String> {
        self.database = None;
        self.database = Some(open_database(&self.path).map_err(|error| error.to_string())?);
        Ok(())
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

fn open_database(path: &Path) -> Result<Database, BoxError> {
    let database = Database::builder().set_cache_size(64 << 20).create(path)?;
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    {
        transaction.open_table(OBJECTS)?;
        let mut meta = transaction.open_table(META)?;
        if meta.get("format")?.is_none() {
            meta.insert("format", FORMAT)?;
            meta.insert("epoch", 1)?;
            meta.insert("revision", 1)?;
        }
    }
    transaction.commit()?;
    Ok(database)
}

fn write(database: &Database, revision: u64, changes: &[Change]) -> Result<(), BoxError> {
    let mut transaction = database.begin_write()?;
    // Opening after a crash then takes milliseconds, not a scan of the file.
    transaction.set_quick_repair(true);
    transaction.set_durability(Durability::Immediate)?;
    {
        let mut objects = transaction.open_table(OBJECTS)?;
        for (key, change) in changes {
            let key = encode_key(key);
            match change {
                Some((revision, value)) => objects.insert(key.as_slice(), (*revision, value.as_slice()))?,
                None => objects.remove(key.as_slice())?,
            };
        }
        transaction.open_table(META)?.insert("revision", revision)?;
    }
    transaction.commit()?;
    Ok(())
}

fn load(database: &Database) -> Result<Loaded, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let transaction = database.begin_read().map_err(|e| text(&e))?;
    let meta = transaction.open_table(META).map_err(|e| text(&e))?;
    let number = |name: &str| -> Result<u64, String> {
        let value = meta.get(name).map_err(|e| text(&e))?;
        Ok(value.ok_or_else(|| format!("the entry {name:?} is missing"))?.value())
    };
    let format = number("format")?;
    if format != FORMAT {
        return Err(format!("it has format {format}, this version of Warren reads format {FORMAT}"));
    }
    let (epoch, revision) = (number("epoch")?, number("revision")?);
    let table = transaction.open_table(OBJECTS).map_err(|e| text(&e))?;
    let mut objects = Vec::new();
    for entry in table.iter().map_err(|e| text(&e))? {
        let (key, value) = entry.map_err(|e| text(&e))?;
        let (written, json) = value.value();
        let key = decode_key(key.value())?;
        let value: Value = serde_json::from_slice(json).map_err(|error| format!("{key}: {error}"))?;
        objects.push(Object::new(key, written, value));
    }
    Ok(Loaded { epoch, revision, objects })
}

fn encode_key(key: &Key) -> Vec<u8> {
    [&*key.resource, &*key.namespace, &*key.name].join("\0").into_bytes()
}

fn decode_key(bytes: &[u8]) -> Result<Key, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "a key is not UTF-8".to_owned())?;
    match text.split('\0').collect::<Vec<_>>()[..] {
        [resource, namespace, name] => Ok(Key::new(resource, namespace, name)),
        _ => Err(format!("the key {text:?} is malformed")),
    }
}
