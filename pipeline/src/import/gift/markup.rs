//! Text formats of GIFT, and the text that is left of HTML when its tags are gone.

/// How a text is marked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextFormat {
    /// Plain text that may hold HTML; the default.
    Moodle,
    /// HTML.
    Html,
    /// Exactly the text.
    Plain,
    /// Markdown, which is readable as it is.
    Markdown,
}

/// A text without markup.
#[derive(Debug, Default)]
pub(super) struct Clean {
    /// The text, trimmed.
    pub(super) text: String,
    /// There were tags.
    pub(super) stripped: bool,
    /// There was an entity that is not known here.
    pub(super) unknown: bool,
}

/// Tags that go without loss of meaning.
const INLINE: [&str; 22] = [
    "a", "abbr", "b", "big", "bdi", "bdo", "cite", "code", "del", "em", "font", "i", "ins", "kbd", "mark",
    "q", "s", "small", "span", "strong", "tt", "u",
];
/// Tags that begin or end a line.
const BLOCK: [&str; 23] = [
    "blockquote",
    "br",
    "center",
    "dd",
    "div",
    "dl",
    "dt",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
    "li",
    "ol",
    "p",
    "pre",
    "section",
    "table",
    "tbody",
    "tr",
    "ul",
];
/// Tags between the cells of a table.
const CELL: [&str; 2] = ["td", "th"];
/// Tags whose content is no text.
const OTHER: [&str; 14] = [
    "applet", "audio", "canvas", "embed", "form", "iframe", "img", "input", "math", "object", "script",
    "style", "svg", "video",
];

/// Names of the characters from U+00A0 to U+00FF, in order. Source: the entity sets of HTML 4.01, section 24.2.
const LATIN: &str = "nbsp iexcl cent pound curren yen brvbar sect uml copy ordf laquo not shy reg macr deg plusmn sup2 \
sup3 acute micro para middot cedil sup1 ordm raquo frac14 frac12 frac34 iquest Agrave Aacute Acirc Atilde Auml Aring \
AElig Ccedil Egrave Eacute Ecirc Euml Igrave Iacute Icirc Iuml ETH Ntilde Ograve Oacute Ocirc Otilde Ouml times Oslash \
Ugrave Uacute Ucirc Uuml Yacute THORN szlig agrave aacute acirc atilde auml aring aelig ccedil egrave eacute ecirc euml \
igrave iacute icirc iuml eth ntilde ograve oacute ocirc otilde ouml divide oslash ugrave uacute ucirc uuml yacute thorn \
yuml";
/// Further names that quizzes use. Source: the same, sections 24.3 and 24.4.
const NAMES: [(&str, char); 41] = [
    ("amp", '&'),
    ("lt", '<'),
    ("gt", '>'),
    ("quot", '"'),
    ("apos", '\''),
    ("ndash", '–'),
    ("mdash", '—'),
    ("lsquo", '‘'),
    ("rsquo", '’'),
    ("sbquo", '‚'),
    ("ldquo", '“'),
    ("rdquo", '”'),
    ("bdquo", '„'),
    ("hellip", '…'),
    ("bull", '•'),
    ("euro", '€'),
    ("trade", '™'),
    ("larr", '←'),
    ("uarr", '↑'),
    ("rarr", '→'),
    ("darr", '↓'),
    ("le", '≤'),
    ("ge", '≥'),
    ("ne", '≠'),
    ("asymp", '≈'),
    ("infin", '∞'),
    ("radic", '√'),
    ("sum", '∑'),
    ("minus", '−'),
    ("int", '∫'),
    ("alpha", 'α'),
    ("beta", 'β'),
    ("gamma", 'γ'),
    ("delta", 'δ'),
    ("theta", 'θ'),
    ("lambda", 'λ'),
    ("mu", 'μ'),
    ("pi", 'π'),
    ("sigma", 'σ'),
    ("omega", 'ω'),
    ("Delta", 'Δ'),
];

const RAISED: [char; 15] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹', '⁺', '⁻', '⁽', '⁾', 'ⁿ'];
const LOWERED: [char; 15] = ['₀', '₁', '₂', '₃', '₄', '₅', '₆', '₇', '₈', '₉', '₊', '₋', '₍', '₎', 'ₙ'];
/// What the two tables above stand for, in their order.
const LEVEL: &str = "0123456789+-()n";

impl TextFormat {
    /// Takes a prefix such as `[html]` off a text; without one the format is `default`.
    pub(super) fn split(text: &str, default: Self) -> (Self, &str) {
        for (prefix, format) in [
            ("[moodle]", Self::Moodle),
            ("[html]", Self::Html),
            ("[plain]", Self::Plain),
            ("[markdown]", Self::Markdown),
        ] {
            if let Some(rest) = text.strip_prefix(prefix) {
                return (format, rest.trim_start());
            }
        }
        (default, text)
    }
}

/// Returns the text without markup, in time linear in its length.
///
/// # Errors
/// A sentence about content that is no text.
pub(super) fn clean(text: &str, format: TextFormat) -> Result<Clean, String> {
    match format {
        TextFormat::Plain | TextFormat::Markdown => {
            Ok(Clean { text: text.trim().to_owned(), ..Clean::default() })
        }
        TextFormat::Html => strip(&text.split_whitespace().collect::<Vec<_>>().join(" ")),
        TextFormat::Moodle => strip(text),
    }
}

/// Where text is while `<sup>` or `<sub>` is open: which of them, and where in the text it began.
type Level = Option<(&'static str, usize)>;

fn strip(text: &str) -> Result<Clean, String> {
    let mut clean = Clean::default();
    let mut level: Level = None;
    let mut rest = text;
    while let Some(next) = rest.find(['<', '&']) {
        clean.text.push_str(&rest[..next]);
        rest = &rest[next..];
        let used =
            if rest.starts_with('<') { tag(rest, &mut clean, &mut level)? } else { entity(rest, &mut clean) };
        if used == 0 {
            clean.text.push_str(&rest[..1]);
        }
        rest = &rest[used.max(1)..];
    }
    clean.text.push_str(rest);
    close_level(&mut clean.text, level);
    clean.text = tidy(&clean.text);
    Ok(clean)
}

/// Strips the tag at the start of `text`; returns its length, 0 when it is none.
///
/// Only the names listed above are tags, so that "a <b and c> d" and "List<String>" stay.
fn tag(text: &str, clean: &mut Clean, level: &mut Level) -> Result<usize, String> {
    if text.starts_with("<!--") {
        // Refusing an open one, instead of keeping it, also means that nothing is searched to its end twice.
        let end = text.find("-->").ok_or("the HTML comment <!-- is not closed")?;
        clean.stripped = true;
        return Ok(end + 3);
    }
    let inner = &text[1..];
    // A tag holds no other, which also keeps a row of opened ones linear.
    let Some(end) = inner.find(['<', '>']).filter(|&end| inner.as_bytes()[end] == b'>') else { return Ok(0) };
    let inner = &inner[..end];
    let inner = inner.strip_prefix('/').unwrap_or(inner);
    let name_end = inner.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(inner.len());
    let (name, attributes) = inner.split_at(name_end);
    let attributes = attributes.trim_end_matches('/').trim();
    if !(attributes.is_empty() || attributes.contains('=')) {
        return Ok(0);
    }
    let name = name.to_ascii_lowercase();
    let name = name.as_str();
    if OTHER.contains(&name) {
        return Err(format!("the text holds <{name}>; only text can be shown"));
    }
    if BLOCK.contains(&name) {
        clean.text.push('\n');
    } else if CELL.contains(&name) {
        clean.text.push(' ');
    } else if let Some(name) = ["sup", "sub"].into_iter().find(|&known| known == name) {
        close_level(&mut clean.text, level.take());
        if !text.starts_with("</") {
            *level = Some((name, clean.text.len()));
        }
    } else if !INLINE.contains(&name) {
        return Ok(0);
    }
    clean.stripped = true;
    Ok(end + 2)
}

/// Raises or lowers what has been written since `<sup>` or `<sub>`: 10<sup>6</sup> must not become 106.
fn close_level(text: &mut String, level: Level) {
    let Some((name, start)) = level else { return };
    let inner = text.split_off(start);
    let inner = inner.trim();
    let table = if name == "sup" { RAISED } else { LOWERED };
    let shifted: Option<String> =
        inner.chars().map(|c| LEVEL.chars().position(|known| known == c).map(|place| table[place])).collect();
    match shifted {
        Some(shifted) => text.push_str(&shifted),
        None if name == "sup" => text.push_str(&format!("^({inner})")),
        None => text.push_str(&format!("_({inner})")),
    }
}

/// Decodes the entity at the start of `text`; returns its length, 0 when it is none.
fn entity(text: &str, clean: &mut Clean) -> usize {
    /// The longest names known here have 6 letters; the longest number is `#1114111`.
    const NAME_BYTES_MAX: usize = 10;
    let bytes = text.as_bytes();
    let Some(end) = bytes.iter().take(NAME_BYTES_MAX + 2).position(|&byte| byte == b';') else { return 0 };
    let name = &text[1..end];
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'#') || name.is_empty() {
        return 0;
    }
    match named(name).or_else(|| numbered(name)) {
        Some(c) => {
            // A space that does not break means nothing in a quiz, and nobody types it in an answer.
            clean.text.push(if c == '\u{a0}' { ' ' } else { c });
            end + 1
        }
        None => {
            clean.unknown = true;
            0
        }
    }
}

fn named(name: &str) -> Option<char> {
    if let Some((_, c)) = NAMES.into_iter().find(|(known, _)| *known == name) {
        return Some(c);
    }
    ('\u{a0}'..='\u{ff}').zip(LATIN.split(' ')).find(|(_, known)| *known == name).map(|(c, _)| c)
}

fn numbered(name: &str) -> Option<char> {
    let digits = name.strip_prefix('#')?;
    let code = match digits.strip_prefix(['x', 'X']) {
        Some(hex) => u32::from_str_radix(hex, 16).ok()?,
        None => digits.parse().ok()?,
    };
    char::from_u32(code).filter(|c| !c.is_control())
}

/// Trims every line, and leaves at most one blank line between two.
fn tidy(text: &str) -> String {
    let mut tidy = String::with_capacity(text.len());
    let mut blank = 0;
    for line in text.trim().lines().map(str::trim) {
        if line.is_empty() {
            blank += 1;
            continue;
        }
        if !tidy.is_empty() {
            tidy.push_str(if blank > 0 { "\n\n" } else { "\n" });
        }
        blank = 0;
        tidy.push_str(line);
    }
    tidy
}
