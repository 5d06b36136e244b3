//! What people should know of the number of workers that a run takes, before it starts.

/// Numbers that must suit each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Numbers {
    /// Workers that are started.
    pub(super) workers: u32,
    /// GPUs that they may have; none on a CPU.
    pub(super) gpus: u32,
    /// Workers that the recipe allows.
    pub(super) most_workers: u32,
    /// Micro-batches of a full step.
    pub(super) slots: u32,
}

/// What does not suit, each with its numbers and what to look at.
pub(super) fn advice(numbers: Numbers) -> Vec<String> {
    let Numbers {
        workers,
        gpus,
        most_workers,
        slots,
    } = numbers;
    let mut advice = Vec::new();
    if workers > slots {
        advice.push(format!(
            "{workers} workers, but a step has {slots} micro-batches: {} of them compute nothing; `weft plan --workers \
             {workers}` says what a larger batch would change",
            workers - slots
        ));
    }
    if gpus > 0 && workers > gpus {
        advice.push(format!(
            "{workers} workers share {gpus} of this machine's GPUs: each takes its memory, and NCCL, which wants a GPU for each, \
             cannot sum for them; --workers {gpus} is faster"
        ));
    }
    if workers < gpus && workers == most_workers {
        advice.push(format!(
            "{workers} of {gpus} GPUs are used, since the recipe allows no more workers; `weft plan --workers {gpus}` says \
             what a larger batch would change"
        ));
    }
    advice
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUITING: Numbers = Numbers {
        workers: 4,
        gpus: 4,
        most_workers: 4,
        slots: 4,
    };

    #[test]
    fn numbers_that_suit_need_no_advice() {
        assert_eq!(advice(SUITING), [""; 0]);
        let on_cpu = Numbers { gpus: 0, ..SUITING };
        assert_eq!(advice(on_cpu), [""; 0]);
        let chosen = Numbers {
            workers: 2,
            ..SUITING
        };
        assert_eq!(advice(chosen), [""; 0]);
    }

    #[test]
    fn each_number_that_does_not_suit_is_told() {
        let [idle] = &advice(Numbers {
            slots: 3,
            ..SUITING
        })[..] else {
            panic!("one thing is wrong");
        };
        assert!(idle.contains("1 of them compute nothing"), "{idle}");
        let [shared] = &advice(Numbers { gpus: 2, ..SUITING })[..] else {
            panic!("one thing is wrong");
        };
        assert!(
            shared.contains("4 workers share 2") && shared.contains("NCCL"),
            "{shared}"
        );
        let [unused] = &advice(Numbers { gpus: 8, ..SUITING })[..] else {
            panic!("one thing is wrong");
        };
        assert!(unused.contains("4 of 8 GPUs"), "{unused}");
    }
}
