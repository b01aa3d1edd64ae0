//! Other people's firewalls: where an accept of ours is needed, so that pods are forwarded, and where one of
//! ours has no business any more.
//!
//! A packet is forwarded only when every base chain lets it pass; an accept in our own table cannot overrule a
//! chain that drops, as Docker's `FORWARD` does. So the accepts go where the drop is: into `DOCKER-USER`, which
//! Docker leaves to others, when the dropping chain asks it; else into the dropping chain itself. They come
//! before anything that ends the chain. Nothing of another program is changed or removed.

use std::{collections::BTreeSet, fmt};

use super::attachments::PREFIX;

/// The chain that Docker keeps for others.
pub const DOCKER_USER: &str = "DOCKER-USER";
/// What the comments of our rules begin with.
pub const MARK: &str = "warren: ";

/// A chain, by family, table and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChainId {
    /// The family as nft writes it: `ip` or `inet`.
    pub family: &'static str,
    /// The table.
    pub table: String,
    /// The chain.
    pub chain: String,
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.family, self.table, self.chain)
    }
}

/// What a rule does with every packet that comes to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Lets it pass.
    Accept,
    /// Drops or rejects it.
    Refuse,
    /// Ends this chain.
    Return,
    /// Asks another chain.
    Jump(String),
}

/// A rule of anyone's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The kernel's name for it.
    pub handle: u64,
    /// Its comment.
    pub comment: Option<String>,
    /// Its verdict; `None` for a rule that looks at the packet first.
    pub always: Option<Verdict>,
}

impl Rule {
    fn is_ours(&self) -> bool {
        self.comment.as_deref().is_some_and(|comment| comment.starts_with(MARK))
    }

    fn ends_the_chain(&self) -> bool {
        matches!(self.always, Some(Verdict::Accept | Verdict::Refuse | Verdict::Return))
    }
}

/// A chain of another program, with its rules in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Where it is.
    pub chain_id: ChainId,
    /// The policy of a base chain at the hook that is looked at: whether it drops. `None` for every other chain.
    pub base_drops: Option<bool>,
    /// Its rules.
    pub rules: Vec<Rule>,
}

impl Chain {
    /// Whether a packet that no rule knows is refused here.
    fn refuses(&self) -> bool {
        let Some(drops) = self.base_drops else { return false };
        let end = self.rules.iter().find(|rule| rule.ends_the_chain()).and_then(|rule| rule.always.as_ref());
        match end {
            Some(Verdict::Accept) => false,
            Some(Verdict::Refuse) => true,
            _ => drops,
        }
    }

    /// The rules that are come to before one that ends the chain.
    fn reached(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().take_while(|rule| !rule.ends_the_chain())
    }

    fn asks(&self, chain: &str) -> bool {
        self.reached().any(|rule| rule.always.as_ref() == Some(&Verdict::Jump(chain.to_owned())))
    }
}

/// One of our rules.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Accept {
    /// Whether it looks at the link a packet comes in by, or at the one it leaves by.
    pub incoming: bool,
    /// The link's name, or what it begins with.
    pub link: Link,
}

/// Links by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Link {
    /// This one.
    Exactly(String),
    /// All whose names begin so.
    Prefix(String),
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(name) => f.write_str(name),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

impl Accept {
    /// The comment by which the rule is recognised.
    pub fn comment(&self) -> String {
        format!("{MARK}{} {}", if self.incoming { "from" } else { "to" }, self.link)
    }
}

/// What is accepted: all that comes from, or goes to, pods and the tunnel.
pub fn accepts(tunnel: &str) -> BTreeSet<Accept> {
    let links = [Link::Prefix(PREFIX.to_owned()), Link::Exactly(tunnel.to_owned())];
    let both = |link: Link| [true, false].map(|incoming| Accept { incoming, link: link.clone() });
    links.into_iter().flat_map(both).collect()
}

/// One step; those of one chain belong into one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Puts a rule of ours before all others.
    Insert {
        /// Into this chain.
        chain_id: ChainId,
        /// The rule.
        accept: Accept,
    },
    /// Removes a rule of ours.
    Delete {
        /// From this chain.
        chain_id: ChainId,
        /// The rule.
        handle: u64,
    },
}

impl Change {
    /// The chain it changes.
    pub fn chain_id(&self) -> &ChainId {
        match self {
            Self::Insert { chain_id, .. } | Self::Delete { chain_id, .. } => chain_id,
        }
    }
}

/// Where our rules must be: once for every base chain that refuses.
pub fn chain_ids(chains: &[Chain]) -> BTreeSet<ChainId> {
    chains.iter().filter(|chain| chain.refuses()).map(|chain| chain_id_for(chain, chains)).collect()
}

fn chain_id_for(base: &Chain, chains: &[Chain]) -> ChainId {
    let docker_user = ChainId { chain: DOCKER_USER.to_owned(), ..base.chain_id.clone() };
    let is_there = chains.iter().any(|chain| chain.chain_id == docker_user);
    if is_there && base.asks(DOCKER_USER) { docker_user } else { base.chain_id.clone() }
}

/// What must change so that each of our rules is where it must be, once, and nowhere else.
pub fn plan(chains: &[Chain], tunnel: &str) -> Vec<Change> {
    let (chain_ids, wanted) = (chain_ids(chains), accepts(tunnel));
    let mut changes = Vec::new();
    for chain in chains {
        let chain_id = || chain.chain_id.clone();
        let mut missing: BTreeSet<&Accept> =
            if chain_ids.contains(&chain.chain_id) { wanted.iter().collect() } else { BTreeSet::new() };
        let reached = chain.reached().count();
        for (index, rule) in chain.rules.iter().enumerate().filter(|(_, rule)| rule.is_ours()) {
            let comment = rule.comment.as_deref().unwrap_or_default();
            let serves = missing.iter().find(|accept| accept.comment() == comment).copied();
            match serves.filter(|_| index < reached) {
                Some(accept) => _ = missing.remove(accept),
                None => changes.push(Change::Delete { chain_id: chain_id(), handle: rule.handle }),
            }
        }
        changes.extend(
            missing.into_iter().map(|accept| Change::Insert { chain_id: chain_id(), accept: accept.clone() }),
        );
    }
    changes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TUNNEL: &str = "warren0";

    fn chain_id(chain: &str) -> ChainId {
        ChainId { family: "ip", table: "filter".into(), chain: chain.into() }
    }

    fn rule(handle: u64, always: Option<Verdict>) -> Rule {
        Rule { handle, comment: None, always }
    }

    fn jump(handle: u64, chain: &str) -> Rule {
        rule(handle, Some(Verdict::Jump(chain.into())))
    }

    fn chain(name: &str, base_drops: Option<bool>, rules: Vec<Rule>) -> Chain {
        Chain { chain_id: chain_id(name), base_drops, rules }
    }

    fn docker() -> Vec<Chain> {
        vec![
            chain(
                "FORWARD",
                Some(true),
                vec![jump(1, DOCKER_USER), jump(2, "DOCKER-ISOLATION-STAGE-1"), rule(3, None)],
            ),
            chain("DOCKER-USER", None, vec![rule(4, Some(Verdict::Return))]),
            chain("DOCKER", None, vec![]),
        ]
    }

    /// What the kernel would do.
    fn apply(chains: &mut [Chain], changes: &[Change]) {
        let mut next = 1000;
        for change in changes {
            let rules = &mut chains
                .iter_mut()
                .find(|chain| chain.chain_id == *change.chain_id())
                .expect("it exists")
                .rules;
            match change {
                Change::Delete { handle, .. } => {
                    let at = rules.iter().position(|rule| rule.handle == *handle).expect("it exists");
                    assert!(rules.remove(at).is_ours(), "somebody else's rule was removed");
                }
                Change::Insert { accept, .. } => {
                    next += 1;
                    rules.insert(0, Rule { handle: next, comment: Some(accept.comment()), always: None });
                }
            }
        }
    }

    #[test]
    fn dockers_drop_is_met_in_the_chain_docker_leaves_to_others() {
        let mut chains = docker();
        assert_eq!(chain_ids(&chains), BTreeSet::from([chain_id(DOCKER_USER)]));
        let changes = plan(&chains, TUNNEL);
        assert_eq!(changes.len(), 4);
        apply(&mut chains, &changes);
        assert!(plan(&chains, TUNNEL).is_empty());
        let comments: BTreeSet<_> =
            chains[1].rules.iter().filter_map(|rule| rule.comment.as_deref()).collect();
        assert_eq!(
            comments,
            BTreeSet::from([
                "warren: from wrn*",
                "warren: to wrn*",
                "warren: from warren0",
                "warren: to warren0"
            ])
        );
        assert_eq!(chains[1].rules.last().map(|rule| rule.handle), Some(4), "Docker's RETURN stays");
    }

    #[test]
    fn a_chain_that_is_not_asked_is_of_no_use() {
        let mut chains = docker();
        chains[0].rules.remove(0);
        assert_eq!(chain_ids(&chains), BTreeSet::from([chain_id("FORWARD")]));
        // After the jump is back, the rules move.
        let changes = plan(&chains, TUNNEL);
        apply(&mut chains, &changes);
        chains[0].rules.insert(0, jump(9, DOCKER_USER));
        let changes = plan(&chains, TUNNEL);
        apply(&mut chains, &changes);
        assert!(chains[0].rules.iter().all(|rule| !rule.is_ours()));
        assert_eq!(chains[1].rules.iter().filter(|rule| rule.is_ours()).count(), 4);
    }

    #[test]
    fn chains_that_let_pass_are_left_alone_and_cleared_of_ours() {
        let mut chains = docker();
        let changes = plan(&chains, TUNNEL);
        apply(&mut chains, &changes);
        chains[0].base_drops = Some(false);
        let changes = plan(&chains, TUNNEL);
        assert!(changes.iter().all(|change| matches!(change, Change::Delete { .. })) && changes.len() == 4);
        apply(&mut chains, &changes);
        assert_eq!(chains[1].rules, docker()[1].rules);
    }

    #[test]
    fn a_last_rule_decides_before_the_policy() {
        let refused = |policy, last| {
            !chain_ids(&[chain("FORWARD", Some(policy), vec![rule(1, None), rule(2, last)])]).is_empty()
        };
        assert!(refused(false, Some(Verdict::Refuse)), "firewalld's way");
        assert!(refused(true, None) && refused(true, Some(Verdict::Return)));
        assert!(!refused(true, Some(Verdict::Accept)) && !refused(false, None));
    }

    #[test]
    fn rules_of_ours_that_are_never_come_to_are_moved_and_doubles_removed() {
        let mut chains = docker();
        let changes = plan(&chains, TUNNEL);
        apply(&mut chains, &changes);
        let double = Rule { handle: 77, ..chains[1].rules[0].clone() };
        chains[1].rules.insert(0, double);
        let first = chains[1].rules.remove(1);
        chains[1].rules.push(first);
        let changes = plan(&chains, TUNNEL);
        assert_eq!(changes.len(), 1, "the one after RETURN goes: {changes:?}");
        apply(&mut chains, &changes);
        assert!(plan(&chains, TUNNEL).is_empty());
    }

    fn any_rule() -> impl Strategy<Value = Rule> {
        let ours: Vec<String> =
            accepts(TUNNEL).iter().map(Accept::comment).chain([format!("{MARK}from wg-old")]).collect();
        let comment = prop_oneof![
            Just(None),
            Just(Some("theirs".to_owned())),
            proptest::sample::select(ours).prop_map(Some)
        ];
        let always = prop_oneof![
            4 => Just(None),
            1 => Just(Some(Verdict::Accept)),
            1 => Just(Some(Verdict::Refuse)),
            1 => Just(Some(Verdict::Return)),
            1 => Just(Some(Verdict::Jump(DOCKER_USER.into()))),
        ];
        (comment, always).prop_map(|(comment, always)| {
            // Ours look at the link first.
            let ours = comment.as_deref().is_some_and(|comment| comment.starts_with(MARK));
            Rule { handle: 0, comment, always: if ours { None } else { always } }
        })
    }

    fn any_chains() -> impl Strategy<Value = Vec<Chain>> {
        let rules = || proptest::collection::vec(any_rule(), 0..8);
        (any::<bool>(), rules(), proptest::option::of(rules()), rules()).prop_map(
            |(drops, forward, user, other)| {
                let mut chains = vec![chain("FORWARD", Some(drops), forward), chain("OTHER", None, other)];
                chains.extend(user.map(|rules| chain(DOCKER_USER, None, rules)));
                for (handle, rule) in chains.iter_mut().flat_map(|chain| &mut chain.rules).enumerate() {
                    rule.handle = handle as u64;
                }
                chains
            },
        )
    }

    proptest! {
        #[test]
        fn every_firewall_converges_and_keeps_what_is_not_ours(mut chains in any_chains()) {
            let theirs = |chains: &[Chain]| -> Vec<Vec<Rule>> {
                chains.iter().map(|chain| chain.rules.iter().filter(|rule| !rule.is_ours()).cloned().collect()).collect()
            };
            let before = theirs(&chains);
            let changes = plan(&chains, TUNNEL);
            apply(&mut chains, &changes);
            prop_assert_eq!(plan(&chains, TUNNEL), vec![]);
            prop_assert_eq!(theirs(&chains), before);
            for chain_id in chain_ids(&chains) {
                let target = chains.iter().find(|chain| chain.chain_id == chain_id).expect("it exists");
                prop_assert_eq!(target.reached().filter(|rule| rule.is_ours()).count(), 4);
            }
        }

        #[test]
        fn an_interrupted_change_is_completed(mut chains in any_chains(), steps in 0usize..12) {
            let changes = plan(&chains, TUNNEL);
            apply(&mut chains, &changes[..steps.min(changes.len())]);
            let rest = plan(&chains, TUNNEL);
            apply(&mut chains, &rest);
            prop_assert_eq!(plan(&chains, TUNNEL), vec![]);
        }
    }
}
