//! Whether anything moves on a stream.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

/// When something moved last.
#[derive(Clone)]
pub(super) struct Moved(Arc<Mutex<Instant>>);

impl Default for Moved {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }
}

impl Moved {
    /// Something moves now.
    pub(super) fn note(&self) {
        *self.0.lock() = Instant::now();
    }

    /// Resolves when nothing has moved for that long.
    pub(super) async fn stopped_for(&self, limit: Duration) {
        loop {
            let due = *self.0.lock() + limit;
            if due <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_moves_is_not_ended() {
        let (moved, limit) = (Moved::default(), Duration::from_millis(200));
        let noting = moved.clone();
        let moving = async move {
            for _ in 0..10 {
                tokio::time::sleep(limit / 5).await;
                noting.note();
            }
        };
        let ending = async {
            moved.stopped_for(limit).await;
            // Whenever that was: nothing had moved for so long.
            assert!(moved.0.lock().elapsed() >= limit);
        };
        tokio::join!(moving, ending);
    }
}
