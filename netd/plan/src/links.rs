//! The tunnel's link: its size, its state and the addresses on it.

use std::{collections::BTreeSet, net::Ipv4Addr};

use ipnet::Ipv4Net;

/// A link as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedLink {
    /// Its index.
    pub index: u32,
    /// Its MTU.
    pub mtu: u32,
    /// Whether it is up.
    pub up: bool,
    /// IPv4 addresses with their prefixes.
    pub addresses: BTreeSet<Ipv4Net>,
}

/// A link as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredLink {
    /// Its MTU.
    pub mtu: u32,
    /// Its addresses, each a /32.
    pub addresses: BTreeSet<Ipv4Addr>,
}

/// One step towards the desired link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkChange {
    /// Sets the MTU.
    SetMtu(u32),
    /// Brings it up.
    BringUp,
    /// Adds an address.
    AddAddress(Ipv4Addr),
    /// Takes an address off.
    RemoveAddress(Ipv4Net),
}

/// What must change. New addresses come before old ones go, so that sockets find a source all the time.
pub fn plan(desired: &DesiredLink, observed: &ObservedLink) -> Vec<LinkChange> {
    let wanted: BTreeSet<Ipv4Net> = desired.addresses.iter().copied().map(Ipv4Net::from).collect();
    let mut changes = Vec::new();
    if observed.mtu != desired.mtu {
        changes.push(LinkChange::SetMtu(desired.mtu));
    }
    if !observed.up {
        changes.push(LinkChange::BringUp);
    }
    changes.extend(wanted.difference(&observed.addresses).map(|net| LinkChange::AddAddress(net.addr())));
    changes.extend(observed.addresses.difference(&wanted).map(|net| LinkChange::RemoveAddress(*net)));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn apply(link: &mut ObservedLink, change: LinkChange) {
        match change {
            LinkChange::SetMtu(mtu) => link.mtu = mtu,
            LinkChange::BringUp => link.up = true,
            LinkChange::AddAddress(address) => {
                link.addresses.insert(address.into());
            }
            LinkChange::RemoveAddress(net) => {
                link.addresses.remove(&net);
            }
        }
    }

    proptest! {
        #[test]
        fn converges_from_every_prefix(
            mtu in 1280u32..9000, up: bool, now in 1280u32..9000,
            wanted in proptest::collection::btree_set(0u32..6, 0..4),
            present in proptest::collection::btree_set((0u32..6, 24u8..=32), 0..4),
            stop in 0usize..8,
        ) {
            let desired = DesiredLink { mtu, addresses: wanted.into_iter().map(|n| Ipv4Addr::from(n + 167_772_160)).collect() };
            let addresses = present.into_iter()
                .filter_map(|(n, p)| Ipv4Net::new(Ipv4Addr::from(n + 167_772_160), p).ok()).collect();
            let mut link = ObservedLink { index: 1, mtu: now, up, addresses };
            // A crash after any prefix of the changes still converges.
            for change in plan(&desired, &link).into_iter().take(stop) {
                apply(&mut link, change);
            }
            for change in plan(&desired, &link) {
                apply(&mut link, change);
            }
            prop_assert_eq!(plan(&desired, &link), vec![]);
            prop_assert_eq!(link.mtu, desired.mtu);
        }
    }
}
