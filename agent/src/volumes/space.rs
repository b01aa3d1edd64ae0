//! Where the engine resolves paths: its mount namespace, which is not the agent's when the agent runs in a container.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::{
        socket::{
            AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, sockopt::PeerCredentials,
        },
        stat::{Mode, umask},
    },
};

/// Why work cannot be done where the engine is.
#[derive(Debug, thiserror::Error)]
pub enum SpaceError {
    /// The engine's socket does not tell who is behind it.
    #[error("cannot tell which process is the Docker engine behind {socket}: {error}")]
    Unknown {
        /// The socket.
        socket: PathBuf,
        /// The answer.
        error: io::Error,
    },
    /// Its mount namespace cannot be entered.
    #[error(
        "cannot enter the mount namespace of the Docker engine (process {pid}): {error}; a node in a container needs \
         the machine's process identifiers (--pid host) and the capabilities SYS_ADMIN, SYS_PTRACE and SYS_CHROOT"
    )]
    Closed {
        /// Of the engine, or of the process that listens for it (systemd).
        pid: i32,
        /// The answer.
        error: io::Error,
    },
    /// The same path means something else there.
    #[error(
        "the Docker engine does not see the node's state directory at {path}: it must have the same path outside the \
         node's container"
    )]
    Elsewhere {
        /// The state directory.
        path: PathBuf,
    },
    /// The kernel gave no thread.
    #[error("cannot work in the mount namespace of the Docker engine: {0}")]
    Thread(io::Error),
}

/// The engine's mount namespace.
#[derive(Clone, Debug)]
pub(super) struct Space {
    /// The engine's socket; none for our own namespace.
    pub(super) socket: Option<PathBuf>,
    /// A directory that must be the same there and here.
    pub(super) witness: PathBuf,
}

impl Space {
    /// Finds the namespace, which may be another one after the engine was restarted.
    pub(super) fn find(&self) -> Result<Door, SpaceError> {
        let Some(socket) = &self.socket else { return Ok(Door::open()) };
        let pid = listener(socket).map_err(|error| SpaceError::Unknown { socket: socket.clone(), error })?;
        let closed = |error: io::Error| SpaceError::Closed { pid, error };
        let theirs = File::open(format!("/proc/{pid}/ns/mnt")).map_err(closed)?;
        let ours = std::fs::metadata("/proc/self/ns/mnt").map_err(SpaceError::Thread)?;
        if identity(&theirs.metadata().map_err(closed)?) == identity(&ours) {
            return Ok(Door::open());
        }
        Ok(Door { theirs: Some((pid, Arc::new(theirs))), witness: self.witness.clone() })
    }

    /// Does the work in the engine's mount namespace; see [`Door::within`].
    pub(super) fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, SpaceError> {
        self.find()?.within(work)
    }
}

/// The way into the engine's mount namespace; none is needed where it is our own.
#[derive(Clone, Debug)]
pub(super) struct Door {
    theirs: Option<(i32, Arc<File>)>,
    witness: PathBuf,
}

impl Door {
    fn open() -> Self {
        Self { theirs: None, witness: PathBuf::new() }
    }

    /// Does the work on a thread of its own that is in the engine's mount namespace and whose umask is 0.
    pub(super) fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, SpaceError> {
        let task = || {
            self.enter()?;
            Ok(work())
        };
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("engine-mounts".to_owned());
            let thread = thread.spawn_scoped(scope, task).map_err(SpaceError::Thread)?;
            thread.join().map_err(|_| SpaceError::Thread(io::Error::other("it panicked")))?
        })
    }

    fn enter(&self) -> Result<(), SpaceError> {
        // Root directory, working directory and umask of this thread alone, which ends with the work.
        unshare(CloneFlags::CLONE_FS).map_err(|error| SpaceError::Thread(error.into()))?;
        umask(Mode::empty());
        let Some((pid, theirs)) = &self.theirs else { return Ok(()) };
        let here = std::fs::metadata(&self.witness).map_err(SpaceError::Thread)?;
        setns(theirs.as_fd(), CloneFlags::CLONE_NEWNS)
            .map_err(|error| SpaceError::Closed { pid: *pid, error: error.into() })?;
        let there = std::fs::metadata(&self.witness).ok();
        if there.as_ref().map(identity) != Some(identity(&here)) {
            return Err(SpaceError::Elsewhere { path: self.witness.clone() });
        }
        Ok(())
    }
}

fn identity(meta: &std::fs::Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

/// The process that listens at the socket: the engine, or systemd where it listens for the engine. Never waits.
fn listener(socket: &Path) -> Result<i32, io::Error> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let stream = nix::sys::socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(stream.as_raw_fd(), &UnixAddr::new(socket)?)?;
    match getsockopt(&stream, PeerCredentials)?.pid() {
        0 => Err(io::Error::other(
            "it belongs to another process namespace; run the node with the machine's (--pid host)",
        )),
        pid => Ok(pid),
    }
}
