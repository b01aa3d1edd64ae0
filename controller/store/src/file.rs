//! The tables of the database file, and how they are read and written as a whole.
//!
//! Every record counts towards a check sum that is written with each commit: a file that lost, gained or changed
//! a record by damage is found when it is opened, whatever the damage did to the tree around it.

use std::path::Path;

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{
    Key, Object,
    keys::{self, KeyId},
    seal,
};

const OBJECTS: TableDefinition<'_, &[u8], (u64, &[u8])> = TableDefinition::new("objects");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// The layout of the tables; a store written by a newer layout is refused. 1 had no key, nor a check sum.
const FORMAT: u64 = 2;
const UNSEALED_FORMAT: u64 = 1;

/// What the table `meta` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) epoch: u64,
    pub(crate) revision: u64,
    /// By which key secrets are sealed; `None` in a file of an older Warren.
    pub(crate) sealed_by: Option<KeyId>,
    /// The check sum of all records.
    sum: u64,
}

impl Head {
    pub(crate) fn new(epoch: u64, revision: u64, sealed_by: KeyId) -> Self {
        Self { epoch, revision, sealed_by: Some(sealed_by), sum: 0 }
    }

    /// What must be stored beside the numbers for them to be believed.
    fn check(&self) -> u64 {
        let numbers =
            [FORMAT, self.epoch, self.revision, u64::from(self.sealed_by.map_or(0, |id| id.0)), self.sum];
        hash(
            numbers.iter().map(|number| number.to_be_bytes()).collect::<Vec<_>>().concat().as_slice(),
            0,
            &[],
        )
    }
}

fn hash(key: &[u8], revision: u64, value: &[u8]) -> u64 {
    let mut digest = Sha256::new();
    digest.update((key.len() as u64).to_be_bytes());
    digest.update(key);
    digest.update(revision.to_be_bytes());
    digest.update(value);
    let digest = digest.finalize();
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// One durable change: a value, or `None` for a deletion.
pub(crate) type Change = (Key, Option<(u64, Vec<u8>)>);

/// A value as it is stored.
pub(crate) fn encode(kek: &keys::Key, key: &Key, revision: u64, json: &[u8]) -> Vec<u8> {
    if seal::is_sealed(key) { seal::seal(kek, key, revision, json) } else { json.to_vec() }
}

/// A value as it is stored, as an object.
pub(crate) fn decode(
    kek: Option<&keys::Key>,
    key: Key,
    revision: u64,
    stored: &[u8],
) -> Result<Object, String> {
    let value: Value = match kek.filter(|_| seal::is_sealed(&key)) {
        Some(kek) => serde_json::from_slice(&seal::open(kek, &key, revision, stored)?),
        None => serde_json::from_slice(stored),
    }
    .map_err(|error| format!("{key}: {error}"))?;
    Ok(Object::new(key, revision, value))
}

pub(crate) fn open(path: &Path) -> Result<Database, redb::Error> {
    Ok(Database::builder().set_cache_size(64 << 20).open(path)?)
}

/// Adds changes to a file, durably.
pub(crate) fn write(
    database: &Database,
    kek: &keys::Key,
    head: &mut Head,
    revision: u64,
    changes: &[Change],
) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    // Opening after a crash then takes milliseconds, not a scan of the file.
    transaction.set_quick_repair(true);
    transaction.set_durability(Durability::Immediate)?;
    let mut next = Head { revision, ..*head };
    {
        let mut objects = transaction.open_table(OBJECTS)?;
        for (key, change) in changes {
            let name = encode_key(key);
            let stored =
                change.as_ref().map(|(revision, json)| (*revision, encode(kek, key, *revision, json)));
            let previous = match &stored {
                Some((revision, value)) => {
                    next.sum ^= hash(&name, *revision, value);
                    objects.insert(name.as_slice(), (*revision, value.as_slice()))?
                }
                None => objects.remove(name.as_slice())?,
            };
            if let Some(previous) = previous {
                let (revision, value) = previous.value();
                next.sum ^= hash(&name, revision, value);
            }
        }
        write_head(&mut transaction.open_table(META)?, &next)?;
    }
    transaction.commit()?;
    *head = next;
    Ok(())
}

fn write_head(meta: &mut redb::Table<'_, &str, u64>, head: &Head) -> Result<(), redb::Error> {
    let key = u64::from(head.sealed_by.map_or(0, |id| id.0));
    let entries = [
        ("format", FORMAT),
        ("epoch", head.epoch),
        ("revision", head.revision),
        ("key", key),
        ("sum", head.sum),
        ("check", head.check()),
    ];
    for (name, number) in entries {
        meta.insert(name, number)?;
    }
    Ok(())
}

/// Makes a new file with exactly these objects, sealed by `kek`; there must be none at `path`.
pub(crate) fn create<'a>(
    path: &Path,
    kek: &keys::Key,
    mut head: Head,
    objects: impl Iterator<Item = &'a Object>,
) -> Result<(), redb::Error> {
    let database = Database::builder().set_cache_size(64 << 20).create(path)?;
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    {
        let mut table = transaction.open_table(OBJECTS)?;
        for object in objects {
            let json = serde_json::to_vec(&object.value).expect("a JSON value can be written as JSON");
            let (name, value) = (encode_key(&object.key), encode(kek, &object.key, object.revision, &json));
            head.sum ^= hash(&name, object.revision, &value);
            table.insert(name.as_slice(), (object.revision, value.as_slice()))?;
        }
        write_head(&mut transaction.open_table(META)?, &head)?;
    }
    transaction.commit()?;
    Ok(())
}

/// What the file says about itself.
pub(crate) fn read_head(database: &Database) -> Result<Head, String> {
    let transaction = database.begin_read().map_err(text)?;
    let meta = transaction.open_table(META).map_err(text)?;
    let number = |name: &str| -> Result<u64, String> {
        let value = meta.get(name).map_err(text)?;
        Ok(value.ok_or_else(|| format!("the entry {name:?} is missing"))?.value())
    };
    let (format, epoch, revision) = (number("format")?, number("epoch")?, number("revision")?);
    if format == UNSEALED_FORMAT {
        return Ok(Head { epoch, revision, sealed_by: None, sum: 0 });
    }
    if format != FORMAT {
        return Err(format!("it has format {format}, this version of Warren reads format {FORMAT}"));
    }
    let key = u32::try_from(number("key")?).map_err(|_| "the entry \"key\" is no key's name".to_owned())?;
    let head = Head { epoch, revision, sealed_by: Some(KeyId(key)), sum: number("sum")? };
    if head.check() != number("check")? {
        return Err("its head does not match its check sum: the file is damaged".to_owned());
    }
    Ok(head)
}

/// What a file holds.
pub(crate) struct Content {
    pub(crate) objects: Vec<Object>,
    /// The records are what was written, but the key does not open them: what the first of them says.
    pub(crate) unopened: Option<String>,
}

/// All objects, checked against the head's sum.
pub(crate) fn read(database: &Database, head: &Head, kek: Option<&keys::Key>) -> Result<Content, String> {
    let transaction = database.begin_read().map_err(text)?;
    let table = transaction.open_table(OBJECTS).map_err(text)?;
    let (mut objects, mut sum, mut problem) = (Vec::new(), 0, None);
    for entry in table.iter().map_err(text)? {
        let (name, value) = entry.map_err(text)?;
        let (revision, stored) = value.value();
        sum ^= hash(name.value(), revision, stored);
        match decode(kek, decode_key(name.value())?, revision, stored) {
            Ok(object) => objects.push(object),
            Err(said) => drop(problem.get_or_insert(said)),
        }
    }
    if head.sealed_by.is_some() && sum != head.sum {
        return Err("its records do not match their check sum: the file is damaged".to_owned());
    }
    match problem {
        Some(said) if head.sealed_by.is_none() => Err(said),
        unopened => Ok(Content { objects, unopened }),
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
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

/// Makes a file in the old layout; for tests of the way from there to here.
#[cfg(test)]
pub(crate) fn create_unsealed(path: &Path, revision: u64, objects: &[Object]) {
    let database = Database::create(path).expect("made");
    let transaction = database.begin_write().expect("begun");
    {
        let mut table = transaction.open_table(OBJECTS).expect("a table");
        for object in objects {
            let (name, json) = (encode_key(&object.key), object.value.to_string());
            table.insert(name.as_slice(), (object.revision, json.as_bytes())).expect("inserted");
        }
        let mut meta = transaction.open_table(META).expect("a table");
        for (name, number) in [("format", UNSEALED_FORMAT), ("epoch", 1), ("revision", revision)] {
            meta.insert(name, number).expect("inserted");
        }
    }
    transaction.commit().expect("committed");
}
