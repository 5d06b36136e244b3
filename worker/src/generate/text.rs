//! Tokens become text as they come: whole characters only, and nothing that belongs to a stop string.

use weft_common::data::ChatTokenizer;

/// What of a character that is not whole yet is decoded to.
const INCOMPLETE: char = '\u{fffd}';

/// Text out of tokens, piece by piece. Special tokens have no text. A character may be spread over several tokens: what is
/// not whole yet waits, and so does what may be the beginning of a stop string.
#[derive(Debug)]
pub struct TextStream<'a> {
    tokenizer: &'a ChatTokenizer,
    stops: &'a [String],
    tokens: Vec<u32>,
    /// First token of the window that is decoded: a token's text may depend on the one before it.
    window: usize,
    /// Tokens whose text is in `held` or was given out.
    decoded: usize,
    /// Text that was not given out yet.
    held: String,
    stopped: bool,
}

impl<'a> TextStream<'a> {
    /// An empty text that ends before any of `stops`.
    #[must_use]
    pub fn new(tokenizer: &'a ChatTokenizer, stops: &'a [String]) -> Self {
        Self {
            tokenizer,
            stops,
            tokens: Vec::new(),
            window: 0,
            decoded: 0,
            held: String::new(),
            stopped: false,
        }
    }

    /// The text that has become certain with this token; it may be empty.
    pub fn push(&mut self, token: u32) -> String {
        self.tokens.push(token);
        let before = self.decode(self.decoded);
        let after = self.decode(self.tokens.len());
        if after.len() > before.len() && !after.ends_with(INCOMPLETE) {
            self.take(&after, &before);
        }
        self.certain()
    }

    /// The rest, once no more tokens come.
    pub fn finish(&mut self) -> String {
        let before = self.decode(self.decoded);
        let after = self.decode(self.tokens.len());
        self.take(&after, &before);
        let mut text = self.certain();
        if !self.stopped {
            text.push_str(&std::mem::take(&mut self.held));
        }
        text
    }

    /// Whether a stop string has come.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    fn decode(&self, end: usize) -> String {
        self.tokenizer.decode(&self.tokens[self.window..end], true)
    }

    fn take(&mut self, after: &str, before: &str) {
        self.held.push_str(after.get(before.len()..).unwrap_or(""));
        self.window = self.decoded;
        self.decoded = self.tokens.len();
    }

    /// What of the held text no stop string can reach any more.
    fn certain(&mut self) -> String {
        if self.stopped {
            return String::new();
        }
        let stops = || self.stops.iter().filter(|stop| !stop.is_empty());
        if let Some(at) = stops().filter_map(|stop| self.held.find(stop)).min() {
            self.stopped = true;
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let waiting = stops().map(|stop| overlap(&self.held, stop)).max();
        let rest = self.held.split_off(self.held.len() - waiting.unwrap_or(0));
        std::mem::replace(&mut self.held, rest)
    }
}

/// Bytes at the end of `text` that `stop` begins with.
fn overlap(text: &str, stop: &str) -> usize {
    let ends = stop.char_indices().map(|(at, _)| at).rev();
    ends.filter(|&at| text.ends_with(&stop[..at]))
        .max()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn tokenizer() -> ChatTokenizer {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/quickstart/model");
        ChatTokenizer::load(&model, None, "auto").unwrap()
    }

    fn pieces(tokenizer: &ChatTokenizer, text: &str, stops: &[&str]) -> (Vec<String>, bool) {
        let stops: Vec<String> = stops.iter().map(|&stop| stop.to_owned()).collect();
        let mut stream = TextStream::new(tokenizer, &stops);
        let mut pieces: Vec<String> = Vec::new();
        for token in tokenizer.encode(text, false) {
            pieces.push(stream.push(token));
        }
        pieces.push(stream.finish());
        (pieces, stream.is_stopped())
    }

    #[test]
    fn pieces_are_whole_characters_and_make_up_the_text() {
        let tokenizer = tokenizer();
        for text in [
            "Iron and folate.",
            " leading  spaces\n\nand lines",
            "naïve café — 日本語 🙂🙂 done",
            "",
        ] {
            let (pieces, stopped) = pieces(&tokenizer, text, &[]);
            assert_eq!(pieces.concat(), text, "{pieces:?}");
            assert!(!stopped);
            assert!(
                pieces.iter().all(|piece| !piece.contains(INCOMPLETE)),
                "{pieces:?}"
            );
        }
    }

    #[test]
    fn what_begins_like_a_stop_string_waits_and_a_stop_string_is_never_seen() {
        let tokenizer = tokenizer();
        let text = "one two\nUser says\nUser: three";
        let (told, stopped) = pieces(&tokenizer, text, &["\nUser:", "never"]);
        assert_eq!(
            (told.concat().as_str(), stopped),
            ("one two\nUser says", true)
        );
        // Cut off within what could have become one.
        let (told, stopped) = pieces(&tokenizer, "one\nUse", &["\nUser:"]);
        assert_eq!((told.concat().as_str(), stopped), ("one\nUse", false));
        let (told, stopped) = pieces(&tokenizer, "日本語", &["本"]);
        assert_eq!((told.concat().as_str(), stopped), ("日", true));
    }

    #[test]
    fn of_two_stop_strings_the_first_in_the_text_counts() {
        let tokenizer = tokenizer();
        let (told, stopped) = pieces(&tokenizer, "a b c d", &["d", " b c"]);
        assert_eq!((told.concat().as_str(), stopped), ("a", true));
    }

    #[test]
    fn overlaps_are_whole_characters() {
        assert_eq!(overlap("ab", "bc"), 1);
        assert_eq!(overlap("aa", "aab"), 2);
        assert_eq!(overlap("日", "日本"), 3);
        assert_eq!(overlap("ab", "ab"), 0);
        assert_eq!(overlap("", "ab"), 0);
    }
}
