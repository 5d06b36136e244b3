//! The Jinja environment that Hugging Face gives to chat templates.
//!
//! Source: `transformers` `utils/chat_template_utils.py`: `trim_blocks`, `lstrip_blocks`, loop controls, Python's own
//! string, list and dict methods, `tojson` without HTML escaping, `raise_exception`, `strftime_now`.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, Error, ErrorKind};

use super::{json, markers};

/// The name of the one template in an environment.
pub(super) const TEMPLATE: &str = "chat";

/// Compiles `source`, with `{% generation %}` made to leave [`markers`].
pub(super) fn compile(source: &str) -> Result<Environment<'static>, Error> {
    let mut env = Environment::new();
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true);
    env.set_syntax(syntax.build()?);
    env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    env.add_filter("tojson", json::tojson);
    env.add_function("raise_exception", raise_exception);
    env.add_function("strftime_now", strftime_now);
    env.add_template(markers::START_TEMPLATE, markers::START_TEXT)?;
    env.add_template(markers::END_TEMPLATE, markers::END_TEXT)?;
    env.add_template_owned(TEMPLATE, markers::rewrite(source))?;
    Ok(env)
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// Formats the date that stands for "now": 26 July 2024, the one that Llama 3.1's documentation uses.
///
/// The real date would make the tokens, and with them the adapter, depend on the day of the run.
fn strftime_now(format: &str) -> String {
    let mut out = String::with_capacity(format.len() + 8);
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match chars
            .next()
            .map(|c| if c == '-' { chars.next() } else { Some(c) })
        {
            Some(Some(code)) => out.push_str(date_part(code)),
            Some(None) | None => out.push('%'),
        }
    }
    out
}

fn date_part(code: char) -> &'static str {
    match code {
        'd' | 'e' => "26",
        'm' => "07",
        'y' => "24",
        'Y' => "2024",
        'b' | 'h' => "Jul",
        'B' => "July",
        'a' => "Fri",
        'A' => "Friday",
        'j' => "208",
        'F' => "2024-07-26",
        'H' | 'M' | 'S' => "00",
        'I' => "12",
        'p' => "AM",
        'T' | 'X' => "00:00:00",
        '%' => "%",
        _ => "",
    }
}

/// Whether `kwargs` asks for something, reading Python's `None` as absence.
pub(super) fn optional(kwargs: &Kwargs, name: &str) -> Result<Option<Value>, Error> {
    let value: Option<Value> = kwargs.get(name)?;
    Ok(value.filter(|value| !value.is_none() && !value.is_undefined()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn now_is_the_documented_date_in_every_usual_format() {
        assert_eq!(strftime_now("%d %b %Y"), "26 Jul 2024");
        assert_eq!(
            strftime_now("%B %-d, %Y is a %A, 100%%"),
            "July 26, 2024 is a Friday, 100%"
        );
        assert_eq!(strftime_now("%"), "%");
    }
}
