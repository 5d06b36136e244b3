//! Matrix products over the `gemm` crate's single-threaded kernels, in tiles of fixed size.
#![allow(
    unsafe_code,
    reason = "the gemm crate takes raw pointers; every call is checked against its slices first"
)]

use rayon::prelude::*;

use crate::ops::Write;

/// Rows of an output tile: enough that packing the other operand is paid back.
const TILE_ROWS: usize = 512;
/// Columns of an output tile. Measured on Zen 3 with layers 576 and 1536 wide: 96 reaches 186–190 of 2×94 GFLOP/s.
const TILE_COLS: usize = 96;
/// Rows of a tile of a narrow output (an adapter's rank), so that there is more than one.
const NARROW_TILE_ROWS: usize = 96;

/// A matrix operand: element (r, c) is `data[r · row_stride + c · col_stride]`.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    data: &'a [f32],
    row_stride: usize,
    col_stride: usize,
}

impl<'a> View<'a> {
    /// A packed matrix of `shape`, or its transpose lying packed.
    pub(super) fn packed(data: &'a [f32], (rows, cols): (usize, usize), transposed: bool) -> Self {
        if transposed {
            return Self {
                data,
                row_stride: 1,
                col_stride: rows,
            };
        }
        Self {
            data,
            row_stride: cols,
            col_stride: 1,
        }
    }

    /// Rows of `stride` elements, of which the first columns are meant.
    pub(super) fn strided(data: &'a [f32], stride: usize) -> Self {
        Self {
            data,
            row_stride: stride,
            col_stride: 1,
        }
    }

    /// The transpose.
    pub(super) fn t(self) -> Self {
        Self {
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    fn check(&self, rows: usize, cols: usize) {
        let last = (rows - 1) * self.row_stride + (cols - 1) * self.col_stride;
        assert!(
            last < self.data.len(),
            "a {rows}x{cols} operand reaches element {last} of {}",
            self.data.len()
        );
    }
}

/// Where a product goes: rows of `stride` elements, of which the first columns are written.
pub(super) struct Target<'a> {
    data: &'a mut [f32],
    stride: usize,
    write: Write,
}

impl<'a> Target<'a> {
    /// Packed rows of `cols` elements.
    pub(super) fn packed(data: &'a mut [f32], cols: usize, write: Write) -> Self {
        Self::strided(data, cols, write)
    }

    /// Rows of `stride` elements, of which the first columns are written.
    pub(super) fn strided(data: &'a mut [f32], stride: usize, write: Write) -> Self {
        Self {
            data,
            stride,
            write,
        }
    }

    fn check(&self, rows: usize, cols: usize) {
        let last = (rows - 1) * self.stride + cols - 1;
        assert!(
            cols <= self.stride,
            "{cols} columns in rows of {}",
            self.stride
        );
        assert!(
            last < self.data.len(),
            "a {rows}x{cols} result reaches element {last} of {}",
            self.data.len()
        );
    }
}

/// `c (= or +=) alpha · a · b` on this thread.
pub(super) fn single(mnk: [usize; 3], alpha: f32, a: View<'_>, b: View<'_>, c: Target<'_>) {
    let Some(product) = Product::checked(mnk, alpha, (a, b), c) else {
        return;
    };
    product.tile((0, mnk[0]), (0, mnk[1]));
}

/// `c (= or +=) alpha · a · b` on all threads. Tiles depend on the shape alone.
pub(super) fn tiled(mnk: [usize; 3], alpha: f32, a: View<'_>, b: View<'_>, c: Target<'_>) {
    let [m, n, _] = mnk;
    let Some(product) = Product::checked(mnk, alpha, (a, b), c) else {
        return;
    };
    let (tile_rows, tile_cols) = if n <= TILE_COLS {
        (NARROW_TILE_ROWS, n)
    } else {
        (TILE_ROWS, TILE_COLS)
    };
    let row_tiles = m.div_ceil(tile_rows);
    let tiles = row_tiles * n.div_ceil(tile_cols);
    (0..tiles).into_par_iter().with_max_len(1).for_each(|tile| {
        let (row, col) = (tile % row_tiles * tile_rows, tile / row_tiles * tile_cols);
        product.tile((row, tile_rows.min(m - row)), (col, tile_cols.min(n - col)));
    });
}

/// A product whose operands and result were checked against their slices.
struct Product<'a> {
    k: usize,
    alpha: f32,
    a: View<'a>,
    b: View<'a>,
    c: *mut f32,
    stride: usize,
    write: Write,
}

// SAFETY: `c` comes from an exclusive borrow that outlives the product (`'a`), and `tile` is called for disjoint
// tiles only.
unsafe impl Sync for Product<'_> {}

impl<'a> Product<'a> {
    /// `None` where the result has no elements.
    fn checked(
        [m, n, k]: [usize; 3],
        alpha: f32,
        (a, b): (View<'a>, View<'a>),
        c: Target<'a>,
    ) -> Option<Self> {
        if m == 0 || n == 0 {
            return None;
        }
        assert!(k > 0, "a product over no elements");
        a.check(m, k);
        b.check(k, n);
        c.check(m, n);
        Some(Self {
            k,
            alpha,
            a,
            b,
            c: c.data.as_mut_ptr(),
            stride: c.stride,
            write: c.write,
        })
    }

    /// Rows and columns of the result, each as first and count.
    fn tile(&self, (row, rows): (usize, usize), (col, cols): (usize, usize)) {
        let (a, b) = (self.a, self.b);
        let signed =
            |stride: usize| isize::try_from(stride).expect("a slice's stride fits an isize");
        // SAFETY: `checked` proved that all elements of the operands and of the result that this shape names lie
        // within their slices; tiles lie within the shape, and concurrent calls have disjoint tiles of `c`.
        // `read_dst` is false for `=`, so poison in `c` is not read.
        unsafe {
            gemm::gemm(
                rows,
                cols,
                self.k,
                self.c.add(row * self.stride + col),
                1,
                signed(self.stride),
                self.write == Write::Add,
                a.data.as_ptr().add(row * a.row_stride),
                signed(a.col_stride),
                signed(a.row_stride),
                b.data.as_ptr().add(col * b.col_stride),
                signed(b.col_stride),
                signed(b.row_stride),
                1.0,
                self.alpha,
                false,
                false,
                false,
                gemm::Parallelism::None,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn numbers(len: usize, seed: f32) -> Vec<f32> {
        (0..len).map(|i| ((i as f32 + 1.0) * seed).sin()).collect()
    }

    fn expected([m, n, k]: [usize; 3], a: View<'_>, b: View<'_>) -> Vec<f64> {
        let at = |view: View<'_>, r: usize, c: usize| {
            f64::from(view.data[r * view.row_stride + c * view.col_stride])
        };
        (0..m * n)
            .map(|i| (0..k).map(|l| at(a, i / n, l) * at(b, l, i % n)).sum())
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn any_shape_and_layout_multiplies(m in 1..150_usize, n in 1..150_usize, k in 1..80_usize, ta: bool, tb: bool) {
            let (a, b) = (numbers(m * k, 0.7), numbers(k * n, 0.3));
            let (a, b) = (View::packed(&a, (m, k), ta), View::packed(&b, (k, n), tb));
            let mut set = vec![f32::NAN; m * n];
            tiled([m, n, k], 0.5, a, b, Target::packed(&mut set, n, Write::Set));
            let mut add = vec![1.0; m * n];
            single([m, n, k], 0.5, a, b, Target::packed(&mut add, n, Write::Add));
            for ((&set, &add), expected) in set.iter().zip(&add).zip(expected([m, n, k], a, b)) {
                prop_assert!((f64::from(set) - 0.5 * expected).abs() < 1e-4);
                prop_assert!((f64::from(add) - 0.5 * expected - 1.0).abs() < 1e-4);
            }
        }
    }

    #[test]
    fn a_strided_result_leaves_the_columns_between_alone() {
        let (a, b) = (numbers(6, 0.7), numbers(6, 0.3));
        let mut c = vec![9.0; 2 * 5];
        single(
            [2, 2, 3],
            1.0,
            View::strided(&a, 3),
            View::strided(&b, 2),
            Target::strided(&mut c, 5, Write::Set),
        );
        for row in 0..2 {
            assert!(c[row * 5..row * 5 + 2].iter().all(|v| v.abs() <= 3.0));
            assert_eq!(c[row * 5 + 2..row * 5 + 5], [9.0; 3]);
        }
    }

    #[test]
    #[should_panic(expected = "reaches element")]
    fn an_operand_too_short_is_refused() {
        let mut c = vec![0.0; 4];
        single(
            [2, 2, 3],
            1.0,
            View::strided(&[0.0; 5], 3),
            View::strided(&[0.0; 6], 2),
            Target::packed(&mut c, 2, Write::Set),
        );
    }
}
