//! What keeps pods running. Kinds that are not run yet say so as a whole and need no rows.

use super::{
    CHECKS,
    Class::{Acts, Informs},
    PLANNERS, Row, Rows,
};

const STATUS: Row = Row("status", Informs("written by the system"));

pub(super) const TYPES: &[Rows] = &[
    ("apps.v1", "Deployment", &[Row("metadata spec", Acts(PLANNERS)), STATUS]),
    (
        "apps.v1",
        "DeploymentSpec",
        &[
            Row("replicas selector template strategy paused", Acts(PLANNERS)),
            Row("minReadySeconds revisionHistoryLimit progressDeadlineSeconds", Acts(PLANNERS)),
        ],
    ),
    ("apps.v1", "DeploymentStrategy", &[Row("type rollingUpdate", Acts(PLANNERS))]),
    ("apps.v1", "RollingUpdateDeployment", &[Row("maxUnavailable maxSurge", Acts(PLANNERS))]),
    ("apps.v1", "ReplicaSet", &[Row("metadata spec", Acts(PLANNERS)), STATUS]),
    ("apps.v1", "ReplicaSetSpec", &[Row("replicas selector template minReadySeconds", Acts(PLANNERS))]),
    (
        "apps.v1",
        "ControllerRevision",
        &[
            Row("metadata", Acts(PLANNERS)),
            Row("data revision", Informs("kept for the controller that writes it, as in Kubernetes")),
        ],
    ),
    // Kept for a controller that makes pods of it; judged as if one did.
    ("core.v1", "PodTemplate", &[Row("metadata template", Acts(CHECKS))]),
];
