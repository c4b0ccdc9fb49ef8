//! The normal form in which short texts are compared.

use unicode_normalization::UnicodeNormalization;

/// Returns `text` in compatibility normal form (NFKC) with runs of white space as one space, ends trimmed and, unless
/// case matters, lower case.
pub fn normalise(text: &str, case_sensitive: bool) -> String {
    let mut normal = String::with_capacity(text.len());
    for word in text.nfkc().collect::<String>().split_whitespace() {
        if !normal.is_empty() {
            normal.push(' ');
        }
        normal.push_str(word);
    }
    if case_sensitive { normal } else { normal.to_lowercase().nfkc().collect() }
}

#[cfg(test)]
mod tests {
    use super::normalise;

    #[test]
    fn forms_that_a_person_takes_for_equal_are_equal() {
        // Decomposed and composed accents, full-width letters, non-breaking and doubled spaces, capitals.
        for form in ["São  Paulo", "sa\u{303}o paulo", "ＳÃＯ\u{a0}Paulo ", "SÃO PAULO"] {
            assert_eq!(normalise(form, false), "são paulo", "{form:?}");
        }
        assert_ne!(normalise("Polish", true), normalise("polish", true));
    }
}
