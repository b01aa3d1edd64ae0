//! What the file says about itself, and the check sum that covers every record.
//!
//! Every record counts towards a sum that is written with each commit: a file that lost, gained or changed a record
//! by damage is found when it is opened, whatever the damage did to the tree around it.

use redb::{Database, ReadableDatabase, TableDefinition, WriteTransaction};
use sha2::{Digest as _, Sha256};

use crate::{
    file::{Stored, text},
    keys::KeyId,
};

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// The layout of the tables; a store written by a newer layout is refused.
const FORMAT: u64 = 3;
/// The layout without a log.
const UNLOGGED_FORMAT: u64 = 2;
/// The layout that had no key, nor a check sum.
const UNSEALED_FORMAT: u64 = 1;

/// What the table `meta` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) epoch: u64,
    pub(crate) revision: u64,
    /// By which key secrets are sealed; `None` in a file of an older Warren.
    pub(crate) sealed_by: Option<KeyId>,
    /// How many bytes of changes the log holds.
    pub(crate) logged: u64,
    /// The check sum of all records: the exclusive or of their hashes.
    pub(crate) sum: u64,
}

impl Head {
    pub(crate) fn new(epoch: u64, revision: u64, sealed_by: KeyId) -> Self {
        Self { epoch, revision, sealed_by: Some(sealed_by), logged: 0, sum: 0 }
    }

    fn key(&self) -> u64 {
        u64::from(self.sealed_by.map_or(0, |id| id.0))
    }

    /// What must be stored beside the numbers for them to be believed.
    fn check(&self, format: u64) -> u64 {
        let mut numbers = vec![format, self.epoch, self.revision, self.key(), self.sum];
        if format != UNLOGGED_FORMAT {
            numbers.push(self.logged);
        }
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
        hash(&bytes, 0, &[])
    }

    pub(crate) fn write(&self, transaction: &WriteTransaction) -> Result<(), redb::Error> {
        let mut meta = transaction.open_table(META)?;
        let entries = [
            ("format", FORMAT),
            ("epoch", self.epoch),
            ("revision", self.revision),
            ("key", self.key()),
            ("logged", self.logged),
            ("sum", self.sum),
            ("check", self.check(FORMAT)),
        ];
        for (name, number) in entries {
            meta.insert(name, number)?;
        }
        Ok(())
    }

    pub(crate) fn read(database: &Database) -> Result<Self, String> {
        let transaction = database.begin_read().map_err(text)?;
        let meta = transaction.open_table(META).map_err(text)?;
        let number = |name: &str| -> Result<u64, String> {
            let value = meta.get(name).map_err(text)?;
            Ok(value.ok_or_else(|| format!("the entry {name:?} is missing"))?.value())
        };
        let (format, epoch, revision) = (number("format")?, number("epoch")?, number("revision")?);
        let logged = match format {
            UNSEALED_FORMAT => return Ok(Self { epoch, revision, sealed_by: None, logged: 0, sum: 0 }),
            UNLOGGED_FORMAT => 0,
            FORMAT => number("logged")?,
            _ => return Err(format!("it has format {format}, this version of Warren reads format {FORMAT}")),
        };
        let key =
            u32::try_from(number("key")?).map_err(|_| "the entry \"key\" is no key's name".to_owned())?;
        let head = Self { epoch, revision, sealed_by: Some(KeyId(key)), logged, sum: number("sum")? };
        if head.check(format) != number("check")? {
            return Err("its head does not match its check sum: the file is damaged".to_owned());
        }
        Ok(head)
    }
}

/// The hash of a record.
pub(crate) fn hash(key: &[u8], revision: u64, value: &[u8]) -> u64 {
    let mut digest = Sha256::new();
    digest.update((key.len() as u64).to_be_bytes());
    digest.update(key);
    digest.update(revision.to_be_bytes());
    digest.update(value);
    first_bytes(digest)
}

/// The hash of an entry of the log.
pub(crate) fn hash_entry(revision: u64, changes: &[Stored<'_>]) -> u64 {
    let mut digest = Sha256::new();
    digest.update(revision.to_be_bytes());
    for (name, change) in changes {
        digest.update((name.len() as u64).to_be_bytes());
        digest.update(name);
        if let Some((revision, value)) = change {
            digest.update(revision.to_be_bytes());
            digest.update((value.len() as u64).to_be_bytes());
            digest.update(value);
        } else {
            // No value has this length.
            digest.update(u64::MAX.to_be_bytes());
        }
    }
    first_bytes(digest)
}

fn first_bytes(digest: Sha256) -> u64 {
    digest.finalize().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Makes the head of a file in an old layout; for tests of the way from there to here.
#[cfg(test)]
pub(crate) fn write_old(transaction: &WriteTransaction, format: u64, head: &Head) {
    let mut meta = transaction.open_table(META).expect("a table");
    let mut entries = vec![("format", format), ("epoch", head.epoch), ("revision", head.revision)];
    if format == UNLOGGED_FORMAT {
        entries.extend([("key", head.key()), ("sum", head.sum), ("check", head.check(format))]);
    }
    for (name, number) in entries {
        meta.insert(name, number).expect("inserted");
    }
}
