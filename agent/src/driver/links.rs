//! What netd holds, compared with what we believe: netd or its machine may have started anew.

use std::{sync::Arc, time::Duration};

use warren_runtime::CancellationToken;

use super::Driver;
use crate::{netd::Links, plan::Slot, runtime::ContainerEngine};

const LOOK: Duration = Duration::from_secs(5);
const LOOK_WHEN_ABSENT: Duration = Duration::from_millis(500);

pub(super) async fn watch<E: ContainerEngine, L: Links>(
    driver: Arc<Driver<E, L>>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut was_there = None;
    loop {
        let changes = driver.state.lock().link_changes;
        let is_there = match driver.links.list().await {
            Ok(held) => {
                if was_there != Some(true) {
                    tracing::info!(links = held.len(), "netd answers");
                }
                driver.compare(&held.into_keys().collect(), changes, was_there != Some(true));
                true
            }
            Err(error) => {
                if was_there != Some(false) {
                    tracing::warn!(%error, "pods cannot be plugged in");
                }
                false
            }
        };
        was_there = Some(is_there);
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(if is_there { LOOK } else { LOOK_WHEN_ABSENT }) => {}
        }
    }
}

impl<E: ContainerEngine, L: Links> Driver<E, L> {
    /// Forgets links that netd does not hold, and learns of those we did not know.
    fn compare(&self, held: &std::collections::BTreeSet<String>, changes: u64, returned: bool) {
        let mut state = self.state.lock();
        let mut changed = false;
        if returned {
            for memory in state.memories.values_mut() {
                changed |= memory.failures.remove(&Slot::Link).is_some();
            }
        }
        // A link that was made or cut while netd was listing may or may not be in the list.
        if state.link_changes == changes {
            for (uid, memory) in &mut state.memories {
                if memory.linked && !held.contains(uid) && !memory.busy.contains(&Slot::Link) {
                    tracing::warn!(
                        pod = format!("{}/{}", memory.namespace, memory.name),
                        "netd lost its link"
                    );
                    (memory.linked, memory.relink) = (false, memory.attached_to.is_some());
                    changed = true;
                }
            }
            for uid in held {
                let memory = state.memories.entry(uid.clone()).or_default();
                if !memory.linked && !memory.busy.contains(&Slot::Link) {
                    memory.linked = true;
                    changed = true;
                }
            }
        }
        drop(state);
        if changed {
            self.wake.notify_one();
        }
    }
}
