//! One agent with its own state directory, node name, feed and netd.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use bollard::{Docker, query_parameters as query};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, future::BoxFuture};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};
use warren_agent::{
    driver::{Driver, Parts},
    netd::NetdLinks,
    runtime::{ContainerEngine, Scope, docker::DockerEngine, spec::Surroundings},
    streams,
    tokens::Issuer,
    volumes::Volumes,
};
use warren_proto::{
    attach::{
        AttachRequest, AttachResponse, Attachment, DetachRequest, DetachResponse, ListRequest, ListResponse,
        StatusRequest, StatusResponse,
        attachments_server::{Attachments, AttachmentsServer},
    },
    control::{
        Container, ContainerStatus, IssueTokenRequest, IssueTokenResponse, LogsRequest, PodInstruction,
        PodStatus, PullPolicy, RestartPolicy, container_state::State as ContainerState, feed_item::Item,
    },
    vocabulary::Cursor,
};
use warren_runtime::{
    CancellationToken,
    feed::{self, Feed},
    tasks::TaskSet,
};

pub(crate) const CLUSTER: &str = "agenttest";
pub(crate) const SANDBOX_IMAGE: &str = "agenttest-sandbox:1";
pub(crate) const IMAGE: &str = "agenttest-busybox:1";
const SOCKET: &str = "/var/run/docker.sock";
/// Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// Images are made by the first test and removed by the last.
static USERS: tokio::sync::Mutex<usize> = tokio::sync::Mutex::const_new(0);

/// Issues numbered tokens, unless it is told not to.
#[derive(Default)]
pub(crate) struct FakeIssuer {
    pub(crate) asked: Mutex<Vec<IssueTokenRequest>>,
    pub(crate) refuses: AtomicBool,
}

impl Issuer for FakeIssuer {
    fn issue(&self, request: IssueTokenRequest) -> BoxFuture<'_, Result<IssueTokenResponse, String>> {
        let mut asked = self.asked.lock();
        asked.push(request.clone());
        let expires = jiff::Timestamp::now().as_millisecond() + request.expiration_seconds * 1_000;
        let answer = match self.refuses.load(Ordering::Relaxed) {
            true => Err("nobody is at home".to_owned()),
            false => {
                Ok(IssueTokenResponse { token: format!("token-{}", asked.len()), expires_at_ms: expires })
            }
        };
        Box::pin(std::future::ready(answer))
    }
}

/// Notes what it is asked, and forgets what it is told to forget.
#[derive(Clone, Default)]
pub(crate) struct FakeNetd {
    pub(crate) links: Arc<Mutex<BTreeMap<String, AttachRequest>>>,
    pub(crate) calls: Arc<Mutex<Vec<String>>>,
}

#[tonic::async_trait]
impl Attachments for FakeNetd {
    async fn attach(&self, request: Request<AttachRequest>) -> Result<Response<AttachResponse>, Status> {
        let request = request.into_inner();
        if !Path::new(&request.namespace_path).exists() {
            return Err(Status::not_found(format!("{} does not exist", request.namespace_path)));
        }
        self.calls.lock().push(format!("attach {}", request.pod));
        self.links.lock().insert(request.pod_uid.clone(), request);
        Ok(Response::new(AttachResponse {}))
    }
    async fn detach(&self, request: Request<DetachRequest>) -> Result<Response<DetachResponse>, Status> {
        let uid = request.into_inner().pod_uid;
        self.calls.lock().push(format!("detach {uid}"));
        self.links.lock().remove(&uid);
        Ok(Response::new(DetachResponse {}))
    }
    async fn list(&self, _request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        let links = self.links.lock();
        let attachments = links.values().map(|link| Attachment {
            pod_uid: link.pod_uid.clone(),
            address: link.address.clone(),
            interface: String::new(),
        });
        Ok(Response::new(ListResponse { attachments: attachments.collect() }))
    }
    async fn status(&self, _request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        Ok(Response::new(StatusResponse::default()))
    }
}

impl FakeNetd {
    fn listen(&self, socket: PathBuf, stop: CancellationToken) {
        std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let listener = tokio::net::UnixListener::bind(socket).unwrap();
        let server = tonic::transport::Server::builder().add_service(AttachmentsServer::new(self.clone()));
        tokio::spawn(async move {
            server
                .serve_with_incoming_shutdown(UnixListenerStream::new(listener), async move {
                    stop.cancelled().await
                })
                .await
        });
    }
}

pub(crate) type TestDriver = Driver<DockerEngine, NetdLinks>;

pub(crate) struct Bench {
    pub(crate) node: String,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) netd: FakeNetd,
    pub(crate) docker: Docker,
    pub(crate) socket: PathBuf,
    pub(crate) driver: Arc<TestDriver>,
    publish: watch::Sender<Option<Arc<feed::FeedState>>>,
    pub(crate) acknowledged: watch::Receiver<u64>,
    pods: BTreeMap<String, PodInstruction>,
    revision: u64,
    agent_stop: CancellationToken,
    pub(crate) issuer: Arc<FakeIssuer>,
    agent: tokio::task::JoinHandle<anyhow::Result<()>>,
    stop: CancellationToken,
}

impl Bench {
    pub(crate) async fn new(test: &str) -> Self {
        Self::with_socket(test, PathBuf::from(SOCKET)).await
    }

    /// An agent whose engine is behind `socket`, which may not exist yet.
    pub(crate) async fn with_socket(test: &str, socket: PathBuf) -> Self {
        let docker = Docker::connect_with_unix(SOCKET, 120, bollard::API_DEFAULT_VERSION)
            .expect("the tests of the agent need a Docker engine at /var/run/docker.sock");
        let mut users = USERS.lock().await;
        if *users == 0 {
            import_images(&docker).await;
        }
        *users += 1;
        drop(users);
        let node = format!("agenttest-{test}");
        remove_containers(&docker, &node).await;
        let dir = tempfile::tempdir().unwrap();
        let (netd, stop) = (FakeNetd::default(), CancellationToken::new());
        netd.listen(dir.path().join("run/netd.sock"), stop.clone());
        let (feed, publish, acknowledged) = Feed::manual();
        let issuer = Arc::new(FakeIssuer::default());
        let (driver, agent, agent_stop) = start_agent(&node, dir.path(), &socket, feed, Arc::clone(&issuer));
        Self {
            node,
            dir,
            netd,
            docker,
            socket,
            driver,
            publish,
            acknowledged,
            pods: BTreeMap::new(),
            revision: 0,
            agent_stop,
            issuer,
            agent,
            stop,
        }
    }

    /// Ends the agent, as a crash would, and leaves everything else.
    pub(crate) async fn stop_agent(&mut self) {
        self.agent_stop.cancel();
        (&mut self.agent).await.unwrap().unwrap();
    }

    /// A new agent on the same state directory, which knows the last accepted feed.
    pub(crate) fn start_agent(&mut self) {
        let (feed, publish, acknowledged) = Feed::manual();
        let last = self.publish.borrow().clone();
        (self.publish, self.acknowledged) = (publish, acknowledged);
        self.publish.send_replace(last);
        (self.driver, self.agent, self.agent_stop) =
            start_agent(&self.node, self.dir.path(), &self.socket, feed, Arc::clone(&self.issuer));
    }

    /// Changes the feed and publishes it.
    pub(crate) fn feed(&mut self, change: impl FnOnce(&mut BTreeMap<String, PodInstruction>)) {
        change(&mut self.pods);
        self.revision += 1;
        let items =
            self.pods.values().map(|pod| (format!("pod/{}", pod.uid), Item::Pod(pod.clone()))).collect();
        let cursor = Cursor { epoch: 1, revision: self.revision };
        self.publish.send_replace(Some(Arc::new(feed::FeedState { cursor, items })));
    }

    pub(crate) fn want(&mut self, pod: PodInstruction) {
        self.feed(|pods| drop(pods.insert(pod.uid.clone(), pod)));
    }

    pub(crate) fn status(&self, uid: &str) -> PodStatus {
        self.driver.outbox().status(uid).unwrap_or_default()
    }

    /// Waits until `check` holds; a failure shows the last status.
    pub(crate) async fn until(&self, uid: &str, what: &str, check: impl Fn(&PodStatus) -> bool) -> PodStatus {
        let begun = Instant::now();
        loop {
            let status = self.status(uid);
            if check(&status) {
                return status;
            }
            let events: Vec<_> = self.driver.outbox().pending_events();
            assert!(begun.elapsed() < PATIENCE, "{what} did not come: {status:#?}\nevents: {events:#?}");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    pub(crate) async fn until_ready(&self, uid: &str) -> PodStatus {
        let ready = |status: &PodStatus| {
            status.attached && !status.containers.is_empty() && status.containers.iter().all(|c| c.ready)
        };
        self.until(uid, "readiness", ready).await
    }

    /// Runs a shell line in a container.
    pub(crate) async fn sh(&self, status: &PodStatus, container: &str, line: &str) -> String {
        let id = container_id(container_of(status, container));
        let command = ["/bin/sh", "-c", line].map(str::to_owned);
        let result = self.driver.engine().exec(&id, &command, Duration::from_secs(60)).await.unwrap();
        result.output
    }

    pub(crate) async fn logs(
        &self,
        uid: &str,
        container: &str,
        request: LogsRequest,
    ) -> Result<String, String> {
        let stream = streams::open_logs(&self.driver, uid, container, &request).await?;
        let pieces: Vec<Bytes> =
            tokio::time::timeout(PATIENCE, stream.try_collect()).await.expect("it ends")?;
        Ok(String::from_utf8(pieces.concat()).unwrap())
    }

    /// Makes an image `NAME:1` like the tests' own, with these lines of a Dockerfile.
    pub(crate) async fn import(&self, name: &str, changes: &[&str]) {
        let lines = format!("FROM {IMAGE}\n{}\n", changes.join("\n"));
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(lines.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        archive.append_data(&mut header, "Dockerfile", lines.as_bytes()).unwrap();
        let body = bollard::body_full(Bytes::from(archive.into_inner().unwrap()));
        let options =
            query::BuildImageOptions { t: Some(format!("{name}:1")), rm: true, ..Default::default() };
        let mut progress = self.docker.build_image(options, None, Some(body)).boxed();
        while progress.try_next().await.unwrap().is_some() {}
    }

    pub(crate) fn has_event(&self, reason: &str, part: &str) -> bool {
        let events = self.driver.outbox().pending_events();
        events.iter().any(|event| event.reason == reason && event.message.contains(part))
    }

    pub(crate) async fn kill(&self, id: &str) {
        self.docker.kill_container(id, None::<query::KillContainerOptions>).await.unwrap();
    }

    /// Ends the agent and removes everything that the test made.
    pub(crate) async fn end(mut self) {
        self.stop_agent().await;
    }
}

impl Drop for Bench {
    /// A test that fails cleans up, too.
    fn drop(&mut self) {
        self.agent_stop.cancel();
        self.stop.cancel();
        let node = self.node.clone();
        // A runtime of its own: the test's may be the one that is ending.
        let clean = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(clean_up(&node));
        };
        let _ = std::thread::spawn(clean).join();
    }
}

async fn clean_up(node: &str) {
    let docker = Docker::connect_with_unix(SOCKET, 120, bollard::API_DEFAULT_VERSION).unwrap();
    remove_containers(&docker, node).await;
    let shared = Path::new("/dev/shm/warren").join(CLUSTER);
    let _ = std::fs::remove_dir_all(shared.join(node));
    let mut users = USERS.lock().await;
    *users -= 1;
    if *users == 0 {
        // The tests' own, and what a test that failed left.
        let filters = [("reference".to_owned(), vec!["agenttest-*".to_owned()])];
        let options = query::ListImagesOptions { filters: Some(filters.into()), ..Default::default() };
        for image in docker.list_images(Some(options)).await.unwrap_or_default() {
            for name in image.repo_tags {
                let options = query::RemoveImageOptions { force: true, ..Default::default() };
                let _ = docker.remove_image(&name, Some(options), None).await;
            }
        }
        let _ = std::fs::remove_dir(&shared);
    }
}

fn start_agent(
    node: &str,
    dir: &Path,
    socket: &Path,
    feed: Feed,
    issuer: Arc<FakeIssuer>,
) -> (Arc<TestDriver>, tokio::task::JoinHandle<anyhow::Result<()>>, CancellationToken) {
    let scope = Scope { cluster: CLUSTER.into(), node: node.into() };
    let stop = CancellationToken::new();
    let mut tasks = TaskSet::new(stop.clone());
    let parts = Parts {
        engine: Arc::new(DockerEngine::new(socket.to_str().unwrap(), scope.clone())),
        links: Arc::new(NetdLinks::new(dir.join("run/netd.sock"))),
        issuer,
        volumes: Volumes::new(dir, CLUSTER, node, Some(dir.join("host")), socket.to_str().unwrap()),
        around: Surroundings {
            scope,
            cgroup_parent: None,
            sandbox_image: SANDBOX_IMAGE.into(),
            pids_limit: Some(256),
        },
        recall_file: dir.join("agent.json"),
        past_dir: dir.join("past"),
    };
    let driver = Driver::start(&mut tasks, parts, feed);
    (driver, tokio::spawn(tasks.wait()), stop)
}

pub(crate) fn containers_of(docker: &Docker, node: &str) -> impl Future<Output = Vec<String>> + use<> {
    let filters =
        [("label".to_owned(), vec![format!("warren.cluster={CLUSTER}"), format!("warren.node={node}")])];
    let options =
        query::ListContainersOptions { all: true, filters: Some(filters.into()), ..Default::default() };
    let docker = docker.clone();
    async move {
        let list = docker.list_containers(Some(options)).await.unwrap();
        list.into_iter().filter_map(|container| container.id).collect()
    }
}

async fn remove_containers(docker: &Docker, node: &str) {
    for id in containers_of(docker, node).await {
        let options = query::RemoveContainerOptions { force: true, v: true, ..Default::default() };
        let _ = docker.remove_container(&id, Some(options)).await;
    }
    let labels = vec![format!("warren.cluster={CLUSTER}"), format!("warren.node={node}")];
    let options = query::ListVolumesOptions { filters: Some([("label".to_owned(), labels)].into()) };
    let volumes = docker.list_volumes(Some(options)).await.unwrap();
    for volume in volumes.volumes.unwrap_or_default() {
        let _ = docker.remove_volume(&volume.name, None::<query::RemoveVolumeOptions>).await;
    }
}

/// Busybox with a shell, and the same with an entry point that waits for its end as the real sandbox does.
async fn import_images(docker: &Docker) {
    let archive = busybox_archive();
    import_image(docker, IMAGE, archive.clone(), vec![]).await;
    import_image(docker, SANDBOX_IMAGE, archive, vec!["ENTRYPOINT [\"/warren\"]".to_owned()]).await;
}

fn busybox_archive() -> Bytes {
    let busybox = std::fs::read("/bin/busybox").expect("the tests need the package busybox-static");
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |path: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        header.set_cksum();
        archive.append_data(&mut header, path, content).unwrap();
    };
    add("bin/busybox", &busybox);
    add(
        "warren",
        b"#!/bin/busybox sh\ntrap 'exit 0' TERM INT\nwhile :; do /bin/busybox sleep 1000 & wait $!; done\n",
    );
    for applet in
        ["sh", "sleep", "cat", "ls", "echo", "kill", "test", "rm", "touch", "stat", "id", "hostname", "seq"]
    {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        archive.append_link(&mut header, format!("bin/{applet}"), "/bin/busybox").unwrap();
    }
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_size(0);
    header.set_mode(0o1777);
    archive.append_data(&mut header, "tmp/", std::io::empty()).unwrap();
    Bytes::from(archive.into_inner().unwrap())
}

/// Makes an image of one layer.
async fn import_image(docker: &Docker, image: &str, archive: Bytes, changes: Vec<String>) {
    let (repository, tag) = image.split_once(':').unwrap();
    let options = query::CreateImageOptions {
        from_src: Some("-".into()),
        repo: Some(repository.into()),
        tag: Some(tag.into()),
        changes,
        ..Default::default()
    };
    let body = bollard::body_full(archive);
    let mut progress = docker.create_image(Some(options), Some(body), None).boxed();
    while progress.try_next().await.unwrap().is_some() {}
}

/// A container that runs a shell line.
pub(crate) fn container(name: &str, line: &str) -> Container {
    Container {
        name: name.into(),
        image: IMAGE.into(),
        pull_policy: PullPolicy::IfNotPresent.into(),
        command: ["/bin/sh", "-c", line].map(str::to_owned).into(),
        ..Container::default()
    }
}

/// A line that ends at once on SIGTERM, and not before.
pub(crate) const STAY: &str = "trap 'exit 0' TERM; sleep 1000 & wait $!";

/// UIDs are unique on a machine: containers are named after them.
static NEXT_UID: AtomicU32 = AtomicU32::new(1);

/// A pod of these containers.
pub(crate) fn pod(n: u8, containers: Vec<Container>) -> PodInstruction {
    let unique = (std::process::id() << 12) | NEXT_UID.fetch_add(1, Ordering::Relaxed);
    PodInstruction {
        uid: format!("{unique:08x}-1111-4222-8333-444444444444"),
        namespace: "default".into(),
        name: format!("pod-{n}"),
        hostname: format!("pod-{n}"),
        address: format!("10.42.1.{n}"),
        containers,
        restart_policy: RestartPolicy::Always.into(),
        ..PodInstruction::default()
    }
}

pub(crate) fn container_of<'a>(status: &'a PodStatus, name: &str) -> &'a ContainerStatus {
    let all = status.containers.iter().chain(&status.init_containers);
    all.into_iter()
        .find(|container| container.name == name)
        .unwrap_or_else(|| panic!("no {name} in {status:#?}"))
}

pub(crate) fn container_id(container: &ContainerStatus) -> String {
    container.container_id.strip_prefix("docker://").expect("an id of the engine").to_owned()
}

pub(crate) fn state(container: &ContainerStatus) -> Option<&ContainerState> {
    container.state.as_ref().and_then(|state| state.state.as_ref())
}

/// The reason for which a container waits.
pub(crate) fn waits_for<'a>(status: &'a PodStatus, name: &str) -> &'a str {
    let container =
        status.containers.iter().chain(&status.init_containers).find(|container| container.name == name);
    match container.and_then(state) {
        Some(ContainerState::Waiting(waiting)) => &waiting.reason,
        _ => "",
    }
}
