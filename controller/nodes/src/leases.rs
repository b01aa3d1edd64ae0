//! Leases: who was heard when. Pure: time is an argument.
//!
//! Silence is counted on a clock of our own, which runs only while this controller listens: whatever it stood still
//! for counts as little more than one tick. So a busy controller declares nobody dead, and one that is busy again and
//! again still finds out who is. The first time that it stood still since a member was heard, that member gets a
//! whole term besides, for it may have to find its way back; as everyone does when the controller starts.
//!
//! A member speaks from one machine at a time. Its heartbeats bind it to that machine; a second machine with the same
//! identity (a copied state directory) is refused until the first has left or is silent.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use warren_proto::control::Consumer;
use warren_vocabulary::{Health, health::SUSPECT_AFTER};

/// How often [`Leases::tick`] is to be called.
pub(crate) const TICK: Duration = Duration::from_millis(250);
/// A tick that comes this much too late means that we stood still ourselves.
const STALL: Duration = Duration::from_secs(1);
/// The most that the time between two ticks counts for.
const LONGEST: Duration = TICK.saturating_add(STALL);

/// The machine that a member speaks from.
struct MachineBinding {
    machine: String,
    /// Heartbeat streams that are open from there.
    streams: usize,
    silence: SilenceClock,
}

/// Since when something is silent, on the clock that runs while we listen.
#[derive(Debug, Clone, Copy, Default)]
struct SilenceClock {
    since: Duration,
    /// Whether a whole term was granted since it was last heard.
    forgiven: bool,
}

impl SilenceClock {
    fn broken(listened: Duration) -> Self {
        Self { since: listened, forgiven: false }
    }

    fn lasts(self, listened: Duration) -> Duration {
        listened.saturating_sub(self.since)
    }

    fn forgive(&mut self, listened: Duration) {
        if !std::mem::replace(&mut self.forgiven, true) {
            self.since = listened;
        }
    }
}

/// One process of a member.
struct Process {
    consumer: Consumer,
    /// When it was last heard; `None` before the first time.
    beat: Option<Instant>,
    silence: SilenceClock,
    level: Health,
}

/// A member, its processes and its machine.
#[derive(Default)]
struct MemberHeartbeats {
    /// At most three.
    processes: Vec<Process>,
    binding: Option<MachineBinding>,
    /// The machine that was last refused.
    refused: Option<String>,
    /// The judgement in which it was last expected.
    judged: u64,
}

impl MemberHeartbeats {
    fn process(&self, consumer: Consumer) -> Option<&Process> {
        self.processes.iter().find(|process| process.consumer == consumer)
    }

    /// The process; one that was never heard is silent since the controller started.
    fn process_mut(&mut self, consumer: Consumer) -> &mut Process {
        let known = self.processes.iter().position(|process| process.consumer == consumer);
        let index = known.unwrap_or_else(|| {
            let silence = SilenceClock::default();
            self.processes.push(Process { consumer, beat: None, silence, level: Health::Alive });
            self.processes.len() - 1
        });
        &mut self.processes[index]
    }
}

/// What a machine is told that wants to speak as a member.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum MachineCheck {
    /// It may speak as the member.
    Accepted,
    /// Another machine does. Whether this one is refused for the first time.
    BoundElsewhere { first: bool },
}

/// Heartbeats, and what the planners were last woken for.
pub(crate) struct Leases {
    ticked: Instant,
    /// What the clock of silence showed at the last tick.
    listened: Duration,
    judgements: u64,
    members: BTreeMap<String, MemberHeartbeats>,
}

impl Leases {
    pub(crate) fn new(now: Instant) -> Self {
        Self { ticked: now, listened: Duration::ZERO, judgements: 0, members: BTreeMap::new() }
    }

    /// The clock of silence.
    fn clock(&self, now: Instant) -> Duration {
        self.listened.saturating_add(now.saturating_duration_since(self.ticked).min(LONGEST))
    }

    fn heard_mut(&mut self, member: &str) -> &mut MemberHeartbeats {
        let judged = self.judgements;
        if !self.members.contains_key(member) {
            self.members
                .insert(member.to_owned(), MemberHeartbeats { judged, ..MemberHeartbeats::default() });
        }
        self.members.entry(member.to_owned()).or_default()
    }

    /// Whether `machine` may speak as `member` now.
    pub(crate) fn check_machine(&mut self, member: &str, machine: &str, now: Instant) -> MachineCheck {
        let clock = self.clock(now);
        let Some(heard) = self.members.get_mut(member) else { return MachineCheck::Accepted };
        let Some(binding) = &heard.binding else { return MachineCheck::Accepted };
        if binding.machine == machine || binding.silence.lasts(clock) >= SUSPECT_AFTER {
            return MachineCheck::Accepted;
        }
        let before = heard.refused.replace(machine.to_owned());
        MachineCheck::BoundElsewhere { first: before.as_deref() != Some(machine) }
    }

    /// A heartbeat from `machine`, which was admitted, on a stream whose first one it is or not.
    pub(crate) fn bind_machine(&mut self, member: &str, machine: &str, first: bool, now: Instant) {
        let silence = SilenceClock::broken(self.clock(now));
        let heard = self.heard_mut(member);
        match heard.binding.as_mut().filter(|binding| binding.machine == machine) {
            Some(binding) => {
                binding.silence = silence;
                binding.streams += usize::from(first);
            }
            None => {
                heard.binding = Some(MachineBinding {
                    machine: machine.to_owned(),
                    silence,
                    streams: usize::from(first),
                });
            }
        }
    }

    /// A heartbeat stream from `machine` ended; the last one releases the member at once.
    pub(crate) fn release_machine(&mut self, member: &str, machine: &str) {
        let Some(heard) = self.members.get_mut(member) else { return };
        let Some(binding) = heard.binding.as_mut().filter(|binding| binding.machine == machine) else {
            return;
        };
        binding.streams = binding.streams.saturating_sub(1);
        if binding.streams == 0 {
            (heard.binding, heard.refused) = (None, None);
        }
    }

    /// Who was heard of, and when last.
    pub(crate) fn heard_of(&self, consumer: Consumer) -> impl Iterator<Item = (&str, Instant)> {
        let beat = move |heard: &MemberHeartbeats| heard.process(consumer).and_then(|process| process.beat);
        self.members.iter().filter_map(move |(member, heard)| Some((member.as_str(), beat(heard)?)))
    }

    /// A heartbeat arrived, or a member just joined. Whether it came back from silence.
    pub(crate) fn beat(&mut self, member: &str, consumer: Consumer, now: Instant) -> bool {
        let clock = self.clock(now);
        let process = self.heard_mut(member).process_mut(consumer);
        (process.beat, process.silence) = (Some(now), SilenceClock::broken(clock));
        std::mem::replace(&mut process.level, Health::Alive) != Health::Alive
    }

    /// Whether anything was heard from this process since the controller started.
    pub(crate) fn heard(&self, member: &str, consumer: Consumer) -> bool {
        let process = self.members.get(member).and_then(|heard| heard.process(consumer));
        process.is_some_and(|process| process.beat.is_some())
    }

    /// How long the process has been silent, grace included.
    pub(crate) fn silent_for(&self, member: &str, consumer: Consumer, now: Instant) -> Duration {
        let process = self.members.get(member).and_then(|heard| heard.process(consumer));
        // Its callers have asked first whether we stood still.
        let clock = self.listened.saturating_add(now.saturating_duration_since(self.ticked));
        process.map(|process| process.silence).unwrap_or_default().lasts(clock)
    }

    pub(crate) fn alive(&self, member: &str, consumer: Consumer, now: Instant) -> bool {
        self.silent_for(member, consumer, now) < SUSPECT_AFTER
    }

    /// If the ticks stood still: that time hardly counts, and who was heard before gets a whole term. Called before
    /// each judgement, because a planner may run before the late tick does.
    pub(crate) fn forgive(&mut self, now: Instant) -> Option<Duration> {
        let gap = now.saturating_duration_since(self.ticked);
        if gap <= LONGEST {
            return None;
        }
        self.advance(now);
        let clock = self.listened;
        for heard in self.members.values_mut() {
            let processes = heard.processes.iter_mut().map(|process| &mut process.silence);
            processes
                .chain(heard.binding.as_mut().map(|binding| &mut binding.silence))
                .for_each(|silence| silence.forgive(clock));
        }
        Some(gap)
    }

    fn advance(&mut self, now: Instant) {
        self.listened = self.clock(now);
        self.ticked = now;
    }

    /// Judges everyone who is expected, forgets those who are not. Whether anyone's level changed.
    pub(crate) fn tick<'m>(
        &mut self,
        expected: impl IntoIterator<Item = (&'m str, &'static [Consumer])>,
        now: Instant,
    ) -> bool {
        self.forgive(now);
        self.advance(now);
        self.judgements += 1;
        let (clock, judged) = (self.listened, self.judgements);
        let mut changed = false;
        for (member, consumers) in expected {
            let heard = self.heard_mut(member);
            heard.judged = judged;
            for consumer in consumers {
                let process = heard.process_mut(*consumer);
                let level = Health::after(process.silence.lasts(clock));
                changed |= std::mem::replace(&mut process.level, level) != level;
            }
            heard.processes.retain(|process| consumers.contains(&process.consumer));
        }
        self.members.retain(|_, heard| heard.judged == judged);
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
        let ticks = (0..).map(|i| from + f64::from(i) * 0.25).take_while(|at| *at <= to);
        ticks.filter(|at| leases.tick([("a", &[AGENT][..])], seconds(start, *at))).collect()
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
        assert_eq!(leases.check_machine("a", "one", at(0.0)), MachineCheck::Accepted);
        leases.bind_machine("a", "one", true, at(0.0));
        leases.bind_machine("a", "one", true, at(0.1));
        assert_eq!(leases.check_machine("a", "one", at(0.5)), MachineCheck::Accepted, "its second process");
        assert_eq!(leases.check_machine("b", "two", at(0.5)), MachineCheck::Accepted, "another member");
        assert_eq!(leases.check_machine("a", "two", at(0.5)), MachineCheck::BoundElsewhere { first: true });
        assert_eq!(leases.check_machine("a", "two", at(0.7)), MachineCheck::BoundElsewhere { first: false });
        run(&mut leases, start, 0.75, 1.5);
        leases.bind_machine("a", "one", false, at(1.5));
        run(&mut leases, start, 1.75, 3.25);
        assert_eq!(leases.check_machine("a", "two", at(3.4)), MachineCheck::BoundElsewhere { first: false });
        assert_eq!(leases.check_machine("a", "three", at(3.4)), MachineCheck::BoundElsewhere { first: true });
        assert_eq!(leases.check_machine("a", "two", at(3.5)), MachineCheck::Accepted, "the first is silent");
        leases.bind_machine("a", "two", true, at(3.5));
        assert_eq!(
            leases.check_machine("a", "one", at(3.6)),
            MachineCheck::BoundElsewhere { first: true },
            "and is the second now"
        );
        leases.release_machine("a", "one");
        assert_eq!(leases.check_machine("a", "one", at(3.6)), MachineCheck::BoundElsewhere { first: false });
    }

    #[test]
    fn a_machine_that_leaves_releases_the_member_at_once() {
        let start = Instant::now();
        let mut leases = Leases::new(start);
        leases.bind_machine("a", "one", true, start);
        leases.bind_machine("a", "one", true, start);
        leases.release_machine("a", "one");
        assert_eq!(
            leases.check_machine("a", "two", start),
            MachineCheck::BoundElsewhere { first: true },
            "one stream is left"
        );
        leases.release_machine("a", "one");
        assert_eq!(leases.check_machine("a", "two", start), MachineCheck::Accepted);
    }

    #[test]
    fn our_own_stall_releases_no_member() {
        let start = Instant::now();
        let mut leases = Leases::new(start);
        leases.bind_machine("a", "one", true, start);
        run(&mut leases, start, 0.0, 1.0);
        leases.forgive(seconds(start, 31.0));
        assert_eq!(
            leases.check_machine("a", "two", seconds(start, 31.0)),
            MachineCheck::BoundElsewhere { first: true }
        );
    }

    #[test]
    fn those_who_left_are_forgotten() {
        let start = Instant::now();
        let mut leases = Leases::new(start);
        leases.beat("gone", AGENT, start);
        run(&mut leases, start, 0.0, 0.5);
        assert!(!leases.heard("gone", AGENT));
        assert!(leases.members.keys().all(|member| member == "a"));
    }

    #[test]
    fn who_is_silent_while_we_stand_still_again_and_again_is_lost_all_the_same() {
        let start = Instant::now();
        let mut leases = Leases::new(start);
        let members = [("dead", &[AGENT][..]), ("living", &[AGENT][..])];
        leases.beat("dead", AGENT, start);
        let (mut lost, mut now) = (None, 0.0);
        for pass in 0..20 {
            // A pass of three seconds, then a moment for what has arrived meanwhile.
            now += 3.0;
            leases.beat("living", AGENT, seconds(start, now));
            leases.tick(members, seconds(start, now));
            assert!(leases.alive("living", AGENT, seconds(start, now)), "after {now} s");
            if leases.silent_for("dead", AGENT, seconds(start, now)) >= warren_vocabulary::health::LOST_AFTER
            {
                lost.get_or_insert(pass);
            }
        }
        assert_eq!(lost, Some(8), "one term by grace, then little more than a second for each pass");
    }

    #[test]
    fn a_whole_term_is_granted_once_for_each_time_that_somebody_was_heard() {
        let start = Instant::now();
        let mut leases = Leases::new(start);
        let silent = |leases: &Leases, at| leases.silent_for("a", AGENT, seconds(start, at));
        leases.beat("a", AGENT, seconds(start, 0.5));
        run(&mut leases, start, 0.0, 1.0);
        assert!(leases.forgive(seconds(start, 31.0)).is_some());
        assert_eq!(silent(&leases, 31.0), Duration::ZERO);
        assert!(leases.forgive(seconds(start, 61.0)).is_some());
        assert_eq!(silent(&leases, 61.0), LONGEST, "it had its term, and what we did not hear hardly counts");
        leases.beat("a", AGENT, seconds(start, 61.5));
        assert!(leases.forgive(seconds(start, 91.0)).is_some());
        assert_eq!(silent(&leases, 91.0), Duration::ZERO, "it was heard in between");
    }
}
