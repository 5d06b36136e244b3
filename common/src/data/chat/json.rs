//! `tojson` as Hugging Face defines it: Python's `json.dumps(value, ensure_ascii=False, …)`, nothing escaped for HTML.

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind};

use super::environment::optional;

struct Style {
    /// Text of one indentation level, if lines are broken.
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
    sort_keys: bool,
}

impl Style {
    fn from_kwargs(indent: Option<Value>, kwargs: &Kwargs) -> Result<Self, Error> {
        let indent = match indent.filter(|value| !value.is_none()) {
            Some(value) => Some(value),
            None => optional(kwargs, "indent")?,
        };
        let indent = indent.map(|value| match value.as_usize() {
            Some(width) => " ".repeat(width),
            None => value.to_string(),
        });
        let sort_keys = optional(kwargs, "sort_keys")?.is_some_and(|value| value.is_true());
        let _ensure_ascii: Option<Value> = kwargs.get("ensure_ascii")?;
        let default_item = if indent.is_some() { "," } else { ", " };
        let (item_separator, key_separator) = match optional(kwargs, "separators")? {
            Some(pair) => (
                pair.get_item(&0.into())?.to_string(),
                pair.get_item(&1.into())?.to_string(),
            ),
            None => (default_item.to_owned(), ": ".to_owned()),
        };
        kwargs.assert_all_used()?;
        Ok(Self {
            indent,
            item_separator,
            key_separator,
            sort_keys,
        })
    }

    fn new_line(&self, depth: usize, out: &mut String) {
        if let Some(indent) = &self.indent {
            out.push('\n');
            (0..depth).for_each(|_| out.push_str(indent));
        }
    }
}

pub(super) fn tojson(
    value: &Value,
    indent: Option<Value>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    let style = Style::from_kwargs(indent, &kwargs)?;
    let mut out = String::new();
    write(value, &style, 0, &mut out)?;
    Ok(out)
}

fn write(value: &Value, style: &Style, depth: usize, out: &mut String) -> Result<(), Error> {
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => out.push_str(&number(value)),
        ValueKind::String => out.push_str(&quoted(value.as_str().unwrap_or_default())),
        ValueKind::Map => write_map(value, style, depth, out)?,
        ValueKind::Seq | ValueKind::Iterable => write_list(value, style, depth, out)?,
        kind => {
            let message = format!("a value of kind {kind} cannot be written as JSON");
            return Err(Error::new(ErrorKind::InvalidOperation, message));
        }
    }
    Ok(())
}

fn write_list(value: &Value, style: &Style, depth: usize, out: &mut String) -> Result<(), Error> {
    out.push('[');
    let mut empty = true;
    for item in value.try_iter()? {
        separate(&mut empty, style, depth, out);
        write(&item, style, depth + 1, out)?;
    }
    close(empty, ']', style, depth, out);
    Ok(())
}

fn write_map(value: &Value, style: &Style, depth: usize, out: &mut String) -> Result<(), Error> {
    let mut keys: Vec<Value> = value.try_iter()?.collect();
    if style.sort_keys {
        keys.sort();
    }
    out.push('{');
    let mut empty = true;
    for key in keys {
        separate(&mut empty, style, depth, out);
        out.push_str(&quoted(&key.to_string()));
        out.push_str(&style.key_separator);
        write(&value.get_item(&key)?, style, depth + 1, out)?;
    }
    close(empty, '}', style, depth, out);
    Ok(())
}

fn separate(first: &mut bool, style: &Style, depth: usize, out: &mut String) {
    if !std::mem::take(first) {
        out.push_str(&style.item_separator);
    }
    style.new_line(depth + 1, out);
}

fn close(empty: bool, bracket: char, style: &Style, depth: usize, out: &mut String) {
    if !empty {
        style.new_line(depth, out);
    }
    out.push(bracket);
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Python writes a float's exponent with a sign and at least two digits.
fn number(value: &Value) -> String {
    let text = value.to_string();
    match text.split_once('e') {
        Some((mantissa, exponent)) => {
            let (sign, digits) = exponent
                .strip_prefix('-')
                .map_or(('+', exponent), |digits| ('-', digits));
            format!("{}e{sign}{digits:0>2}", mantissa.trim_end_matches(".0"))
        }
        None => text,
    }
}
