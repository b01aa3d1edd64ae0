//! How many connections each member may have: a node that is somebody else's by now must not take all there are.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use parking_lot::Mutex;

/// The places of all members.
#[derive(Debug)]
pub(crate) struct Places {
    most: usize,
    taken: Mutex<HashMap<String, usize>>,
}

/// One connection's place; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    member: String,
}

impl Places {
    /// So many for each member.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: Mutex::default() })
    }

    /// A place, if there is one left for this member.
    pub(crate) fn take(self: &Arc<Self>, member: &str) -> Option<Place> {
        let mut taken = self.taken.lock();
        let count = taken.entry(member.to_owned()).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Place { places: Arc::clone(self), member: member.to_owned() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Entry::Occupied(mut taken) = self.places.taken.lock().entry(self.member.clone()) {
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
    fn each_member_has_its_own_places_and_they_come_back() {
        let places = Places::new(2);
        let first: Vec<_> = (0..3).filter_map(|_| places.take("a")).collect();
        assert_eq!(first.len(), 2);
        assert!(places.take("b").is_some());
        drop(first);
        assert!(places.taken.lock().is_empty());
        assert!(places.take("a").is_some());
    }
}
