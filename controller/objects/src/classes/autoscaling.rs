//! Autoscalers.

use super::{
    Class::{Acts, Informs, Warns},
    PLANNERS, Row, Rows,
    When::Given,
};

const CONVERSIONS: &str = "controller/objects/src/conversions.rs";
const UNSERVED: &str =
    "no metrics of this kind are measured by this version of Warren: nothing is scaled by it";

pub(super) const TYPES: &[Rows] = &[
    (
        "autoscaling.v1",
        "HorizontalPodAutoscaler",
        &[Row("metadata spec", Acts(PLANNERS)), Row("status", Informs("written by the system"))],
    ),
    (
        "autoscaling.v1",
        "HorizontalPodAutoscalerSpec",
        &[
            Row("scaleTargetRef minReplicas maxReplicas", Acts(PLANNERS)),
            Row("targetCPUUtilizationPercentage", Acts(CONVERSIONS)),
        ],
    ),
    ("autoscaling.v1", "CrossVersionObjectReference", &[Row("apiVersion kind name", Acts(PLANNERS))]),
    (
        "autoscaling.v2",
        "HorizontalPodAutoscaler",
        &[Row("metadata spec", Acts(PLANNERS)), Row("status", Informs("written by the system"))],
    ),
    (
        "autoscaling.v2",
        "HorizontalPodAutoscalerSpec",
        &[Row("scaleTargetRef minReplicas maxReplicas metrics behavior", Acts(PLANNERS))],
    ),
    ("autoscaling.v2", "CrossVersionObjectReference", &[Row("apiVersion kind name", Acts(PLANNERS))]),
    ("autoscaling.v2", "HorizontalPodAutoscalerBehavior", &[Row("scaleUp scaleDown", Acts(PLANNERS))]),
    (
        "autoscaling.v2",
        "HPAScalingRules",
        &[Row("policies selectPolicy stabilizationWindowSeconds tolerance", Acts(PLANNERS))],
    ),
    ("autoscaling.v2", "HPAScalingPolicy", &[Row("type value periodSeconds", Acts(PLANNERS))]),
    (
        "autoscaling.v2",
        "MetricSpec",
        &[
            Row("type resource containerResource object", Acts(PLANNERS)),
            Row("pods external", Warns(Given, UNSERVED)),
        ],
    ),
    ("autoscaling.v2", "ResourceMetricSource", &[Row("name target", Acts(PLANNERS))]),
    ("autoscaling.v2", "ContainerResourceMetricSource", &[Row("name container target", Acts(PLANNERS))]),
    ("autoscaling.v2", "ObjectMetricSource", &[Row("describedObject metric target", Acts(PLANNERS))]),
    ("autoscaling.v2", "MetricIdentifier", &[Row("name selector", Acts(PLANNERS))]),
    ("autoscaling.v2", "MetricTarget", &[Row("type value averageValue averageUtilization", Acts(PLANNERS))]),
];
