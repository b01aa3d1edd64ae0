//! How many pods may go before a disruption budget is broken? What the budgets' planner wrote last counts, less what this
//! pass has chosen.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use warren_objects::disruption::Selector;
use warren_state::Object;

use crate::view::{PodView, Typed, View};
use warren_vocabulary::resources::PODDISRUPTIONBUDGETS;

struct Budget<'a> {
    budget: Typed<'a, PodDisruptionBudget>,
    selector: Selector<'a>,
    allowed: i64,
}

impl Budget<'_> {
    /// Whether it counts a pod. One that is on its way out already has been counted.
    fn counts(&self, pod: &PodView<'_>) -> bool {
        let gone = self.budget.status.as_ref().and_then(|status| status.disrupted_pods.as_ref());
        self.selector.selects(&pod.object.value) && !gone.is_some_and(|gone| gone.contains_key(pod.name()))
    }
}

/// All budgets, by namespace.
pub(super) struct Budgets<'a>(BTreeMap<&'a str, Vec<Budget<'a>>>);

impl<'a> Budgets<'a> {
    pub(super) fn of(view: &View<'a>) -> Self {
        let mut all = BTreeMap::<_, Vec<_>>::new();
        for object in view.world.snapshot.list(PODDISRUPTIONBUDGETS) {
            let Ok(budget) = Typed::<PodDisruptionBudget>::of(object) else { continue };
            let allowed = budget.status.as_ref().map_or(0, |status| i64::from(status.disruptions_allowed));
            all.entry(&*object.key.namespace).or_default().push(Budget {
                selector: Selector::of(&object.value),
                budget,
                allowed,
            });
        }
        Self(all)
    }

    /// Which of these pods, of which the first ones go first, would break a budget by going.
    pub(super) fn broken_by<'p>(
        &self,
        pods: impl Iterator<Item = &'p PodView<'a>>,
    ) -> BTreeSet<&'p warren_state::Key>
    where
        'a: 'p,
    {
        let mut left = BTreeMap::<(&str, usize), i64>::new();
        let mut breaking = BTreeSet::new();
        for pod in pods {
            for (place, budget) in self.counting(pod) {
                let left = left.entry((pod.namespace(), place)).or_insert(budget.allowed);
                *left = left.saturating_sub(1);
                if *left < 0 {
                    breaking.insert(&pod.object.key);
                }
            }
        }
        breaking
    }

    /// A pod has been chosen to go.
    pub(super) fn spend(&mut self, pod: &PodView<'_>) {
        for budget in self.0.get_mut(pod.namespace()).into_iter().flatten() {
            if budget.counts(pod) {
                budget.allowed = budget.allowed.saturating_sub(1);
            }
        }
    }

    fn counting<'b>(&'b self, pod: &'b PodView<'_>) -> impl Iterator<Item = (usize, &'b Budget<'a>)> {
        let all = self.0.get(pod.namespace()).map(Vec::as_slice).unwrap_or_default();
        all.iter().enumerate().filter(move |(_, budget)| !pod.labels().is_empty() && budget.counts(pod))
    }
}

/// What preemption asks of a budget: two states that are alike in this are the same to it.
pub(crate) fn matters(budget: &Object) -> [Option<&serde_json::Value>; 3] {
    ["/spec/selector", "/status/disruptionsAllowed", "/status/disruptedPods"]
        .map(|pointer| warren_state::at(&budget.value, pointer))
}
