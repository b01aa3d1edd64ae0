//! Pods and their templates, without what is in their containers and volumes.

use super::{
    COMPILER,
    Class::{self, Acts, Follows, Informs, Keys, Leads, Refused, Warns},
    DEFAULTS, Entries, PLANNERS, Row, Rows, STORED,
    When::{False, Given, Not, True},
};

const HOST: &str = "make a Service or an Ingress for what others shall reach";
pub(super) const NO_PULL_SECRETS: &str =
    "stored, but images are pulled without them by this version of Warren";
/// Profiles without the engine's own: of AppArmor, of seccomp.
const PROFILE: Class = Warns(Not(&["RuntimeDefault"]), STORED);

/// What must be and what is preferred.
const BOTH: &str =
    "requiredDuringSchedulingIgnoredDuringExecution preferredDuringSchedulingIgnoredDuringExecution";

/// Annotations that pods carry instead of fields, most of them of the time before there was a field.
const ANNOTATIONS: Entries = &[
    (
        "container.apparmor.security.beta.kubernetes.io/*",
        Warns(
            Not(&["runtime/default"]),
            "stored, but containers run under Docker's own AppArmor profile in this version of Warren",
        ),
    ),
    (
        "seccomp.security.alpha.kubernetes.io/*",
        Warns(
            Not(&["runtime/default", "docker/default"]),
            "stored, but containers run under Docker's own seccomp profile in this version of Warren",
        ),
    ),
    (
        "container.seccomp.security.alpha.kubernetes.io/*",
        Warns(
            Not(&["runtime/default", "docker/default"]),
            "stored, but containers run under Docker's own seccomp profile in this version of Warren",
        ),
    ),
    (
        "scheduler.alpha.kubernetes.io/*",
        Warns(Given, "stored, but scheduling goes by the pod's spec: use spec.affinity or spec.tolerations"),
    ),
    (
        "security.alpha.kubernetes.io/*",
        Warns(Given, "stored, but no sysctl is set by this version of Warren"),
    ),
    (
        "pod.alpha.kubernetes.io/*",
        Warns(Given, "stored, but pods are made by their spec: use spec.initContainers or spec.hostname"),
    ),
    (
        "pod.beta.kubernetes.io/*",
        Warns(Given, "stored, but pods are made by their spec: use spec.initContainers or spec.hostname"),
    ),
    ("kubernetes.io/ingress-bandwidth", Warns(Given, "stored, but this version of Warren shapes no traffic")),
    ("kubernetes.io/egress-bandwidth", Warns(Given, "stored, but this version of Warren shapes no traffic")),
    (
        "k8s.v1.cni.cncf.io/networks",
        Warns(Given, "stored, but a pod has the overlay's interface alone in this version of Warren"),
    ),
    ("v1.multus-cni.io/default-network", Warns(Given, "stored, but every pod is in the overlay")),
    ("controller.kubernetes.io/pod-deletion-cost", Acts(PLANNERS)),
    ("*", Acts(COMPILER)),
];

const HANDLERS: &str =
    "its overhead and its nodes count, but this version of Warren runs every pod by Docker's default runtime";

pub(super) const TYPES: &[Rows] = &[
    (
        "core.v1",
        "Pod",
        &[
            Row("metadata spec", Acts(COMPILER)),
            Row("metadata.annotations", Keys(&[ANNOTATIONS])),
            Row("status", Informs("written by the system")),
        ],
    ),
    (
        "core.v1",
        "PodTemplateSpec",
        &[
            Row("metadata spec", Acts(PLANNERS)),
            Row("metadata.labels metadata.finalizers", Acts(PLANNERS)),
            Row("metadata.annotations", Keys(&[ANNOTATIONS])),
            Row(
                "metadata.name metadata.namespace metadata.generateName metadata.uid metadata.resourceVersion \
                 metadata.ownerReferences",
                Informs("a pod takes labels, annotations and finalizers of its template and nothing else"),
            ),
        ],
    ),
    (
        "core.v1",
        "PodSpec",
        &[
            Row("volumes containers initContainers securityContext", Acts(COMPILER)),
            Row("restartPolicy dnsPolicy dnsConfig hostAliases enableServiceLinks", Acts(COMPILER)),
            Row("terminationGracePeriodSeconds activeDeadlineSeconds", Acts(PLANNERS)),
            Row("hostname setHostnameAsFQDN", Acts(COMPILER)),
            Row("subdomain nodeName nodeSelector tolerations affinity priority overhead", Acts(PLANNERS)),
            Row("automountServiceAccountToken", Acts(super::GATE)),
            Row("ephemeralContainers", Refused(Given, "leave them out: no debugging container is run")),
            Row("hostNetwork", Refused(True, HOST)),
            Row("hostPID hostIPC", Refused(True, "")),
            Row(
                "hostUsers",
                Warns(False, "stored, but users are those of the machine in this version of Warren"),
            ),
            Row(
                "hostnameOverride",
                Warns(Given, "stored, but the host name is made of hostname and subdomain"),
            ),
            Row("imagePullSecrets", Warns(Given, NO_PULL_SECRETS)),
            Row("os", Acts(super::CHECKS)),
            Row("topologySpreadConstraints schedulingGates", Acts(PLANNERS)),
            Row("priorityClassName preemptionPolicy", Acts(super::GATE)),
            Row("readinessGates", Warns(Given, "stored, but not waited for by this version of Warren")),
            Row(
                "resources",
                Warns(
                    Given,
                    "what it requests counts when a node is chosen, but the pod as a whole is not limited",
                ),
            ),
            Row("resourceClaims", Refused(Given, "")),
            Row("runtimeClassName", Warns(Given, HANDLERS)),
            Row("schedulerName", Acts(PLANNERS)),
            Row(
                "schedulerName",
                Warns(
                    Not(&["default-scheduler"]),
                    "Warren's scheduler leaves the pod alone: it stays Pending until a scheduler of that name binds it",
                ),
            ),
            Row("serviceAccount", Acts(DEFAULTS)),
            Row("serviceAccountName", Acts(super::GATE)),
            Row("shareProcessNamespace", Warns(True, STORED)),
        ],
    ),
    ("core.v1", "PodOS", &[Row("name", Refused(Not(&["linux"]), "nodes run Linux"))]),
    ("core.v1", "PodSchedulingGate", &[Row("name", Informs("names the gate for who takes it away"))]),
    ("core.v1", "Affinity", &[Row("nodeAffinity podAffinity podAntiAffinity", Acts(PLANNERS))]),
    ("core.v1", "NodeAffinity", &[Row(BOTH, Acts(PLANNERS))]),
    ("core.v1", "PodAffinity", &[Row(BOTH, Acts(PLANNERS))]),
    ("core.v1", "PodAntiAffinity", &[Row(BOTH, Acts(PLANNERS))]),
    ("core.v1", "PreferredSchedulingTerm", &[Row("weight preference", Acts(PLANNERS))]),
    ("core.v1", "WeightedPodAffinityTerm", &[Row("weight podAffinityTerm", Acts(PLANNERS))]),
    (
        "core.v1",
        "PodAffinityTerm",
        &[
            Row("labelSelector namespaces topologyKey namespaceSelector", Acts(PLANNERS)),
            Row("matchLabelKeys mismatchLabelKeys", Acts(PLANNERS)),
        ],
    ),
    (
        "core.v1",
        "TopologySpreadConstraint",
        &[
            Row("maxSkew topologyKey whenUnsatisfiable labelSelector minDomains", Acts(PLANNERS)),
            Row("nodeAffinityPolicy nodeTaintsPolicy matchLabelKeys", Acts(PLANNERS)),
        ],
    ),
    ("core.v1", "NodeSelector", &[Row("nodeSelectorTerms", Acts(PLANNERS))]),
    ("core.v1", "NodeSelectorTerm", &[Row("matchExpressions matchFields", Acts(PLANNERS))]),
    ("core.v1", "NodeSelectorRequirement", &[Row("key operator values", Acts(PLANNERS))]),
    ("core.v1", "Toleration", &[Row("key operator value effect tolerationSeconds", Acts(PLANNERS))]),
    ("core.v1", "HostAlias", &[Row("ip hostnames", Acts(COMPILER))]),
    ("core.v1", "PodDNSConfig", &[Row("nameservers searches options", Acts(COMPILER))]),
    ("core.v1", "PodDNSConfigOption", &[Row("name value", Acts(COMPILER))]),
    (
        "core.v1",
        "PodSecurityContext",
        &[
            Row("runAsUser runAsGroup runAsNonRoot supplementalGroups fsGroup", Acts(COMPILER)),
            Row("seccompProfile appArmorProfile", Leads),
            Row(
                "fsGroup",
                Warns(
                    Given,
                    "a group of the pod's processes, but volumes are not made this group's by this version of Warren",
                ),
            ),
            Row("sysctls", Acts(COMPILER)),
            Row("fsGroupChangePolicy", Warns(Given, STORED)),
            Row("supplementalGroupsPolicy", Warns(Not(&["Merge"]), STORED)),
            Row("seLinuxOptions seLinuxChangePolicy windowsOptions", Warns(Given, STORED)),
        ],
    ),
    (
        "core.v1",
        "SecurityContext",
        &[
            Row("capabilities privileged readOnlyRootFilesystem allowPrivilegeEscalation", Acts(COMPILER)),
            Row("runAsUser runAsGroup runAsNonRoot", Acts(COMPILER)),
            Row("seccompProfile appArmorProfile", Leads),
            Row("procMount", Warns(Not(&["Default"]), STORED)),
            Row("seLinuxOptions windowsOptions", Warns(Given, STORED)),
        ],
    ),
    ("core.v1", "Capabilities", &[Row("add drop", Acts(COMPILER))]),
    ("core.v1", "SeccompProfile", &[Row("type", PROFILE), Row("localhostProfile", Follows("type"))]),
    ("core.v1", "AppArmorProfile", &[Row("type", PROFILE), Row("localhostProfile", Follows("type"))]),
];
