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

/// Where to begin, to show the last lines of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// With the first piece of this output and this moment, which is among so many last pieces.
    At { channel: u8, stamp: Bytes, pieces: usize },
    /// There are no more lines than that.
    Beginning,
    /// These pieces do not tell.
    Unknown,
}

/// Finds the first of the last `lines` lines among the last pieces of a log; `whole` when there are no others.
pub(super) fn locate(marks: &[Mark], whole: bool, lines: usize) -> Start {
    let mut before: BTreeMap<u8, &Mark> = BTreeMap::new();
    let mut starts: Vec<usize> = Vec::new();
    let mut unknown = None;
    for (index, mark) in marks.iter().enumerate() {
        match before.insert(mark.channel, mark) {
            Some(last) if !last.ends_line && last.stamp == mark.stamp => {}
            Some(_) => starts.push(index),
            None if whole => starts.push(index),
            // It may go on with a line whose beginning lies further back; not if it began later than one that did not.
            None if starts.first().is_some_and(|first| marks[*first].stamp < mark.stamp) => {
                starts.push(index)
            }
            None => unknown = Some(index),
        }
    }
    let first = starts.len().checked_sub(lines).and_then(|first| starts.get(first).copied());
    match first {
        Some(first) if unknown.is_none_or(|unknown| unknown < first) => {
            let Mark { channel, stamp, .. } = marks[first].clone();
            Start::At { channel, stamp, pieces: marks.len() - first }
        }
        _ if whole => Start::Beginning,
        _ => Start::Unknown,
    }
}

/// Passes over what comes before the start.
#[derive(Debug)]
pub(super) struct Skip {
    until: Option<(u8, Bytes)>,
    is_first: bool,
}

impl Skip {
    pub(super) fn new(start: &Start) -> Self {
        let until = match start {
            Start::At { channel, stamp, .. } => Some((*channel, stamp.clone())),
            Start::Beginning | Start::Unknown => None,
        };
        Self { until, is_first: true }
    }

    /// Whether the piece is shown.
    pub(super) fn shows(&mut self, piece: &Piece) -> bool {
        let is_first = std::mem::replace(&mut self.is_first, false);
        let Some((channel, stamp)) = &self.until else { return true };
        // So much was written since the start was found that it is out of sight, or it was passed over by its age.
        let is_past = is_first && piece.stamp > *stamp;
        if is_past || (piece.channel == *channel && piece.stamp == *stamp) {
            self.until = None;
        }
        self.until.is_none()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stamp(second: u32) -> Bytes {
        Bytes::from(format!("2026-01-01T00:00:{second:02}.000000000Z"))
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
        let at = |channel, second, pieces| Start::At { channel, stamp: stamp(second), pieces };
        // Short, long in three pieces, short.
        let log =
            [mark(1, 1, true), mark(1, 2, false), mark(1, 2, false), mark(1, 2, true), mark(1, 3, true)];
        for (lines, expected) in [
            (1, at(1, 3, 1)),
            (2, at(1, 2, 4)),
            (3, at(1, 1, 5)),
            (4, Start::Beginning),
            (99, Start::Beginning),
        ] {
            assert_eq!(locate(&log, true, lines), expected, "{lines}");
        }
        assert_eq!(locate(&log[2..], false, 1), at(1, 3, 1));
        assert_eq!(locate(&log[2..], false, 2), Start::Unknown, "the long line may have begun before");
        // The other output's only line: later than a line that surely began here, so it began here, too.
        let both = [mark(1, 1, true), mark(1, 2, true), mark(2, 3, true), mark(1, 4, true)];
        assert_eq!(locate(&both, false, 3), at(1, 2, 3));
        let torn = [mark(1, 2, true), mark(1, 3, true), mark(2, 1, true), mark(1, 4, true)];
        assert_eq!(locate(&torn, false, 2), Start::Unknown, "it began before all that is seen");
        assert_eq!(locate(&torn, false, 1), at(1, 4, 1));
        assert_eq!(locate(&[], true, 1), Start::Beginning);
    }

    proptest! {
        /// However many pieces are looked at: the last lines are exactly the last lines.
        #[test]
        fn the_tail_is_exact(
            cuts in prop::collection::vec((1u8..3, 1usize..4), 0..30), lines in 1usize..12, window in 1usize..60,
        ) {
            // One line after the other, each of some pieces.
            let mut pieces = Vec::new();
            for (second, (channel, count)) in cuts.iter().enumerate() {
                for part in 0..*count {
                    let end = if part + 1 == *count { "\n" } else { "" };
                    pieces.push(piece(*channel, second as u32, &format!("{second}.{part}{end}")));
                }
            }
            let seen = &pieces[pieces.len().saturating_sub(window)..];
            let marks: Vec<Mark> = seen.iter().map(Mark::of).collect();
            let start = locate(&marks, window > pieces.len(), lines);
            prop_assume!(start != Start::Unknown);
            let mut skip = Skip::new(&start);
            let shown: Vec<&Piece> = seen.iter().filter(|piece| skip.shows(piece)).collect();
            let first = cuts.len().saturating_sub(lines) as u32;
            let expected: Vec<&Piece> = pieces.iter().filter(|piece| piece.stamp >= stamp(first)).collect();
            prop_assert_eq!(shown, expected);
        }
    }
}
