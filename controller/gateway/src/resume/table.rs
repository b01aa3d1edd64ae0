//! How far each held connection has come, in memory that outlives this process.
//!
//! The kernel counts the bytes that were written to a client and consumed from it. A slot says, before a response
//! is begun, where it begins and how long it will be. Both together tell the next process, at whatever instant
//! this one was killed, whether the response was not begun, is complete, or broke off in between.

use std::{
    io,
    os::fd::OwnedFd,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use super::kernel::{Atomics, Counters, Shared};

/// How many connections can be held at a time. Each costs the supervisor a descriptor.
pub(super) const SLOTS: usize = 4096;
/// What this layout is called: another version's table is not read.
const LAYOUT: u64 = u64::from_be_bytes(*b"warrenc1");
/// A request that killed so many processes in a row is not tried again.
const LIVES: u32 = 2;

/// Of no connection.
const FREE: u32 = 0;
/// The first, or the second, of the slot's two records holds.
const FIRST: u32 = 1;
const SECOND: u32 = 2;
/// Something is under way that must not be repeated.
const BUSY: u32 = 3;

/// A response: where it begins, and what it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    /// Bytes that were written to the client before it.
    pub(super) written: u64,
    /// Bytes that were consumed of the client before its request; with [`Request::Gone`], its request included.
    pub(super) consumed: u64,
    /// The response's length; `None` when that is not known beforehand.
    pub(super) response: Option<u64>,
    pub(super) request: Request,
}

/// Where the request of a response is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// So many bytes in the kernel's receive buffer, until the response is begun.
    Waiting(u32),
    /// Consumed.
    Gone,
}

impl Record {
    /// Nothing is under way.
    pub(super) fn idle(written: u64, consumed: u64) -> Self {
        Self { written, consumed, response: Some(0), request: Request::Waiting(0) }
    }
}

/// What can be done with a connection whose process died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// So many bytes of an answered request are to be consumed; then the next request comes.
    Resume {
        answered: u64,
    },
    Close,
}

/// Judges by the slot and the kernel. Pure.
pub(super) fn judge(record: Record, found: Counters) -> Verdict {
    let request = match record.request {
        Request::Waiting(length) => Some(u64::from(length)),
        Request::Gone => None,
    };
    if found.written == record.written && record.response != Some(0) {
        // Not begun: the request must still be there.
        return match request {
            Some(_) if found.consumed == record.consumed => Verdict::Resume { answered: 0 },
            _ => Verdict::Close,
        };
    }
    let complete = record.response.and_then(|length| record.written.checked_add(length));
    if complete != Some(found.written) {
        return Verdict::Close;
    }
    match (found.consumed.checked_sub(record.consumed), request) {
        (Some(0), Some(length)) if found.unread >= length => Verdict::Resume { answered: length },
        (Some(0), None) => Verdict::Resume { answered: 0 },
        (Some(consumed), Some(length)) if consumed == length => Verdict::Resume { answered: 0 },
        _ => Verdict::Close,
    }
}

#[derive(Debug, Default)]
#[repr(C)]
struct Words {
    written: AtomicU64,
    consumed: AtomicU64,
    response: AtomicU64,
    request: AtomicU64,
}

const UNKNOWN: u64 = u64::MAX;
const GONE: u64 = u64::MAX;

impl Words {
    fn store(&self, record: Record) {
        let request = match record.request {
            Request::Waiting(length) => u64::from(length),
            Request::Gone => GONE,
        };
        self.written.store(record.written, Ordering::Relaxed);
        self.consumed.store(record.consumed, Ordering::Relaxed);
        self.response.store(record.response.unwrap_or(UNKNOWN), Ordering::Relaxed);
        self.request.store(request, Ordering::Relaxed);
    }

    fn load(&self) -> Record {
        let response = self.response.load(Ordering::Relaxed);
        let request = u32::try_from(self.request.load(Ordering::Relaxed));
        Record {
            written: self.written.load(Ordering::Relaxed),
            consumed: self.consumed.load(Ordering::Relaxed),
            response: (response != UNKNOWN).then_some(response),
            request: request.map_or(Request::Gone, Request::Waiting),
        }
    }
}

/// One connection's place. Only its owner writes it.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub(super) struct Slot {
    state: AtomicU32,
    /// How many processes died while its present request waited.
    deaths: AtomicU32,
    records: [Words; 2],
}

// SAFETY: atomic integers, aligned to 128 bytes.
#[allow(unsafe_code)]
unsafe impl Atomics for Slot {}

impl Slot {
    pub(super) fn free(&self) {
        self.deaths.store(0, Ordering::Relaxed);
        self.state.store(FREE, Ordering::Release);
    }

    /// From here on the connection cannot be resumed, until the next record.
    pub(super) fn busy(&self) {
        self.state.store(BUSY, Ordering::Release);
    }

    /// Puts a record in the place of the present one, in one step.
    pub(super) fn record(&self, record: Record) {
        let (words, state) =
            if self.state.load(Ordering::Relaxed) == FIRST { (1, SECOND) } else { (0, FIRST) };
        self.records[words].store(record);
        self.state.store(state, Ordering::Release);
    }

    /// A response has begun: whatever was wrong with the request, it does not kill.
    pub(super) fn survived(&self) {
        if self.deaths.load(Ordering::Relaxed) != 0 {
            self.deaths.store(0, Ordering::Relaxed);
        }
    }

    /// For a new process: what to do with the connection that an earlier one left here.
    pub(super) fn judge(&self, found: Option<Counters>) -> Verdict {
        let record = match self.state.load(Ordering::Acquire) {
            FIRST => self.records[0].load(),
            SECOND => self.records[1].load(),
            _ => return Verdict::Close,
        };
        let Some(found) = found else { return Verdict::Close };
        let verdict = judge(record, found);
        let waits = matches!(verdict, Verdict::Resume { answered } if found.unread > answered);
        if waits && self.deaths.fetch_add(1, Ordering::Relaxed) >= LIVES {
            return Verdict::Close;
        }
        verdict
    }
}

/// All slots.
pub(super) struct Table(Shared);

impl Table {
    /// The first place is the header's.
    const LENGTH: usize = (SLOTS + 1) * size_of::<Slot>();

    /// A new table and its descriptor.
    pub(super) fn create() -> io::Result<(Self, OwnedFd)> {
        let memory = super::kernel::create(Self::LENGTH)?;
        let table = Self(Shared::map(&memory, Self::LENGTH)?);
        if let Some(header) = table.0.get::<Slot>(0) {
            header.records[0].written.store(LAYOUT, Ordering::Relaxed);
        }
        Ok((table, memory))
    }

    /// The table that an earlier process left.
    pub(super) fn open(memory: &OwnedFd) -> io::Result<Self> {
        let table = Self(Shared::map(memory, Self::LENGTH)?);
        let layout = table.0.get::<Slot>(0).map(|header| header.records[0].written.load(Ordering::Relaxed));
        if layout == Some(LAYOUT) {
            Ok(table)
        } else {
            Err(io::Error::other("the table is of another version"))
        }
    }

    pub(super) fn slot(&self, index: usize) -> &Slot {
        self.0.get(index + 1).expect("indices are below SLOTS, and the mapping has one place more")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(written: u64, consumed: u64, unread: u64) -> Counters {
        Counters { written, consumed, unread }
    }

    #[test]
    fn an_idle_connection_goes_on() {
        let idle = Record::idle(500, 80);
        assert_eq!(judge(idle, found(500, 80, 0)), Verdict::Resume { answered: 0 });
        assert_eq!(
            judge(idle, found(500, 80, 33)),
            Verdict::Resume { answered: 0 },
            "with a request that waits"
        );
        assert_eq!(judge(idle, found(501, 80, 0)), Verdict::Close, "written behind the table's back");
        assert_eq!(judge(idle, found(500, 81, 0)), Verdict::Close, "consumed behind the table's back");
    }

    #[test]
    fn a_response_of_unknown_length_is_resumed_only_before_it_begins() {
        let record = Record { written: 9, consumed: 4, response: None, request: Request::Waiting(7) };
        assert_eq!(judge(record, found(9, 4, 7)), Verdict::Resume { answered: 0 });
        assert_eq!(judge(record, found(10, 4, 7)), Verdict::Close);
        assert_eq!(judge(record, found(1000, 11, 0)), Verdict::Close);
    }

    #[test]
    fn a_request_that_is_gone_is_not_repeated() {
        let record = Record { written: 9, consumed: 40, response: Some(100), request: Request::Gone };
        assert_eq!(judge(record, found(9, 40, 0)), Verdict::Close, "the client waits for a response in vain");
        assert_eq!(judge(record, found(60, 40, 0)), Verdict::Close);
        assert_eq!(judge(record, found(109, 40, 5)), Verdict::Resume { answered: 0 });
    }

    proptest! {
        /// Whatever the instant of the kill, in the order in which the stream works: record, write, consume.
        #[test]
        fn no_request_is_answered_twice_and_none_is_forgotten(
            written in 0u64..1 << 40, consumed in 0u64..1 << 40, request in 1u32..20_000,
            response in 1u64..1 << 30, part in 0u64..1 << 30, pipelined in 0u64..5_000, ate: bool,
        ) {
            let record = Record { written, consumed, response: Some(response), request: Request::Waiting(request) };
            let request = u64::from(request);
            let part = part.min(response);
            let ate = ate && part > 0;
            let now = Counters {
                written: written + part,
                consumed: consumed + if ate { request } else { 0 },
                unread: pipelined + if ate { 0 } else { request },
            };
            let expected = match part {
                0 => Verdict::Resume { answered: 0 },
                whole if whole == response => Verdict::Resume { answered: if ate { 0 } else { request } },
                _ => Verdict::Close,
            };
            prop_assert_eq!(judge(record, now), expected);
        }
    }

    #[test]
    fn a_record_is_read_by_the_next_process_and_a_deadly_request_given_up() {
        let (table, memory) = Table::create().expect("a table");
        assert_eq!(table.slot(7).judge(Some(found(0, 0, 0))), Verdict::Close, "free");
        table.slot(7).record(Record::idle(0, 0));
        let gone = Record { written: 10, consumed: 20, response: Some(30), request: Request::Gone };
        table.slot(7).record(gone);
        let next = Table::open(&memory).expect("the same layout");
        assert_eq!(next.slot(7).judge(Some(found(40, 20, 0))), Verdict::Resume { answered: 0 });
        assert_eq!(next.slot(7).judge(None), Verdict::Close);
        next.slot(7).busy();
        assert_eq!(next.slot(7).judge(Some(found(40, 20, 0))), Verdict::Close);

        next.slot(SLOTS - 1).record(Record::idle(0, 0));
        let waits = Some(found(0, 0, 9));
        let verdicts: Vec<_> = (0..4).map(|_| next.slot(SLOTS - 1).judge(waits)).collect();
        let resume = Verdict::Resume { answered: 0 };
        assert_eq!(verdicts, [resume, resume, Verdict::Close, Verdict::Close]);
        next.slot(SLOTS - 1).survived();
        assert_eq!(next.slot(SLOTS - 1).judge(waits), resume);
    }

    #[test]
    fn another_versions_table_is_refused() {
        let (table, memory) = Table::create().expect("a table");
        let header = table.0.get::<Slot>(0).expect("the header");
        header.records[0].written.store(LAYOUT + 1, Ordering::Relaxed);
        assert!(Table::open(&memory).is_err());
        assert!(Table::open(&super::super::kernel::create(4096).expect("memory")).is_err(), "too short");
    }
}
