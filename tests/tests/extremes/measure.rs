//! What a piece of work costs: memory at its peak, and this thread's processor time.
//!
//! Other work on the machine changes neither.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    fmt,
    sync::Mutex,
    time::Duration,
};

use warren_store::Key;
use warren_vocabulary::guard::Progress;

/// Counts what each thread has taken and not given back.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // At the end of a thread there is nothing to count with any more.
    let _ = HELD.try_with(|held| {
        held.set(held.get().saturating_add(bytes));
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

// SAFETY: every call is passed on to the system's allocator as it is; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `GlobalAlloc`, which is the same there.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Does some work that may take so much more memory than there is now, and some processor time.
#[track_caller]
pub(crate) fn within<T>(
    what: &dyn fmt::Display,
    bytes: usize,
    time: Duration,
    work: impl FnOnce() -> T,
) -> T {
    let held = HELD.get();
    PEAK.set(held);
    let before = processor_time();
    let done = work();
    let (took, peak) = (processor_time() - before, usize::try_from(PEAK.get() - held).unwrap_or(0));
    assert!(peak <= bytes, "{what} took {} MiB of memory, allowed are {}", peak >> 20, bytes >> 20);
    assert!(took <= time, "{what} took {took:?} of a processor, allowed are {time:?}");
    done
}

fn processor_time() -> Duration {
    nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID.now().unwrap().into()
}

/// The stages of a plan, and when each was seen first: what took so long.
#[derive(Default)]
pub(crate) struct Stages(Mutex<Vec<(&'static str, Duration)>>);

impl Progress for Stages {
    fn at(&self, stage: &'static str, _: &Key) {
        let mut seen = self.0.lock().unwrap();
        if seen.last().is_none_or(|(last, _)| *last != stage) {
            seen.push((stage, processor_time()));
        }
    }
}

impl fmt::Display for Stages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seen = self.0.lock().unwrap();
        write!(f, "planning")?;
        let end = processor_time();
        for (index, (stage, since)) in seen.iter().enumerate() {
            let until = seen.get(index + 1).map_or(end, |(_, at)| *at);
            write!(f, ", {stage} {:?}", until.saturating_sub(*since))?;
        }
        Ok(())
    }
}
