//! The harness of the end-to-end tests: a real cluster by `warren up`, the real kubectl, and a client that
//! counts every failed request.

pub mod bare;
pub mod capture;
pub mod clock;
pub mod cluster;
pub mod load;

use std::time::{Duration, Instant};

/// Long enough for a busy two-core machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until `check` succeeds; its last complaint is the failure.
pub fn eventually<T>(what: &str, mut check: impl FnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        match check() {
            Ok(value) => return value,
            Err(complaint) if started.elapsed() > PATIENCE => {
                panic!("{what}: not within {} s: {complaint}", PATIENCE.as_secs())
            }
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}
