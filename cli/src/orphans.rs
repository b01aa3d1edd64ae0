//! The children that nobody waits for.
//!
//! A gateway's witness outlives a killed gateway for a moment, and becomes a child of process 1. In a container that is
//! `warren node`, and what process 1 does not wait for stays in the list of processes for ever.

use std::fs;

use nix::{
    sys::wait::{WaitPidFlag, waitpid},
    unistd::Pid,
};
use tokio::signal::unix::{self, SignalKind};
use warren_gateway::WITNESS;

/// Reaps witnesses, where this is process 1; the daemons are waited for by the supervisor.
pub(crate) async fn reap() {
    if std::process::id() != 1 {
        return;
    }
    let mut deaths = match unix::signal(SignalKind::child()) {
        Ok(deaths) => deaths,
        Err(error) => return tracing::warn!(%error, "ended witnesses stay in the list of processes"),
    };
    while deaths.recv().await.is_some() {
        for orphan in witnesses() {
            let _ = waitpid(orphan, Some(WaitPidFlag::WNOHANG));
        }
    }
}

/// The witnesses that are children of process 1.
fn witnesses() -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let stats = entries.flatten().filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    stats.filter_map(|stat| witness(&stat)).collect()
}

/// The process that this line of /proc/PID/stat tells of, if it is such a one: `PID (NAME) STATE PARENT …`.
fn witness(stat: &str) -> Option<Pid> {
    let (pid, rest) = stat.split_once(" (")?;
    let (name, fields) = rest.rsplit_once(") ")?;
    let parent = fields.split(' ').nth(1)?;
    let found = name == WITNESS && parent == "1";
    found.then(|| pid.parse().ok().map(Pid::from_raw))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_witness_is_known_by_its_name_and_its_parent() {
        assert_eq!(witness("26 (witness) Z 1 1 1 0 -1"), Some(Pid::from_raw(26)));
        assert_eq!(witness("26 (witness) S 9 1 1 0 -1"), None, "its gateway lives");
        assert_eq!(witness("26 (warren) Z 1 1 1 0 -1"), None);
        assert_eq!(witness("26 (a) (witness) Z 1 1 1 0 -1"), None);
        assert_eq!(witness(""), None);
    }
}
