//! What a member's silence means.

use std::time::Duration;

/// Silence after which a node's pods leave the endpoints, and after which another machine may take a member's seat.
pub const SUSPECT_AFTER: Duration = Duration::from_secs(2);
/// Silence after which a node's pods are replaced.
pub const LOST_AFTER: Duration = Duration::from_secs(10);

/// Whether a member is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// Heard of lately.
    Alive,
    /// Silent for [`SUSPECT_AFTER`].
    Suspect,
    /// Silent for [`LOST_AFTER`].
    Lost,
}

impl Health {
    /// After a silence.
    pub fn after(silence: Duration) -> Self {
        match silence {
            silence if silence >= LOST_AFTER => Self::Lost,
            silence if silence >= SUSPECT_AFTER => Self::Suspect,
            _ => Self::Alive,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_makes_suspect_and_then_lost() {
        for (millis, expected) in
            [(0, Health::Alive), (1_999, Health::Alive), (2_000, Health::Suspect), (10_000, Health::Lost)]
        {
            assert_eq!(Health::after(Duration::from_millis(millis)), expected, "{millis}");
        }
    }
}
