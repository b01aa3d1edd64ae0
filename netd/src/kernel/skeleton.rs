//! The constant ruleset: one table whose rules never change, only the elements of its maps and sets.
//!
//! ```text
//!  entrance             overlay and service addresses come in by the tunnel, pods' links and loopback alone
//!  prerouting, output   address . protocol . port ── counts ──► chain nN or hNsT
//!  nN                   … . slot drawn of N ──────── slots ───► translated to the pod
//!  hNsT                 … . client ──────────────── clients ─► the same pod again, for T seconds more;
//!                       else drawn as in nN, and remembered
//!  postrouting          pod to itself by a service, or leaving the cluster: another source
//!  forward, local       what still goes to a service address has no endpoint: refused at once
//! ```
//!
//! Chains hNsT come and go with the services that ask for them; everything else is there always.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use ipnet::Ipv4Net;
use nlink::netlink::nftables::{
    BaseChain, Chain, CtStatus, DynsetExpr, DynsetOp, Expr, Family, FibFlags, FilterHook, HashKind,
    LookupExpr, MetaKey, NatHook, NumgenKind, PacketField, PayloadBase, Priority, RawExpr, Register, Rule,
    Set, SetDataType, SetKeyType, Transaction,
};

use crate::{
    plan::{attachments::PREFIX, services::Spread},
    world::Network,
};

/// The table's name.
pub(super) const TABLE: &str = "warren";
/// The layout's version: a table of another one is replaced.
const VERSION: u32 = 2;

const COUNTS: &str = "counts";
const SLOTS: &str = "slots";
const HAIRPIN: &str = "hairpin";
const CLIENTS: &str = "clients";
/// Clients that are remembered at most; further ones are spread by their address. About 10 MiB of the kernel's.
const MOST_CLIENTS: u32 = 65_536;
/// The rules of a chain for clients that keep their pods.
pub(super) const CLIENT_RULES: usize = 3;
/// Clients that cannot be remembered are spread alike on every member, and after every repair.
const SEED: u32 = 0x5761_7272;

const SOURCE: u32 = 12;
const DESTINATION: u32 = 16;

/// What the rules depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skeleton {
    pub(super) cluster: Ipv4Net,
    pub(super) services: Ipv4Net,
    dns: Ipv4Addr,
    address: Ipv4Addr,
    pub(super) interface: String,
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

    /// How many rules each constant chain has.
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
            ("entrance", BaseChain::filter(FilterHook::Prerouting, Priority::Raw)),
            ("prerouting", BaseChain::nat(NatHook::Prerouting, Priority::DstNat)),
            ("output", BaseChain::nat(NatHook::Output, Priority::DstNat)),
            ("postrouting", BaseChain::nat(NatHook::Postrouting, Priority::SrcNat)),
            ("forward", BaseChain::filter(FilterHook::Forward, Priority::Filter)),
            ("local", BaseChain::filter(FilterHook::Output, Priority::Filter)),
        ];
        for (name, base) in bases {
            transaction = transaction.add_chain(Chain::new(TABLE, name)?.family(Family::Ip).base(base));
        }
        for spread in Spread::constant() {
            transaction = transaction.add_chain(Chain::new(TABLE, spread.chain())?.family(Family::Ip));
        }
        for set in [counts(), slots(), hairpin(), clients()] {
            transaction = transaction.add_set(set);
        }
        Ok(self.rules().into_iter().fold(transaction, |transaction, (_, rule)| transaction.add_rule(rule)))
    }

    fn rules(&self) -> Vec<(String, Rule)> {
        let mut rules = Vec::new();
        let mut add = |chain: &str, rule: fn(Rule, &Self) -> Rule| {
            rules.push((chain.to_owned(), rule(Rule::new(TABLE, chain).family(Family::Ip), self)));
        };
        self.entrance(&mut add);
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
        for spread in Spread::constant() {
            let chain = spread.chain();
            let rule = Rule::new(TABLE, &chain).family(Family::Ip).expressions(at_random(spread.slots()));
            rules.push((chain, rule));
        }
        rules
    }

    /// Before connection tracking, and whatever other tables say: an accept of theirs cannot overrule a drop.
    /// What this machine itself sends does not come by here, and what it sends to itself comes by loopback.
    fn entrance(&self, add: &mut impl FnMut(&str, fn(Rule, &Self) -> Rule)) {
        const CHAIN: &str = "entrance";
        add(CHAIN, |rule, _| rule.match_iif("lo").accept());
        // WireGuard gives out what its peer may send, and nothing else.
        add(CHAIN, |rule, own| rule.match_iif(&own.interface).accept());
        // A pod sends from its own address: the way back leads to the link it came by. The link's rp_filter says
        // the same, unless the machine's own setting is looser.
        add(CHAIN, |rule, _| {
            rule.match_iif_prefix(PREFIX).match_fib_missing(FibFlags::SADDR | FibFlags::IIF).counter().drop()
        });
        add(CHAIN, |rule, _| rule.match_iif_prefix(PREFIX).accept());
        add(CHAIN, |rule, own| {
            rule.match_daddr_v4(own.cluster.addr(), own.cluster.prefix_len()).counter().drop()
        });
        add(CHAIN, |rule, own| {
            rule.match_daddr_v4(own.services.addr(), own.services.prefix_len()).counter().drop()
        });
        add(CHAIN, |rule, own| {
            rule.match_saddr_v4(own.cluster.addr(), own.cluster.prefix_len()).counter().drop()
        });
        add(CHAIN, |rule, own| {
            rule.match_saddr_v4(own.services.addr(), own.services.prefix_len()).counter().drop()
        });
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

/// `clients`: address . protocol . port . client → pod address . port. The kernel fills it.
pub(super) fn clients() -> Set {
    let key = SetKeyType::Concat(vec![
        SetKeyType::Ipv4Addr,
        SetKeyType::InetProto,
        SetKeyType::InetService,
        SetKeyType::Ipv4Addr,
    ]);
    let value = SetKeyType::Concat(vec![SetKeyType::Ipv4Addr, SetKeyType::InetService]);
    Set::new(TABLE, CLIENTS)
        .family(Family::Ip)
        .key_type(key)
        .map(SetDataType::Value(value))
        .dynamic()
        .per_element_timeouts()
        .size(MOST_CLIENTS)
}

/// Adds a chain for clients that keep their pods for `seconds`.
pub(super) fn add_client_chain(
    transaction: Transaction,
    spread: Spread,
    seconds: u32,
) -> nlink::Result<Transaction> {
    let chain = spread.chain();
    let transaction = transaction.add_chain(Chain::new(TABLE, &*chain)?.family(Family::Ip));
    let rules = [known_client(seconds), new_client(spread.slots(), seconds), by_address(spread.slots())];
    Ok(rules.into_iter().fold(transaction, |transaction, expressions| {
        transaction.add_rule(Rule::new(TABLE, &chain).family(Family::Ip).expressions(expressions))
    }))
}

/// The fourth word: what is looked up besides the service.
const FOURTH: Register = Register::Reg32_03;
/// The words that hold what was found: a pod's address and port.
const FOUND: (Register, Register) = (Register::R1, Register::Reg32_05);

/// Loads destination address, protocol and port into consecutive words.
fn load_service() -> Vec<Expr> {
    vec![
        Expr::Payload { dreg: Register::R0, base: PayloadBase::Network, offset: DESTINATION, len: 4 },
        Expr::Meta { dreg: Register::Reg32_01, key: MetaKey::L4Proto },
        Expr::Payload { dreg: Register::Reg32_02, base: PayloadBase::Transport, offset: 2, len: 2 },
    ]
}

fn load_client(dreg: Register) -> Expr {
    Expr::Payload { dreg, base: PayloadBase::Network, offset: SOURCE, len: 4 }
}

fn count_lookup() -> Vec<Expr> {
    let mut expressions = load_service();
    expressions.push(LookupExpr::new(COUNTS, Register::R0).dreg(Register::Verdict).into());
    expressions
}

fn draw(modulus: u32) -> Expr {
    Expr::Numgen { dreg: FOURTH, kind: NumgenKind::Random, modulus, offset: 0 }
}

/// Finds the pod of what was loaded; a miss ends the rule.
fn find(map: &str) -> Expr {
    LookupExpr::new(map, Register::R0).dreg(FOUND.0).into()
}

/// Remembers the client, or for so long again; where there is no place, the rule ends.
fn remember(seconds: u32) -> Expr {
    let timeout = Duration::from_secs(u64::from(seconds));
    DynsetExpr::new(DynsetOp::Update, CLIENTS, Register::R0).sreg_data(FOUND.0).timeout(timeout).into()
}

fn at_random(slots: u32) -> Vec<Expr> {
    let mut expressions = load_service();
    expressions.extend([draw(slots), find(SLOTS), translate()]);
    expressions
}

fn known_client(seconds: u32) -> Vec<Expr> {
    let mut expressions = load_service();
    expressions.extend([load_client(FOURTH), find(CLIENTS), remember(seconds), translate()]);
    expressions
}

fn new_client(slots: u32, seconds: u32) -> Vec<Expr> {
    let mut expressions = load_service();
    // The slot's place is the client's once the pod is found.
    expressions.extend([draw(slots), find(SLOTS), load_client(FOURTH), remember(seconds), translate()]);
    expressions
}

/// When no further client can be remembered.
fn by_address(modulus: u32) -> Vec<Expr> {
    let client = Register::R2;
    let (kind, sreg, seed) = (HashKind::Jenkins, Some(client), Some(SEED));
    let mut expressions = load_service();
    let hash = Expr::Hash { dreg: FOURTH, kind, sreg, len: 4, modulus, seed, offset: 0 };
    expressions.extend([load_client(client), hash, find(SLOTS), translate()]);
    expressions
}

/// `dnat ip to` the address and port that were found. nlink has no constructor for the form that takes its
/// values from registers.
fn translate() -> Expr {
    let attributes: [(u16, u32); 4] = [
        (1, 1),              // NFTA_NAT_TYPE: NFT_NAT_DNAT
        (2, 2),              // NFTA_NAT_FAMILY: NFPROTO_IPV4
        (3, FOUND.0.wire()), // NFTA_NAT_REG_ADDR_MIN
        (5, FOUND.1.wire()), // NFTA_NAT_REG_PROTO_MIN
    ];
    let mut data = Vec::new();
    for (kind, value) in attributes {
        data.extend(8u16.to_ne_bytes());
        data.extend(kind.to_ne_bytes());
        data.extend(value.to_be_bytes());
    }
    Expr::Raw(RawExpr::new("nat", data))
}
