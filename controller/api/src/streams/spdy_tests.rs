//! The codec against itself, against bytes that kubectl sent, and against anything.

use proptest::{collection::vec, prelude::*};

use super::*;

fn frames_of(decoder: &mut Decoder, bytes: &[u8]) -> Result<Vec<Frame>, SpdyError> {
    decoder.buffer().extend_from_slice(bytes);
    let mut frames = Vec::new();
    while let Some(frame) = decoder.next()? {
        frames.push(frame);
    }
    Ok(frames)
}

/// Pieces of one data frame count as one.
fn joined(frames: Vec<Frame>) -> Vec<Frame> {
    let mut all: Vec<Frame> = Vec::new();
    for frame in frames {
        match (all.last_mut(), frame) {
            (
                Some(Frame::Data { stream, fin: fin @ false, data }),
                Frame::Data { stream: next, fin: last, data: more },
            ) if *stream == next => {
                *data = [data.as_ref(), more.as_ref()].concat().into();
                *fin = last;
            }
            (_, frame) => all.push(frame),
        }
    }
    all
}

#[test]
fn the_dictionary_is_the_protocols() {
    assert_eq!(DICTIONARY.len(), 1423);
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in DICTIONARY.iter() {
        a = (a + u32::from(*byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    // Adler-32, as every SPDY/3 header block begins with it.
    assert_eq!(b << 16 | a, 0xe3c6_a7c2);
    let mut out = BytesMut::new();
    Encoder::new().encode(&Frame::SynReply { stream: 1, fin: false, headers: Vec::new() }, &mut out);
    assert_eq!(out[14..18], 0xe3c6_a7c2_u32.to_be_bytes(), "the dictionary is announced");
}

#[test]
fn headers_share_one_compression() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    for (stream, kind) in [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "stderr")] {
        let headers = vec![("streamtype".to_owned(), kind.to_owned())];
        let frame = Frame::SynStream { stream, fin: stream == 1, headers };
        let mut out = BytesMut::new();
        encoder.encode(&frame, &mut out);
        assert_eq!(frames_of(&mut decoder, &out).unwrap(), [frame]);
    }
    assert!(decoder.is_between_frames());
}

#[test]
fn a_long_data_frame_is_handed_on_as_it_comes() {
    let mut decoder = Decoder::new();
    // Announces 16 MiB; what has come is given away at once.
    let mut bytes = vec![0, 0, 0, 5, 1, 0xff, 0xff, 0xff];
    bytes.extend_from_slice(b"abc");
    let frames = frames_of(&mut decoder, &bytes).unwrap();
    assert_eq!(frames, [Frame::Data { stream: 5, fin: false, data: "abc".into() }]);
    assert!(decoder.buffer().is_empty() && !decoder.is_between_frames());
}

#[test]
fn what_is_no_spdy_is_refused() {
    let refused = |bytes: &[u8]| frames_of(&mut Decoder::new(), bytes).unwrap_err();
    assert!(matches!(refused(&[0x80, 2, 0, 1, 0, 0, 0, 0]), SpdyError::Version(2)));
    assert!(matches!(refused(&[0x80, 3, 0, 1, 0, 0xff, 0, 0]), SpdyError::TooLong(_)));
    assert!(matches!(refused(&[0x80, 3, 0, 6, 0, 0, 0, 1, 9]), SpdyError::TooShort(6)));
    let garbage = [0x80, 3, 0, 2, 0, 0, 0, 8, 0, 0, 0, 1, 9, 9, 9, 9];
    assert!(matches!(refused(&garbage), SpdyError::Compression));
}

#[test]
fn a_bomb_of_headers_is_not_unpacked() {
    let mut out = BytesMut::new();
    let headers = vec![("a".to_owned(), "x".repeat(4 << 20))];
    Encoder::new().encode(&Frame::SynReply { stream: 1, fin: false, headers }, &mut out);
    assert!(out.len() < MOST_CONTROL, "{} bytes: the test is void", out.len());
    let error = frames_of(&mut Decoder::new(), &out).unwrap_err();
    assert!(matches!(error, SpdyError::TooManyHeaders), "{error}");
}

fn frame() -> impl Strategy<Value = Frame> {
    let stream = 1..0x7fff_ffff_u32;
    let headers = || vec(("[a-z]{1,12}", "[ -~]{0,40}"), 0..6);
    prop_oneof![
        (stream.clone(), any::<bool>(), headers()).prop_map(|(stream, fin, headers)| Frame::SynStream {
            stream,
            fin,
            headers
        }),
        (stream.clone(), any::<bool>(), headers()).prop_map(|(stream, fin, headers)| Frame::SynReply {
            stream,
            fin,
            headers
        }),
        (stream.clone(), any::<u32>()).prop_map(|(stream, status)| Frame::Reset { stream, status }),
        any::<u32>().prop_map(Frame::Ping),
        Just(Frame::GoAway),
        (stream, any::<bool>(), vec(any::<u8>(), 0..2000)).prop_map(|(stream, fin, data)| Frame::Data {
            stream,
            fin,
            data: data.into()
        }),
    ]
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(frames in vec(frame(), 0..20), cuts in vec(1..700_usize, 1..40)) {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        let mut bytes = BytesMut::new();
        for frame in &frames {
            encoder.encode(frame, &mut bytes);
        }
        let mut read = Vec::new();
        for cut in cuts.iter().cycle() {
            if bytes.is_empty() {
                break;
            }
            let part = bytes.split_to((*cut).min(bytes.len()));
            read.extend(frames_of(&mut decoder, &part).unwrap());
        }
        prop_assert_eq!(joined(read), joined(frames));
        prop_assert!(decoder.is_between_frames());
    }

    #[test]
    fn arbitrary_bytes_neither_panic_nor_pile_up(parts in vec(vec(any::<u8>(), 0..400), 0..40)) {
        let mut decoder = Decoder::new();
        for part in parts {
            if frames_of(&mut decoder, &part).is_err() {
                break;
            }
            prop_assert!(decoder.buffer().len() <= MOST_CONTROL + 8);
            // What is allocated, too: it follows what was sent, not what was announced.
            prop_assert!(decoder.buffer().capacity() <= 2 * (MOST_CONTROL + 8));
        }
    }

    #[test]
    fn arbitrary_header_blocks_do_not_panic(kind in 1..9_u8, fin in any::<bool>(), payload in vec(any::<u8>(), 0..300)) {
        // Behind a true beginning of a zlib stream with the dictionary, so that inflation is reached.
        for start in [&[][..], &[0x78, 0xbb, 0xe3, 0xc6, 0xa7, 0xc2]] {
            let mut body = vec![0, 0, 0, 1];
            body.extend(if kind == 1 { vec![0; 6] } else { Vec::new() });
            body.extend_from_slice(start);
            body.extend_from_slice(&payload);
            let mut bytes = vec![0x80, 3, 0, kind, u8::from(fin), 0];
            bytes.extend_from_slice(&u16::try_from(body.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(&body);
            let _ = frames_of(&mut Decoder::new(), &bytes);
        }
    }
}
