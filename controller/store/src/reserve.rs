//! Space that is kept back, so that a full disk can be emptied through the API.

use std::{
    ffi::CString,
    fs, io,
    mem::MaybeUninit,
    os::{fd::AsRawFd as _, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
};

/// Room for some thousand deletions.
const SIZE: libc::off_t = 8 << 20;

/// A file of [`SIZE`] bytes beside the database.
#[derive(Debug)]
pub(crate) struct Reserve {
    path: PathBuf,
}

impl Reserve {
    pub(crate) fn new(directory: &Path) -> Self {
        Self { path: directory.join("reserve") }
    }

    /// Makes sure that the space is kept back: real blocks, not a hole.
    #[allow(unsafe_code)]
    pub(crate) fn keep(&self) -> io::Result<()> {
        if self.path.metadata().is_ok_and(|metadata| metadata.len() == SIZE as u64) {
            return Ok(());
        }
        let file = fs::File::create(&self.path)?;
        // SAFETY: the descriptor is open for the duration of the call, and nothing else is passed by address.
        let outcome = unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, SIZE) };
        if outcome != 0 {
            drop(file);
            self.release();
            return Err(io::Error::from_raw_os_error(outcome));
        }
        file.sync_all()
    }

    /// Keeps the space back again, when the disk has as much left for others: the space that was released is no
    /// reason to believe that the disk is not full any more.
    pub(crate) fn keep_again(&self) -> bool {
        self.free().is_ok_and(|free| free >= 2 * SIZE as u64) && self.keep().is_ok()
    }

    #[allow(unsafe_code)]
    fn free(&self) -> io::Result<u64> {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        let path = CString::new(directory.as_os_str().as_bytes())?;
        let mut answer = MaybeUninit::<libc::statvfs>::uninit();
        // SAFETY: the path ends with a zero byte, and the answer has the size that the call fills in.
        if unsafe { libc::statvfs(path.as_ptr(), answer.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded, so it has filled in the answer.
        let answer = unsafe { answer.assume_init() };
        Ok(answer.f_bavail.saturating_mul(answer.f_frsize))
    }

    /// Gives the space back to the disk.
    pub(crate) fn release(&self) {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %self.path.display(), %error, "cannot release the reserve");
            }
            _ => {}
        }
    }
}
