//! What is in a container.

use super::{
    COMPILER,
    Class::{Acts, Follows, Informs, Keys, Refused, Warns},
    Entries, PLANNERS, Row, Rows, STORED,
    When::{Given, Not, NotZero, OneOf},
};

pub(super) const SCTP: &str = "stored, but SCTP is not carried by this version of Warren";
const NOT_OFFERED: &str = "counted where a node's status offers it, but no device is handed to the container";

const LIMITS: Entries = &[
    ("cpu", Acts(COMPILER)),
    ("memory", Acts(COMPILER)),
    (
        "ephemeral-storage",
        Warns(Given, "stored, but what a container writes is not limited by this version of Warren"),
    ),
    ("*", Warns(Given, NOT_OFFERED)),
];
const REQUESTS: Entries = &[
    ("cpu", Acts(COMPILER)),
    ("memory", Acts(COMPILER)),
    ("ephemeral-storage", Acts(PLANNERS)),
    ("*", Warns(Given, NOT_OFFERED)),
];

pub(super) const TYPES: &[Rows] = &[
    (
        "core.v1",
        "Container",
        &[
            Row("name image imagePullPolicy command args workingDir stdin stdinOnce tty", Acts(COMPILER)),
            Row("env envFrom ports resources volumeMounts securityContext lifecycle", Acts(COMPILER)),
            Row("livenessProbe readinessProbe startupProbe", Acts(COMPILER)),
            Row("terminationMessagePath terminationMessagePolicy", Acts(COMPILER)),
            Row("resizePolicy", Warns(Given, STORED)),
            Row("restartPolicy", Refused(Given, "run what shall go on beside the others as a container")),
            Row("restartPolicyRules", Refused(Given, "use the pod's restartPolicy")),
            Row("volumeDevices", Refused(Given, "mount a volume with files")),
        ],
    ),
    (
        "core.v1",
        "ContainerPort",
        &[
            Row("name containerPort protocol", Acts(COMPILER)),
            Row("protocol", Warns(OneOf(&["SCTP"]), SCTP)),
            Row("hostPort", Warns(NotZero, "stored, but not opened on the node by this version of Warren")),
            Row("hostIP", Follows("hostPort")),
        ],
    ),
    ("core.v1", "EnvVar", &[Row("name value valueFrom", Acts(COMPILER))]),
    (
        "core.v1",
        "EnvVarSource",
        &[
            Row("fieldRef resourceFieldRef configMapKeyRef secretKeyRef", Acts(COMPILER)),
            Row("fileKeyRef", Refused(Given, "use a ConfigMap or a Secret")),
        ],
    ),
    (
        "core.v1",
        "ObjectFieldSelector",
        &[Row("fieldPath", Acts(COMPILER)), Row("apiVersion", Informs("there is one version of pods"))],
    ),
    ("core.v1", "ResourceFieldSelector", &[Row("containerName resource divisor", Acts(COMPILER))]),
    ("core.v1", "ConfigMapKeySelector", &[Row("name key optional", Acts(COMPILER))]),
    ("core.v1", "SecretKeySelector", &[Row("name key optional", Acts(COMPILER))]),
    ("core.v1", "EnvFromSource", &[Row("prefix configMapRef secretRef", Acts(COMPILER))]),
    ("core.v1", "ConfigMapEnvSource", &[Row("name optional", Acts(COMPILER))]),
    ("core.v1", "SecretEnvSource", &[Row("name optional", Acts(COMPILER))]),
    (
        "core.v1",
        "ResourceRequirements",
        &[
            Row("limits", Keys(&[LIMITS])),
            Row("requests", Keys(&[REQUESTS])),
            Row("claims", Warns(Given, STORED)),
        ],
    ),
    (
        "core.v1",
        "VolumeMount",
        &[
            Row("name readOnly mountPath subPath subPathExpr", Acts(COMPILER)),
            Row("mountPropagation", Warns(Not(&["None"]), STORED)),
            Row("recursiveReadOnly", Warns(Not(&["Disabled"]), STORED)),
        ],
    ),
    (
        "core.v1",
        "Probe",
        &[
            Row("exec httpGet tcpSocket grpc", Acts(COMPILER)),
            Row(
                "initialDelaySeconds timeoutSeconds periodSeconds successThreshold failureThreshold",
                Acts(COMPILER),
            ),
            Row("terminationGracePeriodSeconds", Acts(COMPILER)),
        ],
    ),
    ("core.v1", "ExecAction", &[Row("command", Acts(COMPILER))]),
    ("core.v1", "Sysctl", &[Row("name value", Acts(COMPILER))]),
    ("core.v1", "GRPCAction", &[Row("port service", Acts(COMPILER))]),
    ("core.v1", "HTTPGetAction", &[Row("path port host scheme httpHeaders", Acts(COMPILER))]),
    ("core.v1", "HTTPHeader", &[Row("name value", Acts(COMPILER))]),
    ("core.v1", "TCPSocketAction", &[Row("port host", Acts(COMPILER))]),
    (
        "core.v1",
        "Lifecycle",
        &[Row("postStart preStop", Acts(COMPILER)), Row("stopSignal", Warns(Given, STORED))],
    ),
    ("core.v1", "LifecycleHandler", &[Row("exec httpGet tcpSocket sleep", Acts(COMPILER))]),
    ("core.v1", "SleepAction", &[Row("seconds", Acts(COMPILER))]),
];
