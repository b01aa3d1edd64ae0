//! A daemon set as it is, node by node.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::DaemonSetSpec,
        core::v1::{Node, PodSpec},
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use warren_state::Key;

use super::fit::{self, Fit};
use crate::{
    history::{History, REVISION_LABEL, Revision},
    object,
    outcome::Outcome,
    schedule,
    sets::{self, Owner, share},
    view::{PodView, Typed, View},
};
use warren_vocabulary::resources::NODES;

/// How pods of another template are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strategy {
    /// By somebody who deletes them.
    OnDelete,
    /// Deleted first, while so many nodes at most are without an available pod.
    Unavailable(i64),
    /// The new one first, on so many nodes at a time.
    Surge(i64),
}

/// A node, and the set's pods on it or for it.
pub(super) struct Candidate<'a> {
    pub(super) name: &'a str,
    pub(super) fit: Fit,
    /// The oldest first.
    pub(super) pods: Vec<PodView<'a>>,
}

impl<'a> Candidate<'a> {
    /// Pods that live on.
    pub(super) fn active(&self) -> impl Iterator<Item = &PodView<'a>> {
        self.pods.iter().filter(|pod| pod.active())
    }
}

/// The set in one pass.
pub(super) struct Draft<'d, 'a> {
    pub(super) view: &'d View<'a>,
    pub(super) owner: &'d Owner<'a>,
    pub(super) template: PodSpec,
    pub(super) strategy: Strategy,
    min_ready_seconds: i32,
    history: &'d History<'a>,
    /// What new pods are of.
    pub(super) present: &'d Revision<'a>,
    /// All nodes, by name.
    pub(super) candidates: Vec<Candidate<'a>>,
    /// Pods that were made for a node that is not there.
    pub(super) lost: Vec<PodView<'a>>,
}

impl<'d, 'a> Draft<'d, 'a> {
    pub(super) fn new(
        view: &'d View<'a>,
        owner: &'d Owner<'a>,
        spec: &DaemonSetSpec,
        history: &'d History<'a>,
    ) -> Option<Self> {
        let template = spec.template.spec.clone().unwrap_or_default();
        let mut pods = BTreeMap::<String, Vec<PodView<'a>>>::new();
        for pod in view.pods_of(object::uid(owner.object)) {
            if let Some(node) = target(&pod) {
                pods.entry(node).or_default().push(pod);
            }
        }
        let tolerations = fit::tolerations(&template);
        let mut candidates = Vec::new();
        for candidate in view.indexes.node_infos.values() {
            let Some(object) = &candidate.node else { continue };
            let Ok(node) = Typed::<Node>::of(object) else { continue };
            let mut pods = pods.remove(node.name()).unwrap_or_default();
            pods.sort_by_key(|pod| {
                (pod.node().is_none(), object::created_at(pod.object), pod.object.key.clone())
            });
            let fit = fit::judge(&template, &tolerations, &node);
            candidates.push(Candidate { name: &object.key.name, fit, pods });
        }
        let desired = candidates.iter().filter(|candidate| candidate.fit.runs).count();
        Some(Self {
            view,
            owner,
            strategy: strategy(spec, i64::try_from(desired).unwrap_or(i64::MAX)),
            template,
            min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
            history,
            present: history.present()?,
            candidates,
            lost: lost(view, pods),
        })
    }

    /// Whether a pod is of the present template.
    pub(super) fn is_updated(&self, pod: &PodView<'_>) -> bool {
        let hash = pod.labels().get(REVISION_LABEL).map_or("", String::as_str);
        !hash.is_empty() && self.history.equals().any(|revision| revision.hash(REVISION_LABEL) == hash)
    }

    pub(super) fn is_available(&self, pod: &PodView<'_>, outcome: &mut Outcome<'_>) -> bool {
        !pod.terminal() && sets::is_available(pod, self.min_ready_seconds, self.view.now, outcome)
    }

    /// Whether there are pods of a revision.
    pub(super) fn lives(&self, revision: &Revision<'_>) -> bool {
        let pods = self.candidates.iter().flat_map(|candidate| &candidate.pods).chain(&self.lost);
        let mut hashes = pods.filter_map(|pod| pod.labels().get(REVISION_LABEL));
        hashes.any(|hash| hash == revision.hash(REVISION_LABEL))
    }
}

/// Pods without a node that were made for one that does not exist, not even set aside.
fn lost<'a>(view: &View<'_>, pods: BTreeMap<String, Vec<PodView<'a>>>) -> Vec<PodView<'a>> {
    let gone = pods.into_iter().filter(|(node, _)| !view.world.exists(&Key::new(NODES, "", node)));
    gone.flat_map(|(_, pods)| pods).filter(|pod| pod.node().is_none()).collect()
}

/// The node that a pod is on, or is for.
fn target(pod: &PodView<'_>) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    pod.node().map(str::to_owned).or_else(|| schedule::pinned(spec).map(str::to_owned))
}

fn strategy(spec: &DaemonSetSpec, desired: i64) -> Strategy {
    let strategy = spec.update_strategy.as_ref();
    if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete") {
        return Strategy::OnDelete;
    }
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let part = |value: Option<&IntOrString>, otherwise: i64| {
        value.map_or(otherwise, |value| share(value, desired, true))
    };
    let surge = part(rolling.and_then(|rolling| rolling.max_surge.as_ref()), 0);
    if surge > 0 {
        return Strategy::Surge(surge);
    }
    // Neither more nor fewer would never move.
    Strategy::Unavailable(part(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), 1).max(1))
}
