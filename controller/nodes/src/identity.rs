//! Who calls: the member that a client certificate names, checked against the store.

use tonic::{Request, Status};
use warren_plan::member::{Member, MemberRole};
use warren_proto::control::{Consumer, Role};
use warren_runtime::tls::PeerIdentity;
use warren_store::Snapshot;

/// The organization of every member's certificate.
pub const MEMBERS: &str = "system:warren:members";

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
}

impl Caller {
    /// The member behind a request. Refused unless its certificate is a member's and the member still exists.
    pub(crate) fn of<T>(request: &Request<T>, snapshot: &Snapshot) -> Result<Self, Status> {
        let Some(peer) = request.extensions().get::<PeerIdentity>() else {
            return Err(Status::unauthenticated("a member's client certificate is required; join first"));
        };
        let caller = Self::named(peer).ok_or_else(|| {
            tracing::warn!(
                common_name = peer.common_name,
                "refused a control call: not a member's certificate"
            );
            Status::permission_denied(format!("{:?} is not a member of the cluster", peer.common_name))
        })?;
        caller.check(snapshot)?;
        Ok(caller)
    }

    fn named(peer: &PeerIdentity) -> Option<Self> {
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
        (!name.is_empty()).then(|| Self { name: name.to_owned(), role })
    }

    /// Whether the member still exists, in the role that its certificate says.
    pub(crate) fn check(&self, snapshot: &Snapshot) -> Result<(), Status> {
        if find(snapshot, &self.name).is_some_and(|member| role_of(&member) == self.role) {
            return Ok(());
        }
        Err(Status::permission_denied(format!(
            "{} was removed from the cluster; to let it in again, clear its state directory and join with a new token (`warren token create`)",
            self.name
        )))
    }

    /// Refuses a gateway where only nodes have business.
    pub(crate) fn require_node(&self) -> Result<(), Status> {
        match self.role {
            Role::Node => Ok(()),
            _ => {
                Err(Status::permission_denied(format!("{} is a gateway; only nodes may do this", self.name)))
            }
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

/// Which consumers a member of this role runs.
pub(crate) fn consumers(role: Role) -> &'static [Consumer] {
    match role {
        Role::Node => &[Consumer::Agent, Consumer::Netd],
        Role::Gateway => &[Consumer::Gateway, Consumer::Netd],
        Role::Unspecified => &[],
    }
}

/// The member of this name.
pub(crate) fn find(snapshot: &Snapshot, name: &str) -> Option<Member> {
    Member::from_object(snapshot.get(&Member::key(name))?).ok()
}

/// All members; one that does not parse is left out and named in the log.
pub(crate) fn members(snapshot: &Snapshot) -> impl Iterator<Item = Member> {
    snapshot.list(warren_plan::resources::MEMBERS).filter_map(|object| {
        Member::from_object(object)
            .inspect_err(|error| tracing::error!(error, member = %object.key, "a stored member is unusable"))
            .ok()
    })
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
    use super::*;

    fn peer(common_name: &str, organization: &str) -> PeerIdentity {
        PeerIdentity { common_name: common_name.into(), organizations: vec![organization.into()] }
    }

    #[test]
    fn only_member_certificates_name_a_caller() {
        let caller = Caller::named(&peer("system:warren:node:a.b", MEMBERS)).expect("a node");
        assert_eq!(caller, Caller { name: "a.b".into(), role: Role::Node });
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
    fn a_gateway_cannot_be_an_agent() {
        let gateway = Caller { name: "gw".into(), role: Role::Gateway };
        assert!(gateway.consumer(Consumer::Gateway.into()).is_ok());
        assert!(gateway.consumer(Consumer::Agent.into()).is_err());
        assert!(gateway.consumer(Consumer::Unspecified.into()).is_err());
        assert!(gateway.consumer(99).is_err());
        assert!(gateway.require_node().is_err());
    }
}
