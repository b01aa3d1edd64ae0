//! Network namespaces. A thread that entered one is never used for anything else.

use std::{
    fs::File,
    os::{
        fd::{AsFd, AsRawFd, RawFd},
        unix::fs::MetadataExt,
    },
    path::Path,
    sync::Arc,
};

use nix::sched::{CloneFlags, setns};

use super::{Error, Result, io, links::Netlink};

/// A network namespace, held open.
#[derive(Debug, Clone)]
pub struct Namespace(Arc<File>);

impl Namespace {
    /// Opens the namespace that a path names, such as `/proc/4711/ns/net`.
    pub fn open(path: &Path) -> Result<Self> {
        let what = || format!("open the network namespace {}", path.display());
        let file = io(what, File::open(path))?;
        let kind = io(what, nix::sys::statfs::fstatfs(&file).map_err(Into::into))?;
        if kind.filesystem_type() != nix::sys::statfs::FsType(libc::NSFS_MAGIC) {
            return Err(Error::Refused(format!("{} is no network namespace", path.display())));
        }
        Ok(Self(Arc::new(file)))
    }

    /// The calling thread's namespace.
    pub fn current() -> Result<Self> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// Which namespace it is, on this machine and as long as it lives.
    pub fn identity(&self) -> Result<(u64, u64)> {
        let metadata = io(|| "identify a network namespace".into(), self.0.metadata())?;
        Ok((metadata.dev(), metadata.ino()))
    }

    /// The descriptor, for netlink messages.
    pub fn raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Runs `call` inside the namespace, on a thread of its own that ends with it.
    pub async fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (namespace, runtime) = (self.clone(), tokio::runtime::Handle::current());
        let (answer, answered) = tokio::sync::oneshot::channel();
        let body = move || {
            let entered = setns(namespace.0.as_fd(), CloneFlags::CLONE_NEWNET).map_err(Into::into);
            let _runtime = runtime.enter();
            let _ =
                answer.send(io(|| "enter a pod's network namespace".into(), entered).and_then(|()| call()));
        };
        let spawned = std::thread::Builder::new().name("warren-netns".into()).spawn(body);
        io(|| "start a thread".into(), spawned)?;
        let lost = |_| Error::Refused("the thread in a pod's network namespace died".into());
        answered.await.map_err(lost)?
    }

    /// An rtnetlink socket that lives in the namespace.
    pub async fn netlink(&self) -> Result<Netlink> {
        self.run(Netlink::open).await
    }
}
