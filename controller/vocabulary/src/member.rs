//! A member of the overlay (node or gateway) as the store keeps it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use warren_proto::vocabulary::PodCidr;
use warren_state::{Key, Object};

use crate::resources::MEMBERS;

/// What a member does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberRole {
    /// Runs pods.
    Node,
    /// Runs the gateway.
    Gateway,
}

/// A member and its place in the overlay.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Stored")]
pub struct Member {
    /// The certificate's name.
    pub name: String,
    /// What it does.
    pub role: MemberRole,
    /// Which membership of that name this is, as its certificate says: a name that joins again begins another. Members
    /// that joined before there were ids have none until they renew their certificate.
    pub id: Option<String>,
    /// What the machine is recognised by that joined, if it has a name.
    pub machine: Option<String>,
    /// Its slice of the cluster network; never changes.
    pub pod_cidr: PodCidr,
    /// WireGuard public key in base64, once reported.
    pub public_key: Option<String>,
    /// `ADDRESS:PORT` of its tunnel, once reported.
    pub endpoint: Option<String>,
    /// "kernel" or "userspace", once reported.
    pub backend: Option<String>,
    /// The tunnel's MTU, once reported.
    pub mtu: Option<u32>,
}

#[derive(Deserialize)]
struct Stored {
    #[serde(default)]
    metadata: Metadata,
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    name: String,
}

/// The group of every member: the organization of its certificate.
pub const GROUP: &str = "system:warren:members";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    role: MemberRole,
    pod_cidr: PodCidr,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    machine: Option<String>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    public_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    backend: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
}

impl From<Stored> for Member {
    fn from(stored: Stored) -> Self {
        let Stored { metadata, spec, status } = stored;
        Self {
            name: metadata.name,
            role: spec.role,
            id: spec.id,
            machine: spec.machine,
            pod_cidr: spec.pod_cidr,
            public_key: status.public_key,
            endpoint: status.endpoint,
            backend: status.backend,
            mtu: status.mtu,
        }
    }
}

impl Member {
    /// Where the store keeps the member of this name.
    pub fn key(name: &str) -> Key {
        Key::new(MEMBERS, "", name)
    }

    /// A stored member, read once per revision of the object.
    pub fn of(object: &Object) -> Result<Arc<Self>, String> {
        object.typed::<Self>()
    }

    /// The same, to be changed.
    pub fn from_object(object: &Object) -> Result<Self, String> {
        Self::of(object).map(|member| (*member).clone())
    }

    /// The JSON that the store keeps.
    pub fn to_value(&self) -> Value {
        let status = Status {
            public_key: self.public_key.clone(),
            endpoint: self.endpoint.clone(),
            backend: self.backend.clone(),
            mtu: self.mtu,
        };
        let mut spec = json!({ "role": self.role, "podCidr": self.pod_cidr });
        for (field, text) in [("id", &self.id), ("machine", &self.machine)] {
            if let Some(text) = text {
                spec[field] = text.as_str().into();
            }
        }
        json!({ "metadata": { "name": self.name }, "spec": spec, "status": status })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_survives_the_store() {
        let member = Member {
            name: "node-1".into(),
            role: MemberRole::Node,
            id: Some("6f1c".into()),
            machine: Some("ab".into()),
            pod_cidr: "10.42.1.0/24".parse().expect("valid"),
            public_key: Some("key".into()),
            endpoint: None,
            backend: Some("kernel".into()),
            mtu: Some(1420),
        };
        let object = Object::new(Member::key("node-1"), 7, member.to_value());
        assert_eq!(Member::from_object(&object), Ok(member));
    }

    #[test]
    fn a_bad_member_says_which_and_why() {
        let value = json!({"metadata": {"name": "x"}, "spec": {"role": "node", "podCidr": "10.42.0.0/16"}});
        let error = Member::from_object(&Object::new(Member::key("x"), 1, value)).expect_err("not a /24");
        assert!(error.starts_with("members.warren.internal/x: "), "{error}");
    }
}
