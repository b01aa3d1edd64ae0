//! What a write does to who manages what.

use std::{collections::BTreeMap, fmt};

use serde_json::Value;
use warren_objects::schema::Fields;

use crate::{
    Comparison, Entry, Manager, Managers, compare,
    managers::Operation,
    merge::merge,
    place::set_of,
    remove::{named, remove},
    set::{Element, Path, Set},
};

/// The versions that a kind is served in.
pub trait Versions {
    /// The fields of a version; `None` for one that is not served.
    fn fields(&self, api_version: &str) -> Option<Fields<'_>>;

    /// An object of one version in another.
    fn convert(&self, object: &Value, from: &str, to: &str) -> Option<Value>;
}

/// A write.
pub struct Write<'a> {
    /// The versions of the kind.
    pub versions: &'a dyn Versions,
    /// The version that is written in.
    pub api_version: &'a str,
    /// Who writes.
    pub manager: Manager,
    /// Which first elements the write can reach: what it cannot is no matter of the manager's.
    pub reaches: &'a dyn Fn(&Element) -> bool,
    /// When, as it is written down.
    pub time: Option<String>,
}

/// A field that somebody else manages and has another value for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Who.
    pub manager: Manager,
    /// Which.
    pub path: Path,
}

/// Why a configuration is not applied. Not empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Conflicts(pub Vec<Conflict>);

/// `"x" with subresource "scale" using apps/v1`.
impl fmt::Display for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.name)?;
        if !self.subresource.is_empty() {
            write!(f, " with subresource {:?}", self.subresource)?;
        }
        if self.operation == Operation::Update { write!(f, " using {}", self.api_version) } else { Ok(()) }
    }
}

/// As Kubernetes says it.
impl fmt::Display for Conflicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [Conflict { manager, path }] = self.0.as_slice() {
            return write!(f, "Apply failed with 1 conflict: conflict with {manager}: {path}");
        }
        let mut lines = Vec::new();
        let mut last = None;
        for Conflict { manager, path } in &self.0 {
            if last.replace(manager) != Some(manager) {
                lines.push(format!("conflicts with {manager}:"));
            }
            lines.push(format!("- {path}"));
        }
        write!(f, "Apply failed with {} conflicts: {}", self.0.len(), lines.join("\n"))
    }
}

/// What a write that is no apply makes of who manages what: who writes a field manages it, and nobody else.
pub fn update(write: &Write<'_>, old: &Value, new: &Value, mut managers: Managers) -> Managers {
    let Some(fields) = write.versions.fields(write.api_version) else { return managers };
    let found = compare(fields, old, new).only(write.reaches);
    let lost = losses(write, &found, (old, new), &mut managers, None);
    take(&mut managers, lost);
    let taken = found.written().difference(&never_managed());
    if !taken.is_empty() {
        let entry = managers.0.entry(write.manager.clone()).or_insert_with(|| entry(write, Set::default()));
        entry.fields = std::mem::take(&mut entry.fields).union(&taken);
        entry.time.clone_from(&write.time);
    }
    managers.cap();
    managers
}

/// Applies a configuration to the live object: what becomes of it, and who manages what then. What the manager applied
/// before and no longer applies goes, if nobody else manages it. Fields of others with other values are conflicts, unless
/// they are taken by force.
pub fn apply(
    write: &Write<'_>,
    live: &Value,
    configuration: &Value,
    mut managers: Managers,
    force: bool,
) -> Result<(Value, Managers), Conflicts> {
    let Some(fields) = write.versions.fields(write.api_version) else { return Ok((live.clone(), managers)) };
    managers.0.retain(|_, entry| write.versions.fields(&entry.api_version).is_some());
    let merged = merge(fields, live, configuration);
    let set = set_of(fields, configuration).only(write.reaches);
    let last = managers.0.insert(write.manager.clone(), entry(write, set));
    let new = match &last {
        Some(last) => prune(write, merged, &managers, last),
        None => merged,
    };
    let found = compare(fields, live, &new).only(write.reaches);
    let lost = losses(write, &found, (live, &new), &mut managers, Some(&write.manager));
    let conflicts: Vec<Conflict> = lost.iter().flat_map(conflicts).collect();
    if !force && !conflicts.is_empty() {
        return Err(Conflicts(conflicts));
    }
    take(&mut managers, lost);
    if let Some(own) = managers.0.get_mut(&write.manager) {
        own.fields = std::mem::take(&mut own.fields).difference(&never_managed());
        if new == *live {
            own.time = last.and_then(|last| last.time);
        }
        if own.fields.is_empty() {
            managers.0.remove(&write.manager);
        }
    }
    Ok((new, managers))
}

fn entry(write: &Write<'_>, fields: Set) -> Entry {
    Entry { fields, api_version: write.api_version.to_owned(), time: write.time.clone() }
}

/// What nobody manages but the server.
fn never_managed() -> Set {
    const METADATA: [&str; 9] = [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    ];
    let mut set = Set::default();
    ["apiVersion", "kind", "metadata"].iter().for_each(|name| set.insert(&[Element::field(name)]));
    METADATA.iter().for_each(|name| set.insert(&[Element::field("metadata"), Element::field(name)]));
    set
}

/// What a manager loses by a write.
struct Loss {
    manager: Manager,
    /// They have another value now.
    overwritten: Set,
    /// They are no longer there.
    removed: Set,
}

/// What the managers lose, but for one. Those whose version is no longer served are forgotten.
fn losses(
    write: &Write<'_>,
    found: &Comparison,
    (old, new): (&Value, &Value),
    managers: &mut Managers,
    but: Option<&Manager>,
) -> Vec<Loss> {
    let versions = write.versions;
    managers.0.retain(|_, entry| versions.fields(&entry.api_version).is_some());
    let mut known: BTreeMap<String, (Set, Set)> = BTreeMap::new();
    known.insert(write.api_version.to_owned(), (found.written(), found.removed.clone()));
    let mut losses = Vec::new();
    for (manager, entry) in managers.0.iter().filter(|(manager, _)| Some(*manager) != but) {
        let version = &entry.api_version;
        let (written, removed) = known.entry(version.clone()).or_insert_with(|| {
            let other = |object| versions.convert(object, write.api_version, version);
            let both = versions.fields(version).zip(other(old).zip(other(new)));
            let found = both.map(|(fields, (old, new))| compare(fields, &old, &new).only(write.reaches));
            let found = found.unwrap_or_default();
            (found.written(), found.removed)
        });
        let overwritten = entry.fields.intersection(written);
        let removed = entry.fields.intersection(removed);
        if !overwritten.is_empty() || !removed.is_empty() {
            losses.push(Loss { manager: manager.clone(), overwritten, removed });
        }
    }
    losses
}

fn take(managers: &mut Managers, losses: Vec<Loss>) {
    for Loss { manager, overwritten, removed } in losses {
        if let Some(entry) = managers.0.get_mut(&manager) {
            entry.fields = std::mem::take(&mut entry.fields).difference(&overwritten).difference(&removed);
        }
    }
    managers.0.retain(|_, entry| !entry.fields.is_empty());
}

fn conflicts(loss: &Loss) -> Vec<Conflict> {
    let paths = loss.overwritten.paths().into_iter();
    paths.map(|path| Conflict { manager: loss.manager.clone(), path }).collect()
}

/// The merged object without what its manager applied last and does not apply now. What anybody manages stays, and so does
/// what nobody said it had applied.
fn prune(write: &Write<'_>, merged: Value, managers: &Managers, last: &Entry) -> Value {
    let versions = write.versions;
    let then = &last.api_version;
    let Some(fields) = versions.fields(then) else { return merged };
    let in_version = |object: &Value, from: &str, to: &str| {
        if from == to { Some(object.clone()) } else { versions.convert(object, from, to) }
    };
    let Some(merged_then) = in_version(&merged, write.api_version, then) else { return merged };
    let mut pruned = remove(fields, &merged_then, &named(fields, &last.fields));
    let mut owned: BTreeMap<&str, Set> = BTreeMap::new();
    for entry in managers.0.values() {
        let all = owned.entry(&entry.api_version).or_default();
        *all = std::mem::take(all).union(&entry.fields);
    }
    // First in the version of what was pruned, which may lack what a conversion needs.
    let mut order: Vec<&str> = owned.keys().copied().collect();
    order.sort_by_key(|version| version != then);
    for version in order {
        let Some(fields) = versions.fields(version) else { continue };
        let whole = in_version(&merged_then, then, version);
        let Some((whole, rest)) = whole.zip(in_version(&pruned, then, version)) else { continue };
        let keeps = named(fields, &set_of(fields, &rest)).union(&named(fields, &owned[version]));
        let goes = named(fields, &set_of(fields, &whole)).difference(&keeps);
        let kept = remove(fields, &whole, &goes);
        pruned = in_version(&kept, version, then).unwrap_or(pruned);
    }
    let gone =
        named(fields, &set_of(fields, &merged_then)).difference(&named(fields, &set_of(fields, &pruned)));
    let goes = gone.intersection(&named(fields, &last.fields));
    let kept = remove(fields, &merged_then, &goes);
    in_version(&kept, then, write.api_version).unwrap_or(merged)
}
