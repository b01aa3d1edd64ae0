//! The overlay's entrance for what is not IPv4: two small tables beside the great one.
//!
//! ```text
//!  arp warren   nobody on another link learns, or claims, an overlay or service address
//!  ip6 warren   the overlay has no IPv6: what a pod sends by it goes nowhere
//! ```
//! A kernel that cannot filter one of these is said once; nothing else waits for it.

use nlink::netlink::{
    Connection, Nftables,
    nftables::{
        BaseChain, Chain, CmpOp, Expr, Family, FilterHook, PayloadBase, Priority, Register, Rule, Transaction,
    },
};

use super::{
    Error, Result, netfilter,
    skeleton::{Skeleton, TABLE},
};
use crate::plan::attachments::PREFIX;

/// Where an ARP packet over Ethernet names the sender's and the target's IPv4 address.
const ARP_ADDRESSES: [u32; 2] = [14, 24];
/// Both tables' layout: one of another is replaced.
const VERSION: u32 = 1;

/// A table with few rules and no data.
struct Table {
    family: Family,
    comment: String,
    chains: Vec<(&'static str, BaseChain)>,
    rules: Vec<Rule>,
}

/// Puts both tables in place unless they are. Returns the families that this kernel cannot filter.
pub(super) async fn keep(
    connection: &Connection<Nftables>,
    skeleton: &Skeleton,
) -> Result<Vec<&'static str>> {
    let mut missing = Vec::new();
    for table in [arp(skeleton), ipv6(skeleton)] {
        match table.keep(connection).await {
            Ok(()) => {}
            Err(Error::Netfilter { source, .. }) if is_absent(&source) => missing.push(table.family.name()),
            Err(error) => return Err(error),
        }
    }
    Ok(missing)
}

/// Whether the kernel has no such family or chain.
fn is_absent(error: &nlink::Error) -> bool {
    let absent = [libc::ENOENT, libc::EOPNOTSUPP, libc::EAFNOSUPPORT, libc::EPROTONOSUPPORT];
    error.errno().is_some_and(|number| absent.contains(&number.abs())) || error.is_not_supported()
}

fn arp(skeleton: &Skeleton) -> Table {
    let rule = || Rule::new(TABLE, "input").family(Family::Arp);
    // A pod answers for its own address, on its own link.
    let mut rules = vec![rule().match_iif_prefix(PREFIX).accept()];
    for network in [skeleton.cluster, skeleton.services] {
        for offset in ARP_ADDRESSES {
            let mask = network.netmask().octets().to_vec();
            let register = Register::R0;
            let within = vec![
                Expr::Payload { dreg: register, base: PayloadBase::Network, offset, len: 4 },
                Expr::Bitwise { sreg: register, dreg: register, len: 4, mask, xor: vec![0; 4] },
                Expr::Cmp { sreg: register, op: CmpOp::Eq, data: network.network().octets().to_vec() },
            ];
            rules.push(rule().expressions(within).counter().drop());
        }
    }
    Table {
        family: Family::Arp,
        comment: format!("warren-netd {VERSION} {} {}", skeleton.cluster, skeleton.services),
        chains: vec![("input", BaseChain::filter(FilterHook::Input, Priority::Filter))],
        rules,
    }
}

fn ipv6(skeleton: &Skeleton) -> Table {
    let rule = |chain: &str| Rule::new(TABLE, chain).family(Family::Ip6);
    let interface = &skeleton.interface;
    Table {
        family: Family::Ip6,
        comment: format!("warren-netd {VERSION} {interface}"),
        chains: vec![
            ("entrance", BaseChain::filter(FilterHook::Prerouting, Priority::Raw)),
            ("forward", BaseChain::filter(FilterHook::Forward, Priority::Filter)),
        ],
        rules: vec![
            rule("entrance").match_iif_prefix(PREFIX).counter().drop(),
            rule("entrance").match_iif(interface).counter().drop(),
            rule("forward").match_oif_prefix(PREFIX).counter().drop(),
            rule("forward").match_oif(interface).counter().drop(),
        ],
    }
}

impl Table {
    async fn keep(&self, connection: &Connection<Nftables>) -> Result<()> {
        let what = || format!("make the table {} {TABLE}", self.family.name());
        let tables = netfilter(what, connection.list_tables_in(self.family)).await?;
        let present = tables.into_iter().find(|table| table.name == TABLE);
        if let Some(table) = &present
            && table.comment.as_deref() == Some(&self.comment)
            && netfilter(what, connection.list_rules(TABLE, self.family)).await?.len() == self.rules.len()
        {
            return Ok(());
        }
        let mut transaction = connection.transaction();
        if present.is_some() {
            transaction = transaction.del_table(TABLE, self.family);
        }
        let transaction =
            self.build(transaction).map_err(|source| Error::Netfilter { what: what(), source })?;
        metrics::counter!("warren_netd_nftables_transactions_total").increment(1);
        netfilter(what, transaction.commit(connection)).await
    }

    fn build(&self, transaction: Transaction) -> nlink::Result<Transaction> {
        let mut transaction = transaction.add_table_with_comment(TABLE, self.family, 0, Some(&self.comment));
        for (name, base) in &self.chains {
            let chain = Chain::new(TABLE, *name)?.family(self.family).base(base.clone());
            transaction = transaction.add_chain(chain);
        }
        Ok(self.rules.iter().fold(transaction, |transaction, rule| transaction.add_rule(rule.clone())))
    }
}
