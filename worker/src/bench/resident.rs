//! What this process holds of the host's memory.

/// Lets the peak start anew from what is held now, where the system can.
pub(super) fn forget_peak() {
    // 5 is the kernel's word for it (proc_pid_clear_refs); elsewhere the peak is that of the whole process.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// The most bytes that this process held since [`forget_peak`]; 0 where the system does not say.
pub(super) fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}
