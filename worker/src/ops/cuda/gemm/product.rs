//! What a product is asked for by: a shape, and how its matrices lie.

/// A shape of product, and how its matrices lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Product {
    /// Rows of C, columns of C, and the summed index.
    pub mnk: [usize; 3],
    /// The left matrix, m × k.
    pub a: Lay,
    /// The right matrix, k × n.
    pub b: Lay,
    /// Row stride of C.
    pub c_stride: usize,
    /// Row stride of the matrix that is added; C's where that is C or nothing.
    pub add_stride: usize,
    /// Whether C is f32; it is 16 bit otherwise.
    pub float: bool,
    /// What counts tokens, of which there are ever other numbers.
    pub tokens: Tokens,
}

/// Which dimension of a product counts tokens.
///
/// Algorithms are chosen for a number of tokens rounded up, so that a new number costs no search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tokens {
    /// The rows of C.
    Rows,
    /// The summed index.
    Summed,
    /// None: the algorithm is chosen for the exact shape.
    Nowhere,
}

/// Tokens are rounded up to a multiple of this where an algorithm is chosen, fewer to a power of two.
const BUCKET: usize = 128;

fn rounded(tokens: usize) -> usize {
    if tokens < BUCKET {
        tokens.next_power_of_two()
    } else {
        tokens.next_multiple_of(BUCKET)
    }
}

impl Product {
    /// A product to a 16-bit C whose rows count tokens, and to which C or nothing is added.
    #[must_use]
    pub fn new(mnk: [usize; 3], a: Lay, b: Lay, c_stride: usize) -> Self {
        Self {
            mnk,
            a,
            b,
            c_stride,
            add_stride: c_stride,
            float: false,
            tokens: Tokens::Rows,
        }
    }

    /// The same to an f32 C.
    #[must_use]
    pub fn floats(self) -> Self {
        Self {
            float: true,
            ..self
        }
    }

    /// The same with a matrix of this row stride to add.
    #[must_use]
    pub fn adding(self, add_stride: usize) -> Self {
        Self { add_stride, ..self }
    }

    /// The same with another dimension that counts tokens.
    #[must_use]
    pub fn by(self, tokens: Tokens) -> Self {
        Self { tokens, ..self }
    }

    /// The shape that the algorithm is chosen for: with tokens rounded up, where the strides leave room for that.
    pub(super) fn bucket(self) -> Self {
        let [m, n, k] = self.mnk;
        let (mnk, room) = match self.tokens {
            Tokens::Rows => {
                let m = rounded(m);
                ([m, n, k], !self.a.transposed || self.a.stride >= m)
            }
            Tokens::Summed => {
                let k = rounded(k);
                let a_fits = self.a.transposed || self.a.stride >= k;
                let b_fits = !self.b.transposed || self.b.stride >= k;
                ([m, n, k], a_fits && b_fits)
            }
            Tokens::Nowhere => (self.mnk, true),
        };
        if room { Self { mnk, ..self } } else { self }
    }
}

/// How an operand lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lay {
    /// Row stride of what lies there.
    pub stride: usize,
    /// Whether that is the operand's transpose.
    pub transposed: bool,
}

impl Lay {
    /// The operand as it lies.
    #[must_use]
    pub fn plain(stride: usize) -> Self {
        Self {
            stride,
            transposed: false,
        }
    }

    /// The transpose of what lies there.
    #[must_use]
    pub fn transposed(stride: usize) -> Self {
        Self {
            stride,
            transposed: true,
        }
    }

    /// Elements that an operand of this shape spans.
    pub(super) fn span(self, rows: usize, cols: usize) -> usize {
        let (rows, cols) = if self.transposed {
            (cols, rows)
        } else {
            (rows, cols)
        };
        assert!(
            self.stride >= cols,
            "a row stride of {} for {cols} columns",
            self.stride
        );
        (rows - 1) * self.stride + cols
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_counts_of_a_bucket_share_a_shape_and_other_dimensions_stay() {
        let forward = |tokens| {
            Product::new(
                [tokens, 4096, 1040],
                Lay::plain(1040),
                Lay::transposed(1040),
                4096,
            )
        };
        assert_eq!(forward(65).bucket(), forward(128).bucket());
        assert_eq!(forward(3).bucket().mnk, [4, 4096, 1040]);
        assert_eq!(forward(129).bucket().mnk, [256, 4096, 1040]);
        let gradient = |tokens| {
            Product::new(
                [16, 4096, tokens],
                Lay::transposed(16),
                Lay::plain(4096),
                4096,
            )
            .floats()
            .by(Tokens::Summed)
        };
        assert_eq!(gradient(300).bucket(), gradient(384).bucket());
        let exact = forward(77).by(Tokens::Nowhere);
        assert_eq!(exact.bucket(), exact);
    }

    #[test]
    fn a_stride_without_room_for_more_tokens_keeps_the_exact_shape() {
        let packed = Product::new([100, 64, 32], Lay::transposed(100), Lay::plain(64), 64);
        assert_eq!(packed.bucket(), packed);
        let wide = Product {
            a: Lay::transposed(128),
            ..packed
        };
        assert_eq!(wide.bucket().mnk, [128, 64, 32]);
    }
}
