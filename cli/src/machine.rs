//! Binds a state directory to its machine: a copy of it on another one is recognised before it does anything.
//! Machines that were cloned whole carry the same mark; those the controller tells apart.

use std::{fs, path::Path};

use anyhow::Context as _;

/// What systemd and D-Bus call a machine; containers have none.
const MACHINE_ID: &str = "/etc/machine-id";
/// Where the state directory keeps it.
const KEPT: &str = "identity/machine";

/// Refuses a state directory of another machine's; one without a mark is marked.
pub(crate) fn check(state_dir: &Path) -> anyhow::Result<()> {
    check_against(state_dir, fs::read_to_string(MACHINE_ID).unwrap_or_default().trim())
}

fn check_against(state_dir: &Path, machine: &str) -> anyhow::Result<()> {
    if machine.is_empty() {
        return Ok(());
    }
    let path = state_dir.join(KEPT);
    match fs::read_to_string(&path) {
        Ok(kept) if kept.trim() == machine => Ok(()),
        Ok(_) => anyhow::bail!(
            "{} belongs to another machine and was copied here: clear it and join this machine with a new token \
             (`warren token create`) and a name of its own. If this machine takes the other's place for good, remove \
             the other first (`warren member remove`); then its name can join again",
            state_dir.display()
        ),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            fs::write(&path, machine).with_context(|| format!("cannot write {}", path.display()))
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copied_state_directory_is_refused() {
        let state = std::env::temp_dir().join(format!("warren-machine-{}", std::process::id()));
        fs::create_dir_all(state.join("identity")).unwrap();
        check_against(&state, "").unwrap();
        assert!(!state.join(KEPT).exists(), "a container has no mark to leave");
        check_against(&state, "one").unwrap();
        check_against(&state, "one").unwrap();
        let refused = check_against(&state, "two").unwrap_err().to_string();
        assert!(refused.contains("copied here") && refused.contains("warren token create"), "{refused}");
        fs::remove_file(state.join(KEPT)).unwrap();
        check_against(&state, "two").unwrap();
        fs::remove_dir_all(&state).unwrap();
    }
}
