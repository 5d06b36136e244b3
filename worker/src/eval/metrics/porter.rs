//! Porter's stemmer as NLTK has it (`NLTK_EXTENSIONS`), which `rouge-score` and NLTK's METEOR use.
//!
//! Source: M. F. Porter, An algorithm for suffix stripping, 1980, with NLTK's irregular forms and its changes to steps 1 and 2.

/// Forms that the rules get wrong.
const IRREGULAR: [(&str, &str); 16] = [
    ("sky", "sky"),
    ("skies", "sky"),
    ("dying", "die"),
    ("lying", "lie"),
    ("tying", "tie"),
    ("news", "news"),
    ("innings", "inning"),
    ("inning", "inning"),
    ("outings", "outing"),
    ("outing", "outing"),
    ("cannings", "canning"),
    ("canning", "canning"),
    ("howe", "howe"),
    ("proceed", "proceed"),
    ("exceed", "exceed"),
    ("succeed", "succeed"),
];

/// Suffixes of step 2, tried in this order; what is left of them must have a measure above 0.
const STEP_2: [(&str, &str); 21] = [
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("bli", "ble"),
    ("alli", "al"),
    ("entli", "ent"),
    ("eli", "e"),
    ("ousli", "ous"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("ator", "ate"),
    ("alism", "al"),
    ("iveness", "ive"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("biliti", "ble"),
    ("fulli", "ful"),
];

/// As [`STEP_2`].
const STEP_3: [(&str, &str); 7] = [
    ("icate", "ic"),
    ("ative", ""),
    ("alize", "al"),
    ("iciti", "ic"),
    ("ical", "ic"),
    ("ful", ""),
    ("ness", ""),
];

/// Suffixes that step 4 takes off where more than one measure is left.
const STEP_4: [&str; 19] = [
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou",
    "ism", "ate", "iti", "ous", "ive", "ize",
];

/// The stem of a word, lower-cased.
pub(super) fn stem(word: &str) -> String {
    let lower = word.to_lowercase();
    if let Some((_, stem)) = IRREGULAR.iter().find(|(form, _)| *form == lower) {
        return (*stem).to_owned();
    }
    if word.chars().count() <= 2 {
        return lower;
    }
    let steps = [step_1a, step_1b, step_1c, step_2, step_3, step_4, step_5];
    let word = Word(lower.chars().collect());
    steps
        .into_iter()
        .fold(word, |word, step| step(word))
        .0
        .into_iter()
        .collect()
}

/// A word, or what is left of one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Word(Vec<char>);

impl Word {
    /// What is before `suffix`.
    fn before(&self, suffix: &str) -> Option<Self> {
        let start = self.0.len().checked_sub(suffix.chars().count())?;
        let ends = self.0[start..].iter().copied().eq(suffix.chars());
        ends.then(|| Self(self.0[..start].to_vec()))
    }

    fn plus(mut self, suffix: &str) -> Self {
        self.0.extend(suffix.chars());
        self
    }

    /// Which letters are consonants: `y` is one at the start and after a vowel.
    fn consonants(&self) -> Vec<bool> {
        let mut flags: Vec<bool> = Vec::with_capacity(self.0.len());
        for letter in &self.0 {
            flags.push(match letter {
                'a' | 'e' | 'i' | 'o' | 'u' => false,
                'y' => !flags.last().copied().unwrap_or(false),
                _ => true,
            });
        }
        flags
    }

    /// How often consonants follow vowels.
    fn measure(&self) -> usize {
        self.consonants()
            .windows(2)
            .filter(|pair| !pair[0] && pair[1])
            .count()
    }

    fn has_vowel(&self) -> bool {
        self.consonants().contains(&false)
    }

    fn ends_in_double_consonant(&self) -> bool {
        match self.0[..] {
            [.., before, last] => before == last && self.ends_in_consonant(),
            _ => false,
        }
    }

    fn ends_in_consonant(&self) -> bool {
        self.consonants().last() == Some(&true)
    }

    /// Consonant, vowel, consonant, the last of which is not w, x or y; or a vowel and a consonant alone.
    fn ends_short(&self) -> bool {
        let flags = self.consonants();
        match flags[..] {
            [false, true] => true,
            [.., true, false, true] => !matches!(self.0.last(), Some('w' | 'x' | 'y')),
            _ => false,
        }
    }
}

fn step_1a(word: Word) -> Word {
    if let (Some(stem), 4) = (word.before("ies"), word.0.len()) {
        return stem.plus("ie");
    }
    for (suffix, replacement) in [("sses", "ss"), ("ies", "i"), ("ss", "ss"), ("s", "")] {
        if let Some(stem) = word.before(suffix) {
            return stem.plus(replacement);
        }
    }
    word
}

fn step_1b(word: Word) -> Word {
    if let Some(stem) = word.before("ied") {
        return stem.plus(if word.0.len() == 4 { "ie" } else { "i" });
    }
    if let Some(stem) = word.before("eed") {
        return if stem.measure() > 0 {
            stem.plus("ee")
        } else {
            word
        };
    }
    let stem = ["ed", "ing"]
        .iter()
        .find_map(|suffix| word.before(suffix).filter(Word::has_vowel));
    let Some(stem) = stem else { return word };
    if ["at", "bl", "iz"]
        .iter()
        .any(|ending| stem.before(ending).is_some())
    {
        return stem.plus("e");
    }
    if stem.ends_in_double_consonant() {
        let keeps = matches!(stem.0.last(), Some('l' | 's' | 'z'));
        let len = stem.0.len() - usize::from(!keeps);
        return Word(stem.0[..len].to_vec());
    }
    if stem.measure() == 1 && stem.ends_short() {
        return stem.plus("e");
    }
    stem
}

fn step_1c(word: Word) -> Word {
    match word.before("y") {
        Some(stem) if stem.0.len() > 1 && stem.ends_in_consonant() => stem.plus("i"),
        Some(_) | None => word,
    }
}

fn step_2(word: Word) -> Word {
    if let Some(stem) = word.before("alli").filter(|stem| stem.measure() > 0) {
        return step_2(stem.plus("al"));
    }
    if let Some((stem, replacement)) = first_suffix(&word, &STEP_2) {
        return if stem.measure() > 0 {
            stem.plus(replacement)
        } else {
            word
        };
    }
    // The `l` counts with the stem, so that `theology` is cut as `archaeology` is.
    match word
        .before("ogi")
        .filter(|stem| stem.0.last() == Some(&'l'))
    {
        Some(stem) if stem.measure() > 0 => stem.plus("og"),
        Some(_) | None => word,
    }
}

fn step_3(word: Word) -> Word {
    match first_suffix(&word, &STEP_3) {
        Some((stem, replacement)) if stem.measure() > 0 => stem.plus(replacement),
        Some(_) | None => word,
    }
}

fn first_suffix(word: &Word, rules: &[(&str, &'static str)]) -> Option<(Word, &'static str)> {
    rules
        .iter()
        .find_map(|(suffix, replacement)| Some((word.before(suffix)?, *replacement)))
}

fn step_4(word: Word) -> Word {
    let found = STEP_4
        .iter()
        .find_map(|suffix| Some((*suffix, word.before(suffix)?)));
    let Some((suffix, stem)) = found else {
        return word;
    };
    let fits = suffix != "ion" || matches!(stem.0.last(), Some('s' | 't'));
    if fits && stem.measure() > 1 {
        stem
    } else {
        word
    }
}

fn step_5(word: Word) -> Word {
    let word = match word.before("e") {
        Some(stem) if stem.measure() > 1 || stem.measure() == 1 && !stem.ends_short() => stem,
        Some(_) | None => word,
    };
    match word.before("l") {
        Some(stem) if stem.0.last() == Some(&'l') && stem.measure() > 1 => stem,
        Some(_) | None => word,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_the_paper_and_of_nltk_have_their_stems() {
        for (word, expected) in [
            ("caresses", "caress"),
            ("ponies", "poni"),
            ("flies", "fli"),
            ("dies", "die"),
            ("agreed", "agre"),
            ("feed", "feed"),
            ("hopping", "hop"),
            ("falling", "fall"),
            ("filing", "file"),
            ("happy", "happi"),
            ("enjoy", "enjoy"),
            ("radically", "radic"),
            ("geology", "geolog"),
            ("relational", "relat"),
            ("adoption", "adopt"),
            ("controll", "control"),
            ("dying", "die"),
            ("Is", "is"),
        ] {
            assert_eq!(stem(word), expected, "{word}");
        }
    }
}
