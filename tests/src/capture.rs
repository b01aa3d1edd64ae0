//! What passes over the nodes' underlay, seen by tcpdump on the bridge that they are plugged into.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use crate::eventually;

/// A running capture of packets between the given addresses.
pub struct Capture {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Capture {
    /// Starts to capture what the addresses send to each other on a bridge.
    pub fn start(bridge: &str, addresses: &[String]) -> Self {
        let any = |direction: &str| {
            addresses
                .iter()
                .map(|address| format!("{direction} host {address}"))
                .collect::<Vec<_>>()
                .join(" or ")
        };
        let filter = format!("({}) and ({}) and not arp", any("src"), any("dst"));
        let mut child = Command::new("tcpdump")
            .args(["-i", bridge, "-n", "-l", "--immediate-mode", "-q", &filter])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("tcpdump starts (deploy/prerequisites.sh --test installs it)");
        let (errors, output) = (child.stderr.take().expect("piped"), child.stdout.take().expect("piped"));
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let sink = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                sink.lock().expect("no reader panicked").push(line);
            }
        });
        let ready =
            BufReader::new(errors).lines().map_while(Result::ok).any(|line| line.contains("listening on"));
        assert!(ready, "tcpdump did not start to listen on {bridge}");
        Self { child, lines }
    }

    /// Waits until packets were seen, then stops; the answer counts lines that are WireGuard's UDP and others.
    pub fn stop(mut self, port: u16) -> (usize, BTreeMap<String, usize>) {
        eventually("packets are captured", || {
            let seen = self.lines.lock().expect("no reader panicked").len();
            if seen >= 20 { Ok(()) } else { Err(format!("{seen} packets")) }
        });
        self.child.kill().expect("tcpdump can be stopped");
        self.child.wait().expect("tcpdump ends");
        let lines = self.lines.lock().expect("no reader panicked").clone();
        let mut foreign = BTreeMap::new();
        let mut tunnel = 0;
        for line in lines {
            let expected = line.contains(&format!(".{port} ")) || line.contains(&format!(".{port}:"));
            if expected && line.contains("UDP") {
                tunnel += 1;
            } else {
                // Without the time, equal packets are counted together.
                let text = line.split_once(' ').map_or(line.as_str(), |(_, rest)| rest).to_owned();
                *foreign.entry(text).or_insert(0) += 1;
            }
        }
        (tunnel, foreign)
    }
}
