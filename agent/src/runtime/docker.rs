//! The Docker engine through bollard.

mod commands;
mod interactive;
mod logs;

use std::{collections::HashMap, future::Future, time::Duration};

use bollard::{Docker, errors::Error as BollardError, query_parameters as query};
use futures_util::{StreamExt, TryStreamExt, stream::BoxStream};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use warren_proto::control::{ContainerStreams, TerminalSize};

use super::{
    ContainerEngine, EngineError, EngineInfo, ExecResult, Found, ImageConfig, LogOptions, LogStream, Process,
    ProcessHandle, Scope,
    convert::{container_body, found},
    image::ImageName,
    spec::{self, ContainerSpec},
};

/// Starts at once; more only add latency (measured: the engine does about seven a second).
const CONCURRENT_STARTS: usize = 4;
const SHORT: Duration = Duration::from_secs(15);
const LONG: Duration = Duration::from_secs(60);
/// A pull may take long, but something must happen within this.
const PULL_SILENCE: Duration = Duration::from_secs(120);
/// How far back events are asked for, so that none falls between two subscriptions.
const EVENT_OVERLAP_SECONDS: i64 = 5;

/// The engine behind a unix socket, restricted to one node of one cluster.
pub struct DockerEngine {
    socket: String,
    scope: Scope,
    client: Mutex<Option<Docker>>,
    starts: Semaphore,
}

impl DockerEngine {
    /// Connects lazily: the engine may be absent now and come later.
    pub fn new(socket: &str, scope: Scope) -> Self {
        let client = Mutex::new(None);
        Self { socket: socket.to_owned(), scope, client, starts: Semaphore::new(CONCURRENT_STARTS) }
    }

    fn client(&self) -> Result<Docker, EngineError> {
        let mut client = self.client.lock();
        if let Some(client) = client.as_ref() {
            return Ok(client.clone());
        }
        let timeout = LONG.as_secs() * 2;
        let made = Docker::connect_with_unix(&self.socket, timeout, bollard::API_DEFAULT_VERSION)
            .map_err(|error| self.unavailable(&error))?;
        *client = Some(made.clone());
        Ok(made)
    }

    fn unavailable(&self, error: &dyn std::error::Error) -> EngineError {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        EngineError::Unavailable(format!(
            "the Docker engine does not answer at {}: {text}; install Docker or start it (systemctl start docker), \
             the agent goes on by itself",
            self.socket
        ))
    }

    fn error(&self, error: BollardError) -> EngineError {
        match error {
            BollardError::DockerResponseServerError { status_code: 404, message } => {
                EngineError::NotFound(message)
            }
            BollardError::DockerResponseServerError { status_code: 409, message } => {
                EngineError::Conflict(message)
            }
            BollardError::DockerResponseServerError { message, .. } => {
                EngineError::Other(message.trim().to_owned())
            }
            BollardError::DockerStreamError { error } => EngineError::Other(error),
            error @ (BollardError::SocketNotFoundError(_)
            | BollardError::IOError { .. }
            | BollardError::HyperLegacyError { .. }
            | BollardError::HyperResponseError { .. }) => self.unavailable(&error),
            BollardError::RequestTimeoutError => {
                EngineError::TimedOut { call: "a request", seconds: LONG.as_secs() * 2 }
            }
            error => EngineError::Other(error.to_string()),
        }
    }

    /// Runs one call within a time.
    async fn within<T>(
        &self,
        limit: Duration,
        call: &'static str,
        work: impl Future<Output = Result<T, BollardError>> + Send,
    ) -> Result<T, EngineError> {
        metrics::counter!("warren_agent_engine_calls_total", "call" => call).increment(1);
        match tokio::time::timeout(limit, work).await {
            Ok(result) => result.map_err(|error| self.error(error)),
            Err(_) => {
                metrics::counter!("warren_agent_engine_timeouts_total", "call" => call).increment(1);
                Err(EngineError::TimedOut { call, seconds: limit.as_secs() })
            }
        }
    }

    fn label_filters(&self) -> Vec<String> {
        vec![
            format!("{}={}", spec::CLUSTER, self.scope.cluster),
            format!("{}={}", spec::NODE, self.scope.node),
        ]
    }

    /// A container of that name that we made for the same instance.
    async fn adopt(&self, spec: &ContainerSpec) -> Result<Option<String>, EngineError> {
        let client = self.client()?;
        let options = None::<query::InspectContainerOptions>;
        let existing = self.within(SHORT, "inspect", client.inspect_container(&spec.name, options)).await?;
        let labels = existing.config.and_then(|config| config.labels).unwrap_or_default();
        let ours = spec.labels.iter().all(|(key, value)| labels.get(key) == Some(value));
        Ok(existing.id.filter(|_| ours))
    }
}

impl ContainerEngine for DockerEngine {
    async fn list(&self) -> Result<Vec<Found>, EngineError> {
        let client = self.client()?;
        let filters = HashMap::from([("label".to_owned(), self.label_filters())]);
        let options =
            query::ListContainersOptions { all: true, filters: Some(filters), ..Default::default() };
        let summaries = self.within(LONG, "list", client.list_containers(Some(options))).await?;
        let ids: Vec<String> = summaries.into_iter().filter_map(|summary| summary.id).collect();
        let inspections = ids.into_iter().map(|id| async move { self.inspect(&id).await });
        let all: Vec<Option<Found>> =
            futures_util::stream::iter(inspections).buffer_unordered(CONCURRENT_STARTS).try_collect().await?;
        Ok(all.into_iter().flatten().collect())
    }

    async fn inspect(&self, id: &str) -> Result<Option<Found>, EngineError> {
        let client = self.client()?;
        let options = None::<query::InspectContainerOptions>;
        match self.within(SHORT, "inspect", client.inspect_container(id, options)).await {
            Ok(response) => Ok(found(&self.scope, response)),
            Err(EngineError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn create(&self, spec: ContainerSpec) -> Result<String, EngineError> {
        let client = self.client()?;
        let options = query::CreateContainerOptions { name: Some(spec.name.clone()), ..Default::default() };
        let body = container_body(&self.scope, &spec);
        match self.within(LONG, "create", client.create_container(Some(options), body)).await {
            Ok(created) => Ok(created.id),
            // An earlier call was answered too late, or the agent died after it: the container is there.
            Err(EngineError::Conflict(message)) => {
                let adopted = self.adopt(&spec).await?;
                adopted.ok_or_else(|| {
                    EngineError::Conflict(format!(
                        "{message}; remove that container: docker rm -f {}",
                        spec.name
                    ))
                })
            }
            Err(error) => Err(error),
        }
    }

    async fn start(&self, id: &str) -> Result<(), EngineError> {
        let client = self.client()?;
        let _permit = self.starts.acquire().await.map_err(|error| EngineError::Other(error.to_string()))?;
        let options = None::<query::StartContainerOptions>;
        self.within(LONG, "start", client.start_container(id, options)).await
    }

    async fn signal(&self, id: &str, signal: &str) -> Result<(), EngineError> {
        let client = self.client()?;
        let options = query::KillContainerOptions { signal: signal.to_owned() };
        match self.within(SHORT, "kill", client.kill_container(id, Some(options))).await {
            Ok(()) | Err(EngineError::NotFound(_) | EngineError::Conflict(_)) => Ok(()),
            Err(EngineError::Other(message)) if message.contains("is not running") => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn remove(&self, id: &str) -> Result<(), EngineError> {
        let client = self.client()?;
        let options = query::RemoveContainerOptions { force: true, v: true, ..Default::default() };
        match self.within(LONG, "remove", client.remove_container(id, Some(options))).await {
            Ok(()) | Err(EngineError::NotFound(_)) => Ok(()),
            Err(EngineError::Conflict(message)) if message.contains("already in progress") => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn image(&self, image: &str) -> Result<Option<ImageConfig>, EngineError> {
        // It becomes part of a path.
        ImageName::parse(image).map_err(EngineError::Other)?;
        let client = self.client()?;
        match self.within(SHORT, "inspect image", client.inspect_image(image)).await {
            Ok(image) => {
                let config = image.config.unwrap_or_default();
                Ok(Some(ImageConfig {
                    user: config.user.unwrap_or_default(),
                    volumes: config.volumes.unwrap_or_default(),
                }))
            }
            Err(EngineError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn pull(&self, image: &str) -> Result<(), EngineError> {
        let client = self.client()?;
        let name = ImageName::parse(image).map_err(EngineError::Other)?;
        let options = query::CreateImageOptions {
            from_image: Some(name.repository),
            tag: Some(name.tag),
            ..Default::default()
        };
        let mut progress = std::pin::pin!(client.create_image(Some(options), None, None));
        while self.within(PULL_SILENCE, "pull", progress.try_next()).await?.is_some() {}
        Ok(())
    }

    async fn exec(&self, id: &str, command: &[String], timeout: Duration) -> Result<ExecResult, EngineError> {
        self.run_command(id, command, timeout).await
    }

    async fn open_exec(
        &self,
        id: &str,
        command: &[String],
        streams: ContainerStreams,
    ) -> Result<Process, EngineError> {
        self.exec_process(id, command, streams).await
    }

    async fn open_attach(&self, id: &str, streams: ContainerStreams) -> Result<Process, EngineError> {
        self.attach_process(id, streams).await
    }

    async fn resize(&self, process: &ProcessHandle, size: TerminalSize) -> Result<(), EngineError> {
        self.resize_process(process, size).await
    }

    async fn exit_code(&self, exec: &str) -> Result<Option<i64>, EngineError> {
        self.exec_exit_code(exec).await
    }

    async fn hang_up(&self, container: &str, exec: &str) -> Result<(), EngineError> {
        self.end_exec(container, exec).await
    }

    async fn logs(&self, id: &str, options: LogOptions) -> Result<LogStream, EngineError> {
        self.read_log(id, options).await
    }

    async fn volume_path(&self, name: &str) -> Result<Option<std::path::PathBuf>, EngineError> {
        let client = self.client()?;
        match self.within(SHORT, "inspect volume", client.inspect_volume(name)).await {
            Ok(volume) => Ok(Some(volume.mountpoint.into())),
            Err(EngineError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn remove_volumes(&self, uid: &str) -> Result<(), EngineError> {
        let client = self.client()?;
        let mut labels = self.label_filters();
        labels.push(format!("{}={uid}", spec::POD_UID));
        let options =
            query::ListVolumesOptions { filters: Some(HashMap::from([("label".to_owned(), labels)])) };
        let list = self.within(SHORT, "list volumes", client.list_volumes(Some(options))).await?;
        for volume in list.volumes.unwrap_or_default() {
            let options = None::<query::RemoveVolumeOptions>;
            match self.within(SHORT, "remove volume", client.remove_volume(&volume.name, options)).await {
                Ok(()) | Err(EngineError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn info(&self) -> Result<EngineInfo, EngineError> {
        let client = self.client()?;
        let info = self.within(SHORT, "info", client.info()).await?;
        let images =
            self.within(LONG, "list images", client.list_images(None::<query::ListImagesOptions>)).await?;
        Ok(EngineInfo {
            id: info.id.unwrap_or_default(),
            version: info.server_version.unwrap_or_default(),
            cpus: info.ncpu.unwrap_or_default(),
            memory: info.mem_total.unwrap_or_default(),
            kernel: info.kernel_version.unwrap_or_default(),
            operating_system: info.operating_system.unwrap_or_default(),
            architecture: info.architecture.unwrap_or_default(),
            images: images.into_iter().map(|image| (image.repo_tags, image.size)).collect(),
        })
    }

    async fn events(&self) -> Result<BoxStream<'static, Result<String, EngineError>>, EngineError> {
        let client = self.client()?;
        // The stream below asks only when it is first read: this call tells at once whether anybody answers.
        self.within(SHORT, "ping", client.ping()).await?;
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let filters = HashMap::from([
            ("type".to_owned(), words(&["container"])),
            ("event".to_owned(), words(&["create", "start", "die", "oom", "destroy"])),
            ("label".to_owned(), self.label_filters()),
        ]);
        let since = (Timestamp::now().as_second() - EVENT_OVERLAP_SECONDS).to_string();
        let options =
            query::EventsOptions { since: Some(since), filters: Some(filters), ..Default::default() };
        let broken =
            |error: BollardError| EngineError::Unavailable(format!("the event stream broke: {error}"));
        let stream = client.events(Some(options)).map_err(broken);
        let ids = stream.try_filter_map(|event| async move { Ok(event.actor.and_then(|actor| actor.id)) });
        Ok(ids.boxed())
    }
}
