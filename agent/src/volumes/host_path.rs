//! Paths of the machine in a pod.

use std::{
    io,
    os::{fd::OwnedFd, unix::fs::DirBuilderExt},
    path::{Component, Path, PathBuf},
};

use rustix::fs::FileType;

use super::{
    VolumeError,
    beneath::{self, Tree},
};

/// Opens the path, checks what the type of the volume promises, and makes what it says shall be made. What was
/// opened is what was checked.
///
/// Below a prefix, when nodes that share a machine must not share its paths, nothing leads out of the prefix. The
/// machine's own paths follow the machine's links, as on Kubernetes.
pub(super) fn open(
    volume: &str,
    prefix: Option<&Path>,
    path: &str,
    kind: &str,
) -> Result<OwnedFd, VolumeError> {
    if !path.starts_with('/') {
        return Err(VolumeError::invalid(volume, format!("hostPath {path} must be absolute")));
    }
    let failed = |error| failure(volume, prefix, path, error);
    let tree = tree(prefix).map_err(failed)?;
    let inside: PathBuf =
        Path::new(path).components().filter(|part| matches!(part, Component::Normal(_))).collect();
    let opened = match kind {
        // No check was asked for; the engine wants the path to exist.
        "" | "DirectoryOrCreate" => tree.open_or_make(&inside, 0o755),
        "FileOrCreate" => tree.open_or_make_file(&inside, 0o644),
        "Directory" | "File" | "Socket" | "CharDevice" | "BlockDevice" => tree.open(&inside),
        other => return Err(VolumeError::invalid(volume, format!("hostPath type {other:?} is not known"))),
    };
    let opened = opened.map_err(failed)?;
    let (right, what) = match kind {
        "" => return Ok(opened),
        "File" | "FileOrCreate" => (FileType::RegularFile, "a file"),
        "Socket" => (FileType::Socket, "a socket"),
        "CharDevice" => (FileType::CharacterDevice, "a character device"),
        "BlockDevice" => (FileType::BlockDevice, "a block device"),
        _ => (FileType::Directory, "a directory"),
    };
    if beneath::kind(&opened).map_err(failed)? == right {
        return Ok(opened);
    }
    Err(VolumeError::invalid(volume, format!("hostPath type check failed: {path} is not {what}")))
}

fn tree(prefix: Option<&Path>) -> io::Result<Tree> {
    let Some(prefix) = prefix else { return Tree::machine() };
    // The umask is 0 here.
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(prefix)?;
    Tree::beneath(prefix)
}

fn failure(volume: &str, prefix: Option<&Path>, path: &str, error: io::Error) -> VolumeError {
    match prefix {
        Some(prefix) if beneath::leads_out(&error) => VolumeError::invalid(
            volume,
            format!("hostPath {path} leads out of {} by a link, which is this node's part", prefix.display()),
        ),
        _ => VolumeError::io(volume, "open hostPath", Path::new(path))(error),
    }
}
