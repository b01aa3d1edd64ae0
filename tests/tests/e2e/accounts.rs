//! Pods as somebody to the API: what is mounted in them, and that it opens the API from where they are.

use std::process::{Command, Output};

use serde_json::Value;
use warren_tests::{
    cluster::{Cluster, kubectl_versions},
    eventually, text,
};

use crate::state::{Scratch, ready_pod};

const PLACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

const PODS: &str = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: robot}\n---\n\
    apiVersion: v1\nkind: Pod\nmetadata: {name: somebody}\nspec:\n  serviceAccountName: robot\n  \
    terminationGracePeriodSeconds: 0\n  containers:\n  - {name: idle, image: 'busybox:1.36', command: [sleep, infinity]}\n\
    ---\napiVersion: v1\nkind: Pod\nmetadata: {name: nobody}\nspec:\n  automountServiceAccountToken: false\n  \
    terminationGracePeriodSeconds: 0\n  containers:\n  - {name: idle, image: 'busybox:1.36', command: [sleep, infinity]}\n";

fn read(cluster: &Cluster, file: &str) -> String {
    cluster.kubectl(&["exec", "somebody", "--", "cat", &format!("{PLACE}/{file}")])
}

/// Asks the API with a token and what a pod trusts, and with nothing of the administrator's.
fn ask(cluster: &Cluster, certificates: &Scratch, token: &str, path: &str) -> Output {
    let server = cluster.kubectl(&["config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"]);
    let file = certificates.file("ca.crt");
    std::fs::write(&file, read(cluster, "ca.crt")).expect("written");
    let (_, kubectl) = kubectl_versions().into_iter().next().expect("a kubectl");
    let mut command = Command::new(kubectl);
    command.env("KUBECONFIG", "/dev/null").env("HOME", certificates.file("home"));
    command.args(["--server", &server, "--token", token, "--certificate-authority"]).arg(&file);
    command.args(["get", "--raw", path]).output().expect("kubectl starts")
}

pub fn a_pod_asks_the_api_with_its_own_token(cluster: &Cluster) {
    let refused = "apiVersion: v1\nkind: Pod\nmetadata: {name: early}\nspec:\n  serviceAccountName: missing\n  \
        containers: [{name: c, image: 'busybox:1.36'}]\n";
    let output = cluster.try_kubectl_with_input(&["apply", "-f", "-"], refused);
    let why = "error looking up service account default/missing: serviceaccount \"missing\" not found";
    assert!(!output.status.success() && text(&output).contains(why), "{}", text(&output));

    cluster.apply(PODS);
    let pod: Value = ready_pod(cluster, "somebody");
    ready_pod(cluster, "nobody");
    assert_eq!(read(cluster, "namespace"), "default");
    let token = read(cluster, "token");
    assert_eq!(token.split('.').count(), 3, "a signed token");
    let none = cluster.try_kubectl(&["exec", "nobody", "--", "ls", PLACE]);
    assert!(!none.status.success(), "{}", text(&none));

    // From within: the address that every container is told leads to the API.
    let reach = "nc -w 5 $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT </dev/null && echo reached";
    let said = cluster.kubectl(&["exec", "somebody", "--", "sh", "-c", reach]);
    assert!(said.contains("reached"), "{said}");

    // The token is taken for what it is, by the certificates that lie beside it; a changed one is not.
    let certificates = Scratch::new(cluster, "accounts");
    let output = eventually("the API answers the pod's token", || {
        let output = ask(cluster, &certificates, token.trim(), "/version");
        if output.status.success() { Ok(output) } else { Err(text(&output)) }
    });
    assert!(text(&output).contains("gitVersion"), "{}", text(&output));
    let changed: String = token.trim().chars().rev().collect();
    let output = ask(cluster, &certificates, &changed, "/api/v1/namespaces/default/pods");
    assert!(!output.status.success() && text(&output).contains("Unauthorized"), "{}", text(&output));

    // Nothing of it is on a disk of the node: it is in memory, where the pod sees it.
    let mounted =
        cluster.kubectl(&["exec", "somebody", "--", "grep", "kubernetes.io/serviceaccount", "/proc/mounts"]);
    assert!(mounted.contains("tmpfs") && mounted.contains("ro,"), "{mounted}");
    assert_eq!(pod["spec"]["serviceAccountName"], "robot");
    cluster.kubectl(&["delete", "pod", "somebody", "nobody", "--force", "--grace-period=0"]);
    cluster.kubectl(&["delete", "serviceaccount", "robot"]);
}
