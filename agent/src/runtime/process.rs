//! Processes of containers, as this machine's kernel knows them.
//!
//! An engine names processes by number, and numbers are given anew: nothing is done to a process before its cgroup
//! was seen to be the container's.

use std::{
    collections::BTreeSet,
    fs::File,
    io,
    net::{SocketAddr, TcpStream as BlockingStream},
    time::Duration,
};

use nix::{
    errno::Errno,
    sched::{CloneFlags, setns},
    sys::signal::Signal,
    unistd::{Pid, getpgid},
};
use rustix::process::{Pid as KernelPid, PidfdFlags, Signal as KernelSignal, pidfd_open, pidfd_send_signal};
use tokio::{net::TcpStream, sync::oneshot};

/// How often a family of processes is looked for again: one that forks while it is killed has new members.
const HUNTS: usize = 16;

/// Whether a process is one of the container's.
pub fn belongs(pid: i64, container: &str) -> bool {
    let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    // The engine's identifier ends the path, or is followed by ".scope" or by cgroups of the container's own.
    pid > 1 && !container.is_empty() && cgroups.contains(container)
}

/// The network namespace of a container, by its first process.
pub fn network_namespace(pid: i64, container: &str) -> io::Result<File> {
    let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
    // Looked at afterwards: what was opened before cannot be another's then.
    if belongs(pid, container) {
        return Ok(namespace);
    }
    Err(io::Error::new(io::ErrorKind::NotFound, "the pod's sandbox runs no more"))
}

/// Connects to the first of these addresses that answers, inside a network namespace; fails with what each said.
pub(crate) async fn connect_inside(
    namespace: File,
    addresses: Vec<SocketAddr>,
    limit: Duration,
) -> io::Result<TcpStream> {
    let (answer, answered) = oneshot::channel();
    // A namespace belongs to a thread: one is made for the purpose, and ends with it.
    let work = move || {
        let entered = setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(io::Error::from);
        let _ = answer.send(entered.and_then(|()| connect_here(&addresses, limit)));
    };
    std::thread::Builder::new().name("connect in a pod".to_owned()).spawn(work)?;
    let connected = answered.await.map_err(|_| io::Error::other("the thread that connects has died"))??;
    connected.set_nonblocking(true)?;
    TcpStream::from_std(connected)
}

fn connect_here(addresses: &[SocketAddr], limit: Duration) -> io::Result<BlockingStream> {
    let mut failures: Vec<(SocketAddr, io::Error)> = Vec::new();
    for address in addresses {
        match BlockingStream::connect_timeout(address, limit) {
            Ok(stream) => return Ok(stream),
            Err(error) => failures.push((*address, error)),
        }
    }
    let kind = failures.first().map_or(io::ErrorKind::NotFound, |(_, error)| error.kind());
    let said: Vec<String> = failures.iter().map(|(address, error)| format!("{address}: {error}")).collect();
    Err(io::Error::new(kind, said.join(", ")))
}

/// Tells a command in a container, and the processes of its group, that nobody listens any more.
pub(super) fn hang_up(pid: i64, container: &str) -> io::Result<()> {
    let Some(process) = own(pid, container) else { return Ok(()) };
    // The engine makes each command the leader of a group. Were it none, the group would be another process'.
    let leads = getpgid(Some(process)).is_ok_and(|group| group == process);
    send(if leads { Pid::from_raw(-process.as_raw()) } else { process }, Signal::SIGHUP)
}

/// Kills one process of a container.
pub(super) fn kill(pid: i64, container: &str) -> io::Result<()> {
    let Some(process) = i32::try_from(pid).ok().and_then(KernelPid::from_raw) else { return Ok(()) };
    let gone = |error: rustix::io::Errno| match error {
        // It has ended by itself.
        rustix::io::Errno::SRCH => Ok(()),
        error => Err(error.into()),
    };
    // From here on the descriptor means one process, whichever process gets its number after it. That it is the container's is seen
    // afterwards: a process that ended in between is signalled no more.
    let descriptor = match pidfd_open(process, PidfdFlags::empty()) {
        Ok(descriptor) => descriptor,
        Err(error) => return gone(error),
    };
    if !belongs(pid, container) {
        return Ok(());
    }
    pidfd_send_signal(descriptor, KernelSignal::KILL).or_else(gone)
}

/// Kills a command in a container, and everything that it started and that did not leave its session or its family.
/// The engine makes each command the leader of a session.
pub(super) fn kill_tree(pid: i64, container: &str) -> io::Result<()> {
    for _ in 0..HUNTS {
        let family = family(pid, &processes()?);
        let family: Vec<i64> = family.into_iter().filter(|member| belongs(*member, container)).collect();
        if family.is_empty() {
            return Ok(());
        }
        // The process that was started last first: a parent that sees its child die may still start another, and is next.
        for member in family.iter().rev() {
            kill(*member, container)?;
        }
    }
    Err(io::Error::other("it starts processes faster than they can be killed"))
}

/// A process, its parent and the leader of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Relation {
    pid: i64,
    parent: i64,
    session: i64,
}

/// Every process of this machine that lives.
fn processes() -> io::Result<Vec<Relation>> {
    let entries = std::fs::read_dir("/proc")?.flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i64>().ok());
    // One that ends meanwhile is none.
    Ok(numbers
        .filter_map(|pid| relation(pid, &std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?))
        .collect())
}

/// Reads `/proc/PID/stat`: the name in parentheses may hold anything, also parentheses.
fn relation(pid: i64, stat: &str) -> Option<Relation> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    let (parent, _group, session) = (fields.next()?, fields.next()?, fields.next()?);
    let is_dead = matches!(state, "Z" | "X" | "x");
    (!is_dead).then_some(Relation { pid, parent: parent.parse().ok()?, session: session.parse().ok()? })
}

/// The process, those of its session, and their descendants.
fn family(leader: i64, all: &[Relation]) -> BTreeSet<i64> {
    let is_near = |relation: &&Relation| relation.pid == leader || relation.session == leader;
    let mut family: BTreeSet<i64> = all.iter().filter(is_near).map(|relation| relation.pid).collect();
    loop {
        let children = all.iter().filter(|relation| family.contains(&relation.parent));
        let children: Vec<i64> =
            children.map(|relation| relation.pid).filter(|pid| !family.contains(pid)).collect();
        if children.is_empty() {
            return family;
        }
        family.extend(children);
    }
}

fn own(pid: i64, container: &str) -> Option<Pid> {
    i32::try_from(pid).ok().filter(|_| belongs(pid, container)).map(Pid::from_raw)
}

fn send(target: Pid, signal: Signal) -> io::Result<()> {
    match nix::sys::signal::kill(target, signal) {
        // It has ended by itself.
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_process_is_neither_entered_nor_signalled() {
        let own = i64::from(std::process::id());
        assert!(!belongs(own, "0123456789abcdef") && !belongs(own, "") && !belongs(0, "0123456789abcdef"));
        // This test would not survive it.
        kill(own, "0123456789abcdef").unwrap();
        kill_tree(own, "0123456789abcdef").unwrap();
        hang_up(own, "0123456789abcdef").unwrap();
        let refused = network_namespace(own, "0123456789abcdef").unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_family_is_a_session_and_all_descendants() {
        let of = |pid, parent, session| Relation { pid, parent, session };
        let all = [
            of(1, 0, 1),
            of(10, 1, 10),
            of(11, 10, 10),
            of(12, 11, 12),
            of(13, 12, 12),
            of(14, 1, 10),
            of(20, 1, 20),
        ];
        assert_eq!(family(10, &all), BTreeSet::from([10, 11, 12, 13, 14]));
        // The leader has ended: who stayed in its session is left, and theirs.
        assert_eq!(family(10, &all[2..]), BTreeSet::from([11, 12, 13, 14]));
        assert_eq!(family(99, &all), BTreeSet::new());
    }

    #[test]
    fn relations_are_read_whatever_a_process_calls_itself() {
        let read = |stat: &str| relation(7, stat).map(|read| (read.parent, read.session));
        assert_eq!(read("7 (a) S 1 7 7 0 -1"), Some((1, 7)));
        assert_eq!(read("7 (x) Z 9 9 9) R 3 4 5 0"), Some((3, 5)));
        assert_eq!(read("7 (a) Z 1 7 7"), None, "a zombie is dead");
        assert!([read(""), read("7 (a"), read("7 (a) S"), read("7 (a) S x y z")].iter().all(Option::is_none));
        let own = processes().unwrap();
        assert!(own.iter().any(|process| process.pid == i64::from(std::process::id())));
    }

    #[tokio::test]
    async fn a_refusal_names_each_address_and_a_server_is_reached() {
        let own = || File::open("/proc/self/ns/net").unwrap();
        let server = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = server.local_addr().unwrap().port();
        let both: Vec<SocketAddr> =
            vec![([127, 0, 0, 1], port).into(), (std::net::Ipv6Addr::LOCALHOST, port).into()];
        let second = Duration::from_secs(10);
        assert!(connect_inside(own(), both.clone(), second).await.is_ok());
        drop(server);
        let refused = connect_inside(own(), both, second).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let refused = refused.to_string();
        assert!(refused.contains(&format!("127.0.0.1:{port}: ")) && refused.contains("[::1]"), "{refused}");
    }
}
