//! DNS messages as bytes: as much of them as must be known to pass them on unchanged.
//!
//! What a client asks goes to a nameserver in the client's words, and what that answers comes back in its own: no
//! record is read, so none is lost or put in another order. Nothing here panics, and nothing is believed: every
//! length is checked.

use std::ops::Range;

/// The length of a header.
pub(super) const HEADER: usize = 12;
/// What a datagram may hold for a client that says nothing.
pub(super) const SMALLEST: u16 = 512;
const LONGEST_NAME: usize = 255;
/// The longest question, with all that EDNS may add to it: many of them may wait.
const LONGEST_QUESTION: usize = 2_048;
const OPT: u16 = 41;
const SOA: u16 = 6;

const RESPONSE: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const TRUNCATED: u16 = 0x0200;
const RECURSION_DESIRED: u16 = 0x0100;
const RECURSION_AVAILABLE: u16 = 0x0080;
const CHECKING_DISABLED: u16 = 0x0010;

/// Response codes of RFC 1035 and 6891.
pub(super) mod code {
    pub(crate) const NO_ERROR: u16 = 0;
    pub(crate) const FORMAT_ERROR: u16 = 1;
    pub(crate) const SERVER_FAILURE: u16 = 2;
    pub(crate) const NO_NAME: u16 = 3;
    pub(crate) const NOT_IMPLEMENTED: u16 = 4;
    pub(crate) const REFUSED: u16 = 5;
    pub(crate) const BAD_VERSION: u16 = 16;
}

/// What a client says about itself by EDNS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edns {
    /// Where the record is.
    pub(super) span: Range<usize>,
    /// The largest datagram that it takes.
    pub(super) size: u16,
    pub(super) version: u8,
    /// It wants signatures.
    pub(super) dnssec: bool,
    /// It sent options.
    pub(super) options: bool,
}

/// A question that can be passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Query {
    bytes: Vec<u8>,
    /// The end of the question.
    end: usize,
    pub(super) kind: u16,
    pub(super) class: u16,
    pub(super) edns: Option<Edns>,
}

/// Why a message is no question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Malformed {
    /// It must not be answered: it may be an answer itself, and two servers would never end.
    Silence,
    /// The answer that says so.
    Answer(Vec<u8>),
}

impl Query {
    /// Reads a client's message.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let flags = word(bytes, 2).filter(|flags| bytes.len() >= HEADER && flags & RESPONSE == 0);
        let flags = flags.ok_or(Malformed::Silence)?;
        if flags & OPCODE != 0 {
            return Err(Malformed::Answer(headless(bytes, flags, code::NOT_IMPLEMENTED)));
        }
        Self::parse(bytes).ok_or_else(|| Malformed::Answer(headless(bytes, flags, code::FORMAT_ERROR)))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        if word(bytes, 4)? != 1 || bytes.len() > LONGEST_QUESTION {
            return None;
        }
        let name_end = plain_name(bytes, HEADER)?;
        let end = name_end + 4;
        let (kind, class) = (word(bytes, name_end)?, word(bytes, name_end + 2)?);
        let mut edns = None;
        for record in records(bytes, end) {
            let record = record?;
            if record.kind == OPT {
                if edns.is_some() || record.section != 2 {
                    return None;
                }
                edns = Some(Edns {
                    span: record.start..record.data.end,
                    size: record.class,
                    version: *bytes.get(record.ttl + 1)?,
                    dnssec: word(bytes, record.ttl + 2)? & 0x8000 != 0,
                    options: !record.data.is_empty(),
                });
            }
        }
        Some(Self { bytes: bytes.to_vec(), end, kind, class, edns })
    }

    /// A question of our own about another name, in the words of this one: flags, type, class and EDNS without options.
    /// `name` is in wire form.
    pub(super) fn about(&self, name: &[u8]) -> Option<Self> {
        let mut bytes = self.bytes.get(..HEADER)?.to_vec();
        bytes.get_mut(6..HEADER)?.fill(0);
        bytes.extend(name);
        bytes.extend(self.bytes.get(self.end - 4..self.end)?);
        if let Some(edns) = &self.edns {
            bytes[11] = 1;
            append_opt(&mut bytes, edns.size, edns.dnssec, 0);
        }
        Self::parse(&bytes)
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Name, type and class as they were sent.
    pub(super) fn question(&self) -> &[u8] {
        &self.bytes[HEADER..self.end]
    }

    /// What questions have in common that have the same answer: everything but the identifier and the name's case.
    pub(super) fn key(&self) -> Vec<u8> {
        let mut key = self.bytes[2..].to_vec();
        key[HEADER - 2..self.end - 6].make_ascii_lowercase();
        key
    }

    pub(super) fn id(&self) -> u16 {
        word(&self.bytes, 0).unwrap_or_default()
    }

    fn flags(&self) -> u16 {
        word(&self.bytes, 2).unwrap_or_default()
    }

    pub(super) fn wants_recursion(&self) -> bool {
        self.flags() & RECURSION_DESIRED != 0
    }

    pub(super) fn disables_checking(&self) -> bool {
        self.flags() & CHECKING_DISABLED != 0
    }

    /// The largest datagram that the client takes.
    pub(super) fn limit(&self) -> u16 {
        self.edns.as_ref().map_or(SMALLEST, |edns| edns.size.max(SMALLEST))
    }

    /// The same without EDNS; `None` when it has none, or when what comes behind may depend on it.
    pub(super) fn without_edns(&self) -> Option<Self> {
        let edns = self.edns.as_ref().filter(|edns| edns.span.end == self.bytes.len())?;
        let mut bytes = self.bytes[..edns.span.start].to_vec();
        let additional = word(&bytes, 10)?.checked_sub(1)?;
        bytes[10..12].copy_from_slice(&additional.to_be_bytes());
        Some(Self { bytes, edns: None, ..self.clone() })
    }

    /// The same under another identifier.
    pub(super) fn with_id(&self, id: u16) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes[..2].copy_from_slice(&id.to_be_bytes());
        bytes
    }

    /// An answer without records: an error, or the word to come again by TCP.
    pub(super) fn answer(&self, code: u16, truncated: bool) -> Vec<u8> {
        let mut flags = RESPONSE | RECURSION_AVAILABLE;
        flags |= self.flags() & (RECURSION_DESIRED | CHECKING_DISABLED);
        flags |= (code & 0x000f) | if truncated { TRUNCATED } else { 0 };
        let mut bytes = self.bytes[..2].to_vec();
        bytes.extend(flags.to_be_bytes());
        bytes.extend([0, 1, 0, 0, 0, 0, 0, u8::from(self.edns.is_some())]);
        bytes.extend(self.question());
        if let Some(edns) = &self.edns {
            append_opt(&mut bytes, super::DATAGRAM, edns.dnssec, (code >> 4) as u8);
        }
        bytes
    }

    /// Makes an answer of `bytes`, which lack EDNS, that of this client.
    pub(super) fn finish(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        // The same name, in the client's case.
        if let Some(span) = bytes.get_mut(HEADER..self.end) {
            span.copy_from_slice(self.question());
        }
        if let Some(edns) = &self.edns
            && bytes.len() >= HEADER
        {
            bytes[11] = bytes[11].saturating_add(1);
            append_opt(&mut bytes, super::DATAGRAM, edns.dnssec, 0);
        }
        bytes
    }
}

/// The length of an OPT record without options.
pub(super) const OPT_LENGTH: u16 = 11;

fn append_opt(bytes: &mut Vec<u8>, size: u16, dnssec: bool, code_high: u8) {
    bytes.push(0);
    bytes.extend(OPT.to_be_bytes());
    bytes.extend(size.to_be_bytes());
    bytes.extend([code_high, 0, if dnssec { 0x80 } else { 0 }, 0, 0, 0]);
}

/// An answer to what has no question.
fn headless(bytes: &[u8], flags: u16, code: u16) -> Vec<u8> {
    let mut answer = bytes[..2].to_vec();
    answer.extend((RESPONSE | (flags & (OPCODE | RECURSION_DESIRED)) | code).to_be_bytes());
    answer.extend([0; 8]);
    answer
}

/// What a nameserver answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Response {
    bytes: Vec<u8>,
    /// Where the records' times to live are.
    times: Vec<usize>,
    /// Seconds for which it may be given again; `None` when it must not be.
    pub(super) lifetime: Option<u32>,
    pub(super) code: u16,
    pub(super) truncated: bool,
}

impl Response {
    /// Reads an answer to `query` under `id`; `None` when it is none: a sender guesses, or is late.
    pub(super) fn read(bytes: Vec<u8>, query: &Query, id: u16) -> Option<Self> {
        let flags = word(&bytes, 2)?;
        if bytes.len() < HEADER || word(&bytes, 0)? != id || flags & RESPONSE == 0 {
            return None;
        }
        let (code, truncated) = (flags & 0x000f, flags & TRUNCATED != 0);
        let mut response = Self { bytes, times: Vec::new(), lifetime: None, code, truncated };
        if word(&response.bytes, 4)? == 0 {
            // Servers that do not understand a question may not repeat it.
            let fails = ![code::NO_ERROR, code::NO_NAME].contains(&code);
            return fails.then_some(response);
        }
        let (asked, told) = (query.question(), response.bytes.get(HEADER..query.end)?);
        let (name, rest) = asked.split_at(asked.len() - 4);
        if !told.starts_with_ignoring_case(name) || told.get(name.len()..)? != rest {
            return None;
        }
        response.read_times(query.end);
        Some(response)
    }

    /// Notes times to live. Where a record cannot be read, the answer is passed on, and not kept.
    fn read_times(&mut self, end: usize) {
        let (mut least, mut negative, mut answers) = (u32::MAX, None, false);
        let mut times = Vec::new();
        for record in records(&self.bytes, end) {
            let Some(record) = record else { return };
            if record.kind == OPT {
                continue;
            }
            let Some(time) = long(&self.bytes, record.ttl) else { return };
            times.push(record.ttl);
            least = least.min(time);
            answers |= record.section == 0;
            if record.kind == SOA && record.section == 1 {
                // The last of its five numbers is how long nothing may be remembered.
                let minimum = record.data.end.checked_sub(4).and_then(|at| long(&self.bytes, at));
                negative = minimum.map(|minimum| minimum.min(time));
            }
        }
        self.times = times;
        self.lifetime = match self.code {
            code::NO_ERROR if answers => Some(least),
            code::NO_ERROR | code::NO_NAME => negative.map(|seconds| seconds.min(least)),
            _ => None,
        };
        if self.truncated {
            self.lifetime = None;
        }
    }

    /// The answer for another who asked the same, `age` seconds after it came.
    pub(super) fn answer_to(&self, query: &Query, age: u32) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes[..2].copy_from_slice(&query.id().to_be_bytes());
        if word(&bytes, 4) == Some(1)
            && let Some(span) = bytes.get_mut(HEADER..query.end)
        {
            span.copy_from_slice(query.question());
        }
        for at in self.times.iter().filter(|_| age > 0) {
            if let Some(time) = long(&bytes, *at) {
                bytes[*at..*at + 4].copy_from_slice(&time.saturating_sub(age).to_be_bytes());
            }
        }
        bytes
    }

    /// Its length in bytes.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
}

trait IgnoringCase {
    fn starts_with_ignoring_case(&self, start: &[u8]) -> bool;
}

impl IgnoringCase for [u8] {
    /// The lengths between labels are below 64, where no letters are.
    fn starts_with_ignoring_case(&self, start: &[u8]) -> bool {
        self.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start))
    }
}

/// Where the parts of a record are.
struct RecordSpan {
    start: usize,
    /// 0 for answers, 1 for authorities, 2 for what is additional.
    section: u8,
    kind: u16,
    class: u16,
    ttl: usize,
    data: Range<usize>,
}

/// The records of a message whose questions end at `at`; `None` once one cannot be read.
fn records(bytes: &[u8], at: usize) -> impl Iterator<Item = Option<RecordSpan>> {
    let count = |at| usize::from(word(bytes, at).unwrap_or_default());
    let sections = [(0u8, count(6)), (1, count(8)), (2, count(10))];
    let mut sections = sections.into_iter().flat_map(|(section, count)| std::iter::repeat_n(section, count));
    let mut next = Some(at);
    std::iter::from_fn(move || {
        let (section, start) = (sections.next()?, next?);
        let span = span(bytes, start, section);
        next = span.as_ref().map(|span| span.data.end);
        Some(span)
    })
}

fn span(bytes: &[u8], start: usize, section: u8) -> Option<RecordSpan> {
    let name_end = any_name(bytes, start)?;
    let length = usize::from(word(bytes, name_end + 8)?);
    let data = name_end + 10..name_end + 10 + length;
    bytes.get(data.clone())?;
    let (kind, class) = (word(bytes, name_end)?, word(bytes, name_end + 2)?);
    Some(RecordSpan { start, section, kind, class, ttl: name_end + 4, data })
}

/// The end of a name without a pointer.
fn plain_name(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        let length = usize::from(*bytes.get(at)?);
        if length > 63 {
            return None;
        }
        at += 1 + length;
        if at - start > LONGEST_NAME {
            return None;
        }
        if length == 0 {
            return Some(at);
        }
    }
}

/// The end of a name that may end with a pointer, which is not followed.
fn any_name(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        let length = usize::from(*bytes.get(at)?);
        match length {
            0 => return Some(at + 1),
            1..=63 => at += 1 + length,
            0xc0.. => return bytes.get(at + 1).map(|_| at + 2),
            _ => return None,
        }
        if at - start > LONGEST_NAME {
            return None;
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::{
        op::{Edns as HickoryEdns, Message, MessageType, OpCode, Query as HickoryQuery},
        rr::{Name, RData, Record, RecordType, rdata::A},
    };
    use proptest::prelude::*;

    fn message(name: &str, kind: RecordType) -> Message {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(HickoryQuery::query(Name::from_ascii(name).expect("a name"), kind));
        message
    }

    fn query(name: &str) -> Query {
        Query::read(&message(name, RecordType::A).to_vec().expect("encoded")).expect("a question")
    }

    fn with_edns(name: &str, size: u16) -> Query {
        let mut message = message(name, RecordType::A);
        let mut edns = HickoryEdns::new();
        edns.set_max_payload(size).set_dnssec_ok(true);
        message.set_edns(edns);
        Query::read(&message.to_vec().expect("encoded")).expect("a question")
    }

    fn answered(query: &Query, id: u16, ttls: &[u32]) -> Vec<u8> {
        let mut answer = Message::from_vec(query.bytes()).expect("a question").into_response();
        answer.metadata.id = id;
        answer.edns = None;
        for ttl in ttls {
            let owner = answer.queries[0].name().clone();
            answer.add_answer(Record::from_rdata(owner, *ttl, RData::A(A::new(192, 0, 2, 1))));
        }
        answer.to_vec().expect("encoded")
    }

    #[test]
    fn an_answer_comes_back_in_the_clients_words() {
        let (asked, other) = (query("wWw.ExAmPlE.com."), query("www.example.COM."));
        assert_eq!(asked.key(), other.key());
        let response = Response::read(answered(&asked, 99, &[60, 30]), &asked, 99).expect("an answer");
        assert_eq!((response.code, response.lifetime), (0, Some(30)));
        let given = Message::from_vec(&response.answer_to(&other, 10)).expect("decoded");
        assert_eq!(given.metadata.id, 7);
        assert_eq!(given.queries[0].name().to_ascii(), "www.example.COM.");
        assert_eq!(given.answers.iter().map(|record| record.ttl).collect::<Vec<_>>(), [50, 20]);
    }

    #[test]
    fn only_the_answer_to_the_question_is_believed() {
        let asked = query("www.example.com.");
        assert!(Response::read(answered(&asked, 1, &[60]), &asked, 2).is_none(), "another identifier");
        assert!(Response::read(answered(&query("www.example.org."), 1, &[60]), &asked, 1).is_none());
        assert!(Response::read(asked.with_id(1), &asked, 1).is_none(), "a question");
        let other = Query::read(&message("www.example.com.", RecordType::AAAA).to_vec().expect("encoded"));
        assert!(Response::read(answered(&other.expect("a question"), 1, &[]), &asked, 1).is_none());
    }

    #[test]
    fn edns_is_read_taken_away_and_given_back() {
        let asked = with_edns("www.example.com.", 1_400);
        let edns = asked.edns.clone().expect("EDNS");
        assert_eq!((edns.size, edns.version, edns.dnssec, edns.options), (1_400, 0, true, false));
        assert_eq!((asked.limit(), query("a.").limit(), with_edns("a.", 100).limit()), (1_400, 512, 512));
        let plain = asked.without_edns().expect("without");
        assert_eq!(plain.bytes(), query("www.example.com.").bytes());
        assert_eq!(plain.without_edns(), None);
        let error = Message::from_vec(&asked.answer(code::BAD_VERSION, false)).expect("decoded");
        assert_eq!(u16::from(error.metadata.response_code), code::BAD_VERSION);
        assert!(error.edns.is_some_and(|edns| edns.flags().dnssec_ok));
        let error = Message::from_vec(&query("a.").answer(code::SERVER_FAILURE, true)).expect("decoded");
        assert!(error.edns.is_none() && error.metadata.truncation && error.metadata.recursion_desired);
        let about = asked.about(b"\x03xyz\x00").expect("another");
        let about = Message::from_vec(about.bytes()).expect("decoded");
        assert_eq!(about.queries[0].name().to_ascii(), "xyz.");
        assert_eq!(about.edns.map(|edns| edns.max_payload()), Some(1_400));
    }

    #[test]
    fn what_is_no_question_is_told_so_or_not_answered() {
        assert_eq!(Query::read(&[0; 11]), Err(Malformed::Silence));
        assert_eq!(Query::read(&answered(&query("a."), 1, &[])), Err(Malformed::Silence));
        let mut two = query("a.").bytes().to_vec();
        two[5] = 2;
        let mut long = query("a.").bytes().to_vec();
        long.resize(LONGEST_QUESTION + 1, 0);
        for bytes in [two, long] {
            let Err(Malformed::Answer(answer)) = Query::read(&bytes) else { panic!("read") };
            assert_eq!(answer[3] & 0xf, 1);
        }
        let mut update = query("a.").bytes().to_vec();
        update[2] |= 0x28;
        let Err(Malformed::Answer(answer)) = Query::read(&update) else { panic!("an update") };
        assert_eq!((answer[3] & 0xf, answer[2] & 0x78), (4, 0x28));
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), id: u16, age: u32) {
            let asked = with_edns("www.example.com.", 1_232);
            if let Some(response) = Response::read(bytes.clone(), &asked, id) {
                let _ = response.answer_to(&asked, age);
            }
            if let Ok(query) = Query::read(&bytes) {
                let _ = (query.key(), query.without_edns(), query.answer(2, true), query.about(b"\x00"));
            }
            let _ = asked.finish(bytes);
        }

        /// Messages of which a byte was changed are read or refused; what is read is passed on whole.
        #[test]
        fn damaged_messages_do_no_harm(at in 0usize..80, value: u8, edns: bool) {
            let asked = if edns { with_edns("www.example.com.", 4_096) } else { query("www.example.com.") };
            let mut bytes = asked.bytes().to_vec();
            let length = bytes.len();
            bytes[at % length] = value;
            if let Ok(query) = Query::read(&bytes) {
                prop_assert_eq!(query.bytes(), &bytes[..]);
                let _ = (query.key(), query.without_edns(), query.answer(0, false), query.question());
            }
            let mut answer = answered(&asked, 5, &[1, 2, 3]);
            let length = answer.len();
            answer[at % length] = value;
            if let Some(response) = Response::read(answer.clone(), &asked, 5) {
                prop_assert_eq!(response.answer_to(&asked, 9).len(), answer.len());
            }
        }
    }
}
