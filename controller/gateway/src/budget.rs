//! How many connections and requests one worker has at a time, in all and for each client: what they may occupy is
//! bounded by the memory that there is, and one client alone cannot use it up.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::Arc,
};

use parking_lot::Mutex;

/// What a connection occupies at most: the head of a request, or what was read of a body.
const CONNECTION: u64 = 64 << 10;
/// What a request in flight occupies at most: both directions' buffers.
const REQUEST: u64 = 128 << 10;
const LEAST: usize = 256;
const MOST: usize = 1 << 17;

/// The share of each worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) connections: usize,
    pub(crate) requests: usize,
}

impl Limits {
    /// Half of the memory is for connections, half for requests.
    pub(crate) fn of(memory: u64, workers: usize) -> Self {
        let share = memory / 2 / workers.max(1) as u64;
        let count = |each: u64| usize::try_from(share / each).unwrap_or(MOST).clamp(LEAST, MOST);
        Self { connections: count(CONNECTION), requests: count(REQUEST) }
    }
}

/// Places of one kind. Only its own thread uses it; the lock is never contended.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_client: HashMap<IpAddr, usize>,
}

/// One place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Taking {
    budget: Arc<Budget>,
    client: IpAddr,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, taken: Mutex::default() })
    }

    /// A place; none when all are taken, or half of them and this client has an eighth already.
    pub(crate) fn take(self: &Arc<Self>, client: IpAddr) -> Option<Taking> {
        let mut taken = self.taken.lock();
        let busy = taken.all >= self.limit / 2;
        let own = taken.by_client.get(&client).copied().unwrap_or(0);
        if taken.all >= self.limit || (busy && own >= self.limit / 8) {
            return None;
        }
        taken.all += 1;
        taken.by_client.insert(client, own + 1);
        Some(Taking { budget: self.clone(), client })
    }
}

impl Drop for Taking {
    fn drop(&mut self) {
        let mut taken = self.budget.taken.lock();
        taken.all = taken.all.saturating_sub(1);
        if let Entry::Occupied(mut own) = taken.by_client.entry(self.client) {
            *own.get_mut() -= 1;
            if *own.get() == 0 {
                own.remove();
            }
        }
    }
}

/// The memory that this process may use: its control group's limit, else the machine's.
pub fn available_memory() -> u64 {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let meminfo = read("/proc/meminfo");
    let total = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let groups = read("/proc/self/cgroup");
    let limits = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?.trim_end_matches('/'));
        // In a container, its own group is mounted as the root.
        let files = if controllers.is_empty() {
            [format!("/sys/fs/cgroup{path}/memory.max"), "/sys/fs/cgroup/memory.max".to_owned()]
        } else if controllers.split(',').any(|name| name == "memory") {
            let root = "/sys/fs/cgroup/memory";
            [format!("{root}{path}/memory.limit_in_bytes"), format!("{root}/memory.limit_in_bytes")]
        } else {
            return None;
        };
        files.iter().find_map(|file| read(file).trim().parse::<u64>().ok())
    });
    limits.chain(total.map(|kilobytes| kilobytes << 10)).min().unwrap_or(1 << 30)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_does_not_take_all_places() {
        let budget = Budget::new(16);
        let client = |last: u8| IpAddr::from([192, 0, 2, last]);
        let mut greedy: Vec<_> = std::iter::from_fn(|| budget.take(client(1))).collect();
        assert_eq!(greedy.len(), 8, "half, while nobody else is there");
        let others: Vec<_> =
            (2..6).flat_map(|last| [budget.take(client(last)), budget.take(client(last))]).collect();
        assert!(others.iter().all(Option::is_some));
        assert!(budget.take(client(9)).is_none(), "all are taken");
        greedy.pop();
        assert!(budget.take(client(1)).is_none(), "it has more than its part");
        assert!(budget.take(client(9)).is_some());
        drop((greedy, others));
        assert_eq!(budget.taken.lock().all, 0);
        assert!(budget.taken.lock().by_client.is_empty());
    }

    #[test]
    fn limits_follow_the_memory() {
        assert_eq!(Limits::of(256 << 20, 2), Limits { connections: 1024, requests: 512 });
        assert_eq!(Limits::of(0, 0), Limits { connections: LEAST, requests: LEAST });
        assert_eq!(Limits::of(u64::MAX, 1), Limits { connections: MOST, requests: MOST });
        assert!(available_memory() > 1 << 20);
    }
}
