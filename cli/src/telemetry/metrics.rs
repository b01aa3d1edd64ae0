//! Prometheus metrics of a process: what each means, and the local address that serves them.

use std::{net::SocketAddr, time::Duration};

use metrics::Unit;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

/// How often old samples are folded, and a taken address is tried again.
const PERIOD: Duration = Duration::from_secs(2);
/// Bounds of all histograms, in seconds: from a pass that finds nothing to do to a request that hangs.
const BUCKETS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];
/// The text format of Prometheus.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Every metric of every process: its name, and what it says. A test compares this with the sources.
const METRICS: &[(Kind, &str, Unit, &str)] = {
    use Kind::{Counter, Gauge, Histogram};
    use Unit::{Count, Seconds};
    &[
        (Gauge, "warren_build_info", Count, "Always 1; the labels say which program this is."),
        (Counter, "warren_passes_total", Count, "Passes of a reconcile loop."),
        (Counter, "warren_daemon_restarts_total", Count, "Daemons that the supervisor started again."),
        (Counter, "warren_api_requests_total", Count, "Requests to the Kubernetes API."),
        (
            Histogram,
            "warren_api_request_seconds",
            Seconds,
            "Time from a request's head to its response's head.",
        ),
        (
            Counter,
            "warren_api_conflicts_total",
            Count,
            "Writes that were tried again because their object changed meanwhile.",
        ),
        (Counter, "warren_api_refused_tokens_total", Count, "Requests whose bearer token was not believed."),
        (Counter, "warren_api_streams_total", Count, "Streams into pods (exec, attach, port-forward)."),
        (
            Counter,
            "warren_guests_refused_total",
            Count,
            "Requests without a client certificate that came too often.",
        ),
        (
            Counter,
            "warren_guests_displaced_total",
            Count,
            "Connections without a client certificate that newer ones displaced.",
        ),
        (Histogram, "warren_plan_seconds", Seconds, "Time of a pass of all planners."),
        (
            Counter,
            "warren_failed_objects_total",
            Count,
            "Objects that could not be planned or compiled and were left as they are.",
        ),
        (
            Counter,
            "warren_member_connections_refused_total",
            Count,
            "Connections of members that had too many open.",
        ),
        (
            Counter,
            "warren_nodes_issued_tokens_total",
            Count,
            "Tokens of service accounts that nodes were given for their pods.",
        ),
        (Counter, "warren_nodes_dropped_events_total", Count, "Events of nodes that came too often."),
        (
            Counter,
            "warren_nodes_refused_calls_total",
            Count,
            "Calls that were refused before they were read.",
        ),
        (Counter, "warren_plan_keys_total", Count, "Objects that planners looked at."),
        (
            Counter,
            "warren_plan_missed_total",
            Count,
            "Objects that wanted something although no change had led the planners to them: a fault of Warren's.",
        ),
        (
            Counter,
            "warren_plan_refusals_total",
            Count,
            "Writes of planners that the gate for writes refused.",
        ),
        (Counter, "warren_plan_steps_total", Count, "Writes that planners made."),
        (
            Counter,
            "warren_plan_conflicts_total",
            Count,
            "Writes of planners that were dropped because their object changed meanwhile.",
        ),
        (Counter, "warren_store_commits_total", Count, "Transactions that were committed."),
        (
            Histogram,
            "warren_store_batch_seconds",
            Seconds,
            "Time of a flush to the disk, which transactions share.",
        ),
        (Counter, "warren_store_failed_batches_total", Count, "Flushes to the disk that failed."),
        (
            Counter,
            "warren_store_encodings_total",
            Count,
            "Objects that were encoded for the disk and for readers.",
        ),
        (
            Counter,
            "warren_store_decodings_total",
            Count,
            "Replaced objects that were read again from their text, for those who come late.",
        ),
        (Gauge, "warren_store_full", Count, "1 while writes are refused because the disk is full."),
        (Histogram, "warren_nodes_compile_seconds", Seconds, "Time to compile the members' instructions."),
        (
            Counter,
            "warren_nodes_feed_batches_total",
            Count,
            "Batches of instructions that were sent to members.",
        ),
        (Counter, "warren_nodes_heartbeats_total", Count, "Heartbeats of members."),
        (
            Counter,
            "warren_nodes_own_stalls_total",
            Count,
            "Times the controller itself stalled, so that every member got a whole term.",
        ),
        (Counter, "warren_nodes_refused_joins_total", Count, "Machines that asked to join and were refused."),
        (
            Counter,
            "warren_nodes_refused_duplicates_total",
            Count,
            "Processes refused because another one has their identity.",
        ),
        (
            Counter,
            "warren_nodes_report_conflicts_total",
            Count,
            "Reports that were stored again because their object changed meanwhile.",
        ),
        (
            Counter,
            "warren_nodes_refused_reports_total",
            Count,
            "Reports of members that could not be stored as they are.",
        ),
        (
            Counter,
            "warren_nodes_sessions_total",
            Count,
            "Sessions (logs, exec, port-forward) that were asked of agents.",
        ),
        (Counter, "warren_agent_engine_calls_total", Count, "Calls to the container engine."),
        (
            Counter,
            "warren_agent_engine_timeouts_total",
            Count,
            "Calls to the container engine that were given up.",
        ),
        (
            Counter,
            "warren_agent_engine_gaps_total",
            Count,
            "Times the engine's events broke off, so that everything was listed anew.",
        ),
        (
            Counter,
            "warren_agent_tokens_total",
            Count,
            "Tokens of service accounts that were put into pods, renewed ones included.",
        ),
        (Counter, "warren_agent_failures_total", Count, "Steps on pods that failed."),
        (Counter, "warren_agent_probes_total", Count, "Probes of containers."),
        (
            Counter,
            "warren_agent_events_dropped_total",
            Count,
            "Events that were not reported because too many waited.",
        ),
        (Counter, "warren_agent_reports_total", Count, "Reports to the controller."),
        (
            Counter,
            "warren_agent_sessions_total",
            Count,
            "Sessions (logs, exec, port-forward) that were served.",
        ),
        (Counter, "warren_gateway_requests_total", Count, "Requests that the gateway answered."),
        (
            Counter,
            "warren_gateway_retries_total",
            Count,
            "Requests that were tried again at another endpoint.",
        ),
        (Counter, "warren_gateway_upstream_errors_total", Count, "Failures of endpoints."),
        (
            Counter,
            "warren_gateway_held_requests_total",
            Count,
            "Requests that waited for an endpoint to become ready.",
        ),
        (
            Counter,
            "warren_gateway_slow_clients_total",
            Count,
            "Requests that ended because their body came too slowly.",
        ),
        (
            Counter,
            "warren_gateway_refused_connections_total",
            Count,
            "Connections that were closed because there were too many.",
        ),
        (Gauge, "warren_gateway_revision", Count, "Revision of the routes that are in force."),
        (Gauge, "warren_gateway_active_connections", Count, "Connections of clients that are open."),
        (Counter, "warren_netd_tunnel_dropped_total", Count, "Packets that the embedded tunnel dropped."),
        (Counter, "warren_netd_nftables_transactions_total", Count, "Transactions with nftables."),
        (Counter, "warren_netd_firewall_repairs_total", Count, "Repairs of the machine's firewall."),
        (Counter, "warren_netd_dns_questions_total", Count, "Questions to the DNS server."),
        (
            Counter,
            "warren_netd_dns_forwarded_total",
            Count,
            "Questions that were passed on to the machine's name servers.",
        ),
        (
            Counter,
            "warren_netd_dns_cached_total",
            Count,
            "Questions that were answered from what name servers said before.",
        ),
        (
            Counter,
            "warren_netd_dns_failed_total",
            Count,
            "Questions that the machine's name servers did not answer.",
        ),
        (
            Counter,
            "warren_netd_dns_refused_total",
            Count,
            "Questions that were refused because too many were under way.",
        ),
        (Gauge, "warren_netd_peers", Count, "Peers of the tunnel."),
        (
            Gauge,
            "warren_netd_peer_handshake_age_seconds",
            Seconds,
            "Time since the last handshake with a peer.",
        ),
        (Gauge, "warren_netd_peer_round_trip_seconds", Seconds, "Round trip to a peer through the tunnel."),
    ]
};

/// Serves metrics on `address`. A taken address costs the metrics, not the process.
/// Must be called inside a runtime.
pub(crate) fn start_metrics(process: &'static str, address: SocketAddr) {
    let recorder =
        PrometheusBuilder::new().set_buckets(&BUCKETS).and_then(PrometheusBuilder::install_recorder);
    match recorder {
        Ok(metrics) => {
            describe(process);
            drop(tokio::spawn(serve(address, metrics)));
        }
        Err(error) => tracing::warn!(%address, %error, "metrics are not served"),
    }
}

fn describe(process: &'static str) {
    for (kind, name, unit, text) in METRICS {
        match kind {
            Kind::Counter => metrics::describe_counter!(*name, *unit, *text),
            Kind::Gauge => metrics::describe_gauge!(*name, *unit, *text),
            Kind::Histogram => metrics::describe_histogram!(*name, *unit, *text),
        }
    }
    metrics_process::Collector::default().describe();
    metrics::gauge!(
        "warren_build_info",
        "process" => process,
        "version" => env!("CARGO_PKG_VERSION"),
        "commit" => env!("WARREN_COMMIT"),
    )
    .set(1.0);
}

async fn serve(address: SocketAddr, metrics: PrometheusHandle) {
    let mut warned = false;
    let listener = loop {
        match tokio::net::TcpListener::bind(address).await {
            Ok(listener) => break listener,
            // The process whose place this one takes holds the address until it has finished its work.
            Err(error) if !warned => tracing::warn!(%address, %error, "metrics are not served yet"),
            Err(_) => {}
        }
        warned = true;
        tokio::time::sleep(PERIOD).await;
    };
    tracing::info!(%address, "metrics are served");
    let rendered = metrics.clone();
    let answer = axum::Router::new().fallback(move || {
        metrics_process::Collector::default().collect();
        std::future::ready(([(http::header::CONTENT_TYPE, TEXT)], rendered.render()))
    });
    let upkeep = async {
        loop {
            tokio::time::sleep(PERIOD).await;
            metrics.run_upkeep();
        }
    };
    tokio::select! {
        ended = async { axum::serve(listener, answer).await } => if let Err(error) = ended {
            tracing::warn!(%address, %error, "metrics are not served any more");
        },
        () = upkeep => {}
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use super::*;

    /// The names of metrics in the sources of the workspace: texts of the form `"warren_WORD_WORD..."`.
    fn recorded(directory: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let skipped = ["target", ".git", "tests", "benches", "fuzz", "bin"].contains(&name.as_str());
            if path.is_dir() && !skipped {
                recorded(&path, found);
            } else if name.ends_with(".rs") && !path.ends_with(file!()) {
                let text = std::fs::read_to_string(&path).unwrap();
                let quoted = text.split('"').filter(|quoted| {
                    quoted.starts_with("warren_")
                        && quoted.matches('_').count() > 1
                        && quoted.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
                });
                found.extend(quoted.map(str::to_owned));
            }
        }
    }

    #[test]
    fn every_metric_has_a_text_and_no_text_is_left_over() {
        let mut found = BTreeSet::from(["warren_build_info".to_owned()]);
        recorded(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap(), &mut found);
        let described: BTreeSet<String> = METRICS.iter().map(|(_, name, ..)| (*name).to_owned()).collect();
        assert_eq!(described.len(), METRICS.len(), "one is described twice");
        let missing: Vec<_> = found.difference(&described).collect();
        let dead: Vec<_> = described.difference(&found).collect();
        assert!(
            missing.is_empty() && dead.is_empty(),
            "without a text: {missing:?}; never recorded: {dead:?}"
        );
    }

    #[test]
    fn names_follow_prometheus_rules() {
        for (kind, name, unit, text) in METRICS {
            assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name}");
            assert_eq!(*unit == Unit::Seconds, name.ends_with("_seconds"), "{name}");
            assert!(text.ends_with('.'), "{name}");
        }
    }
}
