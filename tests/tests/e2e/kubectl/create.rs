//! create, by every generator, and run.

use super::{
    Family, Row,
    client::{Client, Outcome, contains},
    does, refuses, row,
};

pub const FAMILY: Family = Family {
    name: "create",
    before,
    rows: &[PLAIN, WORKLOADS, SERVICES, POLICIES, FILES],
    after: &[
        "delete namespace $NS-made --wait=false --ignore-not-found",
        "delete priorityclass $NS-high --ignore-not-found",
    ],
};

fn before(client: &Client<'_>) -> Outcome {
    client.file("files/text", "some\n")?;
    client.file("variables", "A=one\nB=two\n").map(drop)
}

const PLAIN: &[Row] = &[
    does(
        "create configmap",
        "create configmap settings --from-literal=a=1 --from-literal=b=two",
        "configmap/settings created",
        "configmap/settings",
        r#"{"data": {"a": "1", "b": "two"}}"#,
    ),
    does(
        "create configmap --from-file",
        "create configmap files --from-file=$DIR/files",
        "configmap/files created",
        "configmap/files",
        r#"{"data": {"text": "some\n"}}"#,
    ),
    does(
        "create configmap --from-env-file",
        "create configmap variables --from-env-file=$DIR/variables",
        "configmap/variables created",
        "configmap/variables",
        r#"{"data": {"A": "one", "B": "two"}}"#,
    ),
    does(
        "create secret generic",
        "create secret generic word --from-literal=word=swordfish",
        "secret/word created",
        "secret/word",
        r#"{"type": "Opaque", "data": {"word": "c3dvcmRmaXNo"}}"#,
    ),
    does(
        "create secret docker-registry",
        "create secret docker-registry registry --docker-server=r.test --docker-username=u --docker-password=p",
        "secret/registry created",
        "secret/registry",
        r#"{"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson":
                "eyJhdXRocyI6eyJyLnRlc3QiOnsidXNlcm5hbWUiOiJ1IiwicGFzc3dvcmQiOiJwIiwiYXV0aCI6ImRUcHcifX19"}}"#,
    ),
    row("create secret tls", secret_tls),
    does(
        "create namespace",
        "create namespace $NS-made",
        "namespace/$NS-made created",
        "namespace/$NS-made",
        r#"{"status": {"phase": "Active"}, "metadata": {"labels": {"kubernetes.io/metadata.name": "$NS-made"}}}"#,
    ),
    does(
        "create serviceaccount",
        "create serviceaccount robot",
        "serviceaccount/robot created",
        "serviceaccount/robot",
        r#"{"kind": "ServiceAccount", "metadata": {"name": "robot"}}"#,
    ),
    row("create token", |client| {
        let token = client.ok("create token robot")?;
        contains("create token", &token, ["."])
    }),
    refuses(
        "create what exists",
        "create configmap settings --from-literal=a=1",
        &[r#"configmaps "settings" already exists"#],
    ),
];

const WORKLOADS: &[Row] = &[
    row("create deployment", |client| {
        client.says(
            "create deployment web --image=nginx:1.14.2 --replicas=2 --port=80",
            &["deployment.apps/web created"],
        )?;
        client.holds(
                "deployment/web",
                r#"{"spec": {"replicas": 2, "template": {"spec": {"containers": [
                    {"name": "nginx", "image": "nginx:1.14.2", "ports": [{"containerPort": 80, "protocol": "TCP"}]}]}}}}"#,
            )?;
        client.comes_to_hold("deployment/web", r#"{"status": {"availableReplicas": 2}}"#)
    }),
    does(
        "create job",
        "create job once --image=busybox:1.36 -- true",
        "job.batch/once created",
        "job/once",
        r#"{"spec": {"backoffLimit": 6, "completions": 1, "parallelism": 1, "template": {"spec":
                {"restartPolicy": "Never", "containers": [{"name": "once", "command": ["true"]}]}}}}"#,
    ),
    does(
        "create cronjob",
        "create cronjob nightly --image=busybox:1.36 --schedule='0 3 * * *' -- true",
        "cronjob.batch/nightly created",
        "cronjob/nightly",
        r#"{"spec": {"schedule": "0 3 * * *", "concurrencyPolicy": "Allow", "suspend": false, "jobTemplate":
                {"spec": {"template": {"spec": {"restartPolicy": "OnFailure"}}}}}}"#,
    ),
    row("run", |client| {
        client.says(
            "run walker --image=busybox:1.36 --labels=a=b --env=E=1 --restart=Never --command -- sleep 3600",
            &["pod/walker created"],
        )?;
        client.holds(
            "pod/walker",
            r#"{"metadata": {"labels": {"a": "b"}}, "spec": {"restartPolicy": "Never", "containers": [{"name":
                    "walker", "env": [{"name": "E", "value": "1"}], "command": ["sleep", "3600"]}]}}"#,
        )?;
        client.comes_to_hold("pod/walker", r#"{"status": {"phase": "Running"}}"#)
    }),
    row("run --expose", |client| {
        client.says(
            "run shown --image=nginx:1.14.2 --port=80 --expose",
            &["service/shown created", "pod/shown created"],
        )?;
        client
            .holds("service/shown", r#"{"spec": {"selector": {"run": "shown"}, "ports": [{"port": 80}]}}"#)?;
        client.comes_to_hold("pod/shown", r#"{"status": {"phase": "Running"}}"#)
    }),
];

const SERVICES: &[Row] = &[
    row("create service clusterip", |client| {
        client.says("create service clusterip plain --tcp=80:8080", &["service/plain created"])?;
        client.holds(
            "service/plain",
            r#"{"spec": {"type": "ClusterIP", "selector": {"app": "plain"}, "ports": [
                    {"name": "80-8080", "port": 80, "targetPort": 8080, "protocol": "TCP"}]}}"#,
        )?;
        let address = client.json("service/plain")?["spec"]["clusterIP"].clone();
        contains("its address", &address.to_string(), ["10.43."])
    }),
    row("create service nodeport", |client| {
        client.says("create service nodeport outer --tcp=80:8080", &["service/outer created"])?;
        client.holds("service/outer", r#"{"spec": {"type": "NodePort"}}"#)?;
        let port = client.json("service/outer")?["spec"]["ports"][0]["nodePort"].as_u64().unwrap_or_default();
        if (30000..32768).contains(&port) { Ok(()) } else { Err(format!("its node port is {port}")) }
    }),
    does(
        "create service loadbalancer",
        "create service loadbalancer balanced --tcp=80:8080",
        "service/balanced created",
        "service/balanced",
        r#"{"spec": {"type": "LoadBalancer", "ports": [{"port": 80}], "allocateLoadBalancerNodePorts": true}}"#,
    ),
    does(
        "create service externalname",
        "create service externalname away --external-name=example.test",
        "service/away created",
        "service/away",
        r#"{"spec": {"type": "ExternalName", "externalName": "example.test", "clusterIP": null}}"#,
    ),
    does(
        "create ingress",
        "create ingress way --rule='a.test/path*=plain:80'",
        "ingress.networking.k8s.io/way created",
        "ingress/way",
        r#"{"spec": {"rules": [{"host": "a.test", "http": {"paths": [{"path": "/path", "pathType": "Prefix",
                "backend": {"service": {"name": "plain", "port": {"number": 80}}}}]}}]}}"#,
    ),
];

const POLICIES: &[Row] = &[
    does(
        "create quota",
        "create quota bounds --hard=pods=50,services=20",
        "resourcequota/bounds created",
        "resourcequota/bounds",
        r#"{"spec": {"hard": {"pods": "50", "services": "20"}}}"#,
    ),
    does(
        "create poddisruptionbudget",
        "create poddisruptionbudget calm --selector=app=nobody --min-available=1",
        "poddisruptionbudget.policy/calm created",
        "poddisruptionbudget/calm",
        r#"{"spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "nobody"}}}}"#,
    ),
    does(
        "create priorityclass",
        "create priorityclass $NS-high --value=1000 --description=matters",
        "priorityclass.scheduling.k8s.io/$NS-high created",
        "priorityclass/$NS-high",
        r#"{"value": 1000, "description": "matters", "preemptionPolicy": "PreemptLowerPriority"}"#,
    ),
    does(
        "create role",
        "create role reader --verb=get,list --resource=pods",
        "role.rbac.authorization.k8s.io/reader created",
        "role/reader",
        r#"{"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}]}"#,
    ),
    does(
        "create rolebinding",
        "create rolebinding readers --role=reader --serviceaccount=$NS:robot",
        "rolebinding.rbac.authorization.k8s.io/readers created",
        "rolebinding/readers",
        r#"{"roleRef": {"kind": "Role", "name": "reader"}}"#,
    ),
    does(
        "create clusterrole",
        "create clusterrole $NS-reader --verb=get --resource=pods",
        "clusterrole.rbac.authorization.k8s.io/$NS-reader created",
        "clusterrole/$NS-reader",
        r#"{"rules": [{"resources": ["pods"], "verbs": ["get"]}]}"#,
    ),
    does(
        "create clusterrolebinding",
        "create clusterrolebinding $NS-readers --clusterrole=view --user=somebody",
        "clusterrolebinding.rbac.authorization.k8s.io/$NS-readers created",
        "clusterrolebinding/$NS-readers",
        r#"{"roleRef": {"kind": "ClusterRole", "name": "view"}}"#,
    ),
];

const FILES: &[Row] = &[
    row("create -f: several documents", |client| {
        let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: first}\n---\napiVersion: v1\nkind: \
                            ConfigMap\nmetadata: {name: second}\n";
        let printed = client.give("create -f -", manifest)?;
        contains("create", &printed, ["configmap/first created", "configmap/second created"])?;
        client.holds("configmap/second", r#"{"metadata": {"annotations": null}}"#)
    }),
    row("create -f: generateName", |client| {
        let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: made-}\n";
        let printed = client.give("create -o name -f -", manifest)?;
        let name = printed.trim().strip_prefix("configmap/").unwrap_or_default();
        client.holds(&format!("configmap/{name}"), r#"{"metadata": {"generateName": "made-"}}"#)
    }),
    row("create --save-config", |client| {
        let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: saved}\ndata: {a: b}\n";
        client.give("create --save-config -f -", manifest)?;
        client.says("apply view-last-applied configmap/saved -o json", &[r#""a": "b""#])
    }),
];

/// The administrator's own certificate and key make the Secret.
fn secret_tls(client: &Client<'_>) -> Outcome {
    let part = |name: &str| {
        client.ok(&format!("config view --raw -o jsonpath={{.users[0].user.client-{name}-data}}"))
    };
    let (certificate, key) = (part("certificate")?, part("key")?);
    for (name, content) in [("tls.crt", &certificate), ("tls.key", &key)] {
        let encoded = client.file(&format!("{name}.base64"), content)?;
        let decoded = std::process::Command::new("base64").arg("-d").arg(encoded).output();
        let decoded = decoded.map_err(|error| error.to_string())?;
        client.file(name, &String::from_utf8_lossy(&decoded.stdout))?;
    }
    client.says("create secret tls pair --cert=$DIR/tls.crt --key=$DIR/tls.key", &["secret/pair created"])?;
    let holds = format!(
        r#"{{"type": "kubernetes.io/tls", "data": {{"tls.crt": "{certificate}", "tls.key": "{key}"}}}}"#
    );
    client.holds("secret/pair", &holds)
}
