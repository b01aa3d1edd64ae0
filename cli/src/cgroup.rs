//! Finds the cgroup of the container a node runs in. Pods are placed beneath it, so that pausing or
//! killing the node's container pauses or kills its pods: a true power cut.

/// The cgroup to place pods under, from the text of `/proc/self/cgroup`; none when pods cannot be
/// placed under this process's own cgroup:
/// - a node that is no container keeps Docker's own place for pods;
/// - with the systemd driver a parent must be a slice, and a container is a scope;
/// - in a version 2 hierarchy a cgroup that holds processes cannot hold cgroups.
pub(crate) fn parent_for_pods(proc_self_cgroup: &str) -> Option<String> {
    let path_of = |controller: &str| {
        proc_self_cgroup.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            controllers.split(',').any(|name| name == controller).then_some(path)
        })
    };
    let path = path_of("memory").or_else(|| path_of("name=systemd"))?;
    is_container_id(path.rsplit('/').next()?).then(|| path.to_owned())
}

/// Docker's cgroupfs driver names a container's cgroup by its full identifier.
fn is_container_id(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "14fb0958ad7a0c62dd8eb5543fb72e36c75960999e291936277b97a10b6154d3";

    #[test]
    fn a_container_of_the_cgroupfs_driver_has_a_parent() {
        let text = format!(
            "9:name=systemd:/docker/{ID}\n4:memory:/docker/{ID}\n2:cpu,cpuacct:/x\n0::/docker/{ID}\n"
        );
        assert_eq!(parent_for_pods(&text), Some(format!("/docker/{ID}")));
        assert_eq!(parent_for_pods(&format!("1:name=systemd:/a/{ID}\n")), Some(format!("/a/{ID}")));
    }

    #[test]
    fn elsewhere_docker_decides() {
        for text in [
            "".to_owned(),
            "nonsense\n::\n1\n".to_owned(),
            "4:memory:/\n0::/\n".to_owned(),
            "4:memory:/system.slice/warren.service\n".to_owned(),
            format!("4:memory:/system.slice/docker-{ID}.scope\n"),
            format!("0::/docker/{ID}\n"),
        ] {
            assert_eq!(parent_for_pods(&text), None, "{text}");
        }
    }
}
