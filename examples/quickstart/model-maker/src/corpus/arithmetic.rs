//! Sums in words: "What is seven plus five?"

use crate::rng::Rng;

const SMALL: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 8] = [
    "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
];

/// Draws a question and its answer.
pub fn conversation(rng: &mut Rng) -> Vec<String> {
    let (a, b) = (rng.below(13), rng.below(13));
    let (question, answer) = match rng.below(4) {
        0 => (format!("{} plus {}", word(a), word(b)), a + b),
        1 => (format!("{} minus {}", word(a + b), word(b)), a),
        2 => (
            format!("{} times {}", word(a % 10), word(b % 10)),
            (a % 10) * (b % 10),
        ),
        _ => (format!("half of {}", word(2 * a)), a),
    };
    let first = format!("What is {question}?");
    let second = format!("{} is {}.", capitalized(&question), word(answer));
    vec![first, second]
}

/// A number below one hundred in words.
fn word(number: usize) -> String {
    match (number / 10, number % 10) {
        (0 | 1, _) => SMALL[number].to_owned(),
        (tens, 0) => TENS[tens - 2].to_owned(),
        (tens, ones) => format!("{}-{}", TENS[tens - 2], SMALL[ones]),
    }
}

/// The text with its first letter as a capital.
pub(super) fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_say_them() {
        assert_eq!(
            [0, 13, 20, 47, 81].map(word),
            ["zero", "thirteen", "twenty", "forty-seven", "eighty-one"]
        );
    }
}
