//! The data of our nftables table: read, compared and changed by netlink, one transaction at a time.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use nlink::netlink::{
    Connection, Nftables,
    nftables::{ChainInfo, Family, Set, SetElement, SetElementData, Transaction, Verdict},
};

use super::{
    Error, Result, entrance, netfilter,
    skeleton::{CLIENT_RULES, Skeleton, TABLE, add_client_chain, clients, counts, hairpin, slots},
};
use crate::{
    plan::services::{self, Changes, Client, Fate, ServiceKey, Spread, Tables},
    world::{Protocol, Target},
};

/// Elements in one message: a netlink attribute holds 64 KiB.
const PER_MESSAGE: usize = 500;
/// Elements in one transaction: a netlink socket sends about 200 KiB at once.
const PER_TRANSACTION: usize = 2_000;

/// A handle on our table.
pub struct Ruleset {
    connection: Connection<Nftables>,
}

impl Ruleset {
    /// Opens a socket in the calling thread's namespace.
    pub fn open() -> Result<Self> {
        let what = || "open an nftables socket".to_owned();
        let connection =
            Connection::<Nftables>::new().map_err(|source| Error::Netfilter { what: what(), source })?;
        Ok(Self { connection })
    }

    /// What the table holds; `None` when there is none with these rules.
    pub async fn observe(&self, skeleton: &Skeleton) -> Result<Option<Tables>> {
        let comment = skeleton.comment();
        if self.comment().await?.as_deref() != Some(comment.as_str()) {
            return Ok(None);
        }
        let Some(chains) = self.whole(skeleton).await? else { return Ok(None) };
        let mut tables = Tables { chains, ..Tables::default() };
        for element in self.elements(&counts()).await? {
            if let Some((key, spread)) = read_count(&element) {
                tables.counts.insert(key, spread);
            }
        }
        for element in self.elements(&slots()).await? {
            if let Some((slot, target)) = read_slot(&element) {
                tables.slots.insert(slot, target);
            }
        }
        tables.hairpin =
            self.elements(&hairpin()).await?.iter().filter_map(|e| address(e.key(), 0)).collect();
        Ok(Some(tables))
    }

    /// Keeps the small tables for what is not IPv4. Returns the families that this kernel cannot filter.
    pub async fn keep_entrance(&self, skeleton: &Skeleton) -> Result<Vec<&'static str>> {
        entrance::keep(&self.connection, skeleton).await
    }

    /// Changes the data from `observed` to `desired`; each transaction leaves every service whole.
    pub async fn change(&self, changes: Changes) -> Result<()> {
        for part in changes.parts(PER_TRANSACTION) {
            let transaction = add_changes(self.connection.transaction(), &part)?;
            self.commit("change the service rules", transaction).await?;
        }
        Ok(())
    }

    /// Puts a new table with `desired` in place of whatever is there, in one transaction (a very large one
    /// is completed by further ones). Clients that the old one remembers are remembered by the new one, too.
    pub async fn rebuild(&self, skeleton: &Skeleton, desired: &Tables) -> Result<()> {
        let mut transaction = self.connection.transaction();
        let mut known = Vec::new();
        if self.exists().await? {
            // A table of an earlier version has no such map.
            known = self.clients().await.unwrap_or_default();
            transaction = transaction.del_table(TABLE, Family::Ip);
        }
        transaction = skeleton.build(transaction).map_err(invalid)?;
        let targets = desired.targets(known.iter().map(|client| client.service));
        known.retain(|client| services::fate(client, &desired.counts, &targets) == Fate::Stays);
        let known: Vec<_> =
            known.iter().map(|client| client_element(client, client.left)).take(PER_TRANSACTION).collect();
        for chunk in known.chunks(PER_MESSAGE) {
            transaction = transaction.add_set_elements(&clients(), chunk);
        }
        let mut parts = services::diff(&Tables::default(), desired).parts(PER_TRANSACTION).into_iter();
        if let Some(first) = parts.next() {
            transaction = add_changes(transaction, &first)?;
        }
        self.commit("make the service rules", transaction).await?;
        for part in parts {
            let transaction = add_changes(self.connection.transaction(), &part)?;
            self.commit("fill the service rules", transaction).await?;
        }
        Ok(())
    }

    /// The clients that the kernel remembers.
    async fn clients(&self) -> Result<Vec<Client>> {
        Ok(self.elements(&clients()).await?.iter().filter_map(read_client).collect())
    }

    /// Forgets the clients whose pods are not where `tables` leads any more. Returns how many.
    pub async fn forget_clients(&self, tables: &Tables) -> Result<usize> {
        let known = self.clients().await?;
        let targets = tables.targets(known.iter().map(|client| client.service));
        let fates = known.into_iter();
        let fates = fates.map(|client| (client, services::fate(&client, &tables.counts, &targets)));
        let changed: Vec<_> = fates.filter(|(_, fate)| *fate != Fate::Stays).collect();
        for chunk in changed.chunks(PER_MESSAGE) {
            let together =
                self.commit("forget clients", change_clients(self.connection.transaction(), chunk));
            match together.await {
                // One of them expired by itself, which fails all.
                Err(Error::Netfilter { source, .. }) if source.is_not_found() => {
                    self.forget_one_by_one(chunk).await?;
                }
                other => other?,
            }
        }
        Ok(changed.len())
    }

    async fn forget_one_by_one(&self, clients: &[(Client, Fate)]) -> Result<()> {
        for client in clients.chunks(1) {
            match self.commit("forget a client", change_clients(self.connection.transaction(), client)).await
            {
                Err(Error::Netfilter { source, .. }) if source.is_not_found() => {}
                other => other?,
            }
        }
        Ok(())
    }

    async fn commit(&self, what: &str, transaction: Transaction) -> Result<()> {
        metrics::counter!("warren_netd_nftables_transactions_total").increment(1);
        netfilter(|| what.to_owned(), transaction.commit(&self.connection)).await
    }

    async fn exists(&self) -> Result<bool> {
        let tables = netfilter(|| "list nftables tables".into(), self.connection.list_tables_in(Family::Ip));
        Ok(tables.await?.iter().any(|table| table.name == TABLE))
    }

    async fn comment(&self) -> Result<Option<String>> {
        let tables = netfilter(|| "list nftables tables".into(), self.connection.list_tables_in(Family::Ip));
        Ok(tables.await?.into_iter().find(|table| table.name == TABLE).and_then(|table| table.comment))
    }

    /// The chains for clients; `None` when somebody else took rules or chains out of the table, or put some in.
    async fn whole(&self, skeleton: &Skeleton) -> Result<Option<BTreeSet<Spread>>> {
        let chains =
            netfilter(|| "list nftables chains".into(), self.connection.list_chains_in(TABLE, Family::Ip))
                .await?;
        let rules =
            netfilter(|| "list nftables rules".into(), self.connection.list_rules(TABLE, Family::Ip)).await?;
        let named = |chain: ChainInfo| (chain.name, 0usize);
        let mut present: BTreeMap<String, usize> = chains.into_iter().map(named).collect();
        for rule in rules {
            *present.entry(rule.chain).or_default() += 1;
        }
        let mut for_clients = BTreeSet::new();
        let mut damaged = false;
        present.retain(|chain, rules| match Spread::of_chain(chain).filter(|spread| spread.remembers()) {
            Some(spread) => {
                damaged |= *rules != CLIENT_RULES;
                for_clients.insert(spread);
                false
            }
            None => true,
        });
        Ok((!damaged && present == skeleton.rule_counts()).then_some(for_clients))
    }

    async fn elements(&self, set: &Set) -> Result<Vec<SetElement>> {
        let name = set.name();
        netfilter(
            || format!("list the elements of {name}"),
            self.connection.list_set_elements(TABLE, name, Family::Ip),
        )
        .await
    }
}

fn invalid(source: nlink::Error) -> Error {
    Error::Netfilter { what: "describe the service rules".into(), source }
}

fn add_changes(transaction: Transaction, changes: &Changes) -> Result<Transaction> {
    let counts_gone: Vec<_> = changes.counts_gone.iter().map(service_key).collect();
    let counts_new: Vec<_> =
        changes.counts_new.iter().map(|(key, spread)| count_element(key, *spread)).collect::<Result<_>>()?;
    let slots_gone: Vec<_> = changes.slots_gone.iter().map(slot_key).collect();
    let slots_new: Vec<_> =
        changes.slots_new.iter().map(|(slot, target)| slot_key(slot).value(target_value(target))).collect();
    let hairpin_gone: Vec<_> = changes.hairpin_gone.iter().map(hairpin_key).collect();
    let hairpin_new: Vec<_> = changes.hairpin_new.iter().map(hairpin_key).collect();

    let mut transaction = transaction;
    for spread in &changes.chains_new {
        if let Spread::Client { seconds, .. } = spread {
            transaction = add_client_chain(transaction, *spread, *seconds).map_err(invalid)?;
        }
    }
    // Deletions first: a changed element is deleted and added.
    for (set, elements) in [(counts(), counts_gone), (slots(), slots_gone), (hairpin(), hairpin_gone)] {
        for chunk in elements.chunks(PER_MESSAGE) {
            transaction = transaction.del_set_elements(&set, chunk);
        }
    }
    for (set, elements) in [(slots(), slots_new), (counts(), counts_new), (hairpin(), hairpin_new)] {
        for chunk in elements.chunks(PER_MESSAGE) {
            transaction = transaction.add_set_elements(&set, chunk);
        }
    }
    let gone =
        |transaction: Transaction, spread: &Spread| transaction.del_chain(TABLE, &spread.chain(), Family::Ip);
    Ok(changes.chains_gone.iter().fold(transaction, gone))
}

fn change_clients(transaction: Transaction, changes: &[(Client, Fate)]) -> Transaction {
    let gone: Vec<_> = changes.iter().map(|(client, _)| client_key(client)).collect();
    let shortened = changes.iter().filter_map(|(client, fate)| match fate {
        Fate::Shortened(left) => Some(client_element(client, *left)),
        Fate::Goes | Fate::Stays => None,
    });
    let shortened: Vec<_> = shortened.collect();
    let transaction = transaction.del_set_elements(&clients(), &gone);
    if shortened.is_empty() { transaction } else { transaction.add_set_elements(&clients(), &shortened) }
}

fn client_key(client: &Client) -> SetElement {
    SetElement::concat([
        SetElement::ipv4(client.service.address),
        SetElement::inet_proto(client.service.protocol.number()),
        SetElement::port(client.service.port),
        SetElement::ipv4(client.address),
    ])
}

fn client_element(client: &Client, left: std::time::Duration) -> SetElement {
    client_key(client).value(target_value(&client.target)).with_timeout(left)
}

fn service_key(key: &ServiceKey) -> SetElement {
    SetElement::concat([
        SetElement::ipv4(key.address),
        SetElement::inet_proto(key.protocol.number()),
        SetElement::port(key.port),
    ])
}

fn count_element(key: &ServiceKey, spread: Spread) -> Result<SetElement> {
    let chain = spread.chain().parse().map_err(invalid)?;
    Ok(service_key(key).verdict(Verdict::GotoTo(chain)))
}

fn slot_key((key, slot): &(ServiceKey, u32)) -> SetElement {
    SetElement::concat([
        SetElement::ipv4(key.address),
        SetElement::inet_proto(key.protocol.number()),
        SetElement::port(key.port),
        SetElement::mark(*slot),
    ])
}

fn target_value(target: &Target) -> SetElement {
    SetElement::concat([SetElement::ipv4(target.address), SetElement::port(target.port)])
}

fn hairpin_key(pod: &Ipv4Addr) -> SetElement {
    SetElement::concat([SetElement::ipv4(*pod), SetElement::ipv4(*pod)])
}

fn address(bytes: &[u8], offset: usize) -> Option<Ipv4Addr> {
    let octets: [u8; 4] = bytes.get(offset..offset + 4)?.try_into().ok()?;
    Some(octets.into())
}

fn port(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(offset..offset + 2)?.try_into().ok()?))
}

fn read_key(bytes: &[u8]) -> Option<ServiceKey> {
    let protocol = Protocol::from_number(*bytes.get(4)?)?;
    Some(ServiceKey { address: address(bytes, 0)?, protocol, port: port(bytes, 8)? })
}

fn read_count(element: &SetElement) -> Option<(ServiceKey, Spread)> {
    let Some(SetElementData::Verdict(Verdict::GotoTo(chain))) = element.data() else { return None };
    Some((read_key(element.key())?, Spread::of_chain(chain.as_str())?))
}

fn read_slot(element: &SetElement) -> Option<((ServiceKey, u32), Target)> {
    let Some(SetElementData::Value(value)) = element.data() else { return None };
    let slot = u32::from_ne_bytes(element.key().get(12..16)?.try_into().ok()?);
    let target = Target { address: address(value, 0)?, port: port(value, 4)? };
    Some(((read_key(element.key())?, slot), target))
}

fn read_client(element: &SetElement) -> Option<Client> {
    let Some(SetElementData::Value(value)) = element.data() else { return None };
    let timeout = element.timeout()?;
    Some(Client {
        service: read_key(element.key())?,
        address: address(element.key(), 12)?,
        target: Target { address: address(value, 0)?, port: port(value, 4)? },
        timeout,
        left: element.expiration().unwrap_or(timeout),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn elements_read_back(vip: u32, udp: bool, port: u16, slot: u32, pod: u32, pod_port: u16, n in 1u32..64) {
            let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
            let key = ServiceKey { address: vip.into(), protocol, port };
            let target = Target { address: pod.into(), port: pod_port };
            let element = slot_key(&(key, slot)).value(target_value(&target));
            prop_assert_eq!(read_slot(&element), Some(((key, slot), target)));
            for spread in [Spread::Random(n), Spread::Client { slots: n, seconds: slot }] {
                let element = count_element(&key, spread).expect("a chain name");
                prop_assert_eq!(read_count(&element), Some((key, spread)));
            }
            let left = std::time::Duration::from_secs(u64::from(n));
            let client = Client { service: key, address: slot.into(), target, timeout: left, left };
            prop_assert_eq!(read_client(&client_element(&client, left)), Some(client));
        }
    }
}
