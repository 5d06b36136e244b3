//! Metadata values and typed access to them.

use std::collections::HashMap;

use super::cursor::{Cursor, corrupt};
use super::error::{Checked, Problem};
use super::{GgufError, GgufFile};

/// The longest array that is read. The largest vocabularies have a quarter of a million tokens.
const MAX_ARRAY: u64 = 1 << 22;
/// Arrays may hold arrays; the format sets no depth, real files use one.
const MAX_DEPTH: u32 = 4;

/// A metadata value. Integers and floats are widened: the file's own width carries no meaning.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Unsigned integers of all widths.
    Uint(u64),
    /// Signed integers of all widths.
    Int(i64),
    /// Floats of both widths.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// Text.
    String(String),
    /// Values of one type.
    Array(Vec<Value>),
}

impl Value {
    fn kind(&self) -> &'static str {
        match self {
            Self::Uint(_) => "an unsigned integer",
            Self::Int(_) => "a signed integer",
            Self::Float(_) => "a float",
            Self::Bool(_) => "a truth value",
            Self::String(_) => "text",
            Self::Array(_) => "an array",
        }
    }

    /// The value as an unsigned integer, where it is one and not negative.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Uint(number) => Some(*number),
            Self::Int(number) => u64::try_from(*number).ok(),
            Self::Float(_) | Self::Bool(_) | Self::String(_) | Self::Array(_) => None,
        }
    }

    /// The value as a float, where it is a number.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Float(number) => Some(*number),
            Self::Uint(number) => Some(*number as f64),
            Self::Int(number) => Some(*number as f64),
            Self::Bool(_) | Self::String(_) | Self::Array(_) => None,
        }
    }

    /// The value as text.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The value as a truth value.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(truth) => Some(*truth),
            _ => None,
        }
    }

    /// The value's elements.
    #[must_use]
    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Self::Array(values) => Some(values),
            _ => None,
        }
    }
}

/// Keys and values in file order.
#[derive(Debug, Default)]
pub struct Metadata {
    entries: Vec<(String, Value)>,
    by_key: HashMap<String, usize>,
}

impl Metadata {
    pub(super) fn insert(&mut self, key: String, value: Value) {
        self.by_key.insert(key.clone(), self.entries.len());
        self.entries.push((key, value));
    }

    /// The value of `key`, if the file has one.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.by_key.get(key).map(|index| &self.entries[*index].1)
    }

    /// Keys and values in file order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries
            .iter()
            .map(|(key, value)| (key.as_str(), value))
    }
}

/// Metadata that the caller cannot do without, or that must have a certain type where it is present.
impl GgufFile {
    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        let Some(value) = self.metadata().get(key) else {
            return Ok(None);
        };
        read(value).map(Some).ok_or_else(|| {
            self.problem(Problem::WrongType {
                key: key.to_owned(),
                found: value.kind(),
                expected,
            })
        })
    }

    fn problem(&self, problem: Problem) -> GgufError {
        GgufError::new(self.path(), problem)
    }

    /// Turns an absent value into an error that names `key`.
    ///
    /// # Errors
    /// When `value` is `None`.
    pub fn required<T>(&self, key: &str, value: Option<T>) -> Result<T, GgufError> {
        value.ok_or_else(|| {
            self.problem(Problem::MissingKey {
                key: key.to_owned(),
            })
        })
    }

    /// An unsigned integer, where the file has the key.
    ///
    /// # Errors
    /// When the value is of another type or negative.
    pub fn u64(&self, key: &str) -> Result<Option<u64>, GgufError> {
        self.typed(key, "an unsigned integer", Value::as_u64)
    }

    /// A number, where the file has the key.
    ///
    /// # Errors
    /// When the value is of another type.
    pub fn f64(&self, key: &str) -> Result<Option<f64>, GgufError> {
        self.typed(key, "a number", Value::as_f64)
    }

    /// A truth value, where the file has the key.
    ///
    /// # Errors
    /// When the value is of another type.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, GgufError> {
        self.typed(key, "a truth value", Value::as_bool)
    }

    /// Text, where the file has the key.
    ///
    /// # Errors
    /// When the value is of another type.
    pub fn str(&self, key: &str) -> Result<Option<&str>, GgufError> {
        self.typed(key, "text", Value::as_str)
    }

    /// An array of texts, where the file has the key.
    ///
    /// # Errors
    /// When the value or one of its elements is of another type.
    pub fn strings(&self, key: &str) -> Result<Option<Vec<&str>>, GgufError> {
        self.typed(key, "an array of texts", |value| {
            value.as_array()?.iter().map(Value::as_str).collect()
        })
    }

    /// An array of unsigned integers, where the file has the key.
    ///
    /// # Errors
    /// When the value or one of its elements is of another type.
    pub fn u64s(&self, key: &str) -> Result<Option<Vec<u64>>, GgufError> {
        self.typed(key, "an array of unsigned integers", |value| {
            value.as_array()?.iter().map(Value::as_u64).collect()
        })
    }

    /// An array of numbers, where the file has the key.
    ///
    /// # Errors
    /// When the value or one of its elements is of another type.
    pub fn f64s(&self, key: &str) -> Result<Option<Vec<f64>>, GgufError> {
        self.typed(key, "an array of numbers", |value| {
            value.as_array()?.iter().map(Value::as_f64).collect()
        })
    }
}

/// Reads a type number and the value after it.
pub(super) fn read_value(cursor: &mut Cursor<'_>, key: &str) -> Checked<Value> {
    let kind = cursor.u32(key)?;
    read_of_kind(cursor, key, kind, 0)
}

fn read_of_kind(cursor: &mut Cursor<'_>, key: &str, kind: u32, depth: u32) -> Checked<Value> {
    let value = match kind {
        0 => Value::Uint(u8::from_le_bytes(cursor.array(key)?).into()),
        1 => Value::Int(i8::from_le_bytes(cursor.array(key)?).into()),
        2 => Value::Uint(u16::from_le_bytes(cursor.array(key)?).into()),
        3 => Value::Int(i16::from_le_bytes(cursor.array(key)?).into()),
        4 => Value::Uint(cursor.u32(key)?.into()),
        5 => Value::Int(i32::from_le_bytes(cursor.array(key)?).into()),
        6 => Value::Float(f32::from_le_bytes(cursor.array(key)?).into()),
        7 => Value::Bool(read_bool(cursor, key)?),
        8 => Value::String(cursor.string(key)?),
        9 => read_array(cursor, key, depth + 1)?,
        10 => Value::Uint(cursor.u64(key)?),
        11 => Value::Int(i64::from_le_bytes(cursor.array(key)?)),
        12 => Value::Float(f64::from_le_bytes(cursor.array(key)?)),
        _ => {
            return Err(corrupt(
                key,
                cursor.offset(),
                format!("unknown value type {kind}"),
            ));
        }
    };
    Ok(value)
}

fn read_bool(cursor: &mut Cursor<'_>, key: &str) -> Checked<bool> {
    let [byte] = cursor.array(key)?;
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(corrupt(
            key,
            cursor.offset(),
            format!("truth value is {byte}"),
        )),
    }
}

fn read_array(cursor: &mut Cursor<'_>, key: &str, depth: u32) -> Checked<Value> {
    let kind = cursor.u32(key)?;
    let count = cursor.u64(key)?;
    if count > MAX_ARRAY || depth > MAX_DEPTH {
        let detail = format!(
            "array of {count} elements at depth {depth}, limits are {MAX_ARRAY} and {MAX_DEPTH}"
        );
        return Err(corrupt(key, cursor.offset(), detail));
    }
    let least_bytes = match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        9 => 12,
        _ => 8,
    };
    let count = cursor.expect_count(count, least_bytes, key)?;
    let values = (0..count).map(|_| read_of_kind(cursor, key, kind, depth));
    values.collect::<Checked<Vec<_>>>().map(Value::Array)
}
