//! How many connections each member may have: a node that an attacker has must not take all there are.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use parking_lot::Mutex;

/// The connections of all members.
#[derive(Debug)]
pub(crate) struct ConnectionLimit {
    most: usize,
    taken: Mutex<HashMap<String, usize>>,
}

/// One connection's permit; given back when dropped.
#[derive(Debug)]
pub(crate) struct ConnectionPermit {
    limit: Arc<ConnectionLimit>,
    member: String,
}

impl ConnectionLimit {
    /// So many for each member.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: Mutex::default() })
    }

    /// A permit, if there is one left for this member.
    pub(crate) fn take(self: &Arc<Self>, member: &str) -> Option<ConnectionPermit> {
        let mut taken = self.taken.lock();
        let count = taken.entry(member.to_owned()).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(ConnectionPermit { limit: Arc::clone(self), member: member.to_owned() })
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        if let Entry::Occupied(mut taken) = self.limit.taken.lock().entry(self.member.clone()) {
            *taken.get_mut() -= 1;
            if *taken.get() == 0 {
                taken.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_member_has_its_own_permits_and_they_come_back() {
        let limit = ConnectionLimit::new(2);
        let first: Vec<_> = (0..3).filter_map(|_| limit.take("a")).collect();
        assert_eq!(first.len(), 2);
        assert!(limit.take("b").is_some());
        drop(first);
        assert!(limit.taken.lock().is_empty());
        assert!(limit.take("a").is_some());
    }
}
