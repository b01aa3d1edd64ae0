//! Processes of containers, as this machine's kernel knows them.
//!
//! An engine names processes by number, and numbers are given anew: nothing is done to a process before its cgroup
//! was seen to be the container's.

use std::{fs::File, io};

use nix::{
    errno::Errno,
    sys::signal::Signal,
    unistd::{Pid, getpgid},
};

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

/// Tells a command in a container, and the processes of its group, that nobody listens any more.
pub(super) fn hang_up(pid: i64, container: &str) -> io::Result<()> {
    let Some(process) = own(pid, container) else { return Ok(()) };
    // The engine makes each command the leader of a group. Were it none, the group would be somebody else's.
    let leads = getpgid(Some(process)).is_ok_and(|group| group == process);
    send(if leads { Pid::from_raw(-process.as_raw()) } else { process }, Signal::SIGHUP)
}

/// Kills one process of a container.
pub(super) fn kill(pid: i64, container: &str) -> io::Result<()> {
    own(pid, container).map_or(Ok(()), |process| send(process, Signal::SIGKILL))
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
        hang_up(own, "0123456789abcdef").unwrap();
        let refused = network_namespace(own, "0123456789abcdef").unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::NotFound);
    }
}
