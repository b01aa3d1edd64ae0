//! The one loop: a wake-up carries no data; every pass looks at the whole world.

use std::{sync::Arc, time::Duration};

use rand::Rng as _;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// What a pass has to say about the next one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pass {
    /// Something failed that may succeed later: try again with back-off.
    pub retry: bool,
    /// The plan changes by itself at this time from now (a deadline, a probe).
    pub wake_after: Option<Duration>,
}

const FIRST_RETRY: Duration = Duration::from_millis(100);

/// Runs `pass` whenever `wake` is notified, when a pass asked for it, and at least every `resync`.
///
/// `stop` is looked at between passes only, so every effect inside a pass needs a time-out of its own.
pub async fn drive(
    name: &'static str,
    wake: Arc<Notify>,
    stop: CancellationToken,
    resync: Duration,
    mut pass: impl AsyncFnMut() -> Pass,
) {
    let mut failures = 0u32;
    loop {
        // `Notify` keeps one permit: a change during the pass runs it again.
        let outcome = pass().await;
        failures = if outcome.retry { failures.saturating_add(1) } else { 0 };
        metrics::counter!("warren_passes_total", "loop" => name).increment(1);
        let jitter = rand::rng().random_range(0.5..1.0);
        let pause = delay(outcome, failures, resync, jitter);
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = wake.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// How long to sleep when nothing wakes us.
fn delay(outcome: Pass, failures: u32, resync: Duration, jitter: f64) -> Duration {
    let retry =
        (failures > 0).then(|| (FIRST_RETRY * 2u32.saturating_pow(failures.min(10) - 1)).mul_f64(jitter));
    [retry, outcome.wake_after, Some(resync)].into_iter().flatten().min().unwrap_or(resync)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_back_off_and_never_exceed_the_resync() {
        let resync = Duration::from_secs(30);
        let failed = Pass { retry: true, wake_after: None };
        assert_eq!(delay(Pass::default(), 0, resync, 1.0), resync);
        assert_eq!(delay(failed, 1, resync, 1.0), Duration::from_millis(100));
        assert_eq!(delay(failed, 3, resync, 1.0), Duration::from_millis(400));
        assert_eq!(delay(failed, 400, resync, 1.0), resync);
        let soon = Pass { retry: false, wake_after: Some(Duration::from_secs(1)) };
        assert_eq!(delay(soon, 0, resync, 1.0), Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_during_a_pass_runs_it_again() {
        let (wake, stop) = (Arc::new(Notify::new()), CancellationToken::new());
        let mut passes = 0;
        let (waker, stopper) = (Arc::clone(&wake), stop.clone());
        drive("test", wake, stop, Duration::from_secs(3_600), async || {
            passes += 1;
            match passes {
                1 => waker.notify_one(),
                _ => stopper.cancel(),
            }
            Pass::default()
        })
        .await;
        assert_eq!(passes, 2);
    }
}
