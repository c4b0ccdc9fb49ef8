//! The committed code is what the generator makes of `proto/` now.

#[path = "../../examples/generate.rs"]
#[allow(dead_code, unreachable_pub)]
mod generate;

#[test]
fn the_generated_code_is_fresh() {
    let committed = include_bytes!("../../src/proto/podium.v1.rs");
    assert!(
        generate::generated() == committed,
        "src/proto/podium.v1.rs is stale: run `cargo run -p ingest --example generate`"
    );
}
