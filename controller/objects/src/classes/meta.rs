//! Metadata, and selectors by labels.

use super::{
    API, COMPILER,
    Class::{Acts, Informs},
    PLANNERS, Row, Rows,
};

pub(super) const TYPES: &[Rows] = &[
    (
        "meta.v1",
        "ObjectMeta",
        &[
            Row("name namespace generateName uid resourceVersion", Acts(API)),
            Row("labels", Acts(PLANNERS)),
            Row("annotations", Acts(COMPILER)),
            Row("ownerReferences finalizers", Acts(PLANNERS)),
            Row(
                "generation creationTimestamp deletionTimestamp deletionGracePeriodSeconds selfLink",
                Informs("set by the server; what a client writes there is dropped, as in Kubernetes"),
            ),
            Row("managedFields", Informs("kept as clients write it; nothing goes by it yet")),
        ],
    ),
    (
        "meta.v1",
        "OwnerReference",
        &[Row("kind name uid apiVersion controller blockOwnerDeletion", Acts(PLANNERS))],
    ),
    ("meta.v1", "LabelSelector", &[Row("matchLabels matchExpressions", Acts(PLANNERS))]),
    ("meta.v1", "LabelSelectorRequirement", &[Row("key operator values", Acts(PLANNERS))]),
    (
        "meta.v1",
        "DeleteOptions",
        &[
            Row("gracePeriodSeconds preconditions orphanDependents propagationPolicy dryRun", Acts(API)),
            Row(
                "ignoreStoreReadErrorWithClusterBreakingPotential",
                Informs("no object of this store is readable in part"),
            ),
        ],
    ),
    ("meta.v1", "Preconditions", &[Row("uid resourceVersion", Acts(API))]),
];
