//! The codec of every call: a request is measured before it is decoded.
//!
//! Two bytes of protobuf (`0a 00`) can stand for an item of hundreds of bytes in memory, so a limit on the bytes of a
//! message says little about its cost. Here the message is walked first, by the contract's own shape, and what it
//! would take once decoded is added up; one that is out of proportion is refused with nothing allocated.
//!
//! Only requests are measured: what answers is the controller, or a node's own netd.

use std::marker::PhantomData;

use prost::bytes::Buf as _;
use tonic::{
    Status,
    codec::{DecodeBuf, Decoder},
};
use tonic_prost::ProstEncoder;

/// What any message may take: a report about fifty pods that are being created, with many containers each, says little
/// about each of them.
const ALLOWANCE: usize = 2 << 20;
/// What a message may take besides, for each of its bytes. Reports about pods that run need half of it.
const PROPORTION: usize = 12;
/// What an entry of a map takes.
const MAP_ENTRY: usize = 96;
/// What a text takes besides its bytes: its place in a list, and what the allocator adds.
const TEXT: usize = 48;
/// A number in a list.
const NUMBER: usize = 16;

/// A message of the contract, as the walk needs it.
pub(crate) struct Shape {
    name: &'static str,
    /// In memory, without what it points to.
    size: usize,
    fields: &'static [Field],
}

struct Field {
    number: u32,
    repeated: bool,
    kind: Kind,
}

enum Kind {
    Number,
    Bytes,
    /// By its place among the shapes.
    Message(usize),
}

/// A message whose shape is known.
pub trait Shaped {
    /// Its place among the shapes.
    const SHAPE: usize;
}

/// A method of the contract.
#[derive(Debug)]
pub struct Method {
    /// As in the request's head: `/PACKAGE.SERVICE/METHOD`.
    pub path: &'static str,
    request: usize,
    /// The caller sends any number of messages.
    pub client_streams: bool,
    /// The answer is any number of messages.
    pub server_streams: bool,
}

impl Method {
    /// The full name of the message that is sent.
    pub fn request(&self) -> &'static str {
        SHAPES[self.request].name
    }

    /// The numbers of the message's fields that may hold any number of messages: what an attacker repeats.
    pub fn repeated_messages(&self) -> impl Iterator<Item = u32> {
        let fields = SHAPES[self.request].fields.iter();
        fields
            .filter(|field| field.repeated && matches!(field.kind, Kind::Message(_)))
            .map(|field| field.number)
    }
}

include!(concat!(env!("OUT_DIR"), "/contract.rs"));

/// Protobuf by prost, with requests measured first.
#[derive(Debug)]
pub struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: prost::Message + Send + 'static,
    U: prost::Message + Default + Shaped + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = Measuring<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        let is_request = METHODS.iter().any(|method| method.request == U::SHAPE);
        Measuring { is_request, message: PhantomData }
    }
}

/// Measures, then decodes.
#[derive(Debug)]
pub struct Measuring<U> {
    is_request: bool,
    message: PhantomData<U>,
}

impl<U: prost::Message + Default + Shaped> Decoder for Measuring<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        if self.is_request {
            // tonic hands over each message in one piece.
            if buffer.chunk().len() != buffer.remaining() {
                return Err(Status::internal("a message is in pieces"));
            }
            check(U::SHAPE, buffer.chunk()).map_err(|fault| {
                Status::invalid_argument(format!("the message {} {fault}", SHAPES[U::SHAPE].name))
            })?;
        }
        match U::decode(buffer) {
            Ok(message) => Ok(Some(message)),
            Err(error) => Err(Status::invalid_argument(format!("the message cannot be decoded: {error}"))),
        }
    }
}

/// Why a message is not decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Fault {
    #[error("holds too many items for its size")]
    Disproportionate,
    #[error("is damaged or cut off")]
    Damaged,
}

/// Refuses a message that would take too much once decoded.
fn check(shape: usize, message: &[u8]) -> Result<(), Fault> {
    let mut left = message.len().saturating_mul(PROPORTION).saturating_add(ALLOWANCE);
    walk(&SHAPES[shape], message, &mut left)
}

/// Takes from `left` what a message takes besides its own size. The depth is that of the contract, which has no circle.
fn walk(shape: &Shape, mut rest: &[u8], left: &mut usize) -> Result<(), Fault> {
    let take = |left: &mut usize, cost: usize| {
        *left = left.checked_sub(cost).ok_or(Fault::Disproportionate)?;
        Ok(())
    };
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        let field = shape.fields.iter().find(|field| u64::from(field.number) == tag >> 3);
        let payload = match tag & 7 {
            0 => {
                varint(&mut rest)?;
                if field.is_some_and(|field| field.repeated) {
                    take(left, NUMBER)?;
                }
                continue;
            }
            1 => split(&mut rest, 8)?,
            2 => {
                let length = varint(&mut rest)?;
                split(&mut rest, usize::try_from(length).map_err(|_| Fault::Damaged)?)?
            }
            5 => split(&mut rest, 4)?,
            // Groups, which protobuf has given up, and what never was.
            _ => return Err(Fault::Damaged),
        };
        // What is not in the contract is skipped by the decoder, too.
        let Some(field) = field else { continue };
        match field.kind {
            Kind::Bytes => take(left, payload.len().saturating_add(TEXT))?,
            // Packed.
            Kind::Number => take(left, payload.len().saturating_mul(NUMBER))?,
            Kind::Message(index) => {
                let inner = &SHAPES[index];
                if field.repeated {
                    // Twice: a list that grows has room for as many again.
                    take(left, inner.size.saturating_mul(2))?;
                }
                if tag & 7 == 2 {
                    walk(inner, payload, left)?;
                }
            }
        }
    }
    Ok(())
}

fn varint(rest: &mut &[u8]) -> Result<u64, Fault> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first().ok_or(Fault::Damaged)?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Fault::Damaged)
}

fn split<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], Fault> {
    let (head, after) = rest.split_at_checked(length).ok_or(Fault::Damaged)?;
    *rest = after;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::control::{
        ContainerState, ContainerStatus, EventReport, HeartbeatRequest, Image, NodeReport, PodStatus,
        PodsReport, Running, container_state::State,
    };

    fn measure<M: prost::Message + Shaped>(message: &M) -> Result<(), Fault> {
        check(M::SHAPE, &message.encode_to_vec())
    }

    fn pod(number: usize) -> PodStatus {
        let state = State::Running(Running { started_at: "2026-01-01T00:00:00Z".into() });
        let container = ContainerStatus {
            name: "c".into(),
            image: "registry.example/image:1".into(),
            state: Some(ContainerState { state: Some(state) }),
            ..ContainerStatus::default()
        };
        PodStatus {
            uid: format!("00000000-0000-0000-0000-{number:012}"),
            namespace: "default".into(),
            name: format!("web-{number}"),
            containers: vec![container; 3],
            ..PodStatus::default()
        }
    }

    #[test]
    fn true_reports_pass_however_many_pods_they_are_about() {
        let pods: Vec<_> = (0..2_000).map(pod).collect();
        let gone =
            pods.iter().map(|pod| PodStatus { containers: Vec::new(), gone: true, ..pod.clone() }).collect();
        let events = vec![EventReport { pod_name: "web".into(), ..EventReport::default() }; 50];
        assert_eq!(measure(&PodsReport { pods, events: events.clone() }), Ok(()));
        assert_eq!(measure(&PodsReport { pods: gone, events }), Ok(()), "the shortest of them");
        let images = vec![Image { names: vec!["nginx:1".into()], size_bytes: 50 << 20 }; 3_000];
        assert_eq!(measure(&NodeReport { images, ..NodeReport::default() }), Ok(()));
        assert_eq!(measure(&HeartbeatRequest::default()), Ok(()));
    }

    #[test]
    fn a_message_that_swells_is_refused_in_every_request_that_repeats_messages() {
        let mut seen = 0;
        for method in METHODS {
            for number in method.repeated_messages() {
                seen += 1;
                let tag = u8::try_from(number << 3 | 2).expect("a tag of one byte");
                for items in [1 << 16, 7 << 20] {
                    let bomb = [tag, 0].repeat(items);
                    assert_eq!(check(method.request, &bomb), Err(Fault::Disproportionate), "{}", method.path);
                }
                assert_eq!(check(method.request, &[tag, 0].repeat(20)), Ok(()), "{}", method.path);
            }
        }
        assert!(seen >= 5, "{seen}");
    }

    #[test]
    fn a_bomb_within_an_item_is_found() {
        // One pod with a million containers.
        let containers = [0x22, 0].repeat(1 << 20);
        let mut message = vec![0x0a];
        prost::encoding::encode_varint(containers.len() as u64, &mut message);
        message.extend(containers);
        assert_eq!(check(PodsReport::SHAPE, &message), Err(Fault::Disproportionate));
    }

    #[test]
    fn what_is_cut_off_or_senseless_is_no_message() {
        for damaged in
            [&[0x0a][..], &[0x0a, 5, 1], &[0xff; 11], &[0x0b, 0x0c], &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]]
        {
            assert_eq!(check(PodsReport::SHAPE, damaged), Err(Fault::Damaged), "{damaged:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_passes_is_decoded_or_refused_without_a_panic(
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400),
        ) {
            if check(PodsReport::SHAPE, &bytes).is_ok() {
                let _ = PodsReport::decode(&bytes[..]);
            }
        }
    }
}
