//! How many pods a deployment wants, and how far it may stray while it changes.

use k8s_openapi::{api::apps::v1::DeploymentSpec, apimachinery::pkg::util::intstr::IntOrString};

use crate::sets;

/// What absent fields mean.
const DEFAULT_SHARE: &str = "25%";

/// The most pods that any object may ask for: `replicas` has 32 bits.
pub(super) const MOST: i64 = i32::MAX as i64;

/// The limits of a deployment. None is negative, or greater than [`MOST`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Numbers {
    /// Wanted pods.
    pub(super) replicas: i64,
    /// How many more there may be.
    pub(super) max_surge: i64,
    /// How many fewer may be available.
    pub(super) max_unavailable: i64,
    /// Strategy Recreate: all old pods end before a new one starts.
    pub(super) recreates: bool,
}

impl Numbers {
    pub(super) fn new(spec: &DeploymentSpec) -> Self {
        let replicas = i64::from(spec.replicas.unwrap_or(1).max(0));
        let strategy = spec.strategy.as_ref();
        let recreates = strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate");
        if recreates {
            return Self { replicas, max_surge: 0, max_unavailable: 0, recreates };
        }
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let surge = share(rolling.and_then(|rolling| rolling.max_surge.as_ref()), replicas, true);
        let mut unavailable =
            share(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), replicas, false);
        if surge == 0 && unavailable == 0 {
            // Neither more nor fewer would never move.
            unavailable = 1;
        }
        Self { replicas, max_surge: surge, max_unavailable: unavailable.min(replicas), recreates }
    }

    /// How many pods there may be at most.
    pub(super) fn maximum(&self) -> i64 {
        self.replicas.saturating_add(self.max_surge).min(MOST)
    }

    /// How many pods must stay available.
    pub(super) fn minimum(&self) -> i64 {
        self.replicas.saturating_sub(self.max_unavailable)
    }
}

/// A number, or a percentage of all: the surge is rounded up, the unavailable are rounded down.
fn share(value: Option<&IntOrString>, all: i64, up: bool) -> i64 {
    let fallback = IntOrString::String(DEFAULT_SHARE.to_owned());
    sets::share(value.unwrap_or(&fallback), all, up)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn numbers(replicas: i64, surge: Value, unavailable: Value) -> (i64, i64) {
        let spec = serde_json::from_value(json!({
            "replicas": replicas, "selector": {}, "template": {},
            "strategy": {"type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}},
        }));
        let numbers = Numbers::new(&spec.expect("valid"));
        (numbers.maximum(), numbers.minimum())
    }

    #[test]
    fn shares_are_rounded_as_kubernetes_does() {
        for (replicas, surge, unavailable, expected) in [
            (10, json!("25%"), json!("25%"), (13, 8)),
            (3, json!("25%"), json!("25%"), (4, 3)),
            (3, json!(null), json!(null), (4, 3)),
            (1, json!("25%"), json!("25%"), (2, 1)),
            (4, json!(0), json!(0), (4, 3)),
            (4, json!("0%"), json!("10%"), (4, 3)),
            (2, json!(1), json!(5), (3, 0)),
            (0, json!(1), json!(1), (1, 0)),
            (4, json!("100%"), json!(0), (8, 4)),
            (MOST, json!("100%"), json!("100%"), (MOST, 0)),
            (MOST, json!(i32::MAX), json!(i32::MIN), (MOST, MOST)),
            (MOST, json!("9223372036854775807%"), json!("9223372036854775807%"), (MOST, 0)),
            (1, json!("99999999999999999999%"), json!("-1%"), (1, 0)),
        ] {
            assert_eq!(
                numbers(replicas, surge.clone(), unavailable.clone()),
                expected,
                "{replicas} {surge} {unavailable}"
            );
        }
    }
}
