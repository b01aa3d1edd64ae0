//! Where volumes lie, as the agent sees it and as the engine does.

use std::path::{Path, PathBuf};

use nix::sys::statfs::{TMPFS_MAGIC, statfs};

/// A directory under two names: the agent may look at it through another root than the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The path that the agent writes to.
    pub write: PathBuf,
    /// The path that the engine binds.
    pub bind: PathBuf,
}

impl Place {
    /// The same path for both.
    pub fn on_disk(path: PathBuf) -> Self {
        Self { write: path.clone(), bind: path }
    }

    /// Below the machine's `/dev/shm`. In a node container that shares the machine's process ids, the machine's
    /// own is reached through process 1; none when neither is in memory or process 1 is in a container itself.
    pub fn in_memory(cluster: &str, node: &str) -> Option<Self> {
        const SHARED: &str = "/dev/shm";
        let machine = Path::new("/proc/1/root");
        let relative = Path::new("warren").join(cluster).join(node);
        let through_first = machine.join("dev/shm");
        let is_memory = |path: &Path| statfs(path).is_ok_and(|fs| fs.filesystem_type() == TMPFS_MAGIC);
        if machine.join(".dockerenv").exists() || !is_memory(&through_first) {
            return None;
        }
        Some(Self { write: through_first.join(&relative), bind: Path::new(SHARED).join(relative) })
    }

    /// Names of the directories here.
    pub(super) fn entries(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.write).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }
}
