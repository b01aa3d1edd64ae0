//! Where secrets lie: in memory, where the engine sees the same directory.

use std::{
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use super::beneath;

const MEMORY: &str = "/dev/shm";
/// What container engines call the `/dev/shm` that they give to a container.
const PRIVATE: &str = "shm";

/// The node's directory below the machine's `/dev/shm`; none when that is not in memory, or not the machine's.
///
/// A container has a `/dev/shm` of its own, which the engine does not see: there, the node's directory itself must
/// have been mounted from the machine (`warren up` does that).
pub(super) fn in_memory(cluster: &str, node: &str) -> Option<PathBuf> {
    let memory = Path::new(MEMORY);
    let place = memory.join("warren").join(cluster).join(node);
    if !statfs(memory).is_ok_and(|fs| fs.filesystem_type() == TMPFS_MAGIC) {
        return None;
    }
    // Every user may make directories in /dev/shm.
    if let Err(error) = warren_runtime::private::is_ours_so_far(&place) {
        tracing::error!(error = format!("{error:#}"), "secrets cannot be kept in memory");
        return None;
    }
    let device = |path: &Path| path.metadata().map(|meta| meta.dev()).ok();
    if device(&place).is_some() && device(&place) != device(memory) {
        return statfs(&place).is_ok_and(|fs| fs.filesystem_type() == TMPFS_MAGIC).then_some(place);
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    if source_of(&mounts, MEMORY) == Some(PRIVATE) {
        return None;
    }
    match beneath::make_own(memory, &["warren", cluster, node]) {
        Ok(()) => Some(place),
        Err(error) => {
            tracing::error!(
                directory = %place.display(),
                %error,
                "this directory in the machine's memory is not the agent's alone: remove it (rm -r /dev/shm/warren), \
                 then restart the agent"
            );
            None
        }
    }
}

/// What is mounted at `point`, from `/proc/self/mountinfo` (see proc(5)); the last mount covers earlier ones.
fn source_of<'a>(mounts: &'a str, point: &str) -> Option<&'a str> {
    let mut at_point = mounts.lines().filter(|line| line.split(' ').nth(4) == Some(point));
    at_point.next_back()?.split_once(" - ")?.1.split(' ').nth(1)
}

/// Checks, where the engine is, that nobody else decides what lies at the directory from [`in_memory`]: in a container
/// its parents are out of sight.
pub(super) fn check(place: &Path) -> io::Result<()> {
    let Ok(inside) = place.strip_prefix(MEMORY) else { return Ok(()) };
    let parts: Vec<&str> = inside.iter().filter_map(|part| part.to_str()).collect();
    beneath::make_own(Path::new(MEMORY), &parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_containers_own_memory_is_told_from_the_machines() {
        let machine =
            "20 1 8:1 / / rw - ext4 /dev/vda rw\n24 20 0:22 / /dev/shm rw,nosuid shared:3 - tmpfs tmpfs rw\n";
        let container = "93 81 0:51 / /dev/shm rw,nosuid - tmpfs shm rw,size=65536k\n";
        assert_eq!(source_of(machine, MEMORY), Some("tmpfs"));
        assert_eq!(source_of(container, MEMORY), Some("shm"));
        assert_eq!(source_of(machine, "/elsewhere"), None);
    }
}
