//! Who manages which field of what is written: `metadata.managedFields`.
//!
//! What clients write is tracked. What the controller and nodes write is tracked in objects that are, because it takes
//! fields from their managers; an object of which nobody is known is one that was there before the first apply. The status
//! that they report is tracked once somebody else manages a part of it: until then it is theirs, and says so when
//! somebody applies to it.

use std::borrow::Cow;

use jiff::Timestamp;
use serde_json::{Value, json};
use warren_fields::{
    Conflict, Conflicts, Element, Manager, Managers, Operation, Set, Versions, Write, apply, check, compare,
    set_of, update,
};
use warren_objects::{Registry, kinds::Kind, schema::Fields, strict};
use warren_state::Snapshot;

use crate::{Author, Refusal, Review, Scope, Verb, metadata};

/// Who managed what before anybody applied.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// Whose status is nobody else's.
const CONTROLLER: &str = "warren-controller";
/// Who applies in two ways: what it applied on its side is not in conflict with what it applies here.
const KUBECTL: &str = "kubectl";
/// What kubectl applied on its side.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Annotations have room for that much in all.
const MOST_ANNOTATIONS: usize = 256 * 1024;

/// What a write does to who manages what.
#[derive(Debug)]
pub(crate) enum Tracking {
    /// Nothing.
    Nothing,
    /// Whoever writes takes what it changes; through a subresource or none.
    Update(&'static str),
    /// It is known.
    Applied(Managers),
}

/// What tracking needs to know beside the write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) registry: &'a Registry,
    pub(crate) now: Option<Timestamp>,
}

/// A kind in its versions.
struct Served<'a> {
    registry: &'a Registry,
    kind: &'a Kind,
}

impl Served<'_> {
    fn find(&self, api_version: &str) -> Option<&Kind> {
        let is_it = |kind: &Kind| kind.resource == self.kind.resource && kind.api_version() == api_version;
        if is_it(self.kind) {
            return Some(self.kind);
        }
        self.registry.kinds().iter().find(|kind| is_it(kind)).map(AsRef::as_ref)
    }
}

impl Versions for Served<'_> {
    fn fields(&self, api_version: &str) -> Option<Fields<'_>> {
        self.find(api_version).map(Kind::schema)
    }

    fn convert(&self, object: &Value, from: &str, to: &str) -> Option<Value> {
        let (from, to) = (self.find(from)?, self.find(to)?);
        let stored = from.stored(object).unwrap_or_else(|| object.clone());
        Some(to.shown(&stored).unwrap_or(stored))
    }
}

/// The step of the chain.
pub(crate) fn track(_: &Snapshot, review: &mut Review<'_>) -> Result<(), Refusal> {
    let tracking = std::mem::replace(&mut review.tracking, Tracking::Nothing);
    let (kind, old, context) = (review.kind, review.old.map(|old| &*old.value), review.context);
    let is_client = review.is_by_client();
    let (author, verb) = (review.author, review.verb);
    let Some(new) = &mut review.new else { return Ok(()) };
    match tracking {
        Tracking::Applied(managers) => put(old, new, &managers),
        Tracking::Update(subresource) if is_client => {
            let managers = match known(old, new, !subresource.is_empty()) {
                Some(managers) if verb == Verb::Create || !managers.is_empty() => {
                    let reaches = reach(kind, subresource);
                    updated(context, author, kind, subresource, (old, new), &reaches, managers)
                }
                _ => Managers::default(),
            };
            put(old, new, &managers);
        }
        Tracking::Update(_) => follow(context, author, kind, verb, old, new),
        Tracking::Nothing => {}
    }
    Ok(())
}

/// Which first elements a client's write can change.
fn reach(kind: &Kind, subresource: &str) -> impl Fn(&Element) -> bool {
    let (is_status, has_status) = (subresource == "status", kind.has_status);
    move |element| match element.name() {
        Some("status") => is_status || !has_status,
        Some("metadata") => true,
        _ => !is_status,
    }
}

/// Who managed what before a client's update: as the client says, unless it says nothing that can be read. `None`: it
/// wants it forgotten.
fn known(old: Option<&Value>, new: &Value, is_subresource: bool) -> Option<Managers> {
    let Some(old) = old else { return Some(Managers::default()) };
    let stated = &new["metadata"]["managedFields"];
    if !is_subresource {
        let is_bare = |item: &Value| item.as_object().is_some_and(serde_json::Map::is_empty);
        match stated.as_array().map(Vec::as_slice) {
            Some([]) => return None,
            Some([item]) if is_bare(item) => return None,
            _ => {}
        }
        if let Ok(managers) = Managers::of_json(stated)
            && !managers.is_empty()
        {
            return Some(managers);
        }
    }
    Some(of(old))
}

/// Who manages what of a stored object. What was stored by other rules and cannot be read is nothing.
fn of(object: &Value) -> Managers {
    Managers::of_json(&object["metadata"]["managedFields"]).unwrap_or_default()
}

fn shown<'v>(kind: &Kind, stored: &'v Value) -> Cow<'v, Value> {
    kind.shown(stored).map_or(Cow::Borrowed(stored), Cow::Owned)
}

fn updated(
    context: Context<'_>,
    author: Author<'_>,
    kind: &Kind,
    subresource: &str,
    (old, new): (Option<&Value>, &Value),
    reaches: &dyn Fn(&Element) -> bool,
    managers: Managers,
) -> Managers {
    let version = kind.api_version();
    let write = Write {
        versions: &Served { registry: context.registry, kind },
        api_version: &version,
        manager: Manager::new(author.manager, Operation::Update, &version, subresource),
        reaches,
        time: context.now.map(metadata::timestamp),
    };
    let nothing = json!({});
    let old = old.map_or(Cow::Borrowed(&nothing), |old| shown(kind, old));
    update(&write, &old, &shown(kind, new), managers)
}

/// What the controller or a node changes in an object whose managers are known.
fn follow(
    context: Context<'_>,
    author: Author<'_>,
    kind: &Kind,
    verb: Verb,
    old: Option<&Value>,
    new: &mut Value,
) {
    let Some(old) = old else { return };
    let managed = &old["metadata"]["managedFields"];
    let entries = managed.as_array().map(Vec::as_slice).unwrap_or_default();
    if entries.is_empty() {
        return;
    }
    if new["metadata"]["managedFields"] != *managed {
        metadata::of(new).insert("managedFields".into(), managed.clone());
    }
    let has_status = entries.iter().any(|entry| !entry["fieldsV1"]["f:status"].is_null());
    let is_status = verb == Verb::UpdateStatus;
    if matches!(verb, Verb::Bind | Verb::Delete) || is_status && !has_status {
        return;
    }
    let reaches = |element: &Element| has_status || element.name() != Some("status");
    let subresource = if is_status { "status" } else { "" };
    let managers = updated(context, author, kind, subresource, (Some(old), new), &reaches, of(old));
    put(Some(old), new, &managers);
}

/// Writes down who manages what. When nothing else changes but moments, these do not either.
fn put(old: Option<&Value>, new: &mut Value, managers: &Managers) {
    let metadata = metadata::of(new);
    metadata.remove("managedFields");
    if managers.is_empty() {
        return;
    }
    let json = managers.to_json();
    let before = old.map(|old| &old["metadata"]["managedFields"]);
    if let Some(before) = before.filter(|before| differ_in_time_alone(before, &json)) {
        metadata.insert("managedFields".into(), before.clone());
        if old == Some(&*new) {
            return;
        }
    }
    metadata::of(new).insert("managedFields".into(), json);
}

fn differ_in_time_alone(before: &Value, now: &Value) -> bool {
    let (Some(before), Some(now)) = (before.as_array(), now.as_array()) else { return false };
    let timeless = |entry: &Value| {
        let mut entry = entry.clone();
        entry.as_object_mut().map(|map| map.remove("time"));
        entry
    };
    before.len() == now.len() && before.iter().zip(now).all(|(a, b)| timeless(a) == timeless(b))
}

/// A configuration that a client applies.
pub(crate) struct Applied<'a> {
    pub(crate) context: Context<'a>,
    pub(crate) author: Author<'a>,
    pub(crate) kind: &'a Kind,
    pub(crate) scope: Scope,
    pub(crate) force: bool,
}

impl Applied<'_> {
    /// What becomes of an object, in the version in which it is stored, and who manages what then.
    pub(crate) fn to(
        &self,
        old: Option<&Value>,
        name: (&str, &str),
        configuration: &Value,
    ) -> Result<(Value, Managers), Refusal> {
        let kind = self.kind;
        if !configuration["metadata"]["managedFields"].is_null() {
            return Err(Refusal::bad_request("metadata.managedFields must be nil"));
        }
        let version = kind.api_version();
        check(kind.schema(), configuration).map_err(|fault| not_typed(kind, name, &fault.to_string()))?;
        let reaches = reach(kind, self.scope.subresource());
        let write = Write {
            versions: &Served { registry: self.context.registry, kind },
            api_version: &version,
            manager: Manager::new(self.author.manager, Operation::Apply, &version, self.scope.subresource()),
            reaches: &reaches,
            time: self.context.now.map(metadata::timestamp),
        };
        let mut live = match old {
            Some(old) => shown(kind, old).into_owned(),
            None => json!({"apiVersion": version, "kind": kind.kind, "metadata": {}}),
        };
        let managers = self.before(old, &live);
        metadata::of(&mut live).remove("managedFields");
        let (mut object, managers) = match apply(&write, &live, configuration, managers.clone(), self.force) {
            Ok(applied) => applied,
            Err(conflicts) if self.author.manager == KUBECTL => {
                let left = self.beyond_last_applied(&live, conflicts);
                self.refuse(left)?;
                apply(&write, &live, configuration, managers, true).map_err(|all| self.refusal(all))?
            }
            Err(conflicts) => return Err(self.refusal(conflicts)),
        };
        if self.author.manager == KUBECTL {
            note_last_applied(&mut object, configuration);
        }
        strict::strip_nulls_of(kind, &mut object);
        Ok((kind.stored(&object).unwrap_or(object), managers))
    }

    /// Who manages what before it is applied: whatever is there without a manager has one now.
    fn before(&self, old: Option<&Value>, live: &Value) -> Managers {
        let Some(old) = old else { return Managers::default() };
        let subresource = self.scope.subresource();
        let mut managers = of(old);
        if managers.is_empty() {
            let author = Author { manager: BEFORE_FIRST_APPLY, ..self.author };
            let reaches = reach(self.kind, subresource);
            managers = updated(self.context, author, self.kind, subresource, (None, old), &reaches, managers);
        }
        if self.scope == Scope::Status && self.kind.message().is_some() {
            self.own_status(live, &mut managers);
        }
        managers
    }

    /// The status that nobody manages is the controller's.
    fn own_status(&self, live: &Value, managers: &mut Managers) {
        let version = self.kind.api_version();
        let all = compare(self.kind.schema(), &json!({}), live).written();
        let status = all.only(|element| element.name() == Some("status"));
        let managed = managers.0.values().fold(Set::default(), |all, entry| all.union(&entry.fields));
        let fields = status.difference(&managed);
        if fields.is_empty() {
            return;
        }
        let manager = Manager::new(CONTROLLER, Operation::Update, &version, "status");
        let time = self.context.now.map(metadata::timestamp);
        let entry = managers.0.entry(manager).or_insert_with(|| warren_fields::Entry {
            fields: Set::default(),
            api_version: version,
            time,
        });
        entry.fields = std::mem::take(&mut entry.fields).union(&fields);
    }

    /// The conflicts about something else than what kubectl applied on its side and nobody changed since.
    fn beyond_last_applied(&self, live: &Value, conflicts: Conflicts) -> Conflicts {
        let schema = self.kind.schema();
        let text = live["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap_or_default();
        let Some(last) = serde_json::from_str::<Value>(text).ok().filter(Value::is_object) else {
            return conflicts;
        };
        if last["apiVersion"] != *self.kind.api_version() {
            return conflicts;
        }
        let since = compare(schema, &last, live);
        let same = set_of(schema, &last).difference(&since.written()).difference(&since.removed);
        Conflicts(conflicts.0.into_iter().filter(|Conflict { path, .. }| !same.has(&path.0)).collect())
    }

    fn refuse(&self, conflicts: Conflicts) -> Result<(), Refusal> {
        if conflicts.0.is_empty() { Ok(()) } else { Err(self.refusal(conflicts)) }
    }

    fn refusal(&self, mut conflicts: Conflicts) -> Refusal {
        if self.scope == Scope::Scale {
            for Conflict { manager, .. } in &mut conflicts.0 {
                "autoscaling/v1".clone_into(&mut manager.api_version);
            }
        }
        let refusal = Refusal::apply_conflict(conflicts.to_string());
        conflicts.0.iter().fold(refusal, |refusal, Conflict { manager, path }| {
            let message = format!("conflict with {manager}");
            refusal.with_cause("FieldManagerConflict", message, &path.to_string())
        })
    }
}

/// 400 for a configuration that is not of its kind.
pub(crate) fn not_typed(kind: &Kind, (namespace, name): (&str, &str), why: &str) -> Refusal {
    let place = if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") };
    let (version, kind) = (kind.api_version(), &kind.kind);
    Refusal::bad_request(format!(
        "failed to create typed patch object ({place}; {version}, Kind={kind}): {why}"
    ))
}

/// Keeps what kubectl finds when it applies on its side again.
fn note_last_applied(object: &mut Value, configuration: &Value) {
    let annotations = &object["metadata"]["annotations"];
    if annotations[LAST_APPLIED].as_str().is_none_or(str::is_empty) {
        return;
    }
    let mut bare = configuration.clone();
    if let Some(annotations) = bare["metadata"]["annotations"].as_object_mut() {
        annotations.remove(LAST_APPLIED);
    }
    if let Some(annotations) = object["metadata"]["annotations"].as_object_mut() {
        annotations.insert(LAST_APPLIED.to_owned(), format!("{bare}\n").into());
        let text = |value: &Value| value.as_str().map_or(0, str::len);
        let size: usize =
            annotations.iter().map(|(name, value)| name.len().saturating_add(text(value))).sum();
        if size > MOST_ANNOTATIONS {
            annotations.remove(LAST_APPLIED);
        }
    }
}
