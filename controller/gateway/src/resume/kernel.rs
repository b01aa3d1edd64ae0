//! What the kernel knows about a client's connection, and the memory that outlives this process.

use std::{
    io,
    mem::{self, MaybeUninit},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    ptr::NonNull,
};

use nix::{
    sys::{
        memfd::{MFdFlags, memfd_create},
        mman::{MapFlags, ProtFlags, mmap, munmap},
        socket::{MsgFlags, recv},
        stat::fstat,
    },
    unistd::ftruncate,
};

/// How often the counters are read while the peer goes on sending.
const LOOKS: usize = 16;
/// `TCP_ESTABLISHED` of the kernel's `tcp_states.h`: neither side has ended its half.
const ESTABLISHED: u8 = 1;

/// How far a connection has come, as its socket counts: whatever process wrote and read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counters {
    /// Bytes that were written to the client.
    pub(super) written: u64,
    /// Bytes of the client that were taken out of the receive buffer.
    pub(super) consumed: u64,
    /// Bytes of the client that wait there.
    pub(super) unread: u64,
}

impl Counters {
    /// Whether the connection is as it was when it was accepted.
    pub(super) fn is_untouched(self) -> bool {
        (self.written, self.consumed) == (0, 0)
    }
}

/// Where an established connection stands; `None` when one side has ended it, or the kernel cannot say.
pub(super) fn counters(socket: &impl AsFd) -> Option<Counters> {
    for _ in 0..LOOKS {
        let before = tcp_info(socket).ok()?;
        if before.tcpi_state != ESTABLISHED {
            return None;
        }
        let unsent = queued(socket, libc::TIOCOUTQ).ok()?;
        let unread = queued(socket, libc::FIONREAD).ok()?;
        let after = tcp_info(socket).ok()?;
        let same = (before.tcpi_bytes_acked, before.tcpi_bytes_received, before.tcpi_state)
            == (after.tcpi_bytes_acked, after.tcpi_bytes_received, after.tcpi_state);
        if same {
            let consumed = before.tcpi_bytes_received.checked_sub(unread)?;
            return Some(Counters { written: before.tcpi_bytes_acked + unsent, consumed, unread });
        }
    }
    None
}

/// Whether the peer has sent its last byte (or is gone).
pub(crate) fn peer_has_ended(socket: &impl AsFd) -> bool {
    tcp_info(socket).is_ok_and(|info| info.tcpi_state != ESTABLISHED)
}

#[allow(unsafe_code)]
fn tcp_info(socket: &impl AsFd) -> io::Result<libc::tcp_info> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = mem::size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into `info`, which is as long.
    let failed = unsafe {
        let number = socket.as_fd().as_raw_fd();
        libc::getsockopt(number, libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &mut length)
    };
    if failed != 0 {
        return Err(io::Error::last_os_error());
    }
    // An older kernel knows fewer fields; those that are used here are there since Linux 4.2.
    if (length as usize) < mem::offset_of!(libc::tcp_info, tcpi_segs_out) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    // SAFETY: zeroes are valid for every field that the kernel has not written.
    Ok(unsafe { info.assume_init() })
}

#[allow(unsafe_code)]
fn queued(socket: &impl AsFd, request: libc::Ioctl) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: both requests that are used here write one int.
    let failed = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), request, &raw mut bytes) };
    if failed != 0 { Err(io::Error::last_os_error()) } else { u64::try_from(bytes).map_err(io::Error::other) }
}

/// Copies what waits in the receive buffer, from its beginning, and leaves it there.
pub(crate) fn peek(socket: &impl AsFd, into: &mut [u8]) -> io::Result<usize> {
    receive(socket, into, MsgFlags::MSG_PEEK)
}

/// Takes bytes out of the receive buffer.
pub(super) fn take(socket: &impl AsFd, into: &mut [u8]) -> io::Result<usize> {
    receive(socket, into, MsgFlags::empty())
}

/// Takes `count` bytes, which are there, out of the receive buffer without copying them (tcp(7), `MSG_TRUNC`).
#[allow(unsafe_code)]
pub(super) fn discard(socket: &impl AsFd, mut count: usize) -> io::Result<()> {
    let flags = libc::MSG_TRUNC | libc::MSG_DONTWAIT;
    while count > 0 {
        // SAFETY: with MSG_TRUNC, TCP writes nothing: no buffer is needed.
        let gone = unsafe { libc::recv(socket.as_fd().as_raw_fd(), std::ptr::null_mut(), count, flags) };
        match usize::try_from(gone) {
            Err(_) => return Err(io::Error::last_os_error()),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(gone) => count -= gone,
        }
    }
    Ok(())
}

fn receive(socket: &impl AsFd, into: &mut [u8], flags: MsgFlags) -> io::Result<usize> {
    Ok(recv(socket.as_fd().as_raw_fd(), into, flags | MsgFlags::MSG_DONTWAIT)?)
}

/// Memory that a later process can map again by its descriptor.
pub(super) struct Shared {
    start: NonNull<u8>,
    length: usize,
}

/// A new piece of such memory, all zeroes. It counts as this process's memory only where it is touched.
pub(super) fn create(length: usize) -> io::Result<OwnedFd> {
    let memory = memfd_create(c"warren-clients", MFdFlags::MFD_CLOEXEC)?;
    ftruncate(&memory, i64::try_from(length).map_err(io::Error::other)?)?;
    Ok(memory)
}

impl Shared {
    /// Maps the whole of it, which must be `length` bytes.
    #[allow(unsafe_code)]
    pub(super) fn map(memory: &OwnedFd, length: usize) -> io::Result<Self> {
        let found = fstat(memory)?.st_size;
        let size = std::num::NonZeroUsize::new(length).filter(|_| usize::try_from(found) == Ok(length));
        let size = size.ok_or_else(|| io::Error::other("the memory has another size"))?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at a place of the kernel's choice overlaps nothing. Other processes may change the
        // memory at any time: it is only used by atomics (`Shared::get`).
        let start = unsafe { mmap(None, size, protection, MapFlags::MAP_SHARED, memory, 0) }?;
        Ok(Self { start: start.cast(), length })
    }

    /// The `index`th `T`. `T` consists of atomics only, for which all zeroes are a value.
    #[allow(unsafe_code)]
    pub(super) fn get<T: Atomics>(&self, index: usize) -> Option<&T> {
        let end = index.checked_add(1)?.checked_mul(size_of::<T>())?;
        // SAFETY: it lies within the mapping, which lives as long as `self` and is aligned to a page; every bit
        // pattern is a valid `T`, and atomics may be changed by others.
        (end <= self.length).then(|| unsafe { self.start.cast::<T>().add(index).as_ref() })
    }
}

/// Marks types that consist of nothing but atomic integers.
///
/// # Safety
/// Every field is an atomic integer, or an array or struct of such, and the alignment is less than a page's.
#[allow(unsafe_code)]
pub(super) unsafe trait Atomics {}

#[allow(unsafe_code)]
// SAFETY: the mapping belongs to this value alone, and is only used by atomics.
unsafe impl Send for Shared {}
#[allow(unsafe_code)]
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Drop for Shared {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length; no reference into it outlives `self`.
        let _ = unsafe { munmap(self.start.cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{Shutdown, TcpListener, TcpStream},
        sync::atomic::{AtomicU64, Ordering},
    };

    use super::*;

    // SAFETY: an atomic integer.
    #[allow(unsafe_code)]
    unsafe impl Atomics for AtomicU64 {}

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        (client, listener.accept().expect("accepted").0)
    }

    /// Waits until so many bytes of the client have come.
    fn unread(server: &TcpStream, count: u64) {
        while counters(server).is_none_or(|counters| counters.unread < count) {
            std::thread::yield_now();
        }
    }

    #[test]
    fn the_kernel_counts_from_zero_whoever_reads() {
        let (mut client, mut server) = pair();
        assert_eq!(counters(&server), Some(Counters { written: 0, consumed: 0, unread: 0 }));
        client.write_all(b"0123456789").expect("sent");
        unread(&server, 10);
        let mut scratch = [0; 16];
        assert_eq!(peek(&server, &mut scratch).expect("peeked"), 10);
        assert_eq!(&scratch[..10], b"0123456789");
        discard(&server, 4).expect("discarded");
        server.write_all(&[7; 1000]).expect("sent");
        assert_eq!(counters(&server), Some(Counters { written: 1000, consumed: 4, unread: 6 }));
        client.read_exact(&mut [0; 1000]).expect("received");
        let other = server.try_clone().expect("a duplicate");
        assert_eq!(take(&other, &mut scratch).expect("taken"), 6);
        assert_eq!(&scratch[..6], b"456789");
        assert_eq!(counters(&server), Some(Counters { written: 1000, consumed: 10, unread: 0 }));
    }

    #[test]
    fn an_end_is_seen_behind_unread_bytes() {
        let (mut client, server) = pair();
        client.write_all(b"x").expect("sent");
        unread(&server, 1);
        assert!(!peer_has_ended(&server));
        client.shutdown(Shutdown::Write).expect("ended");
        while !peer_has_ended(&server) {
            std::thread::yield_now();
        }
        assert_eq!(counters(&server), None);
    }

    #[test]
    fn memory_is_found_again_by_its_descriptor() {
        let memory = create(4096).expect("a memfd");
        let first = Shared::map(&memory, 4096).expect("mapped");
        first.get::<AtomicU64>(511).expect("within").store(42, Ordering::Relaxed);
        drop(first);
        let second = Shared::map(&memory, 4096).expect("mapped");
        assert_eq!(second.get::<AtomicU64>(511).map(|value| value.load(Ordering::Relaxed)), Some(42));
        assert!(second.get::<AtomicU64>(512).is_none());
        assert!(Shared::map(&memory, 8192).is_err(), "another size");
    }
}
