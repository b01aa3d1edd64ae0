//! The oracle of strict decoding, for a test: what the typed structs of k8s-openapi say of an object, by which planners
//! and typed clients read it.
//!
//! A crate of its own, because so many types take minutes to optimise: it is not (`Cargo.toml` of the workspace).

use k8s_openapi::{Resource, api, apiextensions_apiserver, kube_aggregator, serde::de::DeserializeOwned};
use serde_json::Value;
use warren_objects::{
    kinds::Kind,
    strict::{DecodeError, Unknown, strip_nulls},
};

/// What a struct says of an object.
pub type Decode = fn(&Kind, &Value) -> Result<Unknown, DecodeError>;

/// Decodes as `T`, which is the type of `kind`, or of a version of it that has the same fields.
fn decode<T: Resource + DeserializeOwned>(kind: &Kind, value: &Value) -> Result<Unknown, DecodeError> {
    let mut value = value.clone();
    strip_nulls(&mut value);
    let name = kind.kind.to_string();
    if !value.is_object() {
        let found = match value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            _ => "a list",
        };
        let expectation = format!("expected a JSON object, found {found}");
        return Err(DecodeError::Body { kind: name, expectation });
    }
    if let Some(version) = value.get_mut("apiVersion") {
        *version = T::API_VERSION.into();
    }
    let mut unknown = Vec::new();
    let mut note = |path: serde_ignored::Path<'_>| {
        let mut text = String::new();
        spell(&path, &mut text);
        unknown.push(text);
    };
    let judged = serde_ignored::Deserializer::new(&value, &mut note);
    match serde_path_to_error::deserialize::<_, T>(judged) {
        Ok(_) => Ok(Unknown(unknown)),
        Err(error) => Err(locate(name, &error)),
    }
}

/// An error with the path of its field.
fn locate(kind: String, error: &serde_path_to_error::Error<serde_json::Error>) -> DecodeError {
    let mut field = String::new();
    for segment in error.path().iter() {
        match segment {
            serde_path_to_error::Segment::Seq { index } => field.push_str(&format!("[{index}]")),
            serde_path_to_error::Segment::Map { key } => push_name(&mut field, key),
            serde_path_to_error::Segment::Enum { variant } => push_name(&mut field, variant),
            serde_path_to_error::Segment::Unknown => {}
        }
    }
    let expectation = error.inner().to_string();
    if field.is_empty() {
        DecodeError::Body { kind, expectation }
    } else {
        DecodeError::Field { kind, field, expectation }
    }
}

/// A path of serde_ignored in Kubernetes' spelling.
fn spell(path: &serde_ignored::Path<'_>, text: &mut String) {
    match path {
        serde_ignored::Path::Root => {}
        serde_ignored::Path::Seq { parent, index } => {
            spell(parent, text);
            text.push_str(&format!("[{index}]"));
        }
        serde_ignored::Path::Map { parent, key } => {
            spell(parent, text);
            push_name(text, key);
        }
        serde_ignored::Path::Some { parent }
        | serde_ignored::Path::NewtypeStruct { parent }
        | serde_ignored::Path::NewtypeVariant { parent } => spell(parent, text),
    }
}

fn push_name(path: &mut String, name: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(name);
}

/// Kinds whose name is their type's.
macro_rules! rows {
    ($($group:literal $versions:tt $module:path { $($kind:ident)* })*) => {
        &[$($({ use $module as types; ($group, &$versions, stringify!($kind), decode::<types::$kind>) },)*)*]
    };
}
type Row = (&'static str, &'static [&'static str], &'static str, Decode);

static ROWS: &[Row] = rows! {
    "admissionregistration.k8s.io" ["v1"] api::admissionregistration::v1 {
        MutatingWebhookConfiguration ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding
        ValidatingWebhookConfiguration
    }
    "apiextensions.k8s.io" ["v1"] apiextensions_apiserver::pkg::apis::apiextensions::v1 { CustomResourceDefinition }
    "apiregistration.k8s.io" ["v1"] kube_aggregator::pkg::apis::apiregistration::v1 { APIService }
    "" ["v1"] api::core::v1 {
        ConfigMap Endpoints Event LimitRange Namespace Node PersistentVolume PersistentVolumeClaim Pod PodTemplate
        ReplicationController ResourceQuota Secret Service ServiceAccount
    }
    "apps" ["v1"] api::apps::v1 { ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet }
    "authentication.k8s.io" ["v1"] api::authentication::v1 { SelfSubjectReview TokenReview }
    "authorization.k8s.io" ["v1"] api::authorization::v1 {
        LocalSubjectAccessReview SelfSubjectAccessReview SelfSubjectRulesReview SubjectAccessReview
    }
    "autoscaling" ["v1"] api::autoscaling::v1 { HorizontalPodAutoscaler }
    "autoscaling" ["v2"] api::autoscaling::v2 { HorizontalPodAutoscaler }
    "batch" ["v1", "v1beta1"] api::batch::v1 { CronJob }
    "batch" ["v1"] api::batch::v1 { Job }
    "coordination.k8s.io" ["v1"] api::coordination::v1 { Lease }
    "discovery.k8s.io" ["v1"] api::discovery::v1 { EndpointSlice }
    "events.k8s.io" ["v1"] api::events::v1 { Event }
    "flowcontrol.apiserver.k8s.io" ["v1"] api::flowcontrol::v1 { FlowSchema PriorityLevelConfiguration }
    "networking.k8s.io" ["v1"] api::networking::v1 { IPAddress Ingress IngressClass NetworkPolicy ServiceCIDR }
    "node.k8s.io" ["v1"] api::node::v1 { RuntimeClass }
    "policy" ["v1", "v1beta1"] api::policy::v1 { PodDisruptionBudget }
    "rbac.authorization.k8s.io" ["v1"] api::rbac::v1 { ClusterRole ClusterRoleBinding Role RoleBinding }
    "scheduling.k8s.io" ["v1"] api::scheduling::v1 { PriorityClass }
    "storage.k8s.io" ["v1"] api::storage::v1 { CSIDriver CSINode CSIStorageCapacity StorageClass VolumeAttachment }
};

/// What the struct of a kind says.
pub fn of(kind: &Kind) -> Option<Decode> {
    let is_it = |row: &&Row| row.0 == kind.group && row.1.contains(&&*kind.version) && row.2 == kind.kind;
    ROWS.iter().find(is_it).map(|row| row.3)
}
