//! What the machine is: reported at start, when it changes, and after a reconnection.

use std::{path::PathBuf, sync::Arc, time::Duration};

use sha2::{Digest, Sha256};
use warren_proto::control::{Image, NodeReport, control_client::ControlClient};
use warren_runtime::{CancellationToken, connection::Controller};

use crate::runtime::{ContainerEngine, EngineInfo, watch::Inventory};

/// Kubernetes' default.
const MAX_PODS: u32 = 110;
/// Images that are reported, the largest first, as Kubernetes does.
const IMAGES_REPORTED: usize = 50;
/// Slowly: images come and go. The engine itself is watched.
const LOOK: Duration = Duration::from_secs(30);
const LOOK_WHEN_TROUBLED: Duration = Duration::from_secs(1);
/// A repetition though nothing changed, so that a controller that forgot learns again.
const REPEAT: u32 = 4;
const CALL: Duration = Duration::from_secs(10);

type Client = ControlClient<tonic::transport::Channel>;

/// Reports the node until `stop`.
pub(crate) async fn run<E: ContainerEngine>(
    engine: Arc<E>,
    inventory: Arc<Inventory<E>>,
    controller: Controller,
    state_dir: PathBuf,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    // An agent that has not looked yet must not say that the engine is gone: each restart of it would make the node
    // NotReady for a moment.
    tokio::select! {
        () = stop.cancelled() => return Ok(()),
        () = inventory.asked() => {}
    }
    let mut client = None;
    let mut troubles = inventory.troubles();
    let mut info = EngineInfo::default();
    let mut last: Option<NodeReport> = None;
    let mut same = 0;
    loop {
        let mut trouble = troubles.borrow_and_update().clone();
        match engine.info().await {
            Ok(now) => info = now,
            Err(error) => trouble = trouble.or(Some(error.to_string())),
        }
        same += 1;
        let sent = async {
            // Connected first: the machine's address is our side of the connection.
            let client = connected(&mut client, &controller).await?;
            let report = describe(&info, trouble, &controller, &state_dir);
            if last.as_ref() != Some(&report) || same >= REPEAT {
                tokio::time::timeout(CALL, client.report_node(report.clone())).await??;
                (last, same) = (Some(report), 0);
            }
            anyhow::Ok(())
        };
        if let Err(error) = sent.await {
            tracing::debug!(error = format!("{error:#}"), "cannot report the node; trying again");
            (client, last) = (None, None);
        }
        let settled = last.as_ref().is_some_and(|report| report.runtime_ready);
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = troubles.changed() => {}
            () = tokio::time::sleep(if settled { LOOK } else { LOOK_WHEN_TROUBLED }) => {}
        }
    }
}

async fn connected<'c>(
    client: &'c mut Option<Client>,
    controller: &Controller,
) -> anyhow::Result<&'c mut Client> {
    match client {
        Some(client) => Ok(client),
        None => {
            let channel = tokio::time::timeout(CALL, controller.channel()).await??;
            Ok(client.insert(ControlClient::new(channel)))
        }
    }
}

fn describe(
    info: &EngineInfo,
    trouble: Option<String>,
    controller: &Controller,
    state_dir: &PathBuf,
) -> NodeReport {
    let read =
        |path: &str| std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    let hostname = read("/proc/sys/kernel/hostname");
    let mut images: Vec<Image> = info
        .images
        .iter()
        .map(|(names, size)| Image { names: names.clone(), size_bytes: *size })
        .filter(|image| !image.names.is_empty())
        .collect();
    images.sort_by(|a, b| b.size_bytes.cmp(&a.size_bytes).then_with(|| a.names.cmp(&b.names)));
    images.truncate(IMAGES_REPORTED);
    let storage = nix::sys::statvfs::statvfs(state_dir);
    NodeReport {
        cpu_millis: info.cpus.saturating_mul(1000),
        memory_bytes: info.memory,
        ephemeral_storage_bytes: storage
            .map(|fs| i64::try_from(fs.blocks().saturating_mul(fs.fragment_size())).unwrap_or(i64::MAX))
            .unwrap_or_default(),
        max_pods: MAX_PODS,
        machine_id: machine_id(&read("/etc/machine-id"), &info.id, controller.name()),
        boot_id: read("/proc/sys/kernel/random/boot_id"),
        kernel_version: if info.kernel.is_empty() {
            read("/proc/sys/kernel/osrelease")
        } else {
            info.kernel.clone()
        },
        os_image: info.operating_system.clone(),
        architecture: architecture(&info.architecture),
        container_runtime_version: format!("docker://{}", info.version),
        warren_version: env!("CARGO_PKG_VERSION").to_owned(),
        internal_ip: controller.local_address().map(|address| address.to_string()).unwrap_or_default(),
        hostname,
        images,
        runtime_ready: trouble.is_none(),
        message: trouble.unwrap_or_default(),
    }
}

/// The machine's own id; a stable one of the same form where the machine has none (an image with nothing in it).
fn machine_id(own: &str, engine: &str, node: &str) -> String {
    if !own.is_empty() {
        return own.to_owned();
    }
    let digest = Sha256::digest(format!("{engine}/{node}"));
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// Kubernetes uses Go's names.
fn architecture(engine: &str) -> String {
    match engine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
    .to_owned()
}
