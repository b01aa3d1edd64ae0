//! What grows is bounded, numbers are any, and one object that we fail on costs itself alone.

use warren_proto::control::{Container, volume::Source};

use super::{feed_item::Item, *};

fn containers(spec: Value, others: Vec<Object>) -> Vec<Container> {
    let mut objects = vec![pod(spec)];
    objects.extend(others);
    instruction(objects).containers
}

fn refusal(container: &Container) -> &str {
    assert_eq!(container.unresolved_reason, "CreateContainerConfigError", "{}", container.name);
    assert!(container.env.is_empty() && container.args.is_empty(), "nothing of it is sent");
    &container.unresolved_message
}

/// Each variable repeats the one before ten times.
fn tenfold(count: usize) -> Vec<Value> {
    let repeated = |index: usize| "$(V0)".replace('0', &(index - 1).to_string()).repeat(10);
    let value = |index: usize| if index == 0 { "0123456789".to_owned() } else { repeated(index) };
    (0..count).map(|index| json!({"name": format!("V{index}"), "value": value(index)})).collect()
}

#[test]
fn variables_that_repeat_each_other_are_refused_by_name() {
    let fine = containers(json!({"containers": [{"name": "c", "image": "i", "env": tenfold(5)}]}), vec![]);
    assert_eq!(fine[0].unresolved_reason, "");
    assert_eq!(fine[0].env.iter().map(|variable| variable.value.len()).max(), Some(100_000));
    let made = containers(
        json!({"containers": [
            {"name": "a", "image": "i", "env": tenfold(9)},
            {"name": "b", "image": "i", "env": [{"name": "A", "value": "1"}]},
            {"name": "c", "image": "i", "env": tenfold(5), "args": ["$(V4)".repeat(50)]},
            {"name": "d", "image": "i", "env": tenfold(5), "command": ["x", "$(V4)".repeat(50)]},
        ]}),
        vec![],
    );
    assert_eq!(
        refusal(&made[0]),
        "environment variable V6: with it the variables, command and arguments of the container have more than \
         2097152 bytes, which is the most allowed"
    );
    assert_eq!(made[1].unresolved_reason, "", "another container pays nothing for it");
    assert!(refusal(&made[2]).starts_with("args: with it"), "{}", made[2].unresolved_message);
    assert!(refusal(&made[3]).starts_with("command: with it"), "{}", made[3].unresolved_message);
}

#[test]
fn a_thousand_containers_share_one_budget() {
    let map = config_map("m", json!({"K": "x".repeat(1 << 20)}));
    let each = |index: usize| json!({"name": format!("c{index}"), "image": "i", "envFrom": [{"configMapRef": {"name": "m"}}]});
    let all: Vec<Value> = (0..1_000).map(each).collect();
    let made = containers(json!({"containers": all}), vec![map]);
    let full = made.iter().filter(|container| container.unresolved_reason.is_empty()).count();
    assert_eq!(full, 15, "sixteen MiB, names and all");
    assert!(
        refusal(&made[999]).contains("of the pod have more than 16777216 bytes"),
        "{}",
        made[999].unresolved_message
    );
}

#[test]
fn files_of_many_volumes_share_one_budget() {
    let map = config_map("m", json!({"k": "x".repeat(1 << 20)}));
    let volume = |index: usize| json!({"name": format!("v{index}"), "configMap": {"name": "m"}});
    let volumes: Vec<Value> = (0..1_000).map(volume).collect();
    let many =
        instruction(vec![pod(json!({"volumes": volumes, "containers": [{"name": "c", "image": "i"}]})), map]);
    let bytes: usize = many
        .volumes
        .iter()
        .map(|volume| match &volume.source {
            Some(Source::Files(files)) => files.files.iter().map(|file| file.content.len()).sum(),
            _ => 0,
        })
        .sum();
    assert!(bytes <= 16 << 20, "{bytes}");
    let said = refusal(&many.containers[0]);
    assert!(said.starts_with("MountVolume.SetUp failed for volume \"v15\" : file \"k\": with it"), "{said}");
}

#[test]
fn the_variables_of_many_services_are_refused_with_the_way_out() {
    let ports: Vec<Value> =
        (1..=20_000).map(|port| json!({"name": format!("p{port}"), "port": port})).collect();
    let many = service("many", json!({"clusterIP": "10.43.0.20", "ports": ports}));
    let made = containers(json!({"enableServiceLinks": true}), vec![many]);
    assert!(refusal(&made[0]).contains("spec.enableServiceLinks: false"), "{}", made[0].unresolved_message);
}

#[test]
fn what_is_never_closed_is_read_once() {
    let text = "$(".repeat(500_000);
    let made = containers(
        json!({"containers": [{"name": "c", "image": "i", "args": [text, "$$(a)$$$(", "$("]}]}),
        vec![],
    );
    assert_eq!(made[0].args, [text, "$(a)$$(".to_owned(), "$(".to_owned()]);
}

#[test]
fn options_of_a_resolver_count_once_each() {
    let options: Vec<Value> = (0..30_000)
        .map(|index| json!({"name": format!("o{}", index % 20_000), "value": index.to_string()}))
        .collect();
    let mut options = options;
    options.push(json!({"name": "ndots", "value": "2"}));
    let dns = instruction(vec![pod(json!({"dnsConfig": {"options": options}}))]).dns.expect("dns");
    assert_eq!(dns.options.len(), 20_001);
    assert_eq!(dns.options.last().map(String::as_str), Some("ndots:2"));
    assert!(dns.options.contains(&"o1:20001".to_owned()) && !dns.options.contains(&"o1:1".to_owned()));
}

#[test]
fn any_quantity_is_divided_by_any_other() {
    const MOST: &str = "170141183460469231731687303715884105727m";
    for (limit, divisor, expected) in [
        (MOST, "1k", "170141183460469231731687303715885"),
        (MOST, "1n", MOST.trim_end_matches('m')),
        (MOST, "1", "170141183460469231731687303715884106"),
        (MOST, MOST, "1"),
        (MOST, "0", "170141183460469231731687303715884106"),
        (MOST, "-5", "170141183460469231731687303715884106"),
        (MOST, "nonsense", "170141183460469231731687303715884106"),
        ("1", MOST, "1"),
        ("0", MOST, "0"),
        ("-3", "2", "-1"),
        ("-170141183460469231731687303715884105727m", "1n", "-170141183460469231731687303715884105727"),
    ] {
        let reference =
            json!({"resourceFieldRef": {"resource": "limits.ephemeral-storage", "divisor": divisor}});
        let made = containers(
            json!({"containers": [{"name": "c", "image": "i", "resources": {"limits": {"ephemeral-storage": limit}},
                "env": [{"name": "A", "valueFrom": reference}]}]}),
            vec![],
        );
        assert_eq!(
            made[0].env.iter().find(|variable| variable.name == "A").map(|variable| variable.value.as_str()),
            Some(expected),
            "{limit} / {divisor}"
        );
    }
}

#[test]
fn ports_times_endpoints_are_bounded_and_named() {
    let ports: Vec<Value> = (1..=1_000)
        .map(|port| json!({"name": format!("p{port}"), "port": port, "protocol": "TCP"}))
        .collect();
    let endpoints: Vec<Value> = (0..1_000)
        .map(|index| endpoint(&format!("10.42.{}.{}", index / 250, index % 250), true, true, false))
        .collect();
    let mut wide = slice("wide", json!(endpoints));
    wide.value["ports"] = json!(ports);
    let compiled = compile(vec![
        Object::new(wide.key.clone(), 4, wide.value),
        service("wide", json!({"clusterIP": "10.43.0.21", "ports": ports})),
        web(),
        slice("web", json!([endpoint("10.42.1.2", true, true, false)])),
        ingress(json!({"rules": [{"http": {"paths": (0..1_000).map(|index| json!({
            "path": format!("/{index}"), "pathType": "Prefix",
            "backend": {"service": {"name": "wide", "port": {"number": 1}}},
        })).collect::<Vec<_>>()}}]})),
    ]);
    let failures: Vec<String> =
        compiled.failures.iter().map(|failure| format!("{}: {}", failure.key, failure.message)).collect();
    assert!(
        matches!(&failures[..], [one, ..] if one.starts_with("services/shop/wide: its ports lead to more than 50000 endpoints")),
        "{failures:?}"
    );
    let Some(Item::Service(wide)) = compiled.network["service/shop/wide"].item.clone() else {
        panic!("no service")
    };
    assert_eq!(
        (wide.ports.len(), wide.ports.iter().map(|port| port.endpoints.len()).sum::<usize>()),
        (1_000, OBJECT_ENDPOINTS)
    );
    let Some(Item::Service(web)) = compiled.network["service/shop/web"].item.clone() else {
        panic!("no service")
    };
    assert_eq!(web.ports[0].endpoints.len(), 1, "others pay nothing for it");
    let routes = compiled.gateway.values().filter_map(|item| match &item.item {
        Some(Item::HttpRoute(route)) => Some(route.endpoints.len()),
        _ => None,
    });
    assert!(routes.sum::<usize>() <= 10 * OBJECT_ENDPOINTS);
}

#[test]
fn a_pod_that_we_never_compiled_is_told_to_its_agent_with_the_reason_and_ends_when_it_must() {
    let plain = pod(json!({"initContainers": [{"name": "init", "image": "i"}]}));
    let told = failed(&plain, "a panic at a.rs:7").expect("an instruction");
    let Some(Item::Pod(instruction)) = told.item else { panic!("no pod") };
    assert_eq!(told.key, "pod/u");
    for container in instruction.containers.iter().chain(&instruction.init_containers) {
        assert_eq!(refusal(container), "the pod could not be compiled: a panic at a.rs:7");
    }
    assert_eq!(instruction.terminate_after_seconds, None);
    let mut ending = plain.value.clone();
    ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    ending["metadata"]["deletionGracePeriodSeconds"] = 0.into();
    let ending = Object::new(plain.key.clone(), 6, ending);
    let Some(Item::Pod(instruction)) = failed(&ending, "").and_then(|item| item.item) else {
        panic!("no pod")
    };
    assert_eq!(instruction.terminate_after_seconds, Some(0));
}

#[test]
fn compiling_turns_to_every_object_by_name() {
    let seen = Arc::new(work::Seen::default());
    let objects = vec![member("n", "node", 1, Some("k")), pod(json!({})), web()];
    Kept::watched(Arc::clone(&seen) as Arc<dyn Progress>).compile(&Snapshot::from_objects(5, objects));
    let seen = seen.take();
    assert!(seen.contains(&"compiling pods pods/shop/web-0".to_owned()), "{seen:?}");
    assert!(seen.contains(&"compiling services services/shop/web".to_owned()), "{seen:?}");
}

#[test]
fn what_cannot_be_read_is_named_and_what_was_told_of_it_stays() {
    let mut kept = compiler();
    let base = || vec![member("n", "node", 1, Some("k")), pod(json!({}))];
    let before = kept.compile(&Snapshot::from_objects(5, base()));
    let mut broken = pod(json!({})).value;
    broken["spec"]["containers"] = json!("none");
    let stranger = object(MEMBERS, "", 6, json!({"metadata": {"name": "x"}, "spec": {"role": "king"}}));
    let unread = Object::new(Key::new(PODS, "shop", "web-0"), 6, broken);
    let after =
        kept.compile(&Snapshot::from_objects(6, vec![member("n", "node", 1, Some("k")), unread, stranger]));
    let named: Vec<_> = after.failures.iter().map(|failure| failure.key.to_string()).collect();
    assert_eq!(named, ["members.warren.internal/x", "pods/shop/web-0"]);
    assert_eq!(after.agents["n"], before.agents["n"], "nobody ends a pod because we cannot read it");
}
