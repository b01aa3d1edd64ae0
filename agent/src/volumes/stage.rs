//! Mounts of opened descriptors, on which the engine binds.
//!
//! The engine takes a path, and resolves it when it starts a container. So what a pod asks for is opened first (see
//! [`super::beneath`]), and what was opened is mounted below `mounts/KEY/` in the node's state directory, which no pod
//! reaches. The engine gets that path. The mount is in the engine's mount namespace, and only from before a call
//! to the engine until after it: a container that was started has a mount of its own, and a container that a user
//! of the engine starts later finds no source and fails.
//!
//! `mounts/KEY` is a private mount of itself, so that nothing on it spreads into other namespaces; and what is
//! mounted on it is made private at once, because taking away a shared mount would take away those that it was copied from.

use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use rustix::{
    fs::FileType,
    io::Errno,
    mount::{
        MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount_bind, mount_change,
        move_mount, open_tree, unmount,
    },
};

use super::{
    Item, VolumeError, beneath, make_private,
    space::{Door, Space, SpaceError},
};

/// The place of staged mounts.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    dir: PathBuf,
    space: Space,
    /// Whether what an earlier agent left was taken away.
    swept: Arc<Mutex<bool>>,
}

/// Mounts that are in place until this is dropped.
#[derive(Debug)]
#[must_use]
pub(super) struct Staged {
    dir: PathBuf,
    door: Door,
}

impl Stage {
    /// Below the state directory, for the engine behind the socket; without one, in our own mount namespace.
    pub(super) fn new(state_dir: &Path, socket: Option<PathBuf>) -> Self {
        let space = Space { socket, witness: state_dir.to_owned() };
        Self { dir: state_dir.join("mounts"), space, swept: Arc::default() }
    }

    /// Where the engine resolves paths.
    pub(super) fn space(&self) -> &Space {
        &self.space
    }

    /// Where the item of that number will be mounted.
    pub(super) fn path(&self, key: &str, index: usize) -> PathBuf {
        self.dir.join(key).join(index.to_string())
    }

    /// Opens each item where the engine is, and mounts it at its path. The key is a file name of the agent's choice.
    ///
    /// # Errors
    /// Those of opening, or what the kernel says to mounting; then nothing stays mounted.
    pub(super) fn mount(&self, key: &str, items: &[Item]) -> Result<Staged, VolumeError> {
        let Some(first) = items.first() else { return Err(VolumeError::invalid(key, "nothing to mount")) };
        let space = |error| VolumeError::Space { volume: first.volume.clone(), error };
        self.sweep().map_err(space)?;
        let staged = Staged { dir: self.dir.join(key), door: self.space.find().map_err(space)? };
        let work = || {
            // Left over when an earlier call with this key was not undone.
            let failed = |action| VolumeError::io(&first.volume, action, &staged.dir);
            clear(&staged.dir).map_err(failed("clear"))?;
            make_private(&self.dir).and_then(|()| make_stage(&staged.dir)).map_err(failed("make"))?;
            for item in items {
                let opened = item.open()?;
                mount(&opened, &staged.dir.join(item.index.to_string())).map_err(VolumeError::io(
                    &item.volume,
                    "mount",
                    &staged.dir,
                ))?;
            }
            Ok(())
        };
        staged.door.within(work).map_err(space)??;
        Ok(staged)
    }

    /// Takes away, once, what an agent left that was killed while the engine started a container.
    pub(super) fn sweep(&self) -> Result<(), SpaceError> {
        let mut swept = self.swept.lock();
        if *swept {
            return Ok(());
        }
        let left: Vec<PathBuf> = entries(&self.dir).collect();
        if !left.is_empty() {
            self.space.within(|| {
                for dir in &left {
                    clear_or_warn(dir);
                }
            })?;
        }
        *swept = true;
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Err(error) = self.door.within(|| clear_or_warn(&self.dir)) {
            tracing::warn!(directory = %self.dir.display(), %error, "cannot take away what was mounted for a start");
        }
    }
}

fn entries(dir: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn make_stage(dir: &Path) -> io::Result<()> {
    make_private(dir)?;
    mount_bind(dir, dir)?;
    Ok(mount_change(dir, MountPropagationFlags::PRIVATE)?)
}

fn mount(opened: &OwnedFd, place: &Path) -> io::Result<()> {
    if beneath::kind(opened)? == FileType::Directory {
        fs::create_dir(place)?;
    } else {
        fs::File::create_new(place)?;
    }
    // With everything that is mounted below.
    let flags = OpenTreeFlags::AT_EMPTY_PATH | OpenTreeFlags::AT_RECURSIVE;
    let flags = flags | OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(opened.as_fd(), "", flags)?;
    move_mount(tree.as_fd(), "", rustix::fs::CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(mount_change(place, private_with_all_below())?)
}

fn private_with_all_below() -> MountPropagationFlags {
    MountPropagationFlags::PRIVATE | MountPropagationFlags::REC
}

fn clear_or_warn(dir: &Path) {
    if let Err(error) = clear(dir) {
        tracing::warn!(directory = %dir.display(), %error, "cannot take away what was mounted for a start");
    }
}

/// Takes the mounts away, then the places. Never deletes anything inside of what is mounted: a place that is still
/// covered is not empty, or busy, and stays.
fn clear(dir: &Path) -> io::Result<()> {
    for place in entries(dir) {
        detach(&place)?;
        let removed = match place.symlink_metadata()?.is_dir() {
            true => fs::remove_dir(&place),
            false => fs::remove_file(&place),
        };
        removed?;
    }
    detach(dir)?;
    match fs::remove_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Takes away everything that is mounted at the path.
fn detach(path: &Path) -> io::Result<()> {
    loop {
        // A mount that is still shared would take its originals with it. EINVAL: nothing is mounted here.
        match mount_change(path, private_with_all_below()) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
    }
}
