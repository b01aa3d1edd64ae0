//! The tables of the database file, and how they are read and written as a whole.
//!
//! A commit appends its changes, in one piece, to the table `log`: whatever objects it touches, few pages change, and
//! one flush makes them durable. When the log has grown, its changes are folded into the table `objects`, each
//! object's last one only: what is written again and again, as leases are, is moved once. A reader lays the log over
//! the objects.

use std::{borrow::Cow, collections::BTreeMap, path::Path};

use bytes::Bytes;
use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, TableError,
    WriteTransaction,
};
use serde_json::Value;

use crate::{
    Key, Object,
    head::{Head, hash, hash_entry},
    keys, seal,
};

const OBJECTS: TableDefinition<'_, &[u8], (u64, &[u8])> = TableDefinition::new("objects");

/// A change as it is stored: the object's name, and its revision and value, or nothing when it was deleted.
pub(crate) type Stored<'a> = (&'a [u8], Option<(u64, &'a [u8])>);
/// By the revision of the commit.
const LOG: TableDefinition<'_, u64, Vec<Stored<'_>>> = TableDefinition::new("log");
/// How many bytes of changes the log may hold before they are folded into the objects: so many that what changes
/// often is folded seldom, so few that the commit which folds them is not long.
pub(crate) const LOG_LIMIT: u64 = 8 << 20;

/// One durable change: a value, or `None` for a deletion.
pub(crate) type Change = (Key, Option<(u64, Bytes)>);

/// A value as it is stored.
pub(crate) fn encode<'a>(kek: &keys::Key, key: &Key, revision: u64, json: &'a [u8]) -> Cow<'a, [u8]> {
    match seal::is_sealed(key) {
        true => Cow::Owned(seal::seal(kek, key, revision, json)),
        false => Cow::Borrowed(json),
    }
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

/// Adds changes to a file, durably; folds the log when it holds more than `log_limit` bytes.
///
/// One flush: a commit that was cut off is known by redb's check sums at the next start, which then takes a moment
/// per hundred thousand objects. Flushing twice would spare that look, and make every commit wait twice.
pub(crate) fn write(
    database: &Database,
    kek: &keys::Key,
    head: &mut Head,
    revision: u64,
    changes: &[Change],
    log_limit: u64,
) -> Result<(), redb::Error> {
    commit(database, head, |transaction, next| {
        next.revision = revision;
        append(transaction, kek, next, changes)?;
        if next.logged > log_limit { fold_within(transaction, next) } else { Ok(()) }
    })
}

/// Moves what the log holds to the objects, durably.
pub(crate) fn fold(database: &Database, head: &mut Head) -> Result<(), redb::Error> {
    commit(database, head, fold_within)
}

/// Makes a change, and the head that goes with it, durable in one step; after an error `head` is what it was.
fn commit(
    database: &Database,
    head: &mut Head,
    change: impl FnOnce(&WriteTransaction, &mut Head) -> Result<(), redb::Error>,
) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    let mut next = *head;
    change(&transaction, &mut next)?;
    next.write(&transaction)?;
    transaction.commit()?;
    *head = next;
    Ok(())
}

fn append(
    transaction: &WriteTransaction,
    kek: &keys::Key,
    head: &mut Head,
    changes: &[Change],
) -> Result<(), redb::Error> {
    let encoded: Vec<_> = changes
        .iter()
        .map(|(key, change)| {
            let change =
                change.as_ref().map(|(revision, json)| (*revision, encode(kek, key, *revision, json)));
            (encode_key(key), change)
        })
        .collect();
    let entry: Vec<Stored<'_>> = encoded
        .iter()
        .map(|(name, change)| {
            (name.as_slice(), change.as_ref().map(|(revision, value)| (*revision, &**value)))
        })
        .collect();
    head.sum ^= hash_entry(head.revision, &entry);
    let size = |(name, change): &Stored<'_>| name.len() + change.map_or(0, |(_, value)| value.len());
    head.logged += entry.iter().map(size).sum::<usize>() as u64;
    transaction.open_table(LOG)?.insert(head.revision, entry)?;
    Ok(())
}

fn fold_within(transaction: &WriteTransaction, head: &mut Head) -> Result<(), redb::Error> {
    let latest = overlay(&transaction.open_table(LOG)?, &mut head.sum)?;
    transaction.delete_table(LOG)?;
    transaction.open_table(LOG)?;
    let mut objects = transaction.open_table(OBJECTS)?;
    for (name, change) in &latest {
        let previous = match change {
            Some((revision, value)) => {
                head.sum ^= hash(name, *revision, value);
                objects.insert(name.as_slice(), (*revision, value.as_slice()))?
            }
            None => objects.remove(name.as_slice())?,
        };
        if let Some(previous) = previous {
            let (revision, value) = previous.value();
            head.sum ^= hash(name, revision, value);
        }
    }
    head.logged = 0;
    Ok(())
}

/// The last change of each object that a log holds.
type Overlay = BTreeMap<Vec<u8>, Option<(u64, Vec<u8>)>>;

/// Collects what a log says, in its order; its entries are added to the sum, or taken from it.
fn overlay(
    log: &impl ReadableTable<u64, Vec<Stored<'static>>>,
    sum: &mut u64,
) -> Result<Overlay, redb::Error> {
    let mut latest = Overlay::new();
    for entry in log.iter()? {
        let (revision, changes) = entry?;
        let changes = changes.value();
        *sum ^= hash_entry(revision.value(), &changes);
        for (name, change) in changes {
            latest.insert(name.to_vec(), change.map(|(revision, value)| (revision, value.to_vec())));
        }
    }
    Ok(latest)
}

/// Makes a new file with exactly these objects, sealed by `kek`; there must be none at `path`.
pub(crate) fn create<'a>(
    path: &Path,
    kek: &keys::Key,
    mut head: Head,
    objects: impl Iterator<Item = &'a Object>,
) -> Result<(), redb::Error> {
    let database = Database::builder().set_cache_size(64 << 20).create(path)?;
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(OBJECTS)?;
        for object in objects {
            // Not the object's own text, which it would keep.
            let json = serde_json::to_vec(&*object.value).expect("a JSON value can be written as JSON");
            let name = encode_key(&object.key);
            let value = encode(kek, &object.key, object.revision, &json);
            head.sum ^= hash(&name, object.revision, &value);
            table.insert(name.as_slice(), (object.revision, &*value))?;
        }
        transaction.open_table(LOG)?;
    }
    head.write(&transaction)?;
    transaction.commit()?;
    Ok(())
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
    let (mut objects, mut sum, mut problem) = (Vec::new(), 0, None);
    let mut decoded = |name: &[u8], revision, stored: &[u8]| -> Result<(), String> {
        match decode(kek, decode_key(name)?, revision, stored) {
            Ok(object) => objects.push(object),
            Err(said) => drop(problem.get_or_insert(said)),
        }
        Ok(())
    };
    let latest = logged(&transaction, &mut sum)?;
    for entry in transaction.open_table(OBJECTS).map_err(text)?.iter().map_err(text)? {
        let (name, value) = entry.map_err(text)?;
        let (name, (revision, stored)) = (name.value(), value.value());
        sum ^= hash(name, revision, stored);
        if !latest.contains_key(name) {
            decoded(name, revision, stored)?;
        }
    }
    for (name, change) in &latest {
        if let Some((revision, stored)) = change {
            decoded(name, *revision, stored)?;
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

/// What the log says; a file of an older Warren has none.
fn logged(transaction: &ReadTransaction, sum: &mut u64) -> Result<Overlay, String> {
    match transaction.open_table(LOG) {
        Ok(log) => overlay(&log, sum).map_err(text),
        Err(TableError::TableDoesNotExist(_)) => Ok(Overlay::new()),
        Err(error) => Err(text(error)),
    }
}

pub(crate) fn text(error: impl std::fmt::Display) -> String {
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

/// Makes a file in an old layout; for tests of the way from there to here.
#[cfg(test)]
pub(crate) fn create_old(path: &Path, format: u64, mut head: Head, objects: &[Object]) {
    let database = Database::create(path).expect("made");
    let transaction = database.begin_write().expect("begun");
    {
        let mut table = transaction.open_table(OBJECTS).expect("a table");
        for object in objects {
            let (name, json) = (encode_key(&object.key), object.json());
            head.sum ^= hash(&name, object.revision, json);
            table.insert(name.as_slice(), (object.revision, &**json)).expect("inserted");
        }
    }
    crate::head::write_old(&transaction, format, &head);
    transaction.commit().expect("committed");
}
