//! Lines of a log, put together again from the pieces in which the engine keeps them.
//!
//! The engine cuts a line after 16 KiB. It keeps, counts and dates the pieces, all of a line with the moment of the
//! first; a line's pieces are told by that and by the missing line feed. Pure: bytes in, bytes out.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes, BytesMut};

/// Where the engine cuts a line.
const PIECE: usize = 16 << 10;
/// A moment as the engine writes it before each piece: RFC 3339, in nanoseconds, UTC.
const STAMP: usize = "2006-01-02T15:04:05.000000000Z".len();
/// A line longer than this is handed on before its end is known.
const LONGEST_HELD: usize = 1 << 20;
/// A piece longer than this is none that the engine made.
const LARGEST: usize = 1 << 20;
const STDOUT: u8 = 1;

/// One piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Which output: 1 is standard output (or the terminal), 2 standard error.
    pub(super) channel: u8,
    /// When the line began.
    pub(super) stamp: Bytes,
    /// With its line feed, if it is the last of its line.
    pub(super) data: Bytes,
}

impl Piece {
    fn ends_line(&self) -> bool {
        self.data.ends_with(b"\n")
    }
}

/// Takes the engine's stream of bytes apart into pieces.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    buffer: BytesMut,
    /// A terminal's log has no headers.
    tty: bool,
}

impl Pieces {
    /// For a container with a terminal or without one.
    pub(super) fn new(tty: bool) -> Self {
        Self { buffer: BytesMut::new(), tty }
    }

    /// Takes in what has arrived.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole piece; `ended` when no more will arrive.
    pub(super) fn next(&mut self, ended: bool) -> Result<Option<Piece>, String> {
        if self.tty { self.next_of_terminal(ended) } else { self.next_framed(ended) }
    }

    /// Eight bytes before each piece: which output, three zeros, the length.
    fn next_framed(&mut self, ended: bool) -> Result<Option<Piece>, String> {
        let cut_off = || if ended { Err("it ended within a piece".to_owned()) } else { Ok(None) };
        if self.buffer.is_empty() {
            return Ok(None);
        }
        let Some(header) = self.buffer.first_chunk::<8>() else { return cut_off() };
        let [channel, _, _, _, length @ ..] = *header;
        let length = u32::from_be_bytes(length) as usize;
        if length > LARGEST {
            return Err(format!("a piece of {length} bytes"));
        }
        if self.buffer.len() < 8 + length {
            return cut_off();
        }
        self.buffer.advance(8);
        let mut data = self.buffer.split_to(length).freeze();
        let stamp = take_stamp(&mut data).ok_or("a piece without its time")?;
        Ok(Some(Piece { channel, stamp, data }))
    }

    /// A piece ends with a line feed, or where the engine cut.
    fn next_of_terminal(&mut self, ended: bool) -> Result<Option<Piece>, String> {
        let start = STAMP + 1;
        if self.buffer.len() < start + PIECE && !ended && !self.buffer.contains(&b'\n') {
            return Ok(None);
        }
        if self.buffer.is_empty() {
            return Ok(None);
        }
        let window = self.buffer.get(start..).ok_or("it ended within a piece")?;
        let window = &window[..window.len().min(PIECE)];
        let length = match window.iter().position(|byte| *byte == b'\n') {
            Some(feed) => feed + 1,
            None if window.len() == PIECE || ended => window.len(),
            None => return Ok(None),
        };
        let mut data = self.buffer.split_to(start + length).freeze();
        let stamp = take_stamp(&mut data).ok_or("a piece without its time")?;
        Ok(Some(Piece { channel: STDOUT, stamp, data }))
    }
}

fn take_stamp(data: &mut Bytes) -> Option<Bytes> {
    let is_stamp = data.get(STAMP) == Some(&b' ') && data.get(STAMP - 1) == Some(&b'Z');
    is_stamp.then(|| {
        let stamp = data.split_to(STAMP);
        data.advance(1);
        stamp
    })
}

/// A line whose end has not come.
#[derive(Debug)]
struct Open {
    stamp: Bytes,
    /// What of it was not handed on yet.
    held: BytesMut,
}

/// Puts lines together, so that none of one output is torn by one of the other.
#[derive(Debug)]
pub(super) struct Lines {
    timestamps: bool,
    open: BTreeMap<u8, Open>,
}

impl Lines {
    /// Lines with the moment at which each began, or without.
    pub(super) fn new(timestamps: bool) -> Self {
        Self { timestamps, open: BTreeMap::new() }
    }

    /// Takes a piece in; answers with what can be handed on.
    pub(super) fn push(&mut self, piece: Piece) -> Vec<Bytes> {
        let mut done = Vec::new();
        let ends = piece.ends_line();
        let mut open = match self.open.remove(&piece.channel) {
            Some(open) if open.stamp == piece.stamp => open,
            other => {
                // It never ended: its process did, and somebody started the container again.
                done.extend(other.map(|other| other.held.freeze()));
                if ends && !self.timestamps {
                    done.push(piece.data);
                    return done;
                }
                let mut held = BytesMut::new();
                if self.timestamps {
                    held.extend_from_slice(&piece.stamp);
                    held.extend_from_slice(b" ");
                }
                Open { stamp: piece.stamp, held }
            }
        };
        open.held.extend_from_slice(&piece.data);
        if ends {
            done.push(open.held.freeze());
        } else {
            if open.held.len() > LONGEST_HELD {
                done.push(open.held.split().freeze());
            }
            self.open.insert(piece.channel, open);
        }
        done.retain(|bytes| !bytes.is_empty());
        done
    }

    /// What is left when the log has ended.
    pub(super) fn finish(&mut self) -> Vec<Bytes> {
        let open = std::mem::take(&mut self.open);
        open.into_values().map(|open| open.held.freeze()).filter(|bytes| !bytes.is_empty()).collect()
    }
}

/// A piece without its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    channel: u8,
    stamp: Bytes,
    ends_line: bool,
}

impl Mark {
    pub(super) fn of(piece: &Piece) -> Self {
        // A copy, so that the text is not held with it.
        let stamp = Bytes::copy_from_slice(&piece.stamp);
        Self { channel: piece.channel, stamp, ends_line: piece.ends_line() }
    }
}

/// What each output wrote last before some piece: the moment of that line, and whether it was still open.
///
/// The outputs are read side by side, each with a clock reading of its own: only within one output do moments follow the
/// order of the pieces.
pub(super) type Before = BTreeMap<u8, (Bytes, bool)>;

/// Where to begin, to show the last lines of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// With the first piece of this output and this moment.
    At {
        channel: u8,
        stamp: Bytes,
        /// It is among so many last pieces.
        pieces: usize,
        /// So many lines that end after it come before the last lines.
        lines_before: usize,
        /// What each output wrote last before it.
        before: Before,
    },
    /// There are no more lines than that.
    Beginning,
    /// These pieces do not tell.
    Unknown,
}

/// Finds the last `wanted` lines among the last pieces of a log; `whole` when there are no others. Lines are counted as
/// they are shown, in the order of their ends.
pub(super) fn locate(marks: &[Mark], whole: bool, wanted: usize) -> Start {
    let starts = starts_of(marks, whole);
    let lines = lines_of(marks, &starts);
    let Some(before) = lines.len().checked_sub(wanted) else {
        return if whole { Start::Beginning } else { Start::Unknown };
    };
    let (earlier, last) = lines.split_at(before);
    let Some(begun) = last.iter().copied().collect::<Option<Vec<usize>>>() else { return Start::Unknown };
    let Some(first) = begun.into_iter().min() else { return Start::Unknown };
    let lines_before = earlier.iter().flatten().filter(|start| **start >= first).count();
    let mut before: Before =
        marks[..first].iter().map(|mark| (mark.channel, (mark.stamp.clone(), !mark.ends_line))).collect();
    for (mark, _) in marks[first..].iter().zip(&starts[first..]).filter(|(_, start)| start.is_none()) {
        before.entry(mark.channel).or_insert_with(|| (mark.stamp.clone(), true));
    }
    let Mark { channel, stamp, .. } = marks[first].clone();
    Start::At { channel, stamp, pieces: marks.len() - first, lines_before, before }
}

/// Where each line begins, in the order of their ends; none where that is not among these pieces.
fn lines_of(marks: &[Mark], starts: &[Option<usize>]) -> Vec<Option<usize>> {
    let mut lines = Vec::new();
    let mut open: BTreeMap<u8, Option<usize>> = BTreeMap::new();
    for (index, (mark, start)) in marks.iter().zip(starts).enumerate() {
        if *start == Some(index) {
            // It never ended: its process did, and somebody started the container again.
            lines.extend(open.remove(&mark.channel));
        }
        if mark.ends_line {
            open.remove(&mark.channel);
            lines.push(*start);
        } else {
            open.insert(mark.channel, *start);
        }
    }
    // In the order in which they will be finished.
    lines.extend(open.into_values());
    lines
}

/// Where the line of each piece begins; none where that is not among these pieces.
fn starts_of(marks: &[Mark], whole: bool) -> Vec<Option<usize>> {
    let mut starts = Vec::with_capacity(marks.len());
    let mut last: BTreeMap<u8, (&Mark, Option<usize>)> = BTreeMap::new();
    let mut surely_begun: Option<&Bytes> = None;
    for (index, mark) in marks.iter().enumerate() {
        let start = match last.get(&mark.channel) {
            Some((before, start)) if !before.ends_line && before.stamp == mark.stamp => *start,
            Some(_) => Some(index),
            // It may go on with a line that began further back; not if it began later than one that did not.
            None => (whole || surely_begun.is_some_and(|begun| *begun < mark.stamp)).then_some(index),
        };
        if start == Some(index) && surely_begun.is_none() {
            surely_begun = Some(&mark.stamp);
        }
        starts.push(start);
        last.insert(mark.channel, (mark, start));
    }
    starts
}

/// Passes over what comes before the last lines.
#[derive(Debug)]
pub(super) struct Skip {
    start: Option<(u8, Bytes)>,
    before: Before,
    begun: bool,
    lines: usize,
}

impl Skip {
    pub(super) fn new(start: &Start) -> Self {
        let (start, before, lines) = match start {
            Start::At { channel, stamp, lines_before, before, .. } => {
                (Some((*channel, stamp.clone())), before.clone(), *lines_before)
            }
            Start::Beginning | Start::Unknown => (None, Before::new(), 0),
        };
        Self { begun: start.is_none(), start, before, lines }
    }

    /// Whether a piece is of a line that began at the start or later.
    pub(super) fn passes(&mut self, piece: &Piece) -> bool {
        let Some((channel, stamp)) = &self.start else { return true };
        let before = self.before.get(&piece.channel);
        if !self.begun {
            self.begun = piece.channel == *channel && piece.stamp == *stamp;
            // So much was written since that the start is out of sight, or it was passed over by its age.
            if !self.begun && piece.stamp > *before.map_or(stamp, |(stamp, _)| stamp) {
                self.lines = 0;
                self.begun = true;
            }
        }
        // The rest of a line of the other output may still come.
        self.begun && !before.is_some_and(|(stamp, open)| *open && piece.stamp == *stamp)
    }

    /// Whether a line, or a part of one, is of the last.
    pub(super) fn shows(&mut self, line: &[u8]) -> bool {
        let shown = self.lines == 0;
        if line.ends_with(b"\n") {
            self.lines = self.lines.saturating_sub(1);
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stamp(second: u32) -> Bytes {
        Bytes::from(format!("2026-01-01T00:00:00.{second:09}Z"))
    }

    fn piece(channel: u8, second: u32, text: &str) -> Piece {
        Piece { channel, stamp: stamp(second), data: Bytes::copy_from_slice(text.as_bytes()) }
    }

    fn mark(channel: u8, second: u32, ends_line: bool) -> Mark {
        Mark { channel, stamp: stamp(second), ends_line }
    }

    fn wire(piece: &Piece, tty: bool) -> Vec<u8> {
        let text = [&piece.stamp[..], b" ", &piece.data[..]].concat();
        let mut bytes = Vec::new();
        if !tty {
            bytes.extend([piece.channel, 0, 0, 0]);
            bytes.extend((text.len() as u32).to_be_bytes());
        }
        bytes.extend(text);
        bytes
    }

    fn take_apart(bytes: &[u8], tty: bool, step: usize) -> Result<Vec<Piece>, String> {
        let mut pieces = Pieces::new(tty);
        let mut all = Vec::new();
        for part in bytes.chunks(step) {
            pieces.push(part);
            while let Some(piece) = pieces.next(false)? {
                all.push(piece);
            }
        }
        while let Some(piece) = pieces.next(true)? {
            all.push(piece);
        }
        Ok(all)
    }

    fn text(bytes: Vec<Bytes>) -> String {
        String::from_utf8(bytes.concat()).expect("text")
    }

    #[test]
    fn pieces_are_told_apart_however_they_arrive() {
        let long = "a".repeat(PIECE);
        let terminal = [
            piece(1, 1, "short\r\n"),
            piece(1, 2, &long),
            piece(1, 2, &long),
            piece(1, 2, "end\r\n"),
            piece(1, 3, &long),
            piece(1, 3, "\n"),
            piece(1, 4, "no feed"),
        ];
        let framed = [
            piece(1, 1, "a\n"),
            piece(2, 1, "\n"),
            piece(1, 2, &long),
            piece(2, 3, "b\n"),
            piece(1, 2, "c\n"),
        ];
        for (pieces, tty) in [(&terminal[..], true), (&framed[..], false)] {
            let bytes: Vec<u8> = pieces.iter().flat_map(|piece| wire(piece, tty)).collect();
            for step in [1, 7, 4096, bytes.len()] {
                assert_eq!(take_apart(&bytes, tty, step).expect("a log"), pieces, "{tty} {step}");
            }
        }
        assert!(take_apart(b"\x01\0\0\0\0\0\0\x09cut", false, 5).is_err());
        assert!(take_apart(b"\x01\0\0\0\xff\0\0\x09huge", false, 5).is_err());
        assert!(take_apart(b"no time here, but long enough for one", true, 5).is_err());
        assert_eq!(take_apart(b"", true, 1), Ok(vec![]));
    }

    #[test]
    fn a_line_has_one_time_and_is_not_torn_by_the_other_output() {
        let pieces = [
            piece(1, 1, "5555\n"),
            piece(1, 2, "aa"),
            piece(2, 3, "wrong\n"),
            piece(1, 2, "bb"),
            piece(1, 2, "c\n"),
            piece(1, 4, "4"),
        ];
        let shown = |timestamps: bool| {
            let mut lines = Lines::new(timestamps);
            let mut all: Vec<Bytes> = pieces.iter().flat_map(|piece| lines.push(piece.clone())).collect();
            all.extend(lines.finish());
            text(all)
        };
        assert_eq!(shown(false), "5555\nwrong\naabbc\n4");
        let at = |second: u32| String::from_utf8(stamp(second).to_vec()).expect("text");
        assert_eq!(shown(true), format!("{} 5555\n{} wrong\n{} aabbc\n{} 4", at(1), at(3), at(2), at(4)));
    }

    #[test]
    fn a_line_without_end_is_handed_on_in_time() {
        let mut lines = Lines::new(true);
        let long = piece(1, 1, &"a".repeat(PIECE));
        let handed: usize = (0..100).flat_map(|_| lines.push(long.clone())).map(|bytes| bytes.len()).sum();
        assert!(handed > 0);
        let rest: usize = lines.finish().iter().map(Bytes::len).sum();
        assert_eq!(handed + rest, 100 * PIECE + STAMP + 1, "one time, and all of it");
    }

    #[test]
    fn the_last_lines_begin_where_a_line_begins() {
        let at = |channel, second, pieces, lines_before, before: &[(u8, u32, bool)]| Start::At {
            channel,
            stamp: stamp(second),
            pieces,
            lines_before,
            before: before
                .iter()
                .map(|(channel, second, open)| (*channel, (stamp(*second), *open)))
                .collect(),
        };
        // Short, long in three pieces, short.
        let log =
            [mark(1, 1, true), mark(1, 2, false), mark(1, 2, false), mark(1, 2, true), mark(1, 3, true)];
        for (lines, expected) in [
            (1, at(1, 3, 1, 0, &[(1, 2, false)])),
            (2, at(1, 2, 4, 0, &[(1, 1, false)])),
            (3, at(1, 1, 5, 0, &[])),
            (4, Start::Beginning),
            (99, Start::Beginning),
        ] {
            assert_eq!(locate(&log, true, lines), expected, "{lines}");
        }
        assert_eq!(locate(&log[2..], false, 1), at(1, 3, 1, 0, &[(1, 2, false)]));
        assert_eq!(locate(&log[2..], false, 2), Start::Unknown, "the long line may have begun before");
        // The other output's only line: later than a line that surely began here, so it began here, too.
        let both = [mark(1, 1, true), mark(1, 2, true), mark(2, 3, true), mark(1, 4, true)];
        assert_eq!(locate(&both, false, 3), at(1, 2, 3, 0, &[(1, 1, false)]));
        let torn = [mark(1, 2, true), mark(1, 3, true), mark(2, 1, true), mark(1, 4, true)];
        assert_eq!(locate(&torn, false, 2), Start::Unknown, "it began before all that is seen");
        assert_eq!(locate(&torn, false, 1), at(1, 4, 1, 0, &[(1, 3, false), (2, 1, false)]));
        // One that ends within another is shown before it.
        let within =
            [mark(1, 1, true), mark(1, 2, false), mark(2, 3, true), mark(1, 2, true), mark(1, 4, true)];
        assert_eq!(locate(&within, true, 2), at(1, 2, 4, 1, &[(1, 1, false)]));
        assert_eq!(locate(&within, true, 3), at(1, 2, 4, 0, &[(1, 1, false)]));
        assert_eq!(locate(&[], true, 1), Start::Beginning);
    }

    /// What is shown of these pieces.
    fn shown(pieces: &[Piece], start: &Start) -> Vec<String> {
        let (mut skip, mut lines) = (Skip::new(start), Lines::new(false));
        let mut all = Vec::new();
        for piece in pieces {
            if skip.passes(piece) {
                all.extend(lines.push(piece.clone()));
            }
        }
        all.extend(lines.finish());
        all.retain(|line| skip.shows(line));
        all.into_iter().map(|line| String::from_utf8(line.to_vec()).expect("text")).collect()
    }

    proptest! {
        /// However many pieces are looked at, and however two outputs speak at once: the last lines are the last lines.
        #[test]
        fn the_tail_is_exact(
            out in prop::collection::vec(1usize..5, 0..20), err in prop::collection::vec(1usize..4, 0..10),
            turns in prop::collection::vec(any::<bool>(), 40), wanted in 1usize..12, window in 1usize..120,
            late in 0u32..30,
        ) {
            // Each output's pieces in their order, one output or the other at a time.
            let parts = |lines: &[usize]| -> Vec<(usize, usize, bool)> {
                let of_line = |(line, count): (usize, &usize)| {
                    let count = *count;
                    (0..count).map(move |part| (line, part, part + 1 == count))
                };
                lines.iter().enumerate().flat_map(of_line).collect()
            };
            let is_whole = window > out.iter().chain(&err).sum::<usize>();
            let mut waiting = [parts(&out).into_iter().peekable(), parts(&err).into_iter().peekable()];
            let mut turns = turns.into_iter().cycle();
            let (mut pieces, mut began) = (Vec::new(), [0, 0]);
            while waiting.iter_mut().any(|parts| parts.peek().is_some()) {
                let turn = usize::from(turns.next().unwrap_or(false));
                let turn = if waiting[turn].peek().is_some() { turn } else { 1 - turn };
                let Some((line, part, is_last)) = waiting[turn].next() else { continue };
                if part == 0 {
                    // One output may be read earlier than the other and written later, in the sight of the whole log.
                    let late = if is_whole { late } else { 0 };
                    began[turn] = pieces.len() as u32 + turn as u32 * late;
                }
                let end = if is_last { "\n" } else { "" };
                pieces.push(piece(turn as u8 + 1, began[turn], &format!("{turn}.{line}.{part}{end}")));
            }
            let all = shown(&pieces, &Start::Beginning);
            let seen = &pieces[pieces.len().saturating_sub(window)..];
            let marks: Vec<Mark> = seen.iter().map(Mark::of).collect();
            let start = locate(&marks, is_whole, wanted);
            prop_assume!(start != Start::Unknown);
            prop_assert_eq!(shown(seen, &start), &all[all.len().saturating_sub(wanted)..]);
        }
    }
}
