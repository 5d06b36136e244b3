//! Each op, forward and backward, against candle's autograd in f64. Outputs are poisoned before.

use candle_core::{Result, Tensor, Var};
use weft_worker::lora::LoraPair;
use weft_worker::model::{
    Activation, DenseMatrix, DenseValues, FrozenLinear, RopeScaling, RopeSpec,
};
use weft_worker::ops::{
    AdaptedLinear, AttentionGrads, AttentionSaved, AttentionShape, Cpu, Input, LoraBranch,
    LoraScratch, Norm, Ops, Qkv, Rotation, Turn,
};

use crate::models::numbers;
use crate::oracle::{self, matrix, values};
use crate::support::assert_close;

const BOUND: f32 = 1e-4;

fn poison(len: usize) -> Vec<f32> {
    vec![f32::NAN; len]
}

fn variable(values: &[f32], rows: usize, cols: usize) -> Result<Var> {
    Var::from_tensor(&matrix(values, rows, cols)?)
}

/// Gradients of Σ y·dy.
fn pull_back(y: &Tensor, dy: &[f32], inputs: &[&Var]) -> Result<Vec<Vec<f32>>> {
    let (rows, cols) = y.dims2()?;
    let grads = (y * matrix(dy, rows, cols)?)?.sum_all()?.backward()?;
    inputs
        .iter()
        .map(|input| values(grads.get(input).expect("the output depends on it")))
        .collect()
}

fn dense(rows: usize, cols: usize, seed: f32) -> FrozenLinear {
    FrozenLinear::Dense(DenseMatrix {
        rows,
        cols,
        values: DenseValues::F32(numbers(rows * cols, seed, 0.3)),
    })
}

#[test]
fn rms_norm_equals_autograd() {
    let (tokens, width, eps) = (37, 50, 1e-5);
    let (x, dy) = (
        numbers(tokens * width, 0.1, 2.0),
        numbers(tokens * width, 0.2, 1.0),
    );
    let weight = numbers(width, 0.3, 1.5);
    let norm = Norm {
        weight: &weight,
        eps,
        tokens,
        width,
    };
    let (mut y, mut rstd) = (poison(tokens * width), poison(tokens));
    Cpu::new().rms_norm_forward(norm, &x, &mut y, &mut rstd);
    let mut dx = vec![1.0; tokens * width];
    Cpu::new().rms_norm_backward(norm, (&x, &rstd), &dy, &mut dx);

    let input = variable(&x, tokens, width).unwrap();
    let expected = oracle::norm(&input, &weight, eps).unwrap();
    assert_close("y", &y, &values(&expected).unwrap(), BOUND);
    let grads = pull_back(&expected, &dy, &[&input]).unwrap();
    let added: Vec<f32> = grads[0].iter().map(|g| g + 1.0).collect();
    assert_close("dx +=", &dx, &added, BOUND);
}

#[test]
fn rope_equals_autograd() {
    let (tokens, heads, head_dim) = (21, 3, 10);
    let len = tokens * heads * head_dim;
    let spec = RopeSpec {
        theta: 500.0,
        scaling: RopeScaling::None,
    };
    let positions: Vec<u32> = (0..tokens as u32).collect();
    let (cos, sin) = spec.angles(head_dim, &positions);
    let rotation = |turn| Rotation {
        cos: &cos,
        sin: &sin,
        tokens,
        head_dim,
        turn,
    };
    let (x, dy) = (numbers(len, 0.1, 1.0), numbers(len, 0.2, 1.0));
    let (mut y, mut dx) = (x.clone(), dy.clone());
    let (mut one_head, mut one_back) = (
        x[..tokens * head_dim].to_vec(),
        vec![0.0; tokens * head_dim],
    );
    Cpu::new().rope(rotation(Turn::Forward), (heads, 1), &mut y, &mut one_head);
    Cpu::new().rope(rotation(Turn::Backward), (heads, 1), &mut dx, &mut one_back);
    Cpu::new().rope(
        rotation(Turn::Backward),
        (1, 1),
        &mut one_head,
        &mut one_back,
    );
    assert_close("there and back", &one_head, &x[..tokens * head_dim], BOUND);

    let input = variable(&x, tokens, heads * head_dim).unwrap();
    let expected = oracle::rope(&input, heads, head_dim, &spec).unwrap();
    assert_close("y", &y, &values(&expected).unwrap(), BOUND);
    assert_close(
        "dx",
        &dx,
        &pull_back(&expected, &dy, &[&input]).unwrap()[0],
        BOUND,
    );
}

#[test]
fn gated_units_equal_autograd() {
    for act in [Activation::Silu, Activation::GeluTanh] {
        let len = 3001;
        let (gate, up) = (numbers(len, 0.1, 6.0), numbers(len, 0.2, 2.0));
        let dh = numbers(len, 0.3, 1.0);
        let mut h = poison(len);
        Cpu::new().glu_forward((1, len), act, (&gate, &up), &mut h);
        let (mut dgate, mut dup) = (gate.clone(), up.clone());
        let mut dh_to_h = dh.clone();
        Cpu::new().glu_backward((1, len), act, &mut dh_to_h, (&mut dgate, &mut dup));
        assert_eq!(dh_to_h, h, "h as the forward makes it");

        let (gate, up) = (
            variable(&gate, 1, len).unwrap(),
            variable(&up, 1, len).unwrap(),
        );
        let expected = (oracle::activate(&gate, act).unwrap() * up.as_tensor()).unwrap();
        assert_close("h", &h, &values(&expected).unwrap(), BOUND);
        let grads = pull_back(&expected, &dh, &[&gate, &up]).unwrap();
        assert_close("dgate", &dgate, &grads[0], BOUND);
        assert_close("dup", &dup, &grads[1], BOUND);
    }
}

#[test]
fn attention_over_packed_documents_equals_autograd_over_each() {
    let (heads, kv_heads, head_dim) = (6, 2, 16);
    let cu_seqlens: Vec<u32> = vec![0, 5, 150, 151, 215];
    let tokens = 215;
    let (q_width, kv_width) = (heads * head_dim, kv_heads * head_dim);
    let shape = AttentionShape {
        heads,
        kv_heads,
        head_dim,
        scale: 1.0 / (head_dim as f32).sqrt(),
    };
    let q = numbers(tokens * q_width, 0.1, 2.0);
    let (k, v) = (
        numbers(tokens * kv_width, 0.2, 2.0),
        numbers(tokens * kv_width, 0.3, 1.0),
    );
    let dout = numbers(tokens * q_width, 0.4, 1.0);
    let (mut out, mut lse) = (poison(tokens * q_width), poison(tokens * heads));
    let qkv = || Qkv {
        q: &q,
        k: &k,
        v: &v,
    };
    let documents = Cpu::new().upload_documents(&cu_seqlens);
    Cpu::new().attention_forward(shape, &documents, qkv(), &mut out, &mut lse);
    let (mut dq, mut dk, mut dv) = (
        poison(tokens * q_width),
        poison(tokens * kv_width),
        poison(tokens * kv_width),
    );
    let saved = AttentionSaved {
        qkv: qkv(),
        out: &out,
        lse: &lse,
    };
    let grads = AttentionGrads {
        dq: &mut dq,
        dk: &mut dk,
        dv: &mut dv,
    };
    Cpu::new().attention_backward(shape, &documents, saved, &dout, grads);

    for ends in cu_seqlens.windows(2) {
        let (start, end) = (ends[0] as usize, ends[1] as usize);
        let part = |values: &[f32], width: usize| values[start * width..end * width].to_vec();
        let input = |values: &[f32], width: usize| {
            variable(&part(values, width), end - start, width).unwrap()
        };
        let (qi, ki, vi) = (input(&q, q_width), input(&k, kv_width), input(&v, kv_width));
        let expected = oracle::attention(&qi, &ki, &vi, (heads, kv_heads, head_dim)).unwrap();
        let grads = pull_back(&expected, &part(&dout, q_width), &[&qi, &ki, &vi]).unwrap();
        assert_close(
            "out",
            &part(&out, q_width),
            &values(&expected).unwrap(),
            BOUND,
        );
        // A document of one token has no gradient for its scores: both sides are rounding around 0.
        if end - start > 1 {
            assert_close("dq", &part(&dq, q_width), &grads[0], BOUND);
            assert_close("dk", &part(&dk, kv_width), &grads[1], BOUND);
        }
        assert_close("dv", &part(&dv, kv_width), &grads[2], BOUND);
    }
}

#[test]
fn the_last_queries_over_a_cache_equal_the_whole() {
    let (tokens, heads, kv_heads, head_dim) = (150, 4, 2, 16);
    let shape = AttentionShape {
        heads,
        kv_heads,
        head_dim,
        scale: 0.25,
    };
    let q = numbers(tokens * heads * head_dim, 0.1, 2.0);
    let (k, v) = (
        numbers(tokens * kv_heads * head_dim, 0.2, 2.0),
        numbers(tokens * kv_heads * head_dim, 0.3, 1.0),
    );
    let run = |q: &Vec<f32>, count: usize| {
        let (mut out, mut lse) = (poison(count * heads * head_dim), poison(count * heads));
        let documents = Cpu::new().upload_continued(&[0, count as u32], &[0, tokens as u32]);
        Cpu::new().attention_forward(
            shape,
            &documents,
            Qkv { q, k: &k, v: &v },
            &mut out,
            &mut lse,
        );
        out
    };
    let whole = run(&q, tokens);
    for count in [1, 3, 70] {
        let from = (tokens - count) * heads * head_dim;
        assert_close(
            &format!("last {count}"),
            &run(&q[from..].to_vec(), count),
            &whole[from..],
            1e-5,
        );
    }
}

#[test]
fn an_adapted_linear_equals_autograd() {
    check_adapted_linear([45, 130, 70]);
}

#[test]
fn a_linear_of_several_panels_equals_autograd() {
    check_adapted_linear([5, 3000, 400]);
}

fn check_adapted_linear([tokens, outputs, inputs]: [usize; 3]) {
    let (rank, scale) = (4, 1.5);
    let weight = dense(outputs, inputs, 0.1);
    let (x, dy) = (
        numbers(tokens * inputs, 0.2, 1.0),
        numbers(tokens * outputs, 0.3, 1.0),
    );
    let bias = numbers(outputs, 0.4, 1.0);
    let adapter = numbers(7 + rank * (inputs + outputs), 0.5, 0.5);
    let pair = LoraPair {
        a: 7,
        b: 7 + rank * inputs,
        rank,
    };
    let linear = || AdaptedLinear {
        weight: &weight,
        bias: Some(&bias),
        shape: (outputs, inputs),
        lora: Some(LoraBranch {
            values: &adapter,
            pair,
            scale,
            grad_base: 7,
        }),
    };
    let mut scratch = LoraScratch {
        xa_tr: poison(tokens * rank),
        dyb_tr: poison(tokens * rank),
    };
    let ops = Cpu::new();
    let (mut y, mut y_added) = (poison(tokens * outputs), poison(tokens * outputs));
    let ones = vec![1.0; tokens * outputs];
    let mut forward = |y, residual| {
        ops.adapted_forward(tokens, &x, &[linear()], &mut scratch, &mut [y], residual);
    };
    forward(&mut y, None);
    forward(&mut y_added, Some(&ones));
    let (mut dx, mut dx_twice) = (poison(tokens * inputs), poison(tokens * inputs));
    let mut grads = poison(rank * (inputs + outputs));
    let mut backward = |dy: &[&Vec<f32>], linears: &[AdaptedLinear<'_, Cpu>], dx| {
        ops.adapted_backward(tokens, dy, linears, &mut scratch, dx);
        let x_and_dy = (Input::Again(&x), dy);
        ops.adapter_gradients(tokens, x_and_dy, linears, &mut scratch, &mut grads);
    };
    backward(&[&dy, &dy], &[linear(), linear()], Some(&mut dx_twice));
    backward(&[&dy], &[linear()], None);
    backward(&[&dy], &[linear()], Some(&mut dx));

    let xi = variable(&x, tokens, inputs).unwrap();
    let a = variable(&adapter[7..pair.b], rank, inputs).unwrap();
    let b = variable(&adapter[pair.b..], outputs, rank).unwrap();
    let expected = (|| {
        let w = matrix(&crate::models::dense(&weight), outputs, inputs)?;
        let base = xi
            .matmul(&w.t()?)?
            .broadcast_add(&matrix(&bias, 1, outputs)?)?;
        base + (xi.matmul(&a.t()?)?.matmul(&b.t()?)? * f64::from(scale))?
    })();
    let expected = expected.unwrap();
    let plus_one = |values: &[f32]| values.iter().map(|v| v + 1.0).collect::<Vec<_>>();
    let expected_y = values(&expected).unwrap();
    assert_close("y", &y, &expected_y, BOUND);
    assert_close("y +=", &y_added, &plus_one(&expected_y), BOUND);
    let theirs = pull_back(&expected, &dy, &[&xi, &a, &b]).unwrap();
    assert_close("dx", &dx, &theirs[0], BOUND);
    let twice: Vec<f32> = theirs[0].iter().map(|dx| 2.0 * dx).collect();
    assert_close("dx of two linears", &dx_twice, &twice, BOUND);
    assert_close("dA", &grads[..rank * inputs], &theirs[1], BOUND);
    assert_close("dB", &grads[rank * inputs..], &theirs[2], BOUND);
}

#[test]
fn cross_entropy_equals_autograd() {
    // More entries than one panel of the head holds.
    let (rows, vocab, width, scale) = (9, 3000, 400, 0.25);
    let head = dense(vocab, width, 0.1);
    let x = numbers(rows * width, 0.2, 3.0);
    let targets: Vec<u32> = (0..rows as u32).map(|i| i * 333).collect();
    let mut dx = poison(rows * width);
    let loss = Cpu::new().cross_entropy(&targets, &head, scale, &x, &mut dx);

    let input = variable(&x, rows, width).unwrap();
    let expected = (|| {
        let logits = input.matmul(&matrix(&crate::models::dense(&head), vocab, width)?.t()?)?;
        let log_sum = logits.exp()?.sum_keepdim(1)?.log()?;
        let targets = Tensor::new(targets.as_slice(), &candle_core::Device::Cpu)?.unsqueeze(1)?;
        log_sum - logits.gather(&targets, 1)?
    })();
    let expected: Tensor = expected.unwrap();
    let expected_loss: f64 = values(&expected)
        .unwrap()
        .iter()
        .map(|&v| f64::from(v))
        .sum();
    assert!(
        (loss / expected_loss - 1.0).abs() < 1e-6,
        "{loss} for {expected_loss}"
    );
    assert_close(
        "dx",
        &dx,
        &pull_back(&expected, &vec![scale; rows], &[&input]).unwrap()[0],
        BOUND,
    );
}

#[test]
fn embedding_gathers_scaled_rows_and_rows_scatter_back() {
    let table = dense(11, 6, 0.1);
    let values = crate::models::dense(&table);
    let mut out = poison(3 * 6);
    Cpu::new().embed(&vec![4, 0, 10], &table, 2.0, &mut out);
    let expected: Vec<f32> = [4, 0, 10]
        .iter()
        .flat_map(|&row| &values[row * 6..row * 6 + 6])
        .map(|v| 2.0 * v)
        .collect();
    assert_eq!(out, expected);

    let rows = vec![0, 2];
    let mut gathered = poison(2 * 6);
    Cpu::new().gather_rows(&rows, 6, &out, &mut gathered);
    let mut scattered = poison(3 * 6);
    Cpu::new().scatter_rows(&rows, (3, 6), &gathered, &mut scattered);
    assert_eq!(scattered[..6], out[..6]);
    assert_eq!(scattered[6..12], [0.0; 6]);
    assert_eq!(scattered[12..], out[12..]);
}
