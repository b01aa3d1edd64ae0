//! The harness of the end-to-end tests: a real cluster (of containers by `warren up`, or of plain processes on
//! machines of their own), the real kubectl, and a client that counts every failed request.

pub mod bare;
pub mod capture;
pub mod clock;
pub mod cluster;
pub mod load;
pub mod local;
pub mod machines;

use std::{
    process::{Command, Output},
    time::{Duration, Instant},
};

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

/// Runs a command, which must succeed, and returns its standard output.
pub fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} cannot start: {error}"));
    assert!(output.status.success(), "{command:?} failed with {}:\n{}", output.status, text(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Everything that a command printed.
pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
