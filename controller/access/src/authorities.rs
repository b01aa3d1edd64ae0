//! The last index that was asked for: led on by what differs, never made anew.

use std::sync::{Arc, PoisonError, RwLock};

use warren_state::Snapshot;

use crate::Access;

/// The index of the newest state that was asked for.
#[derive(Default)]
pub struct Authorities {
    last: RwLock<(Snapshot, Arc<Access>)>,
}

impl std::fmt::Debug for Authorities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authorities").finish_non_exhaustive()
    }
}

impl Authorities {
    /// Who may do what in a state. Of one that is older than what was asked for before, the newer answer holds: a right
    /// that was taken away does not come back.
    pub fn of(&self, snapshot: &Snapshot) -> Arc<Access> {
        {
            let last = self.last.read().unwrap_or_else(PoisonError::into_inner);
            if is_new_enough(&last.0, snapshot) {
                return Arc::clone(&last.1);
            }
        }
        let mut last = self.last.write().unwrap_or_else(PoisonError::into_inner);
        if !is_new_enough(&last.0, snapshot) {
            let (before, access) = &mut *last;
            if before.is_empty() {
                *access = Arc::new(Access::of(snapshot));
            } else {
                for difference in snapshot.diff(before).filter(Access::concerns) {
                    Arc::make_mut(access).apply(&difference);
                }
            }
            *before = snapshot.clone();
        }
        Arc::clone(&last.1)
    }
}

fn is_new_enough(last: &Snapshot, wanted: &Snapshot) -> bool {
    last.epoch == wanted.epoch && last.revision >= wanted.revision
}
