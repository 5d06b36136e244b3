//! What the loss is multiplied with where gradients have the range of IEEE half precision.
//!
//! Small gradients would become 0 in fp16, whose least normal number is 2^-14. So the loss is scaled before the backward
//! pass, and its gradient divided by the same power of two, which costs no bit, before it becomes integers. The scale
//! follows the rules of `torch.amp.GradScaler`. It is part of the training state and changes only with a committed step,
//! so that all members scale alike, however many they are.

use serde::{Deserialize, Serialize};

/// A power of two, and how long it has been none too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, try_from = "Stored", into = "Stored")]
pub struct LossScale {
    scale: u32,
    /// Updates since the scale last changed.
    good_steps: u32,
}

/// Where a job begins.
const FIRST: u32 = 1 << 16;
/// Below it nothing would be gained: 1 is no scaling.
const LEAST: u32 = 1;
/// Beyond it nothing is gained: the least normal gradient is 2^-38 then, and sums have 40 bits behind the point.
const MOST: u32 = 1 << 24;
/// Updates without a gradient that is not finite, after which the scale doubles.
const GROWTH_INTERVAL: u32 = 2000;

impl LossScale {
    /// What the loss is multiplied with.
    #[must_use]
    pub fn factor(self) -> f32 {
        self.scale as f32
    }

    /// What gradients are multiplied with, exactly the inverse.
    #[must_use]
    pub fn inverse(self) -> f32 {
        1.0 / self.factor()
    }

    /// The scale itself.
    #[must_use]
    pub fn scale(self) -> u32 {
        self.scale
    }

    /// Updates since the scale last changed.
    #[must_use]
    pub fn good_steps(self) -> u32 {
        self.good_steps
    }

    /// The scale after an update: doubled after a number of them.
    #[must_use]
    pub fn after_update(self) -> Self {
        let good_steps = self.good_steps + 1;
        if good_steps < GROWTH_INTERVAL {
            return Self { good_steps, ..self };
        }
        Self {
            scale: (self.scale * 2).min(MOST),
            good_steps: 0,
        }
    }

    /// The scale after a gradient that was not finite: half of it.
    #[must_use]
    pub fn after_overflow(self) -> Self {
        Self {
            scale: (self.scale / 2).max(LEAST),
            good_steps: 0,
        }
    }
}

impl Default for LossScale {
    fn default() -> Self {
        Self {
            scale: FIRST,
            good_steps: 0,
        }
    }
}

/// As `state.json` has it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    scale: u32,
    good_steps: u32,
}

impl From<LossScale> for Stored {
    fn from(of: LossScale) -> Self {
        let LossScale { scale, good_steps } = of;
        Self { scale, good_steps }
    }
}

impl TryFrom<Stored> for LossScale {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Self, String> {
        let Stored { scale, good_steps } = stored;
        if !scale.is_power_of_two() || scale > MOST || good_steps >= GROWTH_INTERVAL {
            return Err(format!(
                "a loss scale of {scale} after {good_steps} updates is none that training comes to"
            ));
        }
        Ok(Self { scale, good_steps })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after_updates(scale: LossScale, updates: u32) -> LossScale {
        (0..updates).fold(scale, |scale, _| scale.after_update())
    }

    #[test]
    fn the_scale_doubles_after_2000_updates_in_a_row_and_halves_at_once() {
        let first = LossScale::default();
        assert_eq!(first.factor(), 65_536.0);
        assert_eq!(after_updates(first, 1999).factor(), 65_536.0);
        assert_eq!(after_updates(first, 2000).factor(), 131_072.0);
        let halved = after_updates(first, 1999).after_overflow();
        assert_eq!(halved.factor(), 32_768.0);
        assert_eq!(after_updates(halved, 1999).factor(), 32_768.0);
        assert_eq!(after_updates(halved, 2000), first);
    }

    #[test]
    fn the_scale_stays_within_its_bounds_and_its_inverse_is_exact() {
        let mut scale = LossScale::default();
        for _ in 0..40 {
            assert_eq!(scale.factor() * scale.inverse(), 1.0);
            scale = scale.after_overflow();
        }
        assert_eq!(scale.factor(), 1.0);
        assert_eq!(after_updates(scale, 2000 * 30).factor(), 16_777_216.0);
    }

    #[test]
    fn a_stored_scale_is_read_back_and_an_impossible_one_refused() {
        let scale = LossScale::default().after_overflow().after_update();
        let text = serde_json::to_string(&scale).unwrap();
        assert_eq!(text, r#"{"scale":32768,"good_steps":1}"#);
        assert_eq!(serde_json::from_str::<LossScale>(&text).unwrap(), scale);
        for wrong in [
            r#"{"scale":0,"good_steps":0}"#,
            r#"{"scale":3,"good_steps":0}"#,
            r#"{"scale":33554432,"good_steps":0}"#,
            r#"{"scale":2,"good_steps":2000}"#,
            r#"{"scale":2}"#,
        ] {
            assert!(serde_json::from_str::<LossScale>(wrong).is_err(), "{wrong}");
        }
    }
}
