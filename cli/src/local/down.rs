//! `warren down`: removes every trace of a cluster, and nothing else.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    io::ErrorKind,
    path::Path,
};

use anyhow::{Context as _, bail, ensure};
use bollard::{
    models::{ContainerCreateBody, ContainerSummary, HostConfig},
    query_parameters::{ListNetworksOptionsBuilder, WaitContainerOptions},
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{
    engine::{CLUSTER_LABEL, LocalDocker},
    image,
    image::Image,
    names::ClusterName,
    observe,
    progress::Progress,
};
use crate::output;

/// How many containers are removed at a time.
const REMOVALS_AT_A_TIME: usize = 8;
/// A start that was under way when its agent was killed may add a container after the first look.
const ROUNDS: usize = 5;

pub(crate) async fn run(cluster: &ClusterName) -> anyhow::Result<()> {
    let progress = Progress::new();
    let engine = LocalDocker::connect().await?;
    let label = format!("{CLUSTER_LABEL}={cluster}");
    let containers = ours(&engine, &label, cluster).await?;
    let images: BTreeSet<String> =
        containers.iter().filter_map(|container| container.image_id.clone()).collect();
    let any = !containers.is_empty() || cluster.state_root().exists() || cluster.memory_root().exists();

    progress.now("stopping nodes");
    let nodes = containers.iter().filter(|container| cluster.node_number(observe::name(container)).is_some());
    remove(&engine, nodes).await?;
    progress.now("removing containers");
    let count = remove_all(&engine, &label, cluster).await?;
    let networks = remove_networks(&engine, &label).await?;
    let volumes = engine.remove_volumes(&label).await?;
    progress.now("removing state");
    remove_directories(&engine, cluster).await?;
    let images = remove_images(&engine, &images).await?;
    drop(progress);

    let nothing = !any && networks + volumes + images == 0;
    output::print(if nothing {
        format!("there is no cluster {cluster} on this machine\n")
    } else {
        format!("cluster {cluster} is removed ({} containers)\n", count.max(containers.len()))
    });
    Ok(())
}

/// The containers of the cluster. A label alone says little: those of an image become its containers' own, so somebody
/// else's may bear ours.
async fn ours(
    engine: &LocalDocker,
    label: &str,
    cluster: &ClusterName,
) -> anyhow::Result<Vec<ContainerSummary>> {
    let mut containers = engine.containers(label).await?;
    containers.retain(|container| {
        let named = container.names.iter().flatten().next().is_some();
        observe::is_member(container, cluster)
            || observe::is_pods(container)
            || cluster.helpers().contains(&observe::name(container).to_owned())
            // One that is on its way out has lost its name already.
            || !named
    });
    Ok(containers)
}

async fn remove<'a>(
    engine: &LocalDocker,
    containers: impl Iterator<Item = &'a ContainerSummary>,
) -> anyhow::Result<()> {
    stream::iter(containers.filter_map(|container| container.id.as_deref()))
        .map(|identifier| engine.remove(identifier))
        .buffer_unordered(REMOVALS_AT_A_TIME)
        .try_collect()
        .await
}

/// Removes all containers with the label; no node is left that could make new ones.
async fn remove_all(engine: &LocalDocker, label: &str, cluster: &ClusterName) -> anyhow::Result<usize> {
    let mut removed = 0;
    for _ in 0..ROUNDS {
        let containers = ours(engine, label, cluster).await?;
        if containers.is_empty() {
            return Ok(removed);
        }
        removed += containers.len();
        remove(engine, containers.iter()).await?;
    }
    let left = ours(engine, label, cluster).await?;
    ensure!(
        left.is_empty(),
        "{} containers cannot be removed: see docker ps -a --filter label={label}",
        left.len()
    );
    Ok(removed)
}

async fn remove_networks(engine: &LocalDocker, label: &str) -> anyhow::Result<usize> {
    let filters = HashMap::from([("label", vec![label])]);
    let options = ListNetworksOptionsBuilder::default().filters(&filters).build();
    let networks = engine.docker.list_networks(Some(options)).await.context("cannot list networks")?;
    for network in &networks {
        let name = network.name.as_deref().unwrap_or_default();
        let identifier = network.id.as_deref().unwrap_or(name);
        let removed = engine.docker.remove_network(identifier).await;
        super::engine::done_already(removed, 404).with_context(|| {
            format!("cannot remove the network {name} (a container that is not Warren's may use it)")
        })?;
    }
    Ok(networks.len())
}

/// Removes those of Warren's images that only this cluster used, for its members or its pods.
async fn remove_images(engine: &LocalDocker, candidates: &BTreeSet<String>) -> anyhow::Result<usize> {
    let others: BTreeSet<String> = engine
        .containers(CLUSTER_LABEL)
        .await?
        .into_iter()
        .filter_map(|container| container.image_id)
        .collect();
    let mut removed = 0;
    for identifier in candidates.difference(&others) {
        removed += image::remove(engine, identifier).await?.len();
    }
    Ok(removed)
}

async fn remove_directories(engine: &LocalDocker, cluster: &ClusterName) -> anyhow::Result<()> {
    let Err(error) = erase(cluster) else { return Ok(()) };
    let denied = error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == ErrorKind::PermissionDenied);
    if !denied {
        return Err(error);
    }
    // The members run as root, this user may not; but a user who may use Docker may run this as root.
    erase_in_container(engine, cluster).await
}

/// Removes the cluster's directories, and their parents when nothing else is in them.
pub(crate) fn erase(cluster: &ClusterName) -> anyhow::Result<()> {
    for directory in [cluster.state_root(), cluster.memory_root()] {
        detach_mounts(&directory).with_context(|| format!("cannot unmount in {}", directory.display()))?;
        match fs::remove_dir_all(&directory) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot remove {}", directory.display()));
            }
        }
        // Fails when another cluster is in it, or when it is a mount point: both are fine.
        let _ = directory.parent().map(fs::remove_dir);
    }
    Ok(())
}

/// Takes away what is mounted below: an agent mounts parts of volumes while the engine starts a container, and one that
/// was killed in that moment left them. They are made private first, so that nothing goes with them.
fn detach_mounts(directory: &Path) -> std::io::Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(Path::new);
    let below: Vec<&Path> =
        points.filter(|point| point.starts_with(directory) && *point != directory).collect();
    for point in below.into_iter().rev() {
        let nothing = None::<&str>;
        mount(nothing, point, nothing, MsFlags::MS_PRIVATE | MsFlags::MS_REC, nothing)?;
        umount2(point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?;
    }
    Ok(())
}

async fn erase_in_container(engine: &LocalDocker, cluster: &ClusterName) -> anyhow::Result<()> {
    let image = Image::of_this_binary()?;
    image.ensure(engine).await?;
    let name = cluster.eraser();
    let parents = [cluster.state_root(), cluster.memory_root()];
    let parents = parents.iter().filter_map(|directory| directory.parent()).map(Path::display);
    let body = ContainerCreateBody {
        image: Some(image.name()),
        cmd: Some(["erase", "--name", cluster.as_str()].map(str::to_owned).to_vec()),
        labels: Some(HashMap::from([(CLUSTER_LABEL.to_owned(), cluster.to_string())])),
        host_config: Some(HostConfig {
            binds: Some(parents.map(|parent| format!("{parent}:{parent}")).collect()),
            network_mode: Some("none".to_owned()),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    engine.create(&name, body).await?;
    engine.start(&name).await?;
    let waited = engine.docker.wait_container(&name, None::<WaitContainerOptions>).try_collect::<Vec<_>>();
    let ended = tokio::time::timeout(std::time::Duration::from_secs(120), waited).await;
    let log = engine.last_lines(&name, 5).await;
    engine.remove(&name).await?;
    match ended {
        Ok(Ok(_)) => Ok(()),
        _ => bail!("cannot remove the cluster's directories: {}", log.trim()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Needs root, as all that mounts.
    #[test]
    fn what_a_killed_agent_left_mounted_is_not_emptied() {
        let directory = std::env::temp_dir().join(format!("warren-down-{}", std::process::id()));
        let (precious, place) = (directory.join("precious"), directory.join("state/mounts/k/0"));
        fs::create_dir_all(&precious).unwrap();
        fs::create_dir_all(&place).unwrap();
        fs::write(precious.join("file"), "").unwrap();
        mount(Some(&precious), &place, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        assert!(place.join("file").exists());
        let state = directory.join("state");
        detach_mounts(&state).unwrap();
        fs::remove_dir_all(&state).unwrap();
        assert!(precious.join("file").exists());
        fs::remove_dir_all(&directory).unwrap();
    }
}
