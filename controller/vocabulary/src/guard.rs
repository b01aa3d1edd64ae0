//! One object's failure stays with that object: a panic is caught where the object is looked at, and named.
//!
//! What users store must never stop a pass, however we fail on it. A panic is a fault of ours all the same: it is
//! told by where it happened. The words of a panic may quote what the object holds, a Secret's content among it, so
//! only those are passed on that stand in our own source.

use std::{
    cell::{Cell, RefCell},
    panic::{self, AssertUnwindSafe},
    sync::Once,
};

use warren_state::Key;

#[cfg(not(panic = "unwind"))]
compile_error!("a panic must unwind: otherwise one object that we fail on ends the process");

/// Learns which object is looked at next, so that it is known when the process ends there.
pub trait Progress: Send + Sync {
    /// `stage` (of planning or compiling) turns to an object.
    fn at(&self, stage: &'static str, key: &Key);
}

/// For callers that do not watch.
pub struct Unwatched;

impl Progress for Unwatched {
    fn at(&self, _: &'static str, _: &Key) {}
}

/// An object that a stage could not deal with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which planner, or the compiler.
    pub stage: &'static str,
    /// Which object.
    pub key: Key,
    /// What happened, without anything that the object holds.
    pub message: String,
}

thread_local! {
    /// How many guards this thread is inside of.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Does some work; a panic in it becomes an error that says where it happened.
///
/// What the work has changed stays changed: the caller puts that right.
pub fn catch<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(note_places);
    DEPTH.set(DEPTH.get().saturating_add(1));
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    DEPTH.set(DEPTH.get().saturating_sub(1));
    outcome.map_err(|payload| {
        let place = PLACE.take().unwrap_or_else(|| "an unknown place".to_owned());
        match payload.downcast_ref::<&'static str>() {
            Some(words) => format!("{words} (at {place})"),
            None => format!("a panic at {place}"),
        }
    })
}

/// Inside of a guard, a panic is not printed: it is told once, by who called the guard, and not in every pass.
fn note_places() {
    let previous = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if DEPTH.get() == 0 {
            return previous(panic);
        }
        let place = panic.location().map(|at| format!("{}:{}", at.file(), at.line()));
        PLACE.with_borrow_mut(|noted| *noted = place);
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_named_by_its_place_and_never_by_what_an_object_holds() {
        assert_eq!(catch(|| 7), Ok(7));
        let said = catch(|| panic!("the {}", std::hint::black_box("password"))).expect_err("panics");
        assert!(said.starts_with("a panic at ") && said.contains("guard.rs:"), "{said}");
        assert!(!said.contains("password"), "{said}");
        let said = catch(|| i64::MAX + std::hint::black_box(1)).expect_err("overflows");
        assert!(said.contains("overflow"), "{said}");
        let inner = catch(|| catch(|| panic!("inner")).is_err());
        assert_eq!(inner, Ok(true), "guards nest");
    }
}
