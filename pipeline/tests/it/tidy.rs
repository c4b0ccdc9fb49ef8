//! The rules of the house that a compiler does not check: who may depend on whom, how large a file may be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Returns the normal dependencies of each workspace member.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let packages = metadata["packages"].as_array().unwrap();
    let normal = |package: &Value| {
        let all = package["dependencies"].as_array().unwrap();
        all.iter().filter(|dependency| dependency["kind"].is_null()).map(|d| text(&d["name"])).collect()
    };
    packages.iter().map(|package| (text(&package["name"]), normal(package))).collect()
}

#[test]
fn crates_depend_on_each_other_as_the_table_says() {
    let table: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("operators", &[][..]),
        ("ingest", &["operators"]),
        ("sinks", &["operators"]),
        ("gateway", &["operators", "ingest"]),
        ("pipeline", &["operators", "ingest", "sinks", "gateway"]),
        ("benches", &["operators", "ingest", "pipeline"]),
        ("loadtest", &["operators"]),
    ]);
    let found = dependencies();
    let members: BTreeSet<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(members, table.keys().copied().collect(), "the crates of the workspace are fixed");
    for (name, allowed) in table {
        let ours = found[name].iter().filter(|dependency| members.contains(dependency.as_str()));
        let forbidden: Vec<_> = ours.filter(|dependency| !allowed.contains(&dependency.as_str())).collect();
        assert!(forbidden.is_empty(), "{name} may not depend on {forbidden:?}");
    }
}

#[test]
fn the_core_depends_on_nothing_that_could_do_input_or_output() {
    let allowed = ["indexmap", "rust_decimal", "serde", "thiserror", "unicode-normalization"];
    let found = &dependencies()["operators"];
    let extra: Vec<_> = found.iter().filter(|name| !allowed.contains(&name.as_str())).collect();
    assert!(
        extra.is_empty(),
        "operators gained {extra:?}: every addition to the pure core is a decision, list it here"
    );
}

/// Whoever tries Podium on one machine builds nothing of a cluster.
#[test]
fn the_first_build_has_nothing_of_aws() {
    let tree = |features: &[&str]| {
        let arguments =
            ["tree", "--offline", "--locked", "-p", "pipeline", "-e", "normal", "--prefix", "none"];
        let output =
            Command::new(env!("CARGO")).args(arguments).args(features).current_dir(root()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let is_aws = |line: &&str| line.starts_with("aws-");
    assert_eq!(tree(&[]).lines().filter(is_aws).collect::<Vec<_>>(), Vec::<&str>::new());
    assert!(tree(&["--features", "cluster"]).lines().any(|line| is_aws(&line)), "the feature brings it");
}

/// Calls `visit` with every file of ours that ends in `extension`.
fn visit_files(dir: &Path, extension: &str, visit: &mut impl FnMut(&Path, &str)) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" && name != "podium-data" {
                visit_files(&path, extension, visit);
            }
        } else if path.extension().is_some_and(|found| found == extension) {
            visit(&path, &fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_source_file_says_what_it_is_for_and_stays_short() {
    let mut faults = Vec::new();
    visit_files(&root(), "rs", &mut |path, text| {
        if path.ends_with("proto/podium.v1.rs") {
            return; // generated
        }
        let lines = text.lines().count();
        if lines > 500 {
            faults.push(format!("{} has {lines} lines, more than 500", path.display()));
        }
        if !text.starts_with("//! ") {
            faults.push(format!("{} does not begin with a line of //!", path.display()));
        }
    });
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_top_level_is_the_one_that_readers_expect() {
    let expected = BTreeSet::from([
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "benches",
        "clippy.toml",
        "deny.toml",
        "gateway",
        "infra",
        "ingest",
        "loadtest",
        "operators",
        "pipeline",
        "rust-toolchain.toml",
        "rustfmt.toml",
        "sinks",
    ]);
    let output = Command::new("git").args(["ls-files"]).current_dir(root()).output().unwrap();
    let files = String::from_utf8(output.stdout).unwrap();
    let tops = files.lines().map(|file| file.split('/').next().unwrap()).filter(|top| !top.starts_with('.'));
    let found: BTreeSet<&str> = tops.collect();
    assert_eq!(found, expected);
}

#[test]
fn architecture_stays_readable_in_one_sitting() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    assert!(text.lines().count() < 250);
}
