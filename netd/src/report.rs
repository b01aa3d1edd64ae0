//! Tells the controller about the tunnel: at start, on change, and every ten seconds.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use tonic::transport::Channel;
use warren_proto::control::{NetworkReport, control_client::ControlClient};
use warren_runtime::{CancellationToken, connection::Controller, peers::worst};

use crate::{data_plane::DataPlane, kernel::underlay::Underlay};

const PERIOD: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(5);

/// Reports until `stop`.
pub(crate) async fn run(
    data_plane: Arc<DataPlane>,
    controller: Controller,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut reporter = Reporter { data_plane, controller, channel: None };
    // The first report carries the public key: others wait for it, so it does not wait for echoes.
    let mut round_trips = BTreeMap::new();
    loop {
        let sent = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            sent = reporter.send(&round_trips) => sent,
        };
        let pause = match sent {
            Ok(()) => PERIOD,
            Err(error) => {
                tracing::debug!(error = format!("{error:#}"), "cannot report to the controller");
                reporter.channel = None;
                RETRY
            }
        };
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(pause) => {}
            () = reporter.data_plane.changed() => {}
        }
        round_trips = reporter.data_plane.round_trips().await;
    }
}

struct Reporter {
    data_plane: Arc<DataPlane>,
    controller: Controller,
    channel: Option<Channel>,
}

impl Reporter {
    async fn send(&mut self, round_trips: &BTreeMap<std::net::Ipv4Addr, Duration>) -> anyhow::Result<()> {
        let exchange = async {
            let channel = match &self.channel {
                Some(channel) => channel.clone(),
                None => self.channel.insert(self.controller.channel().await?).clone(),
            };
            let mut report = self.data_plane.report(self.underlay().await, round_trips).await?;
            publish_metrics(&report);
            report.peers = worst(report.peers);
            ControlClient::new(channel).report_network(report).await?;
            anyhow::Ok(())
        };
        tokio::time::timeout(TIMEOUT, exchange).await.context("the controller did not answer")?
    }

    /// Our address on the way to the controller: others reach us there too.
    async fn underlay(&self) -> Option<IpAddr> {
        match self.controller.local_address() {
            Some(address) => Some(address),
            None => crate::way_to(self.controller.address()).await.map(|way: Underlay| way.source),
        }
    }
}

fn publish_metrics(report: &NetworkReport) {
    metrics::gauge!("warren_netd_peers").set(report.peers.len() as f64);
    for peer in &report.peers {
        let labels = [("peer", peer.name.clone())];
        if let Some(age) = peer.handshake_age_seconds {
            metrics::gauge!("warren_netd_peer_handshake_age_seconds", &labels).set(age as f64);
        }
        if let Some(time) = peer.round_trip_micros {
            metrics::gauge!("warren_netd_peer_round_trip_seconds", &labels).set(f64::from(time) / 1e6);
        }
    }
}
