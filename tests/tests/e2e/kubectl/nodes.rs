//! taint, cordon and drain: on one node for each kubectl, while no other works.

use super::{
    Family, Row,
    client::{Client, Outcome, contains, eventually, said},
    does, refuses, row,
};

pub const FAMILY: Family =
    Family { name: "nodes", before, rows: &[ROWS], after: &["uncordon $NODE", "label node $NODE $NS-"] };

/// Its pods would rather be on this kubectl's node; the others are elsewhere soon.
const SPREAD: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: spread}
spec:
  replicas: 6
  selector: {matchLabels: {app: spread}}
  template:
    metadata: {labels: {app: spread}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: web, image: 'nginx:1.14.2'}]
      volumes: [{name: scratch, emptyDir: {}}]
";

/// Of a set and of a daemon: both on this kubectl's node.
const SETS: &str = "
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: kept}
spec:
  serviceName: kept
  selector: {matchLabels: {app: kept}}
  template:
    metadata: {labels: {app: kept}}
    spec:
      terminationGracePeriodSeconds: 1
      affinity:
        nodeAffinity:
          preferredDuringSchedulingIgnoredDuringExecution:
          - weight: 100
            preference: {matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [$NODE]}]}
      containers: [{name: web, image: 'nginx:1.14.2'}]
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: daemon}
spec:
  selector: {matchLabels: {app: daemon}}
  template:
    metadata: {labels: {app: daemon}}
    spec: {terminationGracePeriodSeconds: 1, containers: [{name: web, image: 'nginx:1.14.2'}]}
";

const BARE: &str = "
apiVersion: v1
kind: Pod
metadata: {name: bare}
spec:
  nodeSelector: {kubernetes.io/hostname: $NODE}
  terminationGracePeriodSeconds: 1
  containers: [{name: web, image: 'nginx:1.14.2'}]
";

fn before(client: &Client<'_>) -> Outcome {
    client.give("create -f -", SPREAD)?;
    client.give("create -f -", BARE)?;
    client.give("create -f -", SETS)?;
    client.comes_to_hold("deployment/spread", r#"{"status": {"availableReplicas": 6}}"#)?;
    client.comes_to_hold("statefulset/kept", r#"{"status": {"availableReplicas": 1}}"#)?;
    client.comes_to_hold("daemonset/daemon", r#"{"status": {"numberAvailable": 3}}"#)?;
    client.comes_to_hold("pod/bare", r#"{"status": {"phase": "Running"}, "spec": {"nodeName": "$NODE"}}"#)
}

const ROWS: &[Row] = &[
    does(
        "label node",
        "label node $NODE $NS=yes",
        "node/$NODE labeled",
        "node/$NODE",
        r#"{"metadata": {"labels": {"$NS": "yes"}}}"#,
    ),
    does(
        "cordon",
        "cordon $NODE",
        "node/$NODE cordoned",
        "node/$NODE",
        r#"{"spec": {"unschedulable": true}}"#,
    ),
    row("get nodes: cordoned", |client| client.says("get node $NODE", &["Ready,SchedulingDisabled"])),
    refuses(
        "drain: a pod of nobody's",
        "drain $NODE --ignore-daemonsets --delete-emptydir-data --timeout=60s --pod-selector=app!=none",
        &["(use --force to override)", "bare"],
    ),
    refuses(
        "drain: local data",
        "drain $NODE --ignore-daemonsets --force --timeout=60s",
        &["(use --delete-emptydir-data to override)"],
    ),
    refuses(
        "drain: a daemon's pod",
        "drain $NODE --delete-emptydir-data --force --timeout=60s",
        &["DaemonSet-managed Pods (use --ignore-daemonsets to ignore)", "daemon-"],
    ),
    row("drain --dry-run=server", |client| {
        client.says(
            "drain $NODE --ignore-daemonsets --delete-emptydir-data --force --dry-run=server",
            &["node/$NODE drained (server dry run)"],
        )?;
        client.holds("pod/bare", r#"{"metadata": {"deletionTimestamp": null}}"#)
    }),
    row("drain", drain),
    does(
        "uncordon",
        "uncordon $NODE",
        "node/$NODE uncordoned",
        "node/$NODE",
        r#"{"spec": {"unschedulable": null}}"#,
    ),
    row("drain: a disruption budget", budget),
    row("taint", taint),
    row("taint: removed", |client| {
        client.says("taint node $NODE $NS-", &["node/$NODE untainted"])?;
        match &client.json("node/$NODE")?["spec"]["taints"] {
            serde_json::Value::Null => Ok(()),
            left => Err(left.to_string()),
        }
    }),
];

/// This namespace's pods on the node.
fn pods_there(client: &Client<'_>) -> Result<String, String> {
    client.ok("get pods -o name --field-selector spec.nodeName=$NODE")
}

fn drain(client: &Client<'_>) -> Outcome {
    if !pods_there(client)?.contains("pod/spread-") {
        return Err("no pod of the deployment is there to be drained".to_owned());
    }
    let daemon =
        "get pods -l app=daemon --field-selector spec.nodeName=$NODE -o jsonpath={.items[*].metadata.uid}";
    let (before, there) = (client.ok(daemon)?, client.json("pod/kept-0")?["spec"]["nodeName"].clone());
    if there != client.node.as_str() {
        return Err(format!("the set's pod is on {there}"));
    }
    let line = "drain $NODE --ignore-daemonsets --delete-emptydir-data --force --timeout=90s";
    let printed = client.ok(line)?;
    // 1.20 says that the node was evicted.
    contains(
        "drain",
        &printed,
        ["$NODE ", "pod/bare evicted", "pod/kept-0 evicted"].map(|text| client.fill(text)),
    )?;
    let (after, left) = (client.ok(daemon)?, pods_there(client)?);
    if after != before || left.lines().count() != 1 {
        return Err(format!("there were {before} of the daemon and are {after}, of all {left}"));
    }
    let elsewhere = r#"{"status": {"availableReplicas": 1}}"#;
    client.comes_to_hold("statefulset/kept", elsewhere)?;
    if client.json("pod/kept-0")?["spec"]["nodeName"] == client.node.as_str() {
        return Err("the set's pod is on the cordoned node again".to_owned());
    }
    client.comes_to_hold("deployment/spread", r#"{"status": {"availableReplicas": 6}}"#)?;
    client.holds("node/$NODE", r#"{"spec": {"unschedulable": true}}"#)
}

/// Where none may be missing, drain waits until its time is up; where one may, it takes that one.
/// Of pods that nobody controls only a budget with a number of `minAvailable` lets any go, as on Kubernetes.
fn budget(client: &Client<'_>) -> Outcome {
    client.give("create -f -", BARE)?;
    client.comes_to_hold("pod/bare", r#"{"status": {"phase": "Running"}}"#)?;
    client.ok("label pod bare keep=yes")?;
    let manifest = "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: all}\nspec: {minAvailable: 1, \
                    selector: {matchLabels: {keep: 'yes'}}}\n";
    client.give("create -f -", manifest)?;
    client.comes_to_hold("pdb/all", r#"{"status": {"observedGeneration": 1}}"#)?;
    let output = client.run("drain $NODE --force --pod-selector=keep --timeout=3s", "")?;
    let printed = said(&output);
    contains("drain", &printed, ["Cannot evict pod as it would violate the pod's disruption budget"])?;
    client.holds("pod/bare", r#"{"metadata": {"deletionTimestamp": null}}"#)?;
    client.ok(r#"patch pdb all --type=merge -p '{"spec":{"minAvailable":0}}'"#)?;
    let printed = client.ok("drain $NODE --force --pod-selector=keep --timeout=60s")?;
    contains("drain", &printed, ["pod/bare evicted"])?;
    client.is_gone("pod/bare")?;
    client.ok("uncordon $NODE").map(drop)
}

fn taint(client: &Client<'_>) -> Outcome {
    client.says("taint node $NODE $NS=one:NoExecute", &["node/$NODE tainted"])?;
    let has = |value: &str, effect: &str| {
        format!(r#"{{"spec": {{"taints": [{{"key": "$NS", "value": "{value}", "effect": "{effect}"}}]}}}}"#)
    };
    client.holds("node/$NODE", &has("one", "NoExecute"))?;
    eventually(|| match pods_there(client)?.as_str() {
        "" => Ok(()),
        left => Err(format!("{left} is still there")),
    })?;
    client.refused("taint node $NODE $NS=two:NoExecute", &["--overwrite is false"])?;
    client.ok("taint node $NODE $NS=two:NoExecute --overwrite")?;
    client.holds("node/$NODE", &has("two", "NoExecute"))?;
    client.comes_to_hold("deployment/spread", r#"{"status": {"availableReplicas": 6}}"#)
}
