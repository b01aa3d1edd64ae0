//! The constant ruleset: one table whose rules never change, only the elements of its maps and sets.
//!
//! ```text
//!  prerouting, output   address . protocol . port ── counts ──► chain nN or hN
//!  nN, hN               … . slot drawn of N ──────── slots ───► translated to the pod
//!  postrouting          pod to itself by a service, or leaving the cluster: another source
//!  forward, local       what still goes to a service address has no endpoint: refused at once
//! ```

use std::{collections::BTreeMap, net::Ipv4Addr};

use ipnet::Ipv4Net;
use nlink::netlink::nftables::{
    BaseChain, Chain, CtStatus, Expr, Family, FilterHook, HashKind, LookupExpr, MetaKey, NatHook, NumgenKind,
    PacketField, PayloadBase, Priority, RawExpr, Register, Rule, Set, SetDataType, SetKeyType, Transaction,
};

use crate::{plan::services::Spread, world::Network};

/// The table's name.
pub(super) const TABLE: &str = "warren";
/// The layout's version: a table of another one is replaced.
const VERSION: u32 = 1;

const COUNTS: &str = "counts";
const SLOTS: &str = "slots";
const HAIRPIN: &str = "hairpin";

const SOURCE: u32 = 12;
const DESTINATION: u32 = 16;

/// What the rules depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skeleton {
    cluster: Ipv4Net,
    services: Ipv4Net,
    dns: Ipv4Addr,
    address: Ipv4Addr,
    interface: String,
}

impl Skeleton {
    /// The rules for a member's place in the overlay.
    pub fn new(network: &Network, interface: &str) -> Self {
        Self {
            cluster: network.cluster_cidr,
            services: network.service_cidr,
            dns: network.dns_address,
            address: network.address,
            interface: interface.to_owned(),
        }
    }

    /// The table's comment: tables with the same comment have the same rules.
    pub(super) fn comment(&self) -> String {
        let Self { cluster, services, dns, address, interface } = self;
        format!("warren-netd {VERSION} {cluster} {services} {dns} {address} {interface}")
    }

    /// How many rules each chain has.
    pub(super) fn rule_counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for rule in self.rules() {
            *counts.entry(rule.0.to_owned()).or_default() += 1;
        }
        counts
    }

    /// Adds the whole table to a transaction.
    pub(super) fn build(&self, transaction: Transaction) -> nlink::Result<Transaction> {
        let mut transaction =
            transaction.add_table_with_comment(TABLE, Family::Ip, 0, Some(self.comment()).as_deref());
        let bases = [
            ("prerouting", BaseChain::nat(NatHook::Prerouting, Priority::DstNat)),
            ("output", BaseChain::nat(NatHook::Output, Priority::DstNat)),
            ("postrouting", BaseChain::nat(NatHook::Postrouting, Priority::SrcNat)),
            ("forward", BaseChain::filter(FilterHook::Forward, Priority::Filter)),
            ("local", BaseChain::filter(FilterHook::Output, Priority::Filter)),
        ];
        for (name, base) in bases {
            transaction = transaction.add_chain(Chain::new(TABLE, name)?.family(Family::Ip).base(base));
        }
        for spread in Spread::all() {
            transaction = transaction.add_chain(Chain::new(TABLE, spread.chain())?.family(Family::Ip));
        }
        for set in [counts(), slots(), hairpin()] {
            transaction = transaction.add_set(set);
        }
        Ok(self.rules().into_iter().fold(transaction, |transaction, (_, rule)| transaction.add_rule(rule)))
    }

    fn rules(&self) -> Vec<(String, Rule)> {
        let mut rules = Vec::new();
        let mut add = |chain: &str, rule: fn(Rule, &Self) -> Rule| {
            rules.push((chain.to_owned(), rule(Rule::new(TABLE, chain).family(Family::Ip), self)));
        };
        for chain in ["prerouting", "output"] {
            add(chain, |rule, _| rule.expressions(count_lookup()));
        }
        // A pod that reaches itself by a service address would answer itself directly.
        add("postrouting", |rule, own| {
            rule.match_ct_status(CtStatus::DST_NAT)
                .match_concat_in_set(&[PacketField::Ip4Saddr, PacketField::Ip4Daddr], HAIRPIN)
                .snat(own.address, None)
        });
        // Other members accept only overlay addresses of ours.
        add("postrouting", |rule, own| {
            rule.match_oif(&own.interface)
                .match_saddr_v4_not(own.cluster.addr(), own.cluster.prefix_len())
                .snat(own.address, None)
        });
        // Pods leave the cluster with the node's address; inside it they keep their own.
        add("postrouting", |rule, own| {
            rule.match_saddr_v4(own.cluster.addr(), own.cluster.prefix_len())
                .match_daddr_v4_not(own.cluster.addr(), own.cluster.prefix_len())
                .match_daddr_v4_not(own.services.addr(), own.services.prefix_len())
                .match_oif_not(&own.interface)
                .masquerade()
        });
        for chain in ["forward", "local"] {
            add(chain, |rule, own| own.unanswered(rule).reject_tcp_reset());
            add(chain, |rule, own| own.unanswered(rule).reject_icmp(PORT_UNREACHABLE));
        }
        for spread in Spread::all() {
            let chain = spread.chain();
            let rule = Rule::new(TABLE, &chain).family(Family::Ip).expressions(slot_lookup(spread));
            rules.push((chain, rule));
        }
        rules
    }

    fn unanswered(&self, rule: Rule) -> Rule {
        rule.match_daddr_v4(self.services.addr(), self.services.prefix_len()).match_daddr_v4_not(self.dns, 32)
    }
}

const PORT_UNREACHABLE: u8 = 3;

/// `counts`: address . protocol . port → chain.
pub(super) fn counts() -> Set {
    let key = SetKeyType::Concat(vec![SetKeyType::Ipv4Addr, SetKeyType::InetProto, SetKeyType::InetService]);
    Set::new(TABLE, COUNTS).family(Family::Ip).key_type(key).vmap()
}

/// `slots`: address . protocol . port . slot → pod address . port.
pub(super) fn slots() -> Set {
    let key = SetKeyType::Concat(vec![
        SetKeyType::Ipv4Addr,
        SetKeyType::InetProto,
        SetKeyType::InetService,
        SetKeyType::Mark,
    ]);
    let value = SetKeyType::Concat(vec![SetKeyType::Ipv4Addr, SetKeyType::InetService]);
    Set::new(TABLE, SLOTS).family(Family::Ip).key_type(key).map(SetDataType::Value(value))
}

/// `hairpin`: pod address . the same.
pub(super) fn hairpin() -> Set {
    let key = SetKeyType::Concat(vec![SetKeyType::Ipv4Addr, SetKeyType::Ipv4Addr]);
    Set::new(TABLE, HAIRPIN).family(Family::Ip).key_type(key)
}

/// Loads destination address, protocol and port into consecutive words.
fn load_service() -> Vec<Expr> {
    vec![
        Expr::Payload { dreg: Register::R0, base: PayloadBase::Network, offset: DESTINATION, len: 4 },
        Expr::Meta { dreg: Register::Reg32_01, key: MetaKey::L4Proto },
        Expr::Payload { dreg: Register::Reg32_02, base: PayloadBase::Transport, offset: 2, len: 2 },
    ]
}

fn count_lookup() -> Vec<Expr> {
    let mut expressions = load_service();
    expressions.push(LookupExpr::new(COUNTS, Register::R0).dreg(Register::Verdict).into());
    expressions
}

fn slot_lookup(spread: Spread) -> Vec<Expr> {
    let mut expressions = load_service();
    let (dreg, offset) = (Register::Reg32_03, 0);
    match spread {
        Spread::Random(modulus) => {
            expressions.push(Expr::Numgen { dreg, kind: NumgenKind::Random, modulus, offset });
        }
        Spread::Client(modulus) => {
            let client = Register::R2;
            expressions.push(Expr::Payload {
                dreg: client,
                base: PayloadBase::Network,
                offset: SOURCE,
                len: 4,
            });
            let (kind, sreg) = (HashKind::Jenkins, Some(client));
            expressions.push(Expr::Hash { dreg, kind, sreg, len: 4, modulus, seed: None, offset });
        }
    }
    expressions.push(LookupExpr::new(SLOTS, Register::R0).dreg(Register::R0).into());
    expressions.push(translate());
    expressions
}

/// `dnat ip to` the address and port in the first two words. nlink has no constructor for the form that
/// takes its values from registers.
fn translate() -> Expr {
    const ATTRIBUTES: [(u16, u32); 4] = [
        (1, 1), // NFTA_NAT_TYPE: NFT_NAT_DNAT
        (2, 2), // NFTA_NAT_FAMILY: NFPROTO_IPV4
        (3, 1), // NFTA_NAT_REG_ADDR_MIN: NFT_REG_1, the first word
        (5, 9), // NFTA_NAT_REG_PROTO_MIN: NFT_REG32_01, the second
    ];
    let mut data = Vec::new();
    for (kind, value) in ATTRIBUTES {
        data.extend(8u16.to_ne_bytes());
        data.extend(kind.to_ne_bytes());
        data.extend(value.to_be_bytes());
    }
    Expr::Raw(RawExpr::new("nat", data))
}
