//! CPU per request of the gateway and of nginx, one worker each, in turns: `cargo bench -p warren-gateway`.
//!
//! Needs nginx, wrk and taskset. Traffic stays on loopback; nginx runs with a configuration of its own in
//! a temporary directory. The proxy has core 0, client and upstreams core 1; what counts is the proxy's
//! CPU time per request, which other load on the machine moves little, and the ratio of the medians.

#![allow(clippy::print_stdout, reason = "a benchmark's result goes to standard output")]
#![allow(clippy::disallowed_methods, reason = "it starts nginx and wrk, and waits for them")]

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use tokio_util::sync::CancellationToken;
use warren_gateway::{Listeners, Patience, Refused, Routes, serve_with};
use warren_proto::control::{Endpoint, HttpRoute, PathType};
use warren_runtime::descriptors::{self, Descriptors, Message};

const HOSTS: usize = 100;
const UPSTREAMS: usize = 4;
const ROUNDS: usize = 7;
const SECONDS: u32 = 3;
/// What is asked for: the body's size, and whether each request has a connection of its own.
const BODIES: [(&str, usize, bool); 3] =
    [("64 B", 64, false), ("64 kB", 64 << 10, false), ("64 B, new connections", 64, true)];

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("gateway") => gateway(&arguments[1..], false),
        Some("held") => gateway(&arguments[1..], true),
        Some("supervisor") => supervisor(),
        _ => compare(),
    }
}

/// The child process that is measured: one worker, the ports of the upstreams as arguments. `held`: with a
/// supervisor that holds its clients' connections, as in a cluster; it is a process of its own there, so here its
/// thread has the other core.
fn gateway(ports: &[String], held: bool) -> anyhow::Result<()> {
    let descriptors = if held { supervised()? } else { Descriptors::default() };
    let endpoint = |port: &String| -> anyhow::Result<Endpoint> {
        Ok(Endpoint { address: "127.0.0.1".into(), port: port.parse()?, node: String::new() })
    };
    let endpoints = ports.iter().map(endpoint).collect::<anyhow::Result<Vec<_>>>()?;
    let rule = |index: usize| HttpRoute {
        host: format!("svc{index}.test"),
        path: "/".into(),
        path_type: PathType::Prefix.into(),
        backend: "default/web:80".into(),
        endpoints: endpoints.clone(),
        ingress: "default/web".into(),
        ..HttpRoute::default()
    };
    let rules: Vec<_> = (0..HOSTS).map(|index| (format!("route/default/web/{index}"), rule(index))).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let routes = Routes::new(Refused::except_loopback());
        let listeners = Listeners {
            http: (Ipv4Addr::LOCALHOST, 0).into(),
            https: None,
            threads: 1,
            patience: Patience::default(),
            trusted_proxies: Vec::new(),
            memory: 4 << 30,
        };
        let serving = serve_with(listeners, &descriptors, &routes, &CancellationToken::new())?;
        routes.publish(1, rules.iter().map(|(key, rule)| (key.as_str(), rule))).await;
        println!("{}", serving.addresses[0].1);
        serving.wait().await
    })
}

/// A way to a supervisor: a child process that keeps what it is told to keep.
fn supervised() -> anyhow::Result<Descriptors> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    // Not inherited by number: as standard input, which any child may have.
    let child = Command::new("taskset")
        .args(["-c", "1"])
        .arg(std::env::current_exe()?)
        .arg("supervisor")
        .stdin(Stdio::from(ours))
        .spawn()
        .context("cannot start taskset")?;
    drop(child);
    Ok(Descriptors::new(BTreeMap::new(), Some(theirs)))
}

/// Ends when the gateway does.
fn supervisor() -> anyhow::Result<()> {
    let channel = std::io::stdin();
    let mut held = BTreeMap::new();
    loop {
        match descriptors::receive(channel.as_fd()) {
            Ok(Some((Message::Keep(name), Some(descriptor)))) => drop(held.insert(name, descriptor)),
            Ok(Some((Message::Forget(name), _))) => drop(held.remove(&name)),
            Ok(Some(_)) => {}
            Ok(None) => return Ok(()),
            Err(_) => std::thread::sleep(Duration::from_micros(200)),
        }
    }
}

/// Ends with the benchmark.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // nginx's master ends its workers at SIGTERM only.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

fn compare() -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        println!("warning: this build is not optimised; its figures mean nothing");
    }
    let directory = tempfile::tempdir()?;
    let ports = free_ports(UPSTREAMS + 1)?;
    let (proxy_port, upstream_ports) = ports.split_first().context("ports")?;
    for (_, size, _) in BODIES {
        fs::write(directory.path().join(format!("{size}")), "x".repeat(size))?;
    }
    let _upstream =
        nginx(directory.path(), "upstream", &upstream_config(directory.path(), upstream_ports), "1")?;
    let proxy = nginx(directory.path(), "proxy", &proxy_config(*proxy_port, upstream_ports), "0")?;
    let (held, held_address) = start("held", upstream_ports)?;
    let (plain, plain_address) = start("gateway", upstream_ports)?;
    // "warren" is how it runs in a cluster; "alone" holds no connection for a successor.
    let contenders: [(&str, u32, SocketAddr); 3] = [
        ("warren", held.0.id(), held_address),
        ("alone", plain.0.id(), plain_address),
        ("nginx", proxy.0.id(), (Ipv4Addr::LOCALHOST, *proxy_port).into()),
    ];
    for (_, _, address) in contenders {
        wait_for(address)?;
    }
    for (name, size, close) in BODIES {
        let mut costs = [Vec::new(), Vec::new(), Vec::new()];
        for round in 0..=ROUNDS {
            for turn in 0..contenders.len() {
                let index = (round + turn) % contenders.len();
                let (_, process, address) = contenders[index];
                let cost = measure(process, address, size, close)?;
                // The first round warms up.
                if round > 0 {
                    costs[index].push(cost);
                }
            }
        }
        let [ours, alone, theirs] = costs.map(median);
        println!(
            "{name}: warren {ours:.1} us CPU per request, alone {alone:.1}, nginx {theirs:.1}, ratio {:.2}",
            ours / theirs
        );
    }
    Ok(())
}

/// A gateway and its address.
fn start(kind: &str, upstream_ports: &[u16]) -> anyhow::Result<(Process, SocketAddr)> {
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(std::env::current_exe()?).arg(kind);
    command.args(upstream_ports.iter().map(u16::to_string)).stdout(Stdio::piped());
    let mut process = Process(command.spawn().context("cannot start taskset")?);
    let mut address = String::new();
    BufReader::new(process.0.stdout.take().context("a pipe")?).read_line(&mut address)?;
    Ok((process, address.trim().parse()?))
}

fn upstream_config(directory: &Path, ports: &[u16]) -> String {
    let listen: String = ports.iter().fold(String::new(), |mut text, port| {
        let _ = write!(text, "listen 127.0.0.1:{port};");
        text
    });
    format!("server {{ {listen} root {}; }}", directory.display())
}

fn proxy_config(port: u16, upstreams: &[u16]) -> String {
    let mut config = "upstream pods { keepalive 64;".to_owned();
    for upstream in upstreams {
        let _ = write!(config, "server 127.0.0.1:{upstream};");
    }
    config.push('}');
    for index in 0..HOSTS {
        let _ = write!(
            config,
            "server {{ listen 127.0.0.1:{port}; server_name svc{index}.test; location / {{ proxy_pass http://pods;
             proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header Host $host;
             proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;
             proxy_set_header X-Forwarded-Host $host; }} }}\n"
        );
    }
    config
}

fn nginx(directory: &Path, name: &str, servers: &str, core: &str) -> anyhow::Result<Process> {
    let file = directory.join(format!("{name}.conf"));
    let at = directory.display();
    let temporary: String =
        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].iter().fold(String::new(), |mut text, kind| {
            let _ = write!(text, "{kind}_temp_path {at}/{name}-{kind};");
            text
        });
    let config = format!(
        "daemon off; worker_processes 1; pid {at}/{name}.pid; error_log {at}/{name}.log;
         events {{ worker_connections 4096; }}
         http {{ access_log off; keepalive_requests 1000000000; {temporary}
         proxy_buffers 8 32k; proxy_buffer_size 32k; proxy_busy_buffers_size 64k; {servers} }}"
    );
    // For root, who would otherwise serve as a user that cannot read the private directory; others are
    // only warned that it has no effect.
    fs::write(&file, format!("user root;\n{config}"))?;
    let mut command = Command::new("taskset");
    command
        .args(["-c", core, "/usr/sbin/nginx", "-p"])
        .arg(directory)
        .arg("-c")
        .arg(&file)
        .stderr(Stdio::null());
    Ok(Process(command.spawn().context("cannot start nginx by taskset")?))
}

/// Ports that were free a moment ago.
fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    let sockets =
        (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<Result<Vec<_>, _>>()?;
    Ok(sockets
        .iter()
        .map(|socket| socket.local_addr().map(|address| address.port()))
        .collect::<Result<_, _>>()?)
}

fn wait_for(address: SocketAddr) -> anyhow::Result<()> {
    for _ in 0..500 {
        if TcpStream::connect(address).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    bail!("nothing listens on {address}")
}

/// Microseconds of CPU per request while wrk asks for a body of `size`.
fn measure(process: u32, address: SocketAddr, size: usize, close: bool) -> anyhow::Result<f64> {
    let before = cpu_nanoseconds(process)?;
    let duration = format!("-d{SECONDS}s");
    let connection = if close { "Connection: close" } else { "Connection: keep-alive" };
    let output = Command::new("taskset")
        .args(["-c", "1", "wrk", "-t1", "-c64", &duration, "-H", "Host: svc7.test", "-H", connection])
        .arg(format!("http://{address}/{size}"))
        .output()
        .context("cannot run wrk by taskset")?;
    let spent = cpu_nanoseconds(process)? - before;
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(!report.contains("Non-2xx") && !report.contains("Socket errors"), "requests failed:\n{report}");
    let line = report.lines().find(|line| line.contains(" requests in ")).with_context(|| report.clone())?;
    let requests: f64 = line.split_whitespace().next().context("a number")?.parse()?;
    Ok(spent as f64 / 1_000.0 / requests)
}

/// Of a process, its threads and its children.
fn cpu_nanoseconds(process: u32) -> anyhow::Result<u64> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let path = thread?.path();
        let statistics = fs::read_to_string(path.join("schedstat"))?;
        sum += statistics.split_whitespace().next().context("a number")?.parse::<u64>()?;
        for child in fs::read_to_string(path.join("children")).unwrap_or_default().split_whitespace() {
            sum += cpu_nanoseconds(child.parse()?)?;
        }
    }
    Ok(sum)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
