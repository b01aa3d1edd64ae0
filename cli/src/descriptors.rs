//! What the supervisor holds for its daemons, and what it leaves to its own next version.

use std::{
    collections::BTreeMap,
    ffi::CString,
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
    sync::OnceLock,
    time::Duration,
};

use anyhow::Context as _;
use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::{
        resource::{Resource, getrlimit},
        signal::{SigSet, Signal},
        socket::{AddressFamily, SockFlag, SockType, socketpair},
    },
    unistd::Pid,
};
use tokio::io::{Interest, unix::AsyncFd};
use warren_runtime::descriptors::{self, Descriptors, Message, NEW, OWN};

/// The variable in which a supervisor tells its next version which processes are its children.
pub(crate) const CHILDREN: &str = "WARREN_CHILDREN";
/// The name of a daemon's channel among the descriptors that one supervisor leaves to the next; a daemon
/// cannot choose it.
const CHANNEL: &str = "@channel";
/// How long what an ended process left may speak on.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// More than any daemon has use for.
const MOST: usize = 256;
/// The same for what belongs to one process (a gateway's clients): as many as there is room for in the one
/// variable of the environment that names them, which Linux limits to 128 KiB.
const MOST_OWN: usize = 4097;

/// The descriptors that a daemon's processes left; or those that belong to one process.
#[derive(Debug, Default)]
pub(crate) struct Held(BTreeMap<String, OwnedFd>);

impl Held {
    /// Does what a process asks for; true when it said that it is ready. `own` is what belongs to it alone.
    pub(crate) fn note(&mut self, own: &mut Self, message: Message, descriptor: Option<OwnedFd>) -> bool {
        let place = |name: &str| if name.starts_with(OWN) { (own, most_own()) } else { (self, MOST) };
        match (message, descriptor) {
            (Message::Keep(name), Some(descriptor)) => {
                let (Self(held), most) = place(&name);
                if held.len() < most || held.contains_key(&name) {
                    held.insert(name, descriptor);
                } else {
                    tracing::debug!(name, most, "holds as much as it can");
                }
            }
            (Message::Keep(name), None) => tracing::warn!(name, "cannot hold what a daemon asked for"),
            (Message::Forget(name), _) => {
                place(&name).0.0.remove(&name);
            }
            (Message::Ready, _) => return true,
        }
        false
    }

    /// What is still to be held when a process has it.
    pub(crate) fn handed_over(mut self) -> Self {
        let new = format!("{OWN}{NEW}");
        self.0.retain(|name, _| !name.starts_with(&new));
        self
    }

    /// What goes into a new process's environment, which gets `own` as well.
    pub(crate) fn format(&self, own: &Self) -> String {
        let all = self.0.iter().chain(&own.0);
        descriptors::format(all.map(|(name, owned)| (name.as_str(), owned.as_raw_fd())))
    }

    pub(crate) fn numbers(&self) -> impl Iterator<Item = RawFd> {
        self.0.values().map(AsRawFd::as_raw_fd)
    }
}

/// Half of what this process may have open at most: the rest is for starting daemons.
fn most_own() -> usize {
    static MOST: OnceLock<usize> = OnceLock::new();
    *MOST.get_or_init(|| {
        let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft / 2);
        usize::try_from(limit).map_or(MOST_OWN, |limit| limit.min(MOST_OWN))
    })
}

/// The supervisor's end of the socket to one process.
pub(crate) struct Channel(AsyncFd<OwnedFd>);

impl Channel {
    /// A channel and the process's end of it.
    pub(crate) fn open() -> io::Result<(Self, OwnedFd)> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        Ok((Self::adopt(ours)?, theirs))
    }

    #[allow(unsafe_code)]
    fn adopt(ours: OwnedFd) -> io::Result<Self> {
        // SAFETY: an `OwnedFd` is the same open descriptor for as long as it lives.
        let registered = unsafe { AsyncFd::register_with_interest(ours, Interest::READABLE) };
        Ok(Self(registered?))
    }

    /// The next message; never returns when the process has closed its end.
    pub(crate) async fn next(&self) -> (Message, Option<OwnedFd>) {
        let received = self.0.async_io(Interest::READABLE, |socket| descriptors::receive(socket.as_fd()));
        match received.await {
            Ok(Some(message)) => message,
            Ok(None) => std::future::pending().await,
            Err(error) => {
                tracing::warn!(%error, "cannot hear a daemon");
                std::future::pending().await
            }
        }
    }

    /// The messages that a process left behind, and what its witness says, if it has one, until that has ended, too.
    pub(crate) async fn rest(&self) -> Vec<(Message, Option<OwnedFd>)> {
        let mut messages = Vec::new();
        let all = async {
            let receive = |socket: &OwnedFd| descriptors::receive(socket.as_fd());
            while let Ok(Some(message)) = self.0.async_io(Interest::READABLE, receive).await {
                messages.push(message);
            }
        };
        if tokio::time::timeout(LAST_WORDS, all).await.is_err() {
            tracing::warn!("a process has ended, and its way to the supervisor is still open");
        }
        messages
    }
}

/// A daemon's process and descriptors, between two supervisors.
pub(crate) struct Left {
    pub(crate) daemon: String,
    pub(crate) process: Option<(Pid, Channel)>,
    pub(crate) held: Held,
    /// What belongs to that process; without one, to the process that died last.
    pub(crate) own: Held,
}

/// What the supervisor that this process was before has left. Call it once, inside a runtime.
pub(crate) fn inherited() -> anyhow::Result<Vec<Left>> {
    let Ok(children) = std::env::var(CHILDREN) else { return Ok(Vec::new()) };
    let descriptors = Descriptors::inherited();
    let adopt = |entry: &str| {
        let (daemon, pid) = entry.split_once('=').context("no name")?;
        let mut held = descriptors.take_all(&format!("{daemon}/"));
        let channel = held.remove(CHANNEL);
        let own = held.extract_if(.., |name, _| name.starts_with(OWN)).collect();
        let process = match (pid.parse::<i32>().context("no process identifier")?, channel) {
            (pid, Some(channel)) if pid > 0 => Some((Pid::from_raw(pid), Channel::adopt(channel)?)),
            _ => None,
        };
        anyhow::Ok(Left { daemon: daemon.to_owned(), process, held: Held(held), own: Held(own) })
    };
    let entries = children.split(',').filter(|entry| !entry.is_empty());
    entries.map(|entry| adopt(entry).with_context(|| format!("{CHILDREN}: {entry:?}"))).collect()
}

/// Becomes the program at `path`, with this process's arguments, children and `left`. Returns only on failure.
pub(crate) fn become_next(path: &Path, left: &[Left]) -> anyhow::Error {
    match prepare(path, left) {
        Ok(Program { path, arguments, environment }) => {
            // A signal now would end the new program before it can handle it; it lets them through again.
            let signals = signals();
            let _ = signals.thread_block();
            let failed = inheritable(left, true)
                .and_then(|()| Ok(nix::unistd::execve(&path, &arguments, &environment)?));
            let _ = inheritable(left, false);
            let _ = signals.thread_unblock();
            let reason = failed.err().unwrap_or_else(|| io::ErrorKind::Other.into());
            anyhow::Error::new(reason).context("cannot run the new program")
        }
        Err(error) => error,
    }
}

/// Lets the signals through that the earlier version of this process held back; call it when they are handled.
pub(crate) fn unblock_signals() {
    let _ = signals().thread_unblock();
}

fn signals() -> SigSet {
    [Signal::SIGHUP, Signal::SIGTERM, Signal::SIGINT].into_iter().collect()
}

struct Program {
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

fn prepare(path: &Path, left: &[Left]) -> anyhow::Result<Program> {
    let text = |bytes: &[u8]| CString::new(bytes).context("a zero byte in the command line");
    let arguments =
        std::env::args_os().map(|argument| text(argument.as_bytes())).collect::<Result<_, _>>()?;
    let children = left.iter().map(|left| {
        let pid = left.process.as_ref().map_or(0, |(pid, _)| pid.as_raw());
        format!("{}={pid}", left.daemon)
    });
    let ours = [
        (CHILDREN, children.collect::<Vec<_>>().join(",")),
        (descriptors::INHERITED, descriptors::format(named(left).iter().map(|(name, fd)| (&**name, *fd)))),
    ];
    let others = std::env::vars_os().filter(|(name, _)| !ours.iter().any(|(own, _)| name == *own));
    let mut environment = others
        .map(|(name, value)| text(&[name.as_bytes(), b"=", value.as_bytes()].concat()))
        .collect::<Result<Vec<_>, _>>()?;
    for (name, value) in &ours {
        environment.push(text(format!("{name}={value}").as_bytes())?);
    }
    Ok(Program { path: text(path.as_os_str().as_bytes())?, arguments, environment })
}

fn named(left: &[Left]) -> Vec<(String, RawFd)> {
    let named = |left: &Left| {
        let channel = left.process.iter().map(|(_, channel)| (CHANNEL, channel.0.as_raw_fd()));
        let held =
            left.held.0.iter().chain(&left.own.0).map(|(name, owned)| (name.as_str(), owned.as_raw_fd()));
        channel.chain(held).map(|(name, fd)| (format!("{}/{name}", left.daemon), fd)).collect::<Vec<_>>()
    };
    left.iter().flat_map(named).collect()
}

fn inheritable(left: &[Left], wanted: bool) -> io::Result<()> {
    let flags = if wanted { FdFlag::empty() } else { FdFlag::FD_CLOEXEC };
    for left in left {
        let channel = left.process.iter().map(|(_, channel)| channel.0.get_ref());
        for descriptor in channel.chain(left.held.0.values()).chain(left.own.0.values()) {
            fcntl(descriptor, FcntlArg::F_SETFD(flags))?;
        }
    }
    Ok(())
}

/// For the moment between fork and exec: lets the new program have these descriptors.
#[allow(unsafe_code)]
pub(crate) fn pass_on(numbers: &[RawFd]) -> io::Result<()> {
    for number in numbers {
        // SAFETY: the parent owns them, and keeps them open until the child has been started.
        let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(*number) };
        fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::empty()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> OwnedFd {
        std::fs::File::open("/dev/null").expect("a file").into()
    }

    #[test]
    fn a_name_holds_one_descriptor_and_ready_is_noticed() {
        let (mut held, mut own) = <(Held, Held)>::default();
        assert!(!held.note(&mut own, Message::Keep("dns.udp".into()), Some(file())));
        assert!(!held.note(&mut own, Message::Keep("dns.udp".into()), Some(file())));
        assert!(!held.note(&mut own, Message::Keep("lost".into()), None));
        assert_eq!((held.numbers().count(), own.numbers().count()), (1, 0));
        assert!(held.format(&own).starts_with("dns.udp="));
        assert!(held.note(&mut own, Message::Ready, None));
        held.note(&mut own, Message::Forget("dns.udp".into()), None);
        assert_eq!(held.numbers().count(), 0);
    }

    #[test]
    fn what_belongs_to_a_process_is_kept_apart() {
        let (mut held, mut first, mut second) = <(Held, Held, Held)>::default();
        held.note(&mut first, Message::Keep("own.7".into()), Some(file()));
        held.note(&mut second, Message::Keep("own.7".into()), Some(file()));
        held.note(&mut second, Message::Forget("own.7".into()), None);
        let counts = [&held, &first, &second].map(|held| held.numbers().count());
        assert_eq!(counts, [0, 1, 0]);
        assert!(held.format(&first).starts_with("own.7="));
    }

    #[test]
    fn a_daemon_cannot_fill_the_supervisor() {
        let (mut held, mut own) = <(Held, Held)>::default();
        for number in 0..MOST + 10 {
            held.note(&mut own, Message::Keep(format!("n{number}")), Some(file()));
        }
        assert_eq!(held.numbers().count(), MOST);
    }

    #[test]
    fn the_names_of_all_clients_fit_into_the_environment() {
        let names: Vec<_> = (0..MOST_OWN).map(|number| format!("gateway/{OWN}{number}")).collect();
        let text = descriptors::format(names.iter().map(|name| (name.as_str(), 65_535)));
        assert!(descriptors::INHERITED.len() + 1 + text.len() < (128 << 10) - 4096, "{}", text.len());
    }

    #[tokio::test]
    async fn the_next_version_is_told_everything() {
        let (channel, _theirs) = Channel::open().expect("a channel");
        let (mut held, mut own) = <(Held, Held)>::default();
        held.note(&mut own, Message::Keep("http.0".into()), Some(file()));
        held.note(&mut own, Message::Keep("own.7".into()), Some(file()));
        let process = Some((Pid::from_raw(42), channel));
        let left = [
            Left { daemon: "gateway".into(), process, held, own },
            Left { daemon: "netd".into(), process: None, held: Held::default(), own: Held::default() },
        ];
        let program = prepare(Path::new("/warren"), &left).expect("prepared");
        let entries: Vec<_> =
            program.environment.iter().map(|entry| entry.to_str().unwrap_or_default()).collect();
        assert!(entries.contains(&"WARREN_CHILDREN=gateway=42,netd=0"), "{entries:?}");
        let descriptors =
            entries.iter().find_map(|entry| entry.strip_prefix("WARREN_DESCRIPTORS=")).expect("told");
        let names: Vec<_> = descriptors.split(',').filter_map(|entry| entry.split('=').next()).collect();
        assert_eq!(names, ["gateway/@channel", "gateway/http.0", "gateway/own.7"]);
        let closes_on_exec = |left: &[Left]| {
            let (_, channel) = left[0].process.as_ref().expect("a process");
            let flags = fcntl(channel.0.get_ref(), FcntlArg::F_GETFD).expect("flags");
            FdFlag::from_bits_truncate(flags).contains(FdFlag::FD_CLOEXEC)
        };
        assert!(closes_on_exec(&left));
        inheritable(&left, true).expect("changed");
        assert!(!closes_on_exec(&left));
    }
}
