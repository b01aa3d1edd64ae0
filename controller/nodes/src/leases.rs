//! Leases: who was heard when. Pure: time is an argument.
//!
//! Silence counts from the latest of three moments: the last heartbeat, the start of this controller, and the
//! last time that this controller itself stood still. The latter two grant everyone a whole term, so that a
//! restarted or busy controller declares nobody dead.
//!
//! A member speaks from one machine at a time. Its heartbeats hold its seat; a second machine with the same
//! identity (a copied state directory) is refused until the first has left or is silent.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use warren_proto::control::Consumer;

/// From here on a member's pods leave the endpoints.
pub(crate) const SUSPECT: Duration = Duration::from_secs(2);
/// From here on its pods are replaced.
pub(crate) const LOST: Duration = Duration::from_secs(10);
/// How often [`Leases::tick`] is to be called.
pub(crate) const TICK: Duration = Duration::from_millis(250);
/// A tick that comes this much too late means that we stood still ourselves.
const STALL: Duration = Duration::from_secs(1);

/// A member's process.
pub(crate) type Beater = (String, Consumer);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Alive,
    Suspect,
    Lost,
}

impl Level {
    fn of(silence: Duration) -> Self {
        match silence {
            silence if silence >= LOST => Self::Lost,
            silence if silence >= SUSPECT => Self::Suspect,
            _ => Self::Alive,
        }
    }
}

/// The machine that a member speaks from.
struct Seat {
    machine: String,
    beat: Instant,
    /// Heartbeat streams that are open from there.
    streams: usize,
}

/// What a machine is told that asks for a seat.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It may speak as the member.
    Admitted,
    /// Another machine does. Whether this one is refused for the first time.
    Taken { first: bool },
}

/// Heartbeats, and what the planners were last woken for.
pub(crate) struct Leases {
    /// When everyone was last granted a whole term.
    granted: Instant,
    ticked: Instant,
    beats: BTreeMap<Beater, Instant>,
    levels: BTreeMap<Beater, Level>,
    seats: BTreeMap<String, Seat>,
    /// The machine that was last refused, by member.
    refused: BTreeMap<String, String>,
}

impl Leases {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            granted: now,
            ticked: now,
            beats: BTreeMap::new(),
            levels: BTreeMap::new(),
            seats: BTreeMap::new(),
            refused: BTreeMap::new(),
        }
    }

    /// Whether `machine` may speak as `member` now.
    pub(crate) fn admit(&mut self, member: &str, machine: &str, now: Instant) -> Admission {
        let Some(seat) = self.seats.get(member) else { return Admission::Admitted };
        let silence = now.saturating_duration_since(seat.beat.max(self.granted));
        if seat.machine == machine || silence >= SUSPECT {
            return Admission::Admitted;
        }
        let before = self.refused.insert(member.to_owned(), machine.to_owned());
        Admission::Taken { first: before.as_deref() != Some(machine) }
    }

    /// A heartbeat from `machine`, which was admitted, on a stream whose first one it is or not.
    pub(crate) fn sit(&mut self, member: &str, machine: &str, first: bool, now: Instant) {
        let seat = self.seats.entry(member.to_owned()).or_insert_with(|| Seat {
            machine: machine.to_owned(),
            beat: now,
            streams: 0,
        });
        if seat.machine != machine {
            *seat = Seat { machine: machine.to_owned(), beat: now, streams: 0 };
        }
        seat.beat = now;
        seat.streams += usize::from(first);
    }

    /// A heartbeat stream from `machine` ended; the last one frees the seat at once.
    pub(crate) fn leave(&mut self, member: &str, machine: &str) {
        let Some(seat) = self.seats.get_mut(member).filter(|seat| seat.machine == machine) else { return };
        seat.streams = seat.streams.saturating_sub(1);
        if seat.streams == 0 {
            self.seats.remove(member);
            self.refused.remove(member);
        }
    }

    /// Who was heard of, and when last.
    pub(crate) fn heard_of(&self, consumer: Consumer) -> impl Iterator<Item = (&str, Instant)> {
        let own = self.beats.iter().filter(move |((_, beater), _)| *beater == consumer);
        own.map(|((member, _), beat)| (member.as_str(), *beat))
    }

    /// A heartbeat arrived, or a member just joined. Whether it came back from silence.
    pub(crate) fn beat(&mut self, member: &str, consumer: Consumer, now: Instant) -> bool {
        let beater = (member.to_owned(), consumer);
        let returned = self.levels.get(&beater).is_some_and(|level| *level != Level::Alive);
        self.levels.insert(beater.clone(), Level::Alive);
        self.beats.insert(beater, now);
        returned
    }

    /// Whether anything was heard from this process since the controller started.
    pub(crate) fn heard(&self, member: &str, consumer: Consumer) -> bool {
        self.beats.contains_key(&(member.to_owned(), consumer))
    }

    /// How long the process has been silent, grace included.
    pub(crate) fn silent_for(&self, member: &str, consumer: Consumer, now: Instant) -> Duration {
        let beat = self.beats.get(&(member.to_owned(), consumer)).copied().unwrap_or(self.granted);
        now.saturating_duration_since(beat.max(self.granted))
    }

    pub(crate) fn alive(&self, member: &str, consumer: Consumer, now: Instant) -> bool {
        self.silent_for(member, consumer, now) < SUSPECT
    }

    /// Grants everyone a whole term if the ticks stood still. Called before each judgement, because a planner
    /// may run before the late tick does.
    pub(crate) fn forgive(&mut self, now: Instant) -> Option<Duration> {
        let gap = now.saturating_duration_since(self.ticked);
        if gap <= TICK + STALL {
            return None;
        }
        self.granted = now;
        self.ticked = now;
        Some(gap)
    }

    /// Judges everyone who is expected, forgets those who are not. Whether anyone's level changed.
    pub(crate) fn tick(&mut self, expected: &[Beater], now: Instant) -> bool {
        self.forgive(now);
        self.ticked = now;
        let levels: BTreeMap<_, _> = expected
            .iter()
            .map(|beater| (beater.clone(), Level::of(self.silent_for(&beater.0, beater.1, now))))
            .collect();
        let before = |beater| self.levels.get(beater).copied().unwrap_or(Level::Alive);
        let changed = levels.iter().any(|(beater, level)| before(beater) != *level);
        self.beats.retain(|beater, _| levels.contains_key(beater));
        let is_expected = |member: &String| levels.keys().any(|(name, _)| name == member);
        self.seats.retain(|member, _| is_expected(member));
        self.refused.retain(|member, _| is_expected(member));
        self.levels = levels;
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGENT: Consumer = Consumer::Agent;

    fn seconds(start: Instant, seconds: f64) -> Instant {
        start + Duration::from_secs_f64(seconds)
    }

    /// Ticks as the loop does, from `from` to `to`; the seconds at which planners are woken.
    fn run(leases: &mut Leases, start: Instant, from: f64, to: f64) -> Vec<f64> {
        let expected = [("a".to_owned(), AGENT)];
        let ticks = (0..).map(|i| from + f64::from(i) * 0.25).take_while(|at| *at <= to);
        ticks.filter(|at| leases.tick(&expected, seconds(start, *at))).collect()
    }

    #[test]
    fn silence_wakes_at_two_and_at_ten_seconds_and_on_return() {
        let start = Instant::now();
        let mut leases = Leases::new(start);
        assert!(!leases.beat("a", AGENT, seconds(start, 1.0)));
        assert_eq!(run(&mut leases, start, 0.0, 15.0), [3.0, 11.0]);
        assert!(leases.beat("a", AGENT, seconds(start, 15.0)), "it came back");
        assert!(!leases.beat("a", AGENT, seconds(start, 15.1)));
        assert!(run(&mut leases, start, 15.25, 16.0).is_empty());
    }

    #[test]
    fn a_starting_controller_grants_a_whole_term() {
        let start = Instant::now();
        let mut leases = Leases::new(start);
        assert_eq!(leases.silent_for("a", AGENT, seconds(start, 1.5)), Duration::from_millis(1500));
        assert!(!leases.heard("a", AGENT));
        assert_eq!(run(&mut leases, start, 0.0, 12.0), [2.0, 10.0], "never heard: the term starts with us");
    }

    #[test]
    fn our_own_stall_is_nobodys_death() {
        let start = Instant::now();
        let mut leases = Leases::new(start);
        leases.beat("a", AGENT, seconds(start, 0.9));
        run(&mut leases, start, 0.0, 1.0);
        // We stand still from 1.0 to 31.0; then a planner looks before the ticker does.
        assert_eq!(leases.forgive(seconds(start, 31.0)), Some(Duration::from_secs(30)));
        assert!(leases.alive("a", AGENT, seconds(start, 31.0)));
        assert_eq!(run(&mut leases, start, 31.0, 42.0), [33.0, 41.0], "really silent after all");
    }

    #[test]
    fn a_short_hiccup_forgives_nothing() {
        let start = Instant::now();
        let mut leases = Leases::new(start);
        leases.beat("a", AGENT, start);
        run(&mut leases, start, 0.0, 1.0);
        assert_eq!(leases.forgive(seconds(start, 2.2)), None);
        assert!(!leases.alive("a", AGENT, seconds(start, 2.2)));
    }

    #[test]
    fn a_second_machine_is_refused_while_the_first_beats() {
        let start = Instant::now();
        let mut leases = Leases::new(start);
        let at = |at| seconds(start, at);
        assert_eq!(leases.admit("a", "one", at(0.0)), Admission::Admitted);
        leases.sit("a", "one", true, at(0.0));
        leases.sit("a", "one", true, at(0.1));
        assert_eq!(leases.admit("a", "one", at(0.5)), Admission::Admitted, "its second process");
        assert_eq!(leases.admit("b", "two", at(0.5)), Admission::Admitted, "another member");
        assert_eq!(leases.admit("a", "two", at(0.5)), Admission::Taken { first: true });
        assert_eq!(leases.admit("a", "two", at(0.7)), Admission::Taken { first: false });
        leases.sit("a", "one", false, at(1.5));
        assert_eq!(leases.admit("a", "two", at(3.4)), Admission::Taken { first: false });
        assert_eq!(leases.admit("a", "three", at(3.4)), Admission::Taken { first: true });
        assert_eq!(leases.admit("a", "two", at(3.5)), Admission::Admitted, "the first is silent");
        leases.sit("a", "two", true, at(3.5));
        assert_eq!(
            leases.admit("a", "one", at(3.6)),
            Admission::Taken { first: true },
            "and is the second now"
        );
        leases.leave("a", "one");
        assert_eq!(leases.admit("a", "one", at(3.6)), Admission::Taken { first: false });
    }

    #[test]
    fn a_machine_that_leaves_frees_the_seat_at_once() {
        let start = Instant::now();
        let mut leases = Leases::new(start);
        leases.sit("a", "one", true, start);
        leases.sit("a", "one", true, start);
        leases.leave("a", "one");
        assert_eq!(leases.admit("a", "two", start), Admission::Taken { first: true }, "one stream is left");
        leases.leave("a", "one");
        assert_eq!(leases.admit("a", "two", start), Admission::Admitted);
    }

    #[test]
    fn our_own_stall_gives_nobodys_seat_away() {
        let start = Instant::now();
        let mut leases = Leases::new(start);
        leases.sit("a", "one", true, start);
        run(&mut leases, start, 0.0, 1.0);
        leases.forgive(seconds(start, 31.0));
        assert_eq!(leases.admit("a", "two", seconds(start, 31.0)), Admission::Taken { first: true });
    }

    #[test]
    fn those_who_left_are_forgotten() {
        let start = Instant::now();
        let mut leases = Leases::new(start);
        leases.beat("gone", AGENT, start);
        run(&mut leases, start, 0.0, 0.5);
        assert!(!leases.heard("gone", AGENT));
        assert!(leases.levels.keys().all(|(member, _)| member == "a"));
    }
}
