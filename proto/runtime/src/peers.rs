//! Which peers a member tells the controller about.

use warren_proto::control::PeerReport;

/// Of more peers than these, a report holds those that are worst off: what all members say of all others would be the
/// square of the cluster.
pub const MOST_PEERS: usize = 128;

/// The peers that are worth telling of, by name: those that never shook hands, then those whose last handshake is the
/// oldest.
pub fn worst(mut peers: Vec<PeerReport>) -> Vec<PeerReport> {
    if peers.len() > MOST_PEERS {
        let health = |peer: &PeerReport| peer.handshake_age_seconds.unwrap_or(u64::MAX);
        peers.sort_by(|one, other| health(other).cmp(&health(one)).then_with(|| one.name.cmp(&other.name)));
        peers.truncate(MOST_PEERS);
        peers.sort_by(|one, other| one.name.cmp(&other.name));
    }
    peers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_the_worst_are_told() {
        let peer = |number: usize| PeerReport {
            name: format!("n{number:04}"),
            handshake_age_seconds: (number != 7).then_some(number as u64),
            ..PeerReport::default()
        };
        let few: Vec<_> = (0..MOST_PEERS).map(peer).collect();
        assert_eq!(worst(few.clone()), few);
        let told = worst((0..1_000).map(peer).collect());
        let names: Vec<_> = told.iter().map(|peer| peer.name.as_str()).collect();
        assert_eq!((names.len(), names[0], names[1]), (MOST_PEERS, "n0007", "n0873"));
        assert!(names.is_sorted());
    }
}
