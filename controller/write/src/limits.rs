//! The LimitRanges of a namespace: what a container gets that says nothing itself, and what a container, a pod and a claim
//! may have.
//!
//! Source: <https://kubernetes.io/docs/concepts/policy/limit-range/>.

use serde_json::{Value, json};
use warren_objects::amounts::{self, Amount, Amounts};
use warren_state::Snapshot;
use warren_vocabulary::resources::LIMITRANGES;

use crate::{Refusal, Review, Verb, metadata, rules};

/// On a pod: what it was given.
const GIVEN: &str = "kubernetes.io/limit-ranger";
/// The lists of containers that are limited, and what one of them is called.
const LISTS: [(&str, &str); 2] = [("containers", "container"), ("initContainers", "init container")];

/// Gives the containers of a new pod what they leave out, and the pod the class that it has then.
pub(crate) fn fill(snapshot: &Snapshot, review: &mut Review<'_>) {
    let (kind, Some(pod)) = (review.kind, &mut review.new) else { return };
    let mut any = false;
    for range in snapshot.list_namespace(LIMITRANGES, &review.key.namespace) {
        let given = fill_by(&range.value, pod);
        if !given.is_empty() {
            any = true;
            let said = format!("LimitRanger plugin set: {}", given.join("; "));
            let metadata = pod["metadata"].as_object_mut();
            let annotations = metadata.map(|metadata| metadata.entry("annotations").or_insert(Value::Null));
            if let Some(annotations) = annotations {
                annotations[GIVEN] = said.into();
            }
        }
    }
    if any {
        if let Some(status) = pod["status"].as_object_mut() {
            status.remove("qosClass");
        }
        rules::complete(kind, pod);
    }
}

/// The defaults of one range; what was given to whom.
fn fill_by(range: &Value, pod: &mut Value) -> Vec<String> {
    let mut said = Vec::new();
    let (requests, limits) = (defaults(range, "defaultRequest"), defaults(range, "default"));
    for (list, word) in LISTS {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            let name = container["name"].as_str().unwrap_or_default().to_owned();
            for (into, what, defaults) in [("requests", "request", &requests), ("limits", "limit", &limits)] {
                let given = give(container, into, defaults);
                if !given.is_empty() {
                    said.push(format!("{} {what} for {word} {name}", given.join(", ")));
                }
            }
        }
    }
    said
}

/// What a range gives to containers, by resource.
fn defaults<'r>(range: &'r Value, list: &str) -> Vec<(&'r str, &'r Value)> {
    let items = range["spec"]["limits"].as_array().into_iter().flatten();
    let of_containers = items.filter(|item| item["type"] == "Container");
    let given = of_containers.filter_map(|item| item[list].as_object());
    given.flatten().map(|(name, quantity)| (name.as_str(), quantity)).collect()
}

fn give<'r>(container: &mut Value, into: &str, defaults: &[(&'r str, &Value)]) -> Vec<&'r str> {
    let mut given = Vec::new();
    for (name, quantity) in defaults {
        let list = &container["resources"][into];
        if list[name].is_null() && (list.is_null() || list.is_object()) && container.is_object() {
            if !container["resources"].is_object() {
                container["resources"] = json!({});
            }
            container["resources"][into][name] = Value::clone(quantity);
            given.push(*name);
        }
    }
    given
}

/// 403 for a new pod whose containers, or which as a whole, want too much or too little.
pub(crate) fn judge_pod(snapshot: &Snapshot, review: &Review<'_>) -> Result<(), Refusal> {
    if review.verb != Verb::Create {
        return Ok(());
    }
    judge(snapshot, review, |pod, item, objections| {
        let spec = &pod["spec"];
        match item["type"].as_str() {
            Some("Container") => {
                let lists = LISTS.iter().map(|(list, _)| &spec[*list]);
                for container in lists.filter_map(Value::as_array).flatten() {
                    let amounts = |list: &str| amounts::of(&container["resources"][list]);
                    bounds(item, "Container", &amounts("requests"), &amounts("limits"), objections);
                }
            }
            Some("Pod") => {
                let amounts = |list: &str| amounts::of_pod(spec, list);
                bounds(item, "Pod", &amounts("requests"), &amounts("limits"), objections);
            }
            _ => {}
        }
    })
}

/// 403 for a claim of too much or too little storage.
pub(crate) fn judge_claim(snapshot: &Snapshot, review: &Review<'_>) -> Result<(), Refusal> {
    if review.old.is_some_and(|old| metadata::is_terminating(&old.value)) || !review.changes_desired_state() {
        return Ok(());
    }
    judge(snapshot, review, |claim, item, objections| {
        if item["type"] != "PersistentVolumeClaim" {
            return;
        }
        let requests = amounts::of(&claim["spec"]["resources"]["requests"]);
        for (name, least) in amounts::of(&item["min"]) {
            objections.extend(too_little(&name, "PersistentVolumeClaim", least, &requests, &Amounts::new()));
        }
        for (name, most) in amounts::of(&item["max"]) {
            let bound = format!("maximum {name} usage per PersistentVolumeClaim is {most}");
            match requests.get(&name) {
                None => objections.push(format!("{bound}.  No request is specified")),
                Some(request) if request.milli > most.milli => {
                    objections.push(format!("{bound}, but request is {request}"));
                }
                Some(_) => {}
            }
        }
    })
}

/// The first range that objects refuses.
fn judge(
    snapshot: &Snapshot,
    review: &Review<'_>,
    by_item: impl Fn(&Value, &Value, &mut Vec<String>),
) -> Result<(), Refusal> {
    let Some(new) = &review.new else { return Ok(()) };
    for range in snapshot.list_namespace(LIMITRANGES, &review.key.namespace) {
        let mut objections = Vec::new();
        for item in range.value["spec"]["limits"].as_array().into_iter().flatten() {
            by_item(new, item, &mut objections);
        }
        // What is said of one container is not said again of another.
        let mut said = Vec::new();
        for objection in objections {
            if !said.contains(&objection) {
                said.push(objection);
            }
        }
        match said.as_slice() {
            [] => {}
            [one] => return Err(Refusal::forbidden(review.kind, review.name(), one)),
            several => {
                let why = format!("[{}]", several.join(", "));
                return Err(Refusal::forbidden(review.kind, review.name(), &why));
            }
        }
    }
    Ok(())
}

/// What is wrong with what a container or a pod wants.
fn bounds(item: &Value, of: &str, requests: &Amounts, limits: &Amounts, objections: &mut Vec<String>) {
    for (name, least) in amounts::of(&item["min"]) {
        objections.extend(too_little(&name, of, least, requests, limits));
    }
    for (name, most) in amounts::of(&item["max"]) {
        objections.extend(too_much(&name, of, most, requests, limits));
    }
    for (name, most) in amounts::of(&item["maxLimitRequestRatio"]) {
        objections.extend(too_far_apart(&name, of, most, requests, limits));
    }
}

fn too_little(name: &str, of: &str, least: Amount, requests: &Amounts, limits: &Amounts) -> Option<String> {
    let bound = format!("minimum {name} usage per {of} is {least}");
    let Some(request) = requests.get(name) else { return Some(format!("{bound}.  No request is specified")) };
    if request.milli < least.milli {
        return Some(format!("{bound}, but request is {request}"));
    }
    let limit = limits.get(name).filter(|limit| limit.milli < least.milli)?;
    Some(format!("{bound}, but limit is {limit}"))
}

fn too_much(name: &str, of: &str, most: Amount, requests: &Amounts, limits: &Amounts) -> Option<String> {
    let bound = format!("maximum {name} usage per {of} is {most}");
    let Some(limit) = limits.get(name) else { return Some(format!("{bound}.  No limit is specified")) };
    if limit.milli > most.milli {
        return Some(format!("{bound}, but limit is {limit}"));
    }
    let request = requests.get(name).filter(|request| request.milli > most.milli)?;
    Some(format!("{bound}, but request is {request}"))
}

fn too_far_apart(name: &str, of: &str, most: Amount, requests: &Amounts, limits: &Amounts) -> Option<String> {
    let bound = format!("{name} max limit to request ratio per {of} is {most}");
    let positive =
        |amounts: &Amounts| amounts.get(name).map(|amount| amount.milli).filter(|milli| *milli > 0);
    let Some(request) = positive(requests) else {
        return Some(format!("{bound}, but no request is specified or request is 0"));
    };
    let Some(limit) = positive(limits) else {
        return Some(format!("{bound}, but no limit is specified or limit is 0"));
    };
    if limit.saturating_mul(1000) <= most.milli.saturating_mul(request) {
        return None;
    }
    let millionths = limit.saturating_mul(1_000_000) / request;
    Some(format!("{bound}, but provided ratio is {}.{:06}", millionths / 1_000_000, millionths % 1_000_000))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "limits_tests.rs"]
mod tests;
