//! What a pod chose to mount, and how it is opened.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use rustix::fs::fstatfs;

use super::{
    VolumeError,
    beneath::{self, Tree},
    host_path,
};
use crate::runtime::spec::MountSpec;

/// Something of a pod's choice that is opened, then mounted for the engine.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) volume: String,
    /// Which of the container's mounts.
    pub(super) index: usize,
    pub(super) origin: Origin,
    pub(super) sub_path: PathBuf,
}

/// Where a volume begins.
#[derive(Debug)]
pub(super) enum Origin {
    /// A directory of the agent's.
    Disk(PathBuf),
    /// A volume that the engine holds in memory, where the engine mounted it.
    Memory(PathBuf),
    /// A path of the machine.
    Host { prefix: Option<PathBuf>, path: String, kind: String },
}

/// How the engine gets a mount.
pub(super) enum Choice {
    /// By a path that no pod can change, or by the engine's own means.
    Direct(MountSpec),
    /// By a mount of what is opened.
    Staged { origin: Origin, sub_path: PathBuf },
}

impl Item {
    /// Opens what is to be mounted; what is missing and may be made is made.
    pub(super) fn open(&self) -> Result<OwnedFd, VolumeError> {
        let name = &self.volume;
        let tree = match &self.origin {
            Origin::Disk(base) => Tree::beneath(base).map_err(VolumeError::io(name, "open", base))?,
            Origin::Memory(base) => {
                let tree = Tree::beneath(base).map_err(VolumeError::io(name, "open", base))?;
                let fs = fstatfs(tree.base())
                    .map_err(|error| VolumeError::io(name, "look at", base)(error.into()))?;
                if i128::from(fs.f_type) != i128::from(nix::libc::TMPFS_MAGIC) {
                    return Err(VolumeError::invalid(name, "the engine does not hold this volume in memory"));
                }
                tree
            }
            Origin::Host { prefix, path, kind } => {
                Tree::of(host_path::open(name, prefix.as_deref(), path, kind)?)
            }
        };
        let failed = |error| sub_path_error(name, &self.sub_path, error);
        // As open as the volume itself, as on Kubernetes.
        let mode = beneath::permissions(tree.base()).map_err(failed)?;
        tree.open_or_make(&self.sub_path, mode).map_err(failed)
    }
}

pub(super) fn sub_path_error(volume: &str, sub_path: &Path, error: io::Error) -> VolumeError {
    if beneath::leads_out(&error) {
        let problem =
            format!("subPath {sub_path:?} leads out of the volume, or through a link to what does not exist");
        return VolumeError::invalid(volume, problem);
    }
    VolumeError::io(volume, "open subPath", sub_path)(error)
}

/// A `subPath` as a relative path; empty for the whole volume.
pub(super) fn plain_sub_path(volume: &str, sub_path: &str) -> Result<PathBuf, VolumeError> {
    let mut plain = PathBuf::new();
    for part in Path::new(sub_path).components() {
        match part {
            Component::Normal(part) => plain.push(part),
            Component::CurDir => {}
            _ => {
                let problem = format!("subPath {sub_path:?} must be relative, without \"..\"");
                return Err(VolumeError::invalid(volume, problem));
            }
        }
    }
    Ok(plain)
}

/// The real path of something in a directory to which only the agent writes.
pub(super) fn own_path(base: &Path, sub_path: &Path) -> io::Result<PathBuf> {
    if sub_path.as_os_str().is_empty() {
        return Ok(base.to_owned());
    }
    let tree = Tree::beneath(base)?;
    let opened = tree.open(sub_path)?;
    let real = |opened: &OwnedFd| std::fs::read_link(format!("/proc/self/fd/{}", opened.as_raw_fd()));
    let (real_base, real) = (real(tree.base())?, real(&opened)?);
    let inside = real.strip_prefix(&real_base).map_err(io::Error::other)?;
    Ok(base.join(inside))
}
