//! Bytes to text: UTF-8, and Windows-1252 for the bytes that are not.

use super::Complaint;

/// The text of a file, and which of its lines were not UTF-8.
#[derive(Debug)]
pub(super) struct Decoded {
    /// The text, without a byte order mark; its lines are those of the file.
    pub(super) text: String,
    /// Lines that read well as Windows-1252, ascending, from 1.
    pub(super) windows: Vec<usize>,
    /// Lines that hold pieces of UTF-8: damaged text, ascending, from 1.
    pub(super) damaged: Vec<usize>,
}

/// Windows-1252 from 0x80 to 0x9F; the bytes it leaves undefined show as the replacement character. Source: the
/// WHATWG encoding standard's index of windows-1252.
const WINDOWS_1252: [char; 32] = [
    '€', '\u{fffd}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{fffd}', 'Ž', '\u{fffd}',
    '\u{fffd}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{fffd}', 'ž', 'Ÿ',
];

/// Returns the text of `bytes`.
///
/// Whatever is valid UTF-8 stays; only bytes that are not are read as Windows-1252. A line of real Windows-1252 almost
/// never holds a valid UTF-8 sequence, so both kinds on one line mean that the line was damaged on its way.
///
/// # Errors
/// A [`Complaint`] when the bytes are UTF-16, which the byte order mark tells.
pub(super) fn decode(bytes: &[u8]) -> Result<Decoded, Complaint> {
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(Complaint::at(1, "the file is UTF-16; save it as UTF-8"));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut decoded =
        Decoded { text: String::with_capacity(bytes.len()), windows: Vec::new(), damaged: Vec::new() };
    for (line, line_bytes) in (1..).zip(bytes.split_inclusive(|&byte| byte == b'\n')) {
        match std::str::from_utf8(line_bytes) {
            Ok(text) => decoded.text.push_str(text),
            Err(_) => decoded.mixed(line, line_bytes),
        }
    }
    Ok(decoded)
}

impl Decoded {
    fn mixed(&mut self, line: usize, bytes: &[u8]) {
        let mut unicode = false;
        for chunk in bytes.utf8_chunks() {
            unicode |= !chunk.valid().is_ascii();
            self.text.push_str(chunk.valid());
            self.text.extend(chunk.invalid().iter().map(|&byte| windows_1252(byte)));
        }
        // Some program has written `?` for a byte that it could not show, so the one before it is half a character.
        let half = |three: &[u8]| three[0] >= 0xc2 && three[1] == b'?' && three[2].is_ascii_alphanumeric();
        if unicode || bytes.windows(3).any(half) {
            self.damaged.push(line);
        } else {
            self.windows.push(line);
        }
    }
}

fn windows_1252(byte: u8) -> char {
    match byte {
        0x80..=0x9f => WINDOWS_1252[usize::from(byte - 0x80)],
        0..=0x7f | 0xa0..=0xff => char::from(byte),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_not_utf8_is_windows_1252_and_the_others_stay() {
        // From the real files: an umlaut in Latin script, curly quotes, and UTF-8 with its last byte lost.
        let bytes =
            b"Brumm\xe4r \x80\r\ncaf\xc3\xa9\n\xe2\x80\x9cBadger State\xe2\x80?\n\x93so\x94 \x81\n\xd0?n";
        let decoded = decode(bytes).unwrap();
        assert_eq!(decoded.text, "Brummär €\r\ncafé\n“Badger Stateâ€?\n“so” \u{fffd}\nÐ?n");
        assert_eq!((decoded.windows, decoded.damaged), (vec![1, 4], vec![3, 5]));
    }

    #[test]
    fn the_table_agrees_with_the_published_bytes() {
        // Source: https://encoding.spec.whatwg.org/index-windows-1252.txt
        for (byte, c) in
            [(0x80, '€'), (0x8a, 'Š'), (0x8e, 'Ž'), (0x91, '‘'), (0x97, '—'), (0x9f, 'Ÿ'), (0xe9, 'é')]
        {
            assert_eq!(windows_1252(byte), c);
        }
    }

    #[test]
    fn byte_order_marks() {
        assert_eq!(decode(b"\xef\xbb\xbf#Q a").unwrap().text, "#Q a");
        assert_eq!(decode(b"\xff\xfe#\0Q\0").unwrap_err().line, Some(1));
        assert_eq!(decode(b"").unwrap().text, "");
    }
}
