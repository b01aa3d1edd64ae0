//! What the values of every kind may be. The table of Kubernetes' API types has for each message its fields with their
//! JSON names, protobuf numbers, types and the rules by which they merge: protobuf bodies, strategic patches and OpenAPI
//! read its rows. What custom resources have in common with it is asked through [`Fields`] and [`Shape`], by strict
//! decoding and others.
//!
//! `table/` is generated (`generate/README.md`) and is constant data: there is nothing to parse at start-up.

mod shape;
mod structural;
#[rustfmt::skip]
mod table;
mod written;

use Type::Object;

pub use shape::{Fields, Keys, Merge, Property, Schema, Shape};
pub use structural::Structural;
pub use written::as_written;
pub(crate) use written::{is_zero, zero};

/// The group under which [`root`] finds kinds that every group has.
const EVERY_GROUP: &str = "meta.k8s.io";

/// One type with named fields.
#[derive(Debug)]
pub struct Message {
    /// `k8s.io.api.core.v1`. Names alone are not unique.
    pub package: &'static str,
    /// `PodSpec`.
    pub name: &'static str,
    /// Server-side apply replaces values of this type as a whole.
    pub atomic: bool,
    /// By protobuf number.
    pub fields: &'static [Field],
}

/// One field of a message.
#[derive(Debug)]
pub struct Field {
    /// Its protobuf number.
    pub number: u16,
    flags: u8,
    /// Its name in JSON; empty for an inlined message.
    pub json: &'static str,
    /// What is in it.
    pub kind: Type,
    lists: Option<&'static Lists>,
}

/// What a field holds. In JSON enumerations are texts, and the keys of maps always are.
#[derive(Debug, Clone, Copy)]
pub enum Type {
    /// A truth value.
    Bool,
    /// A whole number of 32 bits.
    Int32,
    /// A whole number of 64 bits.
    Int64,
    /// A number with a fraction.
    Double,
    /// A text.
    String,
    /// Base64 in JSON.
    Bytes,
    /// RFC 3339 in whole seconds.
    Time,
    /// RFC 3339 in microseconds.
    MicroTime,
    /// Go's spelling: `1h30m0.5s`.
    Duration,
    /// A number with a unit, as text.
    Quantity,
    /// A whole number or a text.
    IntOrString,
    /// Any JSON, which travels as text in protobuf.
    Json,
    /// Named fields.
    Object(&'static Message),
    /// A list.
    List(&'static Type),
    /// A map by text.
    Map(&'static Type),
    /// A list in JSON, and in protobuf a message with the list in field 1.
    Items(&'static Type),
    /// In JSON the value of one of the fields: of those that are there, the one with the highest number.
    OneOf(&'static Message),
}

/// How a list, or a map, takes changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lists {
    /// Under a strategic merge patch.
    pub patch: Patch,
    /// Under server-side apply.
    pub apply: Apply,
}

/// `patchStrategy` and `patchMergeKey` of Kubernetes' types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patch {
    /// Lists are replaced as a whole, maps and objects merge.
    Default,
    /// Objects, matched by this field.
    By(&'static str),
    /// Scalars, united.
    Union,
    /// A map that is replaced as a whole.
    Replace,
    /// A map whose patch names what may stay.
    RetainKeys,
}

/// `listType` and `listMapKey`, or `mapType`, of Kubernetes' types: OpenAPI's `x-kubernetes-list-type` and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Apply {
    /// Lists are owned as a whole, maps and objects field by field.
    Default,
    /// Owned as a whole.
    Atomic,
    /// Scalars, each owned by itself.
    Set,
    /// Objects, matched by these fields.
    Keys(&'static [&'static str]),
}

/// A kind of object that may be the whole body of a request.
#[derive(Debug)]
pub struct Root {
    /// Empty for the core group.
    pub group: &'static str,
    /// `v1`.
    pub version: &'static str,
    /// `Deployment`.
    pub kind: &'static str,
    /// Its fields; `apiVersion` and `kind` are not among them.
    pub message: &'static Message,
}

/// The message of a kind. `DeleteOptions` and `Status` are found under every group and version.
pub fn root(group: &str, version: &str, kind: &str) -> Option<&'static Message> {
    let find = |wanted: (&str, &str, &str)| {
        let place = table::ROOTS.binary_search_by(|root| (root.group, root.version, root.kind).cmp(&wanted));
        place.ok().map(|place| table::ROOTS[place].message)
    };
    find((group, version, kind)).or_else(|| find((EVERY_GROUP, "v1", kind)))
}

/// All kinds, by group, version and name.
pub fn roots() -> &'static [Root] {
    table::ROOTS
}

/// The message with a name.
pub fn message(package: &str, name: &str) -> Option<&'static Message> {
    let place =
        table::MESSAGES.binary_search_by(|message| (message.package, message.name).cmp(&(package, name)));
    place.ok().map(|place| table::MESSAGES[place])
}

/// All messages, by package and name.
pub fn messages() -> &'static [&'static Message] {
    table::MESSAGES
}

impl Message {
    /// The field with a number.
    pub fn by_number(&self, number: u32) -> Option<&'static Field> {
        let place = self.fields.binary_search_by_key(&number, |field| u32::from(field.number)).ok()?;
        Some(&self.fields[place])
    }

    /// The field with a name in JSON, inlined ones included.
    pub fn field(&self, json: &str) -> Option<&'static Field> {
        self.fields.iter().find_map(|field| match field.kind {
            Object(inlined) if field.is_inlined() => inlined.field(json),
            _ => (field.json == json).then_some(field),
        })
    }

    /// All fields as JSON has them: inlined messages give theirs.
    pub fn json_fields(&self) -> Vec<&'static Field> {
        let mut all = Vec::new();
        for field in self.fields {
            match field.kind {
                Object(inlined) if field.is_inlined() => all.extend(inlined.json_fields()),
                _ => all.push(field),
            }
        }
        all
    }
}

const INLINED: u8 = 1;
const POINTER: u8 = 2;
const REQUIRED: u8 = 4;
const ALWAYS: u8 = 8;

/// A row of the table: an optional field that is no pointer in Go.
const fn field(number: u16, json: &'static str, kind: Type) -> Field {
    Field { number, flags: 0, json, kind, lists: None }
}

impl Field {
    const fn with(mut self, flag: u8) -> Self {
        self.flags |= flag;
        self
    }
    const fn inlined(self) -> Self {
        self.with(INLINED)
    }
    const fn pointer(self) -> Self {
        self.with(POINTER)
    }
    const fn required(self) -> Self {
        self.with(REQUIRED)
    }
    const fn always(self) -> Self {
        self.with(ALWAYS)
    }
    const fn lists(mut self, lists: &'static Lists) -> Self {
        self.lists = Some(lists);
        self
    }

    /// The fields of its message are fields of the message that it is in.
    pub fn is_inlined(&self) -> bool {
        self.flags & INLINED != 0
    }

    /// A pointer in Go: zero differs from absent.
    pub fn is_pointer(&self) -> bool {
        self.flags & POINTER != 0
    }

    /// Kubernetes' schema lists it under `required`.
    pub fn is_required(&self) -> bool {
        self.flags & REQUIRED != 0
    }

    /// Go's JSON encoder writes its zero value: it is a pointer, or has no `omitempty` (or one without effect).
    pub fn zero_is_written(&self) -> bool {
        self.flags & (POINTER | REQUIRED | ALWAYS) != 0
    }

    /// How it takes a strategic merge patch.
    pub fn patch(&self) -> Patch {
        self.lists.map_or(Patch::Default, |lists| lists.patch)
    }

    /// How it takes server-side apply.
    pub fn apply(&self) -> Apply {
        self.lists.map_or(Apply::Default, |lists| lists.apply)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
