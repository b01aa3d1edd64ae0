//! What the controller and people are told of a member's network.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use warren_proto::control;

use super::{AttachFailure, ECHO_PATIENCE, Engine};
use crate::{kernel::ping, tunnel};

impl Engine {
    /// Round trips to the peers' overlay addresses; also makes the tunnel agree on keys with new peers.
    pub async fn round_trips(&self) -> BTreeMap<Ipv4Addr, Duration> {
        let (source, addresses) = {
            let state = self.state.lock().await;
            let Some(network) = &state.world.network else { return BTreeMap::new() };
            (network.address, state.world.peers.values().map(|peer| peer.address).collect::<Vec<_>>())
        };
        let asking =
            tokio::task::spawn_blocking(move || ping::round_trips(source, &addresses, ECHO_PATIENCE));
        match asking.await {
            Ok(Ok(answers)) => answers,
            Ok(Err(error)) => {
                tracing::debug!(%error, "cannot measure round trips");
                BTreeMap::new()
            }
            Err(_) => BTreeMap::new(),
        }
    }

    /// What the controller is told.
    pub async fn report(
        &self,
        underlay: Option<IpAddr>,
        round_trips: &BTreeMap<Ipv4Addr, Duration>,
    ) -> Result<control::NetworkReport, tunnel::Error> {
        let observed = self.tunnel.peers().await?;
        let state = self.state.lock().await;
        let peers = state.world.peers.iter().filter_map(|(name, peer)| {
            let seen = observed.get(&peer.key)?;
            let round_trip = round_trips.get(&peer.address);
            Some(control::PeerReport {
                name: name.to_string(),
                handshake_age_seconds: seen.handshake_age.map(|age| age.as_secs()),
                received_bytes: seen.received,
                sent_bytes: seen.sent,
                round_trip_micros: round_trip.map(|time| u32::try_from(time.as_micros()).unwrap_or(u32::MAX)),
                endpoint: seen.peer.endpoint.map(|endpoint| endpoint.to_string()).unwrap_or_default(),
            })
        });
        Ok(control::NetworkReport {
            public_key: self.public_key.to_string(),
            listen_port: u32::from(self.settings.port),
            underlay_address: underlay.map(|address| address.to_string()).unwrap_or_default(),
            backend: self.tunnel.backend().to_string(),
            mtu: self.settings.mtu,
            peers: peers.collect(),
        })
    }

    /// The overlay as it is now, for people and `warren status`.
    pub async fn status(&self) -> Result<serde_json::Value, AttachFailure> {
        let round_trips = self.round_trips().await;
        let report = self.report(None, &round_trips).await;
        let attachments = self.attachments().await?;
        let state = self.state.lock().await;
        let peers = report.as_ref().map(|report| &report.peers[..]).unwrap_or_default().iter().map(|peer| {
            serde_json::json!({
                "name": peer.name,
                "endpoint": peer.endpoint,
                "handshakeAgeSeconds": peer.handshake_age_seconds,
                "receivedBytes": peer.received_bytes,
                "sentBytes": peer.sent_bytes,
                "roundTripMicros": peer.round_trip_micros,
            })
        });
        let mut problems = state.problems.clone();
        problems.extend(report.as_ref().err().map(ToString::to_string));
        Ok(serde_json::json!({
            "backend": self.tunnel.backend().to_string(),
            "interface": self.settings.interface,
            "publicKey": self.public_key.to_string(),
            "listenPort": self.settings.port,
            "mtu": self.settings.mtu,
            "address": state.world.network.as_ref().map(|network| network.address.to_string()),
            "podCIDR": state.world.network.as_ref().map(|network| network.pod_cidr.to_string()),
            "peers": peers.collect::<Vec<_>>(),
            "services": state.world.services.len(),
            "endpoints": state.tables.as_ref().map_or(0, |tables| tables.slots.len()),
            "attachments": attachments.iter().map(|pod| serde_json::json!({
                "uid": pod.uid.as_str(),
                "address": pod.address.to_string(),
                "pod": pod.pod,
                "interface": pod.interface(),
            })).collect::<Vec<_>>(),
            "problems": problems,
            "warnings": self.guard.warnings(),
        }))
    }
}
