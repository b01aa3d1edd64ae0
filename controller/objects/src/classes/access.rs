//! Questions about who a user is and what they may do, and the bodies of subresources.

use super::{
    ACCESS, API,
    Class::{Acts, Informs, Leads},
    KIND, Row, Rows,
};

const STATUS: Row = Row("status", Informs("the answer"));

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
        &[
            Row("nonResourceAttributes resourceAttributes user groups", Acts(API)),
            Row("extra uid", Informs("roles are given to names and groups")),
        ],
    ),
    (
        "authorization.v1",
        "SelfSubjectAccessReviewSpec",
        &[Row("nonResourceAttributes resourceAttributes", Acts(API))],
    ),
    (
        "authorization.v1",
        "ResourceAttributes",
        &[
            Row("verb group resource subresource namespace name", Acts(API)),
            Row("version", Informs("roles do not tell versions apart")),
            Row("fieldSelector labelSelector", Informs("roles do not tell selectors apart")),
        ],
    ),
    ("authorization.v1", "SelfSubjectRulesReviewSpec", &[Row("namespace", Acts(API))]),
    ("authorization.v1", "NonResourceAttributes", &[Row("path verb", Acts(API))]),
    ("rbac.v1", "Role", &[Row("metadata rules", Acts(ACCESS))]),
    ("rbac.v1", "ClusterRole", &[Row("metadata rules", Acts(ACCESS)), Row("aggregationRule", Leads)]),
    ("rbac.v1", "AggregationRule", &[Row("clusterRoleSelectors", Acts(ACCESS))]),
    (
        "rbac.v1",
        "PolicyRule",
        &[Row("verbs apiGroups resources resourceNames nonResourceURLs", Acts(ACCESS))],
    ),
    ("rbac.v1", "RoleBinding", &[Row("metadata subjects roleRef", Acts(ACCESS))]),
    ("rbac.v1", "ClusterRoleBinding", &[Row("metadata subjects roleRef", Acts(ACCESS))]),
    ("rbac.v1", "RoleRef", &[Row("kind name", Acts(ACCESS)), Row("apiGroup", Acts(KIND))]),
    ("rbac.v1", "Subject", &[Row("kind name namespace", Acts(ACCESS)), Row("apiGroup", Acts(KIND))]),
    ("autoscaling.v1", "Scale", &[Row("metadata spec", Acts(API)), STATUS]),
    ("autoscaling.v1", "ScaleSpec", &[Row("replicas", Acts(API))]),
    (
        "policy.v1",
        "Eviction",
        &[Row("metadata", Informs("the pod is named by the path")), Row("deleteOptions", Acts(API))],
    ),
];
