//! What the assembler says about each function.

/// A function's use of a multiprocessor.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FunctionUsage {
    /// Its name.
    pub name: String,
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes written to memory for want of registers.
    pub spill_stores: u32,
    /// Bytes of a thread's stack.
    pub stack: u32,
    /// Bytes of shared memory that are there without being asked for at a launch.
    pub shared: u32,
}

/// Reads the assembler's report (`--ptxas-options=-v`).
#[must_use]
pub fn function_usage(log: &str) -> Vec<FunctionUsage> {
    let mut functions: Vec<FunctionUsage> = Vec::new();
    for line in log.lines() {
        if let Some((_, rest)) = line.split_once("Compiling entry function '") {
            functions.push(FunctionUsage {
                name: rest.split('\'').next().unwrap_or_default().to_owned(),
                ..FunctionUsage::default()
            });
        }
        let Some(function) = functions.last_mut() else {
            continue;
        };
        if line.contains("bytes spill stores") {
            function.spill_stores = number_before(line, "bytes spill stores");
            function.stack = number_before(line, "bytes stack frame");
        } else if line.contains("Used ") {
            function.registers = number_before(line, "registers");
            function.shared = number_before(line, "bytes smem");
        }
    }
    functions
}

fn number_before(line: &str, unit: &str) -> u32 {
    line.split_once(unit)
        .and_then(|(before, _)| before.split_whitespace().next_back())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'rms_norm_backward' for 'sm_90a'
ptxas info    : Function properties for rms_norm_backward
ptxas         .     16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 50 registers, used 1 barriers, 128 bytes smem
ptxas info    : Compiling entry function 'rms_norm_forward' for 'sm_90a'
ptxas info    : Function properties for rms_norm_forward
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 32 registers, used 1 barriers, 128 bytes smem";

    #[test]
    fn every_function_of_a_report_is_read() {
        let functions = function_usage(LOG);
        let backward = FunctionUsage {
            name: "rms_norm_backward".to_owned(),
            registers: 50,
            spill_stores: 8,
            stack: 16,
            shared: 128,
        };
        let forward = FunctionUsage {
            name: "rms_norm_forward".to_owned(),
            registers: 32,
            shared: 128,
            ..FunctionUsage::default()
        };
        assert_eq!(functions, [backward, forward]);
    }
}
