//! Debian's etcd as a child process, and as much of a client of it as benchmarks need: the gRPC that its users
//! speak, with the messages' fields by number. Also what both contenders are measured with.

#![allow(dead_code, unreachable_pub, reason = "two benchmarks include it, and each needs a part of it")]
#![allow(clippy::disallowed_methods, reason = "it starts etcd and waits for it")]

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use http::uri::PathAndQuery;
use tokio_stream::StreamExt as _;
use tonic::{Request, Streaming, client::Grpc, transport::Channel};
use tonic_prost::ProstCodec;

/// The HTTP/2 window of all clients, as large as Go's: long answers do not wait for them.
pub const WINDOW: u32 = 4 << 20;

/// Whether sizes are tiny: `WARREN_BENCH_QUICK=1`, for a look at whether a benchmark works at all.
pub fn is_quick() -> bool {
    std::env::var_os("WARREN_BENCH_QUICK").is_some()
}

/// What every benchmark says first.
pub fn warn_if_slow() {
    if cfg!(debug_assertions) {
        println!("warning: this build is not optimised; its figures mean nothing");
    }
}

/// A process that ends with the benchmark.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An etcd with one member, with its usual durability: every write is synced before it is acknowledged.
pub struct Etcd {
    pub process: Process,
    pub address: SocketAddr,
}

impl Etcd {
    /// Starts it with its data below `directory`.
    pub fn start(directory: &Path) -> anyhow::Result<Self> {
        let [address, peer] = free_addresses()?;
        let (client, peer) = (format!("http://{address}"), format!("http://{peer}"));
        let child = Command::new("etcd")
            .arg("--data-dir")
            .arg(directory.join("etcd"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .args(["--quota-backend-bytes", "8589934592", "--logger", "zap", "--log-level", "error"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context(
                "cannot start etcd (package etcd-server): deploy/prerequisites.sh --bench installs it",
            )?;
        let process = Process(child);
        for _ in 0..1_000 {
            if TcpStream::connect(address).is_ok() {
                return Ok(Self { process, address });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("etcd does not listen on {address}")
    }

    /// Connections of their own; clones of a client share one.
    pub async fn clients(&self, connections: usize) -> anyhow::Result<Vec<Client>> {
        let mut clients = Vec::new();
        for _ in 0..connections {
            let endpoint = Channel::from_shared(format!("http://{}", self.address))?;
            let endpoint = endpoint.initial_stream_window_size(WINDOW).initial_connection_window_size(WINDOW);
            // A member that has just started has no leader for a moment; requests wait for it.
            let channel = endpoint.connect().await.context("cannot connect to etcd")?;
            clients.push(Client(Grpc::new(channel).max_decoding_message_size(1 << 30)));
        }
        Ok(clients)
    }
}

fn free_addresses<const N: usize>() -> anyhow::Result<[SocketAddr; N]> {
    let mut addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); N];
    let sockets = addresses.iter().map(TcpListener::bind).collect::<Result<Vec<_>, _>>()?;
    for (address, socket) in addresses.iter_mut().zip(&sockets) {
        *address = socket.local_addr()?;
    }
    Ok(addresses)
}

/// A client of etcd.
#[derive(Clone)]
pub struct Client(Grpc<Channel>);

impl Client {
    /// Durable when it returns.
    pub async fn put(&mut self, key: &str, value: &[u8]) -> anyhow::Result<()> {
        let request = PutRequest { key: key.into(), value: value.into() };
        let path = PathAndQuery::from_static("/etcdserverpb.KV/Put");
        self.0.ready().await?;
        let codec = ProstCodec::<PutRequest, Ignored>::default();
        self.0.unary(Request::new(request), path, codec).await?;
        Ok(())
    }

    /// All values whose key begins so; linearizable, as etcd's default is.
    pub async fn list(&mut self, prefix: &str) -> anyhow::Result<Vec<KeyValue>> {
        let request = RangeRequest { key: prefix.into(), range_end: end_of(prefix) };
        let path = PathAndQuery::from_static("/etcdserverpb.KV/Range");
        self.0.ready().await?;
        let codec = ProstCodec::<RangeRequest, RangeResponse>::default();
        Ok(self.0.unary(Request::new(request), path, codec).await?.into_inner().items)
    }

    /// Removes all keys that begin so.
    pub async fn remove(&mut self, prefix: &str) -> anyhow::Result<()> {
        let request = RangeRequest { key: prefix.into(), range_end: end_of(prefix) };
        let path = PathAndQuery::from_static("/etcdserverpb.KV/DeleteRange");
        self.0.ready().await?;
        let codec = ProstCodec::<RangeRequest, Ignored>::default();
        self.0.unary(Request::new(request), path, codec).await?;
        Ok(())
    }

    /// Follows one key; returns when the watch stands.
    pub async fn watch(&mut self, key: &str) -> anyhow::Result<Streaming<WatchResponse>> {
        let request = WatchRequest { create: Some(WatchCreate { key: key.into() }) };
        let path = PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
        self.0.ready().await?;
        let codec = ProstCodec::<WatchRequest, WatchResponse>::default();
        let requests = tokio_stream::once(request).chain(tokio_stream::pending());
        let mut events = self.0.streaming(Request::new(requests), path, codec).await?.into_inner();
        events.message().await?.context("etcd closed the watch")?;
        Ok(events)
    }
}

/// The first key behind those that begin with `prefix`, which ends with `/`.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes, tag = "1")]
    key: Vec<u8>,
    #[prost(bytes, tag = "2")]
    value: Vec<u8>,
}

/// Of a RangeRequest and of a DeleteRangeRequest.
#[derive(Clone, PartialEq, prost::Message)]
struct RangeRequest {
    #[prost(bytes, tag = "1")]
    key: Vec<u8>,
    #[prost(bytes, tag = "2")]
    range_end: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RangeResponse {
    #[prost(message, repeated, tag = "2")]
    items: Vec<KeyValue>,
}

/// A key and its value.
#[derive(Clone, PartialEq, prost::Message)]
pub struct KeyValue {
    #[prost(bytes, tag = "1")]
    pub key: Vec<u8>,
    #[prost(bytes, tag = "5")]
    pub value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WatchRequest {
    #[prost(message, tag = "1")]
    create: Option<WatchCreate>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WatchCreate {
    #[prost(bytes, tag = "1")]
    key: Vec<u8>,
}

/// What happened to a key.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WatchResponse {
    #[prost(message, repeated, tag = "11")]
    pub events: Vec<Event>,
}

/// One change.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Event {
    #[prost(message, tag = "2")]
    pub item: Option<KeyValue>,
}

/// An answer of which nothing is wanted.
#[derive(Clone, PartialEq, prost::Message)]
struct Ignored {}

/// The CPU time of a process and its threads so far, in microseconds; the kernel counts in hundredths of a second.
pub fn cpu_microseconds(process: u32) -> anyhow::Result<f64> {
    let text = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name in parentheses may hold anything; user and system time are the 12th and 13th field behind it.
    let (_, fields) = text.rsplit_once(')').context("/proc/PID/stat")?;
    let times = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    Ok(times.sum::<Result<u64, _>>()? as f64 * 10_000.0)
}

/// A line of /proc/PID/status, in MiB: `VmRSS` is what is resident, `VmHWM` the most that was.
pub fn memory(process: u32, field: &str) -> anyhow::Result<f64> {
    let text = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()).context("/proc/PID/status")?;
    Ok(kilobytes.parse::<f64>()? / 1_024.0)
}

/// Makes the present the most that a process ever had.
pub fn forget_peak(process: u32) -> anyhow::Result<()> {
    fs::write(format!("/proc/{process}/clear_refs"), "5").context("cannot reset the peak of memory")
}

/// The middle one.
pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
