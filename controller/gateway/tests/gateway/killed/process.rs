//! A gateway in a process of its own (this test's program, started again), and a supervisor that holds its
//! descriptors as `warren node` does.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd, RawFd},
        unix::process::CommandExt as _,
    },
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::socket::{AddressFamily, SockFlag, SockType, socketpair},
};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use warren_gateway::{Certificates, Listeners, Refused, Routes, serve_with};
use warren_runtime::descriptors::{self, Descriptors, INHERITED, Message, NEW, OWN, SUPERVISOR};

use crate::support::{PATIENCE, Upstream, eventually, patience, rule};

const LISTEN: &str = "WARREN_TEST_LISTEN";
const UPSTREAM: &str = "WARREN_TEST_UPSTREAM";
/// Where it keeps its certificate: it answers HTTPS, too.
const STATE: &str = "WARREN_TEST_STATE";
/// As much as the control group of the attacks has.
pub(crate) const MEMORY: u64 = 256 << 20;

/// The gateway process. As a test of its own, it does nothing.
#[test]
#[ignore = "not a test: the process that the tests of `killed` kill"]
fn gateway() {
    let address = |name| std::env::var(name).ok()?.parse::<SocketAddr>().ok();
    let (Some(http), Some(upstream)) = (address(LISTEN), address(UPSTREAM)) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let routes = Routes::new(Refused::except_loopback());
        let all = rule("", "/", &[upstream]);
        routes.publish(1, [("route/default/web/0", &all)]).await;
        let https = std::env::var(STATE).ok().map(|state| {
            let certificates = Certificates::load(state.as_ref()).expect("a certificate");
            (SocketAddr::from(([127, 0, 0, 1], 0)), certificates.server_config().expect("a configuration"))
        });
        let listeners = Listeners {
            http,
            https,
            threads: 2,
            patience: patience(PATIENCE),
            trusted_proxies: Vec::new(),
            memory: MEMORY,
        };
        let descriptors = Descriptors::inherited();
        let serving =
            serve_with(listeners, &descriptors, &routes, &CancellationToken::new()).expect("listening");
        descriptors.ready();
        serving.wait().await.expect("it is killed before");
    });
}

/// Holds what the processes leave.
pub(crate) struct Supervisor {
    upstream: SocketAddr,
    state: Option<tempfile::TempDir>,
    process: Option<Child>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    channel: Option<OwnedFd>,
    descriptors: BTreeMap<String, OwnedFd>,
    ready: bool,
}

impl Held {
    /// Does what the process asks for; whether it will never ask again.
    fn hear(&mut self) -> bool {
        let Some(channel) = &self.channel else { return true };
        loop {
            let (message, descriptor) = match descriptors::receive(channel.as_fd()) {
                Ok(Some(message)) => message,
                Ok(None) => return true,
                Err(_) => return false,
            };
            match message {
                Message::Keep(name) => {
                    self.descriptors.insert(name, descriptor.expect("a descriptor comes with it"));
                }
                Message::Forget(name) => {
                    self.descriptors.remove(&name);
                }
                Message::Ready => self.ready = true,
            }
        }
    }
}

impl Held {
    /// The same, until nobody of the process is left: its witness speaks after it.
    #[allow(
        clippy::disallowed_methods,
        reason = "a look at the channel, while nothing else happens in the test"
    )]
    fn hear_all(&mut self) {
        let begun = Instant::now();
        while !self.hear() {
            assert!(begun.elapsed() < PATIENCE, "the witness neither speaks nor ends");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Supervisor {
    pub(crate) async fn start(upstream: &Upstream) -> Self {
        Self::start_with(upstream, None).await
    }

    /// A gateway that answers HTTPS, too.
    pub(crate) async fn start_with_https(upstream: &Upstream) -> Self {
        Self::start_with(upstream, Some(tempfile::tempdir().expect("a temporary directory"))).await
    }

    async fn start_with(upstream: &Upstream, state: Option<tempfile::TempDir>) -> Self {
        let (upstream, held) = (upstream.address, Mutex::default());
        let mut supervisor = Self { upstream, state, process: None, held };
        supervisor.restart().await;
        supervisor
    }

    /// Where the gateway listens, by the socket that is held.
    pub(crate) fn address(&self) -> SocketAddr {
        self.listener("http.0")
    }

    /// The same for HTTPS.
    pub(crate) fn https(&self) -> SocketAddr {
        self.listener("https.0")
    }

    fn listener(&self, name: &str) -> SocketAddr {
        let held = self.held.lock();
        let listener = held.descriptors.get(name).expect("listening").try_clone().expect("a copy");
        TcpListener::from(listener).local_addr().expect("bound")
    }

    /// The process's number.
    pub(crate) fn id(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    /// Listens to the process, as a supervisor does all the time.
    pub(crate) fn hear(&self) {
        self.held.lock().hear();
    }

    /// Whether it lives.
    pub(crate) fn lives(&mut self) -> bool {
        self.process.as_mut().expect("it was started").try_wait().expect("a state").is_none()
    }

    /// What is held of the process's own, without the prefix.
    pub(crate) fn own(&self) -> Vec<String> {
        let mut held = self.held.lock();
        held.hear();
        held.descriptors.keys().filter_map(|name| name.strip_prefix(OWN)).map(str::to_owned).collect()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill().expect("killed");
        process.wait().expect("reaped");
        self.held.lock().hear_all();
    }

    /// Waits until every thread of the process sleeps: then it has taken note of all that it wrote.
    pub(crate) async fn settled(&self) {
        let tasks = format!("/proc/{}/task", self.process.as_ref().expect("it runs").id());
        eventually("the process is at rest", || {
            std::fs::read_dir(&tasks).expect("it runs").flatten().all(|task| {
                let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
                stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('S'))
            })
        })
        .await;
    }

    pub(crate) async fn kill_and_restart(&mut self) {
        self.kill();
        self.restart().await;
    }

    /// Starts a process with all that is held, and waits until it serves.
    #[allow(clippy::disallowed_methods, reason = "the process under test")]
    pub(crate) async fn restart(&mut self) {
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .expect("a pair");
        let listen = if self.held.lock().descriptors.contains_key("http.0") {
            self.address()
        } else {
            SocketAddr::from(([127, 0, 0, 1], 0))
        };
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["--exact", "killed::process::gateway", "--ignored", "--nocapture"]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.env(LISTEN, listen.to_string()).env(UPSTREAM, self.upstream.to_string());
        command.envs(self.state.iter().map(|state| (STATE, state.path())));
        {
            let mut held = self.held.lock();
            let named = held.descriptors.iter().map(|(name, owned)| (name.as_str(), owned.as_raw_fd()));
            command.env(INHERITED, descriptors::format(named));
            command.env(SUPERVISOR, theirs.as_raw_fd().to_string());
            let numbers = held.descriptors.values().map(|owned| owned.as_raw_fd());
            pass_on(&mut command, numbers.chain([theirs.as_raw_fd()]).collect());
            self.process = Some(command.spawn().expect("started"));
            held.descriptors.retain(|name, _| !name.starts_with(&format!("{OWN}{NEW}")));
            held.channel = Some(ours);
            held.ready = false;
        }
        eventually("the process serves", || {
            let mut held = self.held.lock();
            held.hear();
            held.ready
        })
        .await;
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Lets the new process have these descriptors, and no other one.
#[allow(unsafe_code)]
fn pass_on(command: &mut Command, numbers: Vec<RawFd>) {
    let inherit = move || {
        for number in &numbers {
            // SAFETY: the supervisor owns them until the process has been started.
            fcntl(unsafe { BorrowedFd::borrow_raw(*number) }, FcntlArg::F_SETFD(FdFlag::empty()))?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec it makes system calls only.
    unsafe { command.pre_exec(inherit) };
}
