//! One question, one answer.

use std::sync::Arc;

use arc_swap::ArcSwap;
use hickory_server::{
    net::runtime::Time,
    proto::{
        op::{Edns, Metadata, OpCode, ResponseCode},
        rr::{LowerName, Record, RecordType},
    },
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
    zone_handler::MessageResponseBuilder,
};

use super::{
    answers::{Answer, Answers},
    forward::Forwarder,
};

/// What fits into one datagram on every path; longer answers are asked for again by TCP.
const DATAGRAM: u16 = 1_232;

/// Answers from the zone, or asks the node's nameservers.
pub(super) struct Handler {
    zone: Arc<ArcSwap<Answers>>,
    forwarder: Arc<Forwarder>,
}

#[derive(Default)]
struct Response {
    code: ResponseCode,
    authoritative: bool,
    answers: Vec<Record>,
    authorities: Vec<Record>,
}

impl Handler {
    pub(super) fn new(zone: Arc<ArcSwap<Answers>>, forwarder: Arc<Forwarder>) -> Self {
        Self { zone, forwarder }
    }

    async fn respond(&self, request: &Request) -> Response {
        let Ok(info) = request.request_info() else {
            return Response { code: ResponseCode::FormErr, ..Response::default() };
        };
        if info.metadata.op_code != OpCode::Query {
            return Response { code: ResponseCode::NotImp, ..Response::default() };
        }
        metrics::counter!("warren_netd_dns_questions_total").increment(1);
        let turn = usize::from(info.metadata.id);
        self.look_up(info.query.name(), info.query.query_type(), turn).await
    }

    async fn look_up(&self, name: &LowerName, kind: RecordType, turn: usize) -> Response {
        let zone = self.zone.load_full();
        let nothing = |code| Response {
            code,
            authoritative: true,
            answers: Vec::new(),
            authorities: zone.authority().cloned().into_iter().collect(),
        };
        match zone.answer(name, kind, turn) {
            Answer::NoName => nothing(ResponseCode::NXDomain),
            Answer::Records(answers) if answers.is_empty() => nothing(ResponseCode::NoError),
            Answer::Records(answers) => Response { authoritative: true, answers, ..Response::default() },
            Answer::Foreign => self.forward(name, kind).await,
            Answer::Alias(alias, target) => {
                let target = LowerName::from(target);
                // An alias of an alias inside of the zone is not followed further: it could be a circle.
                let mut response = match zone.answer(&target, kind, turn) {
                    Answer::Foreign => self.forward(&target, kind).await,
                    Answer::Records(answers) => Response { answers, ..Response::default() },
                    Answer::NoName | Answer::Alias(..) => Response::default(),
                };
                response.answers.insert(0, *alias);
                response
            }
        }
    }

    async fn forward(&self, name: &LowerName, kind: RecordType) -> Response {
        let told = self.forwarder.ask(name.into(), kind).await;
        Response {
            code: told.code,
            authoritative: false,
            answers: told.answers,
            authorities: told.authorities,
        }
    }
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut responder: R,
    ) -> ResponseInfo {
        let response = self.respond(request).await;
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = response.code;
        metadata.authoritative = response.authoritative;
        metadata.recursion_available = true;
        let edns = request.edns.as_ref().map(|asked| {
            let mut edns = Edns::new();
            edns.set_max_payload(asked.max_payload().clamp(512, DATAGRAM));
            edns
        });
        let builder = MessageResponseBuilder::new(&request.queries, edns.as_ref());
        let message = builder.build(metadata, response.answers.iter(), response.authorities.iter(), [], []);
        match responder.send_response(message).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, "a DNS answer was not sent");
                let counts = hickory_server::proto::op::HeaderCounts::default();
                hickory_server::proto::op::Header { metadata, counts }.into()
            }
        }
    }
}
