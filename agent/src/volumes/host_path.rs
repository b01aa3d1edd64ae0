//! Paths of the machine in a pod.

use std::{
    io,
    os::unix::fs::FileTypeExt,
    path::{Component, Path, PathBuf},
};

use super::{VolumeError, make_open};

/// The path on the machine; below the prefix, when nodes that share a machine must not share it.
pub(super) fn resolve(prefix: Option<&Path>, path: &str) -> PathBuf {
    let Some(prefix) = prefix else { return PathBuf::from(path) };
    let inside = Path::new(path).components().filter(|part| matches!(part, Component::Normal(_)));
    prefix.join(inside.collect::<PathBuf>())
}

/// Checks, or makes, what the type of the volume promises.
pub(super) fn check(volume: &str, path: &Path, kind: &str) -> Result<(), VolumeError> {
    if !path.is_absolute() {
        return Err(VolumeError::invalid(volume, format!("hostPath {} must be absolute", path.display())));
    }
    let make_dir = || make_open(path, 0o755).map_err(VolumeError::io(volume, "create", path));
    let exists = path.exists();
    let meta = || path.metadata().map_err(VolumeError::io(volume, "look at", path));
    let (is_right, what) = match kind {
        // No check was asked for; the engine wants the path to exist.
        "" if exists => return Ok(()),
        "" => return make_dir(),
        "DirectoryOrCreate" if !exists => return make_dir(),
        "FileOrCreate" if !exists => {
            return create_file(path).map_err(VolumeError::io(volume, "create", path));
        }
        "Directory" | "DirectoryOrCreate" => (meta()?.is_dir(), "a directory"),
        "File" | "FileOrCreate" => (meta()?.is_file(), "a file"),
        "Socket" => (meta()?.file_type().is_socket(), "a socket"),
        "CharDevice" => (meta()?.file_type().is_char_device(), "a character device"),
        "BlockDevice" => (meta()?.file_type().is_block_device(), "a block device"),
        other => return Err(VolumeError::invalid(volume, format!("hostPath type {other:?} is not known"))),
    };
    if is_right {
        return Ok(());
    }
    Err(VolumeError::invalid(volume, format!("hostPath type check failed: {} is not {what}", path.display())))
}

fn create_file(path: &Path) -> io::Result<()> {
    std::fs::OpenOptions::new().create(true).append(true).open(path).map(drop)
}
