//! Products through cuBLASLt, and the adapter folded into a frozen product.

use weft_worker::ops::cuda::{Add, CudaKernels, Halves, Lay, PlaceMut, Product, Tokens};
use weft_worker::ops::{Cpu, Mat, Out, Write};

use crate::support::{
    assert_close, floats, gemm, gpu, halves, packed, poisoned, random, read, read_plain,
};

/// m, n, k.
const SHAPES: [[usize; 3]; 4] = [
    [64, 48, 32],
    [304, 128, 64],
    [136, 16, 576],
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

/// An operand of `rows` rows, or its transpose, with gaps of NaN between rows.
fn operand(
    gpu: &CudaKernels,
    (rows, cols): (usize, usize),
    transposed: bool,
    values: &[f32],
) -> (Halves, Lay) {
    let lying = halves(gpu, if transposed { cols } else { rows }, values);
    let stride = lying.stride();
    (lying, Lay { stride, transposed })
}

#[test]
pub(crate) fn products_agree_with_the_cpu_however_operands_lie() {
    let (Some(gpu), Some(gemm)) = (gpu(), gemm()) else {
        return;
    };
    for [m, n, k] in SHAPES {
        let (a, b, c) = (random(m * k, 1), random(k * n, 2), random(m * n, 3));
        for (a_transposed, b_transposed) in
            [(false, false), (false, true), (true, false), (true, true)]
        {
            let (device_a, a_lay) = operand(gpu, (m, k), a_transposed, &a);
            let (device_b, b_lay) = operand(gpu, (k, n), b_transposed, &b);
            let [set, added] = [Write::Set, Write::Add].map(|write| {
                let (a, b) = ((&a, a_transposed), (&b, b_transposed));
                on_the_cpu([m, n, k], 0.5, a, b, (&c, write))
            });
            let what = format!("{m}x{n}x{k} {a_transposed} {b_transposed}");
            let multiply = |product, c: PlaceMut<'_>, add| {
                let (a, b) = (device_a.place(), device_b.place());
                gemm.multiply(gpu, (product, 0.5), a, b, c, add).unwrap();
            };
            for (add, expected) in [(Add::Nothing, &set), (Add::ToOutput, &added)] {
                let mut half = halves(gpu, m, &c);
                let product = Product::new([m, n, k], a_lay, b_lay, half.stride());
                multiply(product, half.place_mut(), add);
                assert_close(&read(gpu, &half), expected, &format!("{what} {add:?}"));

                let mut float = floats(gpu, &[vec![7.0; 16], c.clone(), vec![7.0; 16]].concat());
                let product = Product::new([m, n, k], a_lay, b_lay, n).floats();
                multiply(product, PlaceMut::floats(&mut float, 16), add);
                let float = read_plain(gpu, &float);
                assert_close(&float[16..][..m * n], expected, &format!("{what} in f32"));
                let around = float[..16].iter().chain(&float[16 + m * n..]);
                assert!(around.copied().eq([7.0; 32]));
            }
            let (mut half, other) = (poisoned(gpu, m, n), halves(gpu, m, &c));
            let product =
                Product::new([m, n, k], a_lay, b_lay, half.stride()).adding(other.stride());
            multiply(product, half.place_mut(), Add::Matrix(other.place()));
            assert_close(&read(gpu, &half), &added, &format!("{what} to another"));
        }
    }
}

#[test]
pub(crate) fn every_number_of_tokens_of_a_bucket_is_served() {
    let (Some(gpu), Some(gemm)) = (gpu(), gemm()) else {
        return;
    };
    let (inputs, outputs) = (320, 192);
    let w = random(outputs * inputs, 2);
    let device_w = halves(gpu, outputs, &w);
    for tokens in [1, 2, 77, 127, 128, 129, 200, 255, 256, 300] {
        let (x, dy) = (random(tokens * inputs, 1), random(tokens * outputs, 3));
        let (device_x, device_dy) = (halves(gpu, tokens, &x), halves(gpu, tokens, &dy));
        let nothing = vec![0.0; tokens * outputs];
        let expected = on_the_cpu(
            [tokens, outputs, inputs],
            1.0,
            (&x, false),
            (&w, true),
            (&nothing, Write::Set),
        );
        let forward = || {
            let mut y = poisoned(gpu, tokens, outputs);
            let product = Product::new(
                [tokens, outputs, inputs],
                Lay::plain(device_x.stride()),
                Lay::transposed(device_w.stride()),
                y.stride(),
            );
            let (x, w, y_place) = (device_x.place(), device_w.place(), y.place_mut());
            gemm.multiply(gpu, (product, 1.0), x, w, y_place, Add::Nothing)
                .unwrap();
            read(gpu, &y)
        };
        let y = forward();
        assert_close(&y, &expected, &format!("{tokens} tokens"));

        let nothing = vec![0.0; outputs * inputs];
        let expected = on_the_cpu(
            [outputs, inputs, tokens],
            1.0,
            (&dy, true),
            (&x, false),
            (&nothing, Write::Set),
        );
        let mut gradient = floats(gpu, &vec![f32::NAN; outputs * inputs]);
        let product = Product::new(
            [outputs, inputs, tokens],
            Lay::transposed(device_dy.stride()),
            Lay::plain(device_x.stride()),
            inputs,
        );
        let product = product.floats().by(Tokens::Summed);
        let (dy, x) = (device_dy.place(), device_x.place());
        let out = PlaceMut::floats(&mut gradient, 0);
        gemm.multiply(gpu, (product, 1.0), dy, x, out, Add::Nothing)
            .unwrap();
        let what = format!("a gradient over {tokens} tokens");
        assert_close(&read_plain(gpu, &gradient), &expected, &what);
    }
}

/// q, k and v side by side take one product, and what lies behind them stays.
#[test]
pub(crate) fn a_product_may_write_matrices_side_by_side() {
    let (Some(gpu), Some(gemm)) = (gpu(), gemm()) else {
        return;
    };
    let (tokens, inputs, widths) = (70, 64, [64, 32, 32]);
    let outputs = widths.iter().sum::<usize>();
    let (x, w) = (random(tokens * inputs, 1), random(outputs * inputs, 2));
    let nothing = vec![0.0; tokens * outputs];
    let expected = on_the_cpu(
        [tokens, outputs, inputs],
        1.0,
        (&x, false),
        (&w, true),
        (&nothing, Write::Set),
    );
    let (x, w) = (halves(gpu, tokens, &x), packed(gpu, outputs, &w));
    let mut parts = gpu.halves(tokens, &widths, 16).unwrap();
    let product = Product::new(
        [tokens, outputs, inputs],
        Lay::plain(x.stride()),
        Lay::transposed(inputs),
        parts[0].stride(),
    );
    let out = parts[0].place_mut();
    gemm.multiply(gpu, (product, 1.0), x.place(), w.place(), out, Add::Nothing)
        .unwrap();
    let mut first = 0;
    for part in &parts {
        let columns = first..first + part.width();
        let rows = expected.chunks(outputs);
        let expected: Vec<f32> = rows.flat_map(|row| row[columns.clone()].to_vec()).collect();
        let ours = gpu.download_halves(part, tokens).unwrap();
        let ours = gpu.gpu().half().widen(&ours);
        assert_close(&ours, &expected, &format!("columns {columns:?}"));
        first = columns.end;
    }
    let lying = read_plain(gpu, parts[0].memory());
    let mut tails = lying.chunks(parts[0].stride()).map(|row| &row[outputs..]);
    assert!(tails.all(|tail| tail.iter().all(|&bits| bits == 0)));
}

/// With s·x·Aᵀ behind each row of x and B behind each row of W, one product over inputs + rank gives W·x and the adapter's
/// part together.
#[test]
pub(crate) fn the_adapter_folds_into_the_frozen_product() {
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
    let lying = beside(&x, inputs, &vec![f32::NAN; tokens * rank]);
    let x = packed(gpu, tokens, &lying).split(&[inputs]).remove(0);
    let w = packed(gpu, outputs, &beside(&w, inputs, &b));
    // The adapter's parameters are one flat array.
    let adapter = packed(gpu, 1, &[vec![f32::NAN; 24], a].concat());
    let skinny = Product::new(
        [tokens, rank, inputs],
        Lay::plain(stride),
        Lay::transposed(inputs),
        stride,
    );
    let (a, tail) = (adapter.place_at(24), x.tail(0));
    gemm.multiply(gpu, (skinny, scale), x.place(), a, tail, Add::Nothing)
        .unwrap();
    let mut y = poisoned(gpu, tokens, outputs);
    let folded = Product::new(
        [tokens, outputs, stride],
        Lay::plain(stride),
        Lay::transposed(stride),
        y.stride(),
    );
    let out = y.place_mut();
    gemm.multiply(gpu, (folded, 1.0), x.place(), w.place(), out, Add::Nothing)
        .unwrap();
    assert_close(&read(gpu, &y), &expected, "folded adapter");
}
