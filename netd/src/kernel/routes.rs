//! Routes by rtnetlink; only those with our protocol number are seen or touched.

use std::{collections::BTreeSet, net::Ipv4Addr};

use futures_util::TryStreamExt;
use ipnet::Ipv4Net;
use rtnetlink::{
    RouteMessageBuilder,
    packet_route::route::{
        RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
    },
};

use super::{Result, already_gone, links::Netlink, route};
use crate::plan::routes::{PROTOCOL, RouteChange, Via};

impl Netlink {
    /// Our routes in the main table.
    pub async fn routes(&self) -> Result<BTreeSet<(Ipv4Net, Via)>> {
        let _alone = self.listing.lock().await;
        let request = self.handle.route().get(RouteMessageBuilder::<Ipv4Addr>::new().build());
        let messages: Vec<_> = route(|| "list routes".into(), request.execute().try_collect()).await?;
        Ok(messages.iter().filter_map(read).collect())
    }

    /// Does one planned step.
    pub async fn change_route(&self, change: RouteChange) -> Result<()> {
        match change {
            RouteChange::Replace(destination, via) => {
                let request = self.handle.route().add(message(destination, via)).replace();
                route(|| format!("set the route to {destination}"), request.execute()).await
            }
            RouteChange::Remove(destination, via) => {
                let request = self.handle.route().del(message(destination, via));
                already_gone(route(|| format!("remove the route to {destination}"), request.execute()).await)
            }
        }
    }
}

fn message(destination: Ipv4Net, via: Via) -> RouteMessage {
    let builder = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(destination.addr(), destination.prefix_len())
        .protocol(RouteProtocol::Other(PROTOCOL));
    match via {
        Via::Link { index, source } => {
            let builder = builder.output_interface(index).scope(RouteScope::Link);
            source.into_iter().fold(builder, |builder, source| builder.pref_source(source)).build()
        }
        Via::Unreachable => builder.kind(RouteType::Unreachable).build(),
    }
}

fn read(message: &RouteMessage) -> Option<(Ipv4Net, Via)> {
    let header = &message.header;
    if header.protocol != RouteProtocol::Other(PROTOCOL) || header.table != RouteHeader::RT_TABLE_MAIN {
        return None;
    }
    let (mut destination, mut index, mut source) = (Ipv4Addr::UNSPECIFIED, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => destination = *address,
            RouteAttribute::PrefSource(RouteAddress::Inet(address)) => source = Some(*address),
            RouteAttribute::Oif(oif) => index = Some(*oif),
            _ => {}
        }
    }
    let destination = Ipv4Net::new(destination, header.destination_prefix_length).ok()?;
    match header.kind {
        RouteType::Unreachable => Some((destination, Via::Unreachable)),
        _ => Some((destination, Via::Link { index: index?, source })),
    }
}
