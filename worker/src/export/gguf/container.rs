//! The front part of a GGUF file: header, metadata, directory of tensors. Source: ggml `docs/gguf.md`, version 3.

use super::TensorType;

const MAGIC: &[u8; 4] = b"GGUF";
const VERSION: u32 = 3;
/// Tensors begin at multiples of it, behind the front part.
const ALIGNMENT: usize = 32;

/// Keys and values, in order.
pub(crate) type Metadata = Vec<(String, MetaValue)>;

/// A metadata value, of the types that readers expect.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum MetaValue {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    I32s(Vec<i32>),
    F32s(Vec<f32>),
}

impl From<&str> for MetaValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// A tensor of the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tensor {
    pub(super) name: String,
    /// Outermost first.
    pub(super) shape: Vec<usize>,
    pub(super) kind: TensorType,
}

impl Tensor {
    pub(super) fn bytes(&self) -> usize {
        self.kind.bytes(self.shape.iter().product())
    }
}

/// A file that is about to be written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Container {
    /// Everything in front of the tensors, padded.
    pub(super) front: Vec<u8>,
    /// Where each tensor begins, from the start of the file.
    pub(super) offsets: Vec<u64>,
    /// Of the whole file.
    pub(super) bytes: u64,
}

impl Container {
    pub(super) fn new(metadata: &Metadata, tensors: &[Tensor]) -> Self {
        let mut front = MAGIC.to_vec();
        front.extend(VERSION.to_le_bytes());
        front.extend((tensors.len() as u64).to_le_bytes());
        front.extend((metadata.len() as u64).to_le_bytes());
        for (key, value) in metadata {
            text(&mut front, key);
            put(&mut front, value);
        }
        let mut offsets = Vec::with_capacity(tensors.len());
        let mut end = 0;
        for tensor in tensors {
            offsets.push(end as u64);
            entry(&mut front, tensor, end);
            end += tensor.bytes().next_multiple_of(ALIGNMENT);
        }
        front.resize(front.len().next_multiple_of(ALIGNMENT), 0);
        let start = front.len() as u64;
        Self {
            offsets: offsets.into_iter().map(|offset| start + offset).collect(),
            bytes: start + end as u64,
            front,
        }
    }
}

fn entry(front: &mut Vec<u8>, tensor: &Tensor, offset: usize) {
    text(front, &tensor.name);
    front.extend((tensor.shape.len() as u32).to_le_bytes());
    for &dim in tensor.shape.iter().rev() {
        front.extend((dim as u64).to_le_bytes());
    }
    front.extend(tensor.kind.ggml().id().to_le_bytes());
    front.extend((offset as u64).to_le_bytes());
}

fn text(front: &mut Vec<u8>, text: &str) {
    front.extend((text.len() as u64).to_le_bytes());
    front.extend(text.as_bytes());
}

fn put(front: &mut Vec<u8>, value: &MetaValue) {
    const ARRAY: u32 = 9;
    let kind = kind(value);
    let array = |front: &mut Vec<u8>, len: usize| {
        front.extend(ARRAY.to_le_bytes());
        front.extend(kind.to_le_bytes());
        front.extend((len as u64).to_le_bytes());
    };
    match value {
        MetaValue::Texts(texts) => {
            array(front, texts.len());
            texts.iter().for_each(|one| text(front, one));
        }
        MetaValue::I32s(values) => {
            array(front, values.len());
            front.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        MetaValue::F32s(values) => {
            array(front, values.len());
            front.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        single => {
            front.extend(kind.to_le_bytes());
            put_single(front, single);
        }
    }
}

fn put_single(front: &mut Vec<u8>, value: &MetaValue) {
    match value {
        MetaValue::U32(value) => front.extend(value.to_le_bytes()),
        MetaValue::F32(value) => front.extend(value.to_le_bytes()),
        MetaValue::Bool(value) => front.push(u8::from(*value)),
        MetaValue::Text(value) => text(front, value),
        MetaValue::Texts(_) | MetaValue::I32s(_) | MetaValue::F32s(_) => {
            unreachable!("arrays are put with their length")
        }
    }
}

/// The type's number; of an array, that of its elements.
fn kind(value: &MetaValue) -> u32 {
    match value {
        MetaValue::U32(_) => 4,
        MetaValue::I32s(_) => 5,
        MetaValue::F32(_) | MetaValue::F32s(_) => 6,
        MetaValue::Bool(_) => 7,
        MetaValue::Text(_) | MetaValue::Texts(_) => 8,
    }
}

#[cfg(test)]
mod tests {
    use weft_common::gguf::{GgmlType, GgufFile, Value};

    use super::*;

    #[test]
    fn our_own_reader_finds_what_was_put_in() {
        let metadata = vec![
            ("a.u32".to_owned(), MetaValue::U32(7)),
            ("a.f32".to_owned(), MetaValue::F32(0.5)),
            ("a.bool".to_owned(), MetaValue::Bool(true)),
            ("a.text".to_owned(), MetaValue::from("läuft")),
            (
                "a.texts".to_owned(),
                MetaValue::Texts(vec!["x".into(), String::new()]),
            ),
            ("a.i32s".to_owned(), MetaValue::I32s(vec![1, -1])),
            ("a.f32s".to_owned(), MetaValue::F32s(vec![-2.0])),
        ];
        let tensor = |name: &str, shape: &[usize], kind| Tensor {
            name: name.to_owned(),
            shape: shape.to_vec(),
            kind,
        };
        let tensors = [
            tensor("norm", &[3], TensorType::F32),
            tensor("w", &[2, 32], TensorType::Q8_0),
        ];
        let container = Container::new(&metadata, &tensors);
        let mut bytes = container.front.clone();
        bytes.resize(container.bytes as usize, 0);
        bytes[container.offsets[1] as usize] = 42;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        let read = GgufFile::open(file.path()).unwrap();
        assert_eq!(read.version(), 3);
        let value = |key| read.metadata().get(key).unwrap().clone();
        assert_eq!(value("a.text"), Value::String("läuft".to_owned()));
        assert_eq!(value("a.u32"), Value::Uint(7));
        assert_eq!(
            value("a.i32s"),
            Value::Array(vec![Value::Int(1), Value::Int(-1)])
        );
        assert_eq!(value("a.f32s"), Value::Array(vec![Value::Float(-2.0)]));
        assert_eq!(value("a.bool"), Value::Bool(true));
        let w = read.tensor("w").unwrap();
        assert_eq!((w.dims.as_slice(), w.kind), (&[2, 32][..], GgmlType::Q8_0));
        assert_eq!(read.bytes(w)[0], 42);
    }
}
