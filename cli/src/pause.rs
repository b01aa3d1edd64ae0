//! `warren pause`: process 1 of a pod's sandbox. It holds the pod's namespaces, reaps orphans, and
//! exits at once when told to.

use std::{ffi::OsString, process::ExitCode};

use nix::{
    errno::Errno,
    sys::{
        signal::{SigSet, Signal},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
};

/// Whether the command line asks for the pause process: by subcommand, or by the name it was called, and nothing else.
/// With anything more (`--help`) it is a person's, and answered as any other.
pub(crate) fn is_meant(mut arguments: impl Iterator<Item = OsString>) -> bool {
    let called = arguments.next().unwrap_or_default();
    let by_name = called.as_encoded_bytes().rsplit(|byte| *byte == b'/').next() == Some(b"pause");
    (by_name || arguments.next().is_some_and(|first| first == "pause")) && arguments.next().is_none()
}

/// Sleeps until SIGTERM or SIGINT. Allocates nothing and starts no thread.
pub(crate) fn run() -> ExitCode {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD] {
        signals.add(signal);
    }
    // Blocked signals stay pending until `wait` takes them, also those sent to process 1.
    if signals.thread_block().is_err() {
        return ExitCode::FAILURE;
    }
    loop {
        match signals.wait() {
            Ok(Signal::SIGCHLD) => reap(),
            Ok(_) => return ExitCode::SUCCESS,
            Err(Errno::EINTR) => {}
            Err(_) => return ExitCode::FAILURE,
        }
    }
}

fn reap() {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(arguments: &[&str]) -> bool {
        is_meant(arguments.iter().map(OsString::from))
    }

    #[test]
    fn pause_is_recognised_by_subcommand_and_by_name() {
        assert!(meant(&["/warren", "pause"]));
        assert!(meant(&["/usr/bin/pause"]));
        assert!(meant(&["pause"]));
        assert!(!meant(&["/warren", "pause", "--help"]) && !meant(&["pause", "--help"]));
        assert!(!meant(&["/warren", "up", "pause"]));
        assert!(!meant(&["/warren"]));
        assert!(!meant(&[]));
    }
}
