//! rollout of StatefulSets and DaemonSets, autoscale, and what a CronJob's copy does: each command has its effect on pods.

use std::collections::BTreeSet;

use super::{
    Family, Row,
    client::{Client, Outcome, contains, eventually},
    row,
};

pub const FAMILY: Family =
    Family { name: "workloads", before, rows: &[STORE, AGENT, SIZES, COPIES], after: &[] };

const SETS: &str = "
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: store}
spec:
  serviceName: store
  replicas: 2
  selector: {matchLabels: {app: store}}
  template:
    metadata: {labels: {app: store}}
    spec: {terminationGracePeriodSeconds: 1, containers: [{name: main, image: 'nginx:1.14.2'}]}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  updateStrategy: {rollingUpdate: {maxUnavailable: 100%}}
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec: {terminationGracePeriodSeconds: 1, containers: [{name: main, image: 'nginx:1.14.2'}]}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: source}
spec:
  schedule: 0 5 1 1 *
  jobTemplate:
    spec:
      template:
        spec: {restartPolicy: Never, containers: [{name: main, image: 'busybox:1.36', command: [echo, copied]}]}
";

fn before(client: &Client<'_>) -> Outcome {
    client.give("create -f -", SETS).map(drop)
}

/// A set whose rollouts are looked at.
struct Set {
    /// As `kubectl` names it.
    object: &'static str,
    app: &'static str,
    pods: usize,
    /// What `rollout status` ends with.
    done: &'static str,
}

const OF_STORE: Set = Set {
    object: "statefulset.apps/store",
    app: "store",
    pods: 2,
    done: "partitioned roll out complete: 2 new pods have been updated",
};
const OF_AGENT: Set = Set {
    object: "daemonset.apps/agent",
    app: "agent",
    pods: 3,
    done: r#"daemon set "agent" successfully rolled out"#,
};

const STORE: &[Row] = &[
    row("rollout status statefulset", |client| OF_STORE.begins(client)),
    row("rollout history statefulset", |client| OF_STORE.has_history(client)),
    row("rollout undo statefulset", |client| OF_STORE.goes_back(client)),
    row("rollout restart statefulset", |client| OF_STORE.restarts(client)),
];

const AGENT: &[Row] = &[
    row("rollout status daemonset", |client| OF_AGENT.begins(client)),
    row("rollout history daemonset", |client| OF_AGENT.has_history(client)),
    row("rollout undo daemonset", |client| OF_AGENT.goes_back(client)),
    row("rollout restart daemonset", |client| OF_AGENT.restarts(client)),
];

const SIZES: &[Row] = &[
    row("autoscale: a deployment grows", |client| {
        client.ok("create deployment web --image=nginx:1.14.2")?;
        client.ok(&format!("autoscale deployment/web --min=2 --max=2 {}", goal(client)))?;
        client.comes_to_hold(
            "deployment/web",
            r#"{"spec": {"replicas": 2}, "status": {"readyReplicas": 2}}"#,
        )?;
        client.comes_to_hold("hpa/web", r#"{"status": {"currentReplicas": 2, "desiredReplicas": 2}}"#)?;
        let said = "New size: 2; reason: Current number of replicas below Spec.MinReplicas";
        eventually(|| client.says("describe hpa web", &["SuccessfulRescale", said]))
    }),
    row("autoscale statefulset", |client| {
        client.ok(&format!("autoscale statefulset/store --min=3 --max=3 {}", goal(client)))?;
        client.comes_to_hold(
            "statefulset/store",
            r#"{"spec": {"replicas": 3}, "status": {"readyReplicas": 3}}"#,
        )?;
        client.comes_to_hold("pod/store-2", r#"{"status": {"phase": "Running"}}"#)
    }),
];

const COPIES: &[Row] = &[row("create job --from=cronjob", |client| {
    // 1.20 knows CronJobs of this version only, as deploy/kubectl.md says.
    let source = if client.minor < 21 { "cronjobs.v1beta1.batch/source" } else { "cronjob/source" };
    client.says(&format!("create job copied --from={source}"), &["job.batch/copied created"])?;
    client.holds(
        "job/copied",
        r#"{"metadata": {"annotations": {"cronjob.kubernetes.io/instantiate": "manual"}, "ownerReferences":
            [{"kind": "CronJob", "name": "source"}]}, "spec": {"template": {"spec": {"containers": [
            {"name": "main"}]}}}}"#,
    )?;
    client.ok("wait --for=condition=complete job/copied --timeout=60s")?;
    client.holds("job/copied", r#"{"status": {"succeeded": 1, "failed": null, "active": null}}"#)?;
    client.says("logs job/copied", &["copied"])
})];

/// 1.34 renamed the option; 1.36 has only the new one.
fn goal(client: &Client<'_>) -> &'static str {
    if client.minor < 34 { "--cpu-percent=80" } else { "--cpu=80%" }
}

impl Set {
    fn rolled_out(&self, client: &Client<'_>, image: &str) -> Outcome {
        client.says(&format!("rollout status {} --timeout=90s", self.object), &[self.done])?;
        let pods = client.json(&format!("pods -l app={}", self.app))?;
        let images = pods["items"].as_array().into_iter().flatten();
        let images: Vec<_> = images.map(|pod| pod["spec"]["containers"][0]["image"].clone()).collect();
        if images.len() == self.pods && images.iter().all(|seen| seen == image) {
            return Ok(());
        }
        Err(format!("{} is said to be rolled out, and its pods have {images:?}", self.object))
    }

    fn begins(&self, client: &Client<'_>) -> Outcome {
        self.rolled_out(client, "nginx:1.14.2")
    }

    fn has_history(&self, client: &Client<'_>) -> Outcome {
        let Self { object, .. } = self;
        client.ok(&format!("set image {object} main=nginx:1.16.1"))?;
        self.rolled_out(client, "nginx:1.16.1")?;
        self.revisions(client, &["1", "2"])?;
        client.says(&format!("rollout history {object} --revision=1"), &["Pod Template:", "nginx:1.14.2"])?;
        client.says(&format!("rollout history {object} --revision=2"), &["Pod Template:", "nginx:1.16.1"])
    }

    /// The first revision is the newest from then on, and the second is gone back to by its number.
    fn goes_back(&self, client: &Client<'_>) -> Outcome {
        let Self { object, .. } = self;
        client.says(&format!("rollout undo {object}"), &[&format!("{object} rolled back")])?;
        self.rolled_out(client, "nginx:1.14.2")?;
        self.revisions(client, &["2", "3"])?;
        client.ok(&format!("rollout undo {object} --to-revision=2"))?;
        self.rolled_out(client, "nginx:1.16.1")?;
        self.revisions(client, &["3", "4"])?;
        let missing = format!("rollout undo {object} --to-revision=99");
        client.refused(&missing, &["unable to find specified revision"])
    }

    fn restarts(&self, client: &Client<'_>) -> Outcome {
        let Self { object, .. } = self;
        let before = self.uids(client)?;
        client.says(&format!("rollout restart {object}"), &[&format!("{object} restarted")])?;
        self.rolled_out(client, "nginx:1.16.1")?;
        let annotations = &client.json(object)?["spec"]["template"]["metadata"]["annotations"];
        contains(object, &annotations.to_string(), ["kubectl.kubernetes.io/restartedAt"])?;
        let after = self.uids(client)?;
        let is_anew = after.len() == self.pods && before.is_disjoint(&after);
        if is_anew { Ok(()) } else { Err(format!("{before:?} became {after:?}")) }
    }

    /// Sees that the history has these, and no more.
    fn revisions(&self, client: &Client<'_>, expected: &[&str]) -> Outcome {
        let line = format!("rollout history {}", self.object);
        eventually(|| {
            let printed = client.ok(&line)?;
            let numbers = printed.lines().filter_map(|line| line.split_whitespace().next());
            let numbers: Vec<_> = numbers.filter(|word| word.parse::<u32>().is_ok()).collect();
            if numbers == expected { Ok(()) } else { Err(format!("{line}: not {expected:?}:\n{printed}")) }
        })
    }

    fn uids(&self, client: &Client<'_>) -> Result<BTreeSet<String>, String> {
        let line = format!("get pods -l app={} -o jsonpath={{.items[*].metadata.uid}}", self.app);
        Ok(client.ok(&line)?.split_whitespace().map(str::to_owned).collect())
    }
}
