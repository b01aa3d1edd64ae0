//! Descriptors that outlive the process that opened them: the supervisor holds a duplicate of each and hands it
//! to the next process of the same daemon, so that what arrives in between waits in the socket's own queue.
//!
//! ```text
//!  supervisor ── WARREN_DESCRIPTORS=dns.udp=9,...  what earlier processes left, by name ──► daemon
//!             ── WARREN_SUPERVISOR=8               a socket to the supervisor           ──► daemon
//!             ◄── keep NAME + descriptor, forget NAME, ready ─────────────────────────────
//! ```
//! A process without a supervisor inherits nothing and keeps nothing; nothing else changes for it.

use std::{
    collections::BTreeMap,
    io::{self, IoSlice, IoSliceMut, Write as _},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use nix::{
    cmsg_space,
    fcntl::{FcntlArg, FdFlag, fcntl},
    libc,
    sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg},
};

/// The variable that names inherited descriptors: `NAME=NUMBER,NAME=NUMBER`.
pub const INHERITED: &str = "WARREN_DESCRIPTORS";
/// The variable that says which descriptor leads to the supervisor.
pub const SUPERVISOR: &str = "WARREN_SUPERVISOR";

/// Names that begin so belong to one process of a daemon: the next one gets them only when that one has died, never
/// beside it. Two processes of a daemon that run at the same time may use the same of these names.
pub const OWN: &str = "own.";

const LONGEST_MESSAGE: usize = 256;
/// How long a supervisor that has much to read holds up what must be said.
const PATIENCE: Duration = Duration::from_secs(1);

/// After [`OWN`], and before a number: connections that a killed process had accepted and did nothing with yet. The
/// supervisor hands each over once, and does not keep it.
pub const NEW: &str = "new-";

/// What a daemon tells its supervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Hold the descriptor that comes with this message under this name, instead of an earlier one.
    Keep(String),
    /// Close the descriptor of this name.
    Forget(String),
    /// The daemon does its job: an older process of it can go.
    Ready,
}

impl Message {
    fn encode(&self) -> String {
        match self {
            Self::Keep(name) => format!("keep {name}"),
            Self::Forget(name) => format!("forget {name}"),
            Self::Ready => "ready".to_owned(),
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let named = |name: &str| is_name(name).then(|| name.to_owned());
        match text.split_once(' ') {
            Some(("keep", name)) => named(name).map(Self::Keep),
            Some(("forget", name)) => named(name).map(Self::Forget),
            None if text == "ready" => Some(Self::Ready),
            _ => None,
        }
    }
}

/// Whether a descriptor may be called so: lower-case letters, digits, dots and dashes.
fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-');
    (1..=64).contains(&name.len()) && name.bytes().all(allowed)
}

/// What this process inherited, and its way to the supervisor. Cheap to clone; the default has neither.
#[derive(Debug, Clone, Default)]
pub struct Descriptors(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    inherited: Mutex<BTreeMap<String, OwnedFd>>,
    supervisor: Option<OwnedFd>,
}

impl Descriptors {
    /// What the environment says. All calls share one set: a descriptor has one owner.
    pub fn inherited() -> Self {
        static OURS: OnceLock<Descriptors> = OnceLock::new();
        let read = || {
            let variable = |name| std::env::var(name).unwrap_or_default();
            let supervisor = variable(SUPERVISOR).parse().ok().and_then(adopt);
            let adopted = parse(&variable(INHERITED));
            let adopted = adopted.into_iter().filter_map(|(name, number)| Some((name, adopt(number)?)));
            Self::new(adopted.collect(), supervisor)
        };
        OURS.get_or_init(read).clone()
    }

    /// A set of one's own, for supervisors and tests.
    pub fn new(inherited: BTreeMap<String, OwnedFd>, supervisor: Option<OwnedFd>) -> Self {
        Self(Arc::new(Inner { inherited: Mutex::new(inherited), supervisor }))
    }

    /// The inherited descriptor of this name, once.
    pub fn take(&self, name: &str) -> Option<OwnedFd> {
        self.lock().remove(name)
    }

    /// All inherited descriptors whose names begin with `prefix`, by the rest of the name, once.
    pub fn take_all(&self, prefix: &str) -> BTreeMap<String, OwnedFd> {
        let mut inherited = self.lock();
        let names: Vec<String> = inherited.keys().filter(|name| name.starts_with(prefix)).cloned().collect();
        let take =
            |name: String| inherited.remove(&name).map(|owned| (name[prefix.len()..].to_owned(), owned));
        names.into_iter().filter_map(take).collect()
    }

    /// Whether anybody holds what is to be kept.
    pub fn has_supervisor(&self) -> bool {
        self.0.supervisor.is_some()
    }

    /// A way of one's own to the supervisor.
    ///
    /// # Errors
    /// When there is none, or too much is open.
    pub fn supervisor(&self) -> io::Result<OwnedFd> {
        self.0.supervisor.as_ref().ok_or(io::ErrorKind::NotConnected)?.try_clone()
    }

    /// Like [`Self::keep`], for those who go on without when it fails.
    ///
    /// # Errors
    /// When the supervisor does not read as fast as it is told, or there is none.
    pub fn try_keep(&self, name: &str, descriptor: impl AsFd) -> io::Result<()> {
        self.try_tell(&Message::Keep(name.to_owned()), Some(descriptor.as_fd()))
    }

    /// Like [`Self::forget`], for those who try again later.
    ///
    /// # Errors
    /// As for [`Self::try_keep`].
    pub fn try_forget(&self, name: &str) -> io::Result<()> {
        self.try_tell(&Message::Forget(name.to_owned()), None)
    }

    /// Lets the supervisor hold a duplicate for the next process. A failure costs only that, so it is logged.
    pub fn keep(&self, name: &str, descriptor: impl AsFd) {
        self.tell(&Message::Keep(name.to_owned()), Some(descriptor.as_fd()));
    }

    /// Lets the supervisor close its duplicate.
    pub fn forget(&self, name: &str) {
        self.tell(&Message::Forget(name.to_owned()), None);
    }

    /// Says that this process does its job.
    pub fn ready(&self) {
        self.tell(&Message::Ready, None);
    }

    fn try_tell(&self, message: &Message, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let supervisor = self.0.supervisor.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        send(supervisor.as_fd(), message, descriptor)
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "a millisecond, where the supervisor has much to read; also without a runtime"
    )]
    fn tell(&self, message: &Message, descriptor: Option<BorrowedFd<'_>>) {
        if !self.has_supervisor() {
            return;
        }
        let begun = Instant::now();
        let told = loop {
            match self.try_tell(message, descriptor) {
                // It has much to read.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && begun.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                told => break told,
            }
        };
        if let Err(error) = told {
            tracing::warn!(%error, ?message, "the supervisor cannot be told");
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, OwnedFd>> {
        self.0.inherited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn send(to: BorrowedFd<'_>, message: &Message, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let text = message.encode();
    let numbers: Vec<RawFd> = descriptor.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let control = if numbers.is_empty() { &[][..] } else { &rights[..] };
    // A supervisor that does not read must not hold its daemon up.
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(to.as_raw_fd(), &[IoSlice::new(text.as_bytes())], control, flags, None)?;
    Ok(())
}

/// Lets the supervisor hold a descriptor as [`NEW`] and its number, and waits until it can be told. For a fork of a
/// process with threads: nothing is allocated.
///
/// # Errors
/// When the supervisor is gone.
#[allow(unsafe_code)]
pub fn keep_numbered(to: BorrowedFd<'_>, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    /// Room for one descriptor, aligned as the kernel wants it.
    #[repr(C, align(8))]
    struct Control([u8; 64]);
    let number = descriptor.as_raw_fd();
    let mut text = [0; LONGEST_MESSAGE];
    let mut rest = &mut text[..];
    write!(rest, "keep {OWN}{NEW}{number}")?;
    let length = LONGEST_MESSAGE - rest.len();
    let mut part = libc::iovec { iov_base: text.as_mut_ptr().cast(), iov_len: length };
    let mut control = Control([0; 64]);
    // SAFETY: the structure consists of numbers and pointers, for which zero is a value; all that it points to lives
    // until the call returns, and the control room is large enough for one descriptor.
    let sent = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(size_of::<RawFd>() as u32) as _;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<RawFd>() as u32) as _;
        libc::CMSG_DATA(header).cast::<RawFd>().write_unaligned(number);
        libc::sendmsg(to.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL)
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// For the supervisor: the next message of a daemon and the descriptor that came with it, without waiting.
/// `Ok(None)` when the daemon's end is closed. What is no message is logged and skipped.
pub fn receive(from: BorrowedFd<'_>) -> io::Result<Option<(Message, Option<OwnedFd>)>> {
    loop {
        let mut buffer = [0; LONGEST_MESSAGE];
        let mut control = cmsg_space!([RawFd; 4]);
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
        let mut slices = [IoSliceMut::new(&mut buffer)];
        let received = recvmsg::<()>(from.as_raw_fd(), &mut slices, Some(&mut control), flags)?;
        let mut descriptors = Vec::new();
        for message in received.cmsgs()? {
            if let ControlMessageOwned::ScmRights(numbers) = message {
                descriptors.extend(numbers.into_iter().map(own));
            }
        }
        let length = received.bytes;
        if length == 0 && descriptors.is_empty() {
            return Ok(None);
        }
        match Message::decode(&buffer[..length]) {
            Some(message) => return Ok(Some((message, descriptors.pop()))),
            None => tracing::warn!(length, "a daemon sent something that is no message"),
        }
    }
}

/// The kernel has just made this descriptor for us.
#[allow(unsafe_code)]
fn own(number: RawFd) -> OwnedFd {
    // SAFETY: SCM_RIGHTS installed it in this process a moment ago, and nobody else knows its number.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Owns a descriptor that the process was started with; `None` when it is not open.
#[allow(unsafe_code)]
fn adopt(number: RawFd) -> Option<OwnedFd> {
    if number <= 2 {
        return None;
    }
    // SAFETY: only borrowed for the question whether it is open; a number that is not fails with EBADF.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    // Further processes get what the supervisor gives them, nothing by accident.
    if let Err(error) = fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)) {
        tracing::warn!(number, %error, "an inherited descriptor is not open");
        return None;
    }
    // SAFETY: it is open, was left for us by the process that started us, and is adopted once, because
    // `Descriptors::inherited` reads the environment once.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// The value of [`INHERITED`] for these descriptors.
pub fn format<'a>(descriptors: impl IntoIterator<Item = (&'a str, RawFd)>) -> String {
    let entries: Vec<String> =
        descriptors.into_iter().map(|(name, number)| format!("{name}={number}")).collect();
    entries.join(",")
}

fn parse(text: &str) -> BTreeMap<String, RawFd> {
    let entry = |entry: &str| {
        let (name, number) = entry.split_once('=')?;
        Some((name.to_owned(), number.parse().ok()?))
    };
    text.split(',').filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read as _,
        net::{TcpListener, TcpStream},
        os::unix::fs::FileTypeExt as _,
    };

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    use super::*;

    fn pair() -> (OwnedFd, Descriptors) {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).expect("a pair");
        (ours, Descriptors::new(BTreeMap::new(), Some(theirs)))
    }

    #[test]
    fn a_listener_outlives_its_process_with_its_queue() {
        let (supervisor, daemon) = pair();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        daemon.keep("http.0", &listener);
        daemon.ready();
        drop(listener);
        // The first process is gone before the supervisor even looked: the message holds the listener.
        let mut client = TcpStream::connect(address).expect("the queue accepts");
        drop(daemon);
        let (message, held) = receive(supervisor.as_fd()).expect("readable").expect("a message");
        assert_eq!(message, Message::Keep("http.0".into()));
        let held = held.expect("a descriptor");
        let (message, none) = receive(supervisor.as_fd()).expect("readable").expect("a message");
        assert!(message == Message::Ready && none.is_none());
        assert!(receive(supervisor.as_fd()).expect("readable").is_none(), "the daemon's end is closed");

        let next = Descriptors::new(BTreeMap::from([("http.0".to_owned(), held)]), None);
        let listener = TcpListener::from(next.take("http.0").expect("inherited"));
        assert!(next.take("http.0").is_none(), "one owner");
        drop(listener.accept().expect("the client that waited"));
        assert_eq!(client.read(&mut [0]).expect("closed in order"), 0);
    }

    #[test]
    fn what_is_kept_by_its_number_arrives() {
        let (supervisor, daemon) = pair();
        let file = std::fs::File::open("/dev/null").expect("a file");
        let way = daemon.supervisor().expect("there is one");
        keep_numbered(way.as_fd(), file.as_fd()).expect("sent");
        let (message, held) = receive(supervisor.as_fd()).expect("readable").expect("a message");
        assert_eq!(message, Message::Keep(format!("{OWN}{NEW}{}", file.as_raw_fd())));
        let held = std::fs::File::from(held.expect("a descriptor"));
        assert!(held.metadata().expect("open").file_type().is_char_device());
        drop(supervisor);
        assert!(keep_numbered(way.as_fd(), file.as_fd()).is_err(), "nobody is there");
        assert!(Descriptors::default().supervisor().is_err());
    }

    #[test]
    fn descriptors_are_taken_by_prefix() {
        let file = || OwnedFd::from(std::fs::File::open("/dev/null").expect("a file"));
        let named = |name: &str| (name.to_owned(), file());
        let set = Descriptors::new(["http.0", "http.1", "https.0"].map(named).into_iter().collect(), None);
        assert_eq!(set.take_all("http.").into_keys().collect::<Vec<_>>(), ["0", "1"]);
        assert!(set.take_all("http.").is_empty());
        assert!(set.take("https.0").is_some());
    }

    #[test]
    fn rubbish_is_skipped() {
        let (supervisor, daemon) = pair();
        let theirs = daemon.0.supervisor.as_ref().expect("a supervisor");
        for rubbish in ["keep", "keep a b", "keep ../x", "keep A", "dance", "forget "] {
            nix::unistd::write(theirs, rubbish.as_bytes()).expect("sent");
        }
        daemon.forget("dns.udp");
        let (message, _) = receive(supervisor.as_fd()).expect("readable").expect("a message");
        assert_eq!(message, Message::Forget("dns.udp".into()));
        let error = receive(supervisor.as_fd()).expect_err("nothing more");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn the_environments_text_is_read_back() {
        let text = format([("dns.udp", 7), ("http.0", 12)]);
        assert_eq!(text, "dns.udp=7,http.0=12");
        assert_eq!(parse(&text), BTreeMap::from([("dns.udp".into(), 7), ("http.0".into(), 12)]));
        assert!(parse("").is_empty() && parse("x,=,y=z").is_empty());
    }

    #[test]
    fn without_a_supervisor_nothing_happens() {
        let alone = Descriptors::default();
        alone.keep("dns.udp", std::io::stdin());
        alone.ready();
        assert!(alone.take("dns.udp").is_none());
    }
}
