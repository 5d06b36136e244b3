//! Text as Python's strings and expressions see it, where that differs from Rust's.

/// Whether Python's `str.split` splits there.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Whether Python's `\w` matches it.
pub(super) fn is_word(c: char) -> bool {
    // `char::is_alphanumeric` counts marks that are vowels as letters; Python does not.
    c == '_'
        || c.is_ascii_alphanumeric()
        || (!c.is_ascii() && LETTERS.is_match(c.encode_utf8(&mut [0; 4])))
}

static LETTERS: std::sync::LazyLock<regex::Regex> = std::sync::LazyLock::new(|| {
    regex::Regex::new(r"^[\p{L}\p{N}]$").expect("the pattern is constant and compiles in tests")
});

/// The parts between runs of spaces, none of them empty.
pub(super) fn split_spaces(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|part| !part.is_empty())
}

/// Without spaces at its end.
pub(super) fn trim_end(text: &str) -> &str {
    text.trim_end_matches(is_space)
}
