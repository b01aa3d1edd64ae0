//! Nodes as plain processes, each with a Docker engine of its own whose FORWARD policy is DROP.

use std::time::{Duration, Instant};

use serde_json::Value;
use warren_tests::{
    bare::{Bare, text},
    eventually,
};

const DEMO: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/examples/hello/hello.yaml"));

fn pods(bare: &Bare) -> Vec<(String, String)> {
    let list: Value = serde_json::from_str(&bare.kubectl(&["get", "pods", "-o", "json"])).expect("JSON");
    let pod = |pod: &Value| {
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (word(&pod["spec"]["nodeName"]), word(&pod["status"]["podIP"]))
    };
    list["items"].as_array().into_iter().flatten().map(pod).collect()
}

/// Whether the whole demonstration answers from inside a pod of `node`, by way of other nodes too.
fn reaches_all(bare: &Bare, node: &str, pods: &[(String, String)]) -> Result<(), String> {
    let id = bare.docker(node, &["ps", "-q", "--filter", "label=warren.pod.uid"]);
    let id = id.lines().next().ok_or("no pod runs here")?.to_owned();
    let pid = bare.docker(node, &["inspect", "-f", "{{.State.Pid}}", &id]);
    for (_, address) in pods {
        let url = format!("http://{address}:8080/");
        let mut command = std::process::Command::new("nsenter");
        command.args([
            "-n",
            "-t",
            pid.trim(),
            "curl",
            "-sS",
            "-f",
            "--max-time",
            "3",
            "-o",
            "/dev/null",
            &url,
        ]);
        let output = command.output().expect("nsenter starts");
        if !output.status.success() {
            return Err(format!("from {node} to {address}: {}", text(&output)));
        }
    }
    Ok(())
}

/// In whichever chain: an engine with live restore does not make DOCKER-USER anew when it starts.
fn is_open(bare: &Bare, node: &str) -> bool {
    bare.shell(node, "iptables -S").matches("warren: ").count() == 4
}

fn scenario(bare: &mut Bare) {
    let nodes = ["n1", "n2", "n3"];
    for node in nodes {
        assert!(bare.shell(node, "iptables -S FORWARD").contains("-P FORWARD DROP"), "Docker's own policy");
    }
    eventually("all nodes are Ready", || {
        let ready = bare.kubectl(&["get", "nodes", "--no-headers"]);
        if ready.matches(" Ready ").count() == 3 { Ok(()) } else { Err(ready) }
    });
    for node in nodes {
        let image = eventually("the agent has brought its image", || {
            bare.docker(node, &["images", "-q", "warren/node"])
                .lines()
                .next()
                .map(str::to_owned)
                .ok_or("none".into())
        });
        bare.docker(node, &["tag", &image, "warren/hello:latest"]);
    }
    bare.apply(DEMO);
    bare.kubectl(&["rollout", "status", "deployment/hello", "--timeout=120s"]);
    let pods = pods(bare);
    assert!(nodes.iter().all(|node| pods.iter().any(|(on, _)| on == node)), "not spread: {pods:?}");
    for node in nodes {
        eventually("pods reach pods across nodes", || reaches_all(bare, node, &pods));
    }
    let answer = bare.shell("hub", "curl -sS -f --max-time 5 http://10.90.0.2/");
    assert!(!answer.is_empty(), "the gateway leads to the pods");

    // The engine restarts (its containers live on), and finds its rules flushed as by a firewall's reload.
    bare.stop_engine("n1");
    bare.shell("n1", "iptables -F && iptables -X && iptables -P FORWARD DROP");
    bare.start_engine("n1");
    eventually("the way is open again", || if is_open(bare, "n1") { Ok(()) } else { Err("closed".into()) });
    eventually("pods reach pods again", || reaches_all(bare, "n1", &pods));
    bare.shell("n2", "iptables -F DOCKER-USER && iptables -A DOCKER-USER -j RETURN");
    let harmed = Instant::now();
    eventually("the rules are back", || if is_open(bare, "n2") { Ok(()) } else { Err("closed".into()) });
    let took = harmed.elapsed();
    assert!(took < Duration::from_secs(2), "repaired after {took:?}");
    reaches_all(bare, "n2", &pods).expect("pods reach pods");

    // A name that is taken is refused with the mend.
    let again = bare.token();
    let twice = bare.join("n1", &["--token", &again]);
    assert!(
        twice.status.success(),
        "joining again with one's own identity changes nothing: {}",
        text(&twice)
    );
}

#[test]
fn plain_processes_with_engines_of_their_own_are_a_cluster_although_docker_drops() {
    let mut bare = Bare::up("warren-bare", 3);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| scenario(&mut bare)));
    if let Err(panic) = outcome {
        bare.describe();
        drop(bare);
        std::panic::resume_unwind(panic);
    }
}
