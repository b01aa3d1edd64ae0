//! Who writes.

use std::{collections::BTreeMap, fmt};

use warren_access::{MASTERS, Who};

/// The group of everybody who has a name.
const AUTHENTICATED: &str = "system:authenticated";

/// A client of the API, as it was authenticated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// What tells it from others who had its name; empty when nothing does.
    pub uid: String,
    /// The groups it is in.
    pub groups: Vec<String>,
    /// What else is known about it.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// Whether it may do everything.
    pub fn is_master(&self) -> bool {
        self.groups.iter().any(|group| group == MASTERS)
    }

    /// As roles are given to it.
    pub fn who(&self) -> Who<'_> {
        Who { name: &self.name, groups: &self.groups }
    }

    /// Whether it has a name.
    pub fn is_authenticated(&self) -> bool {
        self.groups.iter().any(|group| group == AUTHENTICATED)
    }
}

/// Who writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor<'a> {
    /// A client of the API.
    Client(&'a User),
    /// A part of the controller, by name: a planner, or what makes the first objects.
    Controller(&'a str),
    /// A member of the cluster, by name: what it reports.
    Node(&'a str),
}

impl Actor<'_> {
    /// Whether it is a client: what it wants is completed and bounded by the scope of its request.
    pub fn is_client(&self) -> bool {
        matches!(self, Self::Client(_))
    }
}

impl fmt::Display for Actor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(user) => f.write_str(&user.name),
            Self::Controller(name) => write!(f, "system:warren:controller:{name}"),
            Self::Node(name) => write!(f, "system:warren:node:{name}"),
        }
    }
}

/// Who writes, and as whose the written fields count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Author<'a> {
    /// Who writes.
    pub actor: Actor<'a>,
    /// The field manager.
    pub manager: &'a str,
}

impl<'a> Author<'a> {
    /// A part of the controller.
    pub fn controller(name: &'a str) -> Self {
        Self { actor: Actor::Controller(name), manager: "warren-controller" }
    }

    /// A node.
    pub fn node(name: &'a str) -> Self {
        Self { actor: Actor::Node(name), manager: "warren-node" }
    }
}
