//! Finds out who holds a port, so that the error can name it.

use std::{
    fs,
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, TcpListener},
    time::Duration,
};

use bollard::models::{ContainerSummary, PortSummaryTypeEnum};

use super::engine::CLUSTER_LABEL;

/// Who listens on `port` of 127.0.0.1, in words; none when it is free.
pub(crate) fn holder(port: u16, running: &[ContainerSummary]) -> Option<String> {
    if let Some(container) = running.iter().find(|container| publishes(container, port)) {
        return Some(describe(container));
    }
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => Some(match process(port) {
            Some(process) => format!("process {process}"),
            None => "another process".to_owned(),
        }),
        // Free, or a low port that only the engine may open.
        _ => None,
    }
}

/// Whether the engine's proxy accepts connections on every TCP port that a running container publishes here.
pub(crate) async fn answer(container: &ContainerSummary) -> bool {
    const PATIENCE: Duration = Duration::from_secs(2);
    let published = container.ports.iter().flatten().filter_map(|port| {
        (port.typ == Some(PortSummaryTypeEnum::TCP)).then_some(())?;
        Some((port.ip.as_deref()?.parse::<IpAddr>().ok()?, port.public_port?))
    });
    for at in published {
        let connected = tokio::time::timeout(PATIENCE, tokio::net::TcpStream::connect(at)).await;
        // Only a refusal says that nobody is there; one who is slow, is.
        if matches!(connected, Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused) {
            return false;
        }
    }
    true
}

fn publishes(container: &ContainerSummary, port: u16) -> bool {
    container.ports.iter().flatten().any(|published| published.public_port == Some(port))
}

fn describe(container: &ContainerSummary) -> String {
    match container.labels.as_ref().and_then(|labels| labels.get(CLUSTER_LABEL)) {
        Some(cluster) => format!("cluster {cluster}"),
        None => {
            let name =
                container.names.iter().flatten().next().map_or("?", |name| name.trim_start_matches('/'));
            format!("container {name}")
        }
    }
}

/// The process that listens on `port`, as `NAME (PID)`, if this user may know.
fn process(port: u16) -> Option<String> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .find_map(|table| listening_inode(&table, port).map(str::to_owned))?;
    let target = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).find_map(|pid| {
        let mut descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
        descriptors.find(|entry| {
            fs::read_link(entry.path()).is_ok_and(|link| link.as_os_str() == target.as_str())
        })?;
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        Some(format!("{} ({pid})", name.trim()))
    })
}

/// The inode of the socket in state LISTEN on `port`, from the text of `/proc/net/tcp`.
fn listening_inode(table: &str, port: u16) -> Option<&str> {
    const LISTEN: &str = "0A";
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let (_, local_port) = local.rsplit_once(':')?;
        (*state == LISTEN && u16::from_str_radix(local_port, 16) == Ok(port)).then_some(*inode)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use bollard::models::PortSummary;

    use super::*;

    #[test]
    fn a_listener_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let holder = holder(port, &[]).unwrap();
        assert!(holder.contains(&format!("({})", std::process::id())), "{holder}");
    }

    #[tokio::test]
    async fn a_published_port_that_nobody_holds_is_noticed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let publishing = |port: u16, typ| ContainerSummary {
            ports: Some(vec![PortSummary {
                ip: Some("127.0.0.1".into()),
                public_port: Some(port),
                typ: Some(typ),
                ..PortSummary::default()
            }]),
            ..ContainerSummary::default()
        };
        let port = listener.local_addr().unwrap().port();
        assert!(answer(&publishing(port, PortSummaryTypeEnum::TCP)).await);
        drop(listener);
        assert!(!answer(&publishing(port, PortSummaryTypeEnum::TCP)).await);
        assert!(answer(&publishing(port, PortSummaryTypeEnum::UDP)).await);
        assert!(answer(&ContainerSummary::default()).await);
    }

    #[test]
    fn a_container_is_named_by_its_cluster_or_by_itself() {
        let container = |labels: &[(&str, &str)]| ContainerSummary {
            names: Some(vec!["/web".into()]),
            labels: Some(labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect::<HashMap<_, _>>()),
            ports: Some(vec![PortSummary { public_port: Some(9), ..PortSummary::default() }]),
            ..ContainerSummary::default()
        };
        assert_eq!(holder(9, &[container(&[("warren.cluster", "dev")])]).unwrap(), "cluster dev");
        assert_eq!(holder(9, &[container(&[])]).unwrap(), "container web");
    }

    #[test]
    fn only_listening_sockets_count() {
        let table = "  sl  local_address rem_address   st\n   \
            0: 0100007F:1F90 00000000:0000 0A 0:0 0:0 0 0 0 4711 1\n   \
            1: 0100007F:1F91 0100007F:0001 01 0:0 0:0 0 0 0 4712 1\n";
        assert_eq!(listening_inode(table, 8080), Some("4711"));
        assert_eq!(listening_inode(table, 8081), None);
    }
}
