//! The container engine, behind a trait as narrow as the agent's needs.

mod convert;
pub mod docker;
pub mod image;
mod last_words;
mod log_lines;
pub mod process;
pub mod resolver;
pub mod secrecy;
pub mod spec;
pub mod watch;

use std::{collections::BTreeMap, future::Future, time::Duration};

use bytes::Bytes;
use futures_util::stream::BoxStream;
use tokio::io::AsyncWrite;
use warren_proto::control::{ContainerStreams, TerminalSize};

use crate::plan::Instance;

/// Why a call to the engine did not succeed.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum EngineError {
    /// The engine cannot be reached at all.
    #[error("{0}")]
    Unavailable(String),
    /// It did not answer in time.
    #[error("the Docker engine did not answer to {call} within {seconds} s")]
    TimedOut {
        /// Which call.
        call: &'static str,
        /// How long it was given.
        seconds: u64,
    },
    /// There is no such container, image or volume.
    #[error("{0}")]
    NotFound(String),
    /// It exists already, or is in a state that forbids the call.
    #[error("{0}")]
    Conflict(String),
    /// Anything else that the engine says.
    #[error("{0}")]
    Other(String),
}

/// A container as the engine knows it, with the pod it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The pod's UID.
    pub uid: String,
    /// The pod's name.
    pub pod: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The container.
    pub instance: Instance,
    /// Process id of a live container.
    pub pid: i64,
    /// Where it tells why it ended.
    pub last_words: LastWords,
}

/// Where a container tells why it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LastWords {
    /// Nowhere: an earlier version made it.
    #[default]
    Nowhere,
    /// In a file of the agent's.
    File,
    /// In that file; when it failed and wrote nothing, the end of its log is told.
    FileOrLog,
}

impl LastWords {
    /// Reads the label `warren.last-words`.
    pub fn parse(text: &str) -> Self {
        match text {
            "file" => Self::File,
            "file,log" => Self::FileOrLog,
            _ => Self::Nowhere,
        }
    }
}

/// What the engine says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineInfo {
    /// Of this engine.
    pub id: String,
    /// Version of the engine.
    pub version: String,
    /// Processors.
    pub cpus: i64,
    /// Memory in bytes.
    pub memory: i64,
    /// Kernel release.
    pub kernel: String,
    /// Name of the distribution.
    pub operating_system: String,
    /// Of the processor.
    pub architecture: String,
    /// Names and sizes of the images present.
    pub images: Vec<(Vec<String>, i64)>,
}

/// What an image says of itself that a container of it must be made by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// `USER`: a name or number, with a group or without; empty for none, which is root.
    pub user: String,
    /// `VOLUME`: paths that get a volume of their own where nothing else is mounted.
    pub volumes: Vec<String>,
}

/// How a command in a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecResult {
    /// The command's exit code.
    pub code: i64,
    /// The first bytes of its output, both streams.
    pub output: String,
}

/// Which part of a container's log. Everything counts in lines as they were written, however long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Wait for more until the container ends.
    pub follow: bool,
    /// Put the time before each line.
    pub timestamps: bool,
    /// Only that many lines from the end.
    pub tail: Option<u64>,
    /// Only what was written from this second of the epoch.
    pub since: Option<i64>,
}

/// The bytes of a log, or why they end early.
pub type LogStream = BoxStream<'static, Result<Bytes, EngineError>>;

/// What a process writes: channel 1 is standard output (or its terminal), 2 standard error.
pub type Output = BoxStream<'static, Result<(u32, Bytes), EngineError>>;

/// A process's standard input; shut down, it has ended.
pub type Input = Box<dyn AsyncWrite + Send + Unpin>;

/// Which process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessHandle {
    /// A command that was started for the purpose, by the engine's id of it.
    Exec(String),
    /// A container's own process.
    Container(String),
}

/// A process to which we are connected. Dropping both directions ends the connection, not the process.
pub struct Process {
    /// Which one.
    pub handle: ProcessHandle,
    /// Ends with the process.
    pub output: Output,
    /// To the process.
    pub input: Input,
}

/// The container engine. Every call ends within a bounded time.
pub trait ContainerEngine: Send + Sync + 'static {
    /// All containers of this node, by label.
    fn list(&self) -> impl Future<Output = Result<Vec<Found>, EngineError>> + Send;
    /// One container; none when it does not exist or is not of this node.
    fn inspect(&self, id: &str) -> impl Future<Output = Result<Option<Found>, EngineError>> + Send;
    /// Makes a container and answers with its id. The same name again is success, if it is ours.
    fn create(&self, spec: spec::ContainerSpec) -> impl Future<Output = Result<String, EngineError>> + Send;
    /// Starts a container; at most a few at once.
    fn start(&self, id: &str) -> impl Future<Output = Result<(), EngineError>> + Send;
    /// Sends a signal. A container that does not live is success.
    fn signal(&self, id: &str, signal: &str) -> impl Future<Output = Result<(), EngineError>> + Send;
    /// Removes a container, dead or alive. An unknown one is success.
    fn remove(&self, id: &str) -> impl Future<Output = Result<(), EngineError>> + Send;
    /// What an image says of itself; none when it is not present.
    fn image(&self, image: &str) -> impl Future<Output = Result<Option<ImageConfig>, EngineError>> + Send;
    /// Fetches an image from its registry.
    fn pull(&self, image: &str) -> impl Future<Output = Result<(), EngineError>> + Send;
    /// Runs a command in a container. One that does not end in time is killed, with what it started.
    fn exec(
        &self,
        id: &str,
        command: &[String],
        timeout: Duration,
    ) -> impl Future<Output = Result<ExecResult, EngineError>> + Send;
    /// Starts a command in a container and connects to it.
    fn open_exec(
        &self,
        id: &str,
        command: &[String],
        streams: ContainerStreams,
    ) -> impl Future<Output = Result<Process, EngineError>> + Send;
    /// Connects to a container's own process.
    fn open_attach(
        &self,
        id: &str,
        streams: ContainerStreams,
    ) -> impl Future<Output = Result<Process, EngineError>> + Send;
    /// Changes the size of a process's terminal.
    fn resize(
        &self,
        process: &ProcessHandle,
        size: TerminalSize,
    ) -> impl Future<Output = Result<(), EngineError>> + Send;
    /// How a command ended, by the engine's id of it; none while it runs.
    fn exit_code(&self, exec: &str) -> impl Future<Output = Result<Option<i64>, EngineError>> + Send;
    /// Ends a command in a container whose client has gone: asks it to leave, then kills it. One that has ended is
    /// success.
    fn hang_up(&self, container: &str, exec: &str) -> impl Future<Output = Result<(), EngineError>> + Send;
    /// The log of a container.
    fn logs(
        &self,
        id: &str,
        options: LogOptions,
    ) -> impl Future<Output = Result<LogStream, EngineError>> + Send;
    /// Where the engine has its volume mounted, in its own mount namespace; none when there is no such volume.
    fn volume_path(
        &self,
        name: &str,
    ) -> impl Future<Output = Result<Option<std::path::PathBuf>, EngineError>> + Send;
    /// Removes the engine's volumes of a pod.
    fn remove_volumes(&self, uid: &str) -> impl Future<Output = Result<(), EngineError>> + Send;
    /// What the engine is.
    fn info(&self) -> impl Future<Output = Result<EngineInfo, EngineError>> + Send;
    /// Ids of containers to which something happened, until the stream breaks. Resolves once subscribed.
    fn events(
        &self,
    ) -> impl Future<Output = Result<BoxStream<'static, Result<String, EngineError>>, EngineError>> + Send;
}

/// The labels by which everything that the agent makes is found again.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Value of `warren.cluster`.
    pub cluster: String,
    /// Value of `warren.node`.
    pub node: String,
}

impl Scope {
    /// The labels of anything that belongs to a pod.
    pub fn labels(&self, uid: &str) -> BTreeMap<String, String> {
        let pairs = [(spec::CLUSTER, &self.cluster), (spec::NODE, &self.node)];
        let mut labels: BTreeMap<_, _> =
            pairs.into_iter().map(|(key, value)| (key.to_owned(), value.clone())).collect();
        labels.insert(spec::POD_UID.to_owned(), uid.to_owned());
        labels
    }
}
