//! Plugs pods in: a veth pair, a /32 address and a link-local gateway with a fixed hardware address.

use std::{net::Ipv4Addr, path::Path};

use rtnetlink::{
    LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
    packet_route::{
        link::{InfoData, InfoVeth},
        neighbour::NeighbourState,
        route::RouteScope,
    },
};

use super::{
    Error, Result,
    links::{Link, Netlink},
    namespaces::Namespace,
    route, sysctl,
};
use crate::plan::attachments::{self, AttachError, Attachment, Plugged};

/// Every pod's gateway. It is on no link: the permanent neighbour leads to the host's end.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The hardware address of every host end; no two of them share a segment.
const HOST_MAC: [u8; 6] = [0xee; 6];
const POD_LINK: &str = "eth0";
const LOOPBACK: u32 = 1;

/// Why a pod was not plugged in.
#[derive(Debug, thiserror::Error)]
pub enum PlugError {
    /// It must not be.
    #[error(transparent)]
    Refused(#[from] AttachError),
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] Error),
}

impl Netlink {
    /// The pods that are plugged in, with their links' indexes.
    pub async fn attachments(&self) -> Result<Vec<(Attachment, u32)>> {
        let links = self.links().await?;
        let ours = links.iter().filter(|link| link.name.starts_with(attachments::PREFIX));
        Ok(ours.filter_map(|link| Some((Attachment::from_alias(&link.alias)?, link.index))).collect())
    }

    /// Plugs a pod into the namespace at `path`, unless it is. Returns its link's index.
    pub async fn attach(
        &self,
        wanted: &Attachment,
        path: &Path,
        mtu: u32,
        source: Ipv4Addr,
    ) -> std::result::Result<u32, PlugError> {
        let namespace = Namespace::open(path)?;
        if namespace.identity()? == Namespace::current()?.identity()? {
            return Err(Error::Refused(format!(
                "{} is the node's own network namespace; a pod needs one of its own",
                path.display()
            ))
            .into());
        }
        let pod = namespace.netlink().await?;
        let others = self.attachments().await?;
        let others = others.into_iter().map(|(other, _)| (other.uid, other.address)).collect();
        let existing = self.plugged(wanted, &pod).await?;
        let plan = attachments::plan(wanted, existing.as_ref(), &others)?;
        if let Some(index) = plan.remove {
            self.remove_link(index).await?;
        }
        if plan.create {
            self.create_pair(wanted, &namespace, &pod, mtu).await?;
        }
        Ok(self.configure(wanted, &pod, mtu, source).await?)
    }

    /// Unplugs a pod. Returns what was plugged in.
    pub async fn detach(&self, uid: &warren_proto::vocabulary::PodUid) -> Result<Option<Attachment>> {
        let Some(link) = self.link(&attachments::interface(uid)).await? else { return Ok(None) };
        let attachment = Attachment::from_alias(&link.alias);
        if attachment.as_ref().is_some_and(|attachment| attachment.uid != *uid) {
            return Ok(None);
        }
        self.remove_link(link.index).await?;
        Ok(attachment)
    }

    /// Removes pods' links that were made but never named: a crash came in between.
    pub async fn remove_unnamed(&self) -> Result<usize> {
        let links = self.links().await?;
        let unnamed = links
            .iter()
            .filter(|link| link.name.starts_with(attachments::PREFIX) && link.name.len() == 15)
            .filter(|link| link.alias.is_empty() && link.peer.is_some());
        let mut removed = 0;
        for link in unnamed {
            self.remove_link(link.index).await?;
            removed += 1;
        }
        Ok(removed)
    }

    async fn plugged(&self, wanted: &Attachment, pod: &Netlink) -> Result<Option<Plugged>> {
        let Some(link) = self.link(&wanted.interface()).await? else { return Ok(None) };
        let here = pod.link(POD_LINK).await?.is_some_and(|end| is_other_end(&link, &end));
        Ok(Some(Plugged { index: link.index, attachment: Attachment::from_alias(&link.alias), here }))
    }

    /// One message makes the pair, puts the pod's end into its namespace, names and sizes it.
    async fn create_pair(
        &self,
        wanted: &Attachment,
        namespace: &Namespace,
        pod: &Netlink,
        mtu: u32,
    ) -> Result<()> {
        if pod.link(POD_LINK).await?.is_some() {
            return Err(Error::Refused(format!(
                "the namespace of pod {} has an {POD_LINK} that is not Warren's; its container must be created with network none",
                wanted.uid
            )));
        }
        let end = LinkMessageBuilder::<LinkUnspec>::new()
            .name(POD_LINK)
            .mtu(mtu)
            .setns_by_fd(namespace.raw_fd())
            .build();
        let pair = LinkMessageBuilder::<LinkVeth>::new(&wanted.interface(), POD_LINK)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(end)))
            .address(HOST_MAC.to_vec())
            .mtu(mtu)
            .up()
            .build();
        route(|| format!("make a link for pod {}", wanted.uid), self.handle.link().add(pair).execute()).await
    }

    /// Sets everything up on both ends; harmless when it is.
    async fn configure(&self, wanted: &Attachment, pod: &Netlink, mtu: u32, source: Ipv4Addr) -> Result<u32> {
        let gone =
            || Error::Refused(format!("the link of pod {} vanished; is its container alive?", wanted.uid));
        let end = pod.link(POD_LINK).await?.ok_or_else(gone)?;
        pod.bring_up(LOOPBACK).await?;
        pod.set_alias(end.index, &wanted.to_string()).await?;
        pod.change_link(end.index, crate::plan::links::LinkChange::SetMtu(mtu)).await?;
        pod.add_address(end.index, wanted.address).await?;
        pod.bring_up(end.index).await?;
        pod.set_gateway(end.index).await?;
        let host = self.link(&wanted.interface()).await?.ok_or_else(gone)?;
        // A pod can only send from its own address: the way back to any other is not by this link.
        sysctl::set(&format!("net/ipv4/conf/{}/rp_filter", host.name), "1")?;
        let via = crate::plan::routes::Via::Link { index: host.index, source: Some(source) };
        let change = crate::plan::routes::RouteChange::Replace(wanted.address.into(), via);
        self.change_route(change).await?;
        // The name comes last: a link with an alias is a pod that is plugged in.
        self.set_alias(host.index, &wanted.to_string()).await?;
        Ok(host.index)
    }

    async fn set_gateway(&self, index: u32) -> Result<()> {
        let neighbour = self
            .handle
            .neighbours()
            .add(index, GATEWAY.into())
            .link_layer_address(&HOST_MAC)
            .state(NeighbourState::Permanent)
            .replace();
        route(|| "set a pod's gateway".into(), neighbour.execute()).await?;
        let gateway = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(GATEWAY, 32)
            .output_interface(index)
            .scope(RouteScope::Link)
            .build();
        let default = RouteMessageBuilder::<Ipv4Addr>::new().gateway(GATEWAY).output_interface(index).build();
        for message in [gateway, default] {
            let request = self.handle.route().add(message).replace();
            route(|| "set a pod's route".into(), request.execute()).await?;
        }
        Ok(())
    }
}

/// Whether `end`, in the pod's namespace, is the other end of `host`. Indexes may repeat in namespaces, the
/// alias with its UID does not.
fn is_other_end(host: &Link, end: &Link) -> bool {
    host.peer == Some(end.index)
        && end.peer == Some(host.index)
        && !host.alias.is_empty()
        && host.alias == end.alias
}
