//! What people were told of a worker's GPU.

use weft_common::gpu_health::{Concern, GpuHealth, Sickness, Verdict, judge};

use super::action::Notice;
use super::outcome::WorkerName;

/// What people were told of a worker's GPU: each thing once in the life of its process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GpuRecord {
    sick: Option<Sickness>,
    /// Few: the driver's errors are limited in number, and there are few other concerns.
    concerns: Vec<Concern>,
}

/// What is new about a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GpuNews {
    /// It became sick.
    pub sick: Option<Sickness>,
    /// What people should know.
    pub concerns: Vec<Concern>,
}

impl GpuRecord {
    /// Why the worker is given no work, where it is not.
    #[must_use]
    pub fn sickness(&self) -> Option<Sickness> {
        self.sick
    }

    /// Takes in how the GPU is. A GPU that was sick stays so: its worker must be started again.
    pub fn hear(&mut self, health: &GpuHealth) -> GpuNews {
        match judge(health) {
            Verdict::Well => GpuNews::default(),
            Verdict::Watch(concerns) => {
                let is_new =
                    |concern: &Concern| !self.concerns.iter().any(|of| of.is_like(concern));
                let concerns: Vec<Concern> = concerns.into_iter().filter(is_new).collect();
                self.concerns.extend(concerns.iter().copied());
                GpuNews {
                    sick: None,
                    concerns,
                }
            }
            Verdict::Sick(sickness) => GpuNews {
                sick: self.sick.replace(sickness).is_none().then_some(sickness),
                concerns: Vec::new(),
            },
        }
    }
}

impl GpuNews {
    /// What people are told of the worker that `name` names: it is asked only where there is something.
    pub(super) fn notices(&self, name: impl Fn() -> WorkerName) -> Vec<Notice> {
        let concerns = self.concerns.iter().map(|concern| Notice::GpuConcern {
            worker: name(),
            concern: *concern,
        });
        let sick = self.sick.map(|sickness| Notice::GpuSick {
            worker: name(),
            sickness,
        });
        concerns.chain(sick).collect()
    }
}

#[cfg(test)]
mod tests {
    use weft_common::gpu_health::xid::{Remedy, Xid};

    use super::*;

    fn with(codes: &[u32]) -> GpuHealth {
        GpuHealth {
            xids: codes.iter().copied().map(Xid).collect(),
            ..GpuHealth::default()
        }
    }

    #[test]
    fn a_concern_is_told_once_and_so_is_a_sickness() {
        let mut record = GpuRecord::default();
        let told =
            [&[][..], &[31], &[31, 63], &[31, 63]].map(|codes| record.hear(&with(codes)).concerns);
        let concern = |code| Concern::Xid(Xid(code));
        assert_eq!(told, [vec![], vec![concern(31)], vec![concern(63)], vec![]]);

        let sick = [&[31, 79][..], &[31, 79, 95]].map(|codes| record.hear(&with(codes)).sick);
        assert_eq!(sick, [Some(Sickness::Xid(Xid(79), Remedy::Reboot)), None]);
    }

    #[test]
    fn a_gpu_that_was_sick_stays_so() {
        let mut record = GpuRecord::default();
        record.hear(&with(&[79]));
        record.hear(&with(&[]));
        assert!(record.sickness().is_some());
    }
}
