//! `{% generation %}…{% endgeneration %}`: how a template says which text is the assistant's.
//!
//! The template engine knows no such tag. Each is rewritten to an `{% include %}` of a one-character template, which is a
//! block tag as well and so keeps every rule of whitespace control; the character, a Unicode noncharacter that is
//! not for interchange, is cut out of the rendered text and leaves the span.

use std::ops::Range;

/// Opens a span of assistant text.
pub(super) const START: char = '\u{FDD0}';
/// Closes it.
pub(super) const END: char = '\u{FDD1}';
pub(super) const START_TEXT: &str = "\u{FDD0}";
pub(super) const END_TEXT: &str = "\u{FDD1}";
pub(super) const START_TEMPLATE: &str = "weft/generation";
pub(super) const END_TEMPLATE: &str = "weft/endgeneration";

/// Whether `text` holds a character that is reserved for marking.
pub(super) fn occur_in(text: &str) -> bool {
    // Both start with the same two bytes, which ordinary text hardly ever has.
    memchr_ef_b7(text) && text.contains([START, END])
}

fn memchr_ef_b7(text: &str) -> bool {
    text.as_bytes().windows(2).any(|pair| pair == [0xEF, 0xB7])
}

/// Whether the template marks assistant text itself.
pub(super) fn is_marked(source: &str) -> bool {
    rewrite(source) != source
}

/// Replaces the generation tags of a template, leaving comments, raw blocks and string literals alone.
pub(super) fn rewrite(source: &str) -> String {
    let mut out = String::with_capacity(source.len() + 64);
    let mut rest = source;
    let mut raw = false;
    while let Some(open) = next_opening(rest) {
        out.push_str(&rest[..open]);
        rest = &rest[open..];
        let len = construct_len(rest, raw);
        let construct = &rest[..len];
        match tag_word(construct).filter(|_| !raw) {
            Some("generation") => out.push_str(&include(construct, START_TEMPLATE)),
            Some("endgeneration") => out.push_str(&include(construct, END_TEMPLATE)),
            word => {
                raw |= word == Some("raw");
                out.push_str(construct);
            }
        }
        raw &= tag_word(construct) != Some("endraw");
        rest = &rest[len..];
    }
    out.push_str(rest);
    out
}

fn next_opening(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    bytes
        .windows(2)
        .position(|pair| matches!(pair, b"{%" | b"{{" | b"{#"))
}

/// Length of the tag, expression or comment that `text` starts with; all of `text` if it never closes.
fn construct_len(text: &str, raw: bool) -> usize {
    let close = match &text[..2] {
        // Inside a raw block only a tag can matter, and only `endraw` does.
        "{{" | "{#" if raw => return 2,
        "{#" => return text.find("#}").map_or(text.len(), |at| at + 2),
        "{{" => "}}",
        _ => "%}",
    };
    if raw && tag_word(text) != Some("endraw") {
        return 2;
    }
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(2) {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '"' || c == '\'' => quote = Some(c),
            None if text[at..].starts_with(close) => return at + 2,
            None => {}
        }
    }
    text.len()
}

/// The first word of a `{% … %}` tag.
fn tag_word(construct: &str) -> Option<&str> {
    let inside = construct.strip_prefix("{%")?;
    let inside = inside
        .strip_prefix(['-', '+'])
        .unwrap_or(inside)
        .trim_start();
    let end = inside
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(inside.len());
    Some(&inside[..end])
}

/// An include tag with the whitespace control of the tag that it replaces.
fn include(tag: &str, template: &str) -> String {
    let control = |byte: Option<&u8>| match byte {
        Some(b'-') => "-",
        Some(b'+') => "+",
        _ => "",
    };
    let bytes = tag.as_bytes();
    let (before, after) = (
        control(bytes.get(2)),
        control(bytes.len().checked_sub(3).and_then(|at| bytes.get(at))),
    );
    format!("{{%{before} include \"{template}\" {after}%}}")
}

/// Takes the marking characters out of rendered text. `None` if they do not come in pairs.
pub(super) fn cut(rendered: &str) -> Option<(String, Vec<Range<usize>>)> {
    let mut text = String::with_capacity(rendered.len());
    let mut spans = Vec::new();
    let mut open = None;
    let mut rest = rendered;
    while let Some(at) = rest.find([START, END]) {
        text.push_str(&rest[..at]);
        let marker = if rest[at..].starts_with(START) {
            START
        } else {
            END
        };
        match (marker, open.take()) {
            (START, None) => open = Some(text.len()),
            (END, Some(start)) => spans.push(start..text.len()),
            _ => return None,
        }
        rest = &rest[at + marker.len_utf8()..];
    }
    text.push_str(rest);
    open.is_none().then_some((text, spans))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_tags_keep_their_whitespace_control() {
        let rewritten = rewrite("a {%- generation -%} b {%  endgeneration+%} c");
        assert_eq!(
            rewritten,
            "a {%- include \"weft/generation\" -%} b {% include \"weft/endgeneration\" +%} c"
        );
    }

    #[test]
    fn tags_in_comments_raw_blocks_and_literals_are_left_alone() {
        for source in [
            "{# {% generation %} #}",
            "{% raw %}{% generation %}{{ '{%' }}{% endraw %}",
            "{{ '{% generation %}' }}",
            "{% set x = \"{% generation %}\" %}",
            "{% generations %}",
            "{{ unclosed",
        ] {
            assert_eq!(rewrite(source), source);
            assert!(!is_marked(source));
        }
        let after_raw = "{% raw %}{% endraw %}{% generation %}";
        assert!(rewrite(after_raw).ends_with("{% include \"weft/generation\" %}"));
    }

    #[test]
    fn markers_are_cut_out_and_leave_byte_spans() {
        let (text, spans) = cut("é\u{FDD0}ab\u{FDD1}c\u{FDD0}\u{FDD1}").unwrap();
        assert_eq!(text, "éabc");
        assert_eq!(spans, [2..4, 5..5]);
        assert_eq!(cut("\u{FDD1}"), None);
        assert_eq!(cut("\u{FDD0}\u{FDD0}\u{FDD1}"), None);
    }
}
