//! Lists the files of the live page, so that each of them is built into the binary.

use std::fmt::Write;
use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let page = Path::new(&env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("src/page");
    println!("cargo::rerun-if-changed=src/page");
    let mut names = Vec::new();
    if page.is_dir() {
        for entry in fs::read_dir(&page)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_file() && !name.starts_with('.') && !name.ends_with('~') {
                names.push(name);
            }
        }
    }
    names.sort();
    let mut list = String::from("const FILES: &[File] = &[\n");
    for name in names {
        let path = page.join(&name);
        writeln!(list, "    File {{ name: {name:?}, content: include_bytes!({path:?}) }},")
            .expect("a String grows");
    }
    list.push_str("];\n");
    fs::write(Path::new(&env::var("OUT_DIR").expect("cargo sets it")).join("page_files.rs"), list)
}
