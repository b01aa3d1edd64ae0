//! Real objects of every kind, as users write them, for the tests of this crate.

use serde_json::Value;
use warren_objects::kinds::{self, Kind};

/// YAML as JSON.
pub(crate) fn yaml(text: &str) -> Value {
    serde_yaml_ng::from_str(text).expect("the test's YAML is well formed")
}

/// A built-in kind by its resource.
pub(crate) fn served(resource: &str) -> &'static Kind {
    kinds::of(resource).expect("the resource is served")
}

/// One object of every kind: resource and YAML.
pub(crate) const SAMPLES: &[(&str, &str)] = &[
    ("pods", POD),
    ("services", SERVICE),
    ("namespaces", "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}"),
    ("nodes", NODE),
    (
        "configmaps",
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: c}, data: {a.txt: hello}, binaryData: {b: AAEC}}",
    ),
    (
        "secrets",
        "{apiVersion: v1, kind: Secret, metadata: {name: s}, data: {a: aGVsbG8=}, stringData: {b: hello}}",
    ),
    ("serviceaccounts", "{apiVersion: v1, kind: ServiceAccount, metadata: {name: default}}"),
    ("events", EVENT),
    ("deployments.apps", DEPLOYMENT),
    ("replicasets.apps", REPLICA_SET),
    ("endpoints", ENDPOINTS),
    ("endpointslices.discovery.k8s.io", SLICE),
    ("ingresses.networking.k8s.io", INGRESS),
];

pub(crate) const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata:
  name: web-0
  namespace: shop
  labels: {app: web}
  annotations: {example.com/note: "a b"}
  creationTimestamp: null
spec:
  initContainers:
  - {name: prepare, image: "busybox:1.36", command: [sh, -c, "true"]}
  containers:
  - name: web
    image: nginx:1.14.2
    args: ["--port=$(PORT)"]
    ports: [{containerPort: 80, name: http}]
    env:
    - {name: PORT, value: "80"}
    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: APP, valueFrom: {fieldRef: {fieldPath: "metadata.labels['app']"}}}
    - {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}}
    - {name: KEY, valueFrom: {secretKeyRef: {name: s, key: a, optional: true}}}
    envFrom: [{configMapRef: {name: c}, prefix: C_}]
    resources: {limits: {cpu: 1, memory: 64Mi}, requests: {cpu: 100m}}
    livenessProbe: {httpGet: {port: http, httpHeaders: [{name: X-A, value: b}]}}
    readinessProbe: {tcpSocket: {port: 80}, periodSeconds: 5}
    startupProbe: {exec: {command: ["true"]}}
    lifecycle: {preStop: {sleep: {seconds: 2}}, postStart: {exec: {command: ["true"]}}}
    volumeMounts:
    - {name: tmp, mountPath: /tmp}
    - {name: conf, mountPath: /conf, subPath: a/b, readOnly: true}
    securityContext: {runAsUser: 1000, capabilities: {drop: [ALL]}, allowPrivilegeEscalation: false}
  - {name: side, image: nginx}
  volumes:
  - name: tmp
  - {name: conf, configMap: {name: c, items: [{key: a.txt, path: a/b}]}}
  - {name: key, secret: {secretName: s}}
  - {name: host, hostPath: {path: /var/log}}
  - name: all
    projected:
      sources:
      - {configMap: {name: c}}
      - {downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
  tolerations: [{key: dedicated, operator: Exists, effect: NoSchedule}]
  nodeSelector: {disk: ssd}
  affinity:
    nodeAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
        nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: In, values: [a]}]}]
  hostAliases: [{ip: 10.0.0.1, hostnames: [db.local]}]
  dnsConfig: {searches: [example.com], options: [{name: ndots, value: "2"}]}
"#;

pub(crate) const SERVICE: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: http}
  - {name: dns, port: 53, protocol: UDP}
"#;

pub(crate) const NODE: &str = r#"
apiVersion: v1
kind: Node
metadata:
  name: node-1
  labels: {node-role.kubernetes.io/worker: ""}
  creationTimestamp: "2026-11-20T08:00:00Z"
spec: {podCIDR: 10.42.1.0/24, unschedulable: true, taints: [{key: a, effect: NoSchedule}]}
status:
  capacity: {cpu: 4, memory: 8Gi}
  addresses: [{type: InternalIP, address: 172.18.0.3}, {type: Hostname, address: node-1}]
  conditions: [{type: Ready, status: "True"}]
  nodeInfo:
    architecture: amd64
    bootID: ""
    containerRuntimeVersion: docker://20.10.24
    kernelVersion: 6.1.0
    kubeProxyVersion: ""
    kubeletVersion: v1.34.0+warren
    machineID: ""
    operatingSystem: linux
    osImage: Debian GNU/Linux 12
    systemUUID: ""
"#;

pub(crate) const ENDPOINTS: &str = r#"
apiVersion: v1
kind: Endpoints
metadata: {name: web, namespace: shop, creationTimestamp: "2026-11-22T11:59:00Z"}
subsets:
- addresses: [{ip: 10.42.1.2, nodeName: node-1}, {ip: 10.42.2.2, nodeName: node-2}]
  notReadyAddresses: [{ip: 10.42.3.2, nodeName: node-3}]
  ports: [{name: web, port: 80, protocol: TCP}, {name: dns, port: 53, protocol: UDP}]
"#;

pub(crate) const EVENT: &str = r#"
apiVersion: v1
kind: Event
metadata: {name: web-0.17, namespace: shop, creationTimestamp: "2026-11-22T11:00:00Z"}
involvedObject: {apiVersion: v1, kind: Pod, name: web-0, namespace: shop, fieldPath: "spec.containers{web}"}
reason: BackOff
message: "Back-off restarting failed container\n"
type: Warning
count: 5
firstTimestamp: "2026-11-22T11:00:00Z"
lastTimestamp: "2026-11-22T11:59:30Z"
source: {component: warren-agent, host: node-1}
reportingComponent: ""
reportingInstance: ""
"#;

pub(crate) const DEPLOYMENT: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: nginx-deployment, labels: {app: nginx}}
spec:
  replicas: 3
  selector: {matchLabels: {app: nginx}}
  template:
    metadata: {labels: {app: nginx}}
    spec:
      containers:
      - name: nginx
        image: nginx:1.14.2
        ports: [{containerPort: 80}]
"#;

pub(crate) const REPLICA_SET: &str = r#"
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: frontend, namespace: shop, creationTimestamp: "2026-11-22T07:00:00Z"}
spec:
  replicas: 3
  selector: {matchExpressions: [{key: tier, operator: In, values: [frontend]}]}
  template:
    metadata: {labels: {tier: frontend}}
    spec: {containers: [{name: php, image: "redis:7"}]}
status: {replicas: 3, readyReplicas: 2}
"#;

pub(crate) const SLICE: &str = r#"
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-abc, namespace: shop, creationTimestamp: "2026-11-22T11:59:00Z"}
addressType: IPv4
ports: [{name: http, port: 80}, {name: dns, port: 53, protocol: UDP}]
endpoints:
- {addresses: [10.42.1.2], conditions: {ready: true}, nodeName: node-1}
- {addresses: [10.42.2.2], conditions: {ready: true}}
- {addresses: [10.42.3.2], conditions: {ready: true}}
- {addresses: [10.42.3.3], conditions: {ready: false, terminating: true}}
"#;

pub(crate) const INGRESS: &str = r#"
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: shop, creationTimestamp: "2026-11-22T11:59:00Z"}
spec:
  ingressClassName: warren
  tls: [{hosts: [a.example.com], secretName: cert}]
  rules:
  - host: a.example.com
    http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}
      - {path: /x, pathType: Exact, backend: {service: {name: web, port: {name: http}}}}
  - {host: "*.b.example.com"}
  - {host: c.example.com}
  - {host: d.example.com}
status: {loadBalancer: {ingress: [{ip: 127.0.0.1}]}}
"#;
