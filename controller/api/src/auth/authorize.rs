//! Whether somebody may. Until RBAC comes there are two answers: administrators (`system:masters`) may do everything,
//! everybody else may see whether the server lives.

use warren_write::User;

use crate::{
    path::{ResourceTarget, Target},
    status::Status,
};

/// Questions about oneself, which everybody with a name may ask.
const ABOUT_ONESELF: [&str; 3] = [
    "selfsubjectaccessreviews.authorization.k8s.io",
    "selfsubjectreviews.authentication.k8s.io",
    "selfsubjectrulesreviews.authorization.k8s.io",
];

/// May this user do this?
pub(crate) fn authorize(user: &User, verb: &str, target: Option<&Target>, path: &str) -> Result<(), Status> {
    if user.is_master() || matches!(target, Some(Target::Health { .. } | Target::Version)) {
        return Ok(());
    }
    match target {
        Some(Target::Resource(resource))
            if user.is_authenticated() && ABOUT_ONESELF.contains(&&*resource.kind.resource) =>
        {
            Ok(())
        }
        Some(Target::Resource(resource)) => Err(forbidden(user, verb, resource)),
        _ => Err(Status::forbidden_path(&user.name, &verb.to_ascii_lowercase(), path)),
    }
}

fn forbidden(user: &User, verb: &str, target: &ResourceTarget) -> Status {
    let kind = &target.kind;
    let resource = match target.subresource {
        Some(subresource) => format!("{}/{}", kind.plural, subresource.name),
        None => kind.plural.to_string(),
    };
    let place = if target.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace \"{}\"", target.namespace)
    };
    let why = format!(
        "User \"{}\" cannot {verb} resource \"{resource}\" in API group \"{}\" {place}",
        user.name, kind.group
    );
    Status::forbidden(kind, &target.name, &why)
}
