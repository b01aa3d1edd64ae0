//! What the machine and its pods use: read from the kernel's control groups about every ten seconds, without asking
//! the container engine, and told to the controller, which keeps the last report.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use warren_proto::control::{ContainerUsage, PodUsage, Usage, UsageReport, control_client::ControlClient};
use warren_runtime::{CancellationToken, connection::Controller};

use crate::{
    plan::Kind,
    runtime::{ContainerEngine, Found, watch::Inventory},
};

/// How often is measured, and thus over how long.
const PERIOD: Duration = Duration::from_secs(10);
const CALL: Duration = Duration::from_secs(10);
/// The kernel's clock ticks of /proc/stat: 100 a second on every architecture.
const TICK_NANOS: u64 = 10_000_000;

/// Measures and reports until `stop`.
pub(crate) async fn run<E: ContainerEngine>(
    inventory: Arc<Inventory<E>>,
    controller: Controller,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut before: Option<Sample> = None;
    let mut client = None;
    loop {
        let found = inventory.current().unwrap_or_default();
        let sample = tokio::task::spawn_blocking(move || Sample::take(found)).await?;
        if let Some(report) = before.as_ref().map(|before| sample.since(before)) {
            client = match send(client, &controller, report).await {
                Ok(client) => Some(client),
                Err(error) => {
                    tracing::debug!(error = format!("{error:#}"), "cannot report the usage; trying again");
                    None
                }
            };
        }
        before = Some(sample);
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

type Client = ControlClient<tonic::transport::Channel>;

async fn send(
    client: Option<Client>,
    controller: &Controller,
    report: UsageReport,
) -> anyhow::Result<Client> {
    let mut client = match client {
        Some(client) => client,
        None => ControlClient::new(tokio::time::timeout(CALL, controller.channel()).await??),
    };
    tokio::time::timeout(CALL, client.report_usage(report)).await??;
    Ok(client)
}

/// Counters at one moment.
struct Sample {
    time: Instant,
    node: Reading,
    /// By the engine's id.
    containers: BTreeMap<String, (Found, Reading)>,
}

/// What one control group, or the machine, has used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Reading {
    cpu_nanos: u64,
    memory_bytes: u64,
}

impl Sample {
    fn take(found: BTreeMap<String, Found>) -> Self {
        let groups = Groups::mounted();
        let read = |(id, found): (String, Found)| {
            let wanted = found.pid > 0 && !matches!(found.instance.kind, Kind::Sandbox);
            let reading = wanted.then(|| groups.read(found.pid)).flatten()?;
            Some((id, (found, reading)))
        };
        let containers = found.into_iter().filter_map(read).collect();
        Self { time: Instant::now(), node: machine(), containers }
    }

    /// What was used since another sample. A container that was not in it is left to the next report.
    fn since(&self, before: &Self) -> UsageReport {
        let window = self.time.saturating_duration_since(before.time);
        let usage = |now: &Reading, then: &Reading| {
            let used = u128::from(now.cpu_nanos.saturating_sub(then.cpu_nanos));
            let share = (used * 1_000_000_000).checked_div(window.as_nanos()).unwrap_or(0);
            Some(Usage {
                cpu_nanos: u64::try_from(share).unwrap_or(u64::MAX),
                memory_bytes: now.memory_bytes,
            })
        };
        let mut pods: BTreeMap<String, PodUsage> = BTreeMap::new();
        for (id, (found, now)) in &self.containers {
            let Some((_, then)) = before.containers.get(id) else { continue };
            let pod = pods.entry(found.uid.clone()).or_insert_with(|| PodUsage {
                uid: found.uid.clone(),
                namespace: found.namespace.clone(),
                name: found.pod.clone(),
                containers: Vec::new(),
            });
            pod.containers
                .push(ContainerUsage { name: found.instance.name.clone(), usage: usage(now, then) });
        }
        for pod in pods.values_mut() {
            pod.containers.sort_by(|left, right| left.name.cmp(&right.name));
        }
        UsageReport {
            window_milliseconds: u64::try_from(window.as_millis()).unwrap_or(u64::MAX),
            node: usage(&self.node, &before.node),
            pods: pods.into_values().collect(),
        }
    }
}

/// Where the kernel shows control groups: the unified hierarchy, or one per controller.
#[derive(Debug, Default, PartialEq, Eq)]
struct Groups {
    mounts: Vec<Mount>,
}

#[derive(Debug, PartialEq, Eq)]
struct Mount {
    /// Controllers of a hierarchy of version 1; empty for the unified one.
    controllers: Vec<String>,
    /// Which group is at the mount point.
    root: PathBuf,
    point: PathBuf,
}

impl Groups {
    fn mounted() -> Self {
        Self::parse(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
    }

    /// From the text of `mountinfo`.
    fn parse(text: &str) -> Self {
        let mount = |line: &str| {
            let (place, what) = line.split_once(" - ")?;
            let place: Vec<&str> = place.split(' ').collect();
            let what: Vec<&str> = what.split(' ').collect();
            let (root, point) = (PathBuf::from(place.get(3)?), PathBuf::from(place.get(4)?));
            let controllers = match *what.first()? {
                "cgroup2" => Vec::new(),
                "cgroup" => what.get(2)?.split(',').map(str::to_owned).collect(),
                _ => return None,
            };
            Some(Mount { controllers, root, point })
        };
        Self { mounts: text.lines().filter_map(mount).collect() }
    }

    /// What the group of a process has used.
    fn read(&self, pid: i64) -> Option<Reading> {
        let membership = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        if let Some(directory) = self.directory(&membership, "memory") {
            let cpu = self.directory(&membership, "cpuacct")?;
            return Some(Reading {
                cpu_nanos: number(&cpu.join("cpuacct.usage"))?,
                memory_bytes: number(&directory.join("memory.usage_in_bytes"))?.saturating_sub(
                    field(&directory.join("memory.stat"), "total_inactive_file").unwrap_or(0),
                ),
            });
        }
        let directory = self.directory(&membership, "")?;
        Some(Reading {
            cpu_nanos: field(&directory.join("cpu.stat"), "usage_usec")?.saturating_mul(1000),
            memory_bytes: number(&directory.join("memory.current"))?
                .saturating_sub(field(&directory.join("memory.stat"), "inactive_file").unwrap_or(0)),
        })
    }

    /// Where the group is in the hierarchy of a controller (empty: in the unified one), by a text of
    /// `/proc/PID/cgroup`.
    fn directory(&self, membership: &str, controller: &str) -> Option<PathBuf> {
        let path = membership.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next()?, parts.next()?);
            controllers.split(',').any(|name| name == controller).then(|| PathBuf::from(path))
        })?;
        self.mounts.iter().find_map(|mount| {
            let here = if controller.is_empty() {
                mount.controllers.is_empty()
            } else {
                mount.controllers.iter().any(|name| name == controller)
            };
            let below = here.then(|| path.strip_prefix(&mount.root).ok()).flatten()?;
            Some(mount.point.join(below))
        })
    }
}

/// A file that holds one number.
fn number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// A number by its name, in a file of "NAME NUMBER" lines.
fn field(path: &Path, name: &str) -> Option<u64> {
    named(&std::fs::read_to_string(path).ok()?, name)
}

fn named(text: &str, name: &str) -> Option<u64> {
    let mut fields = text.lines().map(str::split_whitespace);
    fields.find_map(
        |mut line| if line.next()?.trim_end_matches(':') == name { line.next()?.parse().ok() } else { None },
    )
}

/// The whole machine.
fn machine() -> Reading {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let memory = read("/proc/meminfo");
    let total = named(&memory, "MemTotal").unwrap_or(0);
    let available = named(&memory, "MemAvailable").unwrap_or(0);
    Reading {
        cpu_nanos: busy_ticks(&read("/proc/stat")).saturating_mul(TICK_NANOS),
        memory_bytes: total.saturating_sub(available).saturating_mul(1024),
    }
}

/// Ticks in which the processors did something: all of the first line but idle, waiting and what guests had twice.
fn busy_ticks(stat: &str) -> u64 {
    let line = stat.lines().next().unwrap_or("");
    let ticks = line.split_whitespace().skip(1).take(8).map(|ticks| ticks.parse::<u64>().unwrap_or(0));
    ticks.enumerate().filter(|(position, _)| ![3, 4].contains(position)).map(|(_, ticks)| ticks).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Instance, Phase};

    const VERSION_1: &str = "\
        31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
        33 31 0:30 /docker/node /sys/fs/cgroup/cpu,cpuacct ro,nosuid - cgroup cgroup rw,cpu,cpuacct\n\
        34 31 0:31 /docker/node /sys/fs/cgroup/memory ro,nosuid - cgroup cgroup rw,memory\n";

    #[test]
    fn groups_are_found_in_both_versions() {
        let groups = Groups::parse(VERSION_1);
        let membership =
            "9:memory:/docker/node/pod\n3:cpu,cpuacct:/docker/node/pod\n1:name=systemd:/x\n0::/\n";
        assert_eq!(groups.directory(membership, "memory"), Some(PathBuf::from("/sys/fs/cgroup/memory/pod")));
        assert_eq!(
            groups.directory(membership, "cpuacct"),
            Some(PathBuf::from("/sys/fs/cgroup/cpu,cpuacct/pod"))
        );
        assert_eq!(groups.directory("9:memory:/elsewhere\n", "memory"), None, "what is not mounted here");
        let unified =
            Groups::parse("30 23 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n");
        let membership = "0::/system.slice/docker-1.scope\n";
        assert_eq!(unified.directory(membership, "memory"), None);
        let scope = PathBuf::from("/sys/fs/cgroup/system.slice/docker-1.scope");
        assert_eq!(unified.directory(membership, ""), Some(scope));
    }

    #[test]
    fn our_own_group_can_be_read() {
        let reading =
            Groups::mounted().read(i64::from(std::process::id())).expect("control groups are mounted");
        assert!(reading.cpu_nanos > 0 && reading.memory_bytes > 0, "{reading:?}");
        let machine = machine();
        assert!(machine.cpu_nanos > 0 && machine.memory_bytes > 0, "{machine:?}");
    }

    #[test]
    fn numbers_are_found_by_name() {
        assert_eq!(named("MemTotal:  16 kB\nMemAvailable: 4 kB\n", "MemAvailable"), Some(4));
        assert_eq!(named("inactive_file 7\n", "active_file"), None);
        assert_eq!(busy_ticks("cpu  1 2 3 1000 1000 4 5 6 7 8\ncpu0 9"), 21);
    }

    #[test]
    fn usage_is_what_was_added_in_the_window() {
        let found = |name: &str| Found {
            uid: "u".into(),
            pod: "p".into(),
            namespace: "n".into(),
            instance: Instance {
                id: name.into(),
                kind: Kind::App,
                name: name.into(),
                attempt: 0,
                streak: 0,
                sandbox: String::new(),
                image: String::new(),
                image_id: String::new(),
                stop_signal: String::new(),
                phase: Phase::Created,
            },
            pid: 1,
            last_words: crate::runtime::LastWords::default(),
        };
        let sample = |time, cpu_nanos, names: &[&str]| Sample {
            time,
            node: Reading { cpu_nanos: cpu_nanos * 2, memory_bytes: 100 },
            containers: names
                .iter()
                .map(|name| ((*name).to_owned(), (found(name), Reading { cpu_nanos, memory_bytes: 7 })))
                .collect(),
        };
        let start = Instant::now();
        let before = sample(start, 1_000_000_000, &["b", "a"]);
        let after = sample(start + Duration::from_secs(2), 2_000_000_000, &["a", "b", "new"]);
        let report = after.since(&before);
        assert_eq!(report.window_milliseconds, 2000);
        assert_eq!(report.node, Some(Usage { cpu_nanos: 1_000_000_000, memory_bytes: 100 }));
        let names: Vec<&str> =
            report.pods[0].containers.iter().map(|container| container.name.as_str()).collect();
        assert_eq!(names, ["a", "b"], "the new one is left to the next report");
        let half = Some(Usage { cpu_nanos: 500_000_000, memory_bytes: 7 });
        assert_eq!(report.pods[0].containers[0].usage, half);
    }
}
