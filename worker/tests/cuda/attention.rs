//! Attention, with every head size, grouping and cut of documents.

use weft_worker::ops::cuda::{CudaKernels, DeviceAttention, Halves};
use weft_worker::ops::{AttentionGrads, AttentionSaved, AttentionShape, Cpu, Ops, Qkv};

use crate::support::{assert_close, floats, gpu, halves, poisoned, random, read, read_plain};

fn shape(head_dim: usize, heads: usize, kv_heads: usize) -> AttentionShape {
    AttentionShape {
        heads,
        kv_heads,
        head_dim,
        scale: 1.0 / (head_dim as f32).sqrt(),
    }
}

/// Query heads, key heads, and documents: shorter than a tile, a tile, longer, of one token.
const CASES: [(usize, usize, &[u32]); 4] = [
    (4, 2, &[0, 5, 133, 134, 300]),
    (9, 3, &[0, 128, 256]),
    (4, 1, &[0, 500]),
    (2, 2, &[0, 64, 64, 128, 192]),
];

/// Both implementations where the GPU has one of its own.
fn implementations(gpu: &CudaKernels, head_dim: usize) -> [(&'static str, DeviceAttention); 2] {
    [
        ("own", DeviceAttention::new(gpu, head_dim).unwrap()),
        (
            "portable",
            DeviceAttention::portable(gpu, head_dim).unwrap(),
        ),
    ]
}

struct Inputs {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    dout: Vec<f32>,
}

impl Inputs {
    fn new(shape: AttentionShape, tokens: usize) -> Self {
        let (queries, keys) = (
            shape.heads * shape.head_dim,
            shape.kv_heads * shape.head_dim,
        );
        Self {
            q: random(tokens * queries, 1)
                .iter()
                .map(|v| v * 2.0)
                .collect(),
            k: random(tokens * keys, 2).iter().map(|v| v * 2.0).collect(),
            v: random(tokens * keys, 3),
            dout: random(tokens * queries, 4),
        }
    }
}

/// Output and gradients of queries, keys and values; logarithms of sums last.
fn on_the_cpu(shape: AttentionShape, documents: &[u32], inputs: &Inputs) -> [Vec<f32>; 5] {
    let cpu = Cpu::new();
    let documents = cpu.upload_documents(documents);
    let rows = inputs.q.len() / shape.head_dim;
    let (mut out, mut lse) = (vec![0.0; inputs.q.len()], vec![0.0; rows]);
    let qkv = || Qkv {
        q: &inputs.q,
        k: &inputs.k,
        v: &inputs.v,
    };
    cpu.attention_forward(shape, &documents, qkv(), &mut out, &mut lse);
    let [mut dq, mut dk, mut dv] = [&inputs.q, &inputs.k, &inputs.v].map(|x| vec![0.0; x.len()]);
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
    cpu.attention_backward(shape, &documents, saved, &inputs.dout, grads);
    [out, dq, dk, dv, lse]
}

fn on_the_gpu(
    gpu: &CudaKernels,
    attention: &DeviceAttention,
    shape: AttentionShape,
    documents: &[u32],
    inputs: &Inputs,
) -> [Vec<f32>; 5] {
    let tokens = *documents.last().unwrap() as usize;
    let documents = attention.documents(gpu, documents).unwrap();
    let [q, k, v, dout] =
        [&inputs.q, &inputs.k, &inputs.v, &inputs.dout].map(|values| halves(gpu, tokens, values));
    let [mut out, mut dq, mut dk, mut dv] =
        [&q, &q, &k, &v].map(|like: &Halves| poisoned(gpu, tokens, like.width()));
    let nothing = vec![f32::NAN; tokens * shape.heads];
    let (mut lse, mut delta) = (floats(gpu, &nothing), floats(gpu, &nothing));
    let qkv = || Qkv {
        q: &q,
        k: &k,
        v: &v,
    };
    attention
        .forward(gpu, (shape, &documents), qkv(), &mut out, &mut lse)
        .unwrap();
    let grads = AttentionGrads {
        dq: &mut dq,
        dk: &mut dk,
        dv: &mut dv,
    };
    attention
        .backward(
            gpu,
            (shape, &documents),
            (qkv(), &out, &lse),
            &dout,
            grads,
            &mut delta,
        )
        .unwrap();
    let [out, dq, dk, dv] = [out, dq, dk, dv].map(|values| read(gpu, &values));
    [out, dq, dk, dv, read_plain(gpu, &lse)]
}

#[test]
pub(crate) fn attention_agrees_with_the_cpu_and_with_itself() {
    let Some(gpu) = gpu() else { return };
    for head_dim in [64, 128, 256] {
        for (name, attention) in implementations(gpu, head_dim) {
            for (heads, kv_heads, documents) in CASES {
                let shape = shape(head_dim, heads, kv_heads);
                let inputs = Inputs::new(shape, *documents.last().unwrap() as usize);
                let expected = on_the_cpu(shape, documents, &inputs);
                let ours = on_the_gpu(gpu, &attention, shape, documents, &inputs);
                let what = ["output", "dq", "dk", "dv", "lse"];
                for ((ours, expected), what) in ours.iter().zip(&expected).zip(what) {
                    assert_close(
                        ours,
                        expected,
                        &format!("{name} {head_dim}, {heads}/{kv_heads}: {what}"),
                    );
                }
                let again = on_the_gpu(gpu, &attention, shape, documents, &inputs);
                assert!(
                    ours == again,
                    "{name} {head_dim}: a second run gives other bits"
                );
            }
        }
    }
}

#[test]
pub(crate) fn queries_may_be_the_last_of_more_keys() {
    let Some(gpu) = gpu() else { return };
    let (queries, keys) = (vec![0, 1, 4], vec![0, 130, 200]);
    for head_dim in [64, 128, 256] {
        let shape = shape(head_dim, 4, 2);
        let q = random(4 * 4 * head_dim, 1);
        let (k, v) = (random(200 * 2 * head_dim, 2), random(200 * 2 * head_dim, 3));
        let (mut expected, mut expected_lse) = (vec![0.0; q.len()], vec![0.0; 16]);
        let spans = Cpu::new().upload_continued(&queries, &keys);
        let qkv = Qkv {
            q: &q,
            k: &k,
            v: &v,
        };
        Cpu::new().attention_forward(shape, &spans, qkv, &mut expected, &mut expected_lse);
        let q = halves(gpu, 4, &q);
        let [k, v] = [&k, &v].map(|values| halves(gpu, 200, values));
        for (name, attention) in implementations(gpu, head_dim) {
            let documents = attention.continued(gpu, (&queries, &keys)).unwrap();
            let (mut out, mut lse) = (poisoned(gpu, 4, q.width()), floats(gpu, &[f32::NAN; 16]));
            let qkv = Qkv {
                q: &q,
                k: &k,
                v: &v,
            };
            attention
                .forward(gpu, (shape, &documents), qkv, &mut out, &mut lse)
                .unwrap();
            assert_close(&read(gpu, &out), &expected, &format!("{name}, continued"));
            assert_close(&read_plain(gpu, &lse), &expected_lse, "logarithms of sums");
        }
    }
}
