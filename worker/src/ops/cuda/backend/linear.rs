//! Adapted linears: the adapter is folded into the base's product.
//!
//! Forward, for linears side by side that read one x: `y = [x | s·x·Aᵀ] · [W | B]ᵀ`. Backward:
//! `dx = [dy | s·dy·B] · [W ; A]`. `s·x·Aᵀ` and `s·dy·B` lie in the spare columns behind x and dy, A and B beside the
//! dequantized weights. So the adapter costs the base's product a few columns more, and no second pass over y.

use super::Cuda;
use super::ops::branch;
use super::profile::OpClass;
use super::resident::{Holds, Way};
use crate::cuda::GpuError;
use crate::model::{Projection, Spec};
use crate::ops::cuda::gemm::{Add, Lay, Product, Tokens};
use crate::ops::cuda::{GemvOutput, GroupAdapter, GroupMatrix, GroupPart, is_gemv};
use crate::ops::cuda::{Halves, Place, PlaceMut, row_stride};
use crate::ops::{AdaptedLinear, Input, LoraBranch};

use cudarc::driver::CudaSlice;

/// Linears of one input, as products see them.
struct Group<'a, 'b> {
    linears: &'a [AdaptedLinear<'b, Cuda>],
    inputs: usize,
    outputs: usize,
    /// Ranks of all adapters together.
    rank: usize,
}

/// Linears with one input.
pub(super) const GROUPS: [&[Projection]; 4] = [
    &[Projection::Q, Projection::K, Projection::V],
    &[Projection::O],
    &[Projection::Gate, Projection::Up],
    &[Projection::Down],
];

/// Elements of the largest group's weights with its adapters.
pub(super) fn weights_len(spec: &Spec, rank: usize) -> usize {
    let group = |projections: &[Projection]| {
        let inputs = spec.shape(projections[0]).1;
        let outputs: usize = projections.iter().map(|&p| spec.shape(p).0).sum();
        let rank = projections.len() * rank;
        let forward = outputs * row_stride(inputs, rank);
        forward.max((outputs + rank) * inputs)
    };
    GROUPS.into_iter().map(group).max().unwrap_or(0)
}

/// An adapter of a group.
struct Branch<'b> {
    lora: LoraBranch<'b, Halves>,
    outputs: usize,
    /// Its linear's first column among the group's outputs.
    column: usize,
    /// Its first column among the group's spare ones.
    spare: usize,
}

impl<'a, 'b> Group<'a, 'b> {
    fn new(linears: &'a [AdaptedLinear<'b, Cuda>]) -> Self {
        let ranks = linears.iter().flat_map(|linear| &linear.lora);
        Self {
            linears,
            inputs: linears[0].shape.1,
            outputs: linears.iter().map(|linear| linear.shape.0).sum(),
            rank: ranks.map(|lora| lora.pair.rank).sum(),
        }
    }

    fn branches(&self) -> impl Iterator<Item = Branch<'b>> + use<'a, 'b> {
        let (mut column, mut spare) = (0, 0);
        self.linears.iter().filter_map(move |linear| {
            let outputs = linear.shape.0;
            let first = column;
            column += outputs;
            let lora = branch(linear)?;
            let branch = Branch {
                lora,
                outputs,
                column: first,
                spare,
            };
            spare += lora.pair.rank;
            Some(branch)
        })
    }

    /// Of the first matrix, which no other group begins with.
    fn address(&self) -> u64 {
        self.linears[0].weight.address()
    }

    /// All A as one matrix, rank × inputs: they lie one after another.
    fn a(&self) -> Option<(LoraBranch<'b, Halves>, Place<'b>)> {
        let first = self.branches().next()?.lora;
        for branch in self.branches() {
            let expected = first.pair.a + branch.spare * self.inputs;
            assert_eq!(branch.lora.pair.a, expected, "A of linears with one input");
        }
        Some((first, first.values.place_at(first.pair.a)))
    }

    /// The weights for dequantization; nothing where one is missing.
    fn parts(&self, folded: bool) -> Option<Vec<GroupPart<'b>>> {
        let mut spare = 0;
        let part = |linear: &AdaptedLinear<'b, Cuda>| {
            let adapter = branch(linear).map(|lora| GroupAdapter {
                b: lora.values.place_at(lora.pair.b),
                rank: lora.pair.rank,
                tail_column: spare,
            });
            spare += linear.lora.map_or(0, |lora| lora.pair.rank);
            Some(GroupPart {
                matrix: linear.weight.as_part()?,
                adapter: adapter.filter(|_| folded),
            })
        };
        self.linears.iter().map(part).collect()
    }
}

impl Cuda {
    pub(super) fn product(
        &self,
        class: OpClass,
        scaled: (Product, f32),
        a: Place<'_>,
        b: Place<'_>,
        c: PlaceMut<'_>,
        add: Add<'_>,
    ) -> Result<(), GpuError> {
        self.timed(class, || {
            self.gemm.multiply(&self.kernels, scaled, a, b, c, add)
        })
    }

    fn dequantize(
        &self,
        parts: &[GroupPart<'_>],
        stride: usize,
        weights: &mut Halves,
        holds: Holds,
    ) -> Result<(), GpuError> {
        let out = weights.place_mut();
        self.timed(OpClass::Dequantize, || match holds {
            Holds::Anything => self.kernels.nf4_dequantize_group(parts, stride, out),
            Holds::Weights => self.kernels.write_tails(parts, stride, out),
        })
    }

    /// `x`'s spare columns `= s·x·Aᵀ`, one stretch for each adapter.
    fn project_input(
        &self,
        tokens: usize,
        x: &Halves,
        group: &Group<'_, '_>,
    ) -> Result<(), GpuError> {
        let Some((lora, a)) = group.a() else {
            return Ok(());
        };
        let product = Product::new(
            [tokens, group.rank, group.inputs],
            Lay::plain(x.stride()),
            Lay::transposed(group.inputs),
            x.stride(),
        );
        let alpha = (product, lora.scale);
        self.product(
            OpClass::Adapter,
            alpha,
            x.place(),
            a,
            x.tail(0),
            Add::Nothing,
        )
    }

    pub(super) fn group_forward(
        &self,
        tokens: usize,
        x: &Halves,
        linears: &[AdaptedLinear<'_, Self>],
        y: &mut [&mut Halves],
        residual: Option<&Halves>,
    ) -> Result<(), GpuError> {
        let group = Group::new(linears);
        if tokens == 1 && self.by_rows && self.one_forward(x, &group, y, residual)? {
            return self.add_biases(tokens, linears, y);
        }
        self.project_input(tokens, x, &group)?;
        let Some(parts) = group.parts(true) else {
            return Ok(());
        };
        let stride = row_stride(group.inputs, group.rank);
        let room = group.outputs * stride;
        self.with_weights((group.address(), Way::Forward), room, |weights, holds| {
            self.dequantize(&parts, stride, weights, holds)?;
            let side_by_side = y.windows(2).all(|pair| pair[0].is_followed_by(pair[1]));
            let products: Vec<(usize, usize, usize)> = if side_by_side {
                vec![(0, 0, group.outputs)]
            } else {
                let mut column = 0;
                let one = |(index, linear): (usize, &AdaptedLinear<'_, Self>)| {
                    let first = column;
                    column += linear.shape.0;
                    (index, first, linear.shape.0)
                };
                linears.iter().enumerate().map(one).collect()
            };
            for (index, row, outputs) in products {
                let y = &mut *y[index];
                let mut product = Product::new(
                    [tokens, outputs, group.inputs + group.rank],
                    Lay::plain(x.stride()),
                    Lay::transposed(stride),
                    y.stride(),
                );
                let add = match residual {
                    None => Add::Nothing,
                    Some(residual) => {
                        product = product.adding(residual.stride());
                        Add::Matrix(residual.place())
                    }
                };
                let w = weights.place_at(row * stride);
                self.product(
                    OpClass::Product,
                    (product, 1.0),
                    x.place(),
                    w,
                    y.place_mut(),
                    add,
                )?;
            }
            Ok(())
        })?;
        self.add_biases(tokens, linears, y)
    }

    fn add_biases(
        &self,
        tokens: usize,
        linears: &[AdaptedLinear<'_, Self>],
        y: &mut [&mut Halves],
    ) -> Result<(), GpuError> {
        for (linear, y) in linears.iter().zip(y) {
            if let Some(bias) = linear.bias {
                self.kernels.add_bias(tokens, bias.get(), y)?;
            }
        }
        Ok(())
    }

    /// The same of one vector, reading weights as they are stored; `false` where they cannot be.
    fn one_forward(
        &self,
        x: &Halves,
        group: &Group<'_, '_>,
        y: &mut [&mut Halves],
        residual: Option<&Halves>,
    ) -> Result<bool, GpuError> {
        let Some(parts) = group.parts(true) else {
            return Ok(false);
        };
        if !parts.iter().all(|part| is_gemv(&part.matrix)) {
            return Ok(false);
        }
        self.project_one(x, group)?;
        let outputs = y.iter_mut().map(|y| GemvOutput {
            y: y.place_mut(),
            residual: residual.map(Halves::place),
        });
        let mut outputs: Vec<_> = outputs.collect();
        self.timed(OpClass::Product, || {
            let tail = (&parts[..], group.rank);
            self.kernels.gemv_group(tail, 1.0, x.place(), &mut outputs)
        })?;
        Ok(true)
    }

    /// [`Self::project_input`] of one vector.
    fn project_one(&self, x: &Halves, group: &Group<'_, '_>) -> Result<(), GpuError> {
        let Some((lora, a)) = group.a() else {
            return Ok(());
        };
        let matrix = GroupMatrix::Rows {
            place: a,
            shape: (group.rank, group.inputs),
        };
        if !is_gemv(&matrix) || !a.address().is_multiple_of(16) {
            return self.project_input(1, x, group);
        }
        let part = GroupPart {
            matrix,
            adapter: None,
        };
        let output = GemvOutput {
            y: x.tail(0),
            residual: None,
        };
        self.timed(OpClass::Adapter, || {
            let x = x.place();
            self.kernels
                .gemv_group((&[part], 0), lora.scale, x, &mut [output])
        })
    }

    /// `dy`'s spare columns, then `dx` where it is wanted.
    pub(super) fn group_backward(
        &self,
        tokens: usize,
        dy: &Halves,
        linears: &[AdaptedLinear<'_, Self>],
        dx: Option<&mut Halves>,
    ) -> Result<(), GpuError> {
        let group = Group::new(linears);
        assert_eq!(dy.tail_column(), group.outputs, "spare columns behind all");
        for branch in group.branches() {
            self.project_output(tokens, dy, &branch)?;
        }
        match dx {
            None => Ok(()),
            Some(dx) => self.input_gradient(tokens, dy, &group, dx),
        }
    }

    /// Gradients of A and B, after [`Self::group_backward`]. A kept input still has what the forward left behind it.
    pub(super) fn group_gradients(
        &self,
        tokens: usize,
        (x, dy): (Input<'_, Halves>, &Halves),
        linears: &[AdaptedLinear<'_, Self>],
        grads: &mut CudaSlice<f32>,
    ) -> Result<(), GpuError> {
        let group = Group::new(linears);
        if let Input::Again(x) = x {
            self.project_input(tokens, x, &group)?;
        }
        let x = x.buf();
        for branch in group.branches() {
            self.b_gradient(tokens, (x, dy), group.inputs, &branch, grads)?;
        }
        self.a_gradient(tokens, (x, dy), &group, grads)
    }

    /// `dy`'s spare columns of an adapter `= s·dy·B`.
    fn project_output(
        &self,
        tokens: usize,
        dy: &Halves,
        branch: &Branch<'_>,
    ) -> Result<(), GpuError> {
        let LoraBranch {
            values,
            pair,
            scale,
            ..
        } = branch.lora;
        let product = Product::new(
            [tokens, pair.rank, branch.outputs],
            Lay::plain(dy.stride()),
            Lay::plain(pair.rank),
            dy.stride(),
        );
        self.product(
            OpClass::Adapter,
            (product, scale),
            dy.place_at(branch.column),
            values.place_at(pair.b),
            dy.tail(branch.spare),
            Add::Nothing,
        )
    }

    /// `dB = dyᵀ · (s·x·Aᵀ)`.
    fn b_gradient(
        &self,
        tokens: usize,
        (x, dy): (&Halves, &Halves),
        inputs: usize,
        branch: &Branch<'_>,
        grads: &mut CudaSlice<f32>,
    ) -> Result<(), GpuError> {
        let LoraBranch {
            pair, grad_base, ..
        } = branch.lora;
        let product = Product::new(
            [branch.outputs, pair.rank, tokens],
            Lay::transposed(dy.stride()),
            Lay::plain(x.stride()),
            pair.rank,
        );
        self.product(
            OpClass::Adapter,
            (product.floats().by(Tokens::Summed), 1.0),
            dy.place_at(branch.column),
            x.place_at(inputs + branch.spare),
            PlaceMut::floats(grads, pair.b - grad_base),
            Add::Nothing,
        )
    }

    /// `dA = (s·dy·B)ᵀ · x`, of all adapters at once.
    fn a_gradient(
        &self,
        tokens: usize,
        (x, dy): (&Halves, &Halves),
        group: &Group<'_, '_>,
        grads: &mut CudaSlice<f32>,
    ) -> Result<(), GpuError> {
        let Some((lora, _)) = group.a() else {
            return Ok(());
        };
        let product = Product::new(
            [group.rank, group.inputs, tokens],
            Lay::transposed(dy.stride()),
            Lay::plain(x.stride()),
            group.inputs,
        );
        self.product(
            OpClass::Adapter,
            (product.floats().by(Tokens::Summed), 1.0),
            dy.place_at(group.outputs),
            x.place(),
            PlaceMut::floats(grads, lora.pair.a - lora.grad_base),
            Add::Nothing,
        )
    }

    /// `dx = [dy | s·dy·B] · [W ; A]`.
    fn input_gradient(
        &self,
        tokens: usize,
        dy: &Halves,
        group: &Group<'_, '_>,
        dx: &mut Halves,
    ) -> Result<(), GpuError> {
        let Some(parts) = group.parts(false) else {
            return Ok(());
        };
        let room = (group.outputs + group.rank) * group.inputs;
        self.with_weights((group.address(), Way::Backward), room, |weights, holds| {
            self.dequantize(&parts, group.inputs, weights, holds)?;
            if let Some((_, a)) = group.a() {
                let below = weights.place_mut_at(group.outputs * group.inputs);
                self.kernels
                    .copy_halves(group.rank * group.inputs, a, below)?;
            }
            let product = Product::new(
                [tokens, group.inputs, group.outputs + group.rank],
                Lay::plain(dy.stride()),
                Lay::plain(group.inputs),
                dx.stride(),
            );
            self.product(
                OpClass::Product,
                (product, 1.0),
                dy.place(),
                weights.place(),
                dx.place_mut(),
                Add::Nothing,
            )
        })
    }

    /// `y = x·Wᵀ`.
    pub(super) fn plain_forward(
        &self,
        tokens: usize,
        x: &Halves,
        linear: &super::CudaLinear,
        y: &mut Halves,
    ) -> Result<(), GpuError> {
        let Some(matrix) = linear.as_part() else {
            return Ok(());
        };
        let part = GroupPart {
            matrix,
            adapter: None,
        };
        let (outputs, inputs) = part.matrix.shape();
        if tokens == 1 && self.by_rows && is_gemv(&part.matrix) {
            let output = GemvOutput {
                y: y.place_mut(),
                residual: None,
            };
            return self.timed(OpClass::Head, || {
                self.kernels
                    .gemv_group((&[part], 0), 1.0, x.place(), &mut [output])
            });
        }
        let product = Product::new(
            [tokens, outputs, inputs],
            Lay::plain(x.stride()),
            Lay::transposed(inputs),
            y.stride(),
        );
        if let Some(table) = linear.as_table() {
            let (x, y) = (x.place(), y.place_mut());
            return self.product(
                OpClass::Product,
                (product, 1.0),
                x,
                table.place(),
                y,
                Add::Nothing,
            );
        }
        self.scratch
            .with(&self.kernels, outputs * inputs, |weights| {
                self.dequantize(&[part], inputs, weights, Holds::Anything)?;
                self.product(
                    OpClass::Product,
                    (product, 1.0),
                    x.place(),
                    weights.place(),
                    y.place_mut(),
                    Add::Nothing,
                )
            })
    }
}
