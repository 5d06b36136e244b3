//! Compiles `weft/v1/*.proto` with protox, so that building needs no system protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["types", "workers", "jobs"].map(|stem| format!("weft/v1/{stem}.proto"));
    let descriptors = protox::compile(&files, ["."])?;
    tonic_prost_build::configure()
        .bytes(".")
        .compile_fds(descriptors)?;
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    Ok(())
}
