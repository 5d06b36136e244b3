//! What a user may have meant by a key that does not exist.

use super::schema::SectionKeys;
use super::section::Section;
use super::{Problem, aliases};

/// Below this similarity (1 is equal) a guess would rather confuse.
const OWN_SECTION: f64 = 0.6;
/// A guess into another section needs to be better.
const OTHER_SECTION: f64 = 0.8;

/// The problem of `key` at `path`, which stands in `section` among the legal keys `own`. `section` is `None` for
/// mappings inside a section.
pub(super) fn unknown_key(
    path: String,
    key: &str,
    section: Option<Section>,
    keys: &SectionKeys,
) -> Problem {
    let own = section.map_or(&keys.here[..], |section| keys.of(section));
    let unknown = |remedy: String| Problem::new(path.clone(), "unknown key", remedy);
    if let Some((home, name)) = elsewhere(key, section, keys) {
        let place = match home {
            Section::Root => "at the top level".to_owned(),
            home => format!("in `{}`", home.key()),
        };
        return unknown(format!("`{name}` belongs {place}: move it there"));
    }
    let spellings = section
        .map_or(&[][..], aliases::of)
        .iter()
        .map(|(alias, _)| *alias);
    if let Some(near) = nearest(
        key,
        own.iter().map(String::as_str).chain(spellings),
        OWN_SECTION,
    ) {
        return unknown(format!("did you mean `{near}`?"));
    }
    let others = Section::ALL
        .into_iter()
        .filter(|other| Some(*other) != section);
    let near = others.filter_map(|other| {
        let near = nearest(
            key,
            keys.of(other).iter().map(String::as_str),
            OTHER_SECTION,
        )?;
        Some(other.path_of(near))
    });
    if let Some(near) = near.into_iter().next() {
        return unknown(format!("did you mean `{near}`?"));
    }
    unknown(format!("the keys here are {}", own.join(", ")))
}

/// The section where `key` is legal, by its own name first, and its canonical name there.
fn elsewhere<'a>(
    key: &'a str,
    section: Option<Section>,
    keys: &SectionKeys,
) -> Option<(Section, &'a str)> {
    let mut others = Section::ALL
        .into_iter()
        .filter(|other| Some(*other) != section);
    let by_name = others
        .clone()
        .find(|other| keys.of(*other).iter().any(|known| known == key));
    let by_alias =
        || others.find(|other| aliases::of(*other).iter().any(|(alias, _)| *alias == key));
    let home = by_name.or_else(by_alias)?;
    Some((home, aliases::canonical(home, key)))
}

fn nearest<'a>(
    key: &str,
    candidates: impl Iterator<Item = &'a str>,
    at_least: f64,
) -> Option<&'a str> {
    candidates
        .map(|candidate| {
            (
                strsim::normalized_damerau_levenshtein(key, candidate),
                candidate,
            )
        })
        .filter(|(similarity, _)| *similarity >= at_least)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// The word of `choices` that `word` is nearest to.
pub(super) fn choice<'a>(word: &str, choices: &[&'a str]) -> Option<&'a str> {
    nearest(word, choices.iter().copied(), OWN_SECTION)
}
