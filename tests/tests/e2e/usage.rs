//! What a newcomer does: apply, look, change, mistype.

use std::{collections::BTreeSet, net::SocketAddr};

use serde_json::Value;
use warren_tests::{
    cluster::{Cluster, condition, warren_binary},
    eventually, succeed, text,
};

/// The demo's manifest, as the repository ships it.
pub fn demo() -> &'static str {
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/examples/hello/hello.yaml"))
}

/// The gateway's HTTP address.
pub fn gateway(cluster: &Cluster) -> SocketAddr {
    cluster.machines.gateway()
}

fn curl(url: &str, arguments: &[&str]) -> (String, String) {
    let output = std::process::Command::new("curl")
        .args(["-sS", "--max-time", "20", "-w", "\n%{http_code}"])
        .args(arguments)
        .arg(url)
        .output()
        .expect("curl starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, code) = text.rsplit_once('\n').unwrap_or(("", ""));
    assert!(output.status.success(), "curl {url}: {}", String::from_utf8_lossy(&output.stderr));
    (body.to_owned(), code.to_owned())
}

pub fn demo_reaches_every_pod_on_every_node(cluster: &Cluster) {
    cluster.apply(demo());
    cluster.rolled_out("deployment/hello");
    let url = format!("http://{}/", gateway(cluster));
    let (mut pods, mut nodes) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..300 {
        let (body, code) = curl(&url, &["-H", "accept: application/json"]);
        assert_eq!(code, "200", "{body}");
        let answer: Value = serde_json::from_str(&body).expect("the demo answers JSON");
        pods.insert(answer["hostname"].as_str().expect("a host name").to_owned());
        nodes.insert(answer["node"].as_str().expect("a node").to_owned());
        let forwarded = answer["headers"]["x-forwarded-for"].as_str().unwrap_or_default();
        assert!(!forwarded.is_empty(), "the client's address is lost: {body}");
    }
    assert_eq!(pods.len(), 6, "{pods:?}");
    assert_eq!(nodes.len(), 3, "{nodes:?}");
}

pub fn documentation_manifests_work_unmodified(cluster: &Cluster) {
    let printed = cluster.apply(include_str!("../../manifests/nginx.yaml"));
    assert!(printed.contains("deployment.apps/nginx-deployment created"), "{printed}");
    assert!(printed.contains("service/my-service created"), "{printed}");
    cluster.rolled_out("deployment/nginx-deployment");
    let table = cluster.kubectl(&["get", "pods", "-o", "wide", "-l", "app=nginx"]);
    for node in 1..=3 {
        let node = format!("{}-node-{node}", cluster.name);
        assert!(table.contains(&node), "no pod on {node}:\n{table}");
    }
    assert_eq!(table.matches("Running").count(), 3, "{table}");
    assert_eq!(table.matches("1/1").count(), 3, "{table}");
    let again = cluster.apply(include_str!("../../manifests/nginx.yaml"));
    assert_eq!(again.matches("unchanged").count(), 2, "{again}");

    cluster.kubectl(&["set", "image", "deployment/nginx-deployment", "nginx=nginx:1.16.1"]);
    cluster.rolled_out("deployment/nginx-deployment");
    let history = cluster.kubectl(&["rollout", "history", "deployment/nginx-deployment"]);
    assert!(history.contains("\n1 ") && history.contains("\n2 "), "{history}");
    cluster.kubectl(&["rollout", "undo", "deployment/nginx-deployment"]);
    cluster.rolled_out("deployment/nginx-deployment");
    let deployment = cluster.get(&["deployment", "nginx-deployment"]);
    assert_eq!(deployment["spec"]["template"]["spec"]["containers"][0]["image"], "nginx:1.14.2");
    assert_eq!(deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "3");
    cluster.kubectl(&["delete", "deployment/nginx-deployment", "service/my-service"]);
    eventually("the pods are gone", || match cluster.items(&["pods", "-l", "app=nginx"]).len() {
        0 => Ok(()),
        count => Err(format!("{count} pods are left")),
    });
}

pub fn kubectl_does_its_everyday_work(cluster: &Cluster) {
    cluster.kubectl(&["create", "namespace", "daily"]);
    let ns = ["-n", "daily"];
    let run = |arguments: &[&str]| cluster.kubectl(&[&ns[..], arguments].concat());
    run(&["create", "deployment", "web", "--image=nginx:1.14.2"]);
    run(&["create", "configmap", "settings", "--from-literal=colour=blue"]);
    run(&["create", "secret", "generic", "key", "--from-literal=word=swordfish"]);
    run(&["rollout", "status", "deployment/web", "--timeout=120s"]);
    run(&["scale", "deployment/web", "--replicas=2"]);
    run(&["rollout", "status", "deployment/web", "--timeout=120s"]);
    run(&["label", "deployment/web", "tier=front"]);
    run(&["annotate", "deployment/web", "note=one"]);
    run(&["patch", "deployment/web", "--type=merge", "-p", r#"{"metadata":{"labels":{"patched":"merge"}}}"#]);
    run(&[
        "patch",
        "deployment/web",
        "--type=json",
        "-p",
        r#"[{"op":"add","path":"/metadata/labels/json","value":"yes"}]"#,
    ]);
    run(&[
        "patch",
        "deployment/web",
        "-p",
        r#"{"spec":{"template":{"spec":{"containers":[{"name":"nginx","env":[{"name":"A","value":"b"}]}]}}}}"#,
    ]);
    run(&["rollout", "status", "deployment/web", "--timeout=120s"]);
    let deployment = cluster.get(&["-n", "daily", "deployment", "web"]);
    assert_eq!(deployment["metadata"]["labels"]["patched"], "merge");
    assert_eq!(deployment["spec"]["template"]["spec"]["containers"][0]["image"], "nginx:1.14.2");
    describe_and_get_every_kind(cluster);
    let pods = run(&["describe", "pods"]);
    assert!(pods.contains("Started container nginx"), "{pods}");
    let node = format!("{}-node-1", cluster.name);
    cluster.kubectl(&["cordon", &node]);
    assert!(cluster.kubectl(&["get", "nodes"]).contains("Ready,SchedulingDisabled"));
    run(&["scale", "deployment/web", "--replicas=6"]);
    run(&["rollout", "status", "deployment/web", "--timeout=120s"]);
    let on_cordoned =
        |pods: Vec<Value>| pods.iter().filter(|pod| pod["spec"]["nodeName"] == node.as_str()).count();
    assert!(on_cordoned(cluster.items(&["-n", "daily", "pods"])) <= 1, "pods were placed on a cordoned node");
    cluster.kubectl(&["uncordon", &node]);
    assert!(cluster.kubectl(&["describe", "node", &node]).contains("Capacity:"));
    run(&["get", "all", "-o", "wide"]);
    cluster.kubectl(&["delete", "namespace", "daily", "--timeout=120s"]);
    assert!(!cluster.kubectl(&["get", "namespaces"]).contains("daily"));
}

/// Every kind that is served, as the namespace `daily` has it: what `describe` must say, and that `get` shows it.
fn describe_and_get_every_kind(cluster: &Cluster) {
    let run = |arguments: &[&str]| cluster.kubectl(&[&["-n", "daily"][..], arguments].concat());
    run(&["expose", "deployment/web", "--port=80"]);
    cluster.apply(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: web, namespace: daily}\nspec:\n  \
         defaultBackend: {service: {name: web, port: {number: 80}}}\n  rules:\n  - host: daily.test\n    http: {paths: \
         [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}\n",
    );
    let gateway = cluster.machines.address(&format!("{}-gateway", cluster.name));
    let address = format!("Address: {gateway}");
    // How wide the columns are depends on the kubectl.
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    for (kind, expected) in [
        ("deployment/web", "Replicas:               2 desired"),
        ("replicaset", "Controlled By:  Deployment/web"),
        ("pod", "Status: Running"),
        ("service/web", "Endpoints:         10.42."),
        ("endpoints/web", "  Addresses:          10.42."),
        ("endpointslice", "kubernetes.io/hostname="),
        ("ingress/web", &address),
        ("ingress/web", "Default backend:  web:80 (10.42."),
        ("configmap/settings", "colour"),
        ("secret/key", "word:  9 bytes"),
        ("serviceaccount/default", "Namespace:           daily"),
        ("event", "Reason:"),
        ("namespace/daily", "Active"),
        ("node", "Capacity:"),
    ] {
        eventually("describe says what there is", || {
            let text = run(&["describe", kind]);
            let good = words(&text).contains(&words(expected)) && !text.contains("<error");
            if good {
                Ok(())
            } else {
                Err(format!("describe {kind}: no {expected:?}, or an error, in:\n{text}"))
            }
        });
    }
    for kind in [
        "deployments",
        "replicasets",
        "pods",
        "services",
        "endpoints",
        "endpointslices",
        "ingresses",
        "configmaps",
        "secrets",
        "serviceaccounts",
        "events",
        "namespaces",
        "nodes",
    ] {
        let (yaml, wide) = (run(&["get", kind, "-o", "yaml"]), run(&["get", kind, "-o", "wide"]));
        assert!(yaml.contains("\n  kind: ") && yaml.contains("\n    name: "), "{kind}: {yaml}");
        assert!(wide.lines().count() > 1 && !wide.contains("<error"), "{kind}: {wide}");
    }
    run(&["delete", "endpoints", "web"]);
    eventually("a service's endpoints are made anew", || {
        let found = cluster.try_kubectl(&["-n", "daily", "get", "endpoints", "web", "-o", "yaml"]);
        let told = text(&found);
        if found.status.success() && told.contains("10.42.") { Ok(()) } else { Err(told) }
    });
}

pub fn bad_input_is_refused_with_the_field_named(cluster: &Cluster) {
    let refused = |manifest: &str, expected: &str| {
        let output = cluster.try_kubectl_with_input(&["create", "--validate=false", "-f", "-"], manifest);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(expected), "expected {expected:?}, got: {text}");
    };
    let deployment = |replicas: &str, label: &str| {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: bad}}\nspec:\n  replicas: {replicas}\n  \
             selector: {{matchLabels: {{app: {label}}}}}\n  template:\n    metadata: {{labels: {{app: a}}}}\n    \
             spec: {{containers: [{{name: c, image: busybox:1.36}}]}}\n"
        )
    };
    refused(&deployment("-1", "a"), "spec.replicas: Invalid value: -1");
    refused(&deployment("\"three\"", "a"), "spec.replicas");
    refused(&deployment("1", "b"), "`selector` does not match template `labels`");
    refused(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: Bad_Name}\nspec: {containers: [{name: c, image: x}]}\n",
        "metadata.name",
    );
    refused(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: bad}\nspec: {containers: []}\n",
        "spec.containers: Required value",
    );
    refused("apiVersion: apps/v7\nkind: Deployment\nmetadata: {name: bad}\n", "no matches for kind");
    refused(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: bad}\nspec: {hostNetwork: true, containers: [{name: c, image: x}]}\n",
        "spec.hostNetwork",
    );

    let cursed = cluster.try_kubectl(&["get", "pods", "--field-selector", "spec.nonsense=1"]);
    assert!(String::from_utf8_lossy(&cursed.stderr).contains("field label not supported"), "{cursed:?}");
    let ghost = cluster.try_kubectl(&["get", "pod", "ghost"]);
    assert!(String::from_utf8_lossy(&ghost.stderr).contains("pods \"ghost\" not found"), "{ghost:?}");
    let namespace = cluster.try_kubectl(&["delete", "namespace", "default"]);
    assert!(
        String::from_utf8_lossy(&namespace.stderr)
            .contains("namespaces \"default\" is forbidden: this namespace may not be deleted"),
        "{namespace:?}"
    );
    let kind = cluster.try_kubectl(&["get", "unicorns"]);
    assert!(
        String::from_utf8_lossy(&kind.stderr).contains("the server doesn't have a resource type"),
        "{kind:?}"
    );

    let with = |field: &str| {
        let pod = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: warned}}\nspec:\n  {field}\n  \
             containers: [{{name: c, image: busybox:1.36, command: [sleep, '3600']}}]\n"
        );
        let output = cluster.try_kubectl_with_input(&["apply", "-f", "-"], &pod);
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (accepted, text) = with("runtimeClassName: kata");
    assert!(!accepted && text.contains("RuntimeClass \"kata\" not found"), "{text}");
    let (accepted, text) = with("shareProcessNamespace: true");
    assert!(accepted && text.contains("Warning: ") && text.contains("shareProcessNamespace"), "{text}");
    cluster.kubectl(&["delete", "pod", "warned", "--grace-period=0", "--force"]);
}

pub fn status_and_a_second_up_tell_the_truth(cluster: &Cluster) {
    cluster.nodes_ready(3);
    cluster.apply(demo());
    cluster.rolled_out("deployment/hello");
    let before = cluster.items(&["pods", "-A"]);
    cluster.machines.again();
    let started = |pods: &[Value]| -> BTreeSet<String> {
        pods.iter()
            .map(|pod| {
                format!("{} {}", pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["containerID"])
            })
            .collect()
    };
    assert_eq!(
        started(&before),
        started(&cluster.items(&["pods", "-A"])),
        "being told again changed running pods"
    );

    let status = eventually("the overlay has shaken hands", || {
        let status = cluster.warren(&["status"]);
        if status.contains("userspace") || status.contains("kernel") { Ok(status) } else { Err(status) }
    });
    for expected in
        [format!("{}-node-1", cluster.name), format!("{}-gateway", cluster.name), "hello".to_owned()]
    {
        assert!(status.contains(&expected), "{expected} is missing:\n{status}");
    }
    for node in cluster.items(&["nodes"]) {
        assert_eq!(condition(&node, "Ready"), "True");
        let version = node["status"]["nodeInfo"]["kubeletVersion"].as_str().unwrap_or_default();
        assert!(!version.is_empty(), "{node}");
    }
}

pub fn logs_and_watches_follow(cluster: &Cluster) {
    let mut watch = cluster.spawn_kubectl(&["get", "pods", "-w", "--no-headers"]);
    cluster.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: counter}\nspec:\n  restartPolicy: Never\n  containers:\n  - name: c\n    \
         image: busybox:1.36\n    command: [sh, -c, 'for i in 1 2 3 4 5; do echo line $i; sleep 0.3; done; exit 3']\n",
    );
    eventually("the container has a log", || {
        let output = cluster.try_kubectl(&["logs", "counter"]);
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    });
    // Ends by itself when the container does.
    let logs = cluster.kubectl(&["logs", "-f", "counter"]);
    assert_eq!(logs, "line 1\nline 2\nline 3\nline 4\nline 5\n");
    assert_eq!(cluster.kubectl(&["logs", "--tail=2", "counter"]), "line 4\nline 5\n");
    eventually("the pod has failed", || match cluster.get(&["pod", "counter"])["status"]["phase"].as_str() {
        Some("Failed") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let pod = cluster.get(&["pod", "counter"]);
    assert_eq!(pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"], 3, "{pod}");
    cluster.kubectl(&["delete", "pod", "counter"]);
    watch.wait_for("counter", "ContainerCreating");
    watch.wait_for("counter", "Running");
    watch.wait_for("counter", "Error");
}

pub fn a_pod_hears_why_it_is_where_it_is(cluster: &Cluster) {
    cluster.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: why}\nspec:\n  schedulingGates: [{name: example.com/later}]\n  \
         containers:\n  - name: c\n    image: busybox:1.36\n    command: [sleep, '600']\n    resources: {requests: {cpu: \
         '5000'}}\n",
    );
    let why = |expected: &[&str]| {
        let why = cluster.warren(&["why", "why"]);
        for expected in expected {
            assert!(why.contains(expected), "{expected:?} is missing:\n{why}");
        }
        why
    };
    why(&["has no node", "scheduling gates: example.com/later", "Insufficient cpu: asks for 5k, "]);
    cluster.kubectl(&["patch", "pod", "why", "-p", r#"{"spec": {"schedulingGates": null}}"#]);
    let told = eventually("the pod is told that it fits nowhere", || {
        let pod = cluster.get(&["pod", "why"]);
        let scheduled = pod["status"]["conditions"].as_array().into_iter().flatten();
        let refused = |condition: &&Value| condition["reason"] == "Unschedulable";
        let message = scheduled.clone().find(refused).and_then(|condition| condition["message"].as_str());
        message.map(str::to_owned).ok_or_else(|| pod["status"].to_string())
    });
    why(&[&told]);
    let events = cluster.items(&["events", "--field-selector", "reason=FailedScheduling"]);
    assert!(events.iter().any(|event| event["message"] == told.as_str()), "{told}: {events:?}");
    cluster.kubectl(&["delete", "pod", "why"]);
    cluster.kubectl(&["run", "why", "--image=busybox:1.36", "--restart=Never", "--", "sleep", "600"]);
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/why", "--timeout=120s"]);
    let node = cluster.get(&["pod", "why"])["spec"]["nodeName"].as_str().unwrap_or_default().to_owned();
    why(&[&format!("is on {node}"), &format!("{node} (here)"), "% full"]);
    let explained = cluster.warren(&["why", "pod/why", "-n", "default", "-o", "json"]);
    let explained: Value = serde_json::from_str(&explained).expect("JSON");
    assert_eq!(explained["node"], node.as_str(), "{explained}");
    cluster.kubectl(&["delete", "pod", "why", "--grace-period=1"]);
}

pub fn every_process_serves_metrics_and_logs_json(cluster: &Cluster) {
    let metrics = |role: &str, port: u16| {
        let url = format!("http://127.0.0.1:{port}/metrics");
        let mut curl = cluster.machines.command(&format!("{}-{role}", cluster.name), "curl");
        succeed(curl.args(["-sS", "--max-time", "10", &url]))
    };
    for (role, port, expected) in [
        ("controller", 9401, "warren_store_commits_total"),
        ("node-1", 9400, "process_"),
        ("node-1", 9402, "warren_"),
        ("node-1", 9403, "warren_"),
        ("gateway", 9404, "warren_gateway_requests_total"),
    ] {
        let text = metrics(role, port);
        assert!(text.contains(expected), "{role}:{port} lacks {expected}:\n{text}");
        assert!(
            text.contains("process_resident_memory_bytes") && text.contains("warren_build_info"),
            "{text}"
        );
        prometheus_finds_nothing(&format!("{role}:{port}"), &text);
    }
    let port = cluster.machines.spare_port().to_string();
    let mut echo = std::process::Command::new(warren_binary())
        .args(["echo", "--port", &port, "--log-format", "json"])
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("warren echo starts");
    eventually("the echo server listens", || {
        std::net::TcpStream::connect(format!("127.0.0.1:{port}"))
            .map(|_| ())
            .map_err(|error| error.to_string())
    });
    echo.kill().expect("it can be stopped");
    let output = echo.wait_with_output().expect("it ends");
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let line = text.lines().next().expect("it logged something");
    assert!(serde_json::from_str::<Value>(line).is_ok(), "not JSON: {line}");
}

/// Prometheus' own checker has nothing to say about what a process serves.
fn prometheus_finds_nothing(whose: &str, text: &str) {
    let mut checker = std::process::Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("promtool starts (package prometheus)");
    let mut input = checker.stdin.take().expect("piped");
    std::io::Write::write_all(&mut input, text.as_bytes()).expect("written");
    drop(input);
    let output = checker.wait_with_output().expect("it ends");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.is_empty(), "{whose}: {said}");
}

pub fn a_second_cluster_lives_beside_it(cluster: &Cluster) {
    let first = gateway(cluster);
    let second = Cluster::local(&format!("{}-b", cluster.name), 1, first.port() + 999);
    let http = gateway(&second).port();
    second.nodes_ready(1);
    second.apply(demo());
    second.rolled_out("deployment/hello");
    let (body, code) = curl(&format!("http://127.0.0.1:{http}/"), &[]);
    assert_eq!(code, "200", "{body}");
    // A port of the first cluster is named, with its owner.
    let taken = std::process::Command::new(warren_binary())
        .args(["up", "--name", "warren-e2e-c", "--api-port", &(http + 500).to_string()])
        .args(["--gateway-http", &first.port().to_string(), "--gateway-https", &(http + 501).to_string()])
        .output()
        .expect("warren starts");
    let text = String::from_utf8_lossy(&taken.stderr);
    assert!(!taken.status.success() && text.contains(&first.port().to_string()), "{text}");
    assert!(text.contains(&cluster.name), "the owner of the port is not named: {text}");
    drop(second);
    cluster.nodes_ready(3);
    let (body, code) = curl(&format!("http://{first}/"), &[]);
    assert_eq!(code, "200", "the first cluster suffered: {body}");
}
