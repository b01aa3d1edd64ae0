//! How much an instruction may grow by what it refers to.
//!
//! A pod of a few kilobytes can ask for gigabytes: nine variables that each repeat the one before ten times, a thousand
//! containers that each take a whole ConfigMap. What is asked for is counted before it is made.

use std::{cell::Cell, fmt};

/// What a pod's variables, commands and files may have in all. A feed's message holds 64 MiB, and the pod's own text
/// comes on top.
const POD_BYTES: usize = 16 << 20;
/// What a container's variables, command and arguments may have: the kernel gives no program more.
const PROGRAM_BYTES: usize = 2 << 20;

/// What is left of an allowance.
pub(crate) struct Budget<'p> {
    bytes: usize,
    of_what: &'static str,
    left: Cell<usize>,
    parent: Option<&'p Budget<'p>>,
}

impl Budget<'static> {
    /// A pod's.
    pub(crate) fn of_pod() -> Self {
        let of_what = "the variables, commands and files of the pod";
        Self { bytes: POD_BYTES, of_what, left: Cell::new(POD_BYTES), parent: None }
    }
}

impl Budget<'_> {
    /// A container's part of its pod's.
    pub(crate) fn of_program(&self) -> Budget<'_> {
        let of_what = "the variables, command and arguments of the container";
        Budget { bytes: PROGRAM_BYTES, of_what, left: Cell::new(PROGRAM_BYTES), parent: Some(self) }
    }

    /// How much may still be taken.
    pub(crate) fn left(&self) -> usize {
        self.parent.map_or(usize::MAX, Budget::left).min(self.left.get())
    }

    /// Takes some. When that is too much nothing is left, so that what follows ends at once.
    pub(crate) fn take(&self, bytes: usize, what: &dyn fmt::Display) -> Result<(), String> {
        let Some(left) = self.left.get().checked_sub(bytes) else {
            self.left.set(0);
            let Self { bytes, of_what, .. } = self;
            return Err(format!(
                "{what}: with it {of_what} have more than {bytes} bytes, which is the most allowed"
            ));
        };
        self.left.set(left);
        self.parent.map_or(Ok(()), |parent| parent.take(bytes, what))
    }

    /// An error when nothing is left.
    pub(crate) fn check(&self, what: &dyn fmt::Display) -> Result<(), String> {
        if self.left() == 0 { self.take(1, what) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_takes_from_the_whole() {
        let pod = Budget::of_pod();
        for _ in 0..8 {
            let program = pod.of_program();
            assert_eq!(program.take(PROGRAM_BYTES, &"A"), Ok(()));
            let error = program.take(1, &"variable B").expect_err("nothing is left");
            assert!(error.starts_with("variable B: with it the variables, command and arguments"), "{error}");
            assert!(error.contains("2097152 bytes"), "{error}");
        }
        assert_eq!(pod.left(), 0);
        let error = pod.of_program().take(1, &"variable C").expect_err("the pod has nothing left");
        assert!(error.contains("files of the pod have more than 16777216 bytes"), "{error}");
        assert!(pod.check(&"volume v").is_err());
    }
}
