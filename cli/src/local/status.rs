//! `warren status`: a cluster at a glance.

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::Value;
use warren_runtime::peers::MOST_PEERS;

use super::access::{self, Api};
use crate::{
    args::{Output, StatusOptions},
    output,
};

/// The server prints objects as kubectl shows them.
const AS_TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

/// Who belongs to the cluster, and how the members see each other.
pub(super) const OVERLAY: &str = "/warren/v1/overlay";

pub(crate) async fn run(options: &StatusOptions) -> anyhow::Result<()> {
    let api = access::api(&options.access).await?;
    let overlay: Value = api.get(OVERLAY).await.context("cannot read the overlay")?;
    if options.output.output == Output::Json {
        output::print(format_args!("{:#}\n", whole(&api, overlay).await?));
        return Ok(());
    }
    let overlay: Overlay = serde_json::from_value(overlay).context("cannot read the overlay")?;
    let sections = [
        ("NODES", objects(&api, "/api/v1/nodes", &[]).await?),
        ("PODS", objects(&api, "/api/v1/pods", &["IP", "Node"]).await?),
        ("SERVICES", objects(&api, "/api/v1/services", &[]).await?),
        ("OVERLAY", members(&overlay)),
        (peers_title(&overlay), peers(&overlay)),
    ];
    let text: Vec<String> = sections.iter().map(|(title, table)| format!("{title}\n{table}")).collect();
    output::print(text.join("\n"));
    Ok(())
}

/// For programs: the lists as the API gives them, and the overlay.
async fn whole(api: &Api, overlay: Value) -> anyhow::Result<Value> {
    let mut status = serde_json::Map::new();
    for (name, path) in
        [("nodes", "/api/v1/nodes"), ("pods", "/api/v1/pods"), ("services", "/api/v1/services")]
    {
        let list: Value = api.get(path).await.with_context(|| format!("cannot read {path}"))?;
        status.insert(name.to_owned(), list);
    }
    status.insert("overlay".to_owned(), overlay);
    Ok(Value::Object(status))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Table {
    #[serde(default)]
    column_definitions: Vec<Column>,
    #[serde(default)]
    rows: Vec<Row>,
}

#[derive(Debug, Deserialize)]
struct Column {
    name: String,
    #[serde(default)]
    priority: i32,
}

#[derive(Debug, Deserialize)]
struct Row {
    cells: Vec<Value>,
    #[serde(default)]
    object: Value,
}

/// A table of objects: their main columns and those named in `wide`.
async fn objects(api: &Api, path: &str, wide: &[&str]) -> anyhow::Result<String> {
    let request = http::Request::get(path).header(http::header::ACCEPT, AS_TABLE).body(Vec::new())?;
    let table = api.client.request::<Table>(request).await.map_err(access::said);
    let table = table.with_context(|| format!("cannot read {path}"))?;
    Ok(render(&table, wide))
}

fn render(table: &Table, wide: &[&str]) -> String {
    let shown: Vec<usize> = (0..table.column_definitions.len())
        .filter(|index| {
            let column = &table.column_definitions[*index];
            column.priority == 0 || wide.contains(&column.name.as_str())
        })
        .collect();
    let namespaced = table.rows.iter().any(|row| row.object["metadata"]["namespace"].is_string());
    let names = shown.iter().map(|index| table.column_definitions[*index].name.to_uppercase());
    let header: Vec<String> = namespaced.then(|| "NAMESPACE".to_owned()).into_iter().chain(names).collect();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let rows: Vec<Vec<String>> = table
        .rows
        .iter()
        .map(|row| {
            let namespace = namespaced.then(|| text(&row.object["metadata"]["namespace"]));
            let cells = shown.iter().map(|index| row.cells.get(*index).map(text).unwrap_or_default());
            namespace.into_iter().chain(cells).collect()
        })
        .collect();
    if rows.is_empty() { "(none)\n".to_owned() } else { output::table(&header, &rows) }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Overlay {
    #[serde(default)]
    members: Vec<Member>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Member {
    name: String,
    role: String,
    pod_cidr: Option<String>,
    endpoint: Option<String>,
    backend: Option<String>,
    mtu: Option<u32>,
    #[serde(default)]
    processes: std::collections::BTreeMap<String, Process>,
    #[serde(default)]
    peers: Vec<Peer>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Process {
    connected: bool,
    silent_millis: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Peer {
    name: String,
    handshake_age_seconds: Option<f64>,
    #[serde(default)]
    received_bytes: u64,
    #[serde(default)]
    sent_bytes: u64,
    round_trip_micros: Option<f64>,
}

fn or_dash(text: Option<String>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or_else(|| "-".to_owned())
}

pub(super) fn members(overlay: &Overlay) -> String {
    let rows: Vec<Vec<String>> = overlay
        .members
        .iter()
        .map(|member| {
            vec![
                member.name.clone(),
                member.role.to_lowercase(),
                or_dash(member.backend.clone()),
                or_dash(member.pod_cidr.clone()),
                or_dash(member.endpoint.clone()),
                or_dash(member.mtu.filter(|mtu| *mtu > 0).map(|mtu| mtu.to_string())),
                daemons(member),
            ]
        })
        .collect();
    output::table(&["MEMBER", "ROLE", "BACKEND", "POD-CIDR", "ENDPOINT", "MTU", "DAEMONS"], &rows)
}

/// Each daemon, and for how long it has been silent if it is not connected.
fn daemons(member: &Member) -> String {
    let states = member.processes.iter().map(|(name, state)| match state.silent_millis {
        _ if state.connected => name.clone(),
        Some(millis) => format!("{name}(silent {} s)", millis / 1000),
        None => format!("{name}(never seen)"),
    });
    or_dash(Some(states.collect::<Vec<_>>().join(",")))
}

/// Says so where members tell of some peers only.
fn peers_title(overlay: &Overlay) -> &'static str {
    const { assert!(MOST_PEERS == 128) };
    let is_cut = |member: &Member| member.peers.len() >= MOST_PEERS;
    if overlay.members.iter().any(is_cut) { "PEERS (the 128 worst of each member)" } else { "PEERS" }
}

fn peers(overlay: &Overlay) -> String {
    let rows: Vec<Vec<String>> = overlay
        .members
        .iter()
        .flat_map(|member| member.peers.iter().map(|peer| (member.name.clone(), peer)))
        .map(|(member, peer)| {
            vec![
                member,
                peer.name.clone(),
                peer.handshake_age_seconds.map_or("never".to_owned(), |age| format!("{age:.0} s ago")),
                peer.round_trip_micros.map_or("-".to_owned(), |micros| format!("{:.2} ms", micros / 1000.0)),
                bytes(peer.received_bytes),
                bytes(peer.sent_bytes),
            ]
        })
        .collect();
    output::table(&["MEMBER", "PEER", "HANDSHAKE", "LATENCY", "RECEIVED", "SENT"], &rows)
}

fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_overlay_is_two_tables() {
        let overlay: Overlay = serde_json::from_value(json!({"members": [{
            "name": "n1", "role": "node", "podCidr": "10.42.0.0/24", "endpoint": "172.18.0.3:51820", "backend": "gotatun",
            "mtu": 1420, "publicKey": "k",
            "processes": {"agent": {"connected": true, "silentMillis": 10, "applied": 4},
                          "netd": {"connected": false, "silentMillis": 4200, "applied": 4}},
            "peers": [{"name": "n2", "handshakeAgeSeconds": 12, "receivedBytes": 2048, "sentBytes": 0, "roundTripMicros": 340,
                       "endpoint": "172.18.0.4:51820"},
                      {"name": "n3", "handshakeAgeSeconds": null, "receivedBytes": 0, "sentBytes": 0, "roundTripMicros": null}],
        }]}))
        .unwrap();
        let (members, peers) = (members(&overlay), peers(&overlay));
        assert!(members.contains("gotatun") && members.contains("agent,netd(silent 4 s)"), "{members}");
        assert!(
            peers.contains("12 s ago") && peers.contains("0.34 ms") && peers.contains("never"),
            "{peers}"
        );
    }

    #[test]
    fn a_table_shows_the_main_columns_and_the_wide_ones_asked_for() {
        let table: Table = serde_json::from_value(json!({
            "columnDefinitions": [{"name": "Name"}, {"name": "IP", "priority": 1}, {"name": "Node", "priority": 1}],
            "rows": [{"cells": ["a", "10.42.0.2", "n1"], "object": {"metadata": {"namespace": "default"}}}],
        }))
        .unwrap();
        assert_eq!(render(&table, &["Node"]), "NAMESPACE  NAME  NODE\ndefault    a     n1\n");
        assert_eq!(render(&Table { column_definitions: Vec::new(), rows: Vec::new() }, &[]), "(none)\n");
    }
}
