//! How many pods should there be? Whoever controls those that a budget is about says it by its scale.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::Value;
use warren_objects::{DEFINITIONS, kinds::Kind};
use warren_state::{Key, Object, at};

use crate::{
    object,
    sets::MOST,
    view::{PodView, View},
};
use warren_vocabulary::resources::{DEPLOYMENTS, REPLICASETS};

/// The sum of the scales of all who control pods, each once, and how many pods nobody controls.
pub(super) fn scale(view: &View<'_>, pods: &[PodView<'_>]) -> Result<(i64, usize), String> {
    let (mut scales, mut seen, mut unmanaged) = (BTreeMap::new(), BTreeSet::new(), 0);
    for pod in pods {
        let owners = pod.metadata.owner_references.iter().flatten();
        let Some(owner) = owners.into_iter().find(|owner| owner.controller == Some(true)) else {
            unmanaged += 1;
            continue;
        };
        if seen.insert(owner.uid.clone()) {
            let (uid, replicas) = controller(view, pod, owner)?;
            scales.insert(uid, replicas);
        }
    }
    let sum = scales.values().fold(0_i64, |sum, replicas| sum.saturating_add(*replicas));
    Ok((sum.min(MOST), unmanaged))
}

/// The uid and the scale of what controls a pod in the end: a deployment for its replica sets.
fn controller(view: &View<'_>, pod: &PodView<'_>, owner: &OwnerReference) -> Result<(String, i64), String> {
    let (api_version, kind) = (&owner.api_version, &owner.kind);
    let named = view.registry.named(api_version, kind);
    let kind = named.ok_or_else(|| format!("no matches for kind \"{kind}\" in version \"{api_version}\""))?;
    let (path, default) = replicas_path(view, kind)
        .ok_or_else(|| format!("{} does not implement the scale subresource", kind.resource))?;
    let namespace = if kind.namespaced { pod.namespace() } else { "" };
    let found = living(view, &Key::new(&kind.resource, namespace, &owner.name), &owner.uid);
    let found = found.ok_or_else(|| format!("found no controllers for pod \"{}\"", pod.name()))?;
    if &*kind.resource == REPLICASETS
        && let Some(deployment) = deployment(view, found)
    {
        return Ok((object::uid(deployment).to_owned(), replicas(deployment, "/spec/replicas", 1)));
    }
    Ok((owner.uid.clone(), replicas(found, &path, default)))
}

/// The deployment of a replica set, if it is there.
fn deployment<'a>(view: &View<'a>, set: &Object) -> Option<&'a Object> {
    let text = |owner: &'_ Value, field: &str| owner.get(field)?.as_str().map(str::to_owned);
    let owner = object::owners(set).find(|owner| owner.get("controller") == Some(&Value::Bool(true)))?;
    if text(owner, "kind")? != "Deployment" {
        return None;
    }
    let key = Key::new(DEPLOYMENTS, &set.key.namespace, &text(owner, "name")?);
    living(view, &key, object::owner_uid(owner))
}

/// The object of a name, if it is the one of this uid.
fn living<'a>(view: &View<'a>, key: &Key, uid: &str) -> Option<&'a Object> {
    view.read(key).map(|object| &**object).filter(|object| object::uid(object) == uid)
}

/// Where objects of a kind say how many they want, and what it means if they do not; nothing where they have no scale.
fn replicas_path(view: &View<'_>, kind: &Kind) -> Option<(String, i64)> {
    if kind.subresource("scale").is_some() {
        return Some(("/spec/replicas".to_owned(), 1));
    }
    let definition = view.read(&Key::new(DEFINITIONS, "", &kind.resource))?;
    let versions = at(&definition.value, "/spec/versions")?.as_array()?;
    let version = versions.iter().find(|version| version.get("storage") == Some(&Value::Bool(true)))?;
    let path = at(version, "/subresources/scale/specReplicasPath")?.as_str()?;
    Some((path.replace('.', "/"), 0))
}

fn replicas(object: &Object, path: &str, default: i64) -> i64 {
    at(&object.value, path).and_then(Value::as_i64).unwrap_or(default).clamp(0, MOST)
}
