//! JSON: an array of objects, `{"data": [objects]}`, or objects one after another (JSON lines).

use std::ops::ControlFlow;

use serde::de::{DeserializeOwned, IgnoredAny};

use super::{Fault, RawRow, Visitor};

/// Reads any of the three layouts.
pub(super) fn read(bytes: &[u8], visit: &mut Visitor<'_>) -> Result<(), Fault> {
    let mut cursor = Cursor { bytes, at: 0 };
    match cursor.peek() {
        Some(b'[') => cursor.array(visit),
        Some(b'{') if cursor.enter_data()? => cursor.array(visit),
        _ => read_lines(bytes, visit),
    }
}

/// Reads objects one after another.
pub(super) fn read_lines(bytes: &[u8], visit: &mut Visitor<'_>) -> Result<(), Fault> {
    let mut cursor = Cursor { bytes, at: 0 };
    while cursor.peek().is_some() {
        let row: RawRow = cursor.value()?;
        if let ControlFlow::Break(()) = visit(row, cursor.at as u64) {
            break;
        }
    }
    Ok(())
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        let space = self.bytes[self.at..]
            .iter()
            .take_while(|byte| byte.is_ascii_whitespace());
        self.at += space.count();
        self.bytes.get(self.at).copied()
    }

    fn value<T: DeserializeOwned>(&mut self) -> Result<T, Fault> {
        let mut stream =
            serde_json::Deserializer::from_slice(&self.bytes[self.at..]).into_iter::<T>();
        match stream.next() {
            Some(Ok(value)) => {
                self.at += stream.byte_offset();
                Ok(value)
            }
            Some(Err(error)) => {
                let line = self.line() + error.line().saturating_sub(1) as u64;
                let text = error.to_string();
                let detail = text.split(" at line ").next().unwrap_or(&text).to_owned();
                Err((line, detail))
            }
            None => Err((
                self.line(),
                "the file ends where a value should be; is it complete?".to_owned(),
            )),
        }
    }

    /// The line of the next byte; only computed for messages.
    fn line(&mut self) -> u64 {
        self.peek();
        let newlines = self.bytes[..self.at].iter().filter(|byte| **byte == b'\n');
        newlines.count() as u64 + 1
    }

    fn expect(&mut self, byte: u8) -> Result<(), Fault> {
        if self.peek() == Some(byte) {
            self.at += 1;
            return Ok(());
        }
        Err((
            self.line(),
            format!("expected `{}`; is the file complete?", char::from(byte)),
        ))
    }

    /// The rows of the array that comes next.
    fn array(&mut self, visit: &mut Visitor<'_>) -> Result<(), Fault> {
        self.expect(b'[')?;
        if self.peek() == Some(b']') {
            return Ok(());
        }
        loop {
            let row: RawRow = self.value()?;
            if let ControlFlow::Break(()) = visit(row, self.at as u64) {
                return Ok(());
            }
            if self.peek() == Some(b']') {
                return Ok(());
            }
            self.expect(b',')?;
        }
    }

    /// Moves to the array of the object's key `data`; false, and back at the start, if there is none.
    fn enter_data(&mut self) -> Result<bool, Fault> {
        let start = self.at;
        self.expect(b'{')?;
        while self.peek() == Some(b'"') {
            let key: String = self.value()?;
            self.expect(b':')?;
            if key == "data" && self.peek() == Some(b'[') {
                return Ok(true);
            }
            let _: IgnoredAny = self.value()?;
            if self.peek() == Some(b',') {
                self.at += 1;
            }
        }
        self.at = start;
        Ok(false)
    }
}
