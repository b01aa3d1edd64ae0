//! Hands inside the pods: exec, attach, port-forward, cp, run and logs, by every kubectl at hand.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use warren_tests::{
    cluster::{Cluster, kubectl_versions},
    eventually,
};

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: hands}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: shell
    image: busybox:1.36
    command: [sh, -c, 'mkdir -p /www && echo served > /www/index.html && exec httpd -f -p 8000 -h /www']
  - name: talker
    image: busybox:1.36
    stdin: true
    command: [sh, -c, 'while read line; do echo \"heard $line\"; done; sleep 3600']
";
/// A command that has not ended by then hangs.
const PATIENCE: Duration = Duration::from_secs(90);

/// One kubectl and the cluster.
struct Hands<'a> {
    cluster: &'a Cluster,
    kubectl: &'a Path,
    scratch: PathBuf,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn expect(what: &str, fits: bool, seen: impl std::fmt::Debug) -> Result<(), String> {
    if fits { Ok(()) } else { Err(format!("{what}: {seen:?}")) }
}

/// Waits for a child's end, and kills one that hangs.
fn finish(mut child: Child, input: &[u8]) -> Result<Output, String> {
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

impl Hands<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        self.cluster.kubectl_command_of(self.kubectl, arguments)
    }

    fn run(&self, arguments: &[&str], input: &[u8]) -> Result<Output, String> {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        finish(command.spawn().map_err(|error| error.to_string())?, input)
    }

    fn in_shell(&self, line: &str, input: &[u8]) -> Result<Output, String> {
        self.run(&["exec", "-i", "hands", "-c", "shell", "--", "sh", "-c", line], input)
    }

    /// On a terminal of 101 columns and 33 rows.
    fn on_terminal(&self, arguments: &str) -> Result<Output, String> {
        let mut command = self.command(&[]);
        let line = format!("stty cols 101 rows 33; exec {} {arguments}", self.kubectl.display());
        let environment: Vec<_> =
            command.get_envs().map(|(key, value)| (key.to_owned(), value.map(ToOwned::to_owned))).collect();
        command = Command::new("script");
        command.args(["-qec", &line, "/dev/null"]).env("SHELL", "/bin/sh");
        for (key, value) in environment {
            command.env(key, value.unwrap_or_default());
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        // Kept open: the end of the input would be the end of the terminal.
        let stdin = child.stdin.take();
        let output = finish(child, b"");
        drop(stdin);
        output
    }

    fn exec(&self) -> Result<(), String> {
        let output = self.in_shell("cat; echo wrong >&2; exit 7", b"given")?;
        expect("output", output.stdout == b"given", text(&output.stdout))?;
        expect("errors", text(&output.stderr).starts_with("wrong"), text(&output.stderr))?;
        expect("exit code", output.status.code() == Some(7), output.status)
    }

    fn exec_terminal(&self) -> Result<(), String> {
        // The size comes when it comes, and what is tested is what is printed.
        let wait = "for i in 1 2 3 4 5 6 7 8 9 10; do s=$(stty size); echo $s; test \"$s\" = \"33 101\" && exit 5; sleep 0.5; done";
        let output = self.on_terminal(&format!("exec -it hands -c shell -- sh -c '{wait}'"))?;
        expect("size", text(&output.stdout).contains("33 101"), text(&output.stdout))?;
        expect("exit code", output.status.code() == Some(5), output.status)
    }

    fn exec_refusals(&self) -> Result<(), String> {
        for (arguments, expected) in [
            (
                &["exec", "hands", "-c", "nobody", "--", "true"][..],
                "container nobody is not valid for pod hands",
            ),
            (&["exec", "ghost", "--", "true"][..], "pods \"ghost\" not found"),
            (&["exec", "hands", "-c", "shell", "--", "no-such-command"][..], "no-such-command"),
        ] {
            let output = self.run(arguments, b"")?;
            let said = text(&output.stdout) + &text(&output.stderr);
            expect("refusal", !output.status.success() && said.contains(expected), &said)?;
        }
        Ok(())
    }

    fn large_transfers(&self) -> Result<(), String> {
        let count = 64 << 20;
        let output = self.in_shell(&format!("head -c {count} /dev/zero"), b"")?;
        expect("bytes out", output.stdout.len() == count, output.stdout.len())?;
        let output = self.in_shell("wc -c", &vec![b'x'; count])?;
        expect("bytes in", text(&output.stdout).trim() == count.to_string(), text(&output.stdout))
    }

    fn cp(&self) -> Result<(), String> {
        let content: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let (there, back) = (self.scratch.join("there"), self.scratch.join("back"));
        std::fs::write(&there, &content).map_err(|error| error.to_string())?;
        for (from, to) in [
            (there.display().to_string(), "hands:/tmp/copied".to_owned()),
            ("hands:/tmp/copied".to_owned(), back.display().to_string()),
        ] {
            let output = self.run(&["cp", "-c", "shell", &from, &to], b"")?;
            expect("cp", output.status.success(), text(&output.stderr))?;
        }
        let copied = std::fs::read(&back).map_err(|error| error.to_string())?;
        expect("content", copied == content, copied.len())
    }

    fn port_forward(&self) -> Result<(), String> {
        let mut command = self.command(&["port-forward", "pod/hands", ":8000"]);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| error.to_string())?;
        let outcome = child.stdout.take().ok_or_else(|| "no output".to_owned()).and_then(fetch_twice);
        let _ = child.kill();
        let _ = child.wait();
        outcome
    }

    fn attach(&self) -> Result<(), String> {
        let mut command = self.command(&["attach", "-i", "hands", "-c", "talker"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let (Some(mut stdin), Some(mut stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("no pipes".to_owned());
        };
        let (heard, answers) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let (mut all, mut buffer) = (Vec::new(), [0; 1024]);
            while let Ok(count @ 1..) = stdout.read(&mut buffer) {
                all.extend_from_slice(&buffer[..count]);
                if text(&all).contains("heard me") {
                    let _ = heard.send(());
                }
            }
        });
        stdin.write_all(b"me\n").map_err(|error| error.to_string())?;
        let outcome = answers.recv_timeout(PATIENCE).map_err(|_| "the process did not answer".to_owned());
        let _ = child.kill();
        let _ = child.wait();
        outcome
    }

    fn run_interactively(&self) -> Result<(), String> {
        let arguments =
            ["run", "visitor", "--image=busybox:1.36", "--restart=Never", "--rm", "-i", "--", "sh", "-c"];
        // Waits for input, so that it cannot have ended before somebody attached.
        let arguments = [&arguments[..], &["read word; echo \"got $word\"; exit 4"]].concat();
        let output = self.run(&arguments, b"carrots\n")?;
        expect("output", text(&output.stdout).contains("got carrots"), &output)?;
        expect("exit code", output.status.code() == Some(4), &output)?;
        let left = self.cluster.try_kubectl(&["get", "pod", "visitor"]);
        expect("removal", !left.status.success(), text(&left.stdout))
    }

    fn logs(&self) -> Result<(), String> {
        let output = self.run(&["logs", "hands", "-c", "talker", "--tail=1"], b"")?;
        expect("log", text(&output.stdout).contains("heard me"), &output)
    }
}

/// Reads the local port from what kubectl prints, then asks it for the page on two connections.
fn fetch_twice(mut output: impl std::io::Read) -> Result<(), String> {
    let mut said = String::new();
    while !said.contains('\n') {
        let mut byte = [0];
        if output.read(&mut byte).map_err(|error| error.to_string())? == 0 {
            return Err(format!("kubectl ended: {said}"));
        }
        said.push(char::from(byte[0]));
    }
    let port = said.split("127.0.0.1:").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_default();
    let port: u16 = port.parse().map_err(|_| format!("no port in {said:?}"))?;
    for _ in 0..2 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(|error| error.to_string())?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").map_err(|error| error.to_string())?;
        let mut page = String::new();
        stream.read_to_string(&mut page).map_err(|error| error.to_string())?;
        expect("page", page.contains("200 OK") && page.ends_with("served\n"), page)?;
    }
    Ok(())
}

type Check = fn(&Hands<'_>) -> Result<(), String>;

const CHECKS: &[(&str, Check)] = &[
    ("exec: streams, exit code", |hands| hands.exec()),
    ("exec -it: terminal, resize", |hands| hands.exec_terminal()),
    ("exec: refusals", |hands| hands.exec_refusals()),
    ("exec: 64 MiB each way", |hands| hands.large_transfers()),
    ("cp: to and from", |hands| hands.cp()),
    ("port-forward", |hands| hands.port_forward()),
    ("attach -i", |hands| hands.attach()),
    ("run -i --rm: exit code", |hands| hands.run_interactively()),
    ("logs", |hands| hands.logs()),
];

pub fn every_kubectl_reaches_into_pods(cluster: &Cluster) {
    cluster.apply(PODS);
    eventually("the pod is ready", || {
        let pod = cluster.get(&["pod", "hands"]);
        let ready = warren_tests::cluster::condition(&pod, "Ready") == "True";
        if ready { Ok(()) } else { Err(pod["status"].to_string()) }
    });
    let versions = kubectl_versions();
    let mut failures = Vec::new();
    let mut table = format!("{:28}", "");
    for (version, _) in &versions {
        table += &format!(" {version:>10}");
    }
    for (name, check) in CHECKS {
        table += &format!("\n{name:28}");
        for (version, kubectl) in &versions {
            let scratch = std::env::temp_dir().join(format!("{}-{version}", cluster.name));
            std::fs::create_dir_all(&scratch).expect("the temporary directory is writable");
            let (hands, begun) = (Hands { cluster, kubectl, scratch: scratch.clone() }, Instant::now());
            let outcome = check(&hands);
            let _ = std::fs::remove_dir_all(scratch);
            match outcome {
                Ok(()) => table += &format!(" {:>8.1} s", begun.elapsed().as_secs_f32()),
                Err(why) => {
                    table += &format!(" {:>10}", "FAILED");
                    failures.push(format!("{name} by {version}: {why}"));
                }
            }
        }
    }
    println!("\n{table}\n");
    let _ = cluster.try_kubectl(&["delete", "pod", "hands", "visitor", "--ignore-not-found", "--now"]);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
