//! Which templates has a set had? A ControllerRevision holds each of them: the one with the present template is found
//! among them (then it is a rollback, and becomes the newest), or made.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::{Map, Value, json};
use warren_objects::schema;
use warren_state::{Key, Object, Precondition, Transaction, at};

use crate::{
    indexes::By,
    object,
    outcome::Outcome,
    selector,
    sets::{self, Owner},
    view::View,
};
use warren_vocabulary::resources::CONTROLLERREVISIONS;

/// On pods, and on the revisions of daemon sets: which template they are of.
pub(crate) const REVISION_LABEL: &str = "controller-revision-hash";
/// On the revisions of stateful sets: the hash in their name.
pub(crate) const HASH_LABEL: &str = "controller.kubernetes.io/hash";
/// On a template as data: it takes the place of the whole other template.
const DIRECTIVE: &str = "$patch";
/// Annotations of a set that are not the template's.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// How many letters of hash a name has.
const HASH_LENGTH: usize = 10;

/// One template that a set has had.
pub(crate) struct Revision<'a> {
    pub(crate) object: &'a Arc<Object>,
    number: i64,
}

impl Revision<'_> {
    /// What it is called.
    pub(crate) fn name(&self) -> &str {
        &self.object.key.name
    }

    /// The hash that its label bears or, if somebody has removed that, its name ends with.
    pub(crate) fn hash(&self, label: &str) -> &str {
        let labelled = object::label(&self.object.value, label).filter(|hash| !hash.is_empty());
        labelled.unwrap_or_else(|| self.name().rsplit('-').next().unwrap_or_default())
    }

    /// The pod template.
    pub(crate) fn template(&self) -> Value {
        let mut template = at(&self.object.value, "/data/spec/template").cloned().unwrap_or_default();
        object::object_at(&mut template, &[]).remove(DIRECTIVE);
        template
    }
}

/// The templates of a set.
pub(crate) struct History<'a> {
    /// All that it owns, the oldest first.
    pub(crate) revisions: Vec<Revision<'a>>,
    /// Those with the present template, of which the last is the one that new pods are of.
    equal: Vec<usize>,
}

impl<'a> History<'a> {
    /// The history with the present template in it. Nothing while that has to be made first, or orphans to be adopted.
    pub(crate) fn of(
        view: &View<'a>,
        owner: &Owner<'a>,
        selector: &LabelSelector,
        label: &'static str,
        outcome: &mut Outcome<'_>,
    ) -> Option<Self> {
        if adopts(view, owner, selector, outcome) {
            return None;
        }
        let mut history = Self::read(view, owner.object);
        let template = written(at(&owner.object.value, "/spec/template").unwrap_or(&Value::Null));
        history.equal = history.find(&owner.object.key.resource, &template);
        let newest = history.revisions.last().map_or(0, |revision| revision.number);
        match history.equal.last().and_then(|last| history.revisions.get(*last)) {
            Some(found) if found.number < newest => {
                renumber(found, owner, newest.saturating_add(1), outcome);
                Some(history)
            }
            Some(_) => Some(history),
            None => {
                make(view, owner, &template, label, newest.saturating_add(1), outcome);
                None
            }
        }
    }

    fn read(view: &View<'a>, set: &Object) -> Self {
        let mut revisions: Vec<Revision<'a>> = view
            .indexes
            .of(By::RevisionController, object::uid(set))
            .filter(|object| !object::is_deleting(object))
            .map(|object| Revision { object, number: number(object) })
            .collect();
        revisions.sort_by_key(|revision| {
            (revision.number, object::created_at(revision.object), revision.object.key.clone())
        });
        Self { revisions, equal: Vec::new() }
    }

    /// Where the revisions with a template are, which is as it is written into them.
    fn find(&self, resource: &str, template: &Value) -> Vec<usize> {
        let alike = |same: &dyn Fn(Value) -> bool| -> Vec<usize> {
            let all = self.revisions.iter().enumerate();
            all.filter(|(_, revision)| same(revision.template())).map(|(index, _)| index).collect()
        };
        let text = object::canonical(template);
        let found = alike(&|other| other == *template || object::canonical(&other) == text);
        if !found.is_empty() {
            return found;
        }
        // One of an older version, or of somebody else, lacks what is filled in today.
        let text = completed(resource, template.clone());
        alike(&|other| completed(resource, other) == text)
    }

    /// The revision with the present template.
    pub(crate) fn present(&self) -> Option<&Revision<'a>> {
        self.equal.last().and_then(|last| self.revisions.get(*last))
    }

    /// All revisions with the present template: somebody may have copied one.
    pub(crate) fn equals(&self) -> impl Iterator<Item = &Revision<'a>> {
        self.equal.iter().filter_map(|index| self.revisions.get(*index))
    }

    /// The revision of a name.
    pub(crate) fn named(&self, name: &str) -> Option<&Revision<'a>> {
        self.revisions.iter().find(|revision| revision.name() == name)
    }

    /// Removes the oldest revisions of which there are no pods, beyond the history that is kept.
    pub(crate) fn forget(
        &self,
        view: &View<'_>,
        limit: Option<i32>,
        lives: impl Fn(&Revision<'_>) -> bool,
        outcome: &mut Outcome<'_>,
    ) {
        let limit = usize::try_from(limit.unwrap_or(10)).unwrap_or(0);
        let present: BTreeSet<&str> = self.equals().map(Revision::name).collect();
        let old = self.revisions.iter().filter(|other| !present.contains(other.name()) && !lives(other));
        let old: Vec<_> = old.collect();
        for revision in old.iter().take(old.len().saturating_sub(limit)) {
            if let Some(transaction) = object::delete(revision.object, view.now) {
                outcome.step(format!("forget {}", revision.object.key), transaction);
            }
        }
    }
}

fn number(revision: &Object) -> i64 {
    revision.value.get("revision").and_then(Value::as_i64).unwrap_or(0)
}

/// A template as clients in Go write it, which find out by its bytes whether it is the one of a revision.
fn written(template: &Value) -> Value {
    match schema::message("k8s.io.api.core.v1", "PodTemplateSpec") {
        Some(message) => schema::as_written(message, template),
        None => template.clone(),
    }
}

/// A template as text that is equal for equal templates, with what would be filled in.
fn completed(resource: &str, template: Value) -> String {
    let mut set = json!({ "spec": { "template": template } });
    if let Some(kind) = warren_objects::kinds::of(resource) {
        warren_objects::defaults::apply(kind, &mut set);
    }
    object::canonical(&written(at(&set, "/spec/template").unwrap_or(&Value::Null)))
}

/// Takes revisions that match and are nobody's; whether there are any.
fn adopts(view: &View<'_>, owner: &Owner<'_>, selector: &LabelSelector, outcome: &mut Outcome<'_>) -> bool {
    let set = owner.object;
    let prepared = selector::Prepared::new(selector);
    let mut adopted = false;
    for orphan in view.indexes.of(By::RevisionNamespace, &set.key.namespace) {
        let labels = at(&orphan.value, "/metadata/labels").and_then(Value::as_object);
        let labels: selector::Labels = labels
            .into_iter()
            .flatten()
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .collect();
        if object::is_deleting(orphan) || !prepared.matches(&labels) {
            continue;
        }
        let Some(value) = object::edited(orphan, |value| object::adopt(value, set)) else { continue };
        let mut transaction = Transaction::new().replace(orphan.key.clone(), orphan.revision, value);
        transaction.preconditions.push(Precondition::Exists(set.key.clone()));
        outcome.step(format!("adopt {} by {}", orphan.key, set.key.name), transaction);
        adopted = true;
    }
    adopted
}

/// A rollback: the template that was had before is the newest again.
fn renumber(revision: &Revision<'_>, owner: &Owner<'_>, number: i64, outcome: &mut Outcome<'_>) {
    let changed = |value: &mut Value| {
        object::object_at(value, &[]).insert("revision".into(), number.into());
    };
    if let Some(value) = object::edited(revision.object, changed) {
        let (key, at) = (revision.object.key.clone(), revision.object.revision);
        let mut transaction = Transaction::new().replace(key, at, value);
        transaction.preconditions.push(unchanged(owner));
        outcome.step(format!("{} is revision {number}", revision.object.key), transaction);
    }
}

/// What was decided holds only for the set that it was decided for.
pub(crate) fn unchanged(owner: &Owner<'_>) -> Precondition {
    Precondition::Revision(owner.object.key.clone(), owner.object.revision)
}

fn make(
    view: &View<'_>,
    owner: &Owner<'_>,
    template: &Value,
    label: &'static str,
    number: i64,
    outcome: &mut Outcome<'_>,
) {
    let set = owner.object;
    let collisions = at(&set.value, "/status/collisionCount").and_then(Value::as_i64).unwrap_or(0).max(0);
    let hash = object::letters(&[&object::canonical(template), &collisions.to_string()], HASH_LENGTH);
    let name = format!("{}-{hash}", set.key.name);
    let key = Key::new(CONTROLLERREVISIONS, &set.key.namespace, &name);
    if view.exists(&key) {
        // One that is going away makes room soon; another one never does.
        if view.read(&key).is_none_or(|existing| !sets::makes_room(view, existing)) {
            let value = object::edited(set, |value| {
                let count = collisions.saturating_add(1).min(i64::from(i32::MAX));
                object::object_at(value, &["status"]).insert("collisionCount".into(), count.into());
            });
            if let Some(value) = value {
                let transaction = Transaction::new().replace(set.key.clone(), set.revision, value);
                outcome.step(format!("{name} is taken"), transaction);
            }
        }
        return;
    }
    let value = revision(view, set, &key, template, (label, &hash), number);
    let mut transaction = Transaction::new().create(key, value);
    transaction.preconditions.push(unchanged(owner));
    outcome.step(format!("{} has the new template {name}", set.key), transaction);
}

fn revision(
    view: &View<'_>,
    set: &Object,
    key: &Key,
    template: &Value,
    (label, hash): (&str, &str),
    number: i64,
) -> Value {
    let mut labels = at(template, "/metadata/labels").cloned().unwrap_or_default();
    object::object_at(&mut labels, &[]).insert(label.to_owned(), hash.into());
    let annotations = at(&set.value, "/metadata/annotations").and_then(Value::as_object);
    let annotations: Map<String, Value> = annotations
        .into_iter()
        .flatten()
        .filter(|(name, _)| *name != LAST_APPLIED)
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let mut template = template.clone();
    object::object_at(&mut template, &[]).insert(DIRECTIVE.into(), "replace".into());
    let at = view.world.snapshot.revision.to_string();
    let mut value = json!({
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": &*key.name,
            "namespace": &*key.namespace,
            "uid": object::uuid(&["controllerrevision", object::uid(set), &key.name, &at]),
            "creationTimestamp": object::time_text(view.now),
            "labels": labels,
            "ownerReferences": [object::controller_reference(set)],
        },
        "data": { "spec": { "template": template } },
        "revision": number,
    });
    if !annotations.is_empty() {
        object::object_at(&mut value, &["metadata"]).insert("annotations".into(), annotations.into());
    }
    value
}
