//! What became of a pod's containers, kept apart from the engine.
//!
//! Dead containers are anybody's to remove: `docker container prune` does it every night somewhere. Whether a pod has
//! ended, whether it is initialised, how often it was restarted and how long it must wait must not go with them, so
//! everything that the engine is seen to hold is noted here, and the note outlives it (the driver keeps it on the
//! disk, per pod).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::model::{Exit, Instance, Kind, Phase};

/// The longest explanation of the engine that is kept, in bytes.
const LONGEST_ERROR: usize = 4096;
/// The exit code of a container whose end the agent did not see: as of one that was killed.
const UNSEEN: i32 = 137;

/// The past of one pod: of each name the latest instance that ran, and the latest that ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    #[serde(default)]
    instances: Vec<Instance>,
}

impl Past {
    /// Takes in everything that the engine holds of the pod at `machine`, by the clock that the engine writes down.
    ///
    /// What ran when it was last seen and is not held any more has ended: a user removed it, or the engine lost all
    /// it had. `is_wanted` bounds what is kept to names that the pod has.
    pub fn observe(
        &mut self,
        found: &[Instance],
        machine: Timestamp,
        is_wanted: impl Fn(Kind, &str) -> bool,
    ) {
        for known in &mut self.instances {
            if let Phase::Running(started) = known.phase
                && !found.iter().any(|instance| instance.id == known.id)
            {
                let started = Some(started);
                let exit = Exit { code: UNSEEN, unseen: true, started, finished: machine, ..Exit::default() };
                known.phase = Phase::Exited(exit);
            }
        }
        for instance in found.iter().filter(|instance| instance.phase != Phase::Created) {
            match self.instances.iter_mut().find(|known| known.id == instance.id) {
                Some(known) => known.clone_from(instance),
                None => self.instances.push(instance.clone()),
            }
        }
        self.instances.retain(|instance| is_wanted(instance.kind, &instance.name));
        self.instances.iter_mut().for_each(cut);
        self.forget_older();
    }

    /// In the order of kinds, names and numbers.
    pub fn instances(&self) -> &[Instance] {
        &self.instances
    }

    /// Whether there is nothing to keep.
    pub fn is_empty(&self) -> bool {
        self.instances.is_empty()
    }

    fn forget_older(&mut self) {
        let order = |a: &Instance, b: &Instance| {
            (a.kind, &a.name, a.attempt, &a.id).cmp(&(b.kind, &b.name, b.attempt, &b.id))
        };
        self.instances.sort_by(order);
        let all = std::mem::take(&mut self.instances);
        let is_superseded = |index: usize, instance: &Instance| {
            let mut later = all[index + 1..]
                .iter()
                .take_while(|other| other.kind == instance.kind && other.name == instance.name);
            match instance.exit() {
                Some(_) => later.any(|other| other.exit().is_some()),
                None => later.next().is_some(),
            }
        };
        let kept = all.iter().enumerate().filter(|(index, instance)| !is_superseded(*index, instance));
        self.instances = kept.map(|(_, instance)| instance.clone()).collect();
    }
}

fn cut(instance: &mut Instance) {
    if let Phase::Exited(exit) = &mut instance.phase
        && exit.start_error.len() > LONGEST_ERROR
    {
        let end = exit.start_error.floor_char_boundary(LONGEST_ERROR);
        exit.start_error.truncate(end);
    }
}

/// Moments as text, in the form of RFC 3339.
pub(super) mod moment {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(moment: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(moment)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }

    /// The same where there may be none.
    pub(crate) mod optional {
        use super::{Deserialize, Deserializer, Error, Serializer, Timestamp};

        pub(crate) fn serialize<S: Serializer>(
            moment: &Option<Timestamp>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match moment {
                Some(moment) => super::serialize(moment, serializer),
                None => serializer.serialize_none(),
            }
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Timestamp>, D::Error> {
            let text = Option::<String>::deserialize(deserializer)?;
            text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a valid time")
    }

    fn instance(id: &str, attempt: u32, phase: Phase) -> Instance {
        Instance {
            id: id.into(),
            kind: Kind::App,
            name: "web".into(),
            attempt,
            streak: attempt,
            sandbox: "box".into(),
            image: "i".into(),
            image_id: String::new(),
            stop_signal: "SIGTERM".into(),
            phase,
        }
    }

    fn exited(code: i32) -> Phase {
        Phase::Exited(Exit { code, finished: at(5), ..Exit::default() })
    }

    fn ids(past: &Past) -> Vec<&str> {
        past.instances().iter().map(|instance| instance.id.as_str()).collect()
    }

    #[test]
    fn the_latest_that_ran_and_the_latest_that_ended_are_kept_whatever_the_engine_holds() {
        let mut past = Past::default();
        let look = |past: &mut Past, found: &[Instance]| past.observe(found, at(9), |_, _| true);
        look(&mut past, &[instance("a", 0, exited(1)), instance("b", 1, exited(1))]);
        assert_eq!(ids(&past), ["b"]);
        look(&mut past, &[instance("c", 2, Phase::Running(at(6)))]);
        assert_eq!(ids(&past), ["b", "c"], "b was removed by somebody");
        look(&mut past, &[instance("c", 2, exited(0)), instance("d", 3, Phase::Created)]);
        assert_eq!(ids(&past), ["c"], "what never ran is nothing to remember");
        let before = past.clone();
        look(&mut past, &[]);
        assert_eq!(past, before, "an empty engine changes nothing");
        past.observe(&[], at(9), |_, name| name != "web");
        assert!(past.is_empty(), "names that the pod has not are dropped");
    }

    #[test]
    fn what_vanished_alive_has_ended_and_what_comes_back_lives() {
        let mut past = Past::default();
        let running = [instance("a", 4, Phase::Running(at(1)))];
        past.observe(&running, at(2), |_, _| true);
        past.observe(&[], at(3), |_, _| true);
        let ended = past.instances()[0].exit().expect("it has ended").clone();
        assert_eq!(
            (ended.code, ended.unseen, ended.started, ended.finished),
            (137, true, Some(at(1)), at(3))
        );
        past.observe(&running, at(4), |_, _| true);
        assert!(past.instances()[0].is_live(), "the engine knows better");
    }

    #[test]
    fn it_is_bounded_and_reads_back_as_it_was_written() {
        let mut past = Past::default();
        let start_error = "ä".repeat(10_000);
        let exit = Exit { code: 128, start_error, started: Some(at(3)), finished: at(4), ..Exit::default() };
        past.observe(&[instance("a", 0, Phase::Exited(exit))], at(5), |_, _| true);
        let text = serde_json::to_string(&past).expect("it can be written");
        assert!(text.len() < 2 * LONGEST_ERROR, "{} bytes", text.len());
        assert_eq!(serde_json::from_str::<Past>(&text).expect("it can be read"), past);
        // A later version says more, an earlier one less.
        let other =
            r#"{"instances":[{"id":"a","kind":"App","phase":{"Exited":{"code":1,"more":true}}}],"x":1}"#;
        let other: Past = serde_json::from_str(other).expect("it can be read");
        assert_eq!(other.instances()[0].exit().map(|exit| exit.code), Some(1));
    }
}
