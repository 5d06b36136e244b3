//! Tensor element types and their block sizes. Source: ggml `ggml.h` and `ggml-common.h`.

use std::fmt;

macro_rules! ggml_types {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $text:literal, $elements:literal in $bytes:literal;)*) => {
        /// Element type of a stored tensor.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum GgmlType { $($(#[$doc])* $name,)* }

        impl GgmlType {
            /// Every type that can be read.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The type with this number in the file format.
            #[must_use]
            pub const fn from_id(id: u32) -> Option<Self> {
                match id { $($id => Some(Self::$name),)* _ => None }
            }

            /// The number in the file format.
            #[must_use]
            pub const fn id(self) -> u32 {
                match self { $(Self::$name => $id,)* }
            }

            /// The name as ggml writes it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Elements that are stored together.
            #[must_use]
            pub const fn block_elements(self) -> u64 {
                match self { $(Self::$name => $elements,)* }
            }

            /// Bytes of one block.
            #[must_use]
            pub const fn block_bytes(self) -> u64 {
                match self { $(Self::$name => $bytes,)* }
            }
        }
    };
}

ggml_types! {
    /// Single precision.
    F32 = 0, "F32", 1 in 4;
    /// IEEE half precision.
    F16 = 1, "F16", 1 in 2;
    /// 4 bits, one scale.
    Q4_0 = 2, "Q4_0", 32 in 18;
    /// 4 bits, scale and minimum.
    Q4_1 = 3, "Q4_1", 32 in 20;
    /// 5 bits, one scale.
    Q5_0 = 6, "Q5_0", 32 in 22;
    /// 5 bits, scale and minimum.
    Q5_1 = 7, "Q5_1", 32 in 24;
    /// 8 bits, one scale.
    Q8_0 = 8, "Q8_0", 32 in 34;
    /// 8 bits, scale and sum.
    Q8_1 = 9, "Q8_1", 32 in 36;
    /// 2 bits in super-blocks.
    Q2K = 10, "Q2_K", 256 in 84;
    /// 3 bits in super-blocks.
    Q3K = 11, "Q3_K", 256 in 110;
    /// 4 bits in super-blocks.
    Q4K = 12, "Q4_K", 256 in 144;
    /// 5 bits in super-blocks.
    Q5K = 13, "Q5_K", 256 in 176;
    /// 6 bits in super-blocks.
    Q6K = 14, "Q6_K", 256 in 210;
    /// 8 bits in super-blocks.
    Q8K = 15, "Q8_K", 256 in 292;
    /// bfloat16.
    BF16 = 30, "BF16", 1 in 2;
}

impl GgmlType {
    /// Bytes of `elements` elements, or `None` if they do not fill whole blocks or the product overflows.
    #[must_use]
    pub fn byte_len(self, elements: u64) -> Option<u64> {
        if !elements.is_multiple_of(self.block_elements()) {
            return None;
        }
        (elements / self.block_elements()).checked_mul(self.block_bytes())
    }

    /// The names of all readable types, for messages.
    pub(super) fn names() -> String {
        let names: Vec<_> = Self::ALL.iter().map(|kind| kind.name()).collect();
        names.join(", ")
    }

    /// How a type number that cannot be read is called in messages.
    pub(super) fn unreadable_name(id: u32) -> String {
        let name = match id {
            16 => "IQ2_XXS",
            17 => "IQ2_XS",
            18 => "IQ3_XXS",
            19 => "IQ1_S",
            20 => "IQ4_NL",
            21 => "IQ3_S",
            22 => "IQ2_S",
            23 => "IQ4_XS",
            24 => "I8",
            25 => "I16",
            26 => "I32",
            27 => "I64",
            28 => "F64",
            29 => "IQ1_M",
            34 => "TQ1_0",
            35 => "TQ2_0",
            39 => "MXFP4",
            _ => return format!("number {id}"),
        };
        format!("{name} (number {id})")
    }
}

impl fmt::Display for GgmlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
