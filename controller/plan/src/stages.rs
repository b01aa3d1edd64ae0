//! The planners, in the order in which they may write.

use std::collections::BTreeSet;

use warren_state::Key;

use crate::{
    autoscale, cluster_roles, cron_job, daemon_set, deadline, deployment, disruption, endpoints, garbage,
    idle, ingress, job, namespaces, node_lifecycle, outcome::Outcome, quota, replicaset, root_certificates,
    schedule, stateful_set, termination, view::View,
};

/// One question, asked of one key at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Namespaces,
    RootCertificates,
    Autoscaling,
    Deployments,
    ReplicaSets,
    StatefulSets,
    DaemonSets,
    CronJobs,
    Jobs,
    JobPods,
    Nodes,
    NodePods,
    Deadlines,
    Endpoints,
    EndpointsObjects,
    Termination,
    Ingresses,
    Disruptions,
    DisruptedPods,
    Scheduling,
    Garbage,
    GarbagePods,
    GarbageMembers,
    GarbageAddresses,
    Quotas,
    ClusterRoles,
    Idle,
}

/// Plans for the keys that are due.
pub(crate) type Planner = fn(&View<'_>, &BTreeSet<Key>, &mut Outcome<'_>);

/// By [`Stage`]: what failures are said to have happened in, and the planner.
pub(crate) const STAGES: [(&str, Planner); 27] = [
    ("namespaces", namespaces::plan),
    ("root certificates", root_certificates::plan),
    (autoscale::STAGE, autoscale::plan),
    ("deployments", deployment::plan),
    ("replica sets", replicaset::plan),
    ("stateful sets", stateful_set::plan),
    ("daemon sets", daemon_set::plan),
    ("cron jobs", cron_job::plan),
    ("jobs", job::plan),
    ("jobs", job::plan_pods),
    ("node lifecycle", node_lifecycle::plan_nodes),
    ("node lifecycle", node_lifecycle::plan_pods),
    ("deadlines of pods", deadline::plan),
    ("endpoints", endpoints::plan),
    ("endpoints", endpoints::objects::plan),
    ("termination", termination::plan),
    ("ingresses", ingress::plan),
    ("disruption budgets", disruption::plan),
    ("disruption budgets", disruption::plan_pods),
    ("scheduling", schedule::plan),
    ("garbage", garbage::plan),
    ("garbage", garbage::plan_pods),
    ("garbage", garbage::plan_members),
    ("garbage", garbage::plan_addresses),
    ("resource quotas", quota::plan),
    ("cluster roles", cluster_roles::plan),
    ("kinds that are not run", idle::plan),
];
