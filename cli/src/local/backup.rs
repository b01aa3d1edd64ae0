//! `warren backup` and `warren restore`: the controller's state as one file.
//!
//! A restore puts the file into the controller's data directory (Docker's archive API reaches that of a container,
//! whoever owns it) and starts the controller, which does the rest before it opens its store.

use std::{
    collections::HashMap,
    fs,
    io::{BufReader, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use bollard::{
    models::{ContainerCreateBody, HostConfig},
    query_parameters::UploadToContainerOptionsBuilder,
};
use warren_controller::backup::{INBOX, Summary, verify};

use super::{
    access,
    engine::{CLUSTER_LABEL, LocalDocker},
    names::ClusterName,
    progress::Progress,
};
use crate::{
    args::{AccessOptions, RestoreOptions},
    output,
};

const STOP_GRACE: Duration = Duration::from_secs(20);
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(300);
/// How long the restored controller may take to answer.
const START_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) async fn save(cluster: &AccessOptions, file: &Path, force: bool) -> anyhow::Result<()> {
    ensure!(
        force || fs::symlink_metadata(file).is_err(),
        "{} is there already: choose another name, or add --force to overwrite it",
        file.display()
    );
    let api = access::api(cluster).await?;
    let part = part_of(file)?;
    let saved = async {
        let mut out = create_private(&part)?;
        api.download("/warren/v1/backup", &mut out).await?;
        out.flush()?;
        out.sync_all()?;
        let summary = check(&part)?;
        fs::rename(&part, file)?;
        anyhow::Ok(summary)
    };
    let summary = saved.await.inspect_err(|_| {
        let _ = fs::remove_file(&part);
    });
    let summary = summary.with_context(|| format!("cannot save the cluster to {}", file.display()))?;
    output::print(format_args!(
        "saved to {}: {} objects at revision {}, keys and certificates; keep the file secret\n",
        file.display(),
        summary.objects,
        summary.revision
    ));
    Ok(())
}

/// A new file that only its owner can read, whichever user left one of this name.
fn create_private(path: &Path) -> std::io::Result<fs::File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)
}

/// Where a backup is written until it is whole.
fn part_of(file: &Path) -> anyhow::Result<std::path::PathBuf> {
    let name = file.file_name().with_context(|| format!("{} is no file name", file.display()))?;
    let mut part = name.to_owned();
    part.push(".part");
    Ok(file.with_file_name(part))
}

fn check(file: &Path) -> anyhow::Result<Summary> {
    let opened = fs::File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    verify(BufReader::new(opened)).with_context(|| {
        format!(
            "{} cannot be used (nothing was changed; take another copy of it, or another backup)",
            file.display()
        )
    })
}

pub(crate) async fn restore(options: &RestoreOptions) -> anyhow::Result<()> {
    match &options.data_dir {
        Some(directory) => restore_beside(directory, &options.file, options.replace),
        None => restore_container(&options.cluster.name, &options.file, options.replace).await,
    }
}

/// Leaves the backup where a controller of this machine finds it when it starts, which does the rest.
fn restore_beside(directory: &Path, file: &Path, replace: bool) -> anyhow::Result<()> {
    let summary = check(file)?;
    let owner = fs::metadata(directory).with_context(|| {
        format!(
            "{} is not there: start the controller once, or create the directory for it",
            directory.display()
        )
    })?;
    let store = directory.join("store/store.redb");
    ensure!(replace || !store.exists(), "{}", occupied(&store, &directory.display().to_string()));
    let inbox = directory.join(INBOX);
    let part = part_of(&inbox)?;
    let left = || -> std::io::Result<()> {
        let mut out = create_private(&part)?;
        std::io::copy(&mut fs::File::open(file)?, &mut out)?;
        // The controller runs as the owner of its directory.
        std::os::unix::fs::fchown(&out, Some(owner.uid()), Some(owner.gid()))?;
        out.sync_all()?;
        fs::rename(&part, &inbox)
    };
    left().with_context(|| format!("cannot write {}", inbox.display()))?;
    output::print(format_args!(
        "the backup ({} objects at revision {}, as of {}) lies in {}: start or restart the controller \
         (`systemctl restart warren-controller`); it takes the backup in before anything else\n",
        summary.objects,
        summary.revision,
        summary.taken,
        directory.display()
    ));
    Ok(())
}

/// Why a restore does not go on by itself.
fn occupied(store: &Path, directory: &str) -> String {
    format!(
        "the controller has a state ({} exists): add --replace to move it aside, to {directory}/replaced-TIME",
        store.display()
    )
}

async fn restore_container(cluster: &ClusterName, file: &Path, replace: bool) -> anyhow::Result<()> {
    let progress = Progress::new();
    progress.now("reading the backup");
    let summary = check(file)?;
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let engine = LocalDocker::connect().await?;
    let controller = cluster.controller();
    let members = engine.containers(&format!("{CLUSTER_LABEL}={cluster}")).await?;
    let container = members.iter().find(|member| {
        super::observe::is_member(member, cluster) && super::observe::name(member) == controller
    });
    let container = container.with_context(|| {
        let (option, file) = (cluster.option(), file.display());
        format!(
            "there is no container {controller} on this machine: run warren up{option} first, then warren restore \
             --replace{option} {file}"
        )
    })?;
    let image = container.image_id.clone().context("Docker does not say which image the controller has")?;

    progress.now("stopping the controller");
    let helper = Helper::create(&engine, cluster, image).await?;
    let outcome = helper.put(&bytes, replace).await;
    engine.remove(&helper.name).await?;
    outcome?;

    progress.now("starting the controller");
    engine.start(&controller).await?;
    wait_for_api(&engine, cluster).await?;
    drop(progress);
    output::print(format_args!(
        "cluster {cluster} is restored: {} objects at revision {}, as of {}\n",
        summary.objects, summary.revision, summary.taken
    ));
    Ok(())
}

/// A container that is never started, through which the controller's data directory is reached.
struct Helper<'a> {
    engine: &'a LocalDocker,
    controller: String,
    name: String,
    data_dir: String,
}

impl<'a> Helper<'a> {
    async fn create(engine: &'a LocalDocker, cluster: &ClusterName, image: String) -> anyhow::Result<Self> {
        let (name, controller) = (cluster.restorer(), cluster.controller());
        let data_dir = cluster.state_root().join(&controller).display().to_string();
        // What an interrupted restore left behind.
        engine.remove(&name).await?;
        let body = ContainerCreateBody {
            image: Some(image),
            cmd: Some(vec!["pause".to_owned()]),
            labels: Some(HashMap::from([(CLUSTER_LABEL.to_owned(), cluster.to_string())])),
            host_config: Some(HostConfig {
                binds: Some(vec![format!("{data_dir}:{data_dir}")]),
                network_mode: Some("none".to_owned()),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        engine.create(&name, body).await?;
        Ok(Self { engine, controller: controller.to_owned(), name, data_dir })
    }

    /// Stops the controller and leaves the backup where it will find it.
    async fn put(&self, backup: &[u8], replace: bool) -> anyhow::Result<()> {
        let store = Path::new(&self.data_dir).join("store/store.redb");
        if !replace && self.engine.has_file(&self.name, &store).await? {
            bail!("{}", occupied(&store, &self.data_dir));
        }
        self.engine.stop(&self.controller, STOP_GRACE).await?;
        let mut archive = tar::Builder::new(Vec::with_capacity(backup.len() + 4_096));
        let mut header = tar::Header::new_gnu();
        header.set_size(backup.len() as u64);
        header.set_mode(0o600);
        archive.append_data(&mut header, INBOX, backup)?;
        let body = bollard::body_full(archive.into_inner()?.into());
        let options = UploadToContainerOptionsBuilder::default().path(&self.data_dir).build();
        let upload = self.engine.docker.upload_to_container(&self.name, Some(options), body);
        let what = || format!("cannot write to {}", self.data_dir);
        tokio::time::timeout(UPLOAD_TIMEOUT, upload).await.with_context(what)?.with_context(what)
    }
}

async fn wait_for_api(engine: &LocalDocker, cluster: &ClusterName) -> anyhow::Result<()> {
    let asked = async {
        loop {
            let answer = async { access::client(engine, cluster).await?.text("/warren/v1/tokens").await };
            match answer.await {
                Ok(_) => return,
                Err(error) => {
                    tracing::debug!(error = format!("{error:#}"), "the controller does not answer yet")
                }
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    if tokio::time::timeout(START_TIMEOUT, asked).await.is_err() {
        let log = engine.last_lines(cluster.controller().as_ref(), 5).await;
        bail!("the restored controller does not answer: {}", log.trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_is_written_beside_its_place() {
        assert_eq!(part_of("/tmp/a.tar".as_ref()).unwrap(), Path::new("/tmp/a.tar.part"));
        assert_eq!(part_of("a".as_ref()).unwrap(), Path::new("a.part"));
        assert!(part_of("..".as_ref()).is_err());
    }

    #[test]
    fn a_file_that_is_no_backup_is_refused() {
        let directory = std::env::temp_dir().join(format!("warren-cli-backup-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let file = directory.join("notes.txt");
        fs::write(&file, "not a backup, but long enough to be looked at".repeat(40)).unwrap();
        let error = format!("{:#}", check(&file).unwrap_err());
        assert!(error.contains("notes.txt") && error.contains("no backup"), "{error}");
        assert!(check(&directory.join("missing")).is_err());
        fs::remove_dir_all(&directory).unwrap();
    }
}
