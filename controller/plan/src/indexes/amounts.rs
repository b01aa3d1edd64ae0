//! Amounts of resources: what a node offers, what a pod asks for, and what is left.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::core::v1::{Container, Node, PodSpec, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity,
};

use warren_objects::quantity::{self, QuantityError};

/// What a pod that requests nothing is assumed to need, as Kubernetes does: a tenth of a core, 200 MB.
const ASSUMED_CPU: i128 = 100;
const ASSUMED_MEMORY: i128 = 200 * 1024 * 1024;
/// Full, in the unit of [`Amounts::load`].
const MILLION: i64 = 1_000_000;

/// Amounts by resource: thousandths of a core, else whole units. "pods" counts pods. One pod's amount fits 64 bits, so
/// that sums over all pods that there can be are exact, and what was added can be taken away again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Amounts {
    cpu: i128,
    memory: i128,
    pods: i128,
    /// Whatever else there is: storage, and what users add to their nodes.
    others: BTreeMap<Arc<str>, i128>,
}

impl Amounts {
    /// What a node offers.
    pub(crate) fn allocatable(node: &Node) -> Self {
        let offered = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
        Self::of(offered.into_iter().flatten())
    }

    /// What a pod asks for: its containers together, or more while it is initialised. What the pod says for all of them
    /// together counts instead; what it costs beside them (its overhead) comes on top.
    pub(crate) fn requested(spec: &PodSpec) -> Self {
        let initial = spec.init_containers.as_deref().unwrap_or_default();
        let (mut beside, mut peak) = (Self::default(), Self::default());
        for container in initial {
            let mut step = Self::of_requirements(container.resources.as_ref());
            // One that goes on is there for all that come after it.
            if goes_on(container) {
                beside.add(&step);
                step = beside.clone();
            } else {
                step.add(&beside);
            }
            peak.raise_to(step);
        }
        let mut total = beside;
        for container in &spec.containers {
            total.add(&Self::of_requirements(container.resources.as_ref()));
        }
        total.raise_to(peak);
        total.set(spec.resources.as_ref());
        total.add(&Self::of(spec.overhead.iter().flatten()));
        total.pods = 1;
        total
    }

    /// The same, with an assumption for what is not requested.
    pub(crate) fn assumed(&self) -> Self {
        let mut total = self.clone();
        if total.cpu == 0 {
            total.cpu = ASSUMED_CPU;
        }
        if total.memory == 0 {
            total.memory = ASSUMED_MEMORY;
        }
        total
    }

    fn of<'q>(quantities: impl Iterator<Item = (&'q String, &'q Quantity)>) -> Self {
        let mut all = Self::default();
        for (name, quantity) in quantities {
            if let Some(amount) = amount(name, quantity) {
                *all.entry(name) = amount;
            }
        }
        all
    }

    /// A limit without a request is a request; defaulting says so on pods, and we do not depend on it.
    fn of_requirements(resources: Option<&ResourceRequirements>) -> Self {
        let limits = resources.and_then(|resources| resources.limits.as_ref());
        let requests = resources.and_then(|resources| resources.requests.as_ref());
        Self::of(limits.into_iter().flatten().chain(requests.into_iter().flatten()))
    }

    /// What a pod says for all its containers together. A limit counts where nobody requests anything.
    fn set(&mut self, resources: Option<&ResourceRequirements>) {
        let Some(resources) = resources else { return };
        for (name, quantity) in resources.requests.iter().flatten() {
            if let Some(amount) = amount(name, quantity) {
                *self.entry(name) = amount;
            }
        }
        for (name, quantity) in resources.limits.iter().flatten() {
            if let Some(amount) = amount(name, quantity).filter(|_| self.amount(name) == 0) {
                *self.entry(name) = amount;
            }
        }
    }

    fn entry(&mut self, name: &str) -> &mut i128 {
        match name {
            "cpu" => &mut self.cpu,
            "memory" => &mut self.memory,
            "pods" => &mut self.pods,
            _ => self.others.entry(name.into()).or_default(),
        }
    }

    pub(crate) fn amount(&self, name: &str) -> i128 {
        match name {
            "cpu" => self.cpu,
            "memory" => self.memory,
            "pods" => self.pods,
            _ => self.others.get(name).copied().unwrap_or(0),
        }
    }

    fn fixed(&self) -> [(&'static str, i128); 3] {
        [("cpu", self.cpu), ("memory", self.memory), ("pods", self.pods)]
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (mine, theirs) in
            [(&mut self.cpu, other.cpu), (&mut self.memory, other.memory), (&mut self.pods, other.pods)]
        {
            *mine = mine.saturating_add(theirs);
        }
        for (name, amount) in &other.others {
            let entry = self.others.entry(Arc::clone(name)).or_default();
            *entry = entry.saturating_add(*amount);
        }
    }

    /// Undoes [`Amounts::add`].
    pub(crate) fn take_away(&mut self, other: &Self) {
        for (mine, theirs) in
            [(&mut self.cpu, other.cpu), (&mut self.memory, other.memory), (&mut self.pods, other.pods)]
        {
            *mine = mine.saturating_sub(theirs);
        }
        for (name, amount) in &other.others {
            let entry = self.others.entry(Arc::clone(name)).or_default();
            *entry = entry.saturating_sub(*amount);
            if *entry == 0 {
                self.others.remove(name);
            }
        }
    }

    /// The larger one of each.
    fn raise_to(&mut self, other: Self) {
        for (mine, theirs) in
            [(&mut self.cpu, other.cpu), (&mut self.memory, other.memory), (&mut self.pods, other.pods)]
        {
            *mine = theirs.max(*mine);
        }
        for (name, amount) in other.others {
            let entry = self.others.entry(name).or_default();
            *entry = amount.max(*entry);
        }
    }

    /// Whether `used` leaves enough for this request.
    pub(crate) fn fits(&self, used: &Self, allocatable: &Self) -> bool {
        let leaves = |wanted: i128, used: i128, all: i128| wanted <= 0 || used.saturating_add(wanted) <= all;
        leaves(self.cpu, used.cpu, allocatable.cpu)
            && leaves(self.memory, used.memory, allocatable.memory)
            && leaves(self.pods, used.pods, allocatable.pods)
            && self
                .others
                .iter()
                .all(|(name, wanted)| leaves(*wanted, used.amount(name), allocatable.amount(name)))
    }

    /// The resources of which `used` leaves too little for this request.
    pub(crate) fn lacking<'a>(
        &'a self,
        used: &'a Self,
        allocatable: &'a Self,
    ) -> impl Iterator<Item = &'a str> {
        let all = self.fixed().into_iter().chain(self.others.iter().map(|(name, wanted)| (&**name, *wanted)));
        all.filter(move |(name, wanted)| {
            *wanted > 0 && used.amount(name).saturating_add(*wanted) > allocatable.amount(name)
        })
        .map(|(name, _)| name)
    }

    /// Whether this request asks for more of a resource than all that there is.
    pub(crate) fn exceeds(&self, name: &str, allocatable: &Self) -> bool {
        self.amount(name) > allocatable.amount(name)
    }

    /// How full cpu, memory and pods are, in millionths of what there is, when this much more is used.
    pub(crate) fn loads(&self, more: &Self, allocatable: &Self) -> [(&'static str, i64); 3] {
        [
            ("cpu", part(self.cpu.saturating_add(more.cpu), allocatable.cpu)),
            ("memory", part(self.memory.saturating_add(more.memory), allocatable.memory)),
            ("pods", part(self.pods.saturating_add(more.pods), allocatable.pods)),
        ]
    }

    /// What this is of what there is, in millionths, in the mean of cpu and memory.
    pub(crate) fn share(&self, allocatable: &Self) -> i64 {
        part(self.cpu, allocatable.cpu).saturating_add(part(self.memory, allocatable.memory)) / 2
    }

    /// The most loaded of cpu, memory and pods.
    pub(crate) fn load(&self, more: &Self, allocatable: &Self) -> i64 {
        self.loads(more, allocatable).into_iter().map(|(_, load)| load).max().unwrap_or(0)
    }
}

/// Whether an init container goes on beside the others.
fn goes_on(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

fn part(used: i128, all: i128) -> i64 {
    let most = i64::MAX / 4;
    let (used, all) = (used.max(0), all.max(1));
    // Numbers of this size are multiplied and divided by one instruction each.
    if let (Ok(used), Ok(all)) = (i64::try_from(used), i64::try_from(all))
        && let Some(millions) = used.checked_mul(MILLION)
    {
        return (millions / all).min(most);
    }
    i64::try_from(used.saturating_mul(i128::from(MILLION)) / all).unwrap_or(most).min(most)
}

/// A quantity in the unit of its resource, rounded up. What is no quantity counts as none; more than can be counted
/// is the most that can be, which no node has.
fn amount(name: &str, quantity: &Quantity) -> Option<i128> {
    let parse = if name == "cpu" { quantity::cpu_millis } else { quantity::bytes };
    let amount = match parse(&quantity.0) {
        Ok(amount) => amount.max(0),
        Err(QuantityError::Range) if quantity.0.starts_with('-') => 0,
        Err(QuantityError::Range) => i64::MAX,
        Err(_) => return None,
    };
    Some(i128::from(amount))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn amounts(pairs: &[(&str, &str)]) -> Amounts {
        let pairs: Vec<_> =
            pairs.iter().map(|(name, text)| ((*name).to_owned(), Quantity((*text).to_owned()))).collect();
        Amounts::of(pairs.iter().map(|(name, quantity)| (name, quantity)))
    }

    fn requested(spec: Value) -> Amounts {
        Amounts::requested(&serde_json::from_value(spec).expect("a pod's spec"))
    }

    fn container(cpu: &str) -> Value {
        json!({"name": "c", "resources": {"requests": {"cpu": cpu}}})
    }

    fn sidecar(cpu: &str) -> Value {
        let mut container = container(cpu);
        container["restartPolicy"] = "Always".into();
        container
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let all = amounts(&[("cpu", "2"), ("memory", "4Gi"), ("pods", "110")]);
        let used = amounts(&[("cpu", "1500m"), ("memory", "1Gi"), ("pods", "3")]);
        let lacking = |wanted: &Amounts| {
            let lacking = wanted.lacking(&used, &all).map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(wanted.fits(&used, &all), lacking.is_empty());
            lacking
        };
        assert!(lacking(&amounts(&[("cpu", "500m"), ("memory", "3Gi"), ("pods", "1")])).is_empty());
        assert_eq!(lacking(&amounts(&[("cpu", "501m"), ("memory", "3073Mi")])), ["cpu", "memory"]);
        assert_eq!(lacking(&amounts(&[("example.com/gpu", "1"), ("cpu", "nonsense")])), ["example.com/gpu"]);
        assert!(lacking(&amounts(&[("example.com/gpu", "0")])).is_empty());
    }

    #[test]
    fn more_than_can_be_counted_fits_nowhere() {
        let all = amounts(&[("cpu", "2"), ("memory", "4Gi"), ("pods", "110")]);
        let used = amounts(&[("memory", "9223372036854775807")]);
        for most in ["100E", "9223372036854775807", "170141183460469231731687303715884105727m", "1e999"] {
            let wanted = amounts(&[("cpu", most), ("memory", most)]);
            assert_eq!(wanted.lacking(&used, &all).collect::<Vec<_>>(), ["cpu", "memory"], "{most}");
            let mut sum = wanted.clone();
            (0..3).for_each(|_| sum.add(&wanted));
            assert!(sum.load(&Amounts::default(), &all) > 1_000_000, "{most}");
            assert!(amounts(&[("cpu", &format!("-{most}"))]).lacking(&used, &all).next().is_none(), "{most}");
        }
    }

    #[test]
    fn load_is_that_of_the_most_loaded_dimension() {
        let all = amounts(&[("cpu", "4"), ("memory", "8Gi"), ("pods", "100")]);
        let (none, one) = (Amounts::default(), amounts(&[("cpu", "1"), ("memory", "4Gi"), ("pods", "10")]));
        assert_eq!(one.load(&none, &all), 500_000);
        assert_eq!(amounts(&[("cpu", "0"), ("pods", "75")]).load(&none, &all), 750_000);
        assert_eq!(one.load(&one, &all), 1_000_000);
        assert_eq!(one.share(&all), 375_000);
        let mut sum = one.clone();
        sum.add(&amounts(&[("cpu", "9223372036854775807")]));
        sum.take_away(&amounts(&[("cpu", "9223372036854775807")]));
        assert_eq!(sum, one, "what was added can be taken away");
    }

    #[test]
    fn a_pod_asks_for_what_it_needs_at_the_worst_moment() {
        let cpu = |spec: Value| requested(spec).cpu;
        let main = || json!([container("100m"), container("200m")]);
        assert_eq!(cpu(json!({"containers": main()})), 300);
        // One init container at a time.
        let initial = json!([container("250m"), container("400m")]);
        assert_eq!(cpu(json!({"containers": main(), "initContainers": initial})), 400);
        // What goes on is there during the init containers after it, and beside the containers.
        let initial = json!([sidecar("150m"), container("400m")]);
        assert_eq!(cpu(json!({"containers": main(), "initContainers": initial})), 550);
        let initial = json!([container("400m"), sidecar("150m")]);
        assert_eq!(cpu(json!({"containers": main(), "initContainers": initial})), 450);
    }

    #[test]
    fn the_whole_pods_requests_count_and_its_overhead_comes_on_top() {
        let main = || json!([container("100m"), container("200m")]);
        let whole = json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2", "memory": "1Gi"}});
        let asked = requested(
            json!({"containers": main(), "resources": whole, "overhead": {"cpu": "50m", "memory": "1Mi",
            "example.com/beardsecond": "250"}}),
        );
        let expected =
            [("cpu", "1050m"), ("memory", "1025Mi"), ("pods", "1"), ("example.com/beardsecond", "250")];
        assert_eq!(asked, amounts(&expected));
        // A limit of the pod does not count where a container requests something.
        let asked = requested(json!({"containers": main(), "resources": {"limits": {"cpu": "2"}}}));
        assert_eq!(asked.cpu, 300);
    }
}
