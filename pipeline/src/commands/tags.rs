//! Tags of streams and tables, as the command line has them.

use std::str::FromStr;

/// A tag written as `team=quiz`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// What it is about.
    pub key: String,
    /// What it says; may be empty.
    pub value: String,
}

/// Most characters of a key and of a value that AWS takes.
const CHARS_MAX: (usize, usize) = (128, 256);

impl FromStr for Tag {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("must be KEY=VALUE, such as team=quiz")?;
        if key.is_empty() || key.chars().count() > CHARS_MAX.0 || value.chars().count() > CHARS_MAX.1 {
            return Err(format!("a key has 1 to {} characters, a value up to {}", CHARS_MAX.0, CHARS_MAX.1));
        }
        let taken = ["aws:", "podium.", "podium:"];
        let lower = key.to_lowercase();
        if taken.iter().any(|taken| lower.starts_with(taken)) {
            return Err(format!("keys that begin with {} are taken", taken.join(" or ")));
        }
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_split_at_the_first_sign() {
        let tag: Tag = "a=b=c".parse().unwrap();
        assert_eq!((tag.key.as_str(), tag.value.as_str()), ("a", "b=c"));
        assert_eq!("a=".parse::<Tag>().unwrap().value, "");
        for bad in [
            "",
            "a",
            "=b",
            "podium.partitions=4",
            "Podium.x=1",
            "podium:x=1",
            "aws:x=1",
            &format!("{}=x", "k".repeat(129)),
        ] {
            assert!(bad.parse::<Tag>().is_err(), "{bad:?}");
        }
    }
}
