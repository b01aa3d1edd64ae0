//! The wire format: tags, numbers, lengths.

use super::Fault;

pub(super) const VARINT: u8 = 0;
pub(super) const FIXED64: u8 = 1;
pub(super) const BYTES: u8 = 2;
pub(super) const FIXED32: u8 = 5;

const LARGEST_FIELD: u64 = (1 << 29) - 1;

/// Reads the fields of one message.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

/// The value of a field as it came.
#[derive(Debug, Clone, Copy)]
pub(super) enum Payload<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

impl<'a> Reader<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next field's number and value; `None` at the end.
    pub(super) fn field(&mut self) -> Result<Option<(u32, Payload<'a>)>, Fault> {
        if self.is_empty() {
            return Ok(None);
        }
        let (number, wire) = self.tag()?;
        Ok(Some((number, self.payload(wire)?)))
    }

    /// The next field's number and wire type; there must be one.
    pub(super) fn tag(&mut self) -> Result<(u32, u8), Fault> {
        let tag = self.varint()?;
        let number = tag >> 3;
        match u32::try_from(number) {
            Ok(small) if number > 0 && number <= LARGEST_FIELD => Ok((small, (tag & 7) as u8)),
            _ => Err(Fault::FieldNumber(number)),
        }
    }

    pub(super) fn payload(&mut self, wire: u8) -> Result<Payload<'a>, Fault> {
        Ok(match wire {
            VARINT => Payload::Varint(self.varint()?),
            FIXED64 => Payload::Fixed64(u64::from_le_bytes(self.array()?)),
            BYTES => {
                let length = self.varint()?;
                let length = usize::try_from(length).map_err(|_| Fault::Truncated)?;
                Payload::Bytes(self.take(length)?)
            }
            FIXED32 => {
                self.take(4)?;
                Payload::Fixed32
            }
            other => return Err(Fault::WireType(other)),
        })
    }

    /// A number of up to 64 bits, seven to a byte.
    pub(super) fn varint(&mut self) -> Result<u64, Fault> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Fault::Overlong);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Fault::Overlong)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(Fault::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Fault> {
        let (head, rest) = self.rest.split_at_checked(length).ok_or(Fault::Truncated)?;
        self.rest = rest;
        Ok(head)
    }
}

impl<'a> Payload<'a> {
    fn wire(self) -> u8 {
        match self {
            Self::Varint(_) => VARINT,
            Self::Fixed64(_) => FIXED64,
            Self::Bytes(_) => BYTES,
            Self::Fixed32 => FIXED32,
        }
    }

    fn not(self, expected: u8) -> Fault {
        Fault::Mismatch { expected, found: self.wire() }
    }

    pub(super) fn varint(self) -> Result<u64, Fault> {
        if let Self::Varint(value) = self { Ok(value) } else { Err(self.not(VARINT)) }
    }

    pub(super) fn fixed64(self) -> Result<u64, Fault> {
        if let Self::Fixed64(value) = self { Ok(value) } else { Err(self.not(FIXED64)) }
    }

    pub(super) fn bytes(self) -> Result<&'a [u8], Fault> {
        if let Self::Bytes(value) = self { Ok(value) } else { Err(self.not(BYTES)) }
    }

    pub(super) fn text(self) -> Result<&'a str, Fault> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Fault::NotUtf8)
    }
}
