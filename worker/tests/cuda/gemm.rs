//! Products through cuBLASLt, and the adapter folded into a frozen product.

use weft_worker::ops::cuda::{Lay, Product, ProductOut};
use weft_worker::ops::{Cpu, Mat, Ops, Out, Write};

use crate::support::{assert_close, floats, gemm, gpu, halves, random, read, read_plain};

/// m, n, k.
const SHAPES: [[usize; 3]; 4] = [
    [64, 48, 32],
    [300, 128, 64],
    [129, 16, 576],
    [16, 256, 1000],
];

fn on_the_cpu(
    [m, n, k]: [usize; 3],
    alpha: f32,
    (a, a_transposed): (&Vec<f32>, bool),
    (b, b_transposed): (&Vec<f32>, bool),
    (c, write): (&Vec<f32>, Write),
) -> Vec<f32> {
    let mat = |buf, transposed| Mat {
        buf,
        offset: 0,
        transposed,
    };
    let mut c = c.clone();
    let out = Out::new(&mut c, write);
    Cpu::new().gemm(
        [m, n, k],
        alpha,
        mat(a, a_transposed),
        mat(b, b_transposed),
        out,
    );
    c
}

#[test]
fn products_agree_with_the_cpu_however_operands_lie() {
    let (Some(gpu), Some(gemm)) = (gpu(), gemm()) else {
        return;
    };
    for [m, n, k] in SHAPES {
        let (a, b, c) = (random(m * k, 1), random(k * n, 2), random(m * n, 3));
        let (device_a, device_b) = (halves(gpu, &a), halves(gpu, &b));
        for (a_transposed, b_transposed) in
            [(false, false), (false, true), (true, false), (true, true)]
        {
            for write in [Write::Set, Write::Add] {
                let expected = on_the_cpu(
                    [m, n, k],
                    0.5,
                    (&a, a_transposed),
                    (&b, b_transposed),
                    (&c, write),
                );
                let lay = |transposed, rows, cols| Lay {
                    stride: if transposed { rows } else { cols },
                    transposed,
                };
                let product = |float| Product {
                    mnk: [m, n, k],
                    a: lay(a_transposed, m, k),
                    b: lay(b_transposed, k, n),
                    c_stride: n,
                    float,
                };
                let what = format!("{m}x{n}x{k} {a_transposed} {b_transposed} {write:?}");
                let mut half = halves(gpu, &c);
                let out = (ProductOut::Half(&mut half), 0, write);
                gemm.multiply(
                    gpu,
                    (product(false), 0.5),
                    (&device_a, 0),
                    (&device_b, 0),
                    out,
                )
                .unwrap();
                assert_close(&read(gpu, &half), &expected, &what);
                let mut float = floats(gpu, &c);
                let out = (ProductOut::Float(&mut float), 0, write);
                gemm.multiply(
                    gpu,
                    (product(true), 0.5),
                    (&device_a, 0),
                    (&device_b, 0),
                    out,
                )
                .unwrap();
                assert_close(&read_plain(gpu, &float), &expected, &what);
            }
        }
    }
}

/// With s·x·Aᵀ behind each row of x and B behind each row of W, one product over inputs + rank gives W·x and the adapter's
/// part together.
#[test]
fn the_adapter_folds_into_the_frozen_product() {
    let (Some(gpu), Some(gemm)) = (gpu(), gemm()) else {
        return;
    };
    let (tokens, inputs, outputs, rank, scale) = (130, 576, 192, 16, 2.0);
    let stride = inputs + rank;
    let (x, w) = (random(tokens * inputs, 1), random(outputs * inputs, 2));
    let (a, b) = (random(rank * inputs, 3), random(outputs * rank, 4));
    let nothing = vec![0.0; tokens * outputs];
    let mut expected = on_the_cpu(
        [tokens, outputs, inputs],
        1.0,
        (&x, false),
        (&w, true),
        (&nothing, Write::Set),
    );
    let xa = on_the_cpu(
        [tokens, rank, inputs],
        scale,
        (&x, false),
        (&a, true),
        (&nothing, Write::Set),
    );
    expected = on_the_cpu(
        [tokens, outputs, rank],
        1.0,
        (&xa, false),
        (&b, true),
        (&expected, Write::Add),
    );

    let beside = |left: &[f32], width: usize, right: &[f32]| {
        let rows = left.chunks(width).zip(right.chunks(rank));
        rows.flat_map(|(left, right)| [left, right].concat())
            .collect::<Vec<f32>>()
    };
    let mut x = halves(gpu, &beside(&x, inputs, &vec![f32::NAN; tokens * rank]));
    let w = halves(gpu, &beside(&w, inputs, &b));
    let a = halves(gpu, &a);
    let skinny = Product {
        mnk: [tokens, rank, inputs],
        a: Lay::plain(stride),
        b: Lay::transposed(inputs),
        c_stride: rank,
        float: false,
    };
    // The tail of x's rows is written from a buffer of its own: a product's output overlaps no input.
    let mut tail = halves(gpu, &vec![f32::NAN; tokens * rank]);
    let out = (ProductOut::Half(&mut tail), 0, Write::Set);
    gemm.multiply(gpu, (skinny, scale), (&x, 0), (&a, 0), out)
        .unwrap();
    let tail = read(gpu, &tail);
    let rows = read(gpu, &x);
    let left: Vec<f32> = rows
        .chunks(stride)
        .flat_map(|row| row[..inputs].to_vec())
        .collect();
    x = halves(gpu, &beside(&left, inputs, &tail));
    let folded = Product {
        mnk: [tokens, outputs, stride],
        a: Lay::plain(stride),
        b: Lay::transposed(stride),
        c_stride: outputs,
        float: false,
    };
    let mut y = halves(gpu, &vec![f32::NAN; tokens * outputs]);
    let out = (ProductOut::Half(&mut y), 0, Write::Set);
    gemm.multiply(gpu, (folded, 1.0), (&x, 0), (&w, 0), out)
        .unwrap();
    assert_close(&read(gpu, &y), &expected, "folded adapter");
}
