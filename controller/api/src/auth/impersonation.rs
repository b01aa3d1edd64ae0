//! May one user act as another? What he wants to be is asked for piece by piece.
//!
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/user-impersonation/>.

use std::collections::BTreeMap;

use warren_access::{Access, Request, Resource};
use warren_write::User;

use super::authorize::{decide, refusal};
use crate::status::Status;

const AUTHENTICATION: &str = "authentication.k8s.io";
const ANONYMOUS: &str = "system:anonymous";

/// Whom somebody wants to act as.
pub(super) struct Wanted<'a> {
    pub(super) name: &'a str,
    pub(super) groups: &'a [String],
    pub(super) uid: Option<&'a str>,
    pub(super) extra: &'a BTreeMap<String, Vec<String>>,
}

/// 403 for the first thing that the user may not be.
pub(super) fn permit(access: &Access, user: &User, wanted: &Wanted<'_>) -> Result<(), Status> {
    let ask = |group, resource, subresource, namespace, name| {
        let asked = Resource { verb: "impersonate", group, resource, subresource, namespace, name };
        decide(access, user, &Request::Resource(asked)).map(drop).map_err(|why| refusal(user, &asked, &why))
    };
    match service_account(wanted.name) {
        Some((namespace, name)) => ask("", "serviceaccounts", "", namespace, name)?,
        None => ask("", "users", "", "", wanted.name)?,
    }
    for group in wanted.groups {
        ask("", "groups", "", "", group)?;
    }
    for (key, value) in
        wanted.extra.iter().flat_map(|(key, values)| values.iter().map(move |value| (key, value)))
    {
        ask(AUTHENTICATION, "userextras", key, "", value)?;
    }
    wanted.uid.map_or(Ok(()), |uid| ask(AUTHENTICATION, "uids", "", "", uid))
}

/// Adds the groups that such a user is always in; those of a service account if no others are asked for.
pub(super) fn complete(name: &str, groups: &mut Vec<String>) {
    if let (Some((namespace, _)), true) = (service_account(name), groups.is_empty()) {
        groups.extend(["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")]);
    }
    let always = if name == ANONYMOUS { "system:unauthenticated" } else { "system:authenticated" };
    if !groups.iter().any(|group| group == always) {
        groups.push(always.to_owned());
    }
}

/// Namespace and name of a service account by its user name.
fn service_account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}
