//! Kinds that no object can have, because nothing would act by it and that would do harm. They are shown, so that
//! clients which validate, list or delete their objects find what they expect: an empty list, 404. A creation is
//! refused by name.

use super::{Kind, PLAIN, REFUSED};

const CLUSTER: Kind = Kind { namespaced: false, verbs: REFUSED, ..PLAIN };
const ADMISSION: Kind = Kind { group: "admissionregistration.k8s.io", ..CLUSTER };
const RBAC: Kind = Kind { group: "rbac.authorization.k8s.io", ..CLUSTER };

macro_rules! no_rbac {
    ($kinds:literal) => {
        concat!(
            $kinds,
            " are refused: RBAC is not served by this version of Warren: members of system:masters may do everything, \
             others nothing"
        )
    };
}

macro_rules! no_admission {
    ($kinds:literal) => {
        concat!(
            $kinds,
            " are refused: admission webhooks and policies are not served by this version of Warren: what they would \
             forbid would be let through"
        )
    };
}

pub(super) const KINDS: &[Kind] = &[
    Kind {
        kind: "MutatingWebhookConfiguration",
        plural: "mutatingwebhookconfigurations",
        refusal: no_admission!("MutatingWebhookConfigurations"),
        ..ADMISSION
    },
    Kind {
        kind: "ValidatingAdmissionPolicy",
        plural: "validatingadmissionpolicies",
        refusal: no_admission!("ValidatingAdmissionPolicies"),
        ..ADMISSION
    },
    Kind {
        kind: "ValidatingAdmissionPolicyBinding",
        plural: "validatingadmissionpolicybindings",
        refusal: no_admission!("ValidatingAdmissionPolicyBindings"),
        ..ADMISSION
    },
    Kind {
        kind: "ValidatingWebhookConfiguration",
        plural: "validatingwebhookconfigurations",
        refusal: no_admission!("ValidatingWebhookConfigurations"),
        ..ADMISSION
    },
    Kind {
        group: "apiextensions.k8s.io",
        kind: "CustomResourceDefinition",
        plural: "customresourcedefinitions",
        short_names: &["crd", "crds"],
        refusal: "CustomResourceDefinitions are refused: custom resources are not served by this version of Warren",
        ..CLUSTER
    },
    Kind {
        group: "apiregistration.k8s.io",
        kind: "APIService",
        plural: "apiservices",
        refusal: "APIServices are refused: aggregated APIs are not served by this version of Warren",
        ..CLUSTER
    },
    Kind {
        kind: "ClusterRoleBinding",
        plural: "clusterrolebindings",
        refusal: no_rbac!("ClusterRoleBindings"),
        ..RBAC
    },
    Kind { kind: "ClusterRole", plural: "clusterroles", refusal: no_rbac!("ClusterRoles"), ..RBAC },
    Kind {
        kind: "RoleBinding",
        plural: "rolebindings",
        namespaced: true,
        refusal: no_rbac!("RoleBindings"),
        ..RBAC
    },
    Kind { kind: "Role", plural: "roles", namespaced: true, refusal: no_rbac!("Roles"), ..RBAC },
];
