//! Compiles the protobuf contract without an external `protoc`, and writes down what its messages are made of.
use std::fmt::Write as _;

use protox::prost_reflect::prost_types::FieldDescriptorProto;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = ["proto/warren/control.proto", "proto/warren/attach.proto"];
    let descriptors = protox::compile(files, ["proto"])?;

    let mut contract = Contract::default();
    for file in &descriptors.file {
        let module = match file.package() {
            "warren.control.v1" => "crate::control",
            "warren.attach.v1" => "crate::attach",
            other => return Err(format!("no module is known for the package {other}").into()),
        };
        for message in &file.message_type {
            for entry in &message.nested_type {
                contract.messages.push(Message {
                    name: format!("{}.{}.{}", file.package(), message.name(), entry.name()),
                    rust: None,
                    fields: entry.field.iter().map(field).collect(),
                });
            }
            contract.messages.push(Message {
                name: format!("{}.{}", file.package(), message.name()),
                rust: Some(format!("{module}::{}", message.name())),
                fields: message.field.iter().map(field).collect(),
            });
        }
        for service in &file.service {
            for method in &service.method {
                contract.methods.push(Method {
                    path: format!("/{}.{}/{}", file.package(), service.name(), method.name()),
                    request: method.input_type().trim_start_matches('.').to_owned(),
                    streams: (method.client_streaming(), method.server_streaming()),
                });
            }
        }
    }
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("contract.rs"), contract.to_rust()?)?;

    tonic_prost_build::configure()
        .btree_map(".")
        .type_attribute(".", "#[allow(missing_docs, clippy::large_enum_variant)]")
        .codec_path("crate::bounded::Codec")
        .compile_fds(descriptors)?;
    Ok(())
}

#[derive(Default)]
struct Contract {
    messages: Vec<Message>,
    methods: Vec<Method>,
}

struct Message {
    name: String,
    /// `None` for the entries of a map.
    rust: Option<String>,
    fields: Vec<Field>,
}

struct Field {
    number: i32,
    repeated: bool,
    kind: Kind,
}

enum Kind {
    Number,
    Bytes,
    Message(String),
}

struct Method {
    path: String,
    request: String,
    streams: (bool, bool),
}

fn field(field: &FieldDescriptorProto) -> Field {
    // The numbers of `google.protobuf.FieldDescriptorProto.Type` and `Label`.
    let kind = match field.r#type() as i32 {
        9 | 12 => Kind::Bytes,
        11 => Kind::Message(field.type_name().trim_start_matches('.').to_owned()),
        _ => Kind::Number,
    };
    Field { number: field.number(), repeated: field.label() as i32 == 3, kind }
}

impl Contract {
    fn index(&self, name: &str) -> Result<usize, String> {
        let found = self.messages.iter().position(|message| message.name == name);
        found.ok_or_else(|| format!("the message {name} is not in the contract"))
    }

    fn to_rust(&self) -> Result<String, Box<dyn std::error::Error>> {
        let mut text = String::from("pub(crate) static SHAPES: &[Shape] = &[\n");
        for message in &self.messages {
            let size = match &message.rust {
                Some(path) => format!("size_of::<{path}>()"),
                None => "MAP_ENTRY".to_owned(),
            };
            writeln!(text, "    Shape {{ name: {:?}, size: {size}, fields: &[", message.name)?;
            for field in &message.fields {
                let kind = match &field.kind {
                    Kind::Number => "Kind::Number".to_owned(),
                    Kind::Bytes => "Kind::Bytes".to_owned(),
                    Kind::Message(name) => format!("Kind::Message({})", self.index(name)?),
                };
                let (number, repeated) = (field.number, field.repeated);
                writeln!(text, "        Field {{ number: {number}, repeated: {repeated}, kind: {kind} }},")?;
            }
            text.push_str("    ] },\n");
        }
        text.push_str("];\n");
        for (index, message) in self.messages.iter().enumerate() {
            if let Some(path) = &message.rust {
                writeln!(text, "impl Shaped for {path} {{ const SHAPE: usize = {index}; }}")?;
            }
        }
        text.push_str("/// Every method of the contract.\npub static METHODS: &[Method] = &[\n");
        for method in &self.methods {
            let (path, request, streams) = (&method.path, self.index(&method.request)?, method.streams);
            writeln!(
                text,
                "    Method {{ path: {path:?}, request: {request}, client_streams: {}, server_streams: {} }},",
                streams.0, streams.1
            )?;
        }
        text.push_str("];\n");
        Ok(text)
    }
}
