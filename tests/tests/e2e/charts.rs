//! A chart with what most charts have, by the real Helm: what is served is served, what is not is said, and all of it
//! can be removed.

use std::{path::Path, process::Command};

use serde_json::Value;
use warren_tests::{cluster::Cluster, eventually, text};

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/shop");

/// Helm 3, as `deploy/prerequisites.sh --full` builds it.
fn helm(cluster: &Cluster, arguments: &[&str]) -> (bool, String) {
    helm_of(cluster, 3, arguments)
}

/// Helm of one of the major versions that `deploy/prerequisites.sh --full` builds: 3 or 4.
pub fn helm_of(cluster: &Cluster, major: u32, arguments: &[&str]) -> (bool, String) {
    let directory = if major == 3 { "helm".to_owned() } else { format!("helm-{major}") };
    let binary = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../target/tools/{directory}/helm"));
    let mut command = Command::new(&binary);
    command.env("KUBECONFIG", cluster.kubeconfig()).env("HOME", std::env::temp_dir());
    let output = command.args(arguments).output();
    let output = output
        .unwrap_or_else(|error| panic!("{}: {error}: run deploy/prerequisites.sh --full", binary.display()));
    (output.status.success(), text(&output))
}

fn events(cluster: &Cluster, about: &str) -> Vec<Value> {
    let about = format!("--field-selector=involvedObject.name={about}");
    cluster.items(&["events", &about])
}

/// curl from the gateway's own machine to its HTTPS port.
fn over_tls(cluster: &Cluster, host: &str) -> String {
    let mut curl = cluster.machines.command(&format!("{}-gateway", cluster.name), "curl");
    let resolve = format!("{host}:443:127.0.0.1");
    let url = format!("https://{host}/");
    let output = curl
        .args(["-skv", "--max-time", "10", "-w", "\nstatus %{http_code}", "--resolve", &resolve, &url])
        .output()
        .expect("curl starts");
    text(&output)
}

pub fn helm_installs_what_is_served_and_removes_all_of_it(cluster: &Cluster) {
    let (done, said) = helm(cluster, &["install", "shop", CHART, "--wait", "--timeout", "120s"]);
    assert!(done, "{said}");
    assert!(said.contains("limit-rps"), "an annotation that does nothing is warned of: {said}");
    classes_behave_as_said(cluster);

    let (done, said) = helm(cluster, &["upgrade", "shop", CHART, "--set", "role=true"]);
    assert!(!done && said.to_lowercase().contains("role"), "a refused kind is named: {said}");
    let (done, said) = helm(cluster, &["uninstall", "shop", "--wait", "--timeout", "120s"]);
    assert!(done, "{said}");
    for refused in ["role", "networkPolicy"] {
        let (done, said) = helm(cluster, &["install", "again", CHART, "--set", &format!("{refused}=true")]);
        assert!(!done && said.contains("by this version of Warren"), "a refused kind is named: {said}");
        // A release that failed on the way is one, and goes too.
        let (_, listed) = helm(cluster, &["list", "--all", "--short"]);
        if listed.contains("again") {
            let (done, said) = helm(cluster, &["uninstall", "again", "--wait", "--timeout", "120s"]);
            assert!(done, "{said}");
        }
    }
    eventually("nothing is left", || {
        let left =
            cluster.kubectl(&["get", "deployments,services,ingresses,secrets,configmaps,sa", "-o", "name"]);
        let left: Vec<_> =
            left.lines().filter(|name| name.contains("shop") || name.contains("again")).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

fn classes_behave_as_said(cluster: &Cluster) {
    eventually("the Ingress of our class is served with its own certificate", || {
        let said = over_tls(cluster, "shop.test");
        let ok = said.contains("CN=shop.test") && said.contains("hostname: shop-");
        if ok { Ok(()) } else { Err(said) }
    });
    let said = over_tls(cluster, "other.test");
    assert!(
        said.contains("status 404") && !said.contains("CN=shop.test"),
        "another's class is not served: {said}"
    );
    eventually("the Ingress of another class is told", || {
        let events = events(cluster, "shop-nginx");
        let told = events.iter().any(|event| event["reason"] == "ClassNotServed");
        if told { Ok(()) } else { Err(format!("{events:?}")) }
    });
    assert!(events(cluster, "shop-warren").iter().all(|event| event["type"] != "Warning"));
}
