//! The local Docker engine: a thin layer over bollard in which every call has a time-out and every
//! failure to reach the engine says how to mend it.

use std::{
    collections::HashMap, io::ErrorKind, os::unix::net::UnixStream, path::Path, path::PathBuf, time::Duration,
};

use anyhow::{Context as _, bail};
use bollard::{
    API_DEFAULT_VERSION, Docker,
    container::LogOutput,
    errors::Error,
    models::{ContainerCreateBody, ContainerSummary, NetworkCreateRequest},
    query_parameters::{
        ContainerArchiveInfoOptionsBuilder, CreateContainerOptionsBuilder,
        DownloadFromContainerOptionsBuilder, ListContainersOptionsBuilder, ListVolumesOptionsBuilder,
        LogsOptionsBuilder, RemoveContainerOptionsBuilder, RemoveVolumeOptionsBuilder,
        StopContainerOptionsBuilder,
    },
};
use futures_util::TryStreamExt as _;

const DEFAULT_SOCKET: &str = "/var/run/docker.sock";
/// bollard's time-out for one request.
const REQUEST_SECONDS: u64 = 60;
/// For the calls that stream.
const STREAM_TIMEOUT: Duration = Duration::from_secs(120);

/// The label that names the cluster.
pub(crate) const CLUSTER_LABEL: &str = "warren.cluster";
/// The label that names the node a pod's container belongs to.
pub(crate) const NODE_LABEL: &str = "warren.node";

/// A connection to the engine.
#[derive(Debug, Clone)]
pub(crate) struct LocalDocker {
    pub(crate) docker: Docker,
    /// Where its socket lies.
    pub(crate) socket: PathBuf,
}

impl LocalDocker {
    /// The engine that the Docker client of this shell would use; it must be a local one.
    pub(crate) async fn connect() -> anyhow::Result<Self> {
        let socket = match std::env::var("DOCKER_HOST") {
            Ok(host) if !host.is_empty() => match host.strip_prefix("unix://") {
                Some(path) => PathBuf::from(path),
                None => bail!(
                    "DOCKER_HOST is {host}, but a cluster of containers needs the engine of this machine: unset \
                     DOCKER_HOST"
                ),
            },
            _ => PathBuf::from(DEFAULT_SOCKET),
        };
        Self::open(&socket).await
    }

    /// The engine behind `socket`.
    pub(crate) async fn open(socket: &Path) -> anyhow::Result<Self> {
        // A plain connection first: its error says which mend applies, bollard's does not.
        UnixStream::connect(socket).map_err(|error| unreachable(socket, &error))?;
        let path = socket.to_str().context("the Docker socket's path is not UTF-8")?;
        let docker = Docker::connect_with_unix(path, REQUEST_SECONDS, API_DEFAULT_VERSION)
            .context("cannot connect to Docker")?
            .negotiate_version()
            .await
            .with_context(|| format!("the Docker engine behind {path} does not answer"))?;
        Ok(Self { docker, socket: socket.to_owned() })
    }

    /// All containers that carry `label`, running or not.
    pub(crate) async fn containers(&self, label: &str) -> anyhow::Result<Vec<ContainerSummary>> {
        let filters = HashMap::from([("label", vec![label])]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        self.docker.list_containers(Some(options)).await.context("cannot list containers")
    }

    pub(crate) async fn create(&self, name: &str, body: ContainerCreateBody) -> anyhow::Result<()> {
        let options = CreateContainerOptionsBuilder::default().name(name).build();
        self.docker
            .create_container(Some(options), body)
            .await
            .map(|_| ())
            .with_context(|| format!("cannot create the container {name}"))
    }

    pub(crate) async fn start(&self, name: &str) -> anyhow::Result<()> {
        let started = self.docker.start_container(name, None).await;
        done_already(started, 304).with_context(|| format!("cannot start the container {name}"))
    }

    pub(crate) async fn unpause(&self, name: &str) -> anyhow::Result<()> {
        self.docker
            .unpause_container(name)
            .await
            .with_context(|| format!("cannot unpause the container {name}"))
    }

    /// Asks the container to stop, and kills it after `grace`.
    pub(crate) async fn stop(&self, name: &str, grace: Duration) -> anyhow::Result<()> {
        let seconds = i32::try_from(grace.as_secs()).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::default().t(seconds).build();
        let stopped = self.docker.stop_container(name, Some(options)).await;
        done_already(done_already(stopped, 304), 404)
            .with_context(|| format!("cannot stop the container {name}"))
    }

    /// Kills and removes a container; one that is gone, or on its way out, is no error.
    pub(crate) async fn remove(&self, name: &str) -> anyhow::Result<()> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        let removed = self.docker.remove_container(name, Some(options)).await;
        done_already(done_already(removed, 404), 409)
            .with_context(|| format!("cannot remove the container {name}"))
    }

    /// The last lines a container wrote.
    pub(crate) async fn last_lines(&self, name: &str, count: usize) -> String {
        let options =
            LogsOptionsBuilder::default().stdout(true).stderr(true).tail(&count.to_string()).build();
        let read = self.docker.logs(name, Some(options)).try_collect::<Vec<LogOutput>>();
        match tokio::time::timeout(Duration::from_secs(10), read).await {
            Ok(Ok(parts)) => parts.iter().map(ToString::to_string).collect(),
            _ => String::new(),
        }
    }

    /// A file inside a container, running or not; none when the file does not exist.
    pub(crate) async fn read_file(&self, container: &str, path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
        let options = DownloadFromContainerOptionsBuilder::default().path(&path.to_string_lossy()).build();
        let read = async {
            self.docker.download_from_container(container, Some(options)).try_fold(Vec::new(), append).await
        };
        let what = || format!("cannot read {} in the container {container}", path.display());
        match tokio::time::timeout(STREAM_TIMEOUT, read).await.with_context(what)? {
            Ok(archive) => first_file(&archive).with_context(what).map(Some),
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(error) => Err(error).with_context(what),
        }
    }

    /// Whether a path exists inside a container, running or not.
    pub(crate) async fn has_file(&self, container: &str, path: &Path) -> anyhow::Result<bool> {
        let options = ContainerArchiveInfoOptionsBuilder::default().path(&path.to_string_lossy()).build();
        match self.docker.get_container_archive_info(container, Some(options)).await {
            Ok(_) => Ok(true),
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(false),
            Err(error) => Err(error).with_context(|| format!("cannot look into the container {container}")),
        }
    }

    /// Creates a bridge network that carries the cluster's label.
    pub(crate) async fn create_network(&self, name: &str, cluster: &str) -> anyhow::Result<()> {
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("bridge".to_owned()),
            labels: Some(HashMap::from([(CLUSTER_LABEL.to_owned(), cluster.to_owned())])),
            ..NetworkCreateRequest::default()
        };
        self.docker
            .create_network(request)
            .await
            .map(|_| ())
            .with_context(|| format!("cannot create the Docker network {name}"))
    }

    /// Removes the volumes that carry `label`.
    pub(crate) async fn remove_volumes(&self, label: &str) -> anyhow::Result<usize> {
        let filters = HashMap::from([("label", vec![label])]);
        let options = ListVolumesOptionsBuilder::default().filters(&filters).build();
        let listed = self.docker.list_volumes(Some(options)).await.context("cannot list volumes")?;
        let volumes = listed.volumes.unwrap_or_default();
        for volume in &volumes {
            let options = RemoveVolumeOptionsBuilder::default().force(true).build();
            let removed = self.docker.remove_volume(&volume.name, Some(options)).await;
            done_already(removed, 404)
                .with_context(|| format!("cannot remove the volume {}", volume.name))?;
        }
        Ok(volumes.len())
    }
}

/// Turns the answer "it is so already" into success.
pub(crate) fn done_already(answer: Result<(), Error>, code: u16) -> Result<(), Error> {
    match answer {
        Err(Error::DockerResponseServerError { status_code, .. }) if status_code == code => Ok(()),
        answer => answer,
    }
}

async fn append(mut all: Vec<u8>, part: bytes::Bytes) -> Result<Vec<u8>, Error> {
    all.extend_from_slice(&part);
    Ok(all)
}

fn first_file(archive: &[u8]) -> anyhow::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut archive = tar::Archive::new(archive);
    let mut entry = archive.entries()?.next().context("the archive is empty")??;
    let mut contents = Vec::new();
    entry.read_to_end(&mut contents)?;
    Ok(contents)
}

fn unreachable(socket: &Path, error: &std::io::Error) -> anyhow::Error {
    let socket = socket.display();
    match error.kind() {
        ErrorKind::NotFound => anyhow::anyhow!(
            "there is no Docker engine ({socket} does not exist): install one (as root: deploy/prerequisites.sh, or \
             apt-get install docker.io) or start it (systemctl start docker)"
        ),
        ErrorKind::PermissionDenied => anyhow::anyhow!(
            "no permission to use the Docker engine ({socket}): run as root, or join the group docker (as root: \
             usermod -aG docker USER, then log in again)"
        ),
        ErrorKind::ConnectionRefused => anyhow::anyhow!(
            "the Docker engine is stopped ({socket} exists, but nobody answers): start it (systemctl start docker)"
        ),
        _ => anyhow::anyhow!("cannot reach the Docker engine ({socket}): {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn failure(socket: &Path) -> String {
        LocalDocker::open(socket).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn each_way_to_miss_the_engine_has_its_own_mend() {
        let directory = std::env::temp_dir().join(format!("warren-cli-engine-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let missing = failure(&directory.join("missing.sock")).await;
        assert!(missing.contains("there is no Docker engine") && missing.contains("install"), "{missing}");
        let stale = directory.join("stale.sock");
        drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
        let stopped = failure(&stale).await;
        assert!(stopped.contains("is stopped") && stopped.contains("start it"), "{stopped}");
        std::fs::remove_dir_all(&directory).unwrap();
        let denied = unreachable("/s".as_ref(), &ErrorKind::PermissionDenied.into()).to_string();
        assert!(denied.contains("no permission") && denied.contains("group docker"), "{denied}");
    }

    #[test]
    fn a_file_is_taken_out_of_its_archive() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(3);
        builder.append_data(&mut header, "a", &b"abc"[..]).unwrap();
        assert_eq!(first_file(&builder.into_inner().unwrap()).unwrap(), b"abc");
        assert!(first_file(&[]).is_err());
    }
}
