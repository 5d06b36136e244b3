//! Tokenization `13a` of mteval-v13a.pl, as sacrebleu has it.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use crate::eval::metrics::text::split_spaces;

/// Symbols that always stand alone; a point or comma after and before what is no digit; a dash after a digit.
static RULES: LazyLock<[(Regex, &str); 4]> = LazyLock::new(|| {
    [
        (
            r"([\x7b-\x7e\x5b-\x60\x20-\x26\x28-\x2b\x3a-\x40/])",
            " $1 ",
        ),
        (r"([^0-9])([.,])", "$1 $2 "),
        (r"([.,])([^0-9])", " $1 $2"),
        (r"([0-9])(-)", "$1 $2 "),
    ]
    .map(|(pattern, replacement)| {
        let rule = Regex::new(pattern).expect("patterns are constant and compile in tests");
        (rule, replacement)
    })
});

/// The tokens of a line.
pub(super) fn tokenize_13a(line: &str) -> Vec<String> {
    let line = super::super::text::trim_end(line)
        .replace("<skipped>", "")
        .replace("-\n", "")
        .replace('\n', " ")
        .replace("&quot;", "\"")
        .replace("&amp;", "&")
        .replace("&lt;", "<")
        .replace("&gt;", ">");
    let spaced = RULES
        .iter()
        .fold(format!(" {line} "), |line, (rule, replacement)| {
            rule.replace_all(&line, |found: &Captures<'_>| {
                let mut text = String::new();
                found.expand(replacement, &mut text);
                text
            })
            .into_owned()
        });
    split_spaces(&spaced).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::tokenize_13a;

    #[test]
    fn punctuation_stands_alone_and_numbers_stay_whole() {
        assert_eq!(
            tokenize_13a("It's 3,500.50 (5-10%), &quot;ok&quot;. e.g. x-ray"),
            [
                "It's", "3,500.50", "(", "5", "-", "10", "%", ")", ",", "\"", "ok", "\"", ".", "e",
                ".", "g", ".", "x-ray"
            ]
        );
        assert_eq!(tokenize_13a("\u{1c} \n"), Vec::<String>::new());
    }
}
