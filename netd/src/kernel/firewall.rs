//! Other people's firewalls, as nftables holds them: read, opened for pods, and watched. The watch sees our own
//! table, too: a program that loads a firewall anew by `flush ruleset` takes it away with everything else.
//!
//! iptables-nft's tables are nftables tables, so this is Docker's firewall too. The tables of the old
//! iptables are elsewhere in the kernel: see [`super::xtables`].

use std::{collections::BTreeMap, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _};
use nlink::netlink::{
    AttrIter, Connection, MessageBuilder, NLMSG_HDRLEN, Nftables, OwnedEventStream,
    nftables::{
        ChainInfo, ChainType, CmpOp, Expr, Family, MetaKey, NFT_MSG_NEWRULE, NFTA_DATA_VERDICT,
        NFTA_EXPR_DATA, NFTA_EXPR_NAME, NFTA_IMMEDIATE_DATA, NFTA_LIST_ELEM, NFTA_RULE_CHAIN,
        NFTA_RULE_TABLE, NFTA_RULE_USERDATA, NFTA_VERDICT_CHAIN, NFTA_VERDICT_CODE, NftablesEvent,
        NftablesGroup, Policy, RawMessage, Register, RuleInfo, Transaction, Verdict as NftVerdict,
        write_expressions,
    },
};

use super::{Error, Result, netfilter, skeleton::TABLE};
use crate::plan::firewall::{Accept, Chain, ChainId, Change, Link, Rule, Verdict};

/// `NF_INET_LOCAL_IN` and `NF_INET_FORWARD`.
const INPUT_HOOK: u32 = 1;
const FORWARD_HOOK: u32 = 2;
/// The verdicts of `linux/netfilter/nf_tables.h`.
const DROP: i32 = 0;
const ACCEPT: i32 = 1;
const JUMP: i32 = -3;
const GOTO: i32 = -4;
const RETURN: i32 = -5;
/// `NLM_F_CREATE`; without `NLM_F_APPEND` the rule comes before all others.
const CREATE: u16 = 0x400;
/// The longest a firewall may go on changing before it is looked at.
const SETTLE: Duration = Duration::from_millis(50);

/// A handle on all tables but ours.
pub struct Firewall {
    connection: Connection<Nftables>,
}

impl Firewall {
    /// Opens a socket in the calling thread's namespace.
    pub fn open() -> Result<Self> {
        Ok(Self { connection: connect()? })
    }

    /// The chains in which forwarding may be decided: all of every table with a base chain at that hook.
    pub async fn observe(&self) -> Result<Vec<Chain>> {
        self.observe_at(FORWARD_HOOK).await
    }

    /// The same for what comes in for this machine itself.
    pub async fn observe_input(&self) -> Result<Vec<Chain>> {
        self.observe_at(INPUT_HOOK).await
    }

    async fn observe_at(&self, hook: u32) -> Result<Vec<Chain>> {
        let all = netfilter(|| "list nftables chains".into(), self.connection.list_chains()).await?;
        let mut tables: BTreeMap<(&'static str, &str), Family> = BTreeMap::new();
        for chain in all.iter().filter(|chain| is_base(chain, hook)) {
            tables.insert((chain.family.name(), &chain.table), chain.family);
        }
        let mut chains = Vec::new();
        for ((_, table), family) in tables {
            let rules = self.connection.list_rules(table, family);
            // A table that goes while we look has no rules.
            let rules = match netfilter(|| format!("list the rules of {table}"), rules).await {
                Err(Error::Netfilter { source, .. }) if source.is_not_found() => continue,
                rules => rules?,
            };
            let of_table = all.iter().filter(|chain| chain.family == family && chain.table == *table);
            chains.extend(of_table.map(|chain| read_chain(chain, hook, &rules)));
        }
        Ok(chains)
    }

    /// Makes the changes of one chain, all or none.
    pub async fn apply(&self, chain_id: &ChainId, changes: &[Change]) -> Result<()> {
        let family = family_of(chain_id);
        let mut transaction = self.connection.transaction();
        for change in changes.iter().filter(|change| change.chain_id() == chain_id) {
            transaction = match change {
                Change::Delete { handle, .. } => {
                    transaction.del_rule(&chain_id.table, &chain_id.chain, family, *handle)
                }
                Change::Insert { accept, .. } => insert(transaction, chain_id, accept),
            };
        }
        metrics::counter!("warren_netd_nftables_transactions_total").increment(1);
        netfilter(|| format!("open the chain {chain_id} for pods"), transaction.commit(&self.connection))
            .await
    }
}

fn connect() -> Result<Connection<Nftables>> {
    Connection::<Nftables>::new()
        .map_err(|source| Error::Netfilter { what: "open an nftables socket".into(), source })
}

/// Whether it is a base chain of another program that decides at `hook`.
fn is_base(chain: &ChainInfo, hook: u32) -> bool {
    matches!(chain.family, Family::Ip | Family::Inet)
        && chain.table != TABLE
        && chain.chain_type == Some(ChainType::Filter)
        && chain.hook == Some(hook)
}

fn family_of(chain_id: &ChainId) -> Family {
    if chain_id.family == Family::Inet.name() { Family::Inet } else { Family::Ip }
}

fn read_chain(chain: &ChainInfo, hook: u32, rules: &[RuleInfo]) -> Chain {
    let chain_id =
        ChainId { family: chain.family.name(), table: chain.table.clone(), chain: chain.name.clone() };
    let base_drops = is_base(chain, hook).then(|| chain.policy == Some(Policy::Drop.to_u32()));
    let rules = rules.iter().filter(|rule| rule.chain == chain.name).map(|rule| Rule {
        handle: rule.handle,
        comment: rule.comment_text.clone(),
        always: read_always(&rule.expression_bytes),
    });
    Chain { chain_id, base_drops, rules: rules.collect() }
}

/// The verdict of a rule that looks at nothing; `None` for every other.
fn read_always(expressions: &[u8]) -> Option<Verdict> {
    let mut verdict = None;
    for (_, element) in AttrIter::new(expressions).filter(|(kind, _)| *kind == NFTA_LIST_ELEM) {
        let data = attribute(element, NFTA_EXPR_DATA).unwrap_or_default();
        match text(attribute(element, NFTA_EXPR_NAME)?) {
            "counter" | "log" => {}
            "reject" => verdict = Some(Verdict::Refuse),
            "target" if text(attribute(data, 1)?) == "REJECT" => verdict = Some(Verdict::Refuse),
            "immediate" => verdict = Some(read_verdict(data)?),
            _ => return None,
        }
    }
    verdict
}

fn read_verdict(immediate: &[u8]) -> Option<Verdict> {
    let verdict = attribute(attribute(immediate, NFTA_IMMEDIATE_DATA)?, NFTA_DATA_VERDICT)?;
    let code = i32::from_be_bytes(attribute(verdict, NFTA_VERDICT_CODE)?.try_into().ok()?);
    match code {
        ACCEPT => Some(Verdict::Accept),
        DROP => Some(Verdict::Refuse),
        RETURN => Some(Verdict::Return),
        JUMP | GOTO => Some(Verdict::Jump(text(attribute(verdict, NFTA_VERDICT_CHAIN)?).to_owned())),
        _ => None,
    }
}

fn attribute(attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    AttrIter::new(attributes).find(|(kind, _)| *kind == wanted).map(|(_, payload)| payload)
}

fn text(payload: &[u8]) -> &str {
    let end = payload.iter().position(|byte| *byte == 0).unwrap_or(payload.len());
    std::str::from_utf8(&payload[..end]).unwrap_or_default()
}

/// nlink inserts only after other rules; this is its message without the flag that says so.
fn insert(transaction: Transaction, chain_id: &ChainId, accept: &Accept) -> Transaction {
    let mut message = MessageBuilder::new(0, 0);
    message.append_attr_str(NFTA_RULE_TABLE, &chain_id.table);
    message.append_attr_str(NFTA_RULE_CHAIN, &chain_id.chain);
    write_expressions(&mut message, &expressions(accept));
    message.append_attr(NFTA_RULE_USERDATA, &userdata(&accept.comment()));
    let attributes = message.as_bytes()[NLMSG_HDRLEN..].to_vec();
    transaction.raw(RawMessage::new(NFT_MSG_NEWRULE, family_of(chain_id)).flags(CREATE).attrs(attributes))
}

/// In the form in which iptables-nft writes and reads them, so that `iptables -S` goes on working.
fn expressions(accept: &Accept) -> Vec<Expr> {
    let key = if accept.incoming { MetaKey::IifName } else { MetaKey::OifName };
    let data = match &accept.link {
        Link::Exactly(name) => name.bytes().chain([0]).collect(),
        Link::Prefix(prefix) => prefix.as_bytes().to_vec(),
    };
    vec![
        Expr::Meta { dreg: Register::R0, key },
        Expr::Cmp { sreg: Register::R0, op: CmpOp::Eq, data },
        Expr::Counter,
        Expr::Verdict(NftVerdict::Accept),
    ]
}

/// A comment as nft and iptables keep it: kind 0, length, text with its end.
fn userdata(comment: &str) -> Vec<u8> {
    let length = u8::try_from(comment.len() + 1).expect("a link's name has 15 characters");
    [0, length].into_iter().chain(comment.bytes()).chain([0]).collect()
}

/// Whose chains or rules were changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Touched {
    /// Those of others.
    pub theirs: bool,
    /// Those of our own table; its sets' elements, which we change ourselves all the time, are not looked at.
    pub ours: bool,
}

impl Touched {
    fn note(&mut self, event: &NftablesEvent) {
        match owner(event) {
            Some(TABLE) => self.ours = true,
            Some(_) => self.theirs = true,
            None => {}
        }
    }

    fn any(self) -> bool {
        self.theirs || self.ours
    }
}

/// Notices when a program changes a firewall.
pub struct Watch {
    events: OwnedEventStream<Nftables>,
}

impl Watch {
    /// Subscribes in the calling thread's namespace; whatever changes from here on is noticed.
    pub async fn open() -> Result<Self> {
        let connection = connect()?;
        connection
            .subscribe(&[NftablesGroup::All])
            .map_err(|source| Error::Netfilter { what: "watch nftables".into(), source })?;
        Ok(Self { events: connection.into_events().await })
    }

    /// Waits until a program changed chains or rules, and for the rest of that burst. An error means that something
    /// was missed.
    pub async fn changed(&mut self) -> Result<Touched> {
        let mut touched = Touched::default();
        while !touched.any() {
            match self.events.next().await {
                Some(Ok(event)) => touched.note(&event),
                Some(Err(source)) => {
                    return Err(Error::Netfilter { what: "watch nftables".into(), source });
                }
                None => return Err(Error::Refused("the kernel ended the watch on nftables".into())),
            }
        }
        tokio::time::sleep(SETTLE).await;
        while let Some(Some(next)) = self.events.next().now_or_never() {
            match next {
                Ok(event) => touched.note(&event),
                // Whatever was missed may have been anybody's.
                Err(_) => return Ok(Touched { theirs: true, ours: true }),
            }
        }
        Ok(touched)
    }
}

/// The table of the chain or rule that was changed; `None` for changes of other things.
fn owner(event: &NftablesEvent) -> Option<&str> {
    match event {
        NftablesEvent::NewTable(table) | NftablesEvent::DelTable(table) => Some(&table.name),
        NftablesEvent::NewChain(chain) | NftablesEvent::DelChain(chain) => Some(&chain.table),
        NftablesEvent::NewRule(rule) | NftablesEvent::DelRule(rule) => Some(&rule.table),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn always(expressions: &[Expr]) -> Option<Verdict> {
        let mut message = MessageBuilder::new(0, 0);
        write_expressions(&mut message, expressions);
        let list = attribute(&message.as_bytes()[NLMSG_HDRLEN..], 4).expect("the list").to_vec();
        read_always(&list)
    }

    #[test]
    fn only_rules_that_look_at_nothing_always_decide() {
        let jump = NftVerdict::JumpTo("DOCKER-USER".parse().expect("a name"));
        let verdict = |verdict| always(&[Expr::Counter, Expr::Verdict(verdict)]);
        assert_eq!(verdict(jump), Some(Verdict::Jump("DOCKER-USER".into())));
        assert_eq!(verdict(NftVerdict::Accept), Some(Verdict::Accept));
        assert_eq!(verdict(NftVerdict::Drop), Some(Verdict::Refuse));
        assert_eq!(verdict(NftVerdict::Return), Some(Verdict::Return));
        let ours = Accept { incoming: true, link: Link::Prefix("wrn".into()) };
        assert_eq!(always(&expressions(&ours)), None);
        assert_eq!(always(&[Expr::Counter]), None);
        assert_eq!(read_always(&[1, 2, 3]), None);
    }

    #[test]
    fn a_comment_is_written_as_libnftnl_does() {
        assert_eq!(userdata("ab"), [0, 3, b'a', b'b', 0]);
    }
}
