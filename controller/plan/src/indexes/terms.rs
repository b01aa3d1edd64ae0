//! What the pods on nodes want of pods that come: each wish once, with where those are who have it.

use std::{collections::BTreeMap, sync::Arc};

use super::pair;
use crate::{
    schedule::terms::{Pods, Term},
    selector::Labels,
};

/// How many pods that have a wish are on each node.
pub(crate) type Wishers = BTreeMap<Arc<str>, usize>;

/// The wishes of pods that have a node, in groups of those that they may be about: by namespace and a label, or by namespace
/// alone. Any namespace is `*`.
#[derive(Default)]
pub(crate) struct StandingTerms(BTreeMap<Arc<str>, BTreeMap<Arc<Term>, Wishers>>);

impl StandingTerms {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A pod with a wish is on a node.
    pub(super) fn add(&mut self, node: &Arc<str>, term: &Arc<Term>) {
        for group in groups(&term.pods) {
            let wishers = self.0.entry(group.into()).or_default().entry(Arc::clone(term)).or_default();
            *wishers.entry(Arc::clone(node)).or_default() += 1;
        }
    }

    /// It is there no longer.
    pub(super) fn remove(&mut self, node: &Arc<str>, term: &Arc<Term>) {
        for group in groups(&term.pods) {
            let Some(terms) = self.0.get_mut(&*group) else { continue };
            if let Some(wishers) = terms.get_mut(term) {
                super::count_down(wishers, node);
                if wishers.is_empty() {
                    terms.remove(term);
                }
            }
            if terms.is_empty() {
                self.0.remove(&*group);
            }
        }
    }

    /// Wishes that may be about a pod: its namespace and labels have to be asked still.
    pub(crate) fn about(
        &self,
        namespace: &str,
        labels: &Labels,
    ) -> impl Iterator<Item = (&Arc<Term>, &Wishers)> {
        let mut groups = Vec::new();
        for namespace in [namespace, ANY] {
            groups.extend(labels.iter().map(|(name, value)| pair(namespace, name, value)));
            groups.push(namespace.to_owned());
        }
        groups.into_iter().filter_map(|group| self.0.get(&*group)).flatten()
    }
}

const ANY: &str = "*";

fn groups(pods: &Pods) -> impl Iterator<Item = String> {
    let namespaces: Vec<&str> = match &pods.of {
        Some(_) => vec![ANY],
        None => pods.namespaces.iter().map(String::as_str).collect(),
    };
    namespaces.into_iter().map(|namespace| match pods.labels.pair() {
        Some((name, value)) => pair(namespace, name, value),
        None => namespace.to_owned(),
    })
}
