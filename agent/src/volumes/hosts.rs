//! A pod's `/etc/hosts`.

use std::{net::IpAddr, path::Path};

use warren_proto::control::PodInstruction;

/// The first line, by which programs (and Kubernetes' own tests) tell a managed file from an image's.
const HEADER: &str = "# Kubernetes-managed hosts file.\n";
const LOOPBACK: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";

/// What the file says: the pod by its full name, if it has one, and its short one; then its aliases.
pub(super) fn content(pod: &PodInstruction) -> String {
    let mut text = format!("{HEADER}{LOOPBACK}");
    let short = if pod.hostname.is_empty() { &pod.name } else { &pod.hostname };
    // With setHostnameAsFQDN the host's name is the full one; the short one is its first label.
    let full = pod.fully_qualified_name.as_str();
    let short = if short == full { full.split('.').next().unwrap_or_default() } else { short };
    if pod.address.parse::<IpAddr>().is_ok() {
        let names: Vec<&str> = [full, short].into_iter().filter(|name| is_name(name)).collect();
        text.push_str(&format!("{}\t{}\n", pod.address, names.join("\t")));
    }
    if !pod.host_aliases.is_empty() {
        text.push_str("\n# hostAliases of the pod.\n");
    }
    for alias in &pod.host_aliases {
        let names: Vec<&str> =
            alias.hostnames.iter().map(String::as_str).filter(|name| is_name(name)).collect();
        if alias.ip.parse::<IpAddr>().is_ok() && !names.is_empty() {
            text.push_str(&format!("{}\t{}\n", alias.ip, names.join("\t")));
        }
    }
    text
}

/// Nothing that would begin another field, comment or line.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#')
}

/// Writes the file anew when it says something else. It is written in place: a running pod has it mounted, and may
/// have added lines, which a change of the instruction replaces, as on Kubernetes.
pub(super) fn write(path: &Path, pod: &PodInstruction) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, content(pod))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644))
}

#[cfg(test)]
mod tests {
    use super::*;
    use warren_proto::control::HostAlias;

    #[test]
    fn the_full_name_comes_first_and_nothing_breaks_a_line() {
        let alias = |ip: &str, names: &[&str]| HostAlias {
            ip: ip.into(),
            hostnames: names.iter().map(|n| (*n).into()).collect(),
        };
        let mut pod = PodInstruction {
            name: "db-0".into(),
            hostname: "db-0".into(),
            address: "10.42.1.7".into(),
            fully_qualified_name: "db-0.cluster.default.svc.cluster.local".into(),
            host_aliases: vec![alias("1.2.3.4", &["a", "b\n6.6.6.6 c", "d"]), alias("x", &["e"])],
            ..PodInstruction::default()
        };
        let text = content(&pod);
        assert!(text.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"), "{text}");
        assert!(text.contains("\n10.42.1.7\tdb-0.cluster.default.svc.cluster.local\tdb-0\n"), "{text}");
        assert!(text.ends_with("\n1.2.3.4\ta\td\n") && !text.contains("6.6.6.6"), "{text}");
        pod.hostname.clone_from(&pod.fully_qualified_name);
        assert!(content(&pod).contains("\n10.42.1.7\tdb-0.cluster.default.svc.cluster.local\tdb-0\n"));
        pod.fully_qualified_name.clear();
        pod.hostname = "web".into();
        assert!(content(&pod).contains("\n10.42.1.7\tweb\n"));
    }
}
