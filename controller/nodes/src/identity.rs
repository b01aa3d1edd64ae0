//! Who calls: the member that a client certificate names, checked against the store.

use std::sync::Arc;

use tonic::Status;
use warren_proto::control::{Consumer, Role};
use warren_runtime::{
    connection::{BOOT_WORD, HOST_WORD},
    rate::shown,
    tls::PeerIdentity,
};
use warren_store::{Object, Snapshot};
pub use warren_vocabulary::member::GROUP as MEMBERS;
use warren_vocabulary::member::{Member, MemberRole};

/// A boot's identifier and a number.
const LONGEST_BOOT: usize = 128;

/// The CN of a member's certificate; `None` without a role.
pub(crate) fn common_name(name: &str, role: Role) -> Option<String> {
    match role {
        Role::Node => Some(format!("system:warren:node:{name}")),
        Role::Gateway => Some(format!("system:warren:gateway:{name}")),
        Role::Unspecified => None,
    }
}

/// An authenticated member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) name: String,
    pub(crate) role: Role,
    /// Which membership of that name; `None` in certificates of versions that did not know it.
    pub(crate) id: Option<String>,
    /// The machine that the certificate is bound to, if that has a name.
    pub(crate) machine: Option<String>,
    /// The boot of the machine (or container) that it speaks from.
    pub(crate) boot: String,
}

impl Caller {
    /// The member behind a request, by its head alone. Refused unless its certificate is a member's, the membership
    /// still exists, and the call comes from the machine that the certificate is bound to.
    pub(crate) fn of(
        extensions: &http::Extensions,
        headers: &http::HeaderMap,
        snapshot: &Snapshot,
    ) -> Result<Self, Status> {
        let Some(peer) = extensions.get::<PeerIdentity>() else {
            return Err(Status::unauthenticated("a member's client certificate is required; join first"));
        };
        let mut caller = Self::named(peer).ok_or_else(|| {
            let name = shown(&peer.common_name);
            Status::permission_denied(format!("{name:?} is not a member of the cluster"))
        })?;
        caller.check(snapshot)?;
        let agent =
            headers.get(http::header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
        let word = |prefix: &str| agent.split(' ').find_map(|word| word.strip_prefix(prefix));
        if caller.machine.is_some() && caller.machine.as_deref() != word(HOST_WORD) {
            metrics::counter!("warren_nodes_refused_duplicates_total").increment(1);
            // The code that tells a member which starts that it is a copy.
            return Err(Status::already_exists(format!(
                "the identity of {name} was issued to another machine: this state directory is a copy of that machine's. \
                 Clear it and join this machine with a new token (`warren token create`) under a name of its own; if it \
                 takes the other's place, remove that first (`warren member remove {name}`)",
                name = caller.name
            )));
        }
        let boot = word(BOOT_WORD).filter(|boot| !boot.is_empty() && boot.len() <= LONGEST_BOOT);
        caller.boot = boot.map(str::to_owned).ok_or_else(|| {
            Status::failed_precondition("a member must say which machine it speaks from: update warren there")
        })?;
        Ok(caller)
    }

    /// Who a certificate says its holder is, if a member's.
    pub(crate) fn named(peer: &PeerIdentity) -> Option<Self> {
        if !peer.organizations.iter().any(|organization| organization == MEMBERS) {
            return None;
        }
        let rest = peer.common_name.strip_prefix("system:warren:")?;
        let (role, name) = rest.split_once(':')?;
        let role = match role {
            "node" => Role::Node,
            "gateway" => Role::Gateway,
            _ => return None,
        };
        let (id, machine) = (peer.member.clone(), peer.machine.clone());
        (!name.is_empty()).then(|| Self { name: name.to_owned(), role, id, machine, boot: String::new() })
    }

    /// Whether this very membership still exists: the name, in the role, under the id and on the machine that the
    /// certificate says. A member of an earlier version has no id in the store until it shows one.
    pub(crate) fn check(&self, snapshot: &Snapshot) -> Result<(), Status> {
        let is_same = |member: &Member| {
            let bound = self.id.is_none() || member.machine == self.machine;
            let id = member.id.is_none() || member.id == self.id;
            role_of(member) == self.role && id && bound
        };
        match find(snapshot, &self.name) {
            Some(member) if is_same(&member) => Ok(()),
            _ => Err(removed(&self.name)),
        }
    }

    /// The consumer as sent, if this member may be it.
    pub(crate) fn consumer(&self, sent: i32) -> Result<Consumer, Status> {
        let consumer = Consumer::try_from(sent).unwrap_or_default();
        if consumers(self.role).contains(&consumer) {
            return Ok(consumer);
        }
        Err(Status::invalid_argument(format!(
            "{} is a {}; it cannot be {}",
            self.name,
            if self.role == Role::Node { "node" } else { "gateway" },
            consumer.as_str_name()
        )))
    }
}

/// What a caller is told that is no member any more.
pub(crate) fn removed(name: &str) -> Status {
    Status::permission_denied(format!(
        "{name} was removed from the cluster; to let it in again, clear its state directory and join with a new token (`warren token create`)",
    ))
}

/// What becomes of a member's certificate.
pub(crate) struct Subject<'a> {
    pub(crate) name: &'a str,
    pub(crate) role: Role,
    pub(crate) id: &'a str,
    pub(crate) machine: Option<&'a str>,
}

/// Which consumers a member of this role runs.
pub(crate) fn consumers(role: Role) -> &'static [Consumer] {
    match role {
        Role::Node => &[Consumer::Agent, Consumer::Netd],
        Role::Gateway => &[Consumer::Gateway, Consumer::Netd],
        Role::Unspecified => &[],
    }
}

/// The member of this name.
pub(crate) fn find(snapshot: &Snapshot, name: &str) -> Option<Arc<Member>> {
    Member::of(snapshot.get(&Member::key(name))?).ok()
}

/// A stored member; one that does not parse is named in the log.
pub(crate) fn read(object: &Arc<Object>) -> Option<Arc<Member>> {
    Member::of(object)
        .inspect_err(|error| tracing::error!(error, member = %object.key, "a stored member is unusable"))
        .ok()
}

/// All members that parse.
pub(crate) fn members(snapshot: &Snapshot) -> impl Iterator<Item = Arc<Member>> {
    snapshot.list(warren_vocabulary::resources::MEMBERS).filter_map(read)
}

/// A member's role in the protocol's words.
pub(crate) fn role_of(member: &Member) -> Role {
    match member.role {
        MemberRole::Node => Role::Node,
        MemberRole::Gateway => Role::Gateway,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn peer(common_name: &str, organization: &str) -> PeerIdentity {
        PeerIdentity {
            common_name: common_name.into(),
            organizations: vec![organization.into()],
            member: Some("id-1".into()),
            machine: Some("m-1".into()),
        }
    }

    fn stored(id: Option<&str>, machine: Option<&str>) -> Snapshot {
        let mut spec = json!({"role": "node", "podCidr": "10.42.1.0/24"});
        for (field, value) in [("id", id), ("machine", machine)] {
            if let Some(value) = value {
                spec[field] = value.into();
            }
        }
        let value = json!({"metadata": {"name": "a"}, "spec": spec});
        Snapshot::from_objects(1, [Object::new(Member::key("a"), 1, value)])
    }

    fn caller(peer: &PeerIdentity, agent: &str, snapshot: &Snapshot) -> Result<Caller, tonic::Code> {
        let (mut extensions, mut headers) = (http::Extensions::new(), http::HeaderMap::new());
        extensions.insert(peer.clone());
        headers.insert(http::header::USER_AGENT, agent.parse().expect("ASCII"));
        Caller::of(&extensions, &headers, snapshot).map_err(|status| status.code())
    }

    const AGENT: &str = "warren/0 machine/boot.1 host/m-1 tonic/0";

    #[test]
    fn only_member_certificates_name_a_caller() {
        let caller = Caller::named(&peer("system:warren:node:a.b", MEMBERS)).expect("a node");
        assert_eq!((caller.name.as_str(), caller.role), ("a.b", Role::Node));
        assert_eq!((caller.id.as_deref(), caller.machine.as_deref()), (Some("id-1"), Some("m-1")));
        for (name, organization) in [
            ("system:warren:node:a", "system:masters"),
            ("warren-admin", MEMBERS),
            ("system:warren:node:", MEMBERS),
            ("system:warren:other:a", MEMBERS),
            ("system:node:a", MEMBERS),
        ] {
            assert_eq!(Caller::named(&peer(name, organization)), None, "{name} {organization}");
        }
    }

    #[test]
    fn a_caller_is_the_membership_and_the_machine_of_its_certificate() {
        use tonic::Code::{AlreadyExists, FailedPrecondition, PermissionDenied};
        let node = peer("system:warren:node:a", MEMBERS);
        let own = stored(Some("id-1"), Some("m-1"));
        assert_eq!(caller(&node, AGENT, &own).map(|caller| caller.boot), Ok("boot.1".to_owned()));
        for (snapshot, why) in [
            (stored(Some("id-2"), Some("m-1")), "another membership of that name"),
            (stored(Some("id-1"), Some("m-2")), "another machine in the store"),
            (stored(Some("id-1"), None), "no machine in the store"),
            (Snapshot::from_objects(1, []), "nobody"),
        ] {
            assert_eq!(caller(&node, AGENT, &snapshot), Err(PermissionDenied), "{why}");
        }
        let old = PeerIdentity { member: None, machine: None, ..node.clone() };
        assert_eq!(caller(&old, AGENT, &own), Err(PermissionDenied), "a certificate without an id");
        for agent in
            ["warren/0 machine/boot.1", "warren/0 machine/boot.1 host/m-2", "warren/0 host/ machine/b"]
        {
            assert_eq!(caller(&node, agent, &own), Err(AlreadyExists), "{agent}");
        }
        for agent in ["warren/0 host/m-1", "warren/0 host/m-1 machine/"] {
            assert_eq!(caller(&node, agent, &own), Err(FailedPrecondition), "{agent}");
        }
    }

    #[test]
    fn a_member_of_an_earlier_version_is_let_in_until_it_shows_an_id() {
        let old = PeerIdentity { member: None, machine: None, ..peer("system:warren:node:a", MEMBERS) };
        assert!(caller(&old, "warren/0 machine/b", &stored(None, Some("m-1"))).is_ok());
        assert!(caller(&old, "warren/0 machine/b", &stored(None, None)).is_ok());
        let renewed = peer("system:warren:node:a", MEMBERS);
        assert!(caller(&renewed, AGENT, &stored(None, Some("m-1"))).is_ok());
        assert!(caller(&old, AGENT, &stored(Some("id-1"), Some("m-1"))).is_err());
    }

    #[test]
    fn a_gateway_cannot_be_an_agent() {
        let gateway = Caller::named(&peer("system:warren:gateway:gw", MEMBERS)).expect("a gateway");
        assert!(gateway.consumer(Consumer::Gateway.into()).is_ok());
        assert!(gateway.consumer(Consumer::Agent.into()).is_err());
        assert!(gateway.consumer(Consumer::Unspecified.into()).is_err());
        assert!(gateway.consumer(99).is_err());
    }
}
