//! The adapter's numbers.

use weft_common::recipe::LoraSection;

use super::{AdapterLayout, LoraError, init};
use crate::model::Spec;

/// An adapter: its layout, its scale, its numbers. `B` is a backend's buffer; on the CPU a plain vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter<B = Vec<f32>> {
    layout: AdapterLayout,
    scale: f32,
    values: B,
}

impl Adapter {
    /// A fresh adapter: A as `init_lora_weights` says, B zero, so that the model starts as the base.
    ///
    /// `seed` is used where the recipe's `random_state` is unset.
    ///
    /// # Errors
    /// If the rank is 0 or a target matches nothing.
    pub fn new(spec: &Spec, lora: &LoraSection, seed: u64) -> Result<Self, LoraError> {
        let layout = AdapterLayout::new(spec, lora)?;
        let seed = lora.random_state.unwrap_or(seed);
        let mut values = vec![0.0; layout.len()];
        for tensor in layout
            .tensors()
            .iter()
            .filter(|tensor| tensor.name.ends_with(".lora_A.weight"))
        {
            init::fill_a(
                &mut values[tensor.range()],
                tensor.rows,
                lora.init_lora_weights,
                (seed, &tensor.name),
            );
        }
        let rank = f64::from(lora.r);
        let divisor = if lora.use_rslora { rank.sqrt() } else { rank };
        Ok(Self {
            layout,
            scale: (lora.lora_alpha / divisor) as f32,
            values,
        })
    }

    /// All numbers, in the layout's order.
    #[must_use]
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }
}

impl<B> Adapter<B> {
    /// The same adapter with its numbers elsewhere.
    pub fn map<C>(self, place: impl FnOnce(B) -> C) -> Adapter<C> {
        Adapter {
            layout: self.layout,
            scale: self.scale,
            values: place(self.values),
        }
    }

    /// A copy of the adapter with its numbers elsewhere.
    pub fn map_ref<C>(&self, place: impl FnOnce(&B) -> C) -> Adapter<C> {
        Adapter {
            layout: self.layout.clone(),
            scale: self.scale,
            values: place(&self.values),
        }
    }

    /// Where all numbers are held.
    #[must_use]
    pub fn held_mut(&mut self) -> &mut B {
        &mut self.values
    }

    /// Where each matrix lies.
    #[must_use]
    pub fn layout(&self) -> &AdapterLayout {
        &self.layout
    }

    /// s of `W·x + s·B·(A·x)`.
    #[must_use]
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// All numbers, in the layout's order.
    #[must_use]
    pub fn values(&self) -> &B {
        &self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tests_support::toy;

    fn lora() -> LoraSection {
        LoraSection {
            r: 4,
            lora_alpha: 8.0,
            ..LoraSection::default()
        }
    }

    #[test]
    fn b_starts_at_zero_and_a_does_not() {
        let adapter = Adapter::new(&toy(), &lora(), 1).unwrap();
        for tensor in adapter.layout().tensors() {
            let zero = adapter.values()[tensor.range()].iter().all(|&v| v == 0.0);
            assert_eq!(
                zero,
                tensor.name.ends_with("lora_B.weight"),
                "{}",
                tensor.name
            );
        }
    }

    #[test]
    fn scale_is_alpha_over_r_or_its_root() {
        assert_eq!(Adapter::new(&toy(), &lora(), 1).unwrap().scale(), 2.0);
        let rank_stabilised = LoraSection {
            use_rslora: true,
            ..lora()
        };
        assert_eq!(
            Adapter::new(&toy(), &rank_stabilised, 1).unwrap().scale(),
            4.0
        );
    }

    #[test]
    fn random_state_goes_before_the_training_seed() {
        let pinned = LoraSection {
            random_state: Some(7),
            ..lora()
        };
        let adapter = |lora: &LoraSection, seed| Adapter::new(&toy(), lora, seed).unwrap();
        assert_eq!(adapter(&pinned, 1), adapter(&pinned, 2));
        assert_eq!(adapter(&pinned, 1), adapter(&lora(), 7));
        assert_ne!(adapter(&lora(), 1), adapter(&lora(), 2));
    }
}
