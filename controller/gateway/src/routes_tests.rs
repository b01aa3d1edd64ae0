//! Tables and properties of the route table.

use proptest::prelude::*;
use warren_proto::control::{Endpoint, HttpRoute, PathType};

use crate::{
    addresses::Refused,
    routes::{RouteTable, Rules},
};

fn rule(host: &str, path: &str, exact: bool, backend: &str) -> HttpRoute {
    let path_type = if exact { PathType::Exact } else { PathType::Prefix }.into();
    let endpoints = vec![Endpoint { address: "10.42.1.2".into(), port: 80, node: "node-1".into() }];
    let (host, path, backend) = (host.to_owned(), path.to_owned(), backend.to_owned());
    HttpRoute {
        host,
        path,
        path_type,
        backend,
        endpoints,
        ingress: "default/web".into(),
        ..HttpRoute::default()
    }
}

fn default_backend(backend: &str) -> HttpRoute {
    HttpRoute { is_default: true, ..rule("", "", false, backend) }
}

fn compile(rules: &[HttpRoute]) -> RouteTable {
    let keys: Vec<_> = (0..rules.len()).map(|index| format!("route/default/web/{index}")).collect();
    compile_after(1, keys.iter().map(String::as_str).zip(rules), None)
}

fn compile_after<'a>(
    revision: u64,
    rules: impl IntoIterator<Item = (&'a str, &'a HttpRoute)>,
    previous: Option<&RouteTable>,
) -> RouteTable {
    RouteTable::compile(revision, &Rules::from(rules), &Refused::default(), previous)
}

fn target<'a>(table: &'a RouteTable, host: &str, path: &str) -> &'a str {
    table.find(host, path).map_or("none", |route| &route.backend)
}

/// The table of the Kubernetes documentation, "Ingress", section "Examples", in full.
#[test]
fn paths_match_as_kubernetes_documents() {
    let (exact, prefix) = (true, false);
    let cases: &[(bool, &[&str], &str, Option<usize>)] = &[
        (prefix, &["/"], "/any/path", Some(0)),
        (exact, &["/foo"], "/foo", Some(0)),
        (exact, &["/foo"], "/bar", None),
        (exact, &["/foo"], "/foo/", None),
        (exact, &["/foo/"], "/foo", None),
        (prefix, &["/foo"], "/foo", Some(0)),
        (prefix, &["/foo"], "/foo/", Some(0)),
        (prefix, &["/foo/"], "/foo", Some(0)),
        (prefix, &["/foo/"], "/foo/", Some(0)),
        (prefix, &["/aaa/bb"], "/aaa/bbb", None),
        (prefix, &["/aaa/bbb"], "/aaa/bbb", Some(0)),
        (prefix, &["/aaa/bbb/"], "/aaa/bbb", Some(0)),
        (prefix, &["/aaa/bbb"], "/aaa/bbb/", Some(0)),
        (prefix, &["/aaa/bbb"], "/aaa/bbb/ccc", Some(0)),
        (prefix, &["/aaa/bbb"], "/aaa/bbbxyz", None),
        (prefix, &["/", "/aaa"], "/aaa/ccc", Some(1)),
        (prefix, &["/", "/aaa", "/aaa/bbb"], "/aaa/bbb", Some(2)),
        (prefix, &["/", "/aaa", "/aaa/bbb"], "/ccc", Some(0)),
        (prefix, &["/aaa"], "/ccc", None),
    ];
    for (exact, paths, request, expected) in cases {
        let names: Vec<_> = (0..paths.len()).map(|index| format!("rule-{index}")).collect();
        let rules: Vec<_> =
            paths.iter().zip(&names).map(|(path, name)| rule("shop.test", path, *exact, name)).collect();
        let expected = expected.map_or("none", |index| &names[index]);
        assert_eq!(target(&compile(&rules), "shop.test", request), expected, "{paths:?} {request}");
    }
}

#[test]
fn an_exact_path_comes_before_a_prefix() {
    let table = compile(&[rule("", "/foo", false, "prefix"), rule("", "/foo", true, "exact")]);
    assert_eq!(target(&table, "a.test", "/foo"), "exact");
    assert_eq!(target(&table, "a.test", "/foo/"), "prefix");
}

#[test]
fn hosts_go_from_exact_over_wildcard_to_any() {
    let table = compile(&[
        rule("", "/", false, "any"),
        rule("*.example.com", "/", false, "wildcard"),
        rule("shop.example.com", "/", false, "exact"),
    ]);
    for (host, expected) in [
        ("shop.example.com", "exact"),
        ("SHOP.Example.COM:8080", "exact"),
        ("shop.example.com.", "exact"),
        ("news.example.com", "wildcard"),
        ("deep.news.example.com", "any"),
        ("example.com", "any"),
        (".example.com", "any"),
        ("[::1]:8080", "any"),
        ("", "any"),
    ] {
        assert_eq!(target(&table, host, "/x"), expected, "{host}");
    }
}

#[test]
fn the_default_backend_serves_what_no_rule_matches() {
    let table = compile(&[default_backend("fallback"), rule("a.test", "/a", false, "a")]);
    assert_eq!(target(&table, "a.test", "/a/1"), "a");
    assert_eq!(target(&table, "a.test", "/b"), "fallback");
    assert_eq!(target(&table, "b.test", "/a"), "fallback");
    assert_eq!(target(&compile(&[rule("a.test", "/", false, "a")]), "b.test", "/"), "none");
}

#[test]
fn an_unset_path_and_path_type_mean_the_prefix_of_everything() {
    let any = HttpRoute { path_type: PathType::Unspecified.into(), ..rule("a.test", "", false, "a") };
    let table = compile(&[any]);
    assert_eq!(target(&table, "a.test", "/deep/path"), "a");
    assert_eq!(target(&table, "a.test", "*"), "a");
}

#[test]
fn the_first_of_two_equal_rules_wins_and_the_other_is_a_problem() {
    let rules: Vec<_> = (0..12).map(|index| rule("a.test", "/", false, &format!("b{index}"))).collect();
    let table = compile(&rules[..]);
    assert_eq!(target(&table, "a.test", "/"), "b0");
    assert_eq!(table.problems().len(), 11);
    assert_eq!(table.problems()[0], "route/default/web/1: a.test/ is already routed by default/web");
}

#[test]
fn a_bad_endpoint_is_left_out_and_named() {
    let mut bad = rule("", "/", false, "a");
    bad.endpoints.push(Endpoint { address: "somewhere".into(), port: 80, node: String::new() });
    bad.endpoints.push(Endpoint { address: "10.42.1.3".into(), port: 70_000, node: String::new() });
    bad.endpoints.push(Endpoint { address: "10.42.1.3".into(), port: 0, node: String::new() });
    bad.endpoints.push(Endpoint { address: "10.42.1.2".into(), port: 80, node: String::new() });
    let table = compile(&[bad]);
    assert_eq!(table.find("", "/").expect("a route").endpoints.len(), 1);
    assert_eq!(table.problems()[0], "route/default/web/0: the endpoint somewhere:80 is no address");
    assert_eq!(table.problems().len(), 3);
}

#[test]
fn nothing_leads_to_the_gateway_itself() {
    let mut bad = rule("", "/", false, "a");
    for address in
        ["127.0.0.1", "169.254.169.254", "224.0.0.1", "255.255.255.255", "0.0.0.0", "::ffff:127.0.0.1"]
    {
        bad.endpoints.push(Endpoint { address: address.into(), port: 9404, node: String::new() });
    }
    let table = compile(&[bad]);
    assert_eq!(table.find("", "/").expect("a route").endpoints.len(), 1);
    assert_eq!(table.problems().len(), 6);
    assert_eq!(
        table.problems()[0],
        "route/default/web/0: the endpoint 127.0.0.1:9404 is a loopback address: nothing is sent there"
    );
}

#[test]
fn the_older_of_two_rules_for_one_host_and_path_wins_whatever_its_name() {
    let older = HttpRoute {
        created: 100,
        uid: "z".into(),
        ingress: "zoo/web".into(),
        ..rule("a.test", "/a/", false, "old")
    };
    let newer = HttpRoute {
        created: 200,
        uid: "a".into(),
        ingress: "attack/web".into(),
        ..rule("A.test", "/%61", false, "new")
    };
    let same_age = HttpRoute { created: 100, uid: "zz".into(), ..newer.clone() };
    let table = compile_after(
        1,
        [("route/attack/web/0", &newer), ("route/zoo/web/0", &older), ("route/attack/web/1", &same_age)],
        None,
    );
    assert_eq!(target(&table, "a.test", "/a/x"), "old");
    assert_eq!(table.problems().len(), 2);
    assert_eq!(table.problems()[1], "route/attack/web/0: A.test/%61 is already routed by zoo/web");
}

#[test]
fn regular_expressions_come_after_exact_paths_and_before_prefixes() {
    let pattern = |path: &str, backend: &str| HttpRoute {
        path_type: PathType::Regex.into(),
        ..rule("", path, false, backend)
    };
    let table = compile(&[
        rule("", "/api/", false, "prefix"),
        pattern("/api/v[0-9]+", "pattern"),
        pattern("/api/v1(/|$)(.*)", "longer"),
        pattern("/(", "wrong"),
        rule("", "/api/v1", true, "exact"),
    ]);
    for (path, expected) in [
        ("/api/v1", "exact"),
        ("/api/v1/x", "longer"),
        ("/API/V2", "pattern"),
        ("/api/v2x", "pattern"),
        ("/api/x", "prefix"),
        ("/x/api/v1", "none"),
    ] {
        assert_eq!(target(&table, "", path), expected, "{path}");
    }
    assert_eq!(table.problems().len(), 1);
    assert!(table.problems()[0].starts_with("route/default/web/3: the path \"/(\" is no regular expression"));
}

#[test]
fn an_endpoint_keeps_its_state_while_it_stays() {
    let rules = [rule("", "/", false, "a")];
    let first = compile(&rules);
    let endpoint = first.find("", "/").expect("a route").endpoints[0].clone();
    let second = compile_after(2, [("route/default/web/0", &rules[0])], Some(&first));
    assert!(second.find("", "/").expect("a route").leads_to(&endpoint));
    let none = compile_after(3, [], Some(&second));
    let fourth = compile_after(4, [("route/default/web/0", &rules[0])], Some(&none));
    assert!(!fourth.find("", "/").expect("a route").leads_to(&endpoint), "it was gone in between");
}

/// Without empty elements: in the form in which requests are judged there are none.
fn path() -> impl Strategy<Value = String> {
    let elements = prop::collection::vec("[ab]{1,2}", 0..5);
    (elements, any::<bool>()).prop_map(|(elements, slash)| {
        let end = if slash && !elements.is_empty() { "/" } else { "" };
        format!("/{}{end}", elements.join("/"))
    })
}

fn host() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["", "a.test", "b.test", "*.test", "*.a.test", "x.a.test"])
        .prop_map(str::to_owned)
}

fn rules() -> impl Strategy<Value = Vec<HttpRoute>> {
    let one = (host(), path(), any::<bool>()).prop_map(|(host, path, exact)| rule(&host, &path, exact, ""));
    prop::collection::vec(one, 0..12).prop_map(|mut rules| {
        for (index, rule) in rules.iter_mut().enumerate() {
            rule.backend = format!("b{index}");
        }
        rules
    })
}

/// Whether the rule matches, straight from the documentation: element by element.
fn matches(rule: &HttpRoute, host: &str, path: &str) -> bool {
    let host_matches = match rule.host.strip_prefix("*.") {
        Some(suffix) => host.split_once('.').is_some_and(|(_, rest)| rest == suffix),
        None => rule.host.is_empty() || rule.host == host,
    };
    let path_matches = if rule.path_type == PathType::Exact as i32 {
        rule.path == path
    } else {
        let wanted: Vec<_> = rule.path.trim_end_matches('/').split('/').collect();
        let given: Vec<_> = path.split('/').collect();
        given.len() >= wanted.len() && given[..wanted.len()] == wanted[..]
    };
    host_matches && path_matches
}

/// What makes a matching rule better than another: host, exactness, length, then the place in the list.
fn rank(index: usize, rule: &HttpRoute) -> (usize, bool, usize, usize) {
    let host = if rule.host.is_empty() { 2 } else { usize::from(rule.host.starts_with('*')) };
    let exact = rule.path_type == PathType::Exact as i32;
    (host, !exact, usize::MAX - rule.path.trim_end_matches('/').len(), index)
}

proptest! {
    #[test]
    fn the_best_of_the_matching_rules_wins(
        rules in rules(),
        host in prop::sample::select(vec!["a.test", "b.test", "c.test", "x.a.test", "y.a.test", "z.test.org"]),
        path in path(),
    ) {
        let best = rules.iter().enumerate().filter(|(_, rule)| matches(rule, host, &path));
        let best = best.min_by_key(|(index, rule)| rank(*index, rule)).map_or("none", |(_, rule)| &rule.backend);
        let table = compile(&rules);
        prop_assert_eq!(target(&table, host, &path), best);
    }

    #[test]
    fn the_order_of_items_is_of_no_account(rules in rules(), seed: usize, path in path()) {
        let mut items: Vec<_> =
            rules.iter().enumerate().map(|(index, rule)| (format!("route/default/web/{index}"), rule)).collect();
        let table = compile_after(1, items.iter().map(|(key, rule)| (key.as_str(), *rule)), None);
        if !items.is_empty() {
            let middle = seed % items.len();
            items.rotate_left(middle);
            items[..middle].reverse();
        }
        let other = compile_after(1, items.iter().map(|(key, rule)| (key.as_str(), *rule)), Some(&table));
        for host in ["a.test", "b.test", "x.a.test", "none.org"] {
            prop_assert_eq!(target(&table, host, &path), target(&other, host, &path));
        }
        prop_assert_eq!(table.problems(), other.problems());
    }

    #[test]
    fn no_request_makes_the_table_panic(rules in rules(), host in ".{0,20}", path in ".{0,20}") {
        let _ = compile(&rules).find(&host, &path);
    }
}
