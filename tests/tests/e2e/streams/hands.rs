//! One kubectl and the cluster: commands that are run to their end, that go on, or that sit at a terminal.

use std::{
    io::{Read, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use warren_tests::cluster::Cluster;

use super::text;

/// A command that has not ended by then hangs.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// One kubectl and the cluster.
pub struct Hands<'a> {
    pub cluster: &'a Cluster,
    pub kubectl: &'a Path,
    /// A directory of its own; removed at the end.
    pub scratch: PathBuf,
}

impl Drop for Hands<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.scratch);
    }
}

impl<'a> Hands<'a> {
    pub fn new(cluster: &'a Cluster, kubectl: &'a Path, version: &str) -> Self {
        let scratch = std::env::temp_dir().join(format!("{}-{version}", cluster.name));
        std::fs::create_dir_all(&scratch).expect("the temporary directory is writable");
        Self { cluster, kubectl, scratch }
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        self.cluster.kubectl_command_of(self.kubectl, arguments)
    }

    /// Runs kubectl to its end, whatever that is.
    pub fn run(&self, arguments: &[&str], input: &[u8]) -> Result<Output, String> {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        finish(command.spawn().map_err(|error| error.to_string())?, input)
    }

    /// Runs kubectl, which must succeed, and answers with its output.
    pub fn get(&self, arguments: &[&str]) -> Result<String, String> {
        let output = self.run(arguments, b"")?;
        if output.status.success() {
            return Ok(text(&output.stdout));
        }
        Err(format!("kubectl {}: {}", arguments.join(" "), text(&output.stderr)))
    }

    pub fn in_shell(&self, line: &str, input: &[u8]) -> Result<Output, String> {
        self.run(&["exec", "-i", "hands", "-c", "shell", "--", "sh", "-c", line], input)
    }

    /// A kubectl that goes on.
    pub fn start(&self, arguments: &[&str]) -> Result<Going, String> {
        Going::start(self.command(arguments))
    }

    /// A kubectl at a terminal of 101 columns and 33 rows. The first line that it prints is the terminal's path.
    pub fn at_terminal(&self, arguments: &str) -> Result<Going, String> {
        let kubectl = self.command(&[]);
        let line = format!("tty; stty cols 101 rows 33; exec {} {arguments}", self.kubectl.display());
        let mut command = Command::new("script");
        command.args(["-qefc", &line, "/dev/null"]).env("SHELL", "/bin/sh");
        for (key, value) in kubectl.get_envs() {
            command.env(key, value.unwrap_or_default());
        }
        Going::start(command)
    }
}

/// Waits for a child's end, and kills one that hangs.
pub fn finish(mut child: Child, input: &[u8]) -> Result<Output, String> {
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_vec();
        std::thread::spawn(move || stdin.write_all(&input));
    }
    let id = child.id().to_string();
    let (done, waiting) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(child.wait_with_output()));
    match waiting.recv_timeout(PATIENCE) {
        Ok(output) => output.map_err(|error| error.to_string()),
        Err(_) => {
            let _ = Command::new("kill").args(["-9", &id]).status();
            Err(format!("it did not end within {} s", PATIENCE.as_secs()))
        }
    }
}

/// A program that goes on while the test talks to it; killed when dropped.
pub struct Going {
    child: Child,
    stdin: Option<ChildStdin>,
    said: Arc<Mutex<Vec<u8>>>,
}

impl Going {
    pub fn start(mut command: Command) -> Result<Self, String> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let said = Arc::<Mutex<Vec<u8>>>::default();
        let stdin = child.stdin.take();
        if let Some(stdout) = child.stdout.take() {
            collect(stdout, Arc::clone(&said));
        }
        if let Some(stderr) = child.stderr.take() {
            collect(stderr, Arc::clone(&said));
        }
        Ok(Self { child, stdin, said })
    }

    /// What it has printed so far.
    pub fn said(&self) -> String {
        text(&self.said.lock().expect("no reader panicked"))
    }

    pub fn wait_for(&self, wanted: &str) -> Result<String, String> {
        let begun = Instant::now();
        loop {
            let said = self.said();
            if said.contains(wanted) {
                return Ok(said);
            }
            if begun.elapsed() > PATIENCE {
                return Err(format!("{wanted:?} is not in {said:?}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn type_in(&mut self, input: &str) -> Result<(), String> {
        let stdin = self.stdin.as_mut().ok_or("its input is closed")?;
        stdin.write_all(input.as_bytes()).and_then(|()| stdin.flush()).map_err(|error| error.to_string())
    }

    /// Changes the size of the terminal that it sits at.
    pub fn resize(&self, columns: u16, rows: u16) -> Result<(), String> {
        let said = self.wait_for("/dev/pts/")?;
        let device = said.lines().find_map(|line| line.find("/dev/pts/").map(|at| line[at..].trim()));
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let stty = Command::new("stty")
            .args(["-F", device.unwrap_or_default(), "cols", &columns, "rows", &rows])
            .output()
            .map_err(|error| error.to_string())?;
        if stty.status.success() { Ok(()) } else { Err(text(&stty.stderr)) }
    }

    /// Waits for its end. At a terminal, its input stays open until then.
    pub fn end(mut self) -> Result<(ExitStatus, String), String> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().map_err(|error| error.to_string())? {
                return Ok((status, self.said()));
            }
            if begun.elapsed() > PATIENCE {
                return Err(format!("it does not end; it said {:?}", self.said()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(mut output: impl Read + Send + 'static, said: Arc<Mutex<Vec<u8>>>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = output.read(&mut buffer) {
            said.lock().expect("no reader panicked").extend_from_slice(&buffer[..count]);
        }
    });
}

/// The checksum that `md5sum` prints.
pub fn checksum(bytes: &[u8]) -> Result<String, String> {
    let mut command = Command::new("md5sum");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let output = finish(command.spawn().map_err(|error| error.to_string())?, bytes)?;
    Ok(text(&output.stdout).split_whitespace().next().unwrap_or_default().to_owned())
}

/// What `seq 1 LAST` prints.
pub fn sequence(last: u32) -> Vec<u8> {
    let mut all = Vec::new();
    for number in 1..=last {
        let _ = writeln!(all, "{number}");
    }
    all
}
