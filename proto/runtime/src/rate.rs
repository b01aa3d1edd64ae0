//! Rates: how much one source may have, and how often one thing is said.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// How much there may be at once, and per second in the long run.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// At once, after a pause.
    pub burst: f64,
    /// Per second; more than zero.
    pub per_second: f64,
}

/// What is left of a rate. Pure: time is an argument.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    /// A full one.
    pub fn new(rate: Rate, now: Instant) -> Self {
        Self { left: rate.burst, at: now }
    }

    fn refill(&mut self, rate: Rate, now: Instant) {
        let grown = now.saturating_duration_since(self.at).as_secs_f64() * rate.per_second;
        self.left = (self.left + grown).min(rate.burst);
        self.at = self.at.max(now);
    }

    /// Whether it is full, and so says nothing about its source.
    pub fn is_full(mut self, rate: Rate, now: Instant) -> bool {
        self.refill(rate, now);
        self.left >= rate.burst
    }

    /// Takes so much, if it is there.
    pub fn take(&mut self, amount: f64, rate: Rate, now: Instant) -> bool {
        self.refill(rate, now);
        let is_there = self.left >= amount;
        if is_there {
            self.left -= amount;
        }
        is_there
    }

    /// Takes so much whether it is there or not.
    pub fn owe(&mut self, amount: f64, rate: Rate, now: Instant) {
        self.refill(rate, now);
        self.left -= amount;
    }

    /// How long until nothing is owed.
    pub fn wait(&mut self, rate: Rate, now: Instant) -> Duration {
        self.refill(rate, now);
        let owed = (-self.left).max(0.0) / rate.per_second;
        Duration::try_from_secs_f64(owed).unwrap_or(Duration::MAX)
    }
}

/// Says something that strangers can provoke, but not as often as they like.
#[derive(Debug)]
pub struct Seldom {
    rate: Rate,
    bucket: Mutex<Bucket>,
    unsaid: AtomicU64,
}

impl Seldom {
    /// Ten times at once, then every ten seconds.
    pub fn new() -> Self {
        let rate = Rate { burst: 10.0, per_second: 0.1 };
        Self { rate, bucket: Mutex::new(Bucket::new(rate, Instant::now())), unsaid: AtomicU64::new(0) }
    }

    /// Whether it is to be said now; then how often it was not since it was last.
    pub fn now(&self) -> Option<u64> {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        if bucket.take(1.0, self.rate, Instant::now()) {
            return Some(self.unsaid.swap(0, Ordering::Relaxed));
        }
        self.unsaid.fetch_add(1, Ordering::Relaxed);
        None
    }
}

impl Default for Seldom {
    fn default() -> Self {
        Self::new()
    }
}

/// A stranger's text as it may stand in a log: short, and on one line.
pub fn shown(text: &str) -> String {
    const LONGEST: usize = 64;
    let mut shown: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { burst: 3.0, per_second: 2.0 };

    #[test]
    fn a_bucket_gives_what_it_has_and_fills_again() {
        let start = Instant::now();
        let mut bucket = Bucket::new(RATE, start);
        assert!((0..3).all(|_| bucket.take(1.0, RATE, start)) && !bucket.take(1.0, RATE, start));
        assert!(!bucket.is_full(RATE, start + Duration::from_secs(1)));
        assert!(bucket.is_full(RATE, start + Duration::from_secs(2)));
        let later = start + Duration::from_millis(500);
        assert!(bucket.take(1.0, RATE, later) && !bucket.take(1.0, RATE, later));
        assert!(!bucket.take(1.0, RATE, start), "a clock reading from before gives nothing");
    }

    #[test]
    fn what_is_owed_is_waited_for() {
        let start = Instant::now();
        let mut bucket = Bucket::new(RATE, start);
        bucket.owe(3.0, RATE, start);
        assert_eq!(bucket.wait(RATE, start), Duration::ZERO);
        bucket.owe(10.0, RATE, start);
        assert_eq!(bucket.wait(RATE, start), Duration::from_secs(5));
        assert_eq!(bucket.wait(RATE, start + Duration::from_secs(4)), Duration::from_secs(1));
    }

    #[test]
    fn what_strangers_provoke_is_said_ten_times_and_then_counted() {
        let seldom = Seldom::new();
        let said = (0..1_000).filter(|_| seldom.now().is_some()).count();
        assert!((10..20).contains(&said), "{said}");
    }

    #[test]
    fn a_strangers_text_is_short_and_on_one_line() {
        assert_eq!(shown("node-1"), "node-1");
        assert_eq!(shown("a\nb\u{1b}[31m\u{202e}"), "a\\nb\\u{1b}[31m\\u{202e}");
        assert!(shown(&"\u{1f980}".repeat(1 << 20)).len() < 1_024);
    }
}
