//! What keeps pods running. Kinds that are not run yet say so as a whole and need no rows.

use super::{
    CHECKS,
    Class::{Acts, Informs, Warns},
    DISRUPTION, GATE, KIND, PLANNERS, Row, Rows,
    When::Given,
};

const STATUS: Row = Row("status", Informs("written by the system"));

/// A disruption budget's, in both versions.
const BUDGET: &[Row] = &[
    Row("minAvailable maxUnavailable", Acts(PLANNERS)),
    Row("selector unhealthyPodEvictionPolicy", Acts(DISRUPTION)),
];

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
    ("batch.v1", "Job", &[Row("metadata spec", Acts(PLANNERS)), STATUS]),
    (
        "batch.v1",
        "JobSpec",
        &[
            Row("parallelism completions completionMode selector template suspend", Acts(PLANNERS)),
            Row("backoffLimit backoffLimitPerIndex maxFailedIndexes podFailurePolicy", Acts(PLANNERS)),
            Row("successPolicy podReplacementPolicy managedBy", Acts(PLANNERS)),
            Row("activeDeadlineSeconds ttlSecondsAfterFinished", Acts(PLANNERS)),
            Row("manualSelector", Acts(KIND)),
        ],
    ),
    ("batch.v1", "PodFailurePolicy", &[Row("rules", Acts(PLANNERS))]),
    ("batch.v1", "PodFailurePolicyRule", &[Row("action onExitCodes onPodConditions", Acts(PLANNERS))]),
    (
        "batch.v1",
        "PodFailurePolicyOnExitCodesRequirement",
        &[Row("containerName operator values", Acts(PLANNERS))],
    ),
    ("batch.v1", "PodFailurePolicyOnPodConditionsPattern", &[Row("type status", Acts(PLANNERS))]),
    ("batch.v1", "SuccessPolicy", &[Row("rules", Acts(PLANNERS))]),
    ("batch.v1", "SuccessPolicyRule", &[Row("succeededIndexes succeededCount", Acts(PLANNERS))]),
    ("batch.v1", "CronJob", &[Row("metadata spec", Acts(PLANNERS)), STATUS]),
    (
        "batch.v1",
        "CronJobSpec",
        &[
            Row("schedule timeZone startingDeadlineSeconds concurrencyPolicy suspend", Acts(PLANNERS)),
            Row("jobTemplate successfulJobsHistoryLimit failedJobsHistoryLimit", Acts(PLANNERS)),
        ],
    ),
    ("batch.v1", "JobTemplateSpec", &[Row("metadata spec", Acts(PLANNERS))]),
    ("core.v1", "ReplicationController", &[Row("metadata spec", Acts(PLANNERS)), STATUS]),
    (
        "core.v1",
        "ReplicationControllerSpec",
        &[Row("replicas selector template minReadySeconds", Acts(PLANNERS))],
    ),
    ("apps.v1", "StatefulSet", &[Row("metadata spec", Acts(PLANNERS)), STATUS]),
    (
        "apps.v1",
        "StatefulSetSpec",
        &[
            Row("replicas selector template serviceName podManagementPolicy", Acts(PLANNERS)),
            Row("updateStrategy revisionHistoryLimit minReadySeconds ordinals", Acts(PLANNERS)),
            Row("persistentVolumeClaimRetentionPolicy", Acts(PLANNERS)),
            Row(
                "volumeClaimTemplates",
                Warns(
                    Given,
                    "the claims are made, but this version of Warren binds none: the pods stay Pending",
                ),
            ),
        ],
    ),
    ("apps.v1", "StatefulSetUpdateStrategy", &[Row("type rollingUpdate", Acts(PLANNERS))]),
    ("apps.v1", "RollingUpdateStatefulSetStrategy", &[Row("partition maxUnavailable", Acts(PLANNERS))]),
    ("apps.v1", "StatefulSetOrdinals", &[Row("start", Acts(PLANNERS))]),
    (
        "apps.v1",
        "StatefulSetPersistentVolumeClaimRetentionPolicy",
        &[Row("whenDeleted whenScaled", Acts(PLANNERS))],
    ),
    ("apps.v1", "DaemonSet", &[Row("metadata spec", Acts(PLANNERS)), STATUS]),
    (
        "apps.v1",
        "DaemonSetSpec",
        &[Row("selector template updateStrategy minReadySeconds revisionHistoryLimit", Acts(PLANNERS))],
    ),
    ("apps.v1", "DaemonSetUpdateStrategy", &[Row("type rollingUpdate", Acts(PLANNERS))]),
    ("apps.v1", "RollingUpdateDaemonSet", &[Row("maxUnavailable maxSurge", Acts(PLANNERS))]),
    ("apps.v1", "ControllerRevision", &[Row("metadata data revision", Acts(PLANNERS))]),
    ("policy.v1", "PodDisruptionBudget", &[Row("metadata spec", Acts(PLANNERS)), STATUS]),
    ("policy.v1beta1", "PodDisruptionBudget", &[Row("metadata spec", Acts(PLANNERS)), STATUS]),
    ("policy.v1", "PodDisruptionBudgetSpec", BUDGET),
    ("policy.v1beta1", "PodDisruptionBudgetSpec", BUDGET),
    (
        "scheduling.v1",
        "PriorityClass",
        &[
            Row("metadata value globalDefault preemptionPolicy", Acts(GATE)),
            Row("description", Informs("for people")),
        ],
    ),
    // Kept for whoever makes pods of it; judged as if somebody did.
    ("core.v1", "PodTemplate", &[Row("metadata template", Acts(CHECKS))]),
];
