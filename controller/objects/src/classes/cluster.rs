//! Configuration, accounts, namespaces, nodes, events, leases.

use super::{
    CHECKS, COMPILER,
    Class::{self, Acts, Informs, Keys, Warns},
    Entries, GATE, KIND, PLANNERS, QUOTAS, Row, Rows, STORED,
    When::{Given, Not, OneOf},
    pod::NO_PULL_SECRETS,
};

const STATUS: Row = Row("status", Informs("written by the system"));
const TOLD: Class = Informs("for people to read, as in Kubernetes");

const NAMESPACE_LABELS: Entries = &[
    (
        "pod-security.kubernetes.io/*",
        Warns(
            Not(&["privileged", "latest"]),
            "stored, but pods are not held to a pod security standard by this version of Warren",
        ),
    ),
    ("*", Acts(PLANNERS)),
];
const NAMESPACE_ANNOTATIONS: Entries = &[
    (
        "scheduler.alpha.kubernetes.io/*",
        Warns(
            Given,
            "stored, but pods go where their own spec says: use spec.nodeSelector or spec.tolerations",
        ),
    ),
    ("*", Acts(COMPILER)),
];
const ACCOUNT_ANNOTATIONS: Entries = &[
    (
        "kubernetes.io/enforce-mountable-secrets",
        Warns(OneOf(&["true"]), "stored, but pods may mount every Secret of their namespace"),
    ),
    ("*", Acts(COMPILER)),
];

pub(super) const TYPES: &[Rows] = &[
    (
        "core.v1",
        "ConfigMap",
        &[Row("metadata data binaryData", Acts(COMPILER)), Row("immutable", Acts(CHECKS))],
    ),
    (
        "core.v1",
        "Secret",
        &[
            Row("metadata data", Acts(COMPILER)),
            Row("stringData", Acts(KIND)),
            Row("type immutable", Acts(CHECKS)),
            Row(
                "type",
                Warns(
                    OneOf(&["kubernetes.io/service-account-token"]),
                    "stored, but no token is put into it: none are issued by this version of Warren",
                ),
            ),
            Row(
                "type",
                Warns(
                    OneOf(&["bootstrap.kubernetes.io/token"]),
                    "stored, but nobody joins by it: machines join by `warren token create`",
                ),
            ),
        ],
    ),
    (
        "core.v1",
        "ServiceAccount",
        &[
            Row("metadata", Acts(COMPILER)),
            Row("metadata.annotations", Keys(&[ACCOUNT_ANNOTATIONS])),
            Row(
                "secrets",
                Informs("a list for people, unless an annotation enforces it, which is warned of"),
            ),
            Row("imagePullSecrets", Warns(Given, NO_PULL_SECRETS)),
            Row("automountServiceAccountToken", Acts(super::GATE)),
        ],
    ),
    (
        "core.v1",
        "Namespace",
        &[
            Row("metadata spec", Acts(PLANNERS)),
            Row("metadata.labels", Keys(&[NAMESPACE_LABELS])),
            Row("metadata.annotations", Keys(&[NAMESPACE_ANNOTATIONS])),
            STATUS,
        ],
    ),
    ("core.v1", "LimitRange", &[Row("metadata spec", Acts(GATE))]),
    ("core.v1", "LimitRangeSpec", &[Row("limits", Acts(GATE))]),
    (
        "core.v1",
        "LimitRangeItem",
        &[Row("type max min default defaultRequest maxLimitRequestRatio", Acts(GATE))],
    ),
    ("core.v1", "ResourceQuota", &[Row("metadata spec", Acts(QUOTAS)), STATUS]),
    ("core.v1", "ResourceQuotaSpec", &[Row("hard scopes scopeSelector", Acts(QUOTAS))]),
    ("core.v1", "ScopeSelector", &[Row("matchExpressions", Acts(QUOTAS))]),
    ("core.v1", "ScopedResourceSelectorRequirement", &[Row("scopeName operator values", Acts(QUOTAS))]),
    ("core.v1", "NamespaceSpec", &[Row("finalizers", Acts(PLANNERS))]),
    ("core.v1", "Node", &[Row("metadata spec", Acts(PLANNERS)), STATUS]),
    (
        "core.v1",
        "NodeSpec",
        &[
            Row("unschedulable taints", Acts(PLANNERS)),
            Row("podCIDR podCIDRs", Informs("written by the controller when the machine joins")),
            Row("providerID externalID", Informs("names the machine at its provider")),
            Row("configSource", Warns(Given, STORED)),
        ],
    ),
    ("core.v1", "Taint", &[Row("key value effect timeAdded", Acts(PLANNERS))]),
    (
        "core.v1",
        "Event",
        &[
            Row("metadata", Acts(PLANNERS)),
            Row("involvedObject reason message source type action related", TOLD),
            Row("count series eventTime reportingComponent reportingInstance", TOLD),
            Row("firstTimestamp lastTimestamp", TOLD),
        ],
    ),
    (
        "events.v1",
        "Event",
        &[
            Row("metadata", Acts(PLANNERS)),
            Row("eventTime series reportingController reportingInstance action reason", TOLD),
            Row("regarding related note type", TOLD),
            Row("deprecatedSource deprecatedFirstTimestamp deprecatedLastTimestamp deprecatedCount", TOLD),
        ],
    ),
    ("coordination.v1", "Lease", &[Row("metadata spec", Acts(KIND))]),
    (
        "coordination.v1",
        "LeaseSpec",
        &[
            Row(
                "holderIdentity leaseDurationSeconds acquireTime renewTime leaseTransitions",
                Informs("kept for those who coordinate by it, as in Kubernetes"),
            ),
            Row(
                "strategy preferredHolder",
                Warns(Given, "stored, but the server elects nobody: candidates take the lease themselves"),
            ),
        ],
    ),
];
