//! What objects count for in the quotas of their namespace, and which quotas they count in. The planner that keeps the
//! quotas' statuses and the gate that charges them ask the same questions here.
//!
//! Source: <https://kubernetes.io/docs/concepts/policy/resource-quotas/>.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::{
    amounts::{self, Amount, Amounts},
    defaults::pod::quality_of_service,
    json::{at, ensure_map, get, has, items, text},
};

const PODS: &str = "pods";
const CLAIMS: &str = "persistentvolumeclaims";
const INTERNAL: &str = ".warren.internal";
/// What only counts itself, under a name of its own beside `count/...`.
const NAMED: [&str; 4] = ["configmaps", "resourcequotas", "replicationcontrollers", "secrets"];
/// What every container must say if a quota limits it.
const REQUIRED: [&str; 6] =
    ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];
/// The end of the name of what counts by storage class.
const BY_CLASS: &str = ".storageclass.storage.k8s.io/";

/// What scopes ask of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Traits {
    /// A pod.
    Pod {
        /// It has a deadline.
        terminating: bool,
        /// It asks for nothing.
        best_effort: bool,
        /// It wants pods of other namespaces near it, or far.
        crosses: bool,
        /// The name of its priority class, if it has one.
        class: String,
    },
    /// A claim, by the name of its attributes' class, if it has one.
    Claim(String),
    /// Anything else: no scope is about it.
    Other,
}

/// Whether objects of a resource are counted at all.
pub fn is_counted(resource: &str) -> bool {
    resource != "events" && !resource.ends_with(INTERNAL)
}

/// The traits of an object.
pub fn traits(resource: &str, object: &Value) -> Traits {
    let spec = get(object, "spec");
    match resource {
        PODS => Traits::Pod {
            terminating: get(spec, "activeDeadlineSeconds").as_i64().is_some_and(|seconds| seconds >= 0),
            best_effort: quality_of_service(spec) == "BestEffort",
            crosses: crosses(spec),
            class: text(spec, "priorityClassName").to_owned(),
        },
        CLAIMS => Traits::Claim(text(spec, "volumeAttributesClassName").to_owned()),
        _ => Traits::Other,
    }
}

fn crosses(spec: &Value) -> bool {
    let term = |term: &Value| !items(term, "namespaces").is_empty() || has(term, "namespaceSelector");
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let affinity = get(get(spec, "affinity"), kind);
        let required = items(affinity, "requiredDuringSchedulingIgnoredDuringExecution").iter();
        let preferred = items(affinity, "preferredDuringSchedulingIgnoredDuringExecution").iter();
        required.chain(preferred.map(|weighted| get(weighted, "podAffinityTerm"))).any(term)
    })
}

/// What an object counts for, by the names that quotas give to it.
pub fn usage(resource: &str, object: &Value) -> Amounts {
    let mut all = Amounts::new();
    if !is_counted(resource) {
        return all;
    }
    let one = Amount::whole(1);
    all.insert(format!("count/{resource}"), one);
    match resource {
        PODS if matches!(text(object, "status.phase"), "Succeeded" | "Failed") => {}
        PODS => all.extend(usage_while_running(object)),
        "services" => of_service(get(object, "spec"), &mut all),
        CLAIMS => of_claim(object, &mut all),
        named if NAMED.contains(&named) => drop(all.insert(named.to_owned(), one)),
        _ => {}
    }
    all
}

/// What a pod counts for until it has ended.
pub fn usage_while_running(pod: &Value) -> Amounts {
    let spec = get(pod, "spec");
    let (requests, limits) = (amounts::of_whole_pod(spec, "requests"), amounts::of_whole_pod(spec, "limits"));
    let mut all = of_compute(&requests, &limits);
    all.insert(PODS.to_owned(), Amount::whole(1));
    all
}

fn of_compute(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut all = Amounts::new();
    for (name, amount) in requests {
        let standard = matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage");
        let huge = name.starts_with("hugepages-");
        if standard || huge {
            all.insert(name.clone(), *amount);
        }
        // What users add to their nodes has a domain in its name.
        if standard || huge || name.contains('/') {
            all.insert(format!("requests.{name}"), *amount);
        }
    }
    for name in ["cpu", "memory", "ephemeral-storage"] {
        if let Some(amount) = limits.get(name) {
            all.insert(format!("limits.{name}"), *amount);
        }
    }
    all
}

fn of_service(spec: &Value, all: &mut Amounts) {
    let ports = items(spec, "ports");
    let balanced = text(spec, "type") == "LoadBalancer";
    let explicit = balanced && get(spec, "allocateLoadBalancerNodePorts") == false;
    let node_ports = match text(spec, "type") {
        "LoadBalancer" if explicit => {
            let given = |port: &&Value| get(port, "nodePort").as_i64().is_some_and(|port| port != 0);
            ports.iter().filter(given).count()
        }
        "NodePort" | "LoadBalancer" => ports.len(),
        _ => 0,
    };
    all.insert("services".to_owned(), Amount::whole(1));
    all.insert("services.nodeports".to_owned(), Amount::whole(node_ports));
    all.insert("services.loadbalancers".to_owned(), Amount::whole(usize::from(balanced)));
}

fn of_claim(claim: &Value, all: &mut Amounts) {
    let storage = |path: &str| Amount::read(get(at(claim, path), "storage").as_str()?);
    let storage = [storage("spec.resources.requests"), storage("status.allocatedResources")];
    // What a disk really has may be more than what is asked for.
    let storage = storage.into_iter().flatten().max_by_key(|amount| amount.milli);
    let class = text(claim, "spec.storageClassName");
    let mut count = |name: &str, amount: Amount| {
        all.insert(name.to_owned(), amount);
        if !class.is_empty() {
            all.insert(format!("{class}{BY_CLASS}{name}"), amount);
        }
    };
    count(CLAIMS, Amount::whole(1));
    if let Some(storage) = storage {
        count("requests.storage", storage);
    }
}

/// Whether objects of these traits count in a quota, by its scopes.
pub fn selects(quota: &Value, traits: &Traits) -> bool {
    let spec = get(quota, "spec");
    let in_scope = |name: &str, operator: &str, values: &[Value]| {
        let named = |class: &str| {
            let listed = values.iter().any(|value| value == class);
            match operator {
                "In" => !class.is_empty() && listed,
                "NotIn" => class.is_empty() || !listed,
                "Exists" => !class.is_empty(),
                "DoesNotExist" => class.is_empty(),
                _ => false,
            }
        };
        match (traits, name) {
            (Traits::Pod { terminating, .. }, "Terminating") => *terminating,
            (Traits::Pod { terminating, .. }, "NotTerminating") => !terminating,
            (Traits::Pod { best_effort, .. }, "BestEffort") => *best_effort,
            (Traits::Pod { best_effort, .. }, "NotBestEffort") => !best_effort,
            (Traits::Pod { crosses, .. }, "CrossNamespacePodAffinity") => *crosses,
            (Traits::Pod { class, .. }, "PriorityClass") => named(class),
            (Traits::Claim(class), "VolumeAttributesClass") => named(class),
            _ => false,
        }
    };
    let scopes = items(spec, "scopes").iter().filter_map(Value::as_str);
    let selectors = items(get(spec, "scopeSelector"), "matchExpressions").iter();
    scopes.into_iter().all(|scope| in_scope(scope, "Exists", &[]))
        && selectors.into_iter().all(|selector| {
            in_scope(text(selector, "scopeName"), text(selector, "operator"), items(selector, "values"))
        })
}

/// What containers of a pod must say and do not, because a quota limits it: "cpu for: a,b; memory for: b".
pub fn missing(hard: &BTreeSet<&str>, pod: &Value) -> Option<String> {
    let spec = get(pod, "spec");
    if ["requests", "limits"].iter().any(|list| !amounts::of(get(get(spec, "resources"), list)).is_empty()) {
        return None;
    }
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for container in items(spec, "containers").iter().chain(items(spec, "initContainers")) {
        let list = |list: &str| amounts::of(get(get(container, "resources"), list));
        let said = of_compute(&list("requests"), &list("limits"));
        for name in REQUIRED.iter().filter(|name| hard.contains(*name) && !said.contains_key(**name)) {
            missing.entry(name).or_default().insert(text(container, "name"));
        }
    }
    let of = |(name, containers): (&&str, &BTreeSet<&str>)| {
        format!("{name} for: {}", containers.iter().copied().collect::<Vec<_>>().join(","))
    };
    (!missing.is_empty()).then(|| missing.iter().map(of).collect::<Vec<_>>().join("; "))
}

/// Why an object may not be what it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Excess {
    /// The use of this is not known yet.
    Unknown(Vec<String>),
    /// This much is wanted, used and allowed.
    Exceeded {
        /// How much more is wanted.
        requested: Amounts,
        /// How much there is.
        used: Amounts,
        /// How much there may be.
        hard: Amounts,
    },
}

/// The quota when so much more is used of what it limits; nothing when that does not concern it.
pub fn charged(quota: &Value, more: &Amounts) -> Result<Option<Value>, Excess> {
    let (hard, used) = (amounts::of(at(quota, "status.hard")), amounts::of(at(quota, "status.used")));
    let mut requested = more.clone();
    requested.retain(|name, amount| amount.milli > 0 && hard.contains_key(name));
    if requested.is_empty() {
        return Ok(None);
    }
    let unknown: Vec<String> = requested.keys().filter(|name| !used.contains_key(*name)).cloned().collect();
    if !unknown.is_empty() {
        return Err(Excess::Unknown(unknown));
    }
    let limit = |name: &str| hard.get(name).copied().unwrap_or_default();
    let sum = |name: &str, amount: &Amount| used.get(name).copied().unwrap_or_default().plus(*amount);
    let fits = |(name, amount): (&String, &Amount)| sum(name, amount).milli <= limit(name).milli;
    if !requested.iter().all(fits) {
        let over = |all: &Amounts| -> Amounts {
            let is_over = |name: &String| requested.get(name).is_some_and(|amount| !fits((name, amount)));
            all.iter()
                .filter(|(name, _)| is_over(name))
                .map(|(name, amount)| (name.clone(), *amount))
                .collect()
        };
        return Err(Excess::Exceeded { requested: over(&requested), used: over(&used), hard: over(&hard) });
    }
    let mut quota = quota.clone();
    let fields = ensure_map(&mut quota, "status").and_then(|status| ensure_map(status, "used"));
    if let Some(Value::Object(fields)) = fields {
        for (name, amount) in &requested {
            fields.insert(name.clone(), shown(sum(name, amount).milli, limit(name)).into());
        }
    }
    Ok(Some(quota))
}

/// Writes a quota's status, when so many thousandths are used of each resource, into `into`.
pub fn count(quota: &Value, used: &BTreeMap<String, i128>, into: &mut Value) {
    let hard = at(quota, "spec.hard");
    let of = |(name, limit): (&String, &Amount)| {
        (name.clone(), Value::from(shown(used.get(name).copied().unwrap_or(0), *limit)))
    };
    let used: Map<String, Value> = amounts::of(hard).iter().map(of).collect();
    if let Some(Value::Object(status)) = ensure_map(into, "status") {
        let hard = hard.as_object().cloned().unwrap_or_default();
        status.insert("hard".to_owned(), Value::Object(hard));
        status.insert("used".to_owned(), Value::Object(used));
    }
}

/// Written as the limit is: in one way, whatever it is the sum of.
fn shown(milli: i128, limit: Amount) -> String {
    Amount { milli, binary: limit.binary }.to_string()
}

#[cfg(test)]
#[path = "quotas_tests.rs"]
mod tests;
