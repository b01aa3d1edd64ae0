//! What is answered and not kept: the groups `authentication.k8s.io`, `authorization.k8s.io`, `metrics.k8s.io`.

use super::{Kind, PLAIN, Source};
use crate::{table, validate};

/// A question about who somebody is, or what they may.
const QUESTION: Kind = Kind { namespaced: false, source: Source::Answered, verbs: &["create"], ..PLAIN };
const AUTHENTICATION: Kind = Kind { group: "authentication.k8s.io", ..QUESTION };
const AUTHORIZATION: Kind = Kind { group: "authorization.k8s.io", ..QUESTION };

/// What pods and nodes use, as their agents last measured it.
const METRICS: Kind = Kind {
    group: "metrics.k8s.io",
    version: "v1beta1",
    source: Source::Derived,
    verbs: &["get", "list"],
    refusal: "usage is measured by the nodes' agents, to be read only",
    columns: table::metrics::COLUMNS,
    ..PLAIN
};

pub(super) const KINDS: &[Kind] = &[
    Kind { kind: "SelfSubjectReview", plural: "selfsubjectreviews", ..AUTHENTICATION },
    Kind { kind: "TokenReview", plural: "tokenreviews", validate: validate::review::token, ..AUTHENTICATION },
    Kind {
        kind: "LocalSubjectAccessReview",
        plural: "localsubjectaccessreviews",
        namespaced: true,
        validate: validate::review::local_subject_access,
        ..AUTHORIZATION
    },
    Kind {
        kind: "SelfSubjectAccessReview",
        plural: "selfsubjectaccessreviews",
        validate: validate::review::self_subject_access,
        ..AUTHORIZATION
    },
    Kind {
        kind: "SelfSubjectRulesReview",
        plural: "selfsubjectrulesreviews",
        validate: validate::review::self_subject_rules,
        ..AUTHORIZATION
    },
    Kind {
        kind: "SubjectAccessReview",
        plural: "subjectaccessreviews",
        validate: validate::review::subject_access,
        ..AUTHORIZATION
    },
    Kind {
        kind: "NodeMetrics",
        plural: "nodes",
        namespaced: false,
        row: table::metrics::node_row,
        ..METRICS
    },
    Kind { kind: "PodMetrics", plural: "pods", row: table::metrics::pod_row, ..METRICS },
];
