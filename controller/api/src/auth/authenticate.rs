//! Who asks: the client certificate says it; who may can act as another user.

use std::collections::BTreeMap;

use http::{HeaderMap, header};
use warren_access::Access;
use warren_runtime::tls::PeerIdentity;
use warren_write::User;

use super::impersonation::{self, Wanted};
use crate::{query, status::Status};

/// The client certificate decides; without one the rest is anonymous. Bearer tokens are [`super::bearer`]'s: one that
/// gets here is refused. Who may impersonate another user acts as him (`kubectl --as`).
pub(crate) fn authenticate(
    peer: Option<&PeerIdentity>,
    headers: &HeaderMap,
    access: &Access,
) -> Result<User, Status> {
    let user = match peer {
        Some(peer) => {
            let mut groups = peer.organizations.clone();
            groups.push("system:authenticated".to_owned());
            User { name: peer.common_name.clone(), groups, ..User::default() }
        }
        None if headers.contains_key(header::AUTHORIZATION) => return Err(Status::unauthorized()),
        None => {
            let groups = vec!["system:unauthenticated".to_owned()];
            User { name: "system:anonymous".to_owned(), groups, ..User::default() }
        }
    };
    impersonate(user, headers, access)
}

/// Begins the headers that say what else is known of whom an administrator acts as.
const EXTRA: &str = "impersonate-extra-";

/// As whom a user acts: himself, or whom his request names.
pub(crate) fn impersonate(user: User, headers: &HeaderMap, access: &Access) -> Result<User, Status> {
    let texts = |name: &str| -> Vec<String> {
        headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).map(str::to_owned).collect()
    };
    let (names, mut groups) = (texts("impersonate-user"), texts("impersonate-group"));
    let uid = texts("impersonate-uid").into_iter().next();
    let extra: BTreeMap<String, Vec<String>> = headers
        .keys()
        .filter_map(|name| Some((name, name.as_str().strip_prefix(EXTRA)?)))
        .map(|(name, key)| (query::decode(key, false), texts(name.as_str())))
        .collect();
    let Some(name) = names.into_iter().next() else {
        let what = match (groups.is_empty(), &uid, extra.is_empty()) {
            (true, None, true) => return Ok(user),
            (false, ..) => "a group",
            (_, Some(_), _) => "a uid",
            _ => "what else is known of a user",
        };
        let message = format!("impersonating {what} requires the header Impersonate-User too");
        return Err(Status::bad_request(message));
    };
    impersonation::permit(
        access,
        &user,
        &Wanted { name: &name, groups: &groups, uid: uid.as_deref(), extra: &extra },
    )?;
    impersonation::complete(&name, &mut groups);
    Ok(User { name, uid: uid.unwrap_or_default(), groups, extra })
}
