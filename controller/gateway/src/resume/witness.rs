//! What was accepted and is not held yet when this process is killed.
//!
//! Between `accept` and the message to the supervisor lie microseconds, and a kill can meet them. So a second process
//! shares the table of descriptors with this one: it has every connection at the instant at which the kernel makes it,
//! and a kill of this process closes none. It does nothing until then.
//!
//! ```text
//!  gateway ──┐
//!            ├── one table of descriptors        killed ──► witness: what nobody has read from or written to
//!  witness ──┘                                              ──► supervisor ("own.new-N") ──► next gateway
//! ```
//! It is a fork of a process with threads: it makes system calls only, and allocates nothing. It is this program's code
//! and memory, because a new program would have a table of its own.

use std::{
    fs, io, mem,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd},
};

use anyhow::Context as _;
use nix::sys::{
    signal::{SigSet, Signal},
    wait::waitpid,
};
use warren_runtime::descriptors::{Descriptors, keep_numbered};

use super::kernel::{self, Counters};

/// The witness's name in `/proc/PID/stat`.
pub const NAME: &str = "witness";
/// What the kernel tells it the end of its parent by.
const PARENT_ENDED: Signal = Signal::SIGUSR1;
/// What it is called in lists of processes, as `warren netd` is.
const NAMES: [&[u8]; 2] = [b"warren\0", b"witness\0"];
const DESCRIPTORS: &std::ffi::CStr = c"/proc/self/fd";
/// Of `struct linux_dirent64` (getdents(2)): where the entry's length and its name are.
const ENTRY_LENGTH: usize = 16;
const ENTRY_NAME: usize = 19;

/// Starts the witness of the connections that come to these ports. Without it, a killed process loses those few.
pub(crate) fn start(descriptors: &Descriptors, ports: Vec<u16>) {
    let started = descriptors.supervisor().and_then(|supervisor| {
        let watch = move || {
            if let Err(error) = watch(&supervisor, &ports) {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "a connection can be lost when this process is killed"
                );
            }
        };
        std::thread::Builder::new().name(NAME.to_owned()).spawn(watch)
    });
    if let Err(error) = started {
        tracing::warn!(%error, "there is no witness of new connections");
    }
}

/// Stays with the witness: the kernel tells a process that its parent has ended when the thread has that made it.
#[allow(unsafe_code)]
fn watch(supervisor: &OwnedFd, ports: &[u16]) -> anyhow::Result<()> {
    let title = title();
    // Nothing but its parent's end ends it, and no handler of this program's runs in it.
    SigSet::all().thread_block().context("cannot block signals")?;
    let parent = nix::unistd::getpid();
    // SAFETY: like fork, with one table of descriptors for both; the child calls nothing that allocates or locks.
    let child = unsafe {
        let flags = libc::CLONE_FILES | libc::SIGCHLD;
        libc::syscall(libc::SYS_clone, flags as libc::c_ulong, 0, 0, 0, 0)
    };
    match child {
        0 => {
            witness(parent, supervisor.as_fd(), ports, title);
            // SAFETY: ends the process at once; nothing of the parent's is run or flushed.
            unsafe { libc::_exit(0) }
        }
        child if child > 0 => {
            let child = nix::unistd::Pid::from_raw(i32::try_from(child)?);
            let status = waitpid(child, None)?;
            anyhow::bail!("the witness of new connections ended: {status:?}")
        }
        _ => Err(io::Error::last_os_error()).context("cannot start the witness of new connections"),
    }
}

/// Waits for the end of this process's parent, and tells the supervisor what it has left.
fn witness(
    parent: nix::unistd::Pid,
    supervisor: BorrowedFd<'_>,
    ports: &[u16],
    title: Option<(usize, usize)>,
) {
    if let Some(place) = title {
        rename(place);
    }
    let mut end = SigSet::empty();
    end.add(PARENT_ENDED);
    // In this order: a parent that ended before the request is seen by its number.
    if nix::sys::prctl::set_pdeathsig(PARENT_ENDED).is_err() {
        return;
    }
    // A thread of the parent that ends hands its children to another thread, and that is told as well.
    while nix::unistd::getppid() == parent {
        if end.wait().is_err() {
            return;
        }
    }
    tell(supervisor, ports);
}

/// Where this process keeps its command line.
fn title() -> Option<(usize, usize)> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    // Fields 48 and 49 of proc(5), of which the first two are cut off.
    let mut fields = fields.split(' ').skip(45);
    let (start, end) = (fields.next()?.parse::<usize>().ok()?, fields.next()?.parse::<usize>().ok()?);
    let needed: usize = NAMES.iter().map(|name| name.len()).sum();
    (start != 0 && end.checked_sub(start)? >= needed).then_some((start, end))
}

/// Writes another command line in the place of the present one.
#[allow(unsafe_code)]
fn rename((start, end): (usize, usize)) {
    let mut at = std::ptr::with_exposed_provenance_mut::<u8>(start);
    // SAFETY: the kernel has put the command line there, in writable memory that the standard library only reads when
    // it is asked for arguments; in this process, nobody asks. It is long enough, which `title` has looked at.
    unsafe {
        std::ptr::write_bytes(at, 0, end - start);
        for name in NAMES {
            std::ptr::copy_nonoverlapping(name.as_ptr(), at, name.len());
            at = at.add(name.len());
        }
    }
}

/// Gives the supervisor every connection to these ports that is as it was when it was accepted.
fn tell(supervisor: BorrowedFd<'_>, ports: &[u16]) {
    each_descriptor(|descriptor| {
        if is_new(&descriptor, ports) {
            // Whatever the failure: there is nobody to be told.
            let _ = keep_numbered(supervisor, descriptor);
        }
    });
}

/// Whether it is a connection that came to one of these ports, of which nothing was read and to which nothing was
/// written.
fn is_new(descriptor: &BorrowedFd<'_>, ports: &[u16]) -> bool {
    local_port(*descriptor).is_some_and(|port| ports.contains(&port))
        && kernel::counters(descriptor).is_some_and(Counters::is_untouched)
}

/// The port on this side, of a TCP socket.
#[allow(unsafe_code)]
fn local_port(descriptor: BorrowedFd<'_>) -> Option<u16> {
    let number = descriptor.as_raw_fd();
    // SAFETY: zeroes are an address; the kernel writes at most `length` bytes, which is as long as the address.
    let address = unsafe {
        let mut address: libc::sockaddr_storage = mem::zeroed();
        let mut length = mem::size_of_val(&address) as libc::socklen_t;
        let failed = libc::getsockname(number, (&raw mut address).cast(), &mut length);
        (failed == 0).then_some(address)?
    };
    let address = &raw const address;
    // SAFETY: the family says which kind of address it is, and each kind fits into the storage.
    let port = unsafe {
        match i32::from((*address).ss_family) {
            libc::AF_INET => (*address.cast::<libc::sockaddr_in>()).sin_port,
            libc::AF_INET6 => (*address.cast::<libc::sockaddr_in6>()).sin6_port,
            _ => return None,
        }
    };
    Some(u16::from_be(port))
}

/// Calls `act` with each open descriptor, without memory of its own.
#[allow(unsafe_code)]
fn each_descriptor(mut act: impl FnMut(BorrowedFd<'_>)) {
    #[repr(align(8))]
    struct Entries([u8; 4096]);
    let mut entries = Entries([0; 4096]);
    // SAFETY: a path that ends with 0.
    let directory =
        unsafe { libc::open(DESCRIPTORS.as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC) };
    loop {
        // SAFETY: the kernel writes at most as many bytes as there are. Where `directory` is none, it says so.
        let length = unsafe {
            libc::syscall(libc::SYS_getdents64, directory, entries.0.as_mut_ptr(), entries.0.len())
        };
        let Ok(length @ 1..) = usize::try_from(length) else { return };
        let mut rest = &entries.0[..length.min(entries.0.len())];
        while let Some((number, next)) = entry(rest) {
            if let Some(number) = number.filter(|number| *number != directory) {
                // SAFETY: no other process has this table now, and this one closes nothing.
                act(unsafe { BorrowedFd::borrow_raw(number) });
            }
            rest = next;
        }
    }
}

/// The number that a directory's first entry is called by, if it is one, and the other entries.
fn entry(entries: &[u8]) -> Option<(Option<RawFd>, &[u8])> {
    let length = entries.get(ENTRY_LENGTH..ENTRY_LENGTH + 2)?;
    let length = usize::from(u16::from_ne_bytes([length[0], length[1]]));
    let (this, next) = entries.split_at_checked(length)?;
    let name = this.get(ENTRY_NAME..)?;
    let end = name.iter().position(|byte| *byte == 0)?;
    Some((std::str::from_utf8(&name[..end]).ok()?.parse().ok(), next))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{TcpListener, TcpStream},
        time::Duration,
    };

    use super::*;

    #[test]
    fn every_descriptor_is_found() {
        let files: Vec<_> = (0..300).map(|_| fs::File::open("/dev/null").expect("a file")).collect();
        let mut found = Vec::new();
        each_descriptor(|descriptor| found.push(descriptor.as_raw_fd()));
        for file in files {
            assert!(found.contains(&file.as_raw_fd()), "{} is missing", file.as_raw_fd());
        }
    }

    #[test]
    fn only_untouched_connections_to_the_port_are_new() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let mut client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        let (mut server, _) = listener.accept().expect("accepted");
        assert!(is_new(&server.as_fd(), &[1, port]));
        assert!(!is_new(&server.as_fd(), &[1]), "another port");
        assert!(!is_new(&client.as_fd(), &[port]), "the other end");
        assert!(!is_new(&listener.as_fd(), &[port]), "no connection");
        assert!(!is_new(&fs::File::open("/dev/null").expect("a file").as_fd(), &[port]), "no socket");
        client.write_all(b"ab").expect("sent");
        server.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
        let mut byte = [0];
        server.peek(&mut byte).expect("it comes");
        assert!(is_new(&server.as_fd(), &[port]), "a request may wait");
        server.read_exact(&mut byte).expect("it is there");
        assert!(!is_new(&server.as_fd(), &[port]), "something was read");
    }

    #[test]
    fn entries_that_are_cut_off_end_the_list() {
        for length in 0..24 {
            assert_eq!(entry(&vec![0; length]), None, "{length}");
        }
    }
}
