//! Selectors, operator by operator.

use serde_json::json;

use super::*;
use crate::kinds::find;

fn selects(labels: &str, object: &Value) -> bool {
    Selector { labels: parse_labels(labels).unwrap(), fields: Vec::new() }.matches(object)
}

#[test]
fn label_operators() {
    let object = json!({"metadata": {"labels": {"app": "web", "tier": "", "n": "5", "a.b/c": "x"}}});
    for yes in [
        "",
        "app=web",
        "app==web",
        "app",
        "!x",
        "x!=1",
        "app!=db",
        "app in (db, web)",
        "app notin (db)",
        "x notin (y)",
        "tier=",
        "tier in (,a)",
        "app=web,tier",
        " app = web , !x ",
        "n>4,n<6",
        "a.b/c=x",
    ] {
        assert!(selects(yes, &object), "{yes}");
    }
    for no in ["app=db", "x", "!app", "app!=web", "app in (db)", "app notin (web)", "x=", "n>5", "x in (,y)"]
    {
        assert!(!selects(no, &object), "{no}");
    }
}

#[test]
fn label_nonsense_is_refused() {
    for text in [
        "=a",
        "a=b c",
        "a in b",
        "a in (b",
        "a,",
        ",",
        "a b",
        "!",
        "a=b=c",
        "a in (b c)",
        "-a",
        "a=-",
        "a>x",
        "a/b/c",
    ] {
        assert!(parse_labels(text).is_err(), "{text}");
    }
}

#[test]
fn fields_per_kind() {
    let pods = find("", "v1", "pods").unwrap();
    let query =
        Query::parse(Some("fieldSelector=spec.nodeName%3Dn1%2Cstatus.phase!%3DFailed%2Cmetadata.name==a"));
    let selector = Selector::parse(pods, &query).unwrap();
    let mut pod =
        json!({"metadata": {"name": "a"}, "spec": {"nodeName": "n1"}, "status": {"phase": "Running"}});
    assert!(selector.matches(&pod));
    pod["status"]["phase"] = json!("Failed");
    assert!(!selector.matches(&pod));
    let error = Selector::parse(pods, &Query::parse(Some("fieldSelector=spec.x=1"))).unwrap_err();
    assert_eq!((error.code, &*error.message), (400, "field label not supported: spec.x"));
    let nodes = find("", "v1", "nodes").unwrap();
    let selector =
        Selector::parse(nodes, &Query::parse(Some("fieldSelector=spec.unschedulable=false"))).unwrap();
    assert!(selector.matches(&json!({"metadata": {"name": "n"}})));
    assert!(Selector::parse(nodes, &Query::parse(Some("fieldSelector=metadata.namespace=a"))).is_err());
}

#[test]
fn events_and_escapes() {
    let events = find("", "v1", "events").unwrap();
    let query = Query::parse(Some("fieldSelector=involvedObject.fieldPath=a%5C,b,source=agent"));
    let selector = Selector::parse(events, &query).unwrap();
    assert!(
        selector.matches(&json!({"involvedObject": {"fieldPath": "a,b"}, "reportingComponent": "agent"}))
    );
    assert!(
        !selector.matches(&json!({"involvedObject": {"fieldPath": "a,b"}, "source": {"component": "x"}}))
    );
}

#[test]
fn selectors_are_not_without_end() {
    let many = |term: &str, count: usize| vec![term; count].join(",");
    assert!(parse_labels(&many("!a", MOST_REQUIREMENTS)).is_ok());
    assert!(parse_labels(&many("!a", MOST_REQUIREMENTS + 1)).unwrap_err().contains("at most 1000"));
    let pods = find("", "v1", "pods").unwrap();
    assert!(parse_fields(pods, &many("metadata.name!=a", MOST_REQUIREMENTS)).is_ok());
    assert!(parse_fields(pods, &many("metadata.name!=a", MOST_REQUIREMENTS + 1)).is_err());
}
