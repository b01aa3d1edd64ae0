//! The installer and the units that it installs.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("deploy")
}

#[test]
fn the_installer_installs_upgrades_and_uninstalls_in_a_scratch_root() {
    let output = Command::new(deploy().join("test-install.sh")).output().expect("a shell");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("all passed"), "{said}");
}

fn unit(role: &str) -> Vec<(String, String)> {
    let path = deploy().join(format!("systemd/warren-{role}.service"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn values(unit: &[(String, String)], key: &str) -> Vec<String> {
    unit.iter().filter(|(known, _)| known == key).map(|(_, value)| value.clone()).collect()
}

/// Law 5 of the units: what a daemon does not need it does not get.
#[test]
fn units_grant_what_the_jobs_need_and_no_more() {
    const NETWORK: [&str; 3] = ["CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW"];
    const PODS: [&str; 6] =
        ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE"];
    let granted = [
        ("controller", [].to_vec()),
        ("gateway", NETWORK.to_vec()),
        ("node", [NETWORK.to_vec(), PODS.to_vec()].concat()),
    ];
    for (role, expected) in granted {
        let unit = unit(role);
        let capabilities = values(&unit, "CapabilityBoundingSet").join(" ");
        let capabilities: BTreeSet<_> = capabilities.split_whitespace().collect();
        assert_eq!(capabilities, expected.into_iter().collect(), "{role}");
        for key in [
            "NoNewPrivileges",
            "LockPersonality",
            "MemoryDenyWriteExecute",
            "RestrictRealtime",
            "ProtectKernelModules",
        ] {
            assert_eq!(values(&unit, key), ["yes"], "{role}: {key}");
        }
        assert_eq!(values(&unit, "StateDirectoryMode"), ["0700"], "{role}");
        // The program and the directories are those that the installer knows.
        let start = values(&unit, "ExecStart").join("");
        let state = values(&unit, "StateDirectory").join("");
        assert!(
            start.starts_with("/usr/local/bin/warren ") && start.contains(&format!("/var/lib/{state} ")),
            "{start}"
        );
        assert_eq!(state, format!("warren-{role}"));
    }
    assert_eq!(values(&unit("controller"), "User"), ["warren"]);
    for role in ["node", "gateway"] {
        assert_eq!(values(&unit(role), "ExecReload"), ["/bin/kill -HUP $MAINPID"], "an upgrade in place");
        assert_eq!(values(&unit(role), "KillMode"), ["mixed"], "the supervisor stops its own");
    }
}

#[test]
fn systemd_understands_the_units() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("there is no systemd-analyze here");
        return;
    }
    // Its own copy in which the program exists, because a missing one is an error too.
    let scratch = std::env::temp_dir().join(format!("warren-units-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).expect("a directory");
    for role in ["controller", "node", "gateway"] {
        let name = format!("warren-{role}.service");
        let text = std::fs::read_to_string(deploy().join("systemd").join(&name)).expect("the unit");
        let text = text.replace("/usr/local/bin/warren", "/bin/true").replace("/sbin/modprobe", "/bin/true");
        std::fs::write(scratch.join(&name), text).expect("written");
        let path = scratch.join(&name);
        let output =
            Command::new("systemd-analyze").arg("verify").arg(&path).output().expect("systemd-analyze");
        let said = String::from_utf8_lossy(&output.stderr);
        let of_ours: Vec<_> = said.lines().filter(|line| line.contains(&name)).collect();
        assert!(of_ours.is_empty(), "{role}: {said}");
    }
    std::fs::remove_dir_all(&scratch).expect("removed");
}
