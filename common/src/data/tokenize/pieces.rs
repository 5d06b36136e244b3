//! Cuts text into the pieces within which byte pairs are merged, as the models' regular expressions do, without a
//! regular expression: each pattern is a handful of character classes, and splitting is most of the cost of tokenizing.
//!
//! The order of the alternatives is that of the patterns; `\s+(?!\S)` is the run of white space without its last character,
//! unless the text ends there.

use std::sync::LazyLock;

use tokenizers::utils::SysRegex;

/// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
pub(super) const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// As Llama 3's, with single digits.
pub(super) const QWEN_2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How text is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Split {
    /// GPT-2's pattern: `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`.
    Gpt2,
    /// Single digits, then GPT-2's pattern on what lies between them.
    DigitsGpt2,
    /// [`LLAMA_3`].
    Llama3,
    /// [`QWEN_2`].
    Qwen2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Number,
    Space,
    Other,
}

/// Classes of all characters, as the regular expression engine sees them.
static CLASSES: LazyLock<Vec<Class>> = LazyLock::new(|| {
    let mut classes = vec![Class::Other; char::MAX as usize + 1];
    let all: String = (char::MIN..=char::MAX).collect();
    for (pattern, class) in [
        (r"\p{L}+", Class::Letter),
        (r"\p{N}+", Class::Number),
        (r"\s+", Class::Space),
    ] {
        let regex =
            SysRegex::new(pattern).expect("the pattern is a constant that every engine knows");
        for (start, end) in regex.find_iter(&all) {
            all[start..end]
                .chars()
                .for_each(|c| classes[c as usize] = class);
        }
    }
    classes
});

impl Split {
    /// Whether the text is one that the hand-written splitter cuts as the pattern does.
    ///
    /// Case folding makes `ſ` an `s`; after an apostrophe that would be a contraction.
    pub(super) fn handles(self, text: &str) -> bool {
        matches!(self, Self::Gpt2 | Self::DigitsGpt2) || !text.contains("'ſ")
    }

    /// Calls `emit` with the pieces of `text`, in order and without gaps.
    pub(super) fn for_each_piece<'a>(self, text: &'a str, mut emit: impl FnMut(&'a str)) {
        match self {
            Self::DigitsGpt2 => {
                let mut rest = text;
                while let Some((at, digit)) = rest.char_indices().find(|(_, c)| c.is_numeric()) {
                    Scanner::new(&rest[..at]).run(Scanner::gpt2, &mut emit);
                    let end = at + digit.len_utf8();
                    emit(&rest[at..end]);
                    rest = &rest[end..];
                }
                Scanner::new(rest).run(Scanner::gpt2, &mut emit);
            }
            Self::Gpt2 => Scanner::new(text).run(Scanner::gpt2, &mut emit),
            Self::Llama3 => Scanner::new(text).run(|scanner| scanner.llama3(3), &mut emit),
            Self::Qwen2 => Scanner::new(text).run(|scanner| scanner.llama3(1), &mut emit),
        }
    }
}

/// What is left of a text.
struct Scanner<'a> {
    rest: &'a str,
    classes: &'static [Class],
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            rest: text,
            classes: &CLASSES,
        }
    }

    /// Cuts pieces of the length that `next` says until nothing is left.
    fn run(mut self, next: impl Fn(&Self) -> usize, emit: &mut impl FnMut(&'a str)) {
        while !self.rest.is_empty() {
            let (piece, rest) = self.rest.split_at(next(&self));
            emit(piece);
            self.rest = rest;
        }
    }

    fn class(&self, c: char) -> Class {
        self.classes[c as usize]
    }

    fn char_at(&self, at: usize) -> Option<char> {
        self.rest[at..].chars().next()
    }

    fn class_at(&self, at: usize) -> Option<Class> {
        self.char_at(at).map(|c| self.class(c))
    }

    /// Where the run of characters that satisfy `belongs`, from `at` on, ends.
    fn run_end(&self, at: usize, belongs: impl Fn(char) -> bool) -> usize {
        self.rest[at..]
            .find(|c| !belongs(c))
            .map_or(self.rest.len(), |len| at + len)
    }

    fn class_end(&self, at: usize, class: Class) -> usize {
        self.run_end(at, |c| self.class(c) == class)
    }

    /// Length of the next piece by GPT-2's pattern.
    fn gpt2(&self) -> usize {
        if let Some(len) = contraction(self.rest, |byte| byte) {
            return len;
        }
        let start = usize::from(self.rest.starts_with(' '));
        match self.class_at(start) {
            None | Some(Class::Space) => self.white_space(),
            Some(class) if start == 1 => self.class_end(1, class),
            Some(class) => self.class_end(0, class),
        }
    }

    /// Length of the next piece by Llama 3's pattern, with at most `digits` in a row.
    fn llama3(&self, digits: usize) -> usize {
        if let Some(len) = contraction(self.rest, |byte| byte.to_ascii_lowercase()) {
            return len;
        }
        let first = self
            .char_at(0)
            .expect("the scanner runs while something is left");
        let after = first.len_utf8();
        match self.class(first) {
            Class::Letter => return self.class_end(0, Class::Letter),
            Class::Number => return self.numbers(digits),
            Class::Space | Class::Other => {}
        }
        let next = self.class_at(after);
        if next == Some(Class::Letter) && first != '\r' && first != '\n' {
            return self.class_end(after, Class::Letter);
        }
        let others = usize::from(first == ' ' && next == Some(Class::Other));
        if others == 1 || self.class(first) == Class::Other {
            let end = self.class_end(others, Class::Other);
            return self.run_end(end, is_newline);
        }
        let space = &self.rest[..self.class_end(0, Class::Space)];
        match space.rfind(is_newline) {
            Some(newline) => newline + 1,
            None => self.white_space(),
        }
    }

    fn numbers(&self, most: usize) -> usize {
        let run = &self.rest[..self.class_end(0, Class::Number)];
        run.char_indices().nth(most).map_or(run.len(), |(at, _)| at)
    }

    /// `\s+(?!\S)|\s+`
    fn white_space(&self) -> usize {
        let end = self.class_end(0, Class::Space);
        if end == self.rest.len() {
            return end;
        }
        match self.rest[..end].char_indices().next_back() {
            Some((last, _)) if last > 0 => last,
            _ => end,
        }
    }
}

fn is_newline(c: char) -> bool {
    c == '\r' || c == '\n'
}

/// Length of an English contraction at the start of `text`, with bytes compared after `fold`.
fn contraction(text: &str, fold: impl Fn(u8) -> u8) -> Option<usize> {
    let bytes = text.as_bytes();
    if bytes.first() != Some(&b'\'') {
        return None;
    }
    let second = fold(*bytes.get(1)?);
    if matches!(second, b's' | b't' | b'm' | b'd') {
        return Some(2);
    }
    let pair = (second, fold(*bytes.get(2)?));
    matches!(pair, (b'r', b'e') | (b'v', b'e') | (b'l', b'l')).then_some(3)
}
