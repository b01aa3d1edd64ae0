//! Connection tracking: UDP flows to pods that left their service are forgotten, so that the next packet is
//! translated anew.

use std::net::{IpAddr, Ipv4Addr};

use nlink::netlink::{
    Connection, Netfilter,
    netfilter::{ConntrackEntry, ConntrackFilter, IpProtocol},
};

use super::{Result, netfilter};
use crate::{
    plan::services::{Flow, ServiceKey, Tables, is_stale},
    world::{Protocol, Target},
};

/// Forgets UDP flows from addresses in `services` to pods that the service no longer has. Returns how many.
pub async fn forget_stale(services: ipnet::Ipv4Net, tables: &Tables) -> Result<usize> {
    let what = || "clean up connection tracking".to_owned();
    let connection = netfilter(what, async { Connection::<Netfilter>::new() }).await?;
    let filter =
        ConntrackFilter::new().family(nlink::netlink::types::AddressFamily::Inet).proto(IpProtocol::Udp);
    let entries = netfilter(what, connection.get_conntrack_matching(&filter)).await?;
    let flows = entries.iter().filter_map(|entry| Some((entry, flow_of(entry)?)));
    let flows: Vec<_> = flows.filter(|(_, flow)| services.contains(&flow.service.address)).collect();
    let targets = tables.targets(flows.iter().map(|(_, flow)| flow.service));
    let mut forgotten = 0;
    for (entry, flow) in &flows {
        if is_stale(flow, &targets) {
            match connection.del_conntrack_entry(entry).await {
                Ok(()) => forgotten += 1,
                Err(error) if error.is_not_found() => {}
                Err(error) => return netfilter(what, async { Err(error) }).await,
            }
        }
    }
    Ok(forgotten)
}

fn flow_of(entry: &ConntrackEntry) -> Option<Flow> {
    let (address, port) = end(entry.orig.dst_ip, entry.orig.dst_port)?;
    let (target, target_port) = end(entry.reply.src_ip, entry.reply.src_port)?;
    let service = ServiceKey { address, protocol: Protocol::from_number(entry.proto.number())?, port };
    // Without translation the target answers from the address that was asked: the service itself.
    (address != target).then_some(Flow { service, target: Target { address: target, port: target_port } })
}

fn end(address: Option<IpAddr>, port: Option<u16>) -> Option<(Ipv4Addr, u16)> {
    match address? {
        IpAddr::V4(address) => Some((address, port?)),
        IpAddr::V6(_) => None,
    }
}
