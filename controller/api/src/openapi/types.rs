//! Which type each kind has, one line per kind. A kind that is served without a line here still gets a schema, but
//! one without descriptions (`structure`); the tests ask for the line.

use k8s_openapi::{
    api, apiextensions_apiserver, kube_aggregator,
    schemars::{JsonSchema, SchemaGenerator},
};

/// Adds a type and all that it refers to; returns the name of its definition.
pub(super) type Define = fn(&mut SchemaGenerator) -> String;

/// (group, version, kind, its type).
type Row = (&'static str, &'static str, &'static str, Define);

fn define<T: JsonSchema>(generator: &mut SchemaGenerator) -> String {
    generator.subschema_for::<T>();
    T::schema_name().into_owned()
}

/// Kinds whose name is their type's.
macro_rules! rows {
    ($($group:literal $version:literal $module:path { $($kind:ident)* })*) => {
        &[$($({ use $module as types; ($group, $version, stringify!($kind), define::<types::$kind>) },)*)*]
    };
}

static ROWS: &[Row] = rows! {
    "admissionregistration.k8s.io" "v1" api::admissionregistration::v1 {
        MutatingWebhookConfiguration
        ValidatingAdmissionPolicy
        ValidatingAdmissionPolicyBinding
        ValidatingWebhookConfiguration
    }
    "apiextensions.k8s.io" "v1" apiextensions_apiserver::pkg::apis::apiextensions::v1 {
        CustomResourceDefinition
    }
    "apiregistration.k8s.io" "v1" kube_aggregator::pkg::apis::apiregistration::v1 {
        APIService
    }
    "" "v1" api::core::v1 {
        Binding
        ConfigMap
        Endpoints
        Event
        LimitRange
        Namespace
        Node
        PersistentVolume
        PersistentVolumeClaim
        Pod
        PodTemplate
        ReplicationController
        ResourceQuota
        Secret
        Service
        ServiceAccount
    }
    "apps" "v1" api::apps::v1 {
        ControllerRevision
        DaemonSet
        Deployment
        ReplicaSet
        StatefulSet
    }
    "authentication.k8s.io" "v1" api::authentication::v1 {
        SelfSubjectReview
        TokenRequest
        TokenReview
    }
    "authorization.k8s.io" "v1" api::authorization::v1 {
        LocalSubjectAccessReview
        SelfSubjectAccessReview
        SelfSubjectRulesReview
        SubjectAccessReview
    }
    "autoscaling" "v1" api::autoscaling::v1 {
        HorizontalPodAutoscaler
        Scale
    }
    "autoscaling" "v2" api::autoscaling::v2 {
        HorizontalPodAutoscaler
    }
    "batch" "v1" api::batch::v1 {
        CronJob
        Job
    }
    "coordination.k8s.io" "v1" api::coordination::v1 {
        Lease
    }
    "discovery.k8s.io" "v1" api::discovery::v1 {
        EndpointSlice
    }
    "events.k8s.io" "v1" api::events::v1 {
        Event
    }
    "flowcontrol.apiserver.k8s.io" "v1" api::flowcontrol::v1 {
        FlowSchema
        PriorityLevelConfiguration
    }
    "networking.k8s.io" "v1" api::networking::v1 {
        IPAddress
        Ingress
        IngressClass
        NetworkPolicy
        ServiceCIDR
    }
    "node.k8s.io" "v1" api::node::v1 {
        RuntimeClass
    }
    "policy" "v1" api::policy::v1 {
        Eviction
        PodDisruptionBudget
    }
    "rbac.authorization.k8s.io" "v1" api::rbac::v1 {
        ClusterRole
        ClusterRoleBinding
        Role
        RoleBinding
    }
    "scheduling.k8s.io" "v1" api::scheduling::v1 {
        PriorityClass
    }
    "storage.k8s.io" "v1" api::storage::v1 {
        CSIDriver
        CSINode
        CSIStorageCapacity
        StorageClass
        VolumeAttachment
        CSIStorageCapacity
    }
};

/// The type of a kind.
pub(super) fn of(group: &str, version: &str, kind: &str) -> Option<Define> {
    let row = ROWS.iter().find(|row| (row.0, row.1, row.2) == (group, version, kind));
    row.map(|(.., define)| *define)
}
