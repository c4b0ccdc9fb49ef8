//! Writes the Rust code of `proto/` into `src/proto/`, or with `--check` tells whether it is up to date.
//!
//! Run it after changing a `.proto` file: `cargo run -p ingest --example generate`. The code is committed, so that
//! building Podium needs neither protoc nor the generator's thirty crates.

use std::path::Path;

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let proto = root.join("proto");
    let out = tempdir(root);
    let files = ["podium/v1/records.proto", "podium/v1/state.proto"];
    let descriptors = protox::compile(files, [&proto]).expect("the .proto files are valid");
    prost_build::Config::new()
        .bytes([".podium.v1.DeadLetter.payload"])
        .boxed(".podium.v1.Standings.change.score")
        .boxed(".podium.v1.Standings.change.quiz_changed")
        .out_dir(&out)
        .compile_fds(descriptors)
        .expect("the generator takes what the compiler took");
    let fresh = std::fs::read(out.join("podium.v1.rs")).expect("the generator wrote the package's file");
    std::fs::remove_dir_all(&out).expect("the folder was made here");
    let target = root.join("src/proto/podium.v1.rs");
    if std::env::args().any(|arg| arg == "--check") {
        let committed = std::fs::read(&target).expect("the generated code is committed");
        if committed != fresh {
            eprintln!("src/proto/podium.v1.rs is stale: run `cargo run -p ingest --example generate`");
            std::process::exit(1);
        }
        return;
    }
    std::fs::write(target, fresh).expect("src/proto can be written");
}

fn tempdir(root: &Path) -> std::path::PathBuf {
    let dir = root.join("../target").join(format!("generate-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("target can be written");
    dir
}
