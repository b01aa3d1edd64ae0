//! Volumes of pods: directories and files on this machine, and where they are mounted.
//!
//! Layout below the state directory: `pods/UID/volumes/NAME` (emptyDir), `pods/UID/files/NAME` (ConfigMap and
//! projected), `pods/UID/termination/CONTAINER/ATTEMPT` and `pods/UID/hosts`. Secrets and tokens lie in memory, below
//! `/dev/shm/warren/CLUSTER/NODE/UID/NAME`, where the engine can see that directory.
//!
//! Those paths are the agent's own, and the engine may have them. A path that a pod can change (a `subPath` in what
//! it writes to, a `hostPath`) is opened (`beneath`), and the engine gets a mount of what was opened (`stage`).

mod beneath;
pub mod files;
mod host_path;
mod hosts;
mod item;
mod place;
mod space;
mod stage;
mod termination;
mod tokens;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use warren_proto::control::{Container, Mount, PodInstruction, Volume, volume::Source};

use crate::runtime::spec::MountSpec;
use files::Content;
use item::{Choice, Item, Origin, own_path, plain_sub_path, sub_path_error};
pub use space::SpaceError;
use stage::{Stage, Staged};
pub use termination::MOST_BYTES as MOST_MESSAGE_BYTES;
pub use tokens::{Held, Place, wanted as wanted_tokens};

/// Why a volume cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The file system refused.
    #[error("volume \"{volume}\": {action} {path}: {error}")]
    Io {
        /// Which volume.
        volume: String,
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The answer.
        error: io::Error,
    },
    /// The instruction asks for something impossible.
    #[error("volume \"{volume}\": {problem}")]
    Invalid {
        /// Which volume.
        volume: String,
        /// What, and the mend.
        problem: String,
    },
    /// The agent cannot work where the engine resolves paths.
    #[error("volume \"{volume}\": {error}")]
    Space {
        /// Which volume.
        volume: String,
        /// Why, and the mend.
        error: SpaceError,
    },
}

impl VolumeError {
    fn invalid(volume: &str, problem: impl Into<String>) -> Self {
        Self::Invalid { volume: volume.to_owned(), problem: problem.into() }
    }
    fn io(volume: &str, action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let (volume, path) = (volume.to_owned(), path.to_owned());
        move |error| Self::Io { volume, action, path, error }
    }
}

/// The mounts of one container, as the engine is asked for them.
#[derive(Debug)]
#[must_use = "what the engine is to mount is taken away with this"]
pub struct Mounted {
    /// In the container's order.
    pub specs: Vec<MountSpec>,
    /// In place until the engine has made or started the container.
    _staged: Option<Staged>,
}

/// The volumes of one node. All calls block on the file system.
#[derive(Clone, Debug)]
pub struct Volumes {
    disk: PathBuf,
    memory: Option<PathBuf>,
    host_prefix: Option<PathBuf>,
    stage: Stage,
}

impl Volumes {
    /// Volumes below `state_dir`, for the engine behind the socket; secrets in memory, where the engine can see it.
    pub fn new(
        state_dir: &Path,
        cluster: &str,
        node: &str,
        host_prefix: Option<PathBuf>,
        socket: &str,
    ) -> Self {
        let memory = place::in_memory(cluster, node);
        if memory.is_none() {
            tracing::warn!(
                directory = %state_dir.display(),
                "no memory file system that the engine shares: pods with secret volumes cannot start here"
            );
        }
        let stage = Stage::new(state_dir, Some(PathBuf::from(socket)));
        Self { disk: state_dir.join("pods"), memory, host_prefix, stage }
    }

    /// The node's directory in memory, if there is one.
    pub fn memory(&self) -> Option<&Path> {
        self.memory.as_deref()
    }

    /// UIDs of pods that have something here.
    pub fn uids(&self) -> BTreeSet<String> {
        self.places().flat_map(entries).collect()
    }

    fn places(&self) -> impl Iterator<Item = &Path> {
        [Some(self.disk.as_path()), self.memory.as_deref()].into_iter().flatten()
    }

    /// Brings everything on the disk to what the instruction says. Files are replaced in place, atomically.
    pub fn prepare(&self, pod: &PodInstruction) -> Result<(), VolumeError> {
        if let Err(error) = self.stage.sweep() {
            tracing::warn!(%error, "cannot look for mounts that an earlier agent left");
        }
        for volume in &pod.volumes {
            let name = &volume.name;
            if !is_plain_name(name) {
                return Err(VolumeError::invalid(name, "its name is not a plain file name"));
            }
            match &volume.source {
                Some(Source::EmptyDir(source)) if source.memory => {}
                Some(Source::EmptyDir(_)) => {
                    let path = self.empty_dir(&pod.uid, name);
                    make_private(&self.disk.join(&pod.uid))
                        .map_err(VolumeError::io(name, "create", &path))?;
                    make_open(&path, 0o777).map_err(VolumeError::io(name, "create", &path))?;
                }
                Some(Source::HostPath(source)) => {
                    let prefix = self.host_prefix.as_deref();
                    let open = || host_path::open(name, prefix, &source.path, &source.r#type).map(drop);
                    let space = |error| VolumeError::Space { volume: name.clone(), error };
                    self.stage.space().within(open).map_err(space)??;
                }
                Some(Source::Files(source)) => {
                    let secret = tokens::is_secret(source);
                    let place = self.files_place(name, secret)?;
                    if secret {
                        let space = |error| VolumeError::Space { volume: name.clone(), error };
                        let checked = self.stage.space().within(|| place::check(place)).map_err(space)?;
                        checked.map_err(VolumeError::io(name, "trust", place))?;
                    }
                    let private = place.join(&pod.uid);
                    make_private(&private).map_err(VolumeError::io(name, "create", &private))?;
                    let mut files: Vec<Content> = source.files.iter().map(Content::from).collect();
                    if !source.tokens.is_empty() {
                        files.extend(tokens::files(name, source, &self.tokens(&pod.uid)));
                    }
                    files::write(&self.files_dir(secret, &pod.uid, name)?, name, &files)?;
                }
                None => return Err(VolumeError::invalid(name, "the instruction names no source")),
            }
        }
        Ok(())
    }

    /// Names and bounds of the volumes in memory, which the sandbox holds.
    pub fn memory_volumes(pod: &PodInstruction) -> Vec<(String, i64)> {
        let memory = |volume: &Volume| match &volume.source {
            Some(Source::EmptyDir(source)) if source.memory => {
                Some((memory_volume(&pod.uid, &volume.name), memory_bound(pod, source.size_limit_bytes)))
            }
            _ => None,
        };
        pod.volumes.iter().filter_map(memory).collect()
    }

    /// Names of the volumes in memory of which the container mounts a part: where the engine has them mounted must be
    /// known to [`Self::mounts`].
    pub fn held_parts(pod: &PodInstruction, container: &Container) -> BTreeSet<String> {
        let in_memory = |name: &str| {
            pod.volumes.iter().any(|volume| {
                volume.name == name && matches!(&volume.source, Some(Source::EmptyDir(dir)) if dir.memory)
            })
        };
        let parts = container.mounts.iter().filter(|mount| !mount.sub_path.is_empty());
        parts
            .filter(|mount| in_memory(&mount.volume))
            .map(|mount| memory_volume(&pod.uid, &mount.volume))
            .collect()
    }

    /// The mounts of one instance of a container, for the engine. The same instance gets the same paths each time, and
    /// what is at them is there while the answer is kept. `held` says where the engine mounted volumes in memory.
    pub fn mounts(
        &self,
        pod: &PodInstruction,
        container: &Container,
        attempt: u32,
        held: &BTreeMap<String, PathBuf>,
    ) -> Result<Mounted, VolumeError> {
        if let Some(problem) = [&pod.uid, &container.name].iter().find(|name| !is_plain_name(name)) {
            return Err(VolumeError::invalid(problem, "a name is not a plain file name"));
        }
        let key = format!("{}.{}.{attempt}", pod.uid, container.name);
        let (mut specs, mut items) = (Vec::new(), Vec::new());
        for (index, mount) in container.mounts.iter().enumerate() {
            match self.mount(pod, mount, held)? {
                Choice::Direct(spec) => specs.push(spec),
                Choice::Staged { origin, sub_path } => {
                    specs.push(MountSpec::Bind {
                        source: self.stage.path(&key, index),
                        target: mount.path.clone(),
                        read_only: mount.read_only,
                    });
                    items.push(Item { volume: mount.volume.clone(), index, origin, sub_path });
                }
            }
        }
        specs.extend(self.termination_mount(pod, container, attempt)?);
        let staged = if items.is_empty() { None } else { Some(self.stage.mount(&key, &items)?) };
        Ok(Mounted { specs, _staged: staged })
    }

    fn mount(
        &self,
        pod: &PodInstruction,
        mount: &Mount,
        held: &BTreeMap<String, PathBuf>,
    ) -> Result<Choice, VolumeError> {
        let (name, target) = (&mount.volume, mount.path.clone());
        let volume = pod.volumes.iter().find(|volume| volume.name == *name);
        let sub_path = plain_sub_path(name, &mount.sub_path)?;
        let read_only = mount.read_only;
        Ok(match volume.and_then(|volume| volume.source.as_ref()) {
            Some(Source::EmptyDir(source)) if source.memory => {
                let volume = memory_volume(&pod.uid, name);
                if sub_path.as_os_str().is_empty() {
                    let size_bytes = memory_bound(pod, source.size_limit_bytes);
                    return Ok(Choice::Direct(MountSpec::Memory { volume, target, read_only, size_bytes }));
                }
                let place = held.get(&volume).cloned().ok_or_else(|| {
                    VolumeError::invalid(name, "the engine does not hold this volume in memory (any more)")
                })?;
                Choice::Staged { origin: Origin::Memory(place), sub_path }
            }
            Some(Source::EmptyDir(_)) => {
                let source = self.empty_dir(&pod.uid, name);
                if sub_path.as_os_str().is_empty() {
                    return Ok(Choice::Direct(MountSpec::Bind { source, target, read_only }));
                }
                Choice::Staged { origin: Origin::Disk(source), sub_path }
            }
            Some(Source::HostPath(source)) => {
                let (prefix, path, kind) =
                    (self.host_prefix.clone(), source.path.clone(), source.r#type.clone());
                Choice::Staged { origin: Origin::Host { prefix, path, kind }, sub_path }
            }
            Some(Source::Files(files)) => {
                let base = self.files_dir(tokens::is_secret(files), &pod.uid, name)?;
                let source =
                    own_path(&base, &sub_path).map_err(|error| sub_path_error(name, &sub_path, error))?;
                // As on Kubernetes, whatever the mount says.
                Choice::Direct(MountSpec::Bind { source, target, read_only: true })
            }
            None => {
                return Err(VolumeError::invalid(
                    name,
                    "the container mounts it, but the pod has no such volume",
                ));
            }
        })
    }

    /// The file for an instance's last words, unless the container mounts something of its own in that place.
    fn termination_mount(
        &self,
        pod: &PodInstruction,
        container: &Container,
        attempt: u32,
    ) -> Result<Option<MountSpec>, VolumeError> {
        let target = container.termination_message_path.clone();
        if target.is_empty()
            || container.mounts.iter().any(|mount| Path::new(&mount.path) == Path::new(&target))
        {
            return Ok(None);
        }
        if !target.starts_with('/') {
            let problem = format!("terminationMessagePath {target:?} must be absolute");
            return Err(VolumeError::invalid("terminationMessagePath", problem));
        }
        let dir = self.termination_dir(&pod.uid);
        let source = make_private(&self.disk.join(&pod.uid))
            .and_then(|()| termination::make(&dir, &container.name, attempt))
            .map_err(VolumeError::io("terminationMessagePath", "create a file in", &dir))?;
        Ok(Some(MountSpec::Bind { source, target, read_only: false }))
    }

    /// What an instance wrote to its `terminationMessagePath`: at most [`MOST_MESSAGE_BYTES`] from the end.
    pub fn termination_message(&self, uid: &str, container: &str, attempt: u32) -> io::Result<String> {
        if !is_plain_name(uid) || !is_plain_name(container) {
            return Ok(String::new());
        }
        termination::read(&self.termination_dir(uid), container, attempt)
    }

    /// Writes the pod's `/etc/hosts`, for its sandbox: those that join the sandbox see the same file.
    pub fn hosts(&self, pod: &PodInstruction) -> Result<MountSpec, VolumeError> {
        let source = self.disk.join(&pod.uid).join("hosts");
        make_private(&self.disk.join(&pod.uid))
            .and_then(|()| hosts::write(&source, pod))
            .map_err(VolumeError::io("/etc/hosts", "write", &source))?;
        Ok(MountSpec::Bind { source, target: "/etc/hosts".to_owned(), read_only: false })
    }

    /// Deletes everything of a pod.
    pub fn remove(&self, uid: &str) -> io::Result<()> {
        if !is_plain_name(uid) {
            return Ok(());
        }
        for place in self.places() {
            match std::fs::remove_dir_all(place.join(uid)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Secrets never go to the disk: without memory that the engine sees there is no place for them.
    fn files_place(&self, volume: &str, secret: bool) -> Result<&Path, VolumeError> {
        if !secret {
            return Ok(&self.disk);
        }
        self.memory.as_deref().ok_or_else(|| {
            VolumeError::invalid(
                volume,
                "secrets are kept in memory only, and this node has none that the engine sees: mount a tmpfs at \
                 /dev/shm (in a container: bind /dev/shm/warren/CLUSTER/NODE from the machine), then restart the agent",
            )
        })
    }
    fn empty_dir(&self, uid: &str, name: &str) -> PathBuf {
        self.disk.join(uid).join("volumes").join(name)
    }
    fn termination_dir(&self, uid: &str) -> PathBuf {
        self.disk.join(uid).join("termination")
    }
    fn files_dir(&self, secret: bool, uid: &str, name: &str) -> Result<PathBuf, VolumeError> {
        Ok(self.files_place(name, secret)?.join(uid).join("files").join(name))
    }
}

/// Names of the pods that have something in a directory.
fn entries(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    // A hidden name is no pod's: the key of kept secrets lies here, too.
    names.filter(|name| !name.starts_with('.')).collect()
}

/// What a volume in memory may hold, as on Kubernetes: no more than its own limit and than the pod may use at all. Zero:
/// the kernel's own bound, half of the machine's memory.
fn memory_bound(pod: &PodInstruction, size_limit: i64) -> i64 {
    let limit = |container: &Container| container.resources.unwrap_or_default().memory_limit_bytes;
    let all = |containers: &[Container]| {
        containers.iter().try_fold(0_i64, |sum, container| {
            Some(limit(container)).filter(|limit| *limit > 0).map(|limit| sum.saturating_add(limit))
        })
    };
    let largest = pod.init_containers.iter().map(limit).max().unwrap_or_default();
    let pods = all(&pod.containers).map_or(0, |sum| sum.max(largest));
    [size_limit, pods].into_iter().filter(|bytes| *bytes > 0).min().unwrap_or_default()
}

/// Text of at most so many bytes; what is no UTF-8 is replaced.
pub(crate) fn text_of(bytes: &[u8], most: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    let cut = text.char_indices().map(|(at, _)| at).find(|at| text.len() - at <= most);
    text[cut.unwrap_or(text.len())..].to_owned()
}

fn memory_volume(uid: &str, name: &str) -> String {
    format!("warren_{uid}_{name}")
}

fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0'])
}

/// A directory that only we may enter; what is bound from below it is open to the container.
fn make_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// A directory with exactly this mode, whatever the umask.
fn make_open(path: &Path, mode: u32) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests;
