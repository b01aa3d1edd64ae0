//! What the objects of each namespace count for in quotas, added up by what the scopes of quotas tell apart: so that a
//! quota is counted anew without a look at the objects.

use std::{collections::BTreeMap, sync::Arc};

use warren_objects::quotas::{self, Traits};
use warren_state::Object;

/// What one object counts for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) traits: Traits,
    /// In thousandths.
    pub(crate) amounts: Vec<(String, i128)>,
}

impl Counted {
    /// Nothing, for what no quota can be about.
    pub(crate) fn of(object: &Object) -> Option<Self> {
        let resource = &*object.key.resource;
        if object.key.namespace.is_empty() || !quotas::is_counted(resource) {
            return None;
        }
        let amounts = quotas::usage(resource, &object.value).into_iter();
        Some(Self {
            traits: quotas::traits(resource, &object.value),
            amounts: amounts.map(|(name, amount)| (name, amount.milli)).collect(),
        })
    }
}

/// Amounts by name, and how many objects are behind them.
type Sums = (usize, BTreeMap<String, i128>);

/// The sums, by namespace and traits.
#[derive(Default)]
pub(crate) struct Used(BTreeMap<Arc<str>, BTreeMap<Traits, Sums>>);

impl Used {
    pub(super) fn add(&mut self, namespace: &Arc<str>, counted: &Counted) {
        let groups = self.0.entry(Arc::clone(namespace)).or_default();
        let (objects, sums) = groups.entry(counted.traits.clone()).or_default();
        *objects = objects.saturating_add(1);
        for (name, amount) in &counted.amounts {
            match sums.get_mut(name) {
                Some(sum) => *sum = sum.saturating_add(*amount),
                None => drop(sums.insert(name.clone(), *amount)),
            }
        }
    }

    pub(super) fn remove(&mut self, namespace: &Arc<str>, counted: &Counted) {
        let Some(groups) = self.0.get_mut(namespace) else { return };
        if let Some((objects, sums)) = groups.get_mut(&counted.traits) {
            *objects = objects.saturating_sub(1);
            for (name, amount) in &counted.amounts {
                if let Some(sum) = sums.get_mut(name) {
                    *sum = sum.saturating_sub(*amount);
                }
            }
            if *objects == 0 {
                groups.remove(&counted.traits);
            }
        }
        if groups.is_empty() {
            self.0.remove(namespace);
        }
    }

    /// The sums of a namespace.
    pub(crate) fn of<'u>(
        &'u self,
        namespace: &str,
    ) -> impl Iterator<Item = (&'u Traits, &'u BTreeMap<String, i128>)> + use<'u> {
        self.0.get(namespace).into_iter().flatten().map(|(traits, (_, sums))| (traits, sums))
    }
}
