//! rollout of Deployments, and wait.

use super::{
    Family, Row,
    client::{Client, Outcome, contains, eventually, said},
    row, shows,
};

pub const FAMILY: Family = Family { name: "rollout", before, rows: &[ROLLOUTS, WAITS], after: &[] };

const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, annotations: {kubernetes.io/change-cause: the first}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {terminationGracePeriodSeconds: 1, containers: [{name: web, image: 'nginx:1.14.2'}]}
";

fn before(client: &Client<'_>) -> Outcome {
    client.give("create -f -", WEB).map(drop)
}

const ROLLOUTS: &[Row] = &[
    row("rollout status", |client| {
        rolled_out(client)?;
        let expected =
            r#"{"status": {"updatedReplicas": 2, "availableReplicas": 2, "unavailableReplicas": null}}"#;
        client.holds("deployment/web", expected)
    }),
    row("rollout status: one that cannot end", |client| {
        client.ok("create deployment stuck --image=no.such.test/image:1")?;
        let output = client.run("rollout status deployment/stuck --timeout=1s", "")?;
        let printed = said(&output);
        contains(
            "rollout",
            &printed,
            [r#"Waiting for deployment "stuck" rollout to finish: 0"#, "timed out waiting"],
        )?;
        if output.status.code() == Some(1) { Ok(()) } else { Err(output.status.to_string()) }
    }),
    row("rollout history", |client| {
        client.ok("set image deployment/web web=nginx:1.16.1")?;
        client.ok("annotate deployment/web kubernetes.io/change-cause='the second' --overwrite")?;
        rolled_out(client)?;
        let texts = ["REVISION  CHANGE-CAUSE", "1         the first", "2         the second"];
        eventually(|| client.says("rollout history deployment/web", &texts))
    }),
    shows(
        "rollout history --revision",
        "rollout history deployment/web --revision=1",
        &["revision #1", "nginx:1.14.2", "pod-template-hash="],
    ),
    row("rollout undo", |client| {
        client.says("rollout undo deployment/web", &["deployment.apps/web rolled back"])?;
        rolled_out(client)?;
        is_revision(client, "nginx:1.14.2", "3")
    }),
    row("rollout undo --to-revision", |client| {
        client.ok("rollout undo deployment/web --to-revision=2")?;
        rolled_out(client)?;
        is_revision(client, "nginx:1.16.1", "4")?;
        client.refused(
            "rollout undo deployment/web --to-revision=99",
            &["unable to find specified revision 99 in history"],
        )
    }),
    row("rollout restart", restart),
    row("rollout pause", |client| {
        client.says("rollout pause deployment/web", &["deployment.apps/web paused"])?;
        client.holds("deployment/web", r#"{"spec": {"paused": true}}"#)?;
        client.ok("set image deployment/web web=nginx:1.14.2")?;
        let generation = client.json("deployment/web")?["metadata"]["generation"].clone();
        let seen = format!(r#"{{"status": {{"observedGeneration": {generation}}}}}"#);
        client.comes_to_hold("deployment/web", &seen)?;
        // Seen, and nothing came of it.
        client.holds("deployment/web", r#"{"status": {"updatedReplicas": null, "replicas": 2}}"#)?;
        client.refused("rollout pause deployment/web", &["is already paused"])
    }),
    row("rollout resume", |client| {
        client.says("rollout resume deployment/web", &["deployment.apps/web resumed"])?;
        rolled_out(client)?;
        is_revision(client, "nginx:1.14.2", "6")
    }),
    row("rollout: not of this kind", |client| {
        client.ok("create service clusterip other --tcp=80")?;
        client.refused("rollout restart service/other", &["restarting is not supported"])
    }),
];

const WAITS: &[Row] = &[
    row("wait --for=condition", |client| {
        let line = "wait --for=condition=Available deployment/web --timeout=60s";
        client.says(line, &["deployment.apps/web condition met"])?;
        // A pod of the revision before that ends now has the same label, and an old kubectl waits for it until its time
        // is up.
        eventually(|| match client.json("pods -l app=web")?["items"].as_array().map_or(0, Vec::len) {
            2 => Ok(()),
            count => Err(format!("{count} pods")),
        })?;
        let printed = client.ok("wait --for=condition=Ready pod -l app=web --timeout=60s")?;
        if printed.matches("condition met").count() >= 2 { Ok(()) } else { Err(printed) }
    }),
    row("wait: becomes so", |client| {
        client.ok("run late --image=busybox:1.36 --restart=Never -- sleep 3600")?;
        client.says("wait --for=condition=Ready pod/late --timeout=60s", &["pod/late condition met"])
    }),
    row("wait --for=condition=NAME=false", |client| {
        client.says("wait --for=condition=Available=false deployment/stuck --timeout=60s", &["condition met"])
    }),
    row("wait: the time is up", |client| {
        client.refused(
            "wait --for=condition=Available deployment/stuck --timeout=1s",
            &["timed out waiting for the condition on deployments/stuck"],
        )
    }),
    row("wait --for=delete", |client| {
        client.ok("create configmap going --from-literal=a=b")?;
        let finalizers = |names: &str| {
            let patch = format!(r#"{{"metadata":{{"finalizers":{names}}}}}"#);
            client.ok(&format!("patch configmap going --type=merge -p '{patch}'"))
        };
        finalizers(r#"["example.test/held"]"#)?;
        client.ok("delete configmap going --wait=false")?;
        let going = client.start("wait --for=delete configmap/going --timeout=60s")?;
        // The first one looks by now, too.
        client.refused("wait --for=delete configmap/going --timeout=3s", &["timed out waiting"])?;
        finalizers("[]")?;
        let (status, said) = going.end()?;
        if !status.success() {
            return Err(said);
        }
        client.is_gone("configmap/going")?;
        client.ok("delete pod late --grace-period=1")?;
        client.is_gone("pod/late")
    }),
    row("wait --for=jsonpath", |client| {
        client.says(
            "wait --for=jsonpath={.status.availableReplicas}=2 deployment/web --timeout=60s",
            &["deployment.apps/web condition met"],
        )
    }),
    row("wait --for=create", |client| {
        let going = client.start("wait --for=create configmap/coming --timeout=60s")?;
        client.ok("create configmap coming --from-literal=a=b")?;
        let (status, said) = going.end()?;
        if status.success() && said.contains("configmap/coming condition met") { Ok(()) } else { Err(said) }
    }),
];

fn rolled_out(client: &Client<'_>) -> Outcome {
    client
        .says("rollout status deployment/web --timeout=90s", &[r#"deployment "web" successfully rolled out"#])
}

fn is_revision(client: &Client<'_>, image: &str, revision: &str) -> Outcome {
    let expected = format!(
        r#"{{"metadata": {{"annotations": {{"deployment.kubernetes.io/revision": "{revision}"}}}},
            "spec": {{"template": {{"spec": {{"containers": [{{"image": "{image}"}}]}}}}}}}}"#
    );
    client.holds("deployment/web", &expected)
}

fn restart(client: &Client<'_>) -> Outcome {
    let before = pods(client)?;
    client.says("rollout restart deployment/web", &["deployment.apps/web restarted"])?;
    rolled_out(client)?;
    is_revision(client, "nginx:1.16.1", "5")?;
    eventually(|| {
        let after = pods(client)?;
        let anew = after.len() == 2 && before.iter().all(|pod| !after.contains(pod));
        if anew { Ok(()) } else { Err(format!("{before:?} became {after:?}")) }
    })
}

fn pods(client: &Client<'_>) -> Result<Vec<String>, String> {
    let names = client.ok("get pods -l app=web -o name")?;
    Ok(names.lines().map(str::to_owned).collect())
}
