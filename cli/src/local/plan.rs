//! PURE: what `warren up` has to do, from what the cluster should be and what Docker has.

use std::collections::BTreeMap;

use super::containers::{Member, Role};

/// What Docker says about one of the cluster's containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ObservedContainer {
    pub(crate) state: RunState,
    /// The specification it was made from.
    pub(crate) fingerprint: Option<String>,
    /// Whether it has what it needs to take part (an identity; a controller needs none).
    pub(crate) joined: bool,
    /// Whether it belongs to the network that exists now; it cannot be moved to another.
    pub(crate) attached: bool,
    /// Whether the engine's proxy listens on the ports that it publishes. The engine's proxies do, and can die on their own.
    pub(crate) reachable: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunState {
    Running,
    Paused,
    Stopped,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Observed {
    pub(crate) network: bool,
    pub(crate) containers: BTreeMap<String, ObservedContainer>,
}

/// What to do with one container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Create,
    Start,
    Unpause,
    /// Stop it and start it: the engine publishes its ports anew.
    Restart,
    /// Remove the container, keep its state directory, create it anew.
    Recreate,
    /// The same for a member that never joined: it gets another token.
    Rejoin,
}

/// The steps, in the order of the fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) create_network: bool,
    pub(crate) controller: Option<(Member, Step)>,
    /// Steps that interrupt nobody: all at once.
    pub(crate) at_once: Vec<(Member, Step)>,
    /// Running members to be replaced: one after the other, the gateway first.
    pub(crate) one_by_one: Vec<Member>,
}

/// `desired` is every member with the fingerprint of its specification.
pub(crate) fn plan(desired: &[(Member, String)], observed: &Observed) -> Plan {
    let mut plan = Plan { create_network: !observed.network, ..Plan::default() };
    for (member, fingerprint) in desired {
        let seen = observed.containers.get(&member.name);
        let step = step(seen, fingerprint);
        let interrupts = step == Some(Step::Recreate)
            && seen.is_some_and(|seen| seen.state == RunState::Running && seen.attached);
        match (member.role, step) {
            (_, None) => {}
            (Role::Controller, Some(step)) => plan.controller = Some((member.clone(), step)),
            (_, Some(_)) if interrupts => plan.one_by_one.push(member.clone()),
            (_, Some(step)) => plan.at_once.push((member.clone(), step)),
        }
    }
    plan.one_by_one.sort();
    plan
}

fn step(seen: Option<&ObservedContainer>, fingerprint: &str) -> Option<Step> {
    let Some(seen) = seen else { return Some(Step::Create) };
    // A token is given at creation.
    if !seen.joined {
        return Some(Step::Rejoin);
    }
    if !seen.attached || seen.fingerprint.as_deref() != Some(fingerprint) {
        return Some(Step::Recreate);
    }
    match seen.state {
        RunState::Running => (!seen.reachable).then_some(Step::Restart),
        RunState::Paused => Some(Step::Unpause),
        RunState::Stopped => Some(Step::Start),
    }
}

impl Plan {
    /// Whether everything is as it should be.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desired() -> Vec<(Member, String)> {
        [(Role::Controller, "c"), (Role::Gateway, "g"), (Role::Node, "n1")]
            .map(|(role, name)| (Member { role, name: name.into() }, "new".to_owned()))
            .to_vec()
    }

    fn seen(state: RunState) -> ObservedContainer {
        ObservedContainer {
            state,
            fingerprint: Some("old".to_owned()),
            joined: true,
            attached: true,
            reachable: true,
        }
    }

    /// Every combination of what Docker may say about one container; without a network none is attached.
    fn observations(network: bool) -> Vec<Option<ObservedContainer>> {
        let mut all = vec![None];
        for state in [RunState::Running, RunState::Paused, RunState::Stopped] {
            for fingerprint in [None, Some("old".to_owned()), Some("new".to_owned())] {
                for (joined, attached) in [(false, false), (true, false), (false, network), (true, network)] {
                    // Only what runs can be found unreachable.
                    for reachable in [true, state != RunState::Running] {
                        let fingerprint = fingerprint.clone();
                        all.push(Some(ObservedContainer { state, fingerprint, joined, attached, reachable }));
                    }
                }
            }
        }
        all
    }

    /// Carries out the first `count` steps of a plan.
    fn apply(plan: &Plan, observed: &mut Observed, count: usize) {
        let members = plan.controller.iter().chain(&plan.at_once).cloned();
        let later = plan.one_by_one.iter().map(|member| (member.clone(), Step::Recreate));
        let mut budget = count;
        if plan.create_network && budget > 0 {
            observed.network = true;
            observed.containers.values_mut().for_each(|seen| seen.attached = false);
            budget -= 1;
        }
        for (member, step) in members.chain(later).take(budget) {
            let new = ObservedContainer { fingerprint: Some("new".to_owned()), ..seen(RunState::Running) };
            let seen = observed.containers.entry(member.name).or_insert_with(|| new.clone());
            match step {
                Step::Create | Step::Recreate | Step::Rejoin => *seen = new,
                Step::Restart => seen.reachable = true,
                Step::Start | Step::Unpause => {
                    assert!(seen.attached, "a container whose network is gone cannot start");
                    seen.state = RunState::Running;
                }
            }
        }
    }

    #[test]
    fn it_converges_from_every_state_also_when_interrupted_and_then_rests() {
        for network in [false, true] {
            for controller in observations(network) {
                for node in observations(network) {
                    for interrupted_after in 0..5 {
                        let mut observed = Observed { network, containers: BTreeMap::new() };
                        observed.containers.extend(controller.clone().map(|seen| ("c".to_owned(), seen)));
                        observed.containers.extend(node.clone().map(|seen| ("n1".to_owned(), seen)));
                        apply(&plan(&desired(), &observed), &mut observed, interrupted_after);
                        apply(&plan(&desired(), &observed), &mut observed, usize::MAX);
                        let rest = plan(&desired(), &observed);
                        assert!(rest.is_empty(), "{controller:?} {node:?} {interrupted_after}: {rest:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_running_member_is_replaced_alone_and_a_stopped_one_at_once() {
        let observed = Observed {
            network: true,
            containers: BTreeMap::from([
                ("c".to_owned(), seen(RunState::Running)),
                ("g".to_owned(), seen(RunState::Running)),
                ("n1".to_owned(), seen(RunState::Stopped)),
            ]),
        };
        let plan = plan(&desired(), &observed);
        assert_eq!(plan.controller.unwrap().1, Step::Recreate);
        assert_eq!(plan.at_once, [(Member { role: Role::Node, name: "n1".into() }, Step::Recreate)]);
        assert_eq!(plan.one_by_one, [Member { role: Role::Gateway, name: "g".into() }]);
    }

    #[test]
    fn a_member_whose_published_ports_nobody_holds_is_started_anew() {
        let seen = ObservedContainer {
            fingerprint: Some("new".to_owned()),
            reachable: false,
            ..seen(RunState::Running)
        };
        let containers = ["c", "g"].map(|name| (name.to_owned(), seen.clone()));
        let observed = Observed { network: true, containers: BTreeMap::from(containers) };
        let plan = plan(&desired()[..2], &observed);
        assert_eq!(plan.controller.unwrap().1, Step::Restart);
        assert_eq!(plan.at_once, [(Member { role: Role::Gateway, name: "g".into() }, Step::Restart)]);
    }

    #[test]
    fn what_runs_as_it_should_is_left_alone() {
        let seen = ObservedContainer { fingerprint: Some("new".to_owned()), ..seen(RunState::Running) };
        let containers = ["c", "g", "n1"].map(|name| (name.to_owned(), seen.clone()));
        let observed = Observed { network: true, containers: BTreeMap::from(containers) };
        assert!(plan(&desired(), &observed).is_empty());
    }
}
