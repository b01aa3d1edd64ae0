//! apply in all its forms, diff, edit and replace.

use super::{
    Family, Row,
    client::{Client, Outcome, contains, eventually, said},
    row,
};

pub const FAMILY: Family = Family { name: "apply", before, rows: &[ROWS], after: &[] };

/// A deployment of no pods, so that nothing but commands changes it.
const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {tier: front}}
spec:
  replicas: 0
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: 'nginx:1.14.2', env: [{name: A, value: '1'}, {name: B, value: '2'}]}]}
";

fn before(client: &Client<'_>) -> Outcome {
    client.give("apply -f -", WEB).map(drop)
}

const ROWS: &[Row] = &[
    row("apply", |client| {
        let printed = client.give("apply -f -", &configuration("applied", "a: one"))?;
        contains("apply", &printed, ["configmap/applied created"])?;
        client.holds("configmap/applied", r#"{"data": {"a": "one"}}"#)
    }),
    row("apply: again", again),
    row("apply: changed", changed),
    row("apply: a removed list item", removed_item),
    row("apply: what others wrote stays", others_stay),
    row("apply -f DIRECTORY, -R", directory),
    row("apply: several documents", |client| {
        let both = configuration("one", "a: b") + "---\n" + &configuration("two", "a: b");
        let printed = client.give("apply -f -", &both)?;
        contains("apply", &printed, ["configmap/one created", "configmap/two created"])?;
        client.holds("configmap/two", r#"{"data": {"a": "b"}}"#)
    }),
    row("apply -k", kustomization),
    row("apply: a misspelt field", |client| {
        let output = client.run("apply -f -", &WEB.replace("replicas: 0", "replicaz: 0"))?;
        let refused = output.status.code() == Some(1);
        contains("apply", &said(&output), ["unknown field", "replicaz"])?;
        if refused { Ok(()) } else { Err(said(&output)) }
    }),
    row("apply --force", |client| {
        // The selector is immutable: the deployment is made anew.
        let uid = client.json("deployment/web")?["metadata"]["uid"].clone();
        client.give("apply --force -f -", &WEB.replace("app: web", "app: other"))?;
        let after = client.json("deployment/web")?;
        let anew = after["metadata"]["uid"] != uid;
        client.give("apply --force -f -", WEB)?;
        if anew { Ok(()) } else { Err(after.to_string()) }
    }),
    row("apply --prune", |client| prune(client, "")),
    row("apply --prune: named kinds", |client| {
        let list = if client.minor < 26 { "whitelist" } else { "allowlist" };
        prune(client, &format!("--prune-{list}=core/v1/ConfigMap "))
    }),
    row("apply --server-side", |client| {
        client.give("apply --server-side -f -", &configuration("server-side", "a: one"))?;
        let object = client.ok("get configmap/server-side -o json --show-managed-fields")?;
        contains("managed fields", &object, [r#""operation": "Apply""#])
    }),
    row("apply view-last-applied", |client| {
        client.says("apply view-last-applied deployment/web", &["image: nginx:1.14.2"])
    }),
    row("apply set-last-applied", |client| {
        client.ok("create configmap late --from-literal=a=one")?;
        client.file("late.yaml", &configuration("late", "a: one"))?;
        client.ok("apply set-last-applied --create-annotation -f $DIR/late.yaml")?;
        client.says("apply view-last-applied configmap/late", &["a: one"])
    }),
    row("apply edit-last-applied", |client| {
        edit(client, "apply edit-last-applied configmap/applied", "s/two/three/")?;
        client.says("apply view-last-applied configmap/applied", &["a: three"])
    }),
    row("diff", diff),
    row("edit", |client| {
        edit(client, "edit configmap/applied", "s/two/edited/")?;
        client.holds("configmap/applied", r#"{"data": {"a": "edited"}}"#)
    }),
    row("edit: without a change", |client| {
        let before = client.json("configmap/applied")?;
        let printed = edit(client, "edit configmap/applied", "s/no such word/x/")?;
        contains("edit", &printed, ["Edit cancelled, no changes made."])?;
        let after = client.json("configmap/applied")?;
        if before == after { Ok(()) } else { Err(after.to_string()) }
    }),
    row("edit: refused by the server", edit_refused),
    row("replace", replace),
    row("replace: nothing there", |client| {
        client.file("missing.yaml", &configuration("missing", "a: b"))?;
        client.refused("replace -f $DIR/missing.yaml", &[r#"configmaps "missing" not found"#])
    }),
    row("replace --force", |client| {
        let uid = client.json("configmap/replaced")?["metadata"]["uid"].clone();
        client.ok("replace --force -f $DIR/replaced.yaml")?;
        let after = client.json("configmap/replaced")?;
        if after["metadata"]["uid"] == uid { Err(after.to_string()) } else { Ok(()) }
    }),
];

fn configuration(name: &str, data: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, labels: {{made: by-apply}}}}\ndata: {{{data}}}\n"
    )
}

fn again(client: &Client<'_>) -> Outcome {
    let before = client.json("deployment/web")?;
    let printed = client.give("apply -f -", WEB)?;
    contains("apply", &printed, ["deployment.apps/web unchanged"])?;
    let after = client.json("deployment/web")?;
    if before["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"] {
        return Ok(());
    }
    Err(format!("it was written: {before} became {after}"))
}

fn changed(client: &Client<'_>) -> Outcome {
    let printed = client.give("apply -f -", &configuration("applied", "a: two"))?;
    contains("apply", &printed, ["configmap/applied configured"])?;
    client.holds("configmap/applied", r#"{"data": {"a": "two"}}"#)
}

/// Lists of Kubernetes' own types are merged by their keys.
fn removed_item(client: &Client<'_>) -> Outcome {
    let printed = client.give("apply -f -", &WEB.replace("{name: A, value: '1'}, ", ""))?;
    contains("apply", &printed, ["deployment.apps/web configured"])?;
    let env = r#"{"spec": {"template": {"spec": {"containers": [{"env": [{"name": "B", "value": "2"}]}]}}}}"#;
    client.holds("deployment/web", env)?;
    client.give("apply -f -", WEB).map(drop)
}

fn others_stay(client: &Client<'_>) -> Outcome {
    client.ok("label deployment/web by=hand")?;
    client.give("apply -f -", &WEB.replace("tier: front", "tier: back"))?;
    client.holds("deployment/web", r#"{"metadata": {"labels": {"by": "hand", "tier": "back"}}}"#)?;
    client.give("apply -f -", WEB).map(drop)
}

fn directory(client: &Client<'_>) -> Outcome {
    client.file("folder/one.yaml", &configuration("in-folder", "a: b"))?;
    client.file(
        "folder/two.json",
        r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "json"}}"#,
    )?;
    client.file("folder/below/three.yml", &configuration("below", "a: b"))?;
    client.says("apply -f $DIR/folder", &["configmap/in-folder created", "configmap/json created"])?;
    client.is_gone("configmap/below")?;
    let texts = ["configmap/below created", "configmap/in-folder unchanged", "configmap/json unchanged"];
    client.says("apply -R -f $DIR/folder", &texts)?;
    client.holds("configmap/below", r#"{"data": {"a": "b"}}"#)
}

fn kustomization(client: &Client<'_>) -> Outcome {
    client.file("custom/one.yaml", &configuration("built", "a: b"))?;
    client.file("custom/kustomization.yaml", "resources: [one.yaml]\nnamePrefix: well-\n")?;
    client.says("apply -k $DIR/custom", &["configmap/well-built created"])?;
    client.holds("configmap/well-built", r#"{"data": {"a": "b"}}"#)
}

/// What was applied with the same label and is no longer in the file goes.
fn prune(client: &Client<'_>, options: &str) -> Outcome {
    let part = |name: &str| configuration(name, "a: b").replace("by-apply", "prune");
    client.give("apply -l made=prune -f -", &(part("kept") + "---\n" + &part("pruned")))?;
    // Not by apply: it stays.
    client.ok("create configmap by-hand --from-literal=a=b")?;
    client.ok("label configmap/by-hand made=prune")?;
    let printed = client.give(&format!("apply --prune {options}-l made=prune -f -"), &part("kept"));
    if printed.is_err() {
        client.ok("delete configmap by-hand kept pruned")?;
    }
    contains("apply", &printed?, ["configmap/kept unchanged", "configmap/pruned pruned"])?;
    eventually(|| client.is_gone("configmap/pruned"))?;
    client.holds("configmap/kept", r#"{"data": {"a": "b"}}"#)?;
    client.ok("delete configmap by-hand kept").map(drop)
}

/// Exit code 1 and a patch for differences, 0 and nothing without.
fn diff(client: &Client<'_>) -> Outcome {
    let output = client.run("diff -f -", &WEB.replace("nginx:1.14.2", "nginx:1.16.1"))?;
    let printed = said(&output);
    let has = |sign, image| printed.lines().any(|line| line.starts_with(sign) && line.ends_with(image));
    let complete = has('-', "image: nginx:1.14.2") && has('+', "image: nginx:1.16.1");
    if output.status.code() != Some(1) || !complete {
        return Err(format!("{}: {printed}", output.status));
    }
    let output = client.run("diff -f -", WEB)?;
    if !output.status.success() || !output.stdout.is_empty() {
        return Err(format!("{}: {}", output.status, said(&output)));
    }
    // What is not there yet is all new.
    let output = client.run("diff -f -", &configuration("new", "a: b"))?;
    contains("diff", &said(&output), ["+  a: b"])?;
    client.is_gone("configmap/new")
}

/// Edits by a script in the editor's place.
fn edit(client: &Client<'_>, line: &str, script: &str) -> Result<String, String> {
    let editor = format!("sed -i -e '{script}'");
    let scratch = client.hands.scratch.display().to_string();
    let output = client.run_with(line, "", &[("KUBE_EDITOR", editor), ("TMPDIR", scratch)])?;
    if output.status.success() { Ok(said(&output)) } else { Err(said(&output)) }
}

/// kubectl keeps what was refused and writes the reason above it.
fn edit_refused(client: &Client<'_>) -> Outcome {
    let Err(printed) = edit(client, "edit deployment/web", "s/replicas: 0/replicas: -5/") else {
        return Err("it was accepted".to_owned());
    };
    contains("edit", &printed, [r#"deployments.apps "web" is invalid"#])?;
    let kept = printed.split('"').find(|part| part.contains("-edit-")).unwrap_or_default();
    let kept = std::fs::read_to_string(kept).map_err(|error| format!("{kept}: {error}"))?;
    contains("what is kept", &kept, ["spec.replicas: Invalid value: -5"])?;
    client.holds("deployment/web", r#"{"spec": {"replicas": 0}}"#)
}

fn replace(client: &Client<'_>) -> Outcome {
    client.ok("create configmap replaced --from-literal=a=one --from-literal=b=two")?;
    client.file("replaced.yaml", &configuration("replaced", "c: three"))?;
    client.says("replace -f $DIR/replaced.yaml", &["configmap/replaced replaced"])?;
    client.holds("configmap/replaced", r#"{"data": {"a": null, "b": null, "c": "three"}}"#)
}
