//! Feeds on the wire: what is sent was encoded long before, once for all who get it.
//!
//! The generated service would encode a message of its own for each consumer. So the router serves this one method
//! itself, and hands the body of a [`FeedBatch`] on as it is.

use std::{future::Future, pin::Pin, sync::Arc};

use axum::{body::Body, extract, response};
use bytes::{BufMut as _, Bytes};
use prost::Message as _;
use tonic::{
    Request, Response, Status, Streaming,
    codec::{Codec, EncodeBuf, Encoder},
    server::{Grpc, StreamingService},
};
use warren_proto::{
    bounded,
    control::{FeedBatch, FeedRequest},
};

use crate::{Nodes, control, feed, gate, views::Part};

/// The method's path.
pub(crate) const FEED: &str = "/warren.control.v1.Control/Feed";

/// A [`FeedBatch`], encoded.
pub(crate) struct Batch {
    head: Vec<u8>,
    body: [Bytes; 2],
}

impl Batch {
    pub(crate) fn new(epoch: u64, part: Part) -> Self {
        let Part { revision, snapshot, complete, body, .. } = part;
        let head = FeedBatch { epoch, revision, snapshot, complete, ..FeedBatch::default() };
        Self { head: head.encode_to_vec(), body }
    }

    /// What its reader will see.
    #[cfg(test)]
    pub(crate) fn decode(self) -> FeedBatch {
        let [first, second] = self.body;
        FeedBatch::decode(&[&self.head[..], &first, &second].concat()[..]).expect("a batch")
    }
}

/// What is asked is measured and decoded as ever; what is answered is passed on.
#[derive(Default)]
struct Encoded;

impl Codec for Encoded {
    type Encode = Batch;
    type Decode = FeedRequest;
    type Encoder = Self;
    type Decoder = <Decoded as Codec>::Decoder;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self::Decoder {
        Decoded::default().decoder()
    }
}

type Decoded = bounded::Codec<FeedBatch, FeedRequest>;

impl Encoder for Encoded {
    type Item = Batch;
    type Error = Status;

    fn encode(&mut self, batch: Batch, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&batch.head);
        batch.body.into_iter().for_each(|piece| buffer.put(piece));
        Ok(())
    }
}

struct Feeds(Arc<Nodes>);

impl StreamingService<FeedRequest> for Feeds {
    type Response = Batch;
    type ResponseStream = feed::Batches;
    type Future = Pin<Box<dyn Future<Output = Result<Response<feed::Batches>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<FeedRequest>>) -> Self::Future {
        let nodes = Arc::clone(&self.0);
        Box::pin(async move {
            let caller = control::caller(request.extensions())?;
            feed::open(&nodes, caller, request.into_inner()).await.map(Response::new)
        })
    }
}

/// Serves the method.
pub(crate) async fn serve(
    extract::State(nodes): extract::State<Arc<Nodes>>,
    request: extract::Request,
) -> response::Response {
    let mut grpc = Grpc::new(Encoded).max_decoding_message_size(gate::LONGEST);
    grpc.streaming(Feeds(nodes), request).await.map(Body::new)
}
