//! Paths by descriptor: resolved once, by the kernel, below a directory that the path cannot leave.
//!
//! A process in a pod can replace any part of a path in it by a link, at any moment. So nothing here looks at
//! a path first and uses it afterwards: `openat2` resolves it in one step and refuses whatever would lead out
//! (`RESOLVE_BENEATH`), and what was opened is what is used from then on. Links that stay inside are followed, as
//! on Kubernetes, where a path is only read; nothing is made through a link (`RESOLVE_NO_SYMLINKS`).

use std::{
    ffi::OsStr,
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat, openat2},
    io::Errno,
};

/// The kernel asks to try again when something was renamed while it looked at `..`. A process that renames without end
/// gets an error, not our time.
const TRIES: usize = 128;

/// A directory below which paths are resolved.
pub(super) struct Tree {
    base: OwnedFd,
    resolve: ResolveFlags,
}

impl Tree {
    /// Below a directory that only the agent (or the engine) decides about. No path leads out of it.
    pub(super) fn beneath(base: &Path) -> io::Result<Self> {
        Ok(Self::of(open_directory(base)?))
    }

    /// The same, below what was opened.
    pub(super) fn of(base: OwnedFd) -> Self {
        Self { base, resolve: ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS }
    }

    /// The machine itself, where links lead wherever they lead.
    pub(super) fn machine() -> io::Result<Self> {
        Ok(Self { base: open_directory(Path::new("/"))?, resolve: ResolveFlags::empty() })
    }

    /// The directory itself.
    pub(super) fn base(&self) -> &OwnedFd {
        &self.base
    }

    /// What lies at the relative path. It can be looked at and mounted, not read.
    pub(super) fn open(&self, path: &Path) -> io::Result<OwnedFd> {
        if path.as_os_str().is_empty() {
            return self.base.try_clone();
        }
        open2(&self.base, path.as_os_str(), OFlags::PATH, Mode::empty(), self.resolve)
    }

    /// The same, after making the directories that are missing, one by one.
    pub(super) fn open_or_make(&self, path: &Path, mode: u32) -> io::Result<OwnedFd> {
        match self.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
        let parts: Vec<&OsStr> = path.iter().collect();
        let (mut at, there) = self.deepest(&parts)?;
        for part in &parts[there..] {
            match mkdirat(&at, *part, Mode::from_raw_mode(mode)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            // Whatever lies there now, if it is a link it is not entered.
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            at = open2(&at, part, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)?;
        }
        Ok(at)
    }

    /// A file in a directory that must exist; made when it is missing.
    pub(super) fn open_or_make_file(&self, path: &Path, mode: u32) -> io::Result<OwnedFd> {
        match self.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
        let Some(name) = path.file_name() else { return Err(Errno::INVAL.into()) };
        let parent = self.open(path.parent().unwrap_or(Path::new("")))?;
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NONBLOCK;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        open2(&parent, name, flags, Mode::from_raw_mode(mode), resolve)
    }

    /// The deepest directory on the way that exists, and how many parts lead to it.
    fn deepest(&self, parts: &[&OsStr]) -> io::Result<(OwnedFd, usize)> {
        for there in (1..parts.len()).rev() {
            let path: PathBuf = parts[..there].iter().collect();
            match self.open(&path) {
                Ok(opened) => return Ok((opened, there)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok((self.base.try_clone()?, 0))
    }
}

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(CWD, path, flags, Mode::empty())?)
}

fn open2(
    at: impl AsFd,
    path: &OsStr,
    flags: OFlags,
    mode: Mode,
    resolve: ResolveFlags,
) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC;
    for _ in 1..TRIES {
        match openat2(&at, path, flags, mode, resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            done => return Ok(done?),
        }
    }
    Ok(openat2(&at, path, flags, mode, resolve)?)
}

/// Makes a chain of directories where everybody may make some (`/dev/shm`). Those that exist already must be ours, and
/// writable by nobody else: a user who made it first does not decide what we find later.
pub(super) fn make_own(base: &Path, parts: &[&str]) -> io::Result<()> {
    let mut at = open_directory(base)?;
    for part in parts {
        match mkdirat(&at, *part, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        at = open2(&at, OsStr::new(part), flags, Mode::empty(), resolve)?;
        let found = fstat(&at)?;
        if found.st_uid != nix::unistd::geteuid().as_raw() || found.st_mode & 0o022 != 0 {
            return Err(io::Error::other(format!(
                "{part:?} belongs to user {} and has mode {:o}",
                found.st_uid,
                found.st_mode & 0o7777
            )));
        }
    }
    Ok(())
}

/// What was opened.
pub(super) fn kind(opened: impl AsFd) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(fstat(opened)?.st_mode))
}

/// The permissions of what was opened.
pub(super) fn permissions(opened: impl AsFd) -> io::Result<u32> {
    Ok(fstat(opened)?.st_mode & 0o777)
}

/// Whether the path was refused because it would lead out, or through a link where none may be.
pub(super) fn leads_out(error: &io::Error) -> bool {
    [Errno::XDEV, Errno::LOOP].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
