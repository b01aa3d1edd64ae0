//! Which connections the supervisor holds, and those that an earlier process left with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Shutdown, TcpStream},
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use nix::sys::stat::fstat;
use parking_lot::Mutex;
use warren_runtime::descriptors::{Descriptors, NEW, OWN};

use super::{
    kernel::{self, Counters},
    table::{Record, SLOTS, Slot, Table, Verdict},
};

/// The table's name among the descriptors; the connections are called by their numbers.
const TABLE: &str = "table";
/// How long the supervisor may keep the duplicate of a connection that has ended. Its place is most likely used
/// again before, which costs no message.
const RELEASE: Duration = Duration::from_millis(500);

/// Gives connections a slot in the table and a duplicate at the supervisor.
pub(crate) struct Holder {
    table: Table,
    descriptors: Descriptors,
    free_slots: Mutex<FreeSlots>,
}

struct FreeSlots {
    /// The last one used last; `true` where the supervisor still has the duplicate of an ended connection.
    free: Vec<(u16, bool)>,
    to_forget: usize,
}

/// A connection that an earlier process left.
pub(crate) struct Resumed {
    pub(crate) stream: TcpStream,
    pub(crate) held_slot: HeldSlot,
}

/// What an earlier process left of its clients' connections.
#[derive(Default)]
pub(crate) struct Left {
    /// To go on.
    pub(crate) resumed: Vec<Resumed>,
    /// To begin with: they were accepted, and nothing else.
    pub(crate) new: Vec<TcpStream>,
}

impl Holder {
    /// Takes over what an earlier process left. `None` without a supervisor: then nothing can be held.
    pub(crate) fn start(descriptors: &Descriptors) -> (Option<Arc<Self>>, Left) {
        let mut left = descriptors.take_all(OWN);
        if !descriptors.has_supervisor() {
            return (None, Left::default());
        }
        let new = take_new(&mut left);
        let earlier = left.remove(TABLE).map(|memory| Table::open(&memory));
        let table = match earlier {
            Some(Ok(table)) => table,
            unusable => {
                if let Some(Err(error)) = unusable {
                    tracing::warn!(%error, connections = left.len(), "cannot take over the clients' connections");
                }
                match new_table(descriptors) {
                    Ok(table) => table,
                    Err(error) => {
                        tracing::warn!(%error, "clients' connections will end with this process");
                        return (None, Left { resumed: Vec::new(), new });
                    }
                }
            }
        };
        let free_slots = Mutex::new(FreeSlots { free: Vec::new(), to_forget: 0 });
        let holder = Arc::new(Self { table, descriptors: descriptors.clone(), free_slots });
        let resumed = holder.take_over(left);
        (Some(holder), Left { resumed, new })
    }

    fn take_over(self: &Arc<Self>, left: BTreeMap<String, OwnedFd>) -> Vec<Resumed> {
        let found = left.len();
        let mut streams: Vec<Option<TcpStream>> = (0..SLOTS).map(|_| None).collect();
        for (name, descriptor) in left {
            match name.parse::<usize>().ok().and_then(|index| streams.get_mut(index)) {
                Some(held_slot) => *held_slot = Some(descriptor.into()),
                None => self.descriptors.forget(&format!("{OWN}{name}")),
            }
        }
        let mut resumed = Vec::new();
        let mut free_slots = self.free_slots.lock();
        // Backwards, so that the lowest numbers are used first.
        for (index, stream) in (0..SLOTS as u16).zip(streams).rev() {
            let slot = self.table.slot(index.into());
            let judged = stream.as_ref().map(|stream| resume(slot, stream));
            match (stream, judged) {
                (Some(stream), Some(Some((written, consumed)))) => {
                    let held_slot = HeldSlot { holder: self.clone(), index, written, consumed };
                    resumed.push(Resumed { stream, held_slot });
                }
                (stream, _) => {
                    slot.free();
                    let left = stream.inspect(|stream| drop(stream.shutdown(Shutdown::Both))).is_some();
                    free_slots.to_forget += usize::from(left);
                    free_slots.free.push((index, left));
                }
            }
        }
        if found > 0 {
            tracing::info!(
                resumed = resumed.len(),
                closed = found - resumed.len(),
                "took over clients' connections"
            );
        }
        resumed
    }

    /// Lets the supervisor hold a new connection. `None` when it cannot: then the connection ends with this process.
    pub(crate) fn hold(self: &Arc<Self>, stream: &impl AsFd) -> Option<HeldSlot> {
        let (index, held) = self.free_slots.lock().free.pop()?;
        let slot = self.table.slot(index.into());
        // First, because a socket without a record is closed by the next process. One that is still held by this
        // number has other counters than a new one, or no client any more.
        slot.record(Record::idle(0, 0));
        if let Err(error) = self.descriptors.try_keep(&format!("{OWN}{index}"), stream) {
            tracing::debug!(%error, "a connection is not held");
            slot.free();
            self.free_slots.lock().free.push((index, held));
            return None;
        }
        if held {
            self.free_slots.lock().to_forget -= 1;
        }
        Some(HeldSlot { holder: self.clone(), index, written: 0, consumed: 0 })
    }

    fn release(&self, index: u16) {
        self.table.slot(index.into()).free();
        let mut free_slots = self.free_slots.lock();
        free_slots.to_forget += 1;
        free_slots.free.push((index, true));
    }

    /// Lets the supervisor close what has ended and was not replaced.
    fn forget(&self) {
        let mut free_slots = self.free_slots.lock();
        let FreeSlots { free, to_forget } = &mut *free_slots;
        if *to_forget == 0 {
            return;
        }
        for (index, held) in free.iter_mut().filter(|(_, held)| *held) {
            if self.descriptors.try_forget(&format!("{OWN}{index}")).is_err() {
                // It has much to read; later.
                return;
            }
            *held = false;
            *to_forget -= 1;
        }
    }
}

/// The connections that the last process did nothing with. What it held already is among them, too, and goes on as that.
fn take_new(left: &mut BTreeMap<String, OwnedFd>) -> Vec<TcpStream> {
    let new: Vec<_> = left.extract_if(.., |name, _| name.starts_with(NEW)).collect();
    // The file of a socket has a number that no other open socket has.
    let file = |socket: &OwnedFd| fstat(socket).map(|file| file.st_ino).ok();
    let mut known: BTreeSet<_> = left.values().filter_map(file).collect();
    let mut streams = Vec::new();
    for (_, socket) in new {
        let is_untouched = kernel::counters(&socket).is_some_and(Counters::is_untouched);
        if file(&socket).is_some_and(|file| known.insert(file)) && is_untouched {
            streams.push(TcpStream::from(socket));
        }
    }
    if !streams.is_empty() {
        tracing::info!(connections = streams.len(), "took over connections that were just accepted");
    }
    streams
}

/// How far the connection has come, if it can go on.
fn resume(slot: &Slot, stream: &TcpStream) -> Option<(u64, u64)> {
    let found = kernel::counters(stream);
    let Verdict::Resume { answered } = slot.judge(found) else { return None };
    let found = found?;
    let length = usize::try_from(answered).ok()?;
    kernel::discard(stream, length).ok()?;
    let consumed = found.consumed + answered;
    slot.record(Record::idle(found.written, consumed));
    Some((found.written, consumed))
}

fn new_table(descriptors: &Descriptors) -> std::io::Result<Table> {
    let (table, memory) = Table::create()?;
    descriptors.try_keep(&format!("{OWN}{TABLE}"), &memory)?;
    Ok(table)
}

/// Tells the supervisor about ended connections, from time to time, for ever.
pub(crate) async fn forget_released(holder: Arc<Holder>) {
    let mut ticks = tokio::time::interval(RELEASE);
    loop {
        ticks.tick().await;
        holder.forget();
    }
}

/// A connection's slot, and how far the connection has come when it was given. Free again when dropped.
pub(crate) struct HeldSlot {
    holder: Arc<Holder>,
    index: u16,
    pub(super) written: u64,
    pub(super) consumed: u64,
}

impl HeldSlot {
    pub(super) fn slot(&self) -> &Slot {
        self.holder.table.slot(self.index.into())
    }
}

impl Drop for HeldSlot {
    fn drop(&mut self) {
        self.holder.release(self.index);
    }
}
