//! What a class of pods would rather have, where there is a choice: others near or far, or an even spread.

use std::{rc::Rc, sync::Arc};

use super::{
    relations::Placed,
    spread,
    terms::{Pods, Term, Wish},
    topology::Tally,
};
use crate::view::View;

/// What weight 1 of a preference counts, in millionths of load: one of weight 100 outweighs all load.
pub(super) const WEIGHT: i64 = 10_000;
/// What one pod more in a domain counts where an even spread is asked for, with a skew of one.
const EVEN: i64 = 200_000;
/// What many pods of one owner in a zone count, and how many are half of many.
const ZONE: i64 = 600_000;
const ZONE_HALF: i64 = 3;
/// A node that is in no domain is worse than a domain with several pods.
const NO_DOMAIN: i64 = 1_000_000;

/// What it counts that some pods are in a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Curve {
    /// Company is wanted: one is enough.
    Near(i64),
    /// Distance is wanted: each one more is worse.
    Far(i64),
    /// A spread over domains is asked for.
    Even(i64),
    /// A spread over zones is good, while there are few.
    Zones,
}

impl Curve {
    pub(super) fn near(weight: i32) -> Self {
        Self::Near(i64::from(weight).saturating_mul(WEIGHT))
    }

    pub(super) fn far(weight: i32) -> Self {
        Self::Far(i64::from(weight).saturating_mul(WEIGHT))
    }

    pub(super) fn even(skew: i32) -> Self {
        Self::Even(EVEN / i64::from(skew.max(1)))
    }

    /// What the wish of a pod on a node is to the pod that it is about; nothing if it must be heeded.
    pub(super) fn of_others(wish: Wish) -> Option<Self> {
        match wish {
            Wish::MustBeFar => None,
            Wish::MustBeNear => Some(Self::near(1)),
            Wish::LikesNear(weight) => Some(Self::near(weight)),
            Wish::LikesFar(weight) => Some(Self::far(weight)),
        }
    }

    fn cost(self, count: i32) -> i64 {
        let count = i64::from(count.max(0));
        match self {
            Self::Near(weight) if count > 0 => weight.saturating_neg(),
            Self::Near(_) => 0,
            Self::Far(each) | Self::Even(each) => each.saturating_mul(count),
            Self::Zones => ZONE.saturating_mul(count) / count.saturating_add(ZONE_HALF),
        }
    }
}

/// Which pods count.
pub(super) enum Whom {
    Pods(Pods),
    /// Those that are not on their way out, on nodes that count.
    Living(Pods, Option<Rc<Vec<bool>>>),
    /// Those that have this wish, which is about the class.
    Wishers(Arc<Term>),
    /// Those of the same owner.
    Siblings(Arc<str>),
}

impl Whom {
    /// Whether a pod is one of them, if pods of its node count.
    pub(super) fn are(&self, view: &View<'_>, placed: &Placed<'_>) -> bool {
        match self {
            Self::Pods(pods) => pods.contains(view, &placed.pod),
            Self::Living(pods, _) => !placed.pod.deleting() && pods.contains(view, &placed.pod),
            Self::Wishers(term) => placed.terms.contains(term),
            Self::Siblings(owner) => placed.pod.active() && placed.pod.controller_uid() == Some(&**owner),
        }
    }

    /// Whether pods of a node count.
    pub(super) fn counts(&self, node: usize) -> bool {
        match self {
            Self::Living(_, counted) => spread::counts(counted.as_ref(), node),
            _ => true,
        }
    }

    /// Whether it is those that have this wish.
    pub(super) fn wishes(&self, wish: &Arc<Term>) -> bool {
        matches!(self, Self::Wishers(term) if term == wish)
    }
}

pub(super) struct Leaning {
    curve: Curve,
    pub(super) tally: Tally,
    pub(super) whom: Whom,
    /// Its domains tell cells of nodes apart.
    pub(super) grouped: bool,
}

impl Leaning {
    pub(super) fn new(curve: Curve, tally: Tally, whom: Whom) -> Self {
        Self { curve, tally, whom, grouped: false }
    }

    /// Whether it is for an even spread.
    pub(super) fn is_even(&self) -> bool {
        matches!(self.curve, Curve::Even(_) | Curve::Zones)
    }

    /// A pod more is on a node, or fewer; the domain whose nodes cost less by that and are looked at one by one.
    pub(super) fn add(&mut self, node: usize, more: i32) -> Option<usize> {
        let (domain, before) = self.tally.add(node, more)?;
        let cheaper = self.curve.cost(before.saturating_add(more)) < self.curve.cost(before);
        (cheaper && !self.grouped).then_some(domain)
    }

    pub(super) fn cost(&self, node: usize) -> i64 {
        match self.tally.at(node) {
            Some(count) => self.curve.cost(count),
            None if matches!(self.curve, Curve::Even(_)) => NO_DOMAIN,
            None => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_company_and_each_more_is_a_crowd() {
        let costs = |curve: Curve| [0, 1, 2, 9].map(|count| curve.cost(count));
        assert_eq!(costs(Curve::near(100)), [0, -1_000_000, -1_000_000, -1_000_000]);
        assert_eq!(costs(Curve::far(10)), [0, 100_000, 200_000, 900_000]);
        assert_eq!(costs(Curve::even(2)), [0, 100_000, 200_000, 900_000]);
        assert_eq!(costs(Curve::Zones), [0, 150_000, 240_000, 450_000]);
    }
}
