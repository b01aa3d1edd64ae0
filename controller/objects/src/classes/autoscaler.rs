//! What changes the size of sets of pods.

use super::{
    Class::{Acts, Informs, Warns},
    PLANNERS, Row, Rows,
    When::Given,
};

const STATUS: Row = Row("status", Informs("written by the system"));
const CONVERSIONS: &str = "controller/objects/src/conversions.rs";

pub(super) const TYPES: &[Rows] = &[
    ("autoscaling.v1", "HorizontalPodAutoscaler", &[Row("metadata spec", Acts(PLANNERS)), STATUS]),
    (
        "autoscaling.v1",
        "HorizontalPodAutoscalerSpec",
        &[
            Row("scaleTargetRef minReplicas maxReplicas", Acts(PLANNERS)),
            Row("targetCPUUtilizationPercentage", Acts(CONVERSIONS)),
        ],
    ),
    ("autoscaling.v1", "CrossVersionObjectReference", &[Row("kind name apiVersion", Acts(PLANNERS))]),
    ("autoscaling.v2", "HorizontalPodAutoscaler", &[Row("metadata spec", Acts(PLANNERS)), STATUS]),
    (
        "autoscaling.v2",
        "HorizontalPodAutoscalerSpec",
        &[Row("scaleTargetRef minReplicas maxReplicas metrics behavior", Acts(PLANNERS))],
    ),
    ("autoscaling.v2", "CrossVersionObjectReference", &[Row("kind name apiVersion", Acts(PLANNERS))]),
    ("autoscaling.v2", "HorizontalPodAutoscalerBehavior", &[Row("scaleUp scaleDown", Acts(PLANNERS))]),
    (
        "autoscaling.v2",
        "HPAScalingRules",
        &[Row("selectPolicy policies stabilizationWindowSeconds tolerance", Acts(PLANNERS))],
    ),
    ("autoscaling.v2", "HPAScalingPolicy", &[Row("type value periodSeconds", Acts(PLANNERS))]),
    (
        "autoscaling.v2",
        "MetricSpec",
        &[
            Row("type resource containerResource object", Acts(PLANNERS)),
            Row(
                "pods",
                Warns(Given, "this version of Warren has no custom metrics of pods: it is never there"),
            ),
            Row(
                "external",
                Warns(Given, "this version of Warren has no external metrics: it is never there"),
            ),
        ],
    ),
    ("autoscaling.v2", "ResourceMetricSource", &[Row("name target", Acts(PLANNERS))]),
    ("autoscaling.v2", "ContainerResourceMetricSource", &[Row("name container target", Acts(PLANNERS))]),
    ("autoscaling.v2", "ObjectMetricSource", &[Row("describedObject metric target", Acts(PLANNERS))]),
    (
        "autoscaling.v2",
        "MetricIdentifier",
        &[
            Row("name", Acts(PLANNERS)),
            Row(
                "selector",
                Warns(Given, "no metric of this version of Warren has labels: it is never there"),
            ),
        ],
    ),
    ("autoscaling.v2", "MetricTarget", &[Row("type value averageValue averageUtilization", Acts(PLANNERS))]),
];
