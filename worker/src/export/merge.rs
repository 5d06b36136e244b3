//! The arithmetic of a merge: `W + s·B·A`, in f32, by rows.

/// What an adapter adds to one linear: `scale · B·A`.
#[derive(Debug, Clone, PartialEq)]
pub struct Delta {
    /// A, rank × inputs.
    pub a: Vec<f32>,
    /// B, outputs × rank.
    pub b: Vec<f32>,
    /// Columns of the linear.
    pub inputs: usize,
    /// Rows of the linear.
    pub outputs: usize,
    /// r.
    pub rank: usize,
    /// s.
    pub scale: f32,
}

/// Adds a delta to the rows of a linear from `first` on: `w += s·(B·A)`, the product summed over the rank in f32 before
/// it is scaled, as PEFT does.
///
/// # Panics
/// If `rows_oi` is not a whole number of rows within the linear.
pub fn add_delta(delta: &Delta, first: usize, rows_oi: &mut [f32]) {
    let &Delta {
        inputs,
        rank,
        scale,
        ..
    } = delta;
    let count = rows_oi.len() / inputs;
    assert_eq!(rows_oi.len(), count * inputs, "whole rows of {inputs}");
    let b_or = &delta.b[first * rank..(first + count) * rank];
    let mut sum = vec![0.0; inputs];
    for (row, b_r) in rows_oi
        .chunks_exact_mut(inputs)
        .zip(b_or.chunks_exact(rank))
    {
        product(b_r, &delta.a, &mut sum);
        for (w, sum) in row.iter_mut().zip(&sum) {
            *w += scale * sum;
        }
    }
}

/// `sum = b·A`. Four rows of A at a time, so that `sum` goes through the registers a quarter as often.
fn product(b_r: &[f32], a_ri: &[f32], sum: &mut [f32]) {
    let inputs = sum.len();
    sum.fill(0.0);
    let (fours, rest) = b_r.as_chunks::<4>();
    let (head, tail) = a_ri.split_at(fours.len() * 4 * inputs);
    for (b, a) in fours.iter().zip(head.chunks_exact(4 * inputs)) {
        let (a0, a) = a.split_at(inputs);
        let (a1, a) = a.split_at(inputs);
        let (a2, a3) = a.split_at(inputs);
        for ((((sum, a0), a1), a2), a3) in sum.iter_mut().zip(a0).zip(a1).zip(a2).zip(a3) {
            *sum += b[0] * a0 + b[1] * a1 + b[2] * a2 + b[3] * a3;
        }
    }
    for (b, a) in rest.iter().zip(tail.chunks_exact(inputs)) {
        for (sum, a) in sum.iter_mut().zip(a) {
            *sum += b * a;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_get_their_part_of_the_product_whatever_the_piece() {
        let (outputs, inputs) = (6, 5);
        for rank in [1, 4, 7] {
            let wave = |n: usize, f: f32| (0..n).map(|i| (i as f32 * f).sin()).collect::<Vec<_>>();
            let delta = Delta {
                a: wave(rank * inputs, 0.7),
                b: wave(outputs * rank, 1.3),
                inputs,
                outputs,
                rank,
                scale: 0.5,
            };
            let base = wave(outputs * inputs, 0.2);
            let mut whole = base.clone();
            add_delta(&delta, 0, &mut whole);
            for (o, i) in (0..outputs).flat_map(|o| (0..inputs).map(move |i| (o, i))) {
                let sum: f64 = (0..rank)
                    .map(|r| f64::from(delta.b[o * rank + r]) * f64::from(delta.a[r * inputs + i]))
                    .sum();
                let expected = f64::from(base[o * inputs + i]) + 0.5 * sum;
                assert!((f64::from(whole[o * inputs + i]) - expected).abs() < 1e-6);
            }
            let mut piece = base[2 * inputs..4 * inputs].to_vec();
            add_delta(&delta, 2, &mut piece);
            assert_eq!(piece, whole[2 * inputs..4 * inputs]);
        }
    }
}
