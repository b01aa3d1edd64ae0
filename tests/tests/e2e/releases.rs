//! A chart of the usual shape (tests/charts/usual) through the life of a release, by each major version of Helm.

use std::collections::BTreeSet;

use serde_json::Value;
use warren_tests::{cluster::Cluster, eventually};

use crate::charts::helm_of;

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/usual");
/// All that the chart and its controllers make, or leave.
const KINDS: &str = "statefulsets,controllerrevisions,deployments,replicasets,daemonsets,cronjobs,jobs,pods,\
                     horizontalpodautoscalers,poddisruptionbudgets,services,endpointslices,configmaps,secrets";

pub fn helm_keeps_a_chart_of_the_usual_shape(cluster: &Cluster) {
    cluster.nodes_ready(3);
    for major in [3, 4] {
        let name = format!("usual-{major}");
        let release = Release { cluster, major, name: &name };
        release.is_installed();
        release.is_upgraded();
        release.survives_a_hook_that_fails();
        release.is_rolled_back();
        release.tidies_each_minute();
        release.is_uninstalled();
        cluster.kubectl(&["delete", "namespace", &name, "--timeout=120s"]);
    }
}

/// A release in a namespace of its own name.
struct Release<'a> {
    cluster: &'a Cluster,
    /// Of Helm's version.
    major: u32,
    name: &'a str,
}

impl Release<'_> {
    fn helm(&self, arguments: &[&str]) -> (bool, String) {
        helm_of(self.cluster, self.major, &[arguments, &["--namespace", self.name]].concat())
    }

    /// Lets Helm change the release, and wait until all of it is ready.
    fn change(&self, arguments: &[&str]) -> (bool, String) {
        // Helm 4 would apply on the server, which is not served yet.
        let own: &[&str] = if self.major > 3 { &["--server-side=false"] } else { &[] };
        self.helm(&[arguments, &["--wait", "--timeout", "120s"], own].concat())
    }

    fn changed(&self, arguments: &[&str]) {
        let (done, said) = self.change(arguments);
        assert!(done, "helm {}: {arguments:?}: {said}", self.major);
    }

    /// An object of the chart, by the end of its name.
    fn get(&self, kind: &str, part: &str) -> Value {
        let name = format!("{}{part}", self.name);
        self.cluster.get(&["-n", self.name, kind, &name])
    }

    fn pods(&self, part: &str) -> Vec<Value> {
        let labels = format!("app={},part={part}", self.name);
        self.cluster.items(&["-n", self.name, "pods", "-l", &labels])
    }

    /// What is in the namespace, beside what is in every one and what Helm keeps.
    fn objects(&self) -> BTreeSet<String> {
        let all = self.cluster.kubectl(&["-n", self.name, "get", KINDS, "-o", "name"]);
        let own = |name: &&str| *name != "configmap/kube-root-ca.crt" && !name.contains("sh.helm.release");
        all.lines().filter(own).map(str::to_owned).collect()
    }

    fn is_installed(&self) {
        self.changed(&["install", self.name, CHART, "--create-namespace"]);
        self.is_whole("blue");
        let prepared = self.get("job", "-prepare");
        assert_eq!(prepared["status"]["succeeded"], 1, "{prepared}");
        let (finished, begun) = (&prepared["status"]["completionTime"], self.get("statefulset", "-store"));
        let begun = &begun["metadata"]["creationTimestamp"];
        assert!(finished.as_str() <= begun.as_str(), "prepared at {finished}, installed at {begun}");
    }

    /// All that Helm has waited for is ready now; the rest is, soon.
    fn is_whole(&self, colour: &str) {
        assert_eq!(self.get("configmap", "")["data"]["colour"], colour);
        let store = &self.get("statefulset", "-store")["status"];
        let number = |field: &str| store[field].as_i64().unwrap_or_default();
        assert_eq!(
            (number("replicas"), number("readyReplicas"), number("updatedReplicas")),
            (2, 2, 2),
            "{store}"
        );
        assert_eq!(store["currentRevision"], store["updateRevision"]);
        let agent = &self.get("daemonset", "-agent")["status"];
        let number = |field: &str| agent[field].as_i64().unwrap_or_default();
        assert_eq!((number("numberReady"), number("updatedNumberScheduled")), (3, 3), "{agent}");
        for (part, count) in [("store", 2), ("agent", 3)] {
            self.all_have(part, count, colour).unwrap_or_else(|why| panic!("{why}"));
        }
        eventually("the autoscaler has its two pods", || self.all_have("web", 2, colour));
        let names: BTreeSet<_> =
            self.pods("store").iter().map(|pod| pod["metadata"]["name"].to_string()).collect();
        assert_eq!(names, BTreeSet::from([0, 1].map(|number| format!("\"{}-store-{number}\"", self.name))));
        eventually("the budget has counted its pods", || {
            let status = &self.get("pdb", "-store")["status"];
            let is_well = status["currentHealthy"] == 2 && status["disruptionsAllowed"] == 1;
            if is_well { Ok(()) } else { Err(status.to_string()) }
        });
        let size = &self.get("hpa", "-web")["status"]["currentReplicas"];
        assert_eq!(*size, 2, "of the autoscaler");
    }

    /// So many pods there are, each of this colour.
    fn all_have(&self, part: &str, count: usize, colour: &str) -> Result<(), String> {
        let pods = self.pods(part);
        let colours: Vec<_> = pods.iter().map(|pod| &pod["metadata"]["annotations"]["colour"]).collect();
        let is_so = pods.len() == count && colours.iter().all(|seen| **seen == colour);
        if is_so { Ok(()) } else { Err(format!("{count} pods of {part} should be {colour}: {colours:?}")) }
    }

    fn is_upgraded(&self) {
        let before = self.pods("store");
        self.changed(&["upgrade", self.name, CHART, "--set", "colour=green"]);
        self.is_whole("green");
        let uids = |pods: &[Value]| {
            pods.iter().map(|pod| pod["metadata"]["uid"].to_string()).collect::<BTreeSet<_>>()
        };
        assert!(uids(&before).is_disjoint(&uids(&self.pods("store"))), "pods of the version before");
        // The hook has asked each of them by its name, and is gone with its success.
        assert_eq!(self.migration(), "Succeeded");
        let migrations: Vec<_> = self.objects().into_iter().filter(|name| name.contains("migrate")).collect();
        assert!(migrations.iter().all(|name| name.starts_with("pod/")), "{migrations:?}");
    }

    /// How the Job after the last upgrade ended, as Helm says.
    fn migration(&self) -> String {
        let (done, said) = self.helm(&["status", self.name, "--output", "json"]);
        assert!(done, "{said}");
        let status: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
        let hooks = status["hooks"].as_array().cloned().unwrap_or_default();
        let migration =
            hooks.iter().find(|hook| hook["name"].as_str().is_some_and(|name| name.ends_with("migrate")));
        migration.and_then(|hook| hook["last_run"]["phase"].as_str()).unwrap_or_default().to_owned()
    }

    fn survives_a_hook_that_fails(&self) {
        let arguments = ["upgrade", self.name, CHART, "--set", "colour=red,migrates=false"];
        let (done, said) = self.change(&arguments);
        assert!(!done && said.contains("post-upgrade hooks failed"), "{said}");
        assert_eq!(self.migration(), "Failed");
        self.is_whole("red");
    }

    fn is_rolled_back(&self) {
        let history = || {
            let revisions = self.cluster.items(&["-n", self.name, "controllerrevisions"]);
            let of_store = revisions.into_iter().filter(|one| one["metadata"]["labels"]["part"] == "store");
            of_store.map(|one| (one["revision"].as_i64().unwrap_or_default(), one)).collect::<Vec<_>>()
        };
        assert_eq!(history().len(), 3, "blue, green and red");
        self.changed(&["rollback", self.name, "2"]);
        self.is_whole("green");
        // The template was there before: it is the newest again, and no fourth.
        let revisions = history();
        let newest =
            revisions.iter().max_by_key(|(number, _)| *number).map(|(number, one)| (*number, &one["data"]));
        let (number, data) = newest.expect("there are revisions");
        assert!(
            revisions.len() == 3 && number == 4 && data.to_string().contains("green"),
            "{number}: {data}"
        );
        let (_, said) = self.helm(&["history", self.name]);
        assert!(said.contains("Rollback to 2"), "{said}");
    }

    fn tidies_each_minute(&self) {
        eventually("the schedule's Job has run", || {
            let status = &self.get("cronjob", "-tidy")["status"];
            if status["lastSuccessfulTime"].is_string() { Ok(()) } else { Err(status.to_string()) }
        });
        let jobs = self.cluster.items(&["-n", self.name, "jobs"]);
        let owner = |job: &Value| job["metadata"]["ownerReferences"][0]["name"].as_str().map(str::to_owned);
        let tidied = jobs.iter().find(|job| owner(job).is_some_and(|name| name.ends_with("-tidy")));
        let tidied =
            tidied.unwrap_or_else(|| panic!("{jobs:?}"))["metadata"]["name"].as_str().unwrap_or_default();
        let said = self.cluster.kubectl(&["-n", self.name, "logs", &format!("job/{tidied}")]);
        assert!(said.starts_with("tidied "), "{said}");
    }

    fn is_uninstalled(&self) {
        let (done, said) = self.helm(&["uninstall", self.name, "--wait", "--timeout", "120s"]);
        assert!(done, "{said}");
        // As on Kubernetes: a release does not own its hooks.
        let prepare = format!("job.batch/{}-prepare", self.name);
        eventually("the hook alone is left", || {
            let left = self.objects();
            let is_of_hook =
                |name: &String| *name == prepare || name.contains(&format!("pod/{}-prepare", self.name));
            if left.contains(&prepare) && left.iter().all(is_of_hook) {
                Ok(())
            } else {
                Err(format!("{left:?}"))
            }
        });
        self.cluster.kubectl(&["-n", self.name, "delete", &prepare]);
        eventually("nothing is left", || match self.objects() {
            left if left.is_empty() => Ok(()),
            left => Err(format!("{left:?}")),
        });
        let (_, listed) = self.helm(&["list", "--all", "--short"]);
        assert!(listed.trim().is_empty(), "{listed}");
    }
}
