//! One question, one answer.

use std::{net::IpAddr, sync::Arc};

use arc_swap::ArcSwap;
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query as Question, ResponseCode},
    rr::{LowerName, Record},
    serialize::binary::{BinDecodable as _, BinEncodable as _, BinEncoder},
};

use super::{
    answers::{Answer, Answers},
    forward::{AtOnce, Forwarder, Pending},
    wire::{Malformed, OPT_LENGTH, Query, code},
};

/// IN, and any: the cluster's names are in no other class.
const CLASSES: [u16; 2] = [1, 255];
/// The largest datagram of our own: what a client takes beyond it comes by TCP.
const LARGEST_DATAGRAM: u16 = 4_096;

/// Answers from the zone, or asks the node's nameservers.
pub(super) struct Handler {
    zone: Arc<ArcSwap<Answers>>,
    forwarder: Arc<Forwarder>,
}

/// What becomes of a message.
pub(super) enum Reply {
    /// It is not answered.
    Nothing,
    /// The answer.
    Now(Vec<u8>),
    /// Nameservers must be asked: see [`Handler::later`].
    Later(Box<Later>),
}

/// A question that waits for nameservers.
pub(super) struct Later {
    pending: Pending,
    /// What the client asked, and the aliases that lead to what is asked of others.
    aliases: Option<(Query, Vec<Record>)>,
    limit: u16,
}

/// An answer of our own.
struct Own {
    code: ResponseCode,
    authoritative: bool,
    answers: Vec<Record>,
    authorities: Vec<Record>,
}

impl Handler {
    pub(super) fn new(zone: Arc<ArcSwap<Answers>>, forwarder: Arc<Forwarder>) -> Self {
        Self { zone, forwarder }
    }

    /// Answers from what is known.
    pub(super) fn now(&self, bytes: &[u8], source: IpAddr, by_tcp: bool) -> Reply {
        let query = match Query::read(bytes) {
            Ok(query) => query,
            Err(Malformed::Silence) => return Reply::Nothing,
            Err(Malformed::Answer(answer)) => return Reply::Now(answer),
        };
        metrics::counter!("warren_netd_dns_questions_total").increment(1);
        let limit = if by_tcp { u16::MAX } else { query.limit() };
        let asked = Question::from_bytes(query.question());
        let Some(asked) = asked.ok().filter(|_| CLASSES.contains(&query.class)) else {
            return self.forward(query, source, by_tcp, limit, None);
        };
        let zone = self.zone.load_full();
        let nothing = |code, answers| Own {
            code,
            authoritative: true,
            answers,
            authorities: zone.authority().cloned().into_iter().collect(),
        };
        let name = LowerName::from(asked.name());
        let answer = zone.answer(&name, asked.query_type(), usize::from(query.id()));
        if query.edns.as_ref().is_some_and(|edns| edns.version > 0) && !matches!(answer, Answer::Foreign) {
            return Reply::Now(query.answer(code::BAD_VERSION, false));
        }
        let own = match answer {
            Answer::Foreign => return self.forward(query, source, by_tcp, limit, None),
            Answer::Circle => return Reply::Now(query.answer(code::SERVER_FAILURE, false)),
            Answer::Elsewhere(aliases, target) => {
                return match target.to_bytes().ok().and_then(|target| query.about(&target)) {
                    Some(about) => self.forward(about, source, by_tcp, limit, Some((query, aliases))),
                    None => Reply::Now(query.answer(code::SERVER_FAILURE, false)),
                };
            }
            Answer::NoName(aliases) => nothing(ResponseCode::NXDomain, aliases),
            Answer::Records(aliases, records) if records.is_empty() => {
                nothing(ResponseCode::NoError, aliases)
            }
            Answer::Records(mut answers, records) => {
                answers.extend(records);
                Own { code: ResponseCode::NoError, authoritative: true, answers, authorities: Vec::new() }
            }
        };
        let limit = if by_tcp { limit } else { limit.min(LARGEST_DATAGRAM) };
        Reply::Now(encode(&query, &own, limit))
    }

    fn forward(
        &self,
        query: Query,
        source: IpAddr,
        by_tcp: bool,
        limit: u16,
        aliases: Option<(Query, Vec<Record>)>,
    ) -> Reply {
        // With aliases the whole answer is read here, so it must be whole.
        let by_tcp = by_tcp || aliases.is_some();
        match self.forwarder.begin(query.clone(), source, by_tcp) {
            AtOnce::Said(answer) => Reply::Now(present(answer, &query, aliases, limit)),
            AtOnce::Pending(pending) => Reply::Later(Box::new(Later { pending, aliases, limit })),
        }
    }

    /// Waits for nameservers.
    pub(super) async fn later(&self, later: Later) -> Vec<u8> {
        let Later { pending, aliases, limit } = later;
        let query = pending.query().clone();
        present(self.forwarder.finish(pending).await, &query, aliases, limit)
    }
}

/// Makes what nameservers said the client's answer.
fn present(answer: Vec<u8>, query: &Query, aliases: Option<(Query, Vec<Record>)>, limit: u16) -> Vec<u8> {
    let Some((client, mut answers)) = aliases else {
        return if answer.len() > usize::from(limit) { query.answer(code::NO_ERROR, true) } else { answer };
    };
    let Ok(told) = Message::from_vec(&answer) else { return client.answer(code::SERVER_FAILURE, false) };
    answers.extend(told.answers);
    let code = told.metadata.response_code;
    encode(&client, &Own { code, authoritative: false, answers, authorities: told.authorities }, limit)
}

/// An answer to `query` of `limit` bytes at most; what does not fit is left out and said to be.
fn encode(query: &Query, own: &Own, limit: u16) -> Vec<u8> {
    let mut message = Message::new(query.id(), MessageType::Response, OpCode::Query);
    message.metadata.response_code = own.code;
    message.metadata.authoritative = own.authoritative;
    message.metadata.recursion_available = true;
    message.metadata.recursion_desired = query.wants_recursion();
    message.metadata.checking_disabled = query.disables_checking();
    let Ok(question) = Question::from_bytes(query.question()) else {
        return query.answer(code::FORMAT_ERROR, false);
    };
    message.add_query(question);
    message.insert_answers(own.answers.clone());
    message.insert_authorities(own.authorities.clone());
    let mut bytes = Vec::with_capacity(512);
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_max_size(limit - if query.edns.is_some() { OPT_LENGTH } else { 0 });
    match message.emit(&mut encoder) {
        Ok(()) => query.finish(bytes),
        Err(error) => {
            tracing::debug!(%error, "a DNS answer cannot be written");
            query.answer(code::SERVER_FAILURE, false)
        }
    }
}
