//! Kernel settings of the calling thread's network namespace.

use std::path::Path;

use super::{Result, io};

/// Sets `key` (such as `net/ipv4/ip_forward`) unless it has the value: a read-only /proc with the right
/// values is fine.
pub fn set(key: &str, value: &str) -> Result<()> {
    let path = Path::new("/proc/sys").join(key);
    if std::fs::read_to_string(&path).is_ok_and(|current| current.trim() == value) {
        return Ok(());
    }
    io(|| format!("set {} to {value}", path.display()), std::fs::write(&path, value))
}
