//! Writes the Rust code of `proto/` into `src/proto/`, or with `--check` tells whether it is up to date.
//!
//! Run it after changing a `.proto` file: `cargo run -p ingest --example generate`. The code is committed, so that
//! building Podium needs neither protoc nor the generator's thirty crates.

use std::path::{Path, PathBuf};

fn main() {
    let fresh = generated();
    if !std::env::args().any(|arg| arg == "--check") {
        std::fs::write(target(), fresh).expect("src/proto can be written");
        return;
    }
    if std::fs::read(target()).expect("the generated code is committed") != fresh {
        eprintln!("src/proto/podium.v1.rs is stale: run `cargo run -p ingest --example generate`");
        std::process::exit(1);
    }
}

fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/proto/podium.v1.rs")
}

/// Returns the code of `proto/` as it is now; a test compares it with the committed one.
pub fn generated() -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = root.join("../target").join(format!("generate-{}", std::process::id()));
    std::fs::create_dir_all(&out).expect("target can be written");
    let files = ["podium/v1/records.proto", "podium/v1/state.proto"];
    let descriptors = protox::compile(files, [root.join("proto")]).expect("the .proto files are valid");
    prost_build::Config::new()
        .bytes([".podium.v1.DeadLetter.payload"])
        .boxed(".podium.v1.Standings.change.score")
        .boxed(".podium.v1.Standings.change.quiz_changed")
        .boxed(".podium.v1.Standings.change.overruled")
        .boxed(".podium.v1.PackedEffect.whole")
        .out_dir(&out)
        .compile_fds(descriptors)
        .expect("the generator takes what the compiler took");
    let fresh = std::fs::read(out.join("podium.v1.rs")).expect("the generator wrote the package's file");
    std::fs::remove_dir_all(&out).expect("the folder was made here");
    fresh
}
