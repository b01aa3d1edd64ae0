//! A program under a clock of its own: its days differ from the machine's, everything else is real.
//!
//! ```text
//!  program ── clock_gettime(CLOCK_REALTIME) ──► seccomp ──► this process: the machine's time + offset
//!     └────── CLOCK_MONOTONIC, everything else ──► kernel
//! ```
//!
//! A time namespace shifts only the monotonic clocks, and a preloaded library does not reach a static binary. So the
//! kernel hands each question for the time of day to this process (seccomp's user notification), and the program
//! does not find the vDSO, which would answer without the kernel: its address is taken out of the auxiliary vector
//! when the program begins (ptrace). The offset can change while the program runs: that is a clock that is set.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::{fs::FileExt as _, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    thread::JoinHandle,
};

use nix::sched::{CloneFlags, setns};

/// A day, in seconds.
pub const DAY: i64 = 86_400;

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const NOTIFY_RECEIVE: libc::c_ulong = 0xc050_2100;
const NOTIFY_SEND: libc::c_ulong = 0xc018_2101;
const AT_SYSINFO_EHDR: u64 = 33;
const AT_IGNORE: u64 = 1;

/// A program that is to be started in the namespaces of a process.
pub struct Launch {
    command: Command,
    program: PathBuf,
    /// The process identifiers that it is to see: no command leads there, because only a fork does.
    identifiers: File,
}

impl Launch {
    /// `program` is its path as that process sees it.
    pub fn beside(pid: u32, program: &Path) -> Self {
        let mut command = Command::new("nsenter");
        command.args(["-t", &pid.to_string(), "-n", "-m", "-u", "--"]).arg(program);
        let identifiers = File::open(format!("/proc/{pid}/ns/pid")).expect("the process runs");
        Self { command, program: program.to_owned(), identifiers }
    }

    /// With these arguments more.
    pub fn arguments(mut self, arguments: &[impl AsRef<str>]) -> Self {
        self.command.args(arguments.iter().map(AsRef::as_ref));
        self
    }
}

/// A running program whose clock is set by the test; it is killed when dropped.
pub struct Shifted {
    child: Child,
    offset: Arc<AtomicI64>,
    answering: Option<JoinHandle<()>>,
}

impl Shifted {
    /// Starts a program `seconds` away from the machine's clock.
    pub fn start(launch: Launch, seconds: i64) -> Self {
        let offset = Arc::new(AtomicI64::new(seconds));
        // ptrace binds the program to one thread, which has nothing else to wait for.
        let started = std::thread::spawn(move || spawn(launch)).join();
        let (child, notifications) = started.expect("the launcher does not panic");
        let shared = Arc::clone(&offset);
        let answering = std::thread::spawn(move || answer(&notifications, &shared));
        Self { child, offset, answering: Some(answering) }
    }

    /// Sets the program's clock.
    pub fn set(&self, seconds: i64) {
        self.offset.store(seconds, Ordering::SeqCst);
    }

    /// Asks the program to end, and waits until it has.
    pub fn stop(mut self) {
        let asked = Command::new("kill").arg(self.child.id().to_string()).status();
        assert!(asked.expect("kill starts").success(), "the program has ended by itself");
        let child = &mut self.child;
        crate::eventually("the program ends", || match child.try_wait() {
            Ok(Some(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }
}

impl Drop for Shifted {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(thread) = self.answering.take() {
            let _ = thread.join();
        }
    }
}

/// Starts the program, blinds it for the vDSO, and lets go of it.
fn spawn(launch: Launch) -> (Child, OwnedFd) {
    let Launch { mut command, program, identifiers } = launch;
    // This thread's own identifier stays what it is: this is for what it forks.
    setns(&identifiers, CloneFlags::CLONE_NEWPID).expect("this must run as root");
    let (ours, theirs) = socket_pair();
    let sender = theirs.as_raw_fd();
    // SAFETY: between fork and exec, only system calls on memory of this very function are made.
    unsafe {
        command.pre_exec(move || {
            let listener = install_filter()?;
            send_descriptor(sender, listener)?;
            check(libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0))
        });
    }
    let child = command.spawn().expect("the program starts");
    drop(theirs);
    let notifications = receive_descriptor(&ours);
    let pid = libc::pid_t::try_from(child.id()).expect("a process identifier");
    let mut blinded = false;
    while !blinded {
        let mut status = 0;
        // SAFETY: the status is a place of the right type; the process is our child.
        let waited = unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) };
        assert!(
            waited == pid && libc::WIFSTOPPED(status),
            "{} did not start: {status:#x}",
            program.display()
        );
        let signal = libc::WSTOPSIG(status);
        let began = signal == libc::SIGTRAP;
        blinded = began && std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == program);
        if blinded {
            hide_vdso(pid);
        }
        let request = if blinded { libc::PTRACE_DETACH } else { libc::PTRACE_CONT };
        // SAFETY: the process is stopped and traced by this thread; the options and the signal are plain numbers.
        unsafe {
            check(libc::ptrace(libc::PTRACE_SETOPTIONS, pid, 0, libc::PTRACE_O_TRACEEXEC)).expect("traced");
            check(libc::ptrace(request, pid, 0, if began { 0 } else { signal })).expect("goes on");
        }
    }
    (child, notifications)
}

fn check(outcome: impl Into<i64>) -> io::Result<()> {
    if outcome.into() < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Has the kernel ask us for the time of day; the answer is where it asks.
fn install_filter() -> io::Result<RawFd> {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let jump = |k: u32, jt: u8, jf: u8| libc::sock_filter {
        code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
        jt,
        jf,
        k,
    };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let mut filter = [
        // The architecture lies at 4, the number at 0, the first argument at 16 (linux/seccomp.h).
        statement(load, 4),
        jump(AUDIT_ARCH_X86_64, 0, 6),
        statement(load, 0),
        jump(libc::SYS_clock_gettime as u32, 0, 3),
        statement(load, 16),
        jump(libc::CLOCK_REALTIME as u32, 3, 0),
        jump(libc::CLOCK_REALTIME_COARSE as u32, 2, 1),
        jump(libc::SYS_gettimeofday as u32, 1, 0),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_USER_NOTIF),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the filter lives until the call returns; the kernel copies it.
    let listener = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    };
    check(listener)?;
    Ok(listener as RawFd)
}

/// Takes the vDSO's address out of what the kernel tells a new program.
fn hide_vdso(pid: libc::pid_t) {
    let mut registers = std::mem::MaybeUninit::<libc::user_regs_struct>::uninit();
    // SAFETY: the process is stopped and traced by this thread; the place has the type that the call fills in.
    let registers = unsafe {
        check(libc::ptrace(libc::PTRACE_GETREGS, pid, 0, registers.as_mut_ptr())).expect("registers");
        registers.assume_init()
    };
    let memory = OpenOptions::new().read(true).write(true).open(format!("/proc/{pid}/mem")).expect("memory");
    let word = |at: u64| {
        let mut bytes = [0; 8];
        memory.read_exact_at(&mut bytes, at).expect("the stack is readable");
        u64::from_ne_bytes(bytes)
    };
    // argc, argv, 0, environment, 0, then pairs of a kind and a value.
    let mut at = registers.rsp + 8 * (word(registers.rsp) + 2);
    while word(at) != 0 {
        at += 8;
    }
    at += 8;
    while word(at) != AT_SYSINFO_EHDR {
        assert_ne!(word(at), 0, "the kernel offers no vDSO");
        at += 16;
    }
    memory.write_all_at(&AT_IGNORE.to_ne_bytes(), at).expect("the stack is writable");
}

/// Answers until every process of the program has ended.
fn answer(notifications: &OwnedFd, offset: &AtomicI64) {
    let descriptor = notifications.as_raw_fd();
    loop {
        let mut poll = libc::pollfd { fd: descriptor, events: libc::POLLIN, revents: 0 };
        // SAFETY: one descriptor is polled, and one structure is given.
        let polled = unsafe { libc::poll(&raw mut poll, 1, -1) };
        if polled > 0 && poll.revents & libc::POLLIN == 0 {
            return;
        }
        // SAFETY: the structure consists of numbers, for which zero is a value.
        let mut asked: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the structure has the size that the request's number says.
        if unsafe { libc::ioctl(descriptor, NOTIFY_RECEIVE, &raw mut asked) } != 0 {
            // Who asked has been killed meanwhile.
            continue;
        }
        let error = tell(&asked, offset.load(Ordering::SeqCst)).err().map_or(0, |_| -libc::EFAULT);
        let mut told = libc::seccomp_notif_resp { id: asked.id, val: 0, error, flags: 0 };
        // SAFETY: the structure has the size that the request's number says.
        unsafe { libc::ioctl(descriptor, NOTIFY_SEND, &raw mut told) };
    }
}

/// Writes the time where it was asked for.
fn tell(asked: &libc::seccomp_notif, offset: i64) -> io::Result<()> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let seconds = i64::try_from(now.as_secs()).expect("in range") + offset;
    let is_timeval = i64::from(asked.data.nr) == libc::SYS_gettimeofday;
    let (place, fraction) = match is_timeval {
        true => (asked.data.args[0], now.subsec_micros()),
        false => (asked.data.args[1], now.subsec_nanos()),
    };
    let memory = File::options().write(true).open(format!("/proc/{}/mem", asked.pid))?;
    memory.write_all_at(&[seconds.to_ne_bytes(), i64::from(fraction).to_ne_bytes()].concat(), place)
}

fn socket_pair() -> (OwnedFd, OwnedFd) {
    let mut pair = [0; 2];
    // SAFETY: the call fills in two descriptors, which nobody else owns.
    unsafe {
        check(libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0, pair.as_mut_ptr()))
            .expect("a pair of sockets");
        (OwnedFd::from_raw_fd(pair[0]), OwnedFd::from_raw_fd(pair[1]))
    }
}

/// Room for one descriptor, aligned as the kernel wants it.
#[repr(C, align(8))]
struct Ancillary([u8; 64]);

fn with_message<T>(room: &mut Ancillary, act: impl FnOnce(&mut libc::msghdr) -> T) -> T {
    let mut byte = [0_u8; 1];
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // SAFETY: the structure consists of numbers and pointers, for which zero is a value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
    message.msg_control = room.0.as_mut_ptr().cast();
    // SAFETY: a computation.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(size_of::<RawFd>() as u32) } as usize;
    act(&mut message)
}

fn send_descriptor(socket: RawFd, descriptor: RawFd) -> io::Result<()> {
    with_message(&mut Ancillary([0; 64]), |message| {
        // SAFETY: the message's control room is large enough for one descriptor, and aligned.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(size_of::<RawFd>() as u32) as usize;
            libc::CMSG_DATA(header).cast::<RawFd>().write_unaligned(descriptor);
            check(libc::sendmsg(socket, message, 0) as i64)
        }
    })
}

fn receive_descriptor(socket: &OwnedFd) -> OwnedFd {
    with_message(&mut Ancillary([0; 64]), |message| {
        // SAFETY: the message's control room is large enough for one descriptor, which is ours once received.
        unsafe {
            check(libc::recvmsg(socket.as_raw_fd(), message, libc::MSG_CMSG_CLOEXEC) as i64)
                .expect("a message");
            let header = libc::CMSG_FIRSTHDR(message);
            assert!(!header.is_null(), "the program could not be put under a filter");
            OwnedFd::from_raw_fd(libc::CMSG_DATA(header).cast::<RawFd>().read_unaligned())
        }
    })
}
