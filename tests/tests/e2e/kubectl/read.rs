//! get in all its forms, explain, events, top, and what the cluster says about itself.

use super::{
    Family, Row,
    client::{Client, Outcome, contains, eventually, said},
    refuses, row, shows,
};

pub const FAMILY: Family = Family {
    name: "read",
    before,
    rows: &[FORMATS, SELECTIONS, EXPLANATIONS, HAPPENINGS, CLUSTER],
    after: &[],
};

const OBJECTS: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: one, labels: {app: web, tier: front}}
data: {a: first}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: two, labels: {app: web, tier: back}}
data: {a: second, b: third}
---
apiVersion: v1
kind: Pod
metadata: {name: reader, labels: {app: reader}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: 'busybox:1.36', command: [sh, -c, 'trap exit TERM; while :; do sleep 1; done']}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: empty}
spec:
  replicas: 0
  selector: {matchLabels: {app: empty}}
  template: {metadata: {labels: {app: empty}}, spec: {containers: [{name: main, image: 'busybox:1.36'}]}}
";

fn before(client: &Client<'_>) -> Outcome {
    client.give("apply -f -", OBJECTS)?;
    client.comes_to_hold(
        "pod/reader",
        r#"{"status": {"phase": "Running", "containerStatuses": [{"ready": true}]}}"#,
    )
}

const FORMATS: &[Row] = &[
    row("get", |client| {
        let table = client.ok("get pods")?;
        let lines: Vec<_> = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
        let header = ["NAME", "READY", "STATUS", "RESTARTS", "AGE"];
        let fits =
            lines.len() == 2 && lines[0] == header && lines[1][..4] == ["reader", "1/1", "Running", "0"];
        if fits { Ok(()) } else { Err(table) }
    }),
    shows("get -o wide", "get pods -o wide", &["NOMINATED NODE", "10.42.", "-node-"]),
    shows("get -o yaml", "get cm one -o yaml", &["apiVersion: v1\n", "kind: ConfigMap\n", "  a: first\n"]),
    shows("get -o json", "get cm one -o json", &[r#""kind": "ConfigMap""#, r#""a": "first""#]),
    row("get -o name", |client| {
        exactly(client, "get configmaps,deployments -l app=web -o name", "configmap/one\nconfigmap/two\n")
    }),
    row("get -o jsonpath", |client| {
        let line = "get cm -l app=web -o 'jsonpath={range .items[*]}{.metadata.name}={.data.a},{end}'";
        exactly(client, line, "one=first,two=second,")
    }),
    row("get -o custom-columns", |client| {
        let line = "get configmaps -l app=web -o custom-columns=N:.metadata.name,A:.data.a";
        exactly(client, line, "N     A\none   first\ntwo   second\n")
    }),
    row("get -o go-template", |client| {
        exactly(client, "get configmap one -o 'go-template={{.data.a}}'", "first")
    }),
    shows("get --show-labels", "get cm one --show-labels", &["LABELS", "app=web,tier=front"]),
    shows("get -L", "get cm one -L tier", &["TIER", "front"]),
    row("get --no-headers", |client| {
        let table = client.ok("get configmap one --no-headers")?;
        if table.starts_with("one ") && table.lines().count() == 1 { Ok(()) } else { Err(table) }
    }),
    row("get --sort-by", |client| {
        let table = client.ok("get configmaps -l app=web --sort-by={.data.b} -o name")?;
        let reversed = client.ok("get configmaps -l app=web --sort-by={.metadata.labels.tier} -o name")?;
        contains("sorted", &reversed, ["configmap/two\nconfigmap/one\n"])?;
        contains("sorted", &table, ["configmap/one\nconfigmap/two\n"])
    }),
];

const SELECTIONS: &[Row] = &[
    row("get -l", |client| {
        exactly(client, "get cm -l 'tier in (front,middle),app=web' -o name", "configmap/one\n")?;
        exactly(client, "get cm -l tier!=front,app -o name", "configmap/two\n")
    }),
    row("get --field-selector", |client| {
        exactly(client, "get cm --field-selector metadata.name=two -o name", "configmap/two\n")?;
        exactly(client, "get pods --field-selector status.phase=Running -o name", "pod/reader\n")?;
        exactly(client, "get pods --field-selector status.phase!=Running -o name", "")?;
        client.refused("get cm --field-selector data.a=b", &["field label not supported"])
    }),
    row("get --chunk-size", |client| {
        exactly(client, "get cm -l app --chunk-size=1 -o name", "configmap/one\nconfigmap/two\n")
    }),
    row("get: several kinds", |client| {
        client.says("get cm/one deployment/empty", &["configmap/one", "deployment.apps/empty"])
    }),
    shows("get all", "get all", &["pod/reader", "deployment.apps/empty", "replicaset.apps/empty-"]),
    shows("get -A", "get configmaps -A", &["NAMESPACE", "$NS "]),
    row("get -f", |client| {
        client.file("read.yaml", OBJECTS)?;
        client.says("get -f $DIR/read.yaml", &["configmap/one", "pod/reader", "deployment.apps/empty"])
    }),
    refuses("get: nothing there", "get pod missing", &[r#"(NotFound): pods "missing" not found"#]),
    refuses("get: no such kind", "get carrots", &[r#"the server doesn't have a resource type "carrots""#]),
    row("get --ignore-not-found", |client| exactly(client, "get pod missing --ignore-not-found", "")),
    row("get --subresource", |client| {
        client.says("get deployment empty --subresource=scale -o json", &[r#""kind": "Scale""#])
    }),
    row("get -w", |client| watch(client, "get cm -l watched -w", &["seen "])),
    row("get -w --output-watch-events", |client| {
        watch(client, "get cm -l watched -w --output-watch-events", &["ADDED", "MODIFIED", "DELETED"])
    }),
    row("get --watch-only -o name", |client| {
        watch(client, "get cm -l watched --watch-only -o name", &["configmap/seen"])
    }),
    row("get --raw", |client| {
        exactly(client, "get --raw /healthz", "ok")?;
        let printed = client.ok("get --raw /api/v1/namespaces/$NS/configmaps/one")?;
        contains("get --raw", &printed, [r#""a":"first""#])?;
        client.refused("get --raw /apis/carrots", &["the server could not find the requested resource"])
    }),
];

const EXPLANATIONS: &[Row] = &[
    row("explain", |client| {
        client.says("explain deployment.spec.replicas", &["replicas <integer>", "Number of desired pods"])?;
        client.says("explain pod.spec.containers", &["image", "<string>", "livenessProbe"])?;
        client.refused("explain pod.spec.carrots", &["field \"carrots\" does not exist"])
    }),
    shows("explain --recursive", "explain service --recursive", &["sessionAffinityConfig", "timeoutSeconds"]),
    shows(
        "explain --api-version",
        "explain horizontalpodautoscaler.spec --api-version=autoscaling/v2",
        &["HorizontalPodAutoscaler", "minReplicas", "metrics"],
    ),
];

const HAPPENINGS: &[Row] = &[
    row("get events", |client| {
        let line = "get events --field-selector involvedObject.name=reader,involvedObject.kind=Pod";
        eventually(|| client.says(line, &["LAST SEEN", "Normal", "Started", "pod/reader"]))
    }),
    shows("events --for", "events --for pod/reader", &["LAST SEEN", "Started", "Pod/reader"]),
    shows("events --types", "events --types=Normal", &["Scheduled"]),
    row("top nodes", |client| {
        eventually(|| client.says("top nodes", &["CPU(cores)", "MEMORY(bytes)", "-node-1", "-node-3", "%"]))?;
        client.says("top node $NODE", &["$NODE"])
    }),
    row("top pods", |client| {
        eventually(|| client.says("top pods", &["CPU(cores)", "MEMORY(bytes)", "reader", "Mi"]))?;
        client.says("top pod reader --containers", &["POD", "main"])
    }),
];

const CLUSTER: &[Row] = &[
    row("api-resources", |client| {
        let table = client.ok("api-resources")?;
        for [plural, short, version, namespaced, kind] in [
            ["pods", "po", "v1", "true", "Pod"],
            ["nodes", "no", "v1", "false", "Node"],
            ["deployments", "deploy", "apps/v1", "true", "Deployment"],
            ["ingresses", "ing", "networking.k8s.io/v1", "true", "Ingress"],
        ] {
            let words = |line: &str| {
                line.split_whitespace().collect::<Vec<_>>() == [plural, short, version, namespaced, kind]
            };
            // Before 1.21 the version is the group alone.
            let old = |line: &str| line.starts_with(&format!("{plural} ")) && line.ends_with(kind);
            if !table.lines().any(|line| words(line) || (client.minor < 21 && old(line))) {
                return Err(format!("{kind} is not in:\n{table}"));
            }
        }
        Ok(())
    }),
    shows(
        "api-resources -o wide, --api-group",
        "api-resources -o wide --api-group=apps",
        &["VERBS", "deletecollection", "statefulsets"],
    ),
    row("api-resources --namespaced=false -o name", |client| {
        let names = client.ok("api-resources --namespaced=false -o name")?;
        contains("names", &names, ["nodes\n", "namespaces\n"])?;
        if names.contains("pods\n") { Err(names) } else { Ok(()) }
    }),
    shows("api-versions", "api-versions", &["apps/v1\n", "batch/v1\n", "networking.k8s.io/v1\n", "\nv1\n"]),
    shows("cluster-info", "cluster-info", &["control plane", "is running at", "https://"]),
    shows(
        "cluster-info dump",
        "cluster-info dump --namespaces $NS",
        &[r#""kind": "PodList""#, r#""kind": "NodeList""#, r#""name": "reader""#, "==== START logs"],
    ),
    row("version", |client| {
        let printed = client.ok("version -o json")?;
        let version: serde_json::Value = serde_json::from_str(&printed).map_err(|error| error.to_string())?;
        let server = version["serverVersion"]["gitVersion"].as_str().unwrap_or_default();
        contains("version", server, ["v1.", "warren"])?;
        client.says("version", &[server])
    }),
    row("auth can-i", |client| {
        exactly(client, "auth can-i create pods", "yes\n")?;
        exactly(client, "auth can-i delete nodes -q", "")
    }),
    row("auth can-i --as", |client| {
        let line = "auth can-i list configmaps --as=onlooker";
        let before = client.run(line, "")?;
        if before.status.success() || before.stdout != b"no\n" {
            return Err(format!("nobody gave a role: {}: {:?}", before.status, said(&before)));
        }
        client.ok("create rolebinding onlookers --clusterrole=view --user=onlooker")?;
        exactly(client, line, "yes\n")?;
        client.says("get configmaps --as=onlooker", &["kube-root-ca.crt"])?;
        client.says("auth can-i --list --as=onlooker", &["configmaps", "[get list watch]"])
    }),
    row("auth reconcile", |client| {
        // Which namespace it is in the file must say: kubectl does not put its own in.
        let manifest = "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: reconciled, namespace: $NS}\nrules:\n\
                        - {apiGroups: [''], resources: [pods], verbs: [get]}\n";
        let printed = client.give("auth reconcile -f -", manifest)?;
        contains("auth reconcile", &printed, ["role.rbac.authorization.k8s.io/reconciled reconciled"])?;
        client.holds("role/reconciled", r#"{"rules": [{"resources": ["pods"], "verbs": ["get"]}]}"#)
    }),
    shows("auth can-i --list", "auth can-i --list", &["*.*", "[*]"]),
    shows("auth whoami", "auth whoami", &["Username", "warren-admin", "system:masters"]),
];

fn exactly(client: &Client<'_>, line: &str, expected: &str) -> Outcome {
    let output = client.run(line, "")?;
    if output.status.success() && output.stdout == expected.as_bytes() {
        return Ok(());
    }
    Err(format!("kubectl {line}: {}: {:?} and not {expected:?}", output.status, said(&output)))
}

const WATCHED: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: seen, labels: {watched: ''}}\n";

/// Sees an object come, change and go.
fn watch(client: &Client<'_>, line: &str, texts: &[&str]) -> Outcome {
    let going = client.start(line)?;
    // A watch that has not begun yet would miss what comes before it: objects come and go until all was seen.
    let seen = || contains(line, &going.said(), texts);
    eventually(|| {
        client.give("create -f -", WATCHED)?;
        client.ok("label configmap/seen more=")?;
        client.ok("delete configmap/seen")?;
        seen()
    })
}
