//! A kept state and the changes since: a change costs what it changes, not what is kept.
//!
//! ```text
//!  netd.bin      a whole state, replaced at once        (what earlier versions wrote, and read)
//!  netd.changes  what changed since, one record after the other: length, check sum, content
//! ```
//!
//! A record follows a state, which it names. What does not follow what was read so far, and what is damaged or cut off, is
//! where reading ends: the state before it is a state that was accepted. When the changes have become as large as the
//! state they are folded into it.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use warren_proto::{control::KeptChange, vocabulary::Cursor};

/// Changes are not folded in before there are so many bytes of them.
const LEAST_BYTES: usize = 256 << 10;
/// Of a record: its content's length, and the beginning of its SHA-256.
const HEAD: usize = 12;

/// The changes since a whole state, which another file holds.
pub(crate) struct Changes {
    path: PathBuf,
    file: Option<File>,
    /// What the last record leads to.
    cursor: Cursor,
    bytes: usize,
    most: usize,
}

/// Where the changes to a kept state lie.
pub(crate) fn beside(whole: &Path) -> PathBuf {
    whole.with_extension("changes")
}

impl Changes {
    /// None yet, to a state of so many bytes that was written a moment ago. Records of an earlier one do not follow it.
    pub(crate) fn begin(whole: &Path, cursor: Cursor, bytes: usize) -> Self {
        Self { path: beside(whole), file: None, cursor, bytes: 0, most: bytes.max(LEAST_BYTES) }
    }

    /// The state that a change must follow.
    pub(crate) fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Appends a change. An error leaves open what the file holds: the whole state is to be written then.
    pub(crate) fn append(&mut self, change: &KeptChange) -> anyhow::Result<()> {
        let content = change.encode_to_vec();
        let length = u32::try_from(content.len()).context("a change of more than 4 GiB")?;
        let record = [&length.to_be_bytes()[..], &sum(&content), &content].concat();
        let file = self.file.take();
        let write = || -> std::io::Result<File> {
            let mut file = file.map_or_else(|| create(&self.path), Ok)?;
            file.write_all(&record)?;
            file.sync_data()?;
            Ok(file)
        };
        let file = write().with_context(|| format!("cannot write {}", self.path.display()))?;
        self.file = Some(file);
        self.bytes = self.bytes.saturating_add(record.len());
        self.cursor = Cursor { epoch: change.epoch, revision: change.revision };
        Ok(())
    }

    /// Whether they are so many that the whole state is to be written anew.
    pub(crate) fn are_many(&self) -> bool {
        self.bytes > self.most
    }
}

/// A new file, readable by its owner alone; what lies in its place is removed and never written through.
fn create(path: &Path) -> std::io::Result<File> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = OpenOptions::new().create_new(true).append(true).mode(0o600).open(path)?;
    // A file that is not found after a crash has lost its changes.
    if let Some(directory) = path.parent() {
        File::open(directory)?.sync_all()?;
    }
    Ok(file)
}

fn sum(content: &[u8]) -> [u8; HEAD - 4] {
    let digest = Sha256::digest(content);
    std::array::from_fn(|index| digest[index])
}

/// The changes that lead on from a state, in order.
pub(crate) fn read(whole: &Path, mut cursor: Cursor) -> anyhow::Result<Vec<KeptChange>> {
    let path = beside(whole);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let mut changes = Vec::new();
    let mut rest = &bytes[..];
    while let Some(change) = record(&mut rest) {
        let after = Cursor { epoch: change.after_epoch, revision: change.after_revision };
        if after != cursor {
            // Of a whole state before this one, which was replaced before its changes were removed.
            break;
        }
        cursor = Cursor { epoch: change.epoch, revision: change.revision };
        changes.push(change);
    }
    Ok(changes)
}

fn record(rest: &mut &[u8]) -> Option<KeptChange> {
    let (head, after) = rest.split_at_checked(HEAD)?;
    let length = u32::from_be_bytes(head[..4].try_into().ok()?);
    let (content, after) = after.split_at_checked(usize::try_from(length).ok()?)?;
    *rest = after;
    (head[4..] == sum(content)).then(|| KeptChange::decode(content).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(after: u64, revision: u64) -> KeptChange {
        let deletes = vec![format!("peer/{revision}")];
        KeptChange { epoch: 1, revision, after_epoch: 1, after_revision: after, deletes, ..KeptChange::default() }
    }

    fn revisions(whole: &Path, after: u64) -> Vec<u64> {
        let changes = read(whole, Cursor { epoch: 1, revision: after }).expect("readable");
        changes.iter().map(|change| change.revision).collect()
    }

    #[test]
    fn what_is_cut_off_damaged_or_of_another_state_ends_the_reading() {
        let directory = tempfile::tempdir().expect("a directory");
        let whole = directory.path().join("netd.bin");
        assert_eq!(revisions(&whole, 5), [0_u64; 0]);
        let mut changes = Changes::begin(&whole, Cursor { epoch: 1, revision: 5 }, 0);
        for (after, revision) in [(5, 7), (7, 8), (8, 12)] {
            changes.append(&change(after, revision)).expect("written");
        }
        assert_eq!((revisions(&whole, 5), changes.cursor().revision), (vec![7, 8, 12], 12));
        assert_eq!(revisions(&whole, 7), [0_u64; 0], "another state is not what the first of them follows");
        let bytes = std::fs::read(beside(&whole)).expect("readable");
        let each = bytes.len() / 3;
        for cut in 0..bytes.len() {
            std::fs::write(beside(&whole), &bytes[..cut]).expect("written");
            assert_eq!(revisions(&whole, 5), &[7, 8, 12][..cut / each], "cut at {cut}");
        }
        for damaged in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[damaged] ^= 0x40;
            std::fs::write(beside(&whole), &bytes).expect("written");
            assert_eq!(revisions(&whole, 5), &[7, 8, 12][..damaged / each], "damaged at {damaged}");
        }
        Changes::begin(&whole, Cursor { epoch: 1, revision: 20 }, 0).append(&change(20, 21)).expect("written");
        assert_eq!((revisions(&whole, 20), revisions(&whole, 5)), (vec![21], vec![]), "begun anew");
    }
}
