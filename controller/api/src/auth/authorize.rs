//! Whether somebody may. Administrators (`system:masters`) may do everything and members of the cluster nothing, whatever
//! roles say; everybody may see whether the server lives, and which version it is. The rest is what roles give.

use warren_access::{Access, Request, Resource};
use warren_vocabulary::member;
use warren_write::{Refusal, User};

use crate::{
    path::{ResourceTarget, Target},
    query::Query,
    selectors::Selector,
    status::Status,
};

/// May this user do this?
pub(crate) fn authorize(
    access: &Access,
    user: &User,
    verb: &str,
    target: Option<&Target>,
    path: &str,
    query: &Query,
) -> Result<(), Status> {
    let Some(Target::Resource(resource)) = target else {
        let verb = verb.to_ascii_lowercase();
        return decide_path(access, user, &verb, target, path).map(drop).map_err(|why| {
            let mut status = Status::forbidden_path(&user.name, &verb, path);
            status.message.push_str(&because(&why));
            status
        });
    };
    if user.is_master() {
        return Ok(());
    }
    let selected = selected_name(verb, resource, query);
    let asked = asked(verb, resource, selected.as_deref());
    decide(access, user, &Request::Resource(asked)).map(drop).map_err(|why| refusal(user, &asked, &why))
}

/// A request as roles speak of it.
fn asked<'a>(verb: &'a str, target: &'a ResourceTarget, selected: Option<&'a str>) -> Resource<'a> {
    let kind = &target.kind;
    // Who may do something in a namespace may do it to the namespace, if a role says so.
    let is_namespace = kind.group.is_empty() && kind.plural == "namespaces";
    Resource {
        verb,
        group: &kind.group,
        resource: &kind.plural,
        subresource: target.subresource.map_or("", |subresource| subresource.name),
        namespace: if is_namespace { &target.name } else { &target.namespace },
        name: selected.unwrap_or(&target.name),
    }
}

/// The only object that a list or a watch asks for: it counts as asking for this one.
fn selected_name(verb: &str, target: &ResourceTarget, query: &Query) -> Option<String> {
    if !target.name.is_empty() || !matches!(verb, "list" | "watch") {
        return None;
    }
    Selector::parse(&target.kind, query).ok()?.name().map(str::to_owned)
}

/// Why something is allowed, or why it is not; there may be nothing to say about either.
pub(crate) fn decide(access: &Access, user: &User, request: &Request<'_>) -> Result<String, String> {
    if user.is_master() {
        return Ok("members of system:masters may do everything".to_owned());
    }
    if is_member(user) {
        return Err(String::new());
    }
    access.judge(user.who(), request).map(|why| why.to_string()).map_err(|denial| denial.to_string())
}

/// Whether it is a node or a gateway: they speak gRPC, where each gets what it needs.
pub(crate) fn is_member(user: &User) -> bool {
    user.groups.iter().any(|group| group == member::GROUP)
}

/// The same of a path that is no resource.
pub(crate) fn decide_path(
    access: &Access,
    user: &User,
    verb: &str,
    target: Option<&Target>,
    path: &str,
) -> Result<String, String> {
    if matches!(target, Some(Target::Health { .. } | Target::Version)) && !user.is_master() {
        return Ok("everybody may".to_owned());
    }
    decide(access, user, &Request::Path { verb, path })
}

/// 403 in Kubernetes' words.
pub(super) fn refusal(user: &User, asked: &Resource<'_>, why: &str) -> Status {
    let Resource { verb, group, resource, subresource, namespace, name } = asked;
    let below = if subresource.is_empty() { String::new() } else { format!("/{subresource}") };
    let place = if namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace \"{namespace}\"")
    };
    let why = format!(
        "User \"{}\" cannot {verb} resource \"{resource}{below}\" in API group \"{group}\" {place}{}",
        user.name,
        because(why)
    );
    let whole = if group.is_empty() { (*resource).to_owned() } else { format!("{resource}.{group}") };
    let mut refusal = Refusal::forbidden_resource(&whole, name, &why);
    let details = refusal.details.get_or_insert_default();
    (details.name, details.group, details.kind) =
        ((*name).to_owned(), (*group).to_owned(), (*resource).to_owned());
    refusal.into()
}

fn because(why: &str) -> String {
    if why.is_empty() { String::new() } else { format!(": {why}") }
}
