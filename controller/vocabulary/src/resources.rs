//! What resources are called in the store, and which names their objects bear.
//!
//! A resource's constant is its plural in capitals. What is served at all is in `warren-objects`' table of kinds.

/// Pods.
pub const PODS: &str = "pods";
/// Services.
pub const SERVICES: &str = "services";
/// Nodes.
pub const NODES: &str = "nodes";
/// Namespaces.
pub const NAMESPACES: &str = "namespaces";
/// ConfigMaps.
pub const CONFIGMAPS: &str = "configmaps";
/// Secrets.
pub const SECRETS: &str = "secrets";
/// Service accounts.
pub const SERVICEACCOUNTS: &str = "serviceaccounts";
/// Events.
pub const EVENTS: &str = "events";
/// Deployments.
pub const DEPLOYMENTS: &str = "deployments.apps";
/// Replica sets.
pub const REPLICASETS: &str = "replicasets.apps";
/// Jobs.
pub const JOBS: &str = "jobs.batch";
/// Jobs that are made again and again.
pub const CRONJOBS: &str = "cronjobs.batch";
/// What changes the size of sets of pods.
pub const HORIZONTALPODAUTOSCALERS: &str = "horizontalpodautoscalers.autoscaling";
/// Replication controllers.
pub const REPLICATIONCONTROLLERS: &str = "replicationcontrollers";
/// Stateful sets.
pub const STATEFULSETS: &str = "statefulsets.apps";
/// Daemon sets.
pub const DAEMONSETS: &str = "daemonsets.apps";
/// Controller revisions: the templates that a stateful set or a daemon set has had.
pub const CONTROLLERREVISIONS: &str = "controllerrevisions.apps";
/// Claims of persistent volumes.
pub const PERSISTENTVOLUMECLAIMS: &str = "persistentvolumeclaims";
/// Limit ranges: what containers and claims may have.
pub const LIMITRANGES: &str = "limitranges";
/// Resource quotas: how much of all a namespace may have.
pub const RESOURCEQUOTAS: &str = "resourcequotas";
/// Disruption budgets: how many pods may be missing.
pub const PODDISRUPTIONBUDGETS: &str = "poddisruptionbudgets.policy";
/// Priority classes: which pods come first.
pub const PRIORITYCLASSES: &str = "priorityclasses.scheduling.k8s.io";
/// Runtime classes.
pub const RUNTIMECLASSES: &str = "runtimeclasses.node.k8s.io";
/// Networks of services' addresses.
pub const SERVICECIDRS: &str = "servicecidrs.networking.k8s.io";
/// Endpoints, for clients that know no slices.
pub const ENDPOINTS: &str = "endpoints";
/// Endpoint slices.
pub const ENDPOINTSLICES: &str = "endpointslices.discovery.k8s.io";
/// Ingresses.
pub const INGRESSES: &str = "ingresses.networking.k8s.io";
/// Ingress classes.
pub const INGRESSCLASSES: &str = "ingressclasses.networking.k8s.io";
/// Roles of a namespace.
pub const ROLES: &str = "roles.rbac.authorization.k8s.io";
/// Roles of the cluster.
pub const CLUSTERROLES: &str = "clusterroles.rbac.authorization.k8s.io";
/// What gives roles in a namespace.
pub const ROLEBINDINGS: &str = "rolebindings.rbac.authorization.k8s.io";
/// What gives roles everywhere.
pub const CLUSTERROLEBINDINGS: &str = "clusterrolebindings.rbac.authorization.k8s.io";
/// Members of the overlay; internal.
pub const MEMBERS: &str = "members.warren.internal";
/// Join tokens; internal.
pub const TOKENS: &str = "tokens.warren.internal";
/// Keys that sign tokens of service accounts; internal.
pub const SIGNINGKEYS: &str = "signingkeys.warren.internal";
/// Reserved service addresses; internal. The name is the address.
pub const SERVICEADDRESSES: &str = "serviceaddresses.warren.internal";
/// The cluster's networks, one object; internal.
pub const NETWORKS: &str = "networks.warren.internal";

/// On an endpoint slice: the label with the service whose endpoints it holds.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The ingress class that is there in every cluster.
pub const INGRESS_CLASS: &str = "warren";
/// What an ingress class names in `spec.controller` whose ingresses the gateways serve.
pub const INGRESS_CONTROLLER: &str = "warren.dev/gateway";
/// On an ingress class: "true" makes it the class of every new Ingress that names none.
pub const DEFAULT_CLASS: &str = "ingressclass.kubernetes.io/is-default-class";
