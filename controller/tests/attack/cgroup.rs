//! A control group with a limit of memory, of either version.

use std::{fs, path::PathBuf};

const ROOT: &str = "/sys/fs/cgroup";

pub(crate) struct Cgroup {
    directory: PathBuf,
    is_unified: bool,
}

impl Cgroup {
    /// A new one, which may hold so many bytes and no swap.
    pub(crate) fn new(limit: u64) -> Self {
        let root = PathBuf::from(ROOT);
        let is_unified = root.join("cgroup.controllers").exists();
        let parent = if is_unified { root } else { root.join("memory") };
        if is_unified {
            // It may be on already, and then this changes nothing.
            let _ = fs::write(parent.join("cgroup.subtree_control"), "+memory");
        }
        let directory = parent.join(format!("warren-attack-{}", std::process::id()));
        fs::create_dir(&directory).expect("a control group can be made: this test runs as root");
        let group = Self { directory, is_unified };
        let (memory, swap) = if is_unified {
            (("memory.max", limit), ("memory.swap.max", 0))
        } else {
            (("memory.limit_in_bytes", limit), ("memory.memsw.limit_in_bytes", limit))
        };
        group.write(memory.0, memory.1).expect("memory can be limited");
        // Kernels without swap accounting do not have it.
        let _ = group.write(swap.0, swap.1);
        group
    }

    fn write(&self, file: &str, value: u64) -> std::io::Result<()> {
        fs::write(self.directory.join(file), value.to_string())
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.directory.join(file)).unwrap_or_default()
    }

    /// Where a process that writes its identifier becomes a member.
    pub(crate) fn procs(&self) -> PathBuf {
        self.directory.join("cgroup.procs")
    }

    /// How many processes the kernel killed because they wanted too much.
    pub(crate) fn killed(&self) -> u64 {
        let counters = self.read(if self.is_unified { "memory.events" } else { "memory.oom_control" });
        let counter = counters.lines().find_map(|line| line.strip_prefix("oom_kill "));
        counter.and_then(|count| count.trim().parse().ok()).expect("the kernel counts whom it kills")
    }

    /// The most that was held at once, in MiB; with the cache of files, which goes when it must.
    pub(crate) fn peak(&self) -> u64 {
        let peak = self.read(if self.is_unified { "memory.peak" } else { "memory.max_usage_in_bytes" });
        peak.trim().parse::<u64>().unwrap_or_default() >> 20
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A process that was killed is gone a moment later.
        for _ in 0..1_000 {
            match fs::remove_dir(&self.directory) {
                Err(_) if self.directory.exists() => std::thread::yield_now(),
                _ => return,
            }
        }
    }
}
