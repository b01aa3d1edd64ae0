//! What `deploy/prerequisites.sh` does where cargo is too old, and `deploy/unpack-sid.sh` with and without a network: with
//! programs of our own in front of the real ones.

use std::{os::unix::fs::PermissionsExt as _, path::Path, process::Command};

/// A machine's home and its first folder of programs, where everything but Rust is installed.
struct Machine(std::path::PathBuf);

impl Machine {
    fn new(name: &str) -> Self {
        let home = std::env::temp_dir().join(format!("warren-prerequisites-{name}-{}", std::process::id()));
        let machine = Self(home);
        machine.program("bin/cargo", "echo 'cargo 1.63.0 (Debian)'");
        for present in ["docker", "cc", "kubectl"] {
            machine.program(&format!("bin/{present}"), "exit 0");
        }
        machine
    }

    fn program(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a writable temporary directory");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a writable temporary directory");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("our own file");
    }

    /// Whether the script succeeds, and what it says.
    fn prepare(&self) -> (bool, String) {
        self.run("prerequisites.sh", &[])
    }

    /// Unpacks the package `tool` into `tools`.
    fn unpack(&self) -> (bool, String) {
        let tools = self.0.join("tools").display().to_string();
        self.run("unpack-sid.sh", &[&tools, "tool"])
    }

    fn run(&self, script: &str, arguments: &[&str]) -> (bool, String) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(script);
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.0.join("bin").display());
        let mut command = Command::new("sh");
        command.arg(script).args(arguments).env_clear().env("PATH", path).env("HOME", &self.0);
        let output = command.output().expect("sh starts");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn an_old_cargo_is_replaced_by_rustups() {
    let machine = Machine::new("rustup");
    // Like the real one, it puts cargo into the home; the script must find it there by itself.
    machine.program(
        "bin/rustup",
        "echo \"$@\" >>\"$HOME/asked\"; mkdir -p \"$HOME/.cargo/bin\"\n\
         printf '#!/bin/sh\\necho cargo 1.999.0\\n' >\"$HOME/.cargo/bin/cargo\"; chmod 755 \"$HOME/.cargo/bin/cargo\"",
    );
    let (succeeded, said) = machine.prepare();
    assert!(succeeded && said.contains("cargo is 1.63.0"), "{said}");
    let asked = std::fs::read_to_string(machine.0.join("asked")).expect("rustup was asked");
    assert!(
        asked.starts_with("toolchain install stable") && asked.contains("override set stable"),
        "{asked}"
    );
    // Once more: nothing is left to do.
    let (succeeded, said) = machine.prepare();
    assert!(succeeded && !said.contains("rustup"), "{said}");
    assert_eq!(std::fs::read_to_string(machine.0.join("asked")).expect("still there"), asked);
}

#[test]
fn what_cannot_be_installed_is_told_with_its_mend() {
    let machine = Machine::new("offline");
    machine.program("bin/rustup", "echo 'error: no network' >&2; exit 1");
    let (succeeded, said) = machine.prepare();
    assert!(!succeeded, "{said}");
    assert!(said.contains("no network"), "rustup's own words are lost: {said}");
    assert!(said.contains("error: cargo is 1.63.0: install Rust 1."), "{said}");
    assert!(said.contains("https://rustup.rs"), "{said}");
}

#[test]
fn packages_of_sid_are_unpacked_once_and_beside_the_system() {
    let machine = Machine::new("sid");
    // A package as `apt-get download` would leave it.
    machine.program("package/usr/bin/tool", "echo newest");
    let control = machine.0.join("package/DEBIAN/control");
    std::fs::create_dir_all(control.parent().expect("a folder")).expect("a writable temporary directory");
    let about = "Package: tool\nVersion: 1\nArchitecture: all\nMaintainer: nobody <n@example.org>\nDescription: none\n";
    std::fs::write(&control, about).expect("a writable temporary directory");
    // Its configuration must keep everything of apt's out of the system's directories.
    machine.program(
        "bin/apt-get",
        "echo \"$@\" >>\"$HOME/asked\"; cat \"$APT_CONFIG\" >>\"$HOME/configuration\"\n\
         [ \"$1\" = update ] || dpkg-deb -b \"$HOME/package\" tool_1_all.deb",
    );
    let (succeeded, said) = machine.unpack();
    assert!(succeeded, "{said}");
    let tool =
        std::process::Command::new(machine.0.join("tools/usr/bin/tool")).output().expect("it is there");
    assert_eq!(String::from_utf8_lossy(&tool.stdout), "newest\n");
    let configuration = std::fs::read_to_string(machine.0.join("configuration")).expect("apt was configured");
    for kept_apart in ["sourcelist", "sourceparts", "State::lists", "State::status", "Dir::Cache"] {
        assert!(configuration.contains(kept_apart), "{kept_apart}: {configuration}");
    }
    let asked = std::fs::read_to_string(machine.0.join("asked")).expect("apt was asked");
    assert!(asked.contains("update") && asked.contains("download -q tool"), "{asked}");
    // Once more: nothing is left to do.
    assert!(machine.unpack().0);
    assert_eq!(std::fs::read_to_string(machine.0.join("asked")).expect("still there"), asked);
}

#[test]
fn without_sid_the_mend_is_told_and_nothing_is_left() {
    let machine = Machine::new("no-sid");
    machine.program("bin/apt-get", "echo 'Could not connect' >&2; exit 100");
    let (succeeded, said) = machine.unpack();
    assert!(!succeeded && !machine.0.join("tools").exists(), "{said}");
    assert!(said.contains("Could not connect"), "apt's own words are lost: {said}");
    assert!(said.contains("error: Debian sid cannot be reached") && said.contains("DEBIAN_MIRROR"), "{said}");
}
