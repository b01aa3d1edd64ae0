//! Real objects of the kinds beside pods, services and Deployments, as users write them.

/// Resource and YAML.
pub(crate) const MORE_SAMPLES: &[(&str, &str)] = &[
    ("limitranges", LIMIT_RANGE),
    ("persistentvolumeclaims", CLAIM),
    ("persistentvolumes", VOLUME),
    ("podtemplates", POD_TEMPLATE),
    ("replicationcontrollers", REPLICATION_CONTROLLER),
    ("resourcequotas", RESOURCE_QUOTA),
    ("controllerrevisions.apps", CONTROLLER_REVISION),
    ("daemonsets.apps", DAEMON_SET),
    ("statefulsets.apps", STATEFUL_SET),
    ("selfsubjectreviews.authentication.k8s.io", "{metadata: {name: q}}"),
    ("tokenreviews.authentication.k8s.io", "{metadata: {name: q}, spec: {token: x}}"),
    (
        "localsubjectaccessreviews.authorization.k8s.io",
        "{metadata: {name: q, namespace: shop}, spec: {user: jane, resourceAttributes: {namespace: shop, verb: get}}}",
    ),
    (
        "selfsubjectaccessreviews.authorization.k8s.io",
        "{metadata: {name: q}, spec: {nonResourceAttributes: {path: /healthz, verb: get}}}",
    ),
    ("selfsubjectrulesreviews.authorization.k8s.io", "{metadata: {name: q}, spec: {namespace: shop}}"),
    (
        "subjectaccessreviews.authorization.k8s.io",
        "{metadata: {name: q}, spec: {groups: [dev], resourceAttributes: {verb: get, resource: pods}}}",
    ),
    ("horizontalpodautoscalers.autoscaling", AUTOSCALER),
    ("cronjobs.batch", CRON_JOB),
    ("jobs.batch", JOB),
    ("poddisruptionbudgets.policy", BUDGET),
    ("ingressclasses.networking.k8s.io", INGRESS_CLASS),
    ("networkpolicies.networking.k8s.io", NETWORK_POLICY),
    (
        "leases.coordination.k8s.io",
        "{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: leader, namespace: shop}, spec: \
         {holderIdentity: a, leaseDurationSeconds: 15, renewTime: \"2026-11-22T12:00:00.000000Z\"}}",
    ),
    (
        "runtimeclasses.node.k8s.io",
        "{apiVersion: node.k8s.io/v1, kind: RuntimeClass, metadata: {name: gvisor}, handler: runsc}",
    ),
    (
        "priorityclasses.scheduling.k8s.io",
        "{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {name: high}, value: 1000000, \
         description: For what must run.}",
    ),
    (
        "csidrivers.storage.k8s.io",
        "{apiVersion: storage.k8s.io/v1, kind: CSIDriver, metadata: {name: disk.example.com}, spec: \
         {podInfoOnMount: true, volumeLifecycleModes: [Persistent, Ephemeral]}}",
    ),
    (
        "csinodes.storage.k8s.io",
        "{apiVersion: storage.k8s.io/v1, kind: CSINode, metadata: {name: node-1}, spec: {drivers: \
         [{name: disk.example.com, nodeID: n1, topologyKeys: [zone]}]}}",
    ),
    (
        "storageclasses.storage.k8s.io",
        "{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: fast, annotations: \
         {storageclass.kubernetes.io/is-default-class: \"true\"}}, provisioner: disk.example.com, parameters: \
         {type: ssd}, allowVolumeExpansion: true, volumeBindingMode: WaitForFirstConsumer}",
    ),
    (
        "csistoragecapacities.storage.k8s.io",
        "{apiVersion: storage.k8s.io/v1, kind: CSIStorageCapacity, metadata: {name: a, namespace: d}, storageClassName: \
         fast, capacity: 10Gi, nodeTopology: {matchLabels: {zone: a}}}",
    ),
    (
        "servicecidrs.networking.k8s.io",
        "{apiVersion: networking.k8s.io/v1, kind: ServiceCIDR, metadata: {name: more}, spec: {cidrs: [10.44.0.0/16, \
         \"2001:db8::/64\"]}}",
    ),
    (
        "ipaddresses.networking.k8s.io",
        "{apiVersion: networking.k8s.io/v1, kind: IPAddress, metadata: {name: \"2001:db8::1\"}, spec: {parentRef: \
         {resource: services, namespace: d, name: web}}}",
    ),
    (
        "flowschemas.flowcontrol.apiserver.k8s.io",
        "{apiVersion: flowcontrol.apiserver.k8s.io/v1, kind: FlowSchema, metadata: {name: robots}, spec: \
         {priorityLevelConfiguration: {name: low}, matchingPrecedence: 500, distinguisherMethod: {type: ByUser}, rules: \
         [{subjects: [{kind: Group, group: {name: robots}}], resourceRules: [{verbs: [list], apiGroups: ['*'], resources: \
         ['*'], clusterScope: true, namespaces: ['*']}]}]}}",
    ),
    (
        "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io",
        "{apiVersion: flowcontrol.apiserver.k8s.io/v1, kind: PriorityLevelConfiguration, metadata: {name: low}, spec: {type: \
         Limited, limited: {nominalConcurrencyShares: 5, limitResponse: {type: Queue, queuing: {queues: 8, handSize: 2, \
         queueLengthLimit: 10}}}}}",
    ),
    (
        "volumeattachments.storage.k8s.io",
        "{apiVersion: storage.k8s.io/v1, kind: VolumeAttachment, metadata: {name: a}, spec: {attacher: \
         disk.example.com, nodeName: node-1, source: {persistentVolumeName: v}}}",
    ),
    (
        "clusterroles.rbac.authorization.k8s.io",
        r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: reader}
rules: [{apiGroups: [""], resources: [pods], verbs: [get]}]
"#,
    ),
    (
        "clusterrolebindings.rbac.authorization.k8s.io",
        r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: readers}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: reader}
subjects: [{kind: User, name: jane}]
"#,
    ),
    (
        "roles.rbac.authorization.k8s.io",
        r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: shop}
rules: [{apiGroups: [""], resources: [pods], verbs: [get]}]
"#,
    ),
    (
        "rolebindings.rbac.authorization.k8s.io",
        r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: readers, namespace: shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
"#,
    ),
];

pub(crate) const LIMIT_RANGE: &str = r#"
apiVersion: v1
kind: LimitRange
metadata: {name: limits, namespace: shop}
spec:
  limits:
  - {type: Container, default: {cpu: 500m, memory: 512Mi}, defaultRequest: {cpu: 100m}, max: {cpu: "2"}, min: {cpu: 50m}}
  - {type: PersistentVolumeClaim, max: {storage: 10Gi}}
"#;
pub(crate) const CLAIM: &str = r#"
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, namespace: shop}
spec: {accessModes: [ReadWriteOnce], storageClassName: fast, resources: {requests: {storage: 8Gi}}}
"#;
pub(crate) const VOLUME: &str = r#"
apiVersion: v1
kind: PersistentVolume
metadata: {name: disk-1}
spec:
  capacity: {storage: 10Gi}
  accessModes: [ReadWriteOnce, ReadOnlyMany]
  persistentVolumeReclaimPolicy: Retain
  storageClassName: local
  local: {path: /mnt/disks/1}
  nodeAffinity:
    required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [node-1]}]}]}
"#;
pub(crate) const POD_TEMPLATE: &str = r#"
apiVersion: v1
kind: PodTemplate
metadata: {name: web, namespace: shop}
template: {metadata: {labels: {app: web}}, spec: {containers: [{name: web, image: "nginx:1"}]}}
"#;
pub(crate) const REPLICATION_CONTROLLER: &str = r#"
apiVersion: v1
kind: ReplicationController
metadata: {name: web, namespace: shop}
spec: {replicas: 2, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: web, image: "nginx:1"}]}}}
"#;
pub(crate) const RESOURCE_QUOTA: &str = r#"
apiVersion: v1
kind: ResourceQuota
metadata: {name: quota, namespace: shop}
spec:
  hard: {requests.cpu: "4", limits.memory: 8Gi, pods: 10, count/deployments.apps: "5", services.loadbalancers: "1"}
  scopes: [NotTerminating]
status: {hard: {pods: "10", limits.memory: 8Gi}, used: {pods: "3"}}
"#;
pub(crate) const CONTROLLER_REVISION: &str = r#"
apiVersion: apps/v1
kind: ControllerRevision
metadata:
  name: db-5c4d
  namespace: shop
  ownerReferences: [{apiVersion: apps/v1, kind: StatefulSet, name: db, uid: u, controller: true}]
data: {spec: {template: {$patch: replace}}}
revision: 3
"#;
pub(crate) const DAEMON_SET: &str = r#"
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: logs, namespace: kube-system}
spec:
  selector: {matchLabels: {app: logs}}
  template:
    metadata: {labels: {app: logs}}
    spec:
      nodeSelector: {disk: ssd}
      tolerations: [{key: node-role.kubernetes.io/control-plane, effect: NoSchedule}]
      containers: [{name: logs, image: "fluentd:1.16", volumeMounts: [{name: varlog, mountPath: /var/log}]}]
      volumes: [{name: varlog, hostPath: {path: /var/log}}]
status: {currentNumberScheduled: 3, desiredNumberScheduled: 3, numberMisscheduled: 0, numberReady: 2}
"#;
pub(crate) const STATEFUL_SET: &str = r#"
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: shop}
spec:
  serviceName: db
  replicas: 3
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      containers: [{name: db, image: "postgres:17", volumeMounts: [{name: data, mountPath: /var/lib/postgresql}]}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
"#;
pub(crate) const AUTOSCALER: &str = r#"
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web, namespace: shop}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  maxReplicas: 10
  metrics:
  - {type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 60}}}
  - {type: Pods, pods: {metric: {name: requests}, target: {type: AverageValue, averageValue: 1k}}}
  behavior: {scaleDown: {stabilizationWindowSeconds: 60}}
"#;
pub(crate) const CRON_JOB: &str = r#"
apiVersion: batch/v1
kind: CronJob
metadata: {name: report, namespace: shop}
spec:
  schedule: "*/5 1-3 * * mon-fri"
  timeZone: Europe/Berlin
  jobTemplate:
    spec: {template: {spec: {restartPolicy: OnFailure, containers: [{name: a, image: "busybox:1", command: [date]}]}}}
"#;
pub(crate) const JOB: &str = r#"
apiVersion: batch/v1
kind: Job
metadata: {name: pi, namespace: shop, uid: u-1}
spec:
  completions: 5
  parallelism: 2
  completionMode: Indexed
  backoffLimit: 4
  ttlSecondsAfterFinished: 60
  podFailurePolicy: {rules: [{action: FailJob, onExitCodes: {operator: In, values: [42]}}]}
  template: {spec: {restartPolicy: Never, containers: [{name: pi, image: "perl:5", command: [perl]}]}}
"#;
pub(crate) const BUDGET: &str = r#"
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web, namespace: shop}
spec: {minAvailable: 50%, selector: {matchLabels: {app: web}}, unhealthyPodEvictionPolicy: AlwaysAllow}
"#;
pub(crate) const INGRESS_CLASS: &str = r#"
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: external}
spec: {controller: example.com/ingress, parameters: {apiGroup: example.com, kind: Settings, name: all}}
"#;
pub(crate) const NETWORK_POLICY: &str = r#"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny, namespace: shop}
spec: {podSelector: {matchLabels: {app: db}}, policyTypes: [Ingress]}
"#;
/// Of kinds that are refused: they are shown, and their objects are known by their types.
pub(crate) const REFUSED: &[(&str, &str)] = &[
    (
        "mutatingwebhookconfigurations.admissionregistration.k8s.io",
        r#"
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: inject}
webhooks:
- name: inject.example.com
  clientConfig: {service: {name: inject, namespace: shop}}
  admissionReviewVersions: [v1]
  sideEffects: None
"#,
    ),
    (
        "validatingwebhookconfigurations.admissionregistration.k8s.io",
        r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: judge}
webhooks: []
"#,
    ),
    (
        "validatingadmissionpolicies.admissionregistration.k8s.io",
        r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: few}
spec: {validations: [{expression: "object.spec.replicas <= 5"}]}
"#,
    ),
    (
        "validatingadmissionpolicybindings.admissionregistration.k8s.io",
        r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: few}
spec: {policyName: few, validationActions: [Deny]}
"#,
    ),
    (
        "customresourcedefinitions.apiextensions.k8s.io",
        r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  names: {kind: Widget, plural: widgets}
  scope: Namespaced
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]
"#,
    ),
    (
        "apiservices.apiregistration.k8s.io",
        r#"
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1.example.com}
spec: {group: example.com, version: v1, groupPriorityMinimum: 100, versionPriority: 100}
"#,
    ),
];
