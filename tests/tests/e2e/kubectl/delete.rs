//! delete, with each propagation policy and in all its forms.

use serde_json::Value;

use super::{
    Family, Row,
    client::{Client, Outcome, contains, eventually},
    refuses, row,
};

pub const FAMILY: Family = Family { name: "delete", before, rows: &[ROWS], after: &[] };

fn before(_: &Client<'_>) -> Outcome {
    Ok(())
}

const ROWS: &[Row] = &[
    row("delete", |client| {
        settings(client, &["one"])?;
        client.says("delete configmap one", &[r#"configmap "one" deleted"#])?;
        client.is_gone("configmap/one")
    }),
    row("delete: several", |client| {
        settings(client, &["one", "two"])?;
        client.says("delete configmap/one configmap/two", &[r#""one" deleted"#, r#""two" deleted"#])?;
        client.is_gone("configmap one two")
    }),
    row("delete -f", |client| {
        client.file("gone.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: gone}\n")?;
        client.ok("create -f $DIR/gone.yaml")?;
        client.ok("delete -f $DIR/gone.yaml")?;
        client.is_gone("configmap/gone")
    }),
    row("delete -l", |client| {
        settings(client, &["one", "two"])?;
        client.ok("label configmap one goes=yes")?;
        client.ok("delete configmap -l goes=yes")?;
        client.is_gone("configmap/one")?;
        client.holds("configmap/two", r#"{"data": {"a": "b"}}"#)
    }),
    row("delete --all", |client| {
        client.ok("create secret generic one --from-literal=a=b")?;
        client.ok("create secret generic two --from-literal=a=b")?;
        client.ok("delete secrets --all")?;
        client.is_gone("secrets")
    }),
    row("delete --field-selector", |client| {
        settings(client, &["three", "four"])?;
        client.ok("delete configmap --field-selector metadata.name=three")?;
        client.is_gone("configmap/three")?;
        client.holds("configmap/four", r#"{"data": {"a": "b"}}"#)
    }),
    refuses("delete: nothing there", "delete configmap missing", &[r#"configmaps "missing" not found"#]),
    row("delete --ignore-not-found", |client| {
        client.ok("delete configmap missing --ignore-not-found").map(drop)
    }),
    row("delete: answers by kind", answers),
    row("delete --cascade=background", background),
    row("delete --cascade=foreground", foreground),
    row("delete --cascade=orphan", orphan),
    row("delete: an object with a finalizer", finalizer),
    row("delete --wait=false", |client| {
        pod(client, "slow", "trap '' TERM; while :; do sleep 1; done")?;
        client.ok("delete pod slow --wait=false")?;
        let deleted = &client.json("pod/slow")?["metadata"];
        let grace = &deleted["deletionGracePeriodSeconds"];
        if deleted["deletionTimestamp"].is_string() && *grace == 60 {
            Ok(())
        } else {
            Err(deleted.to_string())
        }
    }),
    row("delete --grace-period=0 --force", |client| {
        client.says("delete pod slow --grace-period=0 --force", &[r#"pod "slow" force deleted"#])?;
        client.is_gone("pod/slow")
    }),
    row("delete --now", |client| {
        pod(client, "stubborn", "trap '' TERM; while :; do sleep 1; done")?;
        client.ok("delete pod stubborn --now")?;
        client.is_gone("pod/stubborn")
    }),
    row("delete --timeout", |client| {
        pod(client, "lasting", "trap '' TERM; while :; do sleep 1; done")?;
        client.refused("delete pod lasting --timeout=1s", &["timed out waiting for the condition"])?;
        client.ok("delete pod lasting --grace-period=0 --force").map(drop)
    }),
    row("delete all --all", |client| {
        client.ok("create deployment web --image=nginx:1.14.2 --replicas=0")?;
        client.ok("expose deployment/web --port=80")?;
        client.ok("delete all --all")?;
        eventually(|| client.is_gone("all"))
    }),
    row("delete namespace", |client| {
        client.ok("create namespace $NS-going")?;
        let line = "create deployment web --image=nginx:1.14.2 --namespace=$NS-going";
        client.ok(line)?;
        client.ok("delete namespace $NS-going --timeout=90s")?;
        client.is_gone("namespace/$NS-going")?;
        // Of its content nothing is left either.
        let pods = client.ok("get pods -A -o name --field-selector metadata.namespace=$NS-going")?;
        if pods.is_empty() { Ok(()) } else { Err(pods) }
    }),
    row("delete --raw", |client| {
        settings(client, &["raw"])?;
        let printed = client.ok("delete --raw /api/v1/namespaces/$NS/configmaps/raw")?;
        contains("delete --raw", &printed, [r#""status":"Success""#])?;
        client.is_gone("configmap/raw")
    }),
];

fn settings(client: &Client<'_>, names: &[&str]) -> Outcome {
    names
        .iter()
        .try_for_each(|name| client.ok(&format!("create configmap {name} --from-literal=a=b")).map(drop))
}

/// A running pod whose grace is a minute.
fn pod(client: &Client<'_>, name: &str, script: &str) -> Outcome {
    let manifest = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 60\n  \
         containers:\n  - name: main\n    image: busybox:1.36\n    command: [sh, -c, \"{script}\"]\n"
    );
    client.give("create -f -", &manifest)?;
    client.comes_to_hold(&format!("pod/{name}"), r#"{"status": {"phase": "Running"}}"#)
}

/// Some kinds answer with the object that was, the others with a Status.
fn answers(client: &Client<'_>) -> Outcome {
    client.ok("create serviceaccount robot")?;
    client.ok("create service clusterip plain --tcp=80")?;
    settings(client, &["plain"])?;
    for (resource, name, kind) in [
        ("serviceaccounts", "robot", "ServiceAccount"),
        ("services", "plain", "Service"),
        ("configmaps", "plain", "Status"),
    ] {
        let printed = client.ok(&format!("delete --raw /api/v1/namespaces/$NS/{resource}/{name}"))?;
        contains(resource, &printed, [&format!(r#""kind":"{kind}""#)])?;
    }
    Ok(())
}

/// A deployment with a pod that is slow to go; the answer is its replica set's name.
fn deployment(client: &Client<'_>, name: &str) -> Result<String, String> {
    let manifest = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  selector: {{matchLabels: {{app: \
         {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}}}}}\n    spec:\n      \
         terminationGracePeriodSeconds: 2\n      containers:\n      - {{name: main, image: 'busybox:1.36', command: \
         [sleep, '3600']}}\n"
    );
    client.give("create -f -", &manifest)?;
    client.comes_to_hold(&format!("deployment/{name}"), r#"{"status": {"availableReplicas": 1}}"#)?;
    let set = client.ok(&format!("get replicasets -l app={name} -o name"))?;
    Ok(set.trim().to_owned())
}

fn background(client: &Client<'_>) -> Outcome {
    let set = deployment(client, "background")?;
    client.ok("delete deployment background --cascade=background")?;
    client.is_gone("deployment/background")?;
    eventually(|| client.is_gone(&set))?;
    eventually(|| client.is_gone("pods -l app=background"))
}

/// When the owner is gone, all that it owned has gone before.
fn foreground(client: &Client<'_>) -> Outcome {
    let set = deployment(client, "foreground")?;
    client.ok("delete deployment foreground --cascade=foreground --wait=false")?;
    let finalizers =
        client.json("deployment/foreground").unwrap_or_default()["metadata"]["finalizers"].clone();
    // The pod takes two seconds to go, so the deployment was there to be asked.
    if finalizers != serde_json::json!(["foregroundDeletion"]) {
        return Err(format!("the finalizers are {finalizers}"));
    }
    eventually(|| client.is_gone("deployment/foreground"))?;
    client.is_gone(&set)?;
    client.is_gone("pods -l app=foreground")
}

fn orphan(client: &Client<'_>) -> Outcome {
    let set = deployment(client, "orphan")?;
    client.ok("delete deployment orphan --cascade=orphan")?;
    client.is_gone("deployment/orphan")?;
    eventually(|| match &client.json(&set)?["metadata"]["ownerReferences"] {
        Value::Null => Ok(()),
        owners => Err(format!("{set} is owned by {owners}")),
    })?;
    client.holds(&set, r#"{"metadata": {"deletionTimestamp": null}, "status": {"replicas": 1}}"#)?;
    client.ok(&format!("delete {set}")).map(drop)
}

fn finalizer(client: &Client<'_>) -> Outcome {
    let manifest =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: held, finalizers: [example.test/held]}\n";
    client.give("create -f -", manifest)?;
    client.ok("delete configmap held --wait=false")?;
    let held = client.json("configmap/held")?;
    if !held["metadata"]["deletionTimestamp"].is_string() {
        return Err(format!("it is not being deleted: {held}"));
    }
    client.ok(r#"patch configmap held --type=merge -p '{"metadata":{"finalizers":null}}'"#)?;
    client.is_gone("configmap/held")
}
