//! Volumes of pods: directories and files on this machine, and where they are mounted.
//!
//! Layout below the state directory: `pods/UID/volumes/NAME` (emptyDir) and `pods/UID/files/NAME`
//! (ConfigMap and projected). Secrets lie in memory, below `/dev/shm/warren/CLUSTER/NODE/UID/NAME`, where the
//! engine can see that directory. The agent mounts nothing itself: mounts would not reach the engine.

pub mod files;
mod host_path;
mod place;

use std::{
    collections::BTreeSet,
    fs::{DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Component, Path, PathBuf},
};

use warren_proto::control::{Container, Mount, PodInstruction, Volume, volume::Source};

use crate::runtime::spec::MountSpec;

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

/// The volumes of one node. All calls block on the file system.
#[derive(Clone, Debug)]
pub struct Volumes {
    disk: PathBuf,
    memory: Option<PathBuf>,
    host_prefix: Option<PathBuf>,
}

impl Volumes {
    /// Volumes below `state_dir`; secrets in memory, where the engine can see it.
    pub fn new(state_dir: &Path, cluster: &str, node: &str, host_prefix: Option<PathBuf>) -> Self {
        let memory = place::in_memory(cluster, node);
        if memory.is_none() {
            tracing::warn!(
                directory = %state_dir.display(),
                "no memory file system that the engine shares: pods with secret volumes cannot start here"
            );
        }
        Self { disk: state_dir.join("pods"), memory, host_prefix }
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
                    host_path::check(
                        name,
                        &host_path::resolve(self.host_prefix.as_deref(), &source.path),
                        &source.r#type,
                    )?;
                }
                Some(Source::Files(source)) => {
                    let private = self.files_place(name, source.secret)?.join(&pod.uid);
                    make_private(&private).map_err(VolumeError::io(name, "create", &private))?;
                    files::write(&self.files_dir(source.secret, &pod.uid, name)?, name, &source.files)?;
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
                Some((memory_volume(&pod.uid, &volume.name), source.size_limit_bytes))
            }
            _ => None,
        };
        pod.volumes.iter().filter_map(memory).collect()
    }

    /// The mounts of one container, as the engine is asked for them.
    pub fn mounts(&self, pod: &PodInstruction, container: &Container) -> Result<Vec<MountSpec>, VolumeError> {
        container.mounts.iter().map(|mount| self.mount(pod, mount)).collect()
    }

    fn mount(&self, pod: &PodInstruction, mount: &Mount) -> Result<MountSpec, VolumeError> {
        let name = &mount.volume;
        let volume = pod.volumes.iter().find(|volume| volume.name == *name);
        let (target, sub_path) = (mount.path.clone(), mount.sub_path.as_str());
        let mut read_only = mount.read_only;
        let base = match volume.and_then(|volume| volume.source.as_ref()) {
            Some(Source::EmptyDir(source)) if source.memory => {
                if !sub_path.is_empty() {
                    return Err(VolumeError::invalid(
                        name,
                        "subPath does not work on an emptyDir in memory; mount the whole volume",
                    ));
                }
                let (volume, size_bytes) = (memory_volume(&pod.uid, name), source.size_limit_bytes);
                return Ok(MountSpec::Memory { volume, target, read_only, size_bytes });
            }
            Some(Source::EmptyDir(_)) => self.empty_dir(&pod.uid, name),
            Some(Source::HostPath(source)) => host_path::resolve(self.host_prefix.as_deref(), &source.path),
            Some(Source::Files(source)) => {
                read_only = true;
                self.files_dir(source.secret, &pod.uid, name)?
            }
            None => {
                return Err(VolumeError::invalid(
                    name,
                    "the container mounts it, but the pod has no such volume",
                ));
            }
        };
        let may_create = !read_only
            && matches!(
                volume.and_then(|v| v.source.as_ref()),
                Some(Source::EmptyDir(_) | Source::HostPath(_))
            );
        let inside = sub_path_of(name, &base, sub_path, may_create)?;
        let source = if inside.as_os_str().is_empty() { base } else { base.join(inside) };
        Ok(MountSpec::Bind { source, target, read_only })
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

/// The path below a volume that a `subPath` means, relative to the volume; refused when it leads out.
fn sub_path_of(volume: &str, base: &Path, sub_path: &str, may_create: bool) -> Result<PathBuf, VolumeError> {
    if sub_path.is_empty() {
        return Ok(PathBuf::new());
    }
    let relative = Path::new(sub_path);
    if !relative.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(VolumeError::invalid(
            volume,
            format!("subPath {sub_path:?} must be relative, without \"..\""),
        ));
    }
    let wanted = base.join(relative);
    if may_create && !wanted.exists() {
        make_open(&wanted, 0o777).map_err(VolumeError::io(volume, "create", &wanted))?;
    }
    let base = base.canonicalize().map_err(VolumeError::io(volume, "resolve", base))?;
    let real = wanted.canonicalize().map_err(VolumeError::io(volume, "resolve subPath", &wanted))?;
    match real.strip_prefix(&base) {
        Ok(inside) => Ok(inside.to_owned()),
        Err(_) => Err(VolumeError::invalid(volume, format!("subPath {sub_path:?} leads out of the volume"))),
    }
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
