//! Links and addresses by rtnetlink.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use futures_util::TryStreamExt;
use ipnet::Ipv4Net;
use rtnetlink::{
    AddressMessageBuilder, LinkUnspec,
    packet_route::{
        address::AddressAttribute,
        link::{LinkAttribute, LinkFlags, LinkMessage},
    },
};

use super::{Error, Result, already_gone, io, route};
use crate::plan::links::{LinkChange, ObservedLink};

/// An rtnetlink socket, in the namespace of the thread that opened it.
pub struct Netlink {
    pub(super) handle: rtnetlink::Handle,
    /// The kernel refuses a second listing on a socket while one is under way (EBUSY).
    pub(super) listing: tokio::sync::Mutex<()>,
    driver: tokio::task::AbortHandle,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A link, as far as netd cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its alias, or empty.
    pub alias: String,
    /// Its MTU.
    pub mtu: u32,
    /// Whether it is up.
    pub up: bool,
    /// The index of a veth's other end, in that end's namespace.
    pub peer: Option<u32>,
}

impl Link {
    fn read(message: &LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            alias: String::new(),
            mtu: 0,
            up: message.header.flags.contains(LinkFlags::Up),
            peer: None,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::IfAlias(alias) => link.alias.clone_from(alias),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Link(peer) => link.peer = Some(*peer),
                _ => {}
            }
        }
        link
    }
}

impl Netlink {
    /// Opens a socket in the calling thread's namespace; needs a tokio runtime.
    pub fn open() -> Result<Self> {
        let (connection, handle, _) = io(|| "open a netlink socket".into(), rtnetlink::new_connection())?;
        let driver = tokio::spawn(connection).abort_handle();
        Ok(Self { handle, listing: tokio::sync::Mutex::new(()), driver })
    }

    /// All links.
    pub async fn links(&self) -> Result<Vec<Link>> {
        let _alone = self.listing.lock().await;
        let messages: Vec<_> =
            route(|| "list links".into(), self.handle.link().get().execute().try_collect()).await?;
        Ok(messages.iter().map(Link::read).collect())
    }

    /// The link called `name`.
    pub async fn link(&self, name: &str) -> Result<Option<Link>> {
        let mut found = self.handle.link().get().match_name(name.to_owned()).execute();
        match route(|| format!("find the link {name}"), found.try_next()).await {
            Ok(message) => Ok(message.as_ref().map(Link::read)),
            Err(error) if error.errno() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The link called `name`, with its addresses.
    pub async fn observe(&self, name: &str) -> Result<ObservedLink> {
        let link =
            self.link(name).await?.ok_or_else(|| Error::Refused(format!("the link {name} is gone")))?;
        let addresses = self.addresses(link.index).await?;
        Ok(ObservedLink { index: link.index, mtu: link.mtu, up: link.up, addresses })
    }

    async fn addresses(&self, index: u32) -> Result<BTreeSet<Ipv4Net>> {
        let _alone = self.listing.lock().await;
        let request = self.handle.address().get().set_link_index_filter(index).execute();
        let messages: Vec<_> = route(|| "list addresses".into(), request.try_collect()).await?;
        let net = |message: &rtnetlink::packet_route::address::AddressMessage| {
            let address = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
                _ => None,
            })?;
            Ipv4Net::new(address, message.header.prefix_len).ok()
        };
        Ok(messages.iter().filter_map(net).collect())
    }

    /// Does one planned step.
    pub async fn change_link(&self, index: u32, change: LinkChange) -> Result<()> {
        match change {
            LinkChange::SetMtu(mtu) => {
                let message = LinkUnspec::new_with_index(index).mtu(mtu).build();
                route(|| format!("set the MTU to {mtu}"), self.handle.link().change(message).execute()).await
            }
            LinkChange::BringUp => self.bring_up(index).await,
            LinkChange::AddAddress(address) => self.add_address(index, address).await,
            LinkChange::RemoveAddress(net) => {
                let message = AddressMessageBuilder::<Ipv4Addr>::new()
                    .index(index)
                    .address(net.addr(), net.prefix_len())
                    .build();
                let removed = route(
                    || format!("remove the address {net}"),
                    self.handle.address().del(message).execute(),
                );
                already_gone(removed.await)
            }
        }
    }

    /// Brings a link up.
    pub async fn bring_up(&self, index: u32) -> Result<()> {
        let message = LinkUnspec::new_with_index(index).up().build();
        route(|| format!("bring link {index} up"), self.handle.link().change(message).execute()).await
    }

    /// Gives a link a /32 address; success when it has it.
    pub async fn add_address(&self, index: u32, address: Ipv4Addr) -> Result<()> {
        let request = self.handle.address().add(index, address.into(), 32).replace();
        route(|| format!("add the address {address}"), request.execute()).await
    }

    /// Removes a link; success when it is gone.
    pub async fn remove_link(&self, index: u32) -> Result<()> {
        already_gone(route(|| format!("remove link {index}"), self.handle.link().del(index).execute()).await)
    }

    /// Sets a link's alias.
    pub async fn set_alias(&self, index: u32, alias: &str) -> Result<()> {
        let message = LinkUnspec::new_with_index(index).alias(alias).build();
        route(|| format!("name link {index}"), self.handle.link().change(message).execute()).await
    }
}
