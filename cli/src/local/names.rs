//! The names of everything a local cluster consists of.

use std::{fmt, path::PathBuf, str::FromStr};

use warren_proto::vocabulary::is_dns_label;

/// Where members keep their state, inside and outside their containers.
const STATE_ROOT: &str = "/var/lib/warren";
/// Where members keep secrets, in memory.
const MEMORY_ROOT: &str = "/dev/shm/warren";
/// A member's name is its host name, at most 63 characters long: `NAME-controller`.
const LONGEST: usize = 63 - "-controller".len();

/// A cluster's name: an RFC 1123 label from which its members' names are made.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClusterName(String);

impl FromStr for ClusterName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err(format!("a cluster's name has at most {LONGEST} characters"));
        }
        if !is_dns_label(text) {
            return Err("a cluster's name consists of lower case letters, digits and '-', and starts and ends with a \
                        letter or digit (RFC 1123 label)"
                .to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ClusterName {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The Docker network, which bears the cluster's name.
    pub(crate) fn network(&self) -> &str {
        &self.0
    }

    pub(crate) fn controller(&self) -> String {
        format!("{self}-controller")
    }

    pub(crate) fn gateway(&self) -> String {
        format!("{self}-gateway")
    }

    pub(crate) fn node(&self, number: u16) -> String {
        format!("{self}-node-{number}")
    }

    /// The number of the node called `name`, if it is one of this cluster's.
    pub(crate) fn node_number(&self, name: &str) -> Option<u16> {
        name.strip_prefix(&self.0)?.strip_prefix("-node-")?.parse().ok()
    }

    /// The container that removes the state for a user who may not.
    pub(crate) fn eraser(&self) -> String {
        format!("{self}-erase")
    }

    /// The container through which a restore reaches the controller's state.
    pub(crate) fn restorer(&self) -> String {
        format!("{self}-restore")
    }

    /// The containers that are there for a moment only.
    pub(crate) fn helpers(&self) -> [String; 2] {
        [self.eraser(), self.restorer()]
    }

    /// The directory of all members' state.
    pub(crate) fn state_root(&self) -> PathBuf {
        PathBuf::from(STATE_ROOT).join(&self.0)
    }

    /// The directory of all members' secrets.
    pub(crate) fn memory_root(&self) -> PathBuf {
        PathBuf::from(MEMORY_ROOT).join(&self.0)
    }

    /// How to say "this cluster" on a command line.
    pub(crate) fn option(&self) -> String {
        if self.0 == "warren" { String::new() } else { format!(" --name {self}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_label_that_leaves_room_for_members() {
        for good in ["warren", "a", "dev-2", &"x".repeat(52)] {
            assert!(good.parse::<ClusterName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "a/../b", &"x".repeat(53)] {
            assert!(bad.parse::<ClusterName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn members_are_named_after_their_cluster() {
        let name: ClusterName = "dev".parse().unwrap();
        assert_eq!((name.node(2), name.node_number("dev-node-2")), ("dev-node-2".into(), Some(2)));
        assert_eq!(name.node_number("dev-2-node-1"), None);
        assert_eq!(name.state_root(), PathBuf::from("/var/lib/warren/dev"));
        assert_eq!(name.option(), " --name dev");
    }
}
