//! Nobody gives others what he does not hold himself, by a role or by a binding, unless he may `escalate` the role or
//! `bind` it. Masters, planners and nodes pass.
//!
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping>.

use serde_json::Value;
use warren_access::{Access, GROUP, Request, Resource, Rule, aggregates, grants};
use warren_state::Snapshot;
use warren_vocabulary::resources::{CLUSTERROLEBINDINGS, CLUSTERROLES, ROLEBINDINGS, ROLES};

use crate::{Actor, Refusal, Review, User, Verb};

/// The step of the chain.
pub(crate) fn judge(snapshot: &Snapshot, review: &mut Review<'_>) -> Result<(), Refusal> {
    let is_about_rights =
        matches!(&*review.kind.resource, ROLES | CLUSTERROLES | ROLEBINDINGS | CLUSTERROLEBINDINGS);
    let (Actor::Client(user), Some(new), true) = (review.author.actor, &review.new, is_about_rights) else {
        return Ok(());
    };
    let is_write = matches!(review.verb, Verb::Create | Verb::Update);
    if user.is_master() || !is_write || review.old.is_some_and(|old| is_housekeeping(&old.value, new)) {
        return Ok(());
    }
    let access = review.authorities.of(snapshot);
    match &*review.kind.resource {
        ROLES | CLUSTERROLES => role(&access, user, review, new),
        _ => binding(&access, user, review, new),
    }
}

/// Whether a change is of what garbage collection needs, and of nothing else.
fn is_housekeeping(old: &Value, new: &Value) -> bool {
    const LEFT_OUT: [&str; 4] = ["finalizers", "managedFields", "ownerReferences", "resourceVersion"];
    let rest = |object: &Value| {
        let mut rest = object.clone();
        if let Some(metadata) = rest.get_mut("metadata").and_then(Value::as_object_mut) {
            LEFT_OUT.iter().for_each(|field| drop(metadata.remove(*field)));
        }
        rest
    };
    rest(old) == rest(new)
}

fn may(access: &Access, user: &User, verb: &str, resource: &str, namespace: &str, name: &str) -> bool {
    let asked = Resource { verb, group: GROUP, resource, namespace, name, ..Resource::default() };
    access.judge(user.who(), &Request::Resource(asked)).is_ok()
}

fn role(access: &Access, user: &User, review: &Review<'_>, new: &Value) -> Result<(), Refusal> {
    let namespace = &*review.key.namespace;
    // A new object is not asked for by its name: whoever may escalate some roles only may not make them.
    let name = if review.verb == Verb::Create { "" } else { review.name() };
    if may(access, user, "escalate", &review.kind.plural, namespace, name) {
        return Ok(());
    }
    if let Some(why) = grants::refusal(access, user.who(), namespace, &Rule::all_of(new)) {
        return Err(Refusal::forbidden(review.kind, review.name(), &why));
    }
    let gathers = aggregates(new) || review.old.is_some_and(|old| aggregates(&old.value));
    if gathers && grants::refusal(access, user.who(), namespace, &everything()).is_some() {
        let why = "must have cluster-admin privileges to use the aggregationRule";
        return Err(Refusal::forbidden(review.kind, review.name(), why));
    }
    Ok(())
}

/// What a role that gathers others may come to.
fn everything() -> [Rule; 2] {
    let all = || vec!["*".to_owned()];
    [
        Rule { verbs: all(), groups: all(), resources: all(), ..Rule::default() },
        Rule { verbs: all(), urls: all(), ..Rule::default() },
    ]
}

fn binding(access: &Access, user: &User, review: &Review<'_>, new: &Value) -> Result<(), Refusal> {
    let (in_cluster, name) = (new["roleRef"]["kind"] == "ClusterRole", new["roleRef"]["name"].as_str());
    let (namespace, name) = (&*review.key.namespace, name.unwrap_or_default());
    let resource = if in_cluster { "clusterroles" } else { "roles" };
    if may(access, user, "bind", resource, namespace, name) {
        return Ok(());
    }
    let Some(rules) = access.role(if in_cluster { "" } else { namespace }, name) else {
        let kind = warren_objects::kinds::of(if in_cluster { CLUSTERROLES } else { ROLES });
        return Err(Refusal::not_found(kind.unwrap_or(review.kind), name));
    };
    match grants::refusal(access, user.who(), namespace, rules) {
        Some(why) => Err(Refusal::forbidden(review.kind, review.name(), &why)),
        None => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "grants_tests.rs"]
mod tests;
