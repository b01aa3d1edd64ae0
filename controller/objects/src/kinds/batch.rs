//! Work that ends, and what changes the number of pods: the groups `autoscaling`, `batch`, `policy`.

use super::{ALL, Face, Kind, PLAIN, STATUS, Source};
use crate::{defaults, faces, table, validate};

const AUTOSCALER: Kind = Kind {
    group: "autoscaling",
    version: "v2",
    kind: "HorizontalPodAutoscaler",
    plural: "horizontalpodautoscalers",
    short_names: &["hpa"],
    categories: ALL,
    subresources: &[STATUS],
    counters: &["currentReplicas", "desiredReplicas"],
    idle: "warren does not run HorizontalPodAutoscalers yet: nothing is scaled by it",
    defaults: defaults::autoscaler::autoscaler,
    validate: validate::autoscaler::autoscaler,
    columns: table::autoscaler::COLUMNS,
    row: table::autoscaler::row,
    ..PLAIN
};

const CRON_JOB: Kind = Kind {
    group: "batch",
    kind: "CronJob",
    plural: "cronjobs",
    short_names: &["cj"],
    categories: ALL,
    subresources: &[STATUS],
    has_generation: true,
    idle: "warren does not run CronJobs yet: no job is made for it",
    defaults: defaults::job::cron_job,
    validate: validate::job::cron_job,
    columns: table::job::CRON_JOB_COLUMNS,
    row: table::job::cron_job_row,
    ..PLAIN
};

const BUDGET: Kind = Kind {
    group: "policy",
    kind: "PodDisruptionBudget",
    plural: "poddisruptionbudgets",
    short_names: &["pdb"],
    subresources: &[STATUS],
    counters: &["currentHealthy", "desiredHealthy", "disruptionsAllowed", "expectedPods"],
    has_generation: true,
    idle: "warren does not honour PodDisruptionBudgets yet: evictions are not held back by it",
    validate: validate::budget::budget,
    columns: table::budget::COLUMNS,
    row: table::budget::row,
    ..PLAIN
};

pub(super) const KINDS: &[Kind] = &[
    AUTOSCALER,
    // What `kubectl autoscale` writes.
    Kind {
        version: "v1",
        source: Source::Face(Face { show: faces::autoscaler_v1, store: Some(faces::autoscaler_from_v1) }),
        ..AUTOSCALER
    },
    CRON_JOB,
    Kind {
        group: "batch",
        kind: "Job",
        plural: "jobs",
        categories: ALL,
        subresources: &[STATUS],
        has_generation: true,
        fields: &["status.successful"],
        idle: "warren does not run Jobs yet: no pod is made for it",
        defaults: defaults::job::job,
        validate: validate::job::job,
        update: validate::job::job_update,
        columns: table::job::JOB_COLUMNS,
        row: table::job::job_row,
        ..PLAIN
    },
    // What kubectl 1.20 writes by `create cronjob`, and reads by `describe`.
    Kind {
        version: "v1beta1",
        source: Source::Face(Face {
            show: faces::cron_job_v1beta1,
            store: Some(faces::cron_job_from_v1beta1),
        }),
        ..CRON_JOB
    },
    BUDGET,
    // What kubectl 1.20 writes by `create poddisruptionbudget`, and reads by `describe`.
    Kind {
        version: "v1beta1",
        source: Source::Face(Face { show: faces::budget_v1beta1, store: Some(faces::budget_from_v1beta1) }),
        ..BUDGET
    },
];
