//! Dry runs: the client's send nothing that writes, the server's answer as if they had written.

use super::{
    Family, Row,
    client::{Client, Outcome, contains},
    row,
};

pub const FAMILY: Family = Family { name: "dry-run", before, rows: &[ROWS], after: &[] };

const SETTINGS: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {a: one}\n";

fn before(client: &Client<'_>) -> Outcome {
    client.give("apply -f -", SETTINGS)?;
    client.ok("create deployment web --image=nginx:1.14.2")?;
    client.ok("scale deployment web --replicas=0").map(drop)
}

const ROWS: &[Row] = &[
    row("create --dry-run=client", |client| {
        let printed = client.ok("create configmap dry --from-literal=a=b --dry-run=client -o yaml")?;
        contains("create", &printed, ["kind: ConfigMap", "a: b"])?;
        if printed.contains("uid:") {
            return Err(format!("the server has seen it: {printed}"));
        }
        client.is_gone("configmap/dry")
    }),
    row("create --dry-run=server", |client| {
        let line = "create configmap dry --from-literal=a=b --dry-run=server -o yaml";
        client.says(line, &["uid:", "creationTimestamp: \"2"])?;
        client.is_gone("configmap/dry")
    }),
    row("create -f --dry-run=server", |client| {
        let manifest = "apiVersion: v1\nkind: Service\nmetadata: {name: dry}\nspec: {ports: [{port: 80}]}\n";
        let printed = client.give("create --dry-run=server -o yaml -f -", manifest)?;
        contains("create", &printed, ["clusterIP: 10.43.", "sessionAffinity: None"])?;
        client.is_gone("service/dry")
    }),
    row("run --dry-run=server", |client| {
        let line = "run dry --image=nginx:1.14.2 --dry-run=server -o yaml";
        client.says(line, &["dnsPolicy: ClusterFirst"])?;
        client.is_gone("pod/dry")
    }),
    row("apply --dry-run=client", |client| {
        let printed = client.give("apply --dry-run=client -f -", &SETTINGS.replace("one", "two"))?;
        contains("apply", &printed, ["configmap/settings configured (dry run)"])?;
        unchanged(client)
    }),
    row("apply --dry-run=server", |client| {
        let printed = client.give("apply --dry-run=server -f -", &SETTINGS.replace("one", "two"))?;
        contains("apply", &printed, ["configmap/settings configured (server dry run)"])?;
        unchanged(client)
    }),
    row("patch --dry-run=server", |client| {
        let line = r#"patch configmap settings -p '{"data":{"a":"two"}}' --dry-run=server -o yaml"#;
        client.says(line, &["a: two"])?;
        unchanged(client)
    }),
    row("label, annotate --dry-run=server", |client| {
        client.says("label configmap settings b=c --dry-run=server -o yaml", &["b: c"])?;
        client.says("annotate configmap settings d=e --dry-run=server -o yaml", &["d: e"])?;
        unchanged(client)
    }),
    row("set image --dry-run=server", |client| {
        let line = "set image deployment/web nginx=nginx:1.16.1 --dry-run=server -o yaml";
        client.says(line, &["image: nginx:1.16.1"])?;
        let image = r#"{"spec": {"template": {"spec": {"containers": [{"image": "nginx:1.14.2"}]}}}}"#;
        client.holds("deployment/web", image)
    }),
    row("scale --dry-run=server", |client| {
        // 1.20 does not say that it was dry.
        client.says("scale deployment/web --replicas=3 --dry-run=server", &["deployment.apps/web scaled"])?;
        client.holds("deployment/web", r#"{"spec": {"replicas": 0}}"#)
    }),
    row("expose --dry-run=server", |client| {
        client.says("expose deployment/web --port=80 --dry-run=server -o yaml", &["app: web"])?;
        client.is_gone("service/web")
    }),
    row("replace --dry-run=server", |client| {
        let printed = client.give("replace --dry-run=server -f -", &SETTINGS.replace("one", "two"))?;
        contains("replace", &printed, ["replaced (server dry run)"])?;
        unchanged(client)
    }),
    row("delete --dry-run=client, server", |client| {
        client.says("delete configmap settings --dry-run=client", &["(dry run)"])?;
        client.says("delete configmap settings --dry-run=server", &["(server dry run)"])?;
        unchanged(client)
    }),
];

fn unchanged(client: &Client<'_>) -> Outcome {
    client.holds("configmap/settings", r#"{"data": {"a": "one"}, "metadata": {"labels": null}}"#)
}
