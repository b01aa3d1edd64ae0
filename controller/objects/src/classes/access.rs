//! Questions about who a user is and what they may do, and the bodies of subresources.

use super::{
    API,
    Class::{self, Acts, Informs},
    Row, Rows,
};

const STATUS: Row = Row("status", Informs("the answer"));
/// Until there is RBAC: members of system:masters may do everything, others nothing.
const EQUAL: Class = Informs("the answer is the same for all: only the groups of the subject decide");

pub(super) const TYPES: &[Rows] = &[
    ("authentication.v1", "SelfSubjectReview", &[Row("metadata", Acts(API)), STATUS]),
    ("authentication.v1", "TokenReview", &[Row("metadata spec", Acts(API)), STATUS]),
    (
        "authentication.v1",
        "TokenReviewSpec",
        &[Row("token audiences", Informs("no token is valid, and so it says"))],
    ),
    ("authorization.v1", "LocalSubjectAccessReview", &[Row("metadata spec", Acts(API)), STATUS]),
    ("authorization.v1", "SelfSubjectAccessReview", &[Row("metadata spec", Acts(API)), STATUS]),
    ("authorization.v1", "SelfSubjectRulesReview", &[Row("metadata spec", Acts(API)), STATUS]),
    ("authorization.v1", "SubjectAccessReview", &[Row("metadata spec", Acts(API)), STATUS]),
    (
        "authorization.v1",
        "SubjectAccessReviewSpec",
        &[Row("nonResourceAttributes user groups", Acts(API)), Row("resourceAttributes extra uid", EQUAL)],
    ),
    (
        "authorization.v1",
        "SelfSubjectAccessReviewSpec",
        &[Row("nonResourceAttributes", Acts(API)), Row("resourceAttributes", EQUAL)],
    ),
    ("authorization.v1", "SelfSubjectRulesReviewSpec", &[Row("namespace", EQUAL)]),
    ("authorization.v1", "NonResourceAttributes", &[Row("path verb", Acts(API))]),
    ("autoscaling.v1", "Scale", &[Row("metadata spec", Acts(API)), STATUS]),
    ("autoscaling.v1", "ScaleSpec", &[Row("replicas", Acts(API))]),
    (
        "policy.v1",
        "Eviction",
        &[Row("metadata", Informs("the pod is named by the path")), Row("deleteOptions", Acts(API))],
    ),
];
