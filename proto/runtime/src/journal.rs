//! A whole state on disk, and the changes since: a change costs what it changes, not what is kept.
//!
//! ```text
//!  ┌─ head ────────────────┐ ┌─ base ──────────────┐ ┌─ change ─────────────────┐ ┌─ change ─ ─
//!  │ 7a 0c  length  sum    │ │ KeptFeed            │ │ 72  length  sum  content │ │ ...
//!  └───────────────────────┘ └─────────────────────┘ └──────────────────────────┘ └─ ─ ─ ─ ─ ─
//! ```
//!
//! A sum covers the one before it, so a record counts only after those that it was written after. Reading ends at the
//! first record that is cut off or damaged: what was read so far is a state that was accepted. The base is written to a
//! file of its own that takes the journal's place at once, and anew when the changes outweigh it.
//!
//! To protobuf, head and changes are fields that `KeptFeed` does not have: an earlier version reads the base and skips
//! the changes. What earlier versions wrote has no head, and is read as a base alone.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use warren_proto::control::{FeedItem, KeptFeed};

use crate::identity::write_private;

/// Changes are not folded into the base before there are so many bytes of them.
const LEAST_BYTES: u64 = 256 << 10;
/// A file that is larger is refused before it is read.
const MOST_BYTES: u64 = 1 << 30;
/// What a head begins with: field 15, twelve bytes.
const HEAD_MARK: [u8; 2] = [0x7a, 12];
/// With it: the base's length and its sum.
const HEAD: usize = HEAD_MARK.len() + 4 + SUM;
/// What a change begins with: field 14, whose length follows.
const CHANGE_MARK: u8 = 0x72;
/// The beginning of a SHA-256.
const SUM: usize = 8;

type Sum = [u8; SUM];

/// What leads from one kept state to the next.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct KeptChange {
    /// Where it leads.
    #[prost(uint64, tag = "1")]
    pub(crate) epoch: u64,
    /// Where it leads, within the epoch.
    #[prost(uint64, tag = "2")]
    pub(crate) revision: u64,
    /// New and changed items, without what comes from Secrets.
    #[prost(message, repeated, tag = "5")]
    pub(crate) items: Vec<FeedItem>,
    /// Keys of items that are gone.
    #[prost(string, repeated, tag = "6")]
    pub(crate) deletes: Vec<String>,
    /// As in a `KeptFeed`.
    #[prost(bytes = "vec", tag = "7")]
    pub(crate) sealed: Vec<u8>,
}

/// A journal that changes can be appended to.
pub(crate) struct Journal {
    path: PathBuf,
    /// `None` until something is appended to what an earlier process has written.
    file: Option<File>,
    /// Bytes of the head and the base.
    base: u64,
    /// Bytes of all that counts.
    end: u64,
    /// The last record's sum.
    sum: Sum,
}

/// What a journal says.
pub(crate) struct Kept {
    /// The whole state.
    pub(crate) base: KeptFeed,
    /// What changed since, in order.
    pub(crate) changes: Vec<KeptChange>,
    /// Where to go on; `None` for a file of an earlier version.
    pub(crate) journal: Option<Journal>,
}

impl Journal {
    /// Puts a new journal, of a base alone, in the place of whatever is there.
    pub(crate) fn begin(path: &Path, base: &KeptFeed) -> anyhow::Result<Self> {
        let base = base.encode_to_vec();
        let length = u32::try_from(base.len()).context("the state has more than 4 GiB")?;
        let sum = sum(Sum::default(), &base);
        write_private(path, &[&HEAD_MARK[..], &length.to_be_bytes(), &sum, &base].concat())?;
        // What is appended to a file that a crash takes back would be lost with it.
        if let Some(directory) = path.parent() {
            File::open(directory)
                .and_then(|directory| directory.sync_all())
                .with_context(|| format!("cannot write {}", directory.display()))?;
        }
        let base = HEAD as u64 + u64::from(length);
        Ok(Self { path: path.to_owned(), file: None, base, end: base, sum })
    }

    /// Appends a change. After an error a new journal is to be begun: it is open what the file holds.
    pub(crate) fn append(&mut self, change: &KeptChange) -> anyhow::Result<()> {
        let content = change.encode_to_vec();
        let sum = sum(self.sum, &content);
        let mut record = vec![CHANGE_MARK];
        prost::encode_length_delimiter(SUM + content.len(), &mut record)?;
        record.extend_from_slice(&sum);
        record.extend_from_slice(&content);
        let what = || format!("cannot append to {}", self.path.display());
        let mut file = match self.file.take() {
            Some(file) => file,
            None => self.open().with_context(what)?,
        };
        ensure!(self.is_in_place(&file), "somebody else wrote {}", self.path.display());
        file.write_all(&record).and_then(|()| file.sync_data()).with_context(what)?;
        self.file = Some(file);
        self.end += record.len() as u64;
        self.sum = sum;
        Ok(())
    }

    /// Whether it is time to fold the changes into the base.
    pub(crate) fn is_heavy(&self) -> bool {
        self.end - self.base > self.base.max(LEAST_BYTES)
    }

    /// Opens the file, and cuts off what does not count.
    fn open(&self) -> std::io::Result<File> {
        let file = OpenOptions::new().append(true).open(&self.path)?;
        if file.metadata()?.len() > self.end {
            file.set_len(self.end)?;
        }
        Ok(file)
    }

    /// Two gateways keep the same feed while one takes over from the other: nobody appends to what the other wrote.
    fn is_in_place(&self, file: &File) -> bool {
        let (Ok(open), Ok(there)) = (file.metadata(), std::fs::symlink_metadata(&self.path)) else {
            return false;
        };
        (open.dev(), open.ino()) == (there.dev(), there.ino()) && open.len() == self.end
    }
}

fn sum(before: Sum, content: &[u8]) -> Sum {
    let digest = Sha256::new().chain_update(before).chain_update(content).finalize();
    std::array::from_fn(|index| digest[index])
}

/// What the journal at `path` says; `None` where there is none.
pub(crate) fn read(path: &Path) -> anyhow::Result<Option<Kept>> {
    let what = || format!("cannot read {}", path.display());
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(what),
    };
    let length = file.metadata().with_context(what)?.len();
    ensure!(length <= MOST_BYTES, "{} has {length} bytes, more than {MOST_BYTES}", path.display());
    let mut bytes = Vec::with_capacity(usize::try_from(length)?);
    file.take(MOST_BYTES).read_to_end(&mut bytes).with_context(what)?;
    ensure!(!bytes.is_empty(), "{} is empty", path.display());
    let damaged = || format!("{} is damaged", path.display());
    if !bytes.starts_with(&HEAD_MARK) {
        let base = KeptFeed::decode(&bytes[..]).with_context(damaged)?;
        return Ok(Some(Kept { base, changes: Vec::new(), journal: None }));
    }
    let (base, mut last, mut rest) = base(&bytes).with_context(damaged)?;
    let base_bytes = (bytes.len() - rest.len()) as u64;
    let mut changes = Vec::new();
    while let Some((change, sum)) = change(&mut rest, last) {
        changes.push(change);
        last = sum;
    }
    if !rest.is_empty() {
        tracing::warn!(
            file = %path.display(),
            bytes = rest.len(),
            changes = changes.len(),
            "the end of the kept feed is cut off or damaged; going on with what is before it"
        );
    }
    let end = (bytes.len() - rest.len()) as u64;
    let journal = Journal { path: path.to_owned(), file: None, base: base_bytes, end, sum: last };
    Ok(Some(Kept { base, changes, journal: Some(journal) }))
}

fn base(bytes: &[u8]) -> anyhow::Result<(KeptFeed, Sum, &[u8])> {
    let head = bytes.first_chunk::<HEAD>().context("it ends in its head")?;
    let [_, _, length @ .., _, _, _, _, _, _, _, _] = *head;
    let said: Sum = std::array::from_fn(|index| head[HEAD - SUM + index]);
    let length = usize::try_from(u32::from_be_bytes(length))?;
    let (content, rest) = bytes[HEAD..].split_at_checked(length).context("it ends in its base")?;
    ensure!(sum(Sum::default(), content) == said, "the check sum of its base is wrong");
    Ok((KeptFeed::decode(content)?, said, rest))
}

/// The next change, and `rest` after it; `None` where there is none that counts.
fn change(rest: &mut &[u8], last: Sum) -> Option<(KeptChange, Sum)> {
    let (mark, mut after) = rest.split_first()?;
    if *mark != CHANGE_MARK {
        return None;
    }
    let length = prost::decode_length_delimiter(&mut after).ok()?;
    let (record, after) = after.split_at_checked(length)?;
    let (said, content) = record.split_first_chunk::<SUM>()?;
    if sum(last, content) != *said {
        return None;
    }
    let change = KeptChange::decode(content).ok()?;
    *rest = after;
    Some((change, *said))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn change(revision: u64) -> KeptChange {
        let deletes = vec![format!("peer/{revision}")];
        KeptChange { epoch: 1, revision, deletes, ..KeptChange::default() }
    }

    fn base_at(revision: u64) -> KeptFeed {
        let items = vec![FeedItem { key: "peer/a".into(), item: None }];
        KeptFeed { epoch: 1, revision, items, sealed: Vec::new() }
    }

    fn revisions(kept: &Kept) -> Vec<u64> {
        kept.changes.iter().map(|change| change.revision).collect()
    }

    /// A journal of a base and three changes; where the base and each change end.
    fn written(path: &Path) -> (Vec<u8>, Vec<usize>) {
        let mut journal = Journal::begin(path, &base_at(5)).expect("written");
        let mut ends = vec![journal.end as usize];
        for revision in [7, 8, 12] {
            journal.append(&change(revision)).expect("written");
            ends.push(journal.end as usize);
        }
        let bytes = std::fs::read(path).expect("readable");
        assert_eq!(bytes.len(), ends[3]);
        (bytes, ends)
    }

    #[test]
    fn a_cut_at_any_byte_ends_the_reading_there_and_is_gone_with_the_next_change() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("netd.bin");
        assert!(read(&path).expect("absent").is_none());
        let (bytes, ends) = written(&path);
        for cut in 0..=bytes.len() {
            std::fs::write(&path, &bytes[..cut]).expect("written");
            let whole = ends.iter().filter(|end| **end <= cut).count();
            let Some(whole) = whole.checked_sub(1) else {
                assert!(read(&path).is_err(), "a base that is cut at {cut}");
                continue;
            };
            let kept = read(&path).expect("readable").expect("there");
            assert_eq!((&kept.base, &revisions(&kept)[..]), (&base_at(5), &[7, 8, 12][..whole]), "{cut}");
            let mut journal = kept.journal.expect("it goes on");
            journal.append(&change(99)).expect("appended");
            let kept = read(&path).expect("readable").expect("there");
            assert_eq!(revisions(&kept), [&[7, 8, 12][..whole], &[99]].concat(), "{cut}");
            assert_eq!(std::fs::metadata(&path).expect("there").len(), journal.end, "nothing else is left");
        }
    }

    #[test]
    fn a_flipped_bit_ends_the_reading_and_never_shows_a_state_that_was_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("netd.bin");
        let (bytes, ends) = written(&path);
        for (place, bit) in (0..bytes.len()).flat_map(|place| (0..8).map(move |bit| (place, bit))) {
            let mut damaged = bytes.clone();
            damaged[place] ^= 1 << bit;
            std::fs::write(&path, &damaged).expect("written");
            let whole = ends.iter().filter(|end| **end <= place).count();
            match read(&path) {
                Ok(kept) => {
                    let kept = kept.expect("there");
                    // In the mark itself: an earlier version's reading, which is the base.
                    let whole = whole.checked_sub(1).or((place < HEAD_MARK.len()).then_some(0));
                    let whole = whole.expect("a damaged base is refused");
                    assert_eq!(kept.base.revision, 5);
                    assert_eq!(kept.base.items, base_at(5).items);
                    assert_eq!(revisions(&kept), &[7, 8, 12][..whole], "bit {bit} of {place}");
                }
                Err(_) => assert_eq!(whole, 0, "bit {bit} of {place}"),
            }
        }
    }

    #[test]
    fn lengths_beyond_the_file_allocate_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("netd.bin");
        let (bytes, ends) = written(&path);
        let mut huge = bytes.clone();
        huge[2..6].copy_from_slice(&u32::MAX.to_be_bytes());
        std::fs::write(&path, &huge).expect("written");
        assert!(read(&path).is_err());
        let mut huge = bytes[..ends[0]].to_vec();
        huge.extend([CHANGE_MARK, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
        std::fs::write(&path, &huge).expect("written");
        assert_eq!(revisions(&read(&path).expect("readable").expect("there")), [0_u64; 0]);
        File::create(&path).and_then(|file| file.set_len(MOST_BYTES + 1)).expect("a file of holes");
        assert!(read(&path).is_err_and(|error| error.to_string().contains("more than")));
    }

    #[test]
    fn records_count_after_those_they_were_written_after() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("netd.bin");
        let (bytes, ends) = written(&path);
        let (first, second) = (&bytes[ends[0]..ends[1]], &bytes[ends[1]..ends[2]]);
        for records in [[second, first], [first, first], [second, second]] {
            std::fs::write(&path, [&bytes[..ends[0]], &records.concat()].concat()).expect("written");
            let kept = read(&path).expect("readable").expect("there");
            assert_eq!(revisions(&kept), &[7][..usize::from(records[0] == first)]);
        }
        // Nor do those of the journal before a new base.
        let renewed = directory.path().join("renewed.bin");
        Journal::begin(&renewed, &base_at(12)).expect("written");
        let base = std::fs::read(&renewed).expect("readable");
        std::fs::write(&renewed, [&base[..], &bytes[ends[0]..]].concat()).expect("written");
        let kept = read(&renewed).expect("readable").expect("there");
        assert_eq!((kept.base.revision, revisions(&kept)), (12, vec![]));
    }

    #[test]
    fn an_earlier_version_reads_the_base_and_its_files_are_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("netd.bin");
        let (bytes, _) = written(&path);
        assert_eq!(KeptFeed::decode(&bytes[..]).expect("an earlier version reads it"), base_at(5));
        std::fs::write(&path, base_at(6).encode_to_vec()).expect("written");
        let kept = read(&path).expect("readable").expect("there");
        assert_eq!((&kept.base, kept.changes.len()), (&base_at(6), 0));
        assert!(kept.journal.is_none(), "nothing is appended to it");
    }

    #[test]
    fn nobody_appends_to_what_another_process_wrote() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("gateway.bin");
        let mut old = Journal::begin(&path, &base_at(5)).expect("written");
        old.append(&change(6)).expect("appended");
        let mut other = read(&path).expect("readable").expect("there").journal.expect("it goes on");
        other.append(&change(7)).expect("appended");
        assert!(old.append(&change(8)).is_err(), "the other has appended");
        let mut newest = Journal::begin(&path, &base_at(9)).expect("written");
        assert!(other.append(&change(10)).is_err(), "the other has begun anew");
        newest.append(&change(11)).expect("appended");
        let kept = read(&path).expect("readable").expect("there");
        assert_eq!((kept.base.revision, revisions(&kept)), (9, vec![11]));
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    }
}
