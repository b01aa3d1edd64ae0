//! What each call may cost. Pure.

use std::time::Duration;

use warren_proto::control::Role;

/// Who may make a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// A machine that has a join token, which only the call's body can show.
    Anyone,
    /// Nodes and gateways.
    Member,
    /// Members that run pods.
    Node,
    /// Members that let requests in.
    Gateway,
}

impl Who {
    pub(crate) fn includes(self, role: Role) -> bool {
        match self {
            Self::Anyone | Self::Member => true,
            Self::Node => role == Role::Node,
            Self::Gateway => role == Role::Gateway,
        }
    }
}

/// What happens when a member has more calls of one kind open than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overflow {
    /// The newest is refused.
    Refuse,
    /// The oldest ends: it is a stream that lost its other end, most likely.
    Displace,
}

/// The bounds of one method.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) path: &'static str,
    pub(crate) who: Who,
    /// The longest message, in bytes on the wire.
    pub(crate) longest: usize,
    /// Until the answer is there; for calls that are one question and one answer.
    pub(crate) deadline: Option<Duration>,
    /// The longest silence between two messages.
    pub(crate) silence: Option<Duration>,
    /// Open calls of one member.
    pub(crate) open: usize,
    pub(crate) overflow: Overflow,
}

const KIBIBYTE: usize = 1 << 10;
/// The longest message of all.
pub(crate) const LONGEST: usize = 2_048 * KIBIBYTE;

impl Who {
    /// For a message that has begun to be whole. Our own slowness does not count.
    pub(crate) fn patience(self) -> Duration {
        match self {
            Self::Anyone => Duration::from_secs(5),
            Self::Member | Self::Node | Self::Gateway => Duration::from_secs(30),
        }
    }
}

/// Streams into the pods of one node: as many as an agent serves, and those that it tells that they are too many.
const SESSIONS: usize = 576;
const ANSWER: Option<Duration> = Some(Duration::from_secs(20));

const fn question(path: &'static str, who: Who, longest: usize, open: usize) -> Policy {
    Policy { path, who, longest, deadline: ANSWER, silence: None, open, overflow: Overflow::Refuse }
}

const fn stream(path: &'static str, who: Who, longest: usize, open: usize, overflow: Overflow) -> Policy {
    Policy { path, who, longest, deadline: None, silence: None, open, overflow }
}

/// One for each method of the contract.
pub(crate) static POLICIES: &[Policy] = &[
    question("/warren.control.v1.Join/Join", Who::Anyone, 16 * KIBIBYTE, 8),
    question("/warren.control.v1.Control/Renew", Who::Member, 16 * KIBIBYTE, 2),
    Policy {
        // A beat comes each second.
        silence: Some(Duration::from_secs(60)),
        ..stream("/warren.control.v1.Control/Heartbeat", Who::Member, KIBIBYTE, 8, Overflow::Displace)
    },
    stream("/warren.control.v1.Control/Feed", Who::Member, KIBIBYTE, 8, Overflow::Displace),
    question("/warren.control.v1.Control/ReportPods", Who::Node, LONGEST, 2),
    question("/warren.control.v1.Control/ReportNode", Who::Node, 512 * KIBIBYTE, 2),
    question("/warren.control.v1.Control/ReportUsage", Who::Node, 512 * KIBIBYTE, 2),
    question("/warren.control.v1.Control/ReportTraffic", Who::Gateway, 1_024 * KIBIBYTE, 2),
    question("/warren.control.v1.Control/ReportNetwork", Who::Member, 256 * KIBIBYTE, 2),
    stream("/warren.control.v1.Control/Sessions", Who::Node, KIBIBYTE, 4, Overflow::Displace),
    // Agents send pieces of 64 KiB.
    stream("/warren.control.v1.Control/Session", Who::Node, 80 * KIBIBYTE, SESSIONS, Overflow::Refuse),
    // An agent asks for several pods at a time.
    question("/warren.control.v1.Control/IssueToken", Who::Node, 4 * KIBIBYTE, 16),
];

/// The bounds of the method at a path.
pub(crate) fn of(path: &str) -> Option<&'static Policy> {
    POLICIES.iter().find(|policy| policy.path == path)
}

#[cfg(test)]
mod tests {
    use warren_proto::bounded::METHODS;

    use super::*;

    #[test]
    fn every_method_of_the_contract_has_its_bounds() {
        let ours: Vec<_> =
            METHODS.iter().filter(|method| method.path.starts_with("/warren.control.")).collect();
        assert_eq!(ours.len(), POLICIES.len());
        for method in ours {
            let policy = of(method.path).unwrap_or_else(|| panic!("{} has no bounds", method.path));
            let is_question = !method.client_streams && !method.server_streams;
            assert_eq!(policy.deadline.is_some(), is_question, "{}", method.path);
            assert!(policy.longest <= LONGEST && policy.open <= SESSIONS, "{}", method.path);
            let is_join = method.path == "/warren.control.v1.Join/Join";
            assert_eq!(
                policy.who == Who::Anyone,
                is_join,
                "strangers reach nothing but Join: {}",
                method.path
            );
        }
    }
}
