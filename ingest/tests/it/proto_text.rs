//! A reader of protobuf that shares no code with the codec: it walks bytes by the committed `.proto` text.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The messages of a `.proto` file: by name, then by field number, the field's type and name.
pub(crate) struct Schema {
    messages: BTreeMap<String, BTreeMap<u64, (String, String)>>,
}

impl Schema {
    /// Reads the simple form that Podium's files have: one field a line, `[repeated|optional] type name = number;`.
    pub(crate) fn parse(text: &str) -> Self {
        let mut messages: BTreeMap<String, BTreeMap<u64, (String, String)>> = BTreeMap::new();
        let mut current = String::new();
        for line in text.lines().map(|line| line.split("//").next().unwrap_or_default().trim()) {
            let words: Vec<&str> = line.split([' ', ';']).filter(|word| !word.is_empty()).collect();
            match &*words {
                ["message", name, ..] => {
                    current = (*name).to_owned();
                    messages.entry(current.clone()).or_default();
                }
                [.., kind, name, "=", number]
                    if messages.contains_key(&current) && !line.starts_with("syntax") =>
                {
                    let field = ((*kind).to_owned(), (*name).to_owned());
                    let number = number.parse().expect("a field number");
                    let old = messages.get_mut(&current).expect("it was entered").insert(number, field);
                    assert!(old.is_none(), "{current} uses {number} twice");
                }
                ["enum", ..] => current.clear(),
                _ => {}
            }
        }
        Self { messages }
    }

    /// Returns a message as text, one field after the other as they lie in the bytes.
    pub(crate) fn show(&self, message: &str, bytes: &[u8]) -> String {
        let mut text = String::new();
        self.walk(message, bytes, &mut text);
        text
    }

    fn walk(&self, message: &str, mut bytes: &[u8], out: &mut String) {
        let fields = &self.messages[message];
        while !bytes.is_empty() {
            let tag = varint(&mut bytes);
            let (kind, name) =
                fields.get(&(tag >> 3)).unwrap_or_else(|| panic!("{message} has no field {}", tag >> 3));
            if !out.is_empty() && !out.ends_with('{') {
                out.push(' ');
            }
            match (tag & 7, &**kind) {
                (0, "uint32" | "uint64" | "bool") => write!(out, "{name}:{}", varint(&mut bytes)),
                (0, "sint64") => {
                    let value = varint(&mut bytes);
                    write!(out, "{name}:{}", (value >> 1) as i64 ^ -((value & 1) as i64))
                }
                (0, other) => {
                    assert!(!self.messages.contains_key(other), "{name} is a message");
                    write!(out, "{name}:{other}#{}", varint(&mut bytes))
                }
                (2, kind) => {
                    let length = usize::try_from(varint(&mut bytes)).expect("a length");
                    let (content, rest) = bytes.split_at(length);
                    bytes = rest;
                    self.content(kind, name, content, out);
                    Ok(())
                }
                (other, _) => panic!("{message}.{name} has wire type {other}"),
            }
            .expect("text takes it");
        }
    }

    fn content(&self, kind: &str, name: &str, content: &[u8], out: &mut String) {
        match kind {
            "string" => write!(out, "{name}:{:?}", std::str::from_utf8(content).expect("text")),
            // The one kind of bytes that is text.
            "bytes" if name == "definition" => {
                write!(out, "{name}:{}", std::str::from_utf8(content).expect("JSON"))
            }
            // The one that is a message.
            "bytes" if name == "effects" => return self.content("Effects", name, content, out),
            "bytes" => write!(out, "{name}:{}", hex(content)),
            "uint64" | "uint32" => {
                let mut rest = content;
                let mut numbers = Vec::new();
                while !rest.is_empty() {
                    numbers.push(varint(&mut rest));
                }
                write!(out, "{name}:{numbers:?}")
            }
            message => {
                out.push_str(name);
                out.push('{');
                self.walk(message, content, out);
                out.push('}');
                Ok(())
            }
        }
        .expect("text takes it");
    }
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().expect("a number ends");
        *bytes = rest;
        value |= u64::from(byte & 127) << shift;
        if byte < 128 {
            return value;
        }
    }
    panic!("a number has at most 10 bytes")
}

/// Returns bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("text takes it");
        text
    })
}

/// Returns the bytes of hexadecimal digits.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "two digits a byte");
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("digits")).collect()
}
