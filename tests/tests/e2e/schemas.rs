//! Every kubectl at hand explains what is served, and computes the same patches from the server's schemas as from the
//! types that it brings along.

use std::{io::Write as _, path::Path, process::Stdio};

use serde_json::Value;
use warren_tests::{
    cluster::{Cluster, kubectl_versions},
    succeed, text,
};

/// A Deployment that is never scheduled, in both of its states: between them a value of `env` changes, a port, an
/// argument, a toleration and a finalizer go, and of two maps only some keys may stay.
fn manifest(name: &str, changed: bool) -> String {
    let pick = |before: &'static str, after: &'static str| if changed { after } else { before };
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, finalizers: [{finalizers}]}}
spec:
  replicas: 0
  selector: {{matchLabels: {{app: {name}}}}}
  strategy: {strategy}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      tolerations: [{tolerations}]
      volumes: [{{name: data, {volume}}}]
      containers:
      - name: main
        image: nginx:1
        args: [{arguments}]
        env: [{{name: A, value: \"{value}\"}}, {{name: B, value: \"2\"}}]
        ports: [{{containerPort: 80, name: http}}{port}]
        resources: {{limits: {{cpu: 1, memory: 64Mi}}}}
        readinessProbe: {{httpGet: {{port: {probed}, path: /}}}}
      - {{name: side, image: \"nginx:1\"}}
",
        finalizers = pick("example.com/a, example.com/b", "example.com/a"),
        strategy = pick(
            "{type: RollingUpdate, rollingUpdate: {maxSurge: 1, maxUnavailable: 0%}}",
            "{type: Recreate}"
        ),
        tolerations =
            pick("{key: a, operator: Exists}, {key: b, operator: Exists}", "{key: b, operator: Exists}"),
        volume = pick("emptyDir: {}", "configMap: {name: settings}"),
        arguments = pick("one, two", "one"),
        value = pick("1", "9"),
        port = pick(", {containerPort: 81}", ""),
        probed = pick("http", "80"),
    )
}

pub fn every_kubectl_explains_and_patches_by_the_schemas(cluster: &Cluster) {
    for (version, binary) in kubectl_versions() {
        explains(cluster, &version, &binary);
        let from_schemas = patched(cluster, &binary, "by-schema", "true");
        let from_types = patched(cluster, &binary, "by-type", "false");
        assert_eq!(from_schemas, from_types, "kubectl {version}");
        let template = &from_schemas["template"]["spec"];
        let main = &template["containers"][0];
        assert_eq!(main["env"][0]["value"], "9", "kubectl {version}");
        assert_eq!(main["env"][1]["name"], "B");
        assert_eq!(main["ports"].as_array().map(Vec::len), Some(1), "kubectl {version}");
        assert_eq!(template["containers"][1]["name"], "side");
        assert_eq!(template["tolerations"].as_array().map(Vec::len), Some(1));
        assert!(template["volumes"][0]["emptyDir"].is_null(), "kubectl {version}: {}", template["volumes"]);
        assert_eq!(from_schemas["strategy"], serde_json::json!({"type": "Recreate"}), "kubectl {version}");
    }
}

fn explains(cluster: &Cluster, version: &str, binary: &Path) {
    let explain = |arguments: &[&str]| {
        succeed(&mut cluster.kubectl_command_of(binary, &[&["explain"], arguments].concat()))
    };
    let pods = explain(&["pods"]);
    assert!(pods.contains("Pod is a collection of containers"), "kubectl {version}: {pods}");
    let fields = explain(&["deployment.spec.template.spec.containers", "--recursive"]);
    for field in ["containerPort", "configMapKeyRef", "initialDelaySeconds", "mountPath"] {
        assert!(fields.contains(field), "kubectl {version}: no {field} in\n{fields}");
    }
    // Every kind is known by its schema.
    let table = cluster.kubectl(&["api-resources", "--no-headers"]);
    for plural in table.lines().filter_map(|line| line.split_whitespace().next()) {
        let text = explain(&[plural]);
        assert!(text.contains("DESCRIPTION"), "kubectl {version}: {plural}: {text}");
    }
    let typo = manifest("typo", false).replace("replicas", "replicaz");
    let (succeeded, message) = apply(cluster, binary, &typo, &[]);
    assert!(!succeeded && message.contains("replicaz"), "kubectl {version}: {message}");
}

/// The spec after both states were applied.
fn patched(cluster: &Cluster, binary: &Path, name: &str, from_schemas: &str) -> Value {
    let option = format!("--openapi-patch={from_schemas}");
    let apply = |changed: bool, options: &[&str]| {
        let (succeeded, message) = apply(cluster, binary, &manifest(name, changed), options);
        assert!(succeeded, "{message}");
        message
    };
    apply(false, &[&option]);
    let trial = apply(true, &[&option, "--dry-run=server"]);
    assert!(trial.contains("server dry run"), "{trial}");
    apply(true, &[&option]);
    let deployment = cluster.get(&["deployment", name]);
    assert_eq!(deployment["metadata"]["finalizers"], serde_json::json!(["example.com/a"]));
    cluster.kubectl(&[
        "patch",
        "deployment",
        name,
        "--type=merge",
        "-p",
        r#"{"metadata":{"finalizers":null}}"#,
    ]);
    cluster.kubectl(&["delete", "deployment", name]);
    let mut spec = deployment["spec"].clone();
    spec["selector"].take();
    spec["template"]["metadata"].take();
    spec
}

/// Whether it succeeded, and all that it said.
fn apply(cluster: &Cluster, binary: &Path, manifest: &str, options: &[&str]) -> (bool, String) {
    let mut command = cluster.kubectl_command_of(binary, &[&["apply", "-f", "-"], options].concat());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("kubectl starts");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(manifest.as_bytes()).expect("kubectl reads");
    drop(input);
    let output = child.wait_with_output().expect("kubectl ends");
    (output.status.success(), text(&output))
}
