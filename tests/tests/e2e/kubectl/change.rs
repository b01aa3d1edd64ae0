//! patch, label, annotate, set, scale, autoscale and expose.

use super::{
    Family, Row,
    client::{Client, Outcome, contains},
    does, refuses, row,
};

pub const FAMILY: Family =
    Family { name: "change", before, rows: &[PATCHES, LABELS, SETTINGS, SCALES, EXPOSURES], after: &[] };

/// No pods: nothing but commands changes the deployment.
const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 0
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: 'nginx:1.14.2', ports: [{containerPort: 80}], env: [{name: A, value: '1'}]}
      - {name: side, image: 'busybox:1.36'}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {COLOUR: blue}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: stateful}
spec:
  replicas: 0
  selector: {matchLabels: {app: stateful}}
  template: {metadata: {labels: {app: stateful}}, spec: {containers: [{name: main, image: 'busybox:1.36'}]}}
";

fn before(client: &Client<'_>) -> Outcome {
    client.give("create -f -", WEB).map(drop)
}

const PATCHES: &[Row] = &[
    does(
        "patch: strategic",
        r#"patch deployment web -p '{"spec":{"template":{"spec":{"containers":[{"name":"web","env":[{"name":"B","value":"2"}]}]}}}}'"#,
        "deployment.apps/web patched",
        "deployment/web",
        r#"{"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "nginx:1.14.2", "env": [
                {"name": "B", "value": "2"}, {"name": "A", "value": "1"}]}, {"name": "side"}]}}}}"#,
    ),
    does(
        "patch: strategic, a directive",
        r#"patch deployment web -p '{"spec":{"template":{"spec":{"containers":[{"name":"side","$patch":"delete"}]}}}}'"#,
        "deployment.apps/web patched",
        "deployment/web",
        r#"{"spec": {"template": {"spec": {"containers": [{"name": "web"}]}}}}"#,
    ),
    does(
        "patch --type=merge",
        r#"patch configmap settings --type=merge -p '{"data":{"COLOUR":null,"SHAPE":"round"}}'"#,
        "configmap/settings patched",
        "configmap/settings",
        r#"{"data": {"COLOUR": null, "SHAPE": "round"}}"#,
    ),
    does(
        "patch --type=json",
        r#"patch cm settings --type=json -p '[{"op":"test","path":"/data/SHAPE","value":"round"},{"op":"add","path":"/data/COLOUR","value":"red"}]'"#,
        "configmap/settings patched",
        "configmap/settings",
        r#"{"data": {"COLOUR": "red", "SHAPE": "round"}}"#,
    ),
    refuses(
        "patch --type=json: a failed test",
        r#"patch cm settings --type=json -p '[{"op":"test","path":"/data/SHAPE","value":"flat"}]'"#,
        &["The request is invalid"],
    ),
    row("patch: no change", |client| {
        let line = r#"patch configmap settings -p '{"data":{"SHAPE":"round"}}'"#;
        client.says(line, &["configmap/settings patched (no change)"])
    }),
    row("patch -f", |client| {
        client.file("settings.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\n")?;
        client.says(
            r#"patch -f $DIR/settings.yaml -p '{"data":{"SIZE":"large"}}'"#,
            &["configmap/settings patched"],
        )?;
        client.holds("configmap/settings", r#"{"data": {"SIZE": "large", "SHAPE": "round"}}"#)
    }),
    row("patch --subresource=status", |client| {
        client.ok(
            r#"patch deployment web --subresource=status --type=merge -p '{"status":{"collisionCount":7}}'"#,
        )?;
        client.holds("deployment/web", r#"{"status": {"collisionCount": 7}}"#)
    }),
    refuses(
        "patch: an immutable field",
        r#"patch deployment web -p '{"spec":{"selector":{"matchLabels":{"app":"other"}}}}'"#,
        &["spec.selector", "field is immutable"],
    ),
];

const LABELS: &[Row] = &[
    does(
        "label",
        "label configmap settings a=b c=d",
        "configmap/settings labeled",
        "configmap/settings",
        r#"{"metadata": {"labels": {"a": "b", "c": "d"}}}"#,
    ),
    row("label --overwrite", |client| {
        client.refused("label configmap settings a=other", &["'a' already has a value (b)"])?;
        client.ok("label configmap settings a=other --overwrite")?;
        client.holds("configmap/settings", r#"{"metadata": {"labels": {"a": "other"}}}"#)
    }),
    row("label: removed", |client| {
        client.ok("label configmap settings c-")?;
        client.holds("configmap/settings", r#"{"metadata": {"labels": {"a": "other", "c": null}}}"#)
    }),
    row("label --all, -l", |client| {
        client.ok("label configmap --all all=yes")?;
        client.ok("label configmap -l a=other selected=yes")?;
        client.holds("configmap/settings", r#"{"metadata": {"labels": {"all": "yes", "selected": "yes"}}}"#)
    }),
    row("label --list", |client| client.says("label configmap settings --list", &["a=other", "all=yes"])),
    refuses("label: a bad value", "label configmap settings 'x=a b'", &["a valid label must"]),
    row("annotate", |client| {
        client.says("annotate deployment web note='two words'", &["deployment.apps/web annotate"])?;
        client.holds("deployment/web", r#"{"metadata": {"annotations": {"note": "two words"}}}"#)?;
        client.refused("annotate deployment web note=other", &["--overwrite is false"])?;
        client.ok("annotate deployment web note=other --overwrite")?;
        client.holds("deployment/web", r#"{"metadata": {"annotations": {"note": "other"}}}"#)?;
        client.ok("annotate deployment web note-")?;
        client.holds("deployment/web", r#"{"metadata": {"annotations": {"note": null}}}"#)
    }),
];

const SETTINGS: &[Row] = &[
    does(
        "set image",
        "set image deployment/web web=nginx:1.16.1",
        "deployment.apps/web image updated",
        "deployment/web",
        r#"{"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "nginx:1.16.1"}]}}}}"#,
    ),
    does(
        "set env",
        "set env deployment/web C=3 B-",
        "deployment.apps/web env updated",
        "deployment/web",
        r#"{"spec": {"template": {"spec": {"containers": [{"env": [{"name": "A", "value": "1"},
                {"name": "C", "value": "3"}]}]}}}}"#,
    ),
    row("set env --from", |client| {
        client.ok("set env deployment/web --from=configmap/settings --keys=COLOUR")?;
        client.says("set env deployment/web --list", &["A=1", "COLOUR from configmap settings, key COLOUR"])
    }),
    does(
        "set resources",
        "set resources deployment/web --requests=cpu=10m,memory=8Mi --limits=memory=64Mi",
        "deployment.apps/web resource requirements updated",
        "deployment/web",
        r#"{"spec": {"template": {"spec": {"containers": [{"resources":
                {"requests": {"cpu": "10m", "memory": "8Mi"}, "limits": {"memory": "64Mi"}}}]}}}}"#,
    ),
    does(
        "set serviceaccount",
        "set serviceaccount deployment/web robot",
        "deployment.apps/web serviceaccount updated",
        "deployment/web",
        r#"{"spec": {"template": {"spec": {"serviceAccountName": "robot"}}}}"#,
    ),
    row("set selector", |client| {
        client.ok("create service clusterip chosen --tcp=80")?;
        client.says("set selector service chosen app=web", &["service/chosen selector updated"])?;
        client.holds("service/chosen", r#"{"spec": {"selector": {"app": "web"}}}"#)
    }),
    row("set subject", |client| {
        client.ok("create rolebinding bound --role=reader --user=one")?;
        client.says("set subject rolebinding bound --user=two", &["subjects updated"])?;
        client.holds("rolebinding/bound", r#"{"subjects": [{"name": "one"}, {"name": "two"}]}"#)
    }),
];

const SCALES: &[Row] = &[
    row("scale", |client| {
        client.ok("create deployment scaled --image=nginx:1.14.2")?;
        client.says("scale deployment/scaled --replicas=3", &["deployment.apps/scaled scaled"])?;
        client.comes_to_hold(
            "deployment/scaled",
            r#"{"spec": {"replicas": 3}, "status": {"readyReplicas": 3}}"#,
        )?;
        client.ok("scale deployment/scaled --replicas=0")?;
        client.comes_to_hold(
            "deployment/scaled",
            r#"{"spec": {"replicas": 0}, "status": {"replicas": null, "observedGeneration": 3}}"#,
        )
    }),
    row("scale --current-replicas", |client| {
        client.refused(
            "scale deployment/web --current-replicas=5 --replicas=1",
            &["Expected replicas to be 5, was 0"],
        )?;
        client.ok("scale deployment/web --current-replicas=0 --replicas=0").map(drop)
    }),
    does(
        "scale statefulset",
        "scale statefulset/stateful --replicas=1",
        "statefulset.apps/stateful scaled",
        "statefulset/stateful",
        r#"{"spec": {"replicas": 1}}"#,
    ),
    row("scale: several", |client| {
        client.ok("scale deployment/web statefulset/stateful --replicas=0")?;
        client.holds("statefulset/stateful", r#"{"spec": {"replicas": 0}}"#)
    }),
    row("scale: nothing there", |client| {
        let line = "scale deployment/missing --replicas=1";
        let named = client.refused(line, &[r#"deployments.apps "missing" not found"#]);
        // 1.27 to 1.31 do not say what is missing.
        named.or_else(|_| client.refused(line, &["error: no objects passed to scale"]))
    }),
    row("autoscale", |client| {
        // 1.34 renamed the option; 1.36 has only the new one.
        let goal = if client.minor < 34 { "--cpu-percent=80" } else { "--cpu=80%" };
        let printed = client.ok(&format!("autoscale deployment/web --min=2 --max=4 {goal}"))?;
        contains("autoscale", &printed, ["horizontalpodautoscaler.autoscaling/web autoscaled"])?;
        client.holds(
                "horizontalpodautoscalers.v2.autoscaling/web",
                r#"{"apiVersion": "autoscaling/v2", "spec": {"minReplicas": 2, "maxReplicas": 4, "scaleTargetRef":
                    {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "metrics": [{"type": "Resource",
                    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]}}"#,
            )
    }),
];

const EXPOSURES: &[Row] = &[
    does(
        "expose deployment",
        "expose deployment/web --port=8080 --target-port=80 --name=exposed",
        "service/exposed exposed",
        "service/exposed",
        r#"{"spec": {"type": "ClusterIP", "selector": {"app": "web"}, "ports": [
                {"port": 8080, "targetPort": 80, "protocol": "TCP"}]}}"#,
    ),
    does(
        "expose service --type=NodePort",
        "expose service/exposed --name=outside --port=8081 --type=NodePort",
        "service/outside exposed",
        "service/outside",
        r#"{"spec": {"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 8081}]}}"#,
    ),
    row("expose pod", |client| {
        client.ok("run walker --image=nginx:1.14.2 --port=80 --labels=run=walker")?;
        client.says("expose pod walker --port=80", &["service/walker exposed"])?;
        client.comes_to_hold("endpoints/walker", r#"{"subsets": [{"ports": [{"port": 80}]}]}"#)
    }),
    row("expose replicaset", |client| {
        let name = client.ok("get replicasets -l app=scaled -o jsonpath={.items[0].metadata.name}")?;
        client.ok(&format!("expose replicaset {name} --port=80 --name=set"))?;
        client.holds("service/set", r#"{"spec": {"selector": {"app": "scaled"}, "ports": [{"port": 80}]}}"#)
    }),
];
