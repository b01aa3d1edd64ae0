//! Files of ConfigMaps and Secrets, replaced all at once.
//!
//! As on Kubernetes: the files lie in a directory named after their content, `..data` is a link to it, and each
//! visible name is a link through `..data`. Replacing `..data` replaces every file in one step, under the feet of
//! running containers, which mount the directory around it.

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt, fchown, symlink},
    path::{Component, Path},
};

use sha2::{Digest, Sha256};
use warren_proto::control::File;

use super::{VolumeError, make_open};

const DATA: &str = "..data";

/// One file, and whose it is.
#[derive(PartialEq, Eq)]
pub struct Content {
    /// Below the volume.
    pub path: String,
    /// What is in it.
    pub bytes: Vec<u8>,
    /// Who may do what; 0 for what is usual.
    pub mode: u32,
    /// Its owner; none for the agent itself.
    pub user: Option<u32>,
    /// Its group; none for the agent's.
    pub group: Option<u32>,
}

impl From<&File> for Content {
    fn from(file: &File) -> Self {
        let File { path, content, mode } = file.clone();
        Self { path, bytes: content, mode, user: None, group: None }
    }
}

/// Brings the directory to exactly these files.
pub fn write(dir: &Path, volume: &str, files: &[Content]) -> Result<(), VolumeError> {
    for file in files {
        let parts: Vec<_> = Path::new(&file.path).components().collect();
        let plain = !parts.is_empty() && parts.iter().all(|part| matches!(part, Component::Normal(_)));
        if !plain || file.path.starts_with("..") {
            let problem = format!("file path {:?} must be relative, without \"..\"", file.path);
            return Err(VolumeError::invalid(volume, problem));
        }
    }
    let generation = generation(files);
    replace(dir, &generation, files).map_err(VolumeError::io(volume, "write files to", dir))
}

/// A name that stands for the content.
fn generation(files: &[Content]) -> String {
    let mut digest = Sha256::new();
    for file in files {
        for part in [file.path.as_bytes(), file.bytes.as_slice()] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        digest.update(file.mode.to_be_bytes());
        if file.user.is_some() || file.group.is_some() {
            digest.update(format!("{:?}", (file.user, file.group)));
        }
    }
    let bytes = digest.finalize();
    let hex: String = bytes.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    format!("..{hex}")
}

fn replace(dir: &Path, generation: &str, files: &[Content]) -> io::Result<()> {
    make_open(dir, 0o755)?;
    let current = fs::read_link(dir.join(DATA)).ok();
    if current.as_deref() != Some(Path::new(generation)) {
        fill(&dir.join(generation), files)?;
        swap_link(dir, DATA, Path::new(generation))?;
    }
    let tops: BTreeSet<&str> = files.iter().filter_map(|file| file.path.split('/').next()).collect();
    for top in &tops {
        let target = Path::new(DATA).join(top);
        if fs::read_link(dir.join(top)).ok().as_deref() != Some(&target) {
            swap_link(dir, top, &target)?;
        }
    }
    sweep(dir, generation, &tops)
}

/// Writes the files of one generation. A half-written one of an earlier try is thrown away.
fn fill(dir: &Path, files: &[Content]) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    make_open(dir, 0o755)?;
    for file in files {
        let path = dir.join(&file.path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        // Nobody else's at any moment: what it is in the end, it becomes by its descriptor.
        let mut made = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        made.write_all(&file.bytes)?;
        if file.user.is_some() || file.group.is_some() {
            fchown(&made, file.user, file.group)?;
        }
        let mode = if file.mode == 0 { 0o644 } else { file.mode & 0o7777 };
        made.set_permissions(Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// Points a link to somewhere else, in one step.
fn swap_link(dir: &Path, name: &str, target: &Path) -> io::Result<()> {
    let fresh = dir.join("..fresh");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(target, &fresh)?;
    fs::rename(fresh, dir.join(name))
}

/// Removes names and generations that are no longer wanted.
fn sweep(dir: &Path, generation: &str, tops: &BTreeSet<&str>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if name == DATA || name == generation || tops.contains(name) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
