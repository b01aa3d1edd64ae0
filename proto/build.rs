//! Compiles the protobuf contract without an external `protoc`.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = ["proto/warren/control.proto", "proto/warren/attach.proto"];
    let descriptors = protox::compile(files, ["proto"])?;
    tonic_prost_build::configure()
        .btree_map(".")
        .type_attribute(".", "#[allow(missing_docs, clippy::large_enum_variant)]")
        .compile_fds(descriptors)?;
    Ok(())
}
