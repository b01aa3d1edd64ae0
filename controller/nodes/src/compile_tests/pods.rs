//! Pods and what they refer to.

use warren_proto::control::{Container, TokenFile, Volume, probe, volume::Source};

use super::*;

fn container(spec: Value, others: Vec<Object>) -> Container {
    let mut base = json!({"name": "c", "image": "busybox"});
    base.as_object_mut().expect("an object").extend(spec.as_object().expect("an object").clone());
    let mut objects = vec![pod(json!({"containers": [base]}))];
    objects.extend(others);
    instruction(objects).containers.remove(0)
}

fn env(container: &Container) -> BTreeMap<&str, &str> {
    container.env.iter().map(|variable| (variable.name.as_str(), variable.value.as_str())).collect()
}

fn secret(name: &str, data: Value) -> Object {
    object(SECRETS, "shop", 3, json!({"metadata": {"name": name}, "data": data}))
}

#[test]
fn a_pod_is_compiled_for_its_node_once_it_has_an_address() {
    let plain = instruction(vec![pod(json!({}))]);
    assert_eq!(
        (plain.namespace.as_str(), plain.name.as_str(), plain.hostname.as_str()),
        ("shop", "web-0", "web-0")
    );
    assert_eq!(plain.address, "10.42.1.2");
    assert_eq!(plain.labels["app"], "web");
    assert_eq!(plain.terminate_after_seconds, None);
    let dns = plain.dns.expect("dns");
    assert_eq!(dns.nameservers, ["10.43.0.10"]);
    assert_eq!(dns.searches, ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local"]);
    assert_eq!(dns.options, ["ndots:5"]);

    let mut unbound = pod(json!({}));
    unbound.value["status"] = json!({});
    let mut elsewhere = pod(json!({}));
    elsewhere.value["spec"]["nodeName"] = "other".into();
    for absent in [unbound, elsewhere] {
        assert!(compile(vec![absent]).agents["n"].is_empty());
    }
}

#[test]
fn variables_are_expanded_in_kubernetes_order() {
    let spec = json!({
        "envFrom": [{"configMapRef": {"name": "m"}, "prefix": "P_"}, {"secretRef": {"name": "s"}}],
        "env": [
            {"name": "A", "value": "1"},
            {"name": "B", "value": "$(A)-$(P_K)-$(LATER)-$$(A)-$(S)"},
            {"name": "LATER", "value": "x"},
            {"name": "S", "value": "overridden"},
            {"name": "EMPTY"},
        ],
        "command": ["run", "$(B)"],
        "args": ["$(UNKNOWN)", "a$", "$(open"],
    });
    let container = container(
        spec,
        vec![config_map("m", json!({"K": "v", "bad=key": "x"})), secret("s", json!({"S": "c2VjcmV0"}))],
    );
    let env = env(&container);
    assert_eq!(env["B"], "1-v-$(LATER)-$(A)-secret");
    assert_eq!((env["S"], env["P_K"], env["EMPTY"]), ("overridden", "v", ""));
    assert!(!env.keys().any(|name| name.contains('=')));
    assert_eq!(container.command, ["run", "1-v-$(LATER)-$(A)-secret"]);
    assert_eq!(container.args, ["$(UNKNOWN)", "a$", "$(open"]);
}

#[test]
fn references_to_fields_and_resources_are_resolved() {
    let field =
        |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let resource = |name: &str, what: &str, divisor: &str| json!({"name": name, "valueFrom": {"resourceFieldRef": {"resource": what, "divisor": divisor}}});
    let spec = json!({
        "resources": {"limits": {"cpu": "1500m", "memory": "64Mi"}, "requests": {"cpu": "250m", "memory": "32Mi"}},
        "env": [
            field("NAME", "metadata.name"), field("NS", "metadata.namespace"), field("UID", "metadata.uid"),
            field("NODE", "spec.nodeName"), field("IP", "status.podIP"), field("HOST", "status.hostIP"),
            field("LABEL", "metadata.labels['app']"), field("NOTE", "metadata.annotations['note']"),
            resource("CPU", "limits.cpu", "0"), resource("MILLIS", "requests.cpu", "1m"),
            resource("MEMORY", "limits.memory", "1Mi"),
        ],
    });
    let container = container(spec, vec![]);
    let env = env(&container);
    assert_eq!((env["NAME"], env["NS"], env["UID"], env["NODE"]), ("web-0", "shop", "u", "n"));
    assert_eq!(
        (env["IP"], env["HOST"], env["LABEL"], env["NOTE"]),
        ("10.42.1.2", "192.0.2.1", "web", "hello")
    );
    assert_eq!((env["CPU"], env["MILLIS"], env["MEMORY"]), ("2", "250", "64"));
    let resources = container.resources.expect("resources");
    assert_eq!((resources.cpu_limit_millis, resources.cpu_request_millis), (1500, 250));
    assert_eq!((resources.memory_limit_bytes, resources.memory_request_bytes), (64 << 20, 32 << 20));
}

#[test]
fn a_reference_that_leads_nowhere_is_said_in_kubernetes_words() {
    let key = |kind: &str, name: &str, key: &str| json!({"env": [{"name": "A", "valueFrom": {kind: {"name": name, "key": key}}}]});
    for (spec, message) in [
        (key("configMapKeyRef", "x", "k"), "configmap \"x\" not found"),
        (key("configMapKeyRef", "m", "k"), "couldn't find key k in ConfigMap shop/m"),
        (key("secretKeyRef", "x", "k"), "secret \"x\" not found"),
        (key("secretKeyRef", "s", "k"), "couldn't find key k in Secret shop/s"),
        (json!({"envFrom": [{"secretRef": {"name": "x"}}]}), "secret \"x\" not found"),
        (
            json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}}]}),
            "unsupported fieldPath: spec.x",
        ),
        (
            json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}),
            "volume mount \"v\" names no volume of the pod",
        ),
        (
            json!({"livenessProbe": {"httpGet": {"port": "web"}}}),
            "liveness probe: couldn't find port: \"web\" in the container's ports",
        ),
    ] {
        let container = container(spec, vec![config_map("m", json!({})), secret("s", json!({}))]);
        assert_eq!(container.unresolved_reason, "CreateContainerConfigError", "{message}");
        assert_eq!(container.unresolved_message, message);
    }
}

#[test]
fn a_container_that_takes_a_secret_is_marked() {
    let secret = || vec![secret("s", json!({"k": "eA=="})), config_map("m", json!({"k": "v"}))];
    let of = |kind: &str, name: &str| json!({"env": [{"name": "A", "valueFrom": {kind: {"name": name, "key": "k"}}}]});
    for (spec, marked) in [
        (of("secretKeyRef", "s"), true),
        (json!({"envFrom": [{"secretRef": {"name": "s"}}]}), true),
        (of("configMapKeyRef", "m"), false),
        (json!({"envFrom": [{"configMapRef": {"name": "m"}}], "env": [{"name": "A", "value": "b"}]}), false),
    ] {
        let container = container(spec.clone(), secret());
        assert_eq!((container.unresolved_message.as_str(), container.holds_secrets), ("", marked), "{spec}");
    }
}

#[test]
fn the_way_of_a_secret_through_a_container_is_known() {
    let objects = || vec![secret("s", json!({"k": "eA==", "/": "eA=="})), config_map("m", json!({"k": "v"}))];
    let k = |kind: &str, name: &str| json!({"name": "A", "valueFrom": {kind: {"name": name, "key": "k"}}});
    let (from_secret, from_map) = (k("secretKeyRef", "s"), k("configMapKeyRef", "m"));
    let mount = json!([{"name": "v", "mountPath": "/v", "subPathExpr": "a/$(A)"}]);
    for (spec, variables, in_words) in [
        (json!({"env": [from_secret.clone()], "command": ["run", "$(A)"]}), vec!["A"], true),
        (json!({"env": [from_secret.clone()], "args": ["--password=$(A)"]}), vec!["A"], true),
        (json!({"env": [from_secret.clone()], "volumeMounts": mount}), vec!["A"], true),
        (json!({"env": [from_secret.clone()], "command": ["run", "A", "$(B)"]}), vec!["A"], false),
        (
            json!({"env": [from_secret.clone(), {"name": "B", "value": "x$(A)"}], "command": ["$(B)"]}),
            vec!["A", "B"],
            true,
        ),
        (json!({"env": [from_secret, {"name": "A", "value": "b"}], "command": ["$(A)"]}), vec![], false),
        (json!({"env": [from_map], "command": ["$(A)"]}), vec![], false),
        (
            json!({"envFrom": [{"secretRef": {"name": "s"}, "prefix": "P_"}], "command": ["$(P_k)"]}),
            vec!["P_/", "P_k"],
            true,
        ),
    ] {
        let container = container(spec.clone(), objects());
        assert_eq!(
            (&container.secret_variables[..], container.words_hold_secrets),
            (&variables.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>()[..], in_words),
            "{spec}"
        );
    }
}

#[test]
fn a_path_that_came_from_a_secret_is_not_repeated() {
    let env = json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]);
    let mounts = json!([{"name": "v", "mountPath": "/v", "subPathExpr": "$(A)"}]);
    let container = json!({"name": "c", "image": "busybox", "env": env, "volumeMounts": mounts});
    let spec = json!({"volumes": [{"name": "v", "emptyDir": {}}], "containers": [container]});
    // "/hunter2"
    let secret = secret("s", json!({"k": "L2h1bnRlcjI="}));
    let container = instruction(vec![pod(spec), secret]).containers.remove(0);
    assert_eq!(container.unresolved_reason, "CreateContainerConfigError");
    assert!(container.unresolved_message.contains("$(A)"), "{}", container.unresolved_message);
    assert!(!container.unresolved_message.contains("hunter2"), "{}", container.unresolved_message);
}

#[test]
fn a_pod_with_a_subdomain_knows_its_full_name() {
    let names = |spec: Value| {
        let pod = instruction(vec![pod(spec)]);
        let message = pod.containers[0].unresolved_message.clone();
        (pod.hostname, pod.fully_qualified_name, message)
    };
    let text = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
    assert_eq!(names(json!({"hostname": "h"})), text("h", "", ""));
    let full = "h.sub.shop.svc.cluster.local";
    assert_eq!(names(json!({"hostname": "h", "subdomain": "sub"})), text("h", full, ""));
    let spec = json!({"hostname": "h", "subdomain": "sub", "setHostnameAsFQDN": true});
    assert_eq!(names(spec), text(full, full, ""));
    let long = "s".repeat(60);
    let (hostname, _, message) =
        names(json!({"hostname": "h", "subdomain": long, "setHostnameAsFQDN": true}));
    assert_eq!(hostname, "h");
    assert!(message.contains("is too long (64 characters is the max, "), "{message}");
}

#[test]
fn a_container_tells_why_it_ends() {
    let told = |spec: Value| {
        let container = container(spec, vec![]);
        (container.termination_message_path, container.termination_message_from_log)
    };
    assert_eq!(told(json!({})), ("/dev/termination-log".to_owned(), false));
    let spec =
        json!({"terminationMessagePath": "/tmp/why", "terminationMessagePolicy": "FallbackToLogsOnError"});
    assert_eq!(told(spec), ("/tmp/why".to_owned(), true));
}

#[test]
fn an_optional_reference_may_lead_nowhere() {
    let spec = json!({
        "envFrom": [{"configMapRef": {"name": "x", "optional": true}}],
        "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "x", "key": "k", "optional": true}}}],
    });
    let container = container(spec, vec![]);
    assert_eq!(container.unresolved_reason, "");
    assert!(container.env.is_empty());
}

fn volume(source: Value, others: Vec<Object>) -> Result<Volume, String> {
    let mut volume = json!({"name": "v"});
    volume.as_object_mut().expect("an object").extend(source.as_object().expect("an object").clone());
    let containers = json!([{"name": "c", "image": "i", "volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": true}]}]);
    let mut objects = vec![pod(json!({"volumes": [volume], "containers": containers}))];
    objects.extend(others);
    let mut pod = instruction(objects);
    let container = pod.containers.remove(0);
    match container.unresolved_message.as_str() {
        "" => {
            assert_eq!((container.mounts[0].path.as_str(), container.mounts[0].read_only), ("/v", true));
            Ok(pod.volumes.remove(0))
        }
        message => Err(message.to_owned()),
    }
}

fn files(volume: Volume) -> (Vec<(String, String, u32)>, bool) {
    let Some(Source::Files(files)) = volume.source else { panic!("{volume:?}") };
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (files.files.into_iter().map(|file| (file.path, text(file.content), file.mode)).collect(), files.secret)
}

#[test]
fn config_maps_and_secrets_become_files() {
    let map = || config_map("m", json!({"a.conf": "A", "b.conf": "B"}));
    let (all, is_secret) = files(volume(json!({"configMap": {"name": "m"}}), vec![map()]).expect("files"));
    assert_eq!(all, [("a.conf".into(), "A".into(), 0o644), ("b.conf".into(), "B".into(), 0o644)]);
    assert!(!is_secret);
    let items = json!({"configMap": {"name": "m", "defaultMode": 0o600, "items": [
        {"key": "a.conf", "path": "etc/a"}, {"key": "b.conf", "path": "b", "mode": 0o755},
    ]}});
    let (chosen, _) = files(volume(items, vec![map()]).expect("files"));
    assert_eq!(chosen, [("b".into(), "B".into(), 0o755), ("etc/a".into(), "A".into(), 0o600)]);
    let secret_source = json!({"secret": {"secretName": "s", "defaultMode": 0o400}});
    let (secrets, is_secret) =
        files(volume(secret_source, vec![secret("s", json!({"t": "eA=="}))]).expect("files"));
    assert_eq!((secrets, is_secret), (vec![("t".to_owned(), "x".to_owned(), 0o400)], true));
}

#[test]
fn projected_and_downward_volumes_are_collected() {
    let source = json!({"projected": {"sources": [
        {"configMap": {"name": "m"}},
        {"secret": {"name": "s", "optional": true}},
        {"downwardAPI": {"items": [
            {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
            {"path": "name", "mode": 0o440, "fieldRef": {"fieldPath": "metadata.name"}},
        ]}},
    ]}});
    let (all, is_secret) = files(volume(source, vec![config_map("m", json!({"k": "v"}))]).expect("files"));
    assert_eq!(
        all,
        [
            ("k".into(), "v".into(), 0o644),
            ("labels".into(), "app=\"web\"".into(), 0o644),
            ("name".into(), "web-0".into(), 0o440),
        ]
    );
    assert!(is_secret, "a secret that may appear later keeps the whole volume off the disk");
}

/// The tokens of a pod's only volume, and the files beside them.
fn tokens(spec: Value, sources: Value) -> (Vec<TokenFile>, Vec<String>) {
    let mut spec = spec;
    spec["volumes"] = json!([{"name": "v", "projected": {"sources": sources, "defaultMode": 0o440}}]);
    let compiled = instruction(vec![pod(spec), config_map("m", json!({"k": "v"}))]);
    assert_eq!(compiled.containers[0].unresolved_message, "");
    let Some(Source::Files(files)) = compiled.volumes[0].source.clone() else { panic!("{compiled:?}") };
    assert!(!files.secret, "what is asked for is no secret; the answer never passes here");
    (files.tokens, files.files.into_iter().map(|file| file.path).collect())
}

#[test]
fn tokens_are_asked_for_by_the_node_and_belong_to_the_pods_user() {
    let usual = json!([
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
        {"configMap": {"name": "m"}},
        {"serviceAccountToken": {"path": "vault/token", "audience": "vault"}},
    ]);
    let (all, files) = tokens(json!({}), usual.clone());
    let said = |token: &TokenFile| (token.path.clone(), token.audience.clone(), token.expiration_seconds);
    assert_eq!(said(&all[0]), ("token".into(), String::new(), 3607));
    assert_eq!(said(&all[1]), ("vault/token".into(), "vault".into(), 3600));
    assert_eq!(files, ["k"]);
    let whose = |spec: Value| {
        let token = tokens(spec, usual.clone()).0.remove(0);
        (token.mode, token.user, token.group)
    };
    let containers = |users: &[Option<i64>]| {
        let each = users.iter().enumerate().map(|(index, user)| {
            json!({"name": format!("c{index}"), "image": "i", "securityContext": {"runAsUser": user}})
        });
        each.collect::<Vec<_>>()
    };
    assert_eq!(whose(json!({})), (0o440, None, None));
    assert_eq!(whose(json!({"securityContext": {"runAsUser": 7}})), (0o600, Some(7), None));
    assert_eq!(whose(json!({"securityContext": {"fsGroup": 9}})), (0o640, None, Some(9)));
    assert_eq!(whose(json!({"securityContext": {"runAsUser": 7, "fsGroup": 9}})), (0o640, Some(7), Some(9)));
    assert_eq!(whose(json!({"containers": containers(&[Some(5), Some(5)])})), (0o600, Some(5), None));
    assert_eq!(whose(json!({"containers": containers(&[Some(5), Some(6)])})), (0o440, None, None));
    assert_eq!(whose(json!({"containers": containers(&[Some(5), None])})), (0o440, None, None));
    assert_eq!(
        whose(json!({"containers": containers(&[Some(5), None]), "securityContext": {"runAsUser": 5}})),
        (0o600, Some(5), None)
    );
}

#[test]
fn of_two_sources_with_one_path_the_later_counts() {
    let token = json!({"serviceAccountToken": {"path": "k"}});
    let map = json!({"configMap": {"name": "m"}});
    let (last, files) = tokens(json!({}), json!([map, token]));
    assert_eq!((last.len(), files.len()), (1, 0));
    let (last, files) = tokens(json!({}), json!([token, map]));
    assert_eq!((last.len(), files.len()), (0, 1));
}

#[test]
fn volumes_that_cannot_be_made_stop_the_pod_and_say_why() {
    for (source, message) in [
        (json!({"configMap": {"name": "x"}}), "configmap \"x\" not found"),
        (
            json!({"configMap": {"name": "m", "items": [{"key": "x", "path": "x"}]}}),
            "references non-existent config key: x",
        ),
        (
            json!({"configMap": {"name": "m", "items": [{"key": "k", "path": "../x"}]}}),
            "path \"../x\" must be relative and must not contain \"..\"",
        ),
        (
            json!({"persistentVolumeClaim": {"claimName": "x"}}),
            "volumes of type persistentVolumeClaim are not supported yet",
        ),
        (json!({"emptyDir": {"sizeLimit": "many"}}), "sizeLimit"),
    ] {
        let error = volume(source, vec![config_map("m", json!({"k": "v"}))]).expect_err(message);
        assert!(
            error.starts_with("MountVolume.SetUp failed for volume \"v\" : ") && error.contains(message),
            "{error}"
        );
    }
}

#[test]
fn directories_are_passed_on() {
    let memory =
        volume(json!({"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}), vec![]).expect("a volume");
    assert!(
        matches!(memory.source, Some(Source::EmptyDir(dir)) if dir.memory && dir.size_limit_bytes == 1 << 20)
    );
    assert!(
        matches!(volume(json!({}), vec![]).expect("a volume").source, Some(Source::EmptyDir(dir)) if !dir.memory)
    );
    let host = volume(json!({"hostPath": {"path": "/data", "type": "Directory"}}), vec![]).expect("a volume");
    assert!(
        matches!(host.source, Some(Source::HostPath(path)) if path.path == "/data" && path.r#type == "Directory")
    );
}

#[test]
fn probes_have_numbers_for_ports_and_defaults() {
    let spec = json!({
        "ports": [{"name": "web", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"port": "web", "scheme": "HTTPS", "httpHeaders": [{"name": "A", "value": "b"}]}, "periodSeconds": 3},
        "livenessProbe": {"tcpSocket": {"port": 9}},
        "startupProbe": {"exec": {"command": ["true"]}, "failureThreshold": 30},
        "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
    });
    let container = container(spec, vec![]);
    let readiness = container.readiness.expect("a probe");
    assert_eq!((readiness.period_seconds, readiness.timeout_seconds, readiness.failure_threshold), (3, 1, 3));
    let Some(probe::Handler::Http(http)) = readiness.handler else { panic!("{:?}", readiness.handler) };
    assert_eq!((http.port, http.path.as_str(), http.https, http.headers.len()), (8080, "/", true, 1));
    assert!(
        matches!(container.liveness.and_then(|p| p.handler), Some(probe::Handler::Tcp(tcp)) if tcp.port == 9)
    );
    assert_eq!(container.startup.map(|probe| probe.failure_threshold), Some(30));
    assert!(container.pre_stop.is_some() && container.post_start.is_none());
}

#[test]
fn dns_policies_and_names() {
    let extra = json!({"nameservers": ["192.0.2.53"], "searches": ["example.com"], "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]});
    let dns = |policy: &str| {
        instruction(vec![pod(json!({"dnsPolicy": policy, "dnsConfig": extra}))]).dns.expect("dns")
    };
    assert_eq!(dns("None").nameservers, ["192.0.2.53"]);
    assert_eq!((dns("None").node_servers, dns("None").node_searches_after), (false, None));
    assert_eq!((dns("Default").node_servers, dns("Default").node_searches_after), (true, Some(0)));
    assert_eq!(dns("Default").cluster_server, "10.43.0.10");
    assert_eq!((dns("ClusterFirst").node_servers, dns("ClusterFirst").node_searches_after), (false, Some(3)));
    assert_eq!(dns("ClusterFirst").searches[3], "example.com");
    assert_eq!(dns("Default").searches, ["example.com"]);
    assert_eq!(dns("ClusterFirst").nameservers, ["10.43.0.10", "192.0.2.53"]);
    assert_eq!(dns("ClusterFirst").options, ["ndots:2", "edns0"]);
    let named = instruction(vec![pod(
        json!({"hostname": "db", "hostAliases": [{"ip": "192.0.2.9", "hostnames": ["x"]}]}),
    )]);
    assert_eq!((named.hostname.as_str(), named.host_aliases[0].hostnames[0].as_str()), ("db", "x"));
}

#[test]
fn termination_waits_for_the_planner_unless_there_is_no_grace() {
    let deleted = |grace: i64, annotations: Value, finalizers: Value| {
        let mut pod = pod(json!({}));
        pod.value["metadata"]["deletionTimestamp"] = "2026-01-01T00:01:00Z".into();
        pod.value["metadata"]["deletionGracePeriodSeconds"] = grace.into();
        pod.value["metadata"]["annotations"] = annotations;
        pod.value["metadata"]["finalizers"] = finalizers;
        pod
    };
    let stop = json!({warren_vocabulary::STOP_ANNOTATION: "2026-01-01T00:00:31Z"});
    let after = |pod: Object| instruction(vec![pod]).terminate_after_seconds;
    assert_eq!(after(deleted(30, json!({}), json!([]))), None);
    assert_eq!(after(deleted(30, stop.clone(), json!([]))), Some(30));
    assert_eq!(after(deleted(0, json!({}), json!([]))), Some(0));
    assert_eq!(
        after(deleted(30, stop.clone(), json!(["a/b"]))),
        Some(30),
        "a finalizer does not keep it running"
    );
    assert!(
        compile(vec![deleted(0, stop, json!(["a/b"]))]).agents["n"].is_empty(),
        "only the finalizer remains"
    );
}

#[test]
fn service_links_name_only_services_older_than_the_pod() {
    let mut late = service("late", json!({"clusterIP": "10.43.0.30", "ports": [{"port": 80}]}));
    late.value["metadata"]["creationTimestamp"] = "2026-01-01T00:00:11Z".into();
    let made = container(json!({}), vec![web(), late]);
    let env = env(&made);
    assert_eq!(
        (env["WEB_SERVICE_HOST"], env["WEB_SERVICE_PORT"], env["WEB_SERVICE_PORT_HTTP"]),
        ("10.43.0.20", "80", "80")
    );
    assert_eq!((env["WEB_PORT"], env["WEB_PORT_80_TCP_ADDR"]), ("tcp://10.43.0.20:80", "10.43.0.20"));
    assert!(!env.keys().any(|name| name.starts_with("LATE")));
    let without = instruction(vec![pod(json!({"enableServiceLinks": false})), web()]);
    assert!(without.containers[0].env.is_empty());
}

#[test]
fn a_sidecar_runs_beside_the_others() {
    let init =
        json!([{"name": "side", "image": "i", "restartPolicy": "Always"}, {"name": "first", "image": "i"}]);
    let pod = instruction(vec![pod(json!({"initContainers": init}))]);
    let names = |containers: &[Container]| containers.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&pod.containers), ["side", "c"]);
    assert_eq!(names(&pod.init_containers), ["first"]);
}

#[test]
fn the_grace_of_a_restart_is_the_pods_and_a_probe_may_have_its_own() {
    let graces = |spec: Value| {
        let mut base = json!({"containers": [{"name": "c", "image": "busybox"}]});
        let own = spec.as_object().expect("an object").clone();
        base.as_object_mut().expect("an object").extend(own);
        instruction(vec![pod(base)])
    };
    let probed = |seconds: i64| {
        let exec = json!({"command": ["true"]});
        let probe = json!({"exec": exec, "terminationGracePeriodSeconds": seconds});
        json!({"terminationGracePeriodSeconds": 60, "containers": [
            {"name": "c", "image": "busybox", "livenessProbe": probe, "startupProbe": {"exec": exec}}]})
    };
    assert_eq!(graces(json!({"terminationGracePeriodSeconds": 3})).grace_seconds, Some(3));
    for (seconds, expected) in [(7, 7), (0, 0), (-1, 0), (i64::MAX, u32::MAX)] {
        let pod = graces(probed(seconds));
        let container = &pod.containers[0];
        assert_eq!(pod.grace_seconds, Some(60));
        assert_eq!(container.liveness.as_ref().expect("a probe").grace_seconds, Some(expected));
        assert_eq!(container.startup.as_ref().expect("a probe").grace_seconds, None);
    }
}

#[test]
fn who_a_container_runs_as_reaches_the_agent_which_knows_the_image() {
    let spec = json!({
        "securityContext": {"runAsNonRoot": true, "supplementalGroups": [9, 5, 9], "fsGroup": 7},
        "containers": [
            {"name": "a", "image": "i"}, {"name": "b", "image": "i", "securityContext": {"runAsNonRoot": false}},
        ],
    });
    let pod = instruction(vec![pod(spec)]);
    let security = |index: usize| pod.containers[index].security.clone().expect("a context");
    assert_eq!((security(0).run_as_non_root, security(1).run_as_non_root), (true, false));
    assert_eq!(security(0).supplemental_groups, [5, 7, 9]);
}

#[test]
fn a_pod_may_say_how_many_processes_it_needs() {
    for (text, limit) in
        [("1000", Some(1000)), ("0", None), ("-1", None), ("many", None), ("99999999999", None)]
    {
        let mut annotated = pod(json!({"containers": [{"name": "c", "image": "busybox"}]}));
        annotated.value["metadata"]["annotations"] = json!({"warren.dev/pids-limit": text});
        let pod = instruction(vec![annotated]);
        let message = &pod.containers[0].unresolved_message;
        assert_eq!(pod.pids_limit, limit, "{text}");
        assert_eq!(message.contains("warren.dev/pids-limit"), limit.is_none(), "{text}: {message}");
    }
}

#[test]
fn an_agent_is_told_that_somebody_ended_a_pod() {
    let ended = |phase: &str, reason: Value| {
        let mut pod = pod(json!({}));
        pod.value["status"]["phase"] = phase.into();
        pod.value["status"]["reason"] = reason;
        instruction(vec![pod]).ended
    };
    assert!(ended("Failed", "DeadlineExceeded".into()));
    assert!(!ended("Failed", Value::Null), "its containers came to their end: the agent knows");
    assert!(!ended("Running", "NodeLost".into()));
}
