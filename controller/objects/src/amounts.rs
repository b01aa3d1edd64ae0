//! Amounts of resources that are added up, and how they are written: what pods request, what quotas count.

use std::{collections::BTreeMap, fmt};

use serde_json::Value;

use crate::{
    json::{get, items, text},
    quantity,
};

/// More than this is not counted: sums of as many as there can be stay exact.
const MOST: i128 = 1_000_000_000_000_000_000_000_000_000;

/// So much of a resource.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// In thousandths.
    pub milli: i128,
    /// Whether it is written in powers of two ("Mi").
    pub binary: bool,
}

/// Amounts by resource.
pub type Amounts = BTreeMap<String, Amount>;

impl Amount {
    /// So many.
    pub fn whole(count: usize) -> Self {
        let milli = i128::try_from(count).unwrap_or(MOST).saturating_mul(1000);
        Self { milli: milli.min(MOST), binary: false }
    }

    /// A quantity; `None` for what is none.
    pub fn read(text: &str) -> Option<Self> {
        let milli = match quantity::parse(text) {
            Ok(milli) => milli.clamp(-MOST, MOST),
            Err(quantity::QuantityError::Range) => MOST,
            Err(_) => return None,
        };
        Some(Self { milli, binary: text.ends_with('i') })
    }

    /// Both together, written as the first one is, unless that is nothing.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let binary = if self.milli == 0 { other.binary } else { self.binary };
        Self { milli: self.milli.saturating_add(other.milli), binary }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&quantity::written(self.milli, self.binary))
    }
}

/// The quantities of a list of resources.
pub fn of(list: &Value) -> Amounts {
    let all = list.as_object().into_iter().flatten();
    all.filter_map(|(name, quantity)| Some((name.clone(), Amount::read(quantity.as_str()?)?))).collect()
}

/// Adds to each resource what others have of it.
pub fn add(all: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = all.get(name).copied().unwrap_or_default().plus(*amount);
        all.insert(name.clone(), sum);
    }
}

/// The larger one of each.
fn raise(all: &mut Amounts, other: Amounts) {
    for (name, amount) in other {
        if all.get(&name).is_none_or(|mine| mine.milli < amount.milli) {
            all.insert(name, amount);
        }
    }
}

/// What a pod requests, or is limited to: its containers together, or more while it is initialised. What it says for all
/// of them together counts instead. `list` is "requests" or "limits".
pub fn of_pod(spec: &Value, list: &str) -> Amounts {
    let of_container = |container: &Value| of(get(get(container, "resources"), list));
    let (mut beside, mut peak) = (Amounts::new(), Amounts::new());
    for container in items(spec, "initContainers") {
        let mut step = of_container(container);
        if text(container, "restartPolicy") == "Always" {
            // It goes on, and is there for all that come after it.
            add(&mut beside, &step);
            step = beside.clone();
        } else {
            add(&mut step, &beside);
        }
        raise(&mut peak, step);
    }
    let mut total = beside;
    for container in items(spec, "containers") {
        add(&mut total, &of_container(container));
    }
    raise(&mut total, peak);
    total.extend(of(get(get(spec, "resources"), list)));
    total
}

/// The same with what the pod costs beside its containers; where nothing limits them, that is no limit.
pub fn of_whole_pod(spec: &Value, list: &str) -> Amounts {
    let mut total = of_pod(spec, list);
    let mut overhead = of(get(spec, "overhead"));
    if list == "limits" {
        overhead.retain(|name, _| total.contains_key(name));
    }
    add(&mut total, &overhead);
    total
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(amounts: &Amounts) -> Vec<String> {
        amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect()
    }

    #[test]
    fn a_pod_asks_for_what_it_needs_at_the_worst_moment() {
        let container =
            |cpu: &str, memory: &str| json!({"resources": {"requests": {"cpu": cpu, "memory": memory}}});
        let mut sidecar = container("150m", "1Mi");
        sidecar["restartPolicy"] = "Always".into();
        let mut spec = json!({"containers": [container("100m", "64Mi"), container("200m", "64M")],
            "initContainers": [sidecar, container("1", "10Mi")], "overhead": {"cpu": "50m"}});
        assert_eq!(shown(&of_pod(&spec, "requests")), ["cpu=1150m", "memory=129060Ki"]);
        assert_eq!(shown(&of_whole_pod(&spec, "requests")), ["cpu=1200m", "memory=129060Ki"]);
        assert!(of_whole_pod(&spec, "limits").is_empty(), "overhead alone limits nothing");
        spec["resources"] = json!({"requests": {"cpu": "2"}});
        assert_eq!(shown(&of_pod(&spec, "requests"))[0], "cpu=2");
    }

    #[test]
    fn what_cannot_be_counted_is_the_most_or_nothing() {
        let all = of(&json!({"cpu": "1e999", "memory": "nonsense", "pods": 3}));
        assert_eq!(all.keys().collect::<Vec<_>>(), ["cpu"]);
        let twice = all["cpu"].plus(all["cpu"]);
        assert_eq!(twice.milli - all["cpu"].milli, all["cpu"].milli, "it can be taken away again");
    }
}
