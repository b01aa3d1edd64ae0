//! `warren why`: what the scheduler thinks of a pod and of every node, in words.

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::Value;

use super::access;
use crate::{
    args::{Output, WhyOptions},
    output,
};

pub(crate) async fn run(options: &WhyOptions) -> anyhow::Result<()> {
    let path = path(&options.namespace, &options.pod)?;
    let api = access::api(&options.access).await?;
    let answer: Value = api.get(&path).await?;
    if options.output.output == Output::Json {
        output::print(format_args!("{answer:#}\n"));
        return Ok(());
    }
    let explanation = serde_json::from_value(answer).context("cannot read the controller's answer")?;
    output::print(render(&explanation));
    Ok(())
}

/// Where a pod is explained; `pod/NAME`, as kubectl prints it, names it too.
fn path(namespace: &str, pod: &str) -> anyhow::Result<String> {
    let name = pod.strip_prefix("pod/").or_else(|| pod.strip_prefix("pods/")).unwrap_or(pod);
    for (what, text) in [("namespace", namespace), ("pod", name)] {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
        let is_name = !text.is_empty() && text.chars().all(fits) && !text.chars().all(|c| c == '.');
        anyhow::ensure!(
            is_name,
            "{text:?} is no name of a {what}: it consists of lower case letters, digits, '-' and '.'"
        );
    }
    Ok(format!("/warren/v1/namespaces/{namespace}/pods/{name}/why"))
}

/// What the controller answers.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Explanation {
    namespace: String,
    name: String,
    node: Option<String>,
    nominated_node: Option<String>,
    message: Option<String>,
    waits: Vec<Wait>,
    nodes: Vec<Node>,
    preemption: Option<Preemption>,
}

#[derive(Debug, Deserialize)]
struct Wait {
    message: String,
}

#[derive(Debug, Deserialize)]
struct Node {
    name: String,
    score: Option<Score>,
    #[serde(default)]
    refusals: Vec<Refusal>,
}

/// In millionths of load; less is better.
#[derive(Debug, Deserialize)]
struct Score {
    cost: i64,
    load: Load,
    size: i64,
    siblings: i64,
    taints: i64,
    preferences: i64,
    spread: i64,
    company: i64,
    images: i64,
}

#[derive(Debug, Deserialize)]
struct Load {
    resource: String,
    millionths: i64,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    filter: String,
    reason: String,
    requested: Option<String>,
    taken: Option<String>,
    allocatable: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Preemption {
    possible: bool,
    node: Option<String>,
    #[serde(default)]
    victims: Vec<Victim>,
    #[serde(default)]
    other_victims: usize,
}

#[derive(Debug, Deserialize)]
struct Victim {
    namespace: String,
    name: String,
}

fn render(explanation: &Explanation) -> String {
    let mut lines = verdict(explanation);
    if explanation.nodes.is_empty() {
        lines.push("The cluster has no nodes.".to_owned());
    }
    let lines: String = lines.iter().map(|line| format!("{}\n", output::printable(line))).collect();
    if explanation.nodes.is_empty() {
        return lines;
    }
    let rows: Vec<Vec<String>> = explanation.nodes.iter().map(|node| row(explanation, node)).collect();
    format!("{lines}\n{}", output::table(&["NODE", "VERDICT", "COST", "WHY"], &rows))
}

/// What is true of the pod, before what each node says.
fn verdict(explanation: &Explanation) -> Vec<String> {
    let Explanation { namespace, name, node, nominated_node, message, waits, nodes, preemption } =
        explanation;
    let pod = format!("Pod {namespace}/{name}");
    let mut lines = Vec::new();
    match (node, message) {
        (Some(node), _) => lines.push(format!("{pod} is on {node}.")),
        (None, Some(message)) => lines.push(format!("{pod} has no node: {message}")),
        (None, None) => lines.push(format!("{pod} has no node.")),
    }
    for wait in waits {
        let mut message = wait.message.clone();
        // The message says it already, in Kubernetes' words.
        if explanation.message.as_ref().is_some_and(|said| said.contains(&message)) {
            continue;
        }
        if let Some(first) = message.get(..1).map(str::to_uppercase) {
            message.replace_range(..1, &first);
        }
        lines.push(format!("{message}."));
    }
    if let Some(nominated) = nominated_node {
        lines.push(format!("Others make room for it on {nominated}: it waits for them to end."));
    }
    lines.extend(preemption.as_ref().and_then(make_room));
    let first = nodes.first().filter(|node| node.score.is_some());
    match (node, first) {
        (Some(_), Some(_)) => {
            lines.push(
                "If a pod like it came now instead of it, the nodes would be, the best one first:".to_owned(),
            );
        }
        (None, Some(first)) if waits.is_empty() => lines.push(format!("{} is the best for it.", first.name)),
        _ => {}
    }
    lines
}

/// Who would go for the pod, if anybody would.
fn make_room(preemption: &Preemption) -> Option<String> {
    let node = preemption.node.as_ref().filter(|_| preemption.possible)?;
    let mut names: Vec<String> =
        preemption.victims.iter().map(|victim| format!("{}/{}", victim.namespace, victim.name)).collect();
    match preemption.other_victims {
        0 => {}
        1 => names.push("a pod of another namespace".to_owned()),
        more => names.push(format!("{more} pods of other namespaces")),
    }
    Some(match names.len() {
        0 => format!("On {node} there is room for it when those have ended that are on their way out."),
        _ => format!("On {node} others matter less and would make room for it: {}.", names.join(", ")),
    })
}

fn row(explanation: &Explanation, node: &Node) -> Vec<String> {
    let place = match &explanation.node {
        Some(here) if *here == node.name => format!("{} (here)", node.name),
        _ => node.name.clone(),
    };
    match &node.score {
        Some(score) => vec![place, "fits".to_owned(), points(score.cost), parts(score)],
        None => {
            let reasons: Vec<String> = node.refusals.iter().map(refusal).collect();
            vec![place, "refuses".to_owned(), "-".to_owned(), reasons.join("; ")]
        }
    }
}

/// Why a node refuses the pod, with amounts where there is too little of something.
fn refusal(refusal: &Refusal) -> String {
    let Refusal { filter, reason, requested, taken, allocatable } = refusal;
    let amounts = match (requested, taken, allocatable) {
        (Some(requested), Some(taken), Some(all)) => {
            format!(": asks for {requested}, {taken} of {all} are taken")
        }
        _ => String::new(),
    };
    format!("{reason}{amounts} [{filter}]")
}

/// What a node's cost is made of. What counts nothing is left out.
fn parts(score: &Score) -> String {
    let Score { cost: _, load, size, siblings, taints, preferences, spread, company, images } = score;
    let mut parts = vec![format!("{} would be {} % full", load.resource, points(load.millionths))];
    let others = [
        (size, "a large pod on a large node"),
        (siblings, "other pods of its owner"),
        (taints, "taints that ask to stay away"),
        (preferences, "preferred nodes"),
        (spread, "uneven spread"),
        (company, "pods it likes near or far"),
        (images, "images that are there"),
    ];
    for (part, what) in others.into_iter().filter(|(part, _)| points(**part) != "0.0") {
        let sign = if *part > 0 { "+" } else { "" };
        parts.push(format!("{sign}{} {what}", points(*part)));
    }
    parts.join(", ")
}

/// Millionths as percent, with one digit behind the point.
fn points(millionths: i64) -> String {
    let (sign, tenths) =
        (if millionths < 0 { "-" } else { "" }, millionths.unsigned_abs().saturating_add(500) / 1_000);
    format!("{}{}.{}", if tenths == 0 { "" } else { sign }, tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rendered(answer: Value) -> String {
        render(&serde_json::from_value(answer).unwrap())
    }

    fn score(cost: i64, load: i64, siblings: i64, preferences: i64) -> Value {
        json!({"cost": cost, "load": {"resource": "cpu", "millionths": load}, "size": 0, "siblings": siblings, "taints": 0,
            "preferences": preferences, "spread": 0, "company": 0, "images": -40})
    }

    #[test]
    fn a_pod_that_fits_nowhere_hears_it_from_each_node() {
        let message = "0/3 nodes are available: 1 node(s) were unschedulable, 2 Insufficient cpu.";
        let answer = json!({
            "namespace": "shop", "name": "web-1", "waits": [], "message": message,
            "nodes": [
                {"name": "node-1", "fits": false, "refusals": [
                    {"filter": "NodeResourcesFit", "reason": "Insufficient cpu", "resource": "cpu", "requested": "2",
                     "taken": "1500m", "allocatable": "2"},
                    {"filter": "NodeResourcesFit", "reason": "Too many pods", "resource": "pods", "requested": "1",
                     "taken": "110", "allocatable": "110"}]},
                {"name": "node-2", "fits": false, "refusals": [
                    {"filter": "NodeUnschedulable", "reason": "node(s) were unschedulable"}]},
            ],
            "preemption": {"possible": true, "node": "node-1", "victims": [{"namespace": "shop", "name": "low"}],
                "otherVictims": 2},
        });
        assert_eq!(
            rendered(answer),
            "Pod shop/web-1 has no node: 0/3 nodes are available: 1 node(s) were unschedulable, 2 Insufficient cpu.\n\
             On node-1 others matter less and would make room for it: shop/low, 2 pods of other namespaces.\n\
             \n\
             NODE    VERDICT  COST  WHY\n\
             node-1  refuses  -     Insufficient cpu: asks for 2, 1500m of 2 are taken [NodeResourcesFit]; Too many \
             pods: asks for 1, 110 of 110 are taken [NodeResourcesFit]\n\
             node-2  refuses  -     node(s) were unschedulable [NodeUnschedulable]\n"
        );
    }

    #[test]
    fn a_pod_that_has_a_node_sees_how_the_others_compare() {
        let answer = json!({
            "namespace": "default", "name": "web", "node": "node-2", "waits": [],
            "nodes": [
                {"name": "node-2", "fits": true, "score": score(50_000, 250_000, 0, -200_000)},
                {"name": "node-1", "fits": true, "score": score(375_000, 275_000, 100_000, 0)},
            ],
        });
        assert_eq!(
            rendered(answer),
            "Pod default/web is on node-2.\n\
             If a pod like it came now instead of it, the nodes would be, the best one first:\n\
             \n\
             NODE           VERDICT  COST  WHY\n\
             node-2 (here)  fits     5.0   cpu would be 25.0 % full, -20.0 preferred nodes\n\
             node-1         fits     37.5  cpu would be 27.5 % full, +10.0 other pods of its owner\n"
        );
    }

    #[test]
    fn what_it_waits_for_is_said() {
        let gated = json!({"namespace": "d", "name": "web", "nodes": [],
            "waits": [{"reason": "NamespaceTerminating", "message": "its namespace d is being deleted"},
                {"reason": "SchedulingGated", "message": "Scheduling is blocked: mine"}]});
        assert_eq!(
            rendered(gated),
            "Pod d/web has no node.\nIts namespace d is being deleted.\nScheduling is blocked: mine.\nThe cluster has no \
             nodes.\n"
        );
        let nominated = json!({"namespace": "d", "name": "web", "nominatedNode": "node-1", "waits": [], "nodes": [],
            "message": "0/1 nodes are available: x.", "preemption": {"possible": false, "message": "not eligible"}});
        assert_eq!(
            rendered(nominated),
            "Pod d/web has no node: 0/1 nodes are available: x.\nOthers make room for it on node-1: it waits for them to \
             end.\nThe cluster has no nodes.\n"
        );
        let claims = json!({"namespace": "d", "name": "web", "waits": [{"reason": "Claims", "message": "no claim"}],
            "message": "0/1 nodes are available: no claim.",
            "nodes": [{"name": "n\u{1b}[2J", "fits": true, "score": score(1, 1, 0, 0)}]});
        let text = rendered(claims);
        assert_eq!(text.matches("no claim").count(), 1, "{text}");
        assert!(!text.contains('\u{1b}') && !text.contains("best for it"), "{text}");
    }

    #[test]
    fn a_pod_is_named_as_kubectl_names_it() {
        assert_eq!(path("shop", "pod/web-1").unwrap(), "/warren/v1/namespaces/shop/pods/web-1/why");
        for (namespace, pod) in
            [("shop", ""), ("shop", "a/b"), ("shop", ".."), ("..", "web"), ("shop", "web?x=y"), ("", "web")]
        {
            let error = path(namespace, pod).unwrap_err().to_string();
            assert!(error.contains("is no name of a"), "{error}");
        }
    }
}
