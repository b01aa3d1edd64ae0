//! Directories in places where every user may make one (`/dev/shm`, `/tmp`).

use std::{
    fs::Metadata,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};

const GROUP_AND_OTHERS_WRITE: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// Refuses a directory that another user could look into, fill or exchange: it and all that is above it must be
/// directories (not links) of this user's or of root's, and no other user may rename what is in them.
///
/// # Errors
/// Names the first directory that is not so.
pub fn is_ours(directory: &Path) -> anyhow::Result<()> {
    is_ours_so_far(directory)?;
    directory
        .symlink_metadata()
        .map(|_| ())
        .with_context(|| format!("cannot look at {}", directory.display()))
}

/// The same for a directory that does not exist yet, or only in part: what is there must be ours.
///
/// # Errors
/// Names the first directory that is not so.
pub fn is_ours_so_far(directory: &Path) -> anyhow::Result<()> {
    let user = nix::unistd::geteuid().as_raw();
    let mut path = PathBuf::new();
    for part in directory.components() {
        path.push(part);
        let found = match std::fs::symlink_metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            found => found.with_context(|| format!("cannot look at {}", path.display()))?,
        };
        ensure!(found.is_dir(), "{} is not a directory: remove it", path.display());
        ensure!(
            is_trusted(&found, user),
            "{} belongs to user {} with mode {:o}, so others could exchange what is in it: remove it, or give it to root \
             with mode 0755",
            path.display(),
            found.uid(),
            found.mode() & 0o7777
        );
    }
    Ok(())
}

fn is_trusted(found: &Metadata, user: u32) -> bool {
    let owned = found.uid() == 0 || found.uid() == user;
    let closed = found.mode() & GROUP_AND_OTHERS_WRITE == 0 || found.mode() & STICKY != 0;
    owned && closed
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;

    #[test]
    fn a_directory_that_others_can_exchange_is_refused() {
        let home = std::env::temp_dir().join(format!("warren-private-{}", std::process::id()));
        let inner = home.join("cluster/node");
        std::fs::create_dir_all(&inner).unwrap();
        let set = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        set(&home, 0o755);
        is_ours(&inner).unwrap();
        is_ours_so_far(&inner.join("not/yet")).unwrap();
        assert!(is_ours(&inner.join("not/yet")).is_err());
        set(&home, 0o777);
        assert!(is_ours(&inner).unwrap_err().to_string().contains("777"));
        set(&home, 0o1777);
        is_ours(&inner).unwrap();
        if nix::unistd::geteuid().is_root() {
            chown(home.join("cluster"), Some(65_534), None).unwrap();
            assert!(is_ours(&inner).unwrap_err().to_string().contains("65534"));
            chown(home.join("cluster"), Some(0), None).unwrap();
        }
        symlink(&inner, home.join("link")).unwrap();
        assert!(is_ours(&home.join("link")).unwrap_err().to_string().contains("not a directory"));
        std::fs::remove_dir_all(&home).unwrap();
    }
}
