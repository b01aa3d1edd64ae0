//! Where the key to kept Secrets lies: a directory of this member's own in memory.

use std::{
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use nix::{
    sys::statfs::{TMPFS_MAGIC, statfs},
    unistd::geteuid,
};

const MEMORY: &str = "/dev/shm";

/// The directory; none when there is no memory to keep anything in, or another user has taken the place. What is
/// sealed then waits for the controller after a restart.
pub(crate) fn directory(state_dir: &Path) -> Option<PathBuf> {
    let name = state_dir.file_name().and_then(|name| name.to_str()).unwrap_or("gateway");
    let directory = Path::new(MEMORY).join(format!("warren-gateway-{name}"));
    let made = make(Path::new(MEMORY), &directory);
    if let Err(error) = &made {
        tracing::warn!(directory = %directory.display(), %error, "no place in memory for the key of kept Secrets: a restart waits for the controller");
    }
    made.ok().map(|()| directory)
}

fn make(memory: &Path, directory: &Path) -> io::Result<()> {
    if statfs(memory)?.filesystem_type() != TMPFS_MAGIC {
        return Err(io::Error::other("not in memory"));
    }
    match std::fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // Every user may write to the place: what lies there must be ours, and closed to others.
    let found = std::fs::symlink_metadata(directory)?;
    if !found.is_dir() || found.uid() != geteuid().as_raw() || found.mode() & 0o077 != 0 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to somebody else"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn only_a_directory_that_is_ours_alone_is_used() {
        let place = tempfile::tempdir_in(MEMORY).expect("memory");
        let ours = place.path().join("ours");
        make(place.path(), &ours).expect("made");
        make(place.path(), &ours).expect("found");
        std::fs::set_permissions(&ours, std::fs::Permissions::from_mode(0o755)).expect("opened");
        assert!(make(place.path(), &ours).is_err());
        let link = place.path().join("link");
        symlink("/tmp", &link).expect("a link");
        assert!(make(place.path(), &link).is_err());
    }
}
