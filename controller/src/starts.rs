//! Where was the controller when it ended while starting?
//!
//! A panic is caught at the object that it concerns. Running out of memory or stack is not caught by anything: the
//! process is gone, and the object is still there when it starts again. So while it starts, it leaves word of what it
//! turns to, in a small file; and who ended that way several times says what it was at, and how to start without it.
//!
//! The file is written without being flushed to the disk: it survives the process, and need not survive the machine.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use warren_store::{Key, Snapshot};
use warren_vocabulary::guard::Progress;

const FILE: &str = "starting";
/// Each part of the file has so many bytes: how many starts were not finished, then what each [`Part`] is at.
const RECORD: usize = 1_024;
/// After so many unfinished starts in a row it is said loudly.
const TOLERATED: u64 = 3;

/// What turns to every object when the controller starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Planning,
    Compiling,
}

const PARTS: [Part; 2] = [Part::Planning, Part::Compiling];

/// What is known of the starts before this one, and the word that this one leaves.
pub(crate) struct Starts {
    /// None when it cannot be written: then nothing is left, and the controller starts all the same.
    file: Option<File>,
    unfinished: u64,
    /// What the last start was at when it ended, part by part: the stage, and the object.
    last: Vec<(String, Key)>,
    finished: [AtomicBool; PARTS.len()],
}

impl Starts {
    /// Counts this start among the unfinished, until it is finished.
    pub(crate) fn begin(directory: &Path) -> Arc<Self> {
        let path = directory.join(FILE);
        let opened =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = opened.inspect_err(|error| {
            tracing::warn!(path = %path.display(), %error, "what the controller is at while starting is not noted");
        });
        let file = file.ok();
        let record = |index: usize| file.as_ref().map(|file| read(file, index)).unwrap_or_default();
        let unfinished = record(0).parse().unwrap_or(0);
        let last = (1..=PARTS.len()).filter_map(|index| {
            let said = record(index);
            let (stage, key) = said.rsplit_once(' ')?;
            Some((stage.to_owned(), key.parse().ok()?))
        });
        let last = if unfinished == 0 { Vec::new() } else { last.collect() };
        let starts = Self { file, unfinished, last, finished: Default::default() };
        starts.write(0, &unfinished.saturating_add(1).to_string());
        (1..=PARTS.len()).for_each(|index| starts.write(index, ""));
        Arc::new(starts)
    }

    /// Says what became of the starts before this one, if they were not finished.
    pub(crate) fn tell(&self, state: &Snapshot, command: &str) {
        let last: Vec<String> = self.last.iter().map(|(stage, key)| format!("{stage} {key}")).collect();
        let last = if last.is_empty() { "none: it had not come so far".to_owned() } else { last.join(", ") };
        match (self.unfinished, self.without(state, command)) {
            (0, _) => {}
            (times @ ..TOLERATED, _) => {
                tracing::warn!(times, last, "the controller ended while it was starting")
            }
            (times, Some(command)) => tracing::error!(
                times,
                last,
                command,
                "the controller ended again and again while it was starting: it can be started without the objects \
                 that it was at; they are kept"
            ),
            (times, None) => tracing::error!(
                times,
                last,
                "the controller ended again and again while it was starting, at no object that could be left out"
            ),
        }
    }

    /// The command by which the controller starts without what it was at.
    fn without(&self, state: &Snapshot, command: &str) -> Option<String> {
        let there = self.last.iter().filter(|(_, key)| state.get(key).is_some());
        let options: Vec<String> = there.map(|(_, key)| format!("--quarantine {key}")).collect();
        (!options.is_empty()).then(|| format!("{command} {}", options.join(" ")))
    }

    /// Notes what this part is at, until it has finished.
    pub(crate) fn watch(self: &Arc<Self>, part: Part) -> Arc<dyn Progress> {
        Arc::new(Watching { starts: Arc::clone(self), part })
    }

    /// The part has turned to every object once. When all have, the start is finished.
    pub(crate) fn finish(&self, part: Part) {
        if !self.finished[part as usize].swap(true, Ordering::AcqRel) {
            self.write(1 + part as usize, "");
            if self.is_finished() {
                self.write(0, "0");
            }
        }
    }

    /// The controller was told to stop: that is no unhappy end.
    pub(crate) fn stop(&self) {
        if !self.is_finished() {
            self.write(0, &self.unfinished.to_string());
            for (index, (stage, key)) in self.last.iter().enumerate() {
                self.write(1 + index, &format!("{stage} {key}"));
            }
        }
    }

    fn is_finished(&self) -> bool {
        self.finished.iter().all(|finished| finished.load(Ordering::Acquire))
    }

    fn write(&self, index: usize, text: &str) {
        let mut record = [b' '; RECORD];
        let text = text.as_bytes().get(..RECORD - 1).unwrap_or(text.as_bytes());
        record[..text.len()].copy_from_slice(text);
        record[RECORD - 1] = b'\n';
        if let Some(file) = &self.file {
            // A full disk: there is no word then, and nothing else is lost.
            let _ = file.write_all_at(&record, (index * RECORD) as u64);
        }
    }
}

fn read(file: &File, index: usize) -> String {
    let mut record = [0; RECORD];
    match file.read_exact_at(&mut record, (index * RECORD) as u64) {
        Ok(()) => String::from_utf8_lossy(&record).trim().to_owned(),
        Err(_) => String::new(),
    }
}

struct Watching {
    starts: Arc<Starts>,
    part: Part,
}

impl Progress for Watching {
    fn at(&self, stage: &'static str, key: &Key) {
        if !self.starts.finished[self.part as usize].load(Ordering::Relaxed) {
            self.starts.write(1 + self.part as usize, &format!("{stage} {key}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use warren_store::Object;

    use super::*;

    fn key(name: &str) -> Key {
        Key::new("pods", "shop", name)
    }

    fn state(names: &[&str]) -> Snapshot {
        let object = |name: &&str| Object::new(key(name), 1, serde_json::json!({}));
        Snapshot::from_objects(1, names.iter().map(object))
    }

    /// A start that ends at two objects, without a word.
    fn crash(directory: &Path) {
        let starts = Starts::begin(directory);
        for name in ["early", "culprit"] {
            starts.watch(Part::Planning).at("scheduling", &key(name));
        }
        starts.watch(Part::Compiling).at("compiling pods", &key("other"));
    }

    #[test]
    fn after_three_starts_that_ended_early_it_is_known_how_to_start_without_the_cause() {
        let directory = tempfile::tempdir().expect("a directory");
        let all = state(&["early", "culprit", "other"]);
        for crashes in 0..3 {
            let starts = Starts::begin(directory.path());
            assert_eq!(starts.unfinished, crashes);
            starts.stop();
            crash(directory.path());
        }
        // One that is told to stop before it is through neither adds to them nor makes them forgotten.
        Starts::begin(directory.path()).stop();
        let starts = Starts::begin(directory.path());
        assert_eq!(starts.unfinished, TOLERATED);
        assert_eq!(
            starts.without(&all, "warren controller --data-dir /d").as_deref(),
            Some(
                "warren controller --data-dir /d --quarantine pods/shop/culprit --quarantine pods/shop/other"
            ),
            "{:?}",
            starts.last
        );
        assert_eq!(starts.without(&state(&["early"]), "warren controller"), None, "they are gone meanwhile");
        // This one comes through: the next is as if nothing had been.
        starts.finish(Part::Planning);
        starts.finish(Part::Compiling);
        starts.watch(Part::Planning).at("scheduling", &key("later"));
        let next = Starts::begin(directory.path());
        assert_eq!((next.unfinished, next.last.len()), (0, 0));
    }

    #[test]
    fn a_part_that_has_come_through_is_not_the_cause() {
        let directory = tempfile::tempdir().expect("a directory");
        let starts = Starts::begin(directory.path());
        starts.watch(Part::Planning).at("scheduling", &key("a"));
        starts.watch(Part::Compiling).at("compiling pods", &key("b"));
        starts.finish(Part::Planning);
        starts.watch(Part::Planning).at("scheduling", &key("c"));
        let next = Starts::begin(directory.path());
        assert_eq!(next.last, [("compiling pods".to_owned(), key("b"))]);
    }

    #[test]
    fn a_damaged_or_forbidden_file_hinders_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join(FILE), [0xff; 3 * RECORD]).expect("written");
        assert_eq!(Starts::begin(directory.path()).unfinished, 0);
        assert_eq!(Starts::begin(directory.path()).unfinished, 1);
        let starts = Starts::begin(&directory.path().join("absent"));
        starts.watch(Part::Planning).at("scheduling", &key(&"n".repeat(5_000)));
        assert_eq!(starts.unfinished, 0);
    }
}
