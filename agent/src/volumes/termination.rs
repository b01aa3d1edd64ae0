//! The files into which containers write why they end.
//!
//! One per instance, the agent's own, which the container sees at its `terminationMessagePath`. A container can write
//! to it and nothing else: it cannot put a link or a pipe in its place.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use super::make_private;

/// How much of a message is told: its end, as on Kubernetes.
pub const MOST_BYTES: usize = 4096;

/// The file for an instance. Those of instances before the last one are deleted: what they said was taken.
pub(super) fn make(dir: &Path, container: &str, attempt: u32) -> io::Result<PathBuf> {
    let mine = dir.join(container);
    make_private(&mine)?;
    for old in fs::read_dir(&mine)?.flatten() {
        let number = old.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        if number.is_none_or(|number| number.saturating_add(1) < attempt) {
            fs::remove_file(old.path())?;
        }
    }
    let path = mine.join(attempt.to_string());
    let no_follow = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
    let file = OpenOptions::new().create(true).append(true).custom_flags(no_follow).open(&path)?;
    // Any user of the container may write to it, whatever the agent's umask.
    file.set_permissions(Permissions::from_mode(0o666))?;
    Ok(path)
}

/// What an instance wrote; empty when it wrote nothing or has no file.
pub(super) fn read(dir: &Path, container: &str, attempt: u32) -> io::Result<String> {
    let path = dir.join(container).join(attempt.to_string());
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let mut file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        opened => opened?,
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    tail(&mut file)
}

fn tail(file: &mut File) -> io::Result<String> {
    let most = MOST_BYTES as u64;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(super::text_of(&bytes, MOST_BYTES))
}
