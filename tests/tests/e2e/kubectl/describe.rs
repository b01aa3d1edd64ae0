//! describe, of each kind that has something to say.

use super::{
    Family, Row,
    client::{Client, Outcome, contains, eventually},
    row, shows,
};

pub const FAMILY: Family = Family {
    name: "describe",
    before,
    rows: &[WORKLOADS, SETTINGS, NETWORK, CLUSTER],
    after: &["delete -f $DIR/cluster-kinds.yaml --ignore-not-found"],
};

/// One of each kind that is in a namespace.
const KINDS: &str = include_str!("../../../manifests/kinds.yaml");
/// One of each kind that is in none.
const CLUSTER_KINDS: &str = include_str!("../../../manifests/cluster-kinds.yaml");

fn before(client: &Client<'_>) -> Outcome {
    client.file("cluster-kinds.yaml", CLUSTER_KINDS)?;
    client.file("kinds.yaml", KINDS)?;
    // A kind that is not served is seen in its own row.
    client.run("apply -f $DIR/cluster-kinds.yaml", "")?;
    client.run("apply -f $DIR/kinds.yaml", "")?;
    client.comes_to_hold("deployment/web", r#"{"status": {"availableReplicas": 1}}"#)
}

const WORKLOADS: &[Row] = &[
    row("describe pod", |client| {
        let texts = ["Name:", "web-", "Node:", "-node-", "Started container web", "Scheduled"];
        eventually(|| client.says("describe pod -l app=web", &texts))?;
        client.says(
            "describe pod -l app=web",
            &[
                "Controlled By:",
                "ReplicaSet/web-",
                "COLOUR",
                "<set to the key 'colour' of config map 'settings'>",
            ],
        )
    }),
    shows(
        "describe deployment",
        "describe deployment web",
        &["1 desired | 1 updated | 1 total | 1 available", "NewReplicaSet:", "ScalingReplicaSet"],
    ),
    shows(
        "describe replicaset",
        "describe replicaset -l app=web",
        &["Controlled By:", "Deployment/web", "1 current / 1 desired", "SuccessfulCreate"],
    ),
    shows(
        "describe statefulset",
        "describe statefulset stateful",
        &["Update Strategy:", "RollingUpdate", "data"],
    ),
    shows("describe daemonset", "describe daemonset everywhere", &["Desired Number of Nodes Scheduled:"]),
    shows(
        "describe job",
        "describe job once",
        &["Parallelism:", "Completions:", "batch.kubernetes.io/job-name=once"],
    ),
    shows("describe cronjob", "describe cronjob nightly", &["Schedule:", "0 3 * * *", "Concurrency Policy:"]),
    shows("describe replicationcontroller", "describe rc old", &["Replicas:", "0 desired"]),
    shows("describe podtemplate", "describe podtemplate form", &["PodTemplate", "busybox:1.36"]),
    shows(
        "describe controllerrevision",
        "describe controllerrevision past",
        &["ControllerRevision", "Revision:"],
    ),
    shows(
        "describe horizontalpodautoscaler",
        "describe hpa web",
        &["Deployment/web", "80%", "Min replicas:", "Max replicas:"],
    ),
];

const SETTINGS: &[Row] = &[
    shows("describe configmap", "describe configmap settings", &["colour:\n----\nblue"]),
    shows("describe secret", "describe secret word", &["Opaque", "word:  9 bytes"]),
    shows("describe serviceaccount", "describe serviceaccount robot", &["robot", "Image pull secrets:"]),
    shows("describe persistentvolumeclaim", "describe pvc data", &["StorageClass:", "Pending"]),
    shows("describe resourcequota", "describe quota bounds", &["Resource", "Used", "Hard", "pods", "50"]),
    shows("describe limitrange", "describe limitrange sizes", &["Container", "memory", "64Mi"]),
    shows("describe poddisruptionbudget", "describe pdb calm", &["Min available:", "Allowed disruptions:"]),
    shows("describe lease", "describe lease held", &["Holder Identity", "somebody"]),
    row("describe event", |client| {
        let name = client.ok("get events -o jsonpath={.items[0].metadata.name}")?;
        client.says(&format!("describe event {name}"), &["Involved Object:", "Reason:"])
    }),
];

const NETWORK: &[Row] = &[
    row("describe service", |client| {
        let texts = ["Selector:", "app=web", "TargetPort:", "8080/TCP", "Endpoints:", "10.42.", ":8080"];
        eventually(|| client.says("describe service web", &texts))
    }),
    shows("describe endpoints", "describe endpoints web", &["Addresses:", "10.42.", "8080", "TCP"]),
    row("describe endpointslice", |client| {
        let name = client.ok(
            "get endpointslices -l kubernetes.io/service-name=web -o jsonpath={.items[0].metadata.name}",
        )?;
        client.says(&format!("describe endpointslice {name}"), &["AddressType:", "IPv4", "8080", "10.42."])
    }),
    shows("describe ingress", "describe ingress web", &["describe.test", "/path", "web:80"]),
    shows(
        "describe networkpolicy",
        "describe networkpolicy closed",
        &["PodSelector:", "Policy Types: Ingress"],
    ),
];

const CLUSTER: &[Row] = &[
    row("describe node", |client| {
        let texts =
            ["Roles:", "Capacity:", "Allocatable:", "Kernel Version:", "Non-terminated Pods:", "Ready"];
        client.says("describe node $NODE", &texts)
    }),
    shows("describe namespace", "describe namespace $NS", &["Status:", "Active"]),
    shows("describe persistentvolume", "describe pv $NS", &["Reclaim Policy:", "Retain", "1Gi", "/nowhere"]),
    shows("describe storageclass", "describe storageclass $NS", &["Provisioner:", "example.test/disks"]),
    shows("describe ingressclass", "describe ingressclass $NS", &["Controller:", "example.test/ways"]),
    shows("describe priorityclass", "describe priorityclass $NS", &["Value:", "1000"]),
    shows("describe runtimeclass", "describe runtimeclass $NS", &["Handler:", "other"]),
    shows("describe csidriver", "describe csidriver $NS.example.test", &["CSIDriver", "Attach Required:"]),
    row("describe: several, one missing", |client| {
        let output = client.run("describe configmap settings missing", "")?;
        let printed = super::client::said(&output);
        contains("describe", &printed, ["colour:", r#"configmaps "missing" not found"#])?;
        if output.status.code() == Some(1) { Ok(()) } else { Err(output.status.to_string()) }
    }),
];
