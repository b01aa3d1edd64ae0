//! The settings of the kernel that a pod asks for: those that stay within it.
//!
//! Source: <https://kubernetes.io/docs/tasks/administer-cluster/sysctl-cluster/>.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PodSpec;

/// Those that concern nobody but the pod itself.
const SAFE: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// What a pod asks for, or which of it no node allows.
pub(crate) fn sysctls(spec: &PodSpec) -> Result<BTreeMap<String, String>, String> {
    let asked = spec.security_context.iter().flat_map(|context| context.sysctls.iter().flatten());
    asked
        .map(|sysctl| {
            // Both spellings are the kernel's.
            let name = sysctl.name.replace('/', ".");
            if SAFE.contains(&name.as_str()) {
                Ok((name, sysctl.value.clone()))
            } else {
                Err(format!(
                    "SysctlForbidden: forbidden sysctl: {:?} is not one that concerns the pod alone; these are: {}",
                    sysctl.name,
                    SAFE.join(", ")
                ))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_safe_is_passed_on_and_nothing_else() {
        let of = |names: &[&str]| {
            let list: Vec<_> = names.iter().map(|name| json!({"name": name, "value": "1"})).collect();
            let spec = json!({"containers": [], "securityContext": {"sysctls": list}});
            sysctls(&serde_json::from_value(spec).unwrap())
        };
        let passed = of(&["net/ipv4/tcp_syncookies", "kernel.shm_rmid_forced"]).unwrap();
        assert_eq!(passed.get("net.ipv4.tcp_syncookies").map(String::as_str), Some("1"));
        assert_eq!((passed.len(), of(&[]).unwrap().len()), (2, 0));
        for unsafe_name in
            ["kernel.msgmax", "net.ipv4.ip_forward", "vm.swappiness", "kernel.shm_rmid_forced "]
        {
            assert!(of(&["kernel.shm_rmid_forced", unsafe_name]).unwrap_err().contains(unsafe_name));
        }
    }
}
