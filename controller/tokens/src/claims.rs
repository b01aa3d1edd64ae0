//! What a token says.

use serde::{Deserialize, Serialize};

/// What a token says. The names are those of RFC 7519.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// For whom it is meant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aud: Vec<String>,
    /// When it expires, in seconds since 1970. Those that lie in secrets have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exp: Option<i64>,
    /// When it was issued.
    pub iat: i64,
    /// Who issued it.
    pub iss: String,
    /// What tells it from all others.
    pub jti: String,
    /// Before that it is not good.
    pub nbf: i64,
    /// Of whom it is: `system:serviceaccount:NAMESPACE:NAME`.
    pub sub: String,
    /// What Kubernetes adds.
    #[serde(rename = "kubernetes.io")]
    pub private: Private,
}

/// Of which account a token is, and what it is bound to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Private {
    /// The account's namespace.
    pub namespace: String,
    /// The node that it is bound to; or that its pod runs on, if it is bound to a pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Named>,
    /// The pod that it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Named>,
    /// The secret that it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Named>,
    /// The account.
    pub serviceaccount: Named,
}

/// One object among all that had its name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Its uid; empty where the object is not there (the node of a pod).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// The user name of an account.
pub(crate) fn subject(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}
