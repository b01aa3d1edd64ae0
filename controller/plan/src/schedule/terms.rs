//! What pods say about the pods that they want beside them, or not.
//!
//! Source: <https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#inter-pod-affinity-and-anti-affinity>.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::core::v1::{Namespace, PodAffinityTerm, PodSpec, WeightedPodAffinityTerm},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use warren_state::Key;
use warren_vocabulary::resources::{NAMESPACES, PODS};

use crate::{
    indexes::{By, pair},
    selector::{Chooser, Labels, Narrowest},
    view::{PodView, Typed, View},
};

/// How much a pod wants others near it, or far from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wish {
    MustBeNear,
    MustBeFar,
    LikesNear(i32),
    LikesFar(i32),
}

/// What a pod wants of some pods: to be in one domain with one of them, or in none. Nodes are in one domain if they have
/// the same value of a label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Term {
    pub(crate) wish: Wish,
    /// The label of nodes.
    pub(crate) topology: String,
    pub(crate) pods: Pods,
}

/// Pods of some namespaces with some labels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pods {
    pub(crate) namespaces: BTreeSet<String>,
    /// Namespaces by their labels, beside those by name.
    pub(crate) of: Option<Chooser>,
    pub(crate) labels: Chooser,
}

impl Term {
    /// Whether a pod wants anything of others.
    pub(crate) fn any(spec: &PodSpec) -> bool {
        let affinity = spec.affinity.as_ref();
        affinity
            .is_some_and(|affinity| affinity.pod_affinity.is_some() || affinity.pod_anti_affinity.is_some())
    }

    /// What a pod wants, in its order.
    pub(crate) fn all(pod: &PodView<'_>) -> Vec<Self> {
        let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
        let near = affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
        let far = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
        let required = |terms: Option<&Vec<PodAffinityTerm>>, wish: Wish| -> Vec<Self> {
            terms.into_iter().flatten().map(|term| Self::new(pod, term, wish)).collect()
        };
        let preferred = |terms: Option<&Vec<WeightedPodAffinityTerm>>, wish: fn(i32) -> Wish| -> Vec<Self> {
            let terms = terms.into_iter().flatten();
            terms.map(|term| Self::new(pod, &term.pod_affinity_term, wish(term.weight))).collect()
        };
        [
            near.map(|near| {
                required(near.required_during_scheduling_ignored_during_execution.as_ref(), Wish::MustBeNear)
            }),
            far.map(|far| {
                required(far.required_during_scheduling_ignored_during_execution.as_ref(), Wish::MustBeFar)
            }),
            near.map(|near| {
                preferred(near.preferred_during_scheduling_ignored_during_execution.as_ref(), Wish::LikesNear)
            }),
            far.map(|far| {
                preferred(far.preferred_during_scheduling_ignored_during_execution.as_ref(), Wish::LikesFar)
            }),
        ]
        .into_iter()
        .flatten()
        .flatten()
        .collect()
    }

    fn new(pod: &PodView<'_>, term: &PodAffinityTerm, wish: Wish) -> Self {
        let mut labels = Chooser::of(term.label_selector.as_ref());
        narrow(&mut labels, term.match_label_keys.as_deref(), pod.labels(), true);
        narrow(&mut labels, term.mismatch_label_keys.as_deref(), pod.labels(), false);
        let mut namespaces: BTreeSet<String> = term.namespaces.iter().flatten().cloned().collect();
        let of = term.namespace_selector.as_ref().map(|selector: &LabelSelector| Chooser::of(Some(selector)));
        if namespaces.is_empty() && of.is_none() {
            namespaces.insert(pod.namespace().to_owned());
        }
        Self { wish, topology: term.topology_key.clone(), pods: Pods { namespaces, of, labels } }
    }
}

/// Narrows a selector to pods that have the same values of some labels, or others.
pub(crate) fn narrow(chooser: &mut Chooser, keys: Option<&[String]>, labels: &Labels, same: bool) {
    for key in keys.unwrap_or_default() {
        if let Some(value) = labels.get(key) {
            chooser.narrow(key, value, same);
        }
    }
}

impl Pods {
    /// Pods of one namespace.
    pub(crate) fn within(namespace: &str, labels: Chooser) -> Self {
        Self { namespaces: BTreeSet::from([namespace.to_owned()]), of: None, labels }
    }

    /// Whether a pod is one of them.
    pub(crate) fn contains(&self, view: &View<'_>, pod: &PodView<'_>) -> bool {
        self.labels.matches(pod.labels()) && self.covers(view, pod.namespace())
    }

    fn covers(&self, view: &View<'_>, namespace: &str) -> bool {
        self.namespaces.contains(namespace)
            || self.of.as_ref().is_some_and(|of| {
                let key = Key::new(NAMESPACES, "", namespace);
                let namespace = view.typed::<Namespace>(&key);
                namespace.is_some_and(|namespace| of.matches(namespace_labels(&namespace)))
            })
    }

    /// Those that have a node and have not ended.
    pub(crate) fn placed<'a>(&self, view: &View<'a>) -> Vec<PodView<'a>> {
        let mut found = Vec::new();
        for namespace in self.all_namespaces(view) {
            self.placed_within(view, namespace, &mut found);
        }
        found
    }

    fn all_namespaces<'n>(&'n self, view: &View<'n>) -> BTreeSet<&'n str> {
        let mut all: BTreeSet<&str> = self.namespaces.iter().map(String::as_str).collect();
        if let Some(of) = &self.of {
            let namespaces = view.world.snapshot.list(NAMESPACES);
            for object in namespaces {
                if Typed::<Namespace>::of(object)
                    .is_ok_and(|namespace| of.matches(namespace_labels(&namespace)))
                {
                    all.insert(&object.key.name);
                }
            }
        }
        all
    }

    /// By the labels that they have, where there are such.
    fn placed_within<'a>(&self, view: &View<'a>, namespace: &str, found: &mut Vec<PodView<'a>>) {
        let mut look = |object: &'a std::sync::Arc<warren_state::Object>| {
            let pod = Typed::of(object).ok().filter(|pod: &PodView<'_>| {
                pod.node().is_some() && !pod.terminal() && self.labels.matches(pod.labels())
            });
            found.extend(pod);
        };
        match self.labels.narrowest() {
            Narrowest::Nowhere => {}
            Narrowest::Values(name, values) => {
                for value in values {
                    view.indexes.of(By::PodLabel, &pair(namespace, name, value)).for_each(&mut look);
                }
            }
            Narrowest::Name(name) => view.indexes.with_label(namespace, name).for_each(look),
            Narrowest::Anywhere => {
                let snapshot = &view.world.snapshot;
                let all = snapshot.list_namespace(PODS, namespace);
                all.filter_map(|object| snapshot.get(&object.key)).for_each(look);
            }
        }
    }
}

fn namespace_labels(namespace: &Namespace) -> &Labels {
    static NONE: Labels = Labels::new();
    namespace.metadata.labels.as_ref().unwrap_or(&NONE)
}
