//! How often services are asked, and what their pods make of it. Requests are counted where they are admitted, whatever
//! becomes of them; about every ten seconds the controller is told, which scales by it. What pods answer is told with it
//! ([`tally`]): by that a rollout is judged.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;
use warren_proto::control::{ServiceTraffic, TrafficReport, control_client::ControlClient};
use warren_runtime::connection::Controller;

use crate::{current::Routes, routes::RouteTable, tally};

/// How often is told, and thus over how long is counted.
const PERIOD: Duration = Duration::from_secs(10);
const CALL: Duration = Duration::from_secs(10);
/// As many services as one report holds: those that are asked most.
const MOST_SERVICES: usize = 4_000;

/// The requests that were admitted for one service, as long as any rule leads to it.
#[derive(Debug, Default)]
pub(crate) struct Demand(AtomicU64);

impl Demand {
    pub(crate) fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn counted(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// By service, "NAMESPACE/NAME".
pub(crate) type Demands = HashMap<Box<str>, Arc<Demand>>;

/// The service of a backend's label, "NAMESPACE/SERVICE:PORT".
pub(crate) fn service(backend: &str) -> Option<&str> {
    let (service, _) = backend.rsplit_once(':')?;
    service.contains('/').then_some(service)
}

/// Counts at one moment.
#[derive(Default)]
struct Sample {
    time: Option<Instant>,
    counts: HashMap<Box<str>, u64>,
    answers: tally::Sample,
}

impl Sample {
    fn take(table: &RouteTable, before: &Self) -> Self {
        let demands = table.demands().iter();
        let counts = demands.map(|(service, demand)| (service.clone(), demand.counted())).collect();
        let answers = tally::Sample::take(table.tallies(), &before.answers);
        Self { time: Some(Instant::now()), counts, answers }
    }

    /// What was added since another sample; nothing of the first one.
    fn since(&self, before: &Self) -> Option<TrafficReport> {
        let window = self.time?.saturating_duration_since(before.time?);
        let mut answers = self.answers.since(&before.answers);
        let traffic = |service: &str, count: u64| {
            let (namespace, name) = service.split_once('/')?;
            let added = count.saturating_sub(before.counts.get(service).copied().unwrap_or(0));
            let thousandths = u128::from(added) * 1_000_000;
            let rate = thousandths.checked_div(window.as_millis())?;
            Some(ServiceTraffic {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                requests_per_thousand_seconds: u64::try_from(rate).unwrap_or(u64::MAX),
                pods: Vec::new(),
            })
        };
        let mut services: Vec<_> =
            self.counts.iter().filter_map(|(service, count)| traffic(service, *count)).collect();
        services.sort_by_key(|service| std::cmp::Reverse(service.requests_per_thousand_seconds));
        services.truncate(MOST_SERVICES);
        for service in &mut services {
            let name = format!("{}/{}", service.namespace, service.name);
            service.pods = answers.remove(&*name).unwrap_or_default();
        }
        Some(TrafficReport { services })
    }
}

/// Tells until `stop`.
pub(crate) async fn run(
    routes: Arc<Routes>,
    controller: Controller,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut before = Sample::default();
    let mut client = None;
    loop {
        // Without a table nobody knows whom requests would be for.
        let sample = routes.load().as_ref().map(|table| Sample::take(table, &before)).unwrap_or_default();
        if let Some(report) = sample.since(&before) {
            let known = client.take();
            let told = async {
                let mut client = match known {
                    Some(client) => client,
                    None => ControlClient::new(controller.channel().await?),
                };
                client.report_traffic(report).await?;
                anyhow::Ok(client)
            };
            client = match tokio::time::timeout(CALL, told).await.map_err(Into::into).flatten() {
                Ok(client) => Some(client),
                Err(error) => {
                    tracing::debug!(error = format!("{error:#}"), "cannot report the traffic; trying again");
                    None
                }
            };
        }
        before = sample;
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_names_its_service() {
        assert_eq!(service("shop/cart:http"), Some("shop/cart"));
        assert_eq!(service("shop/bucket"), None, "a resource is no service");
    }

    #[test]
    fn a_report_says_what_was_added_in_the_window() {
        let start = Instant::now();
        let sample = |second, counts: &[(&str, u64)]| Sample {
            time: Some(start + Duration::from_secs(second)),
            counts: counts.iter().map(|(service, count)| ((*service).into(), *count)).collect(),
            answers: tally::Sample::default(),
        };
        let before = sample(0, &[("a/one", 100), ("a/gone", 5), ("a/back", 50)]);
        let after = sample(10, &[("a/one", 125), ("a/new", 1_000), ("a/back", 3), ("a/idle", 0)]);
        assert!(after.since(&Sample::default()).is_none(), "one sample says nothing");
        let report = after.since(&before).expect("two say something");
        let mut told: Vec<_> = report
            .services
            .iter()
            .map(|service| (service.name.as_str(), service.requests_per_thousand_seconds))
            .collect();
        assert_eq!(told[0], ("new", 100_000), "the most asked first");
        told.sort_unstable();
        assert_eq!(told, [("back", 0), ("idle", 0), ("new", 100_000), ("one", 2_500)]);
    }
}
