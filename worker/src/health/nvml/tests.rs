//! The library as a stand-in plays it, and what its answers mean.

use std::path::Path;
use std::process::Command;

use super::*;

/// A library of its own: `stand_in.c`, compiled. Nothing where there is no C compiler.
fn stand_in(folder: &Path, defines: &[&str]) -> Option<&'static Nvml> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/health/nvml/stand_in.c");
    let library = folder.join("libnvidia-ml.so.1");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .args(defines)
        .status();
    if !compiled.is_ok_and(|status| status.success()) {
        println!("SKIPPED: there is no C compiler to make a stand-in for NVML with");
        return None;
    }
    let opened = Nvml::builder().lib_path(library.as_os_str()).init();
    // As in a worker, where it stays to the end of the process.
    Some(Box::leak(Box::new(opened.unwrap())))
}

const UUID: &str = "GPU-of-the-test";

#[test]
fn what_the_library_says_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let Some(nvml) = stand_in(folder.path(), &[]) else {
        return;
    };
    let mut gpu = NvmlGpu::find(nvml, UUID).unwrap();
    let mut health = GpuHealth::default();
    gpu.look(Duration::ZERO, &mut health).unwrap();
    let expected = GpuHealth {
        age: Duration::ZERO,
        xids: vec![Xid(31), Xid(63)],
        uncorrected_ecc: 3,
        remap_failed: false,
        remap_pending: true,
        slowdown: Slowdown {
            hardware: true,
            thermal: true,
            power_brake: false,
        },
        celsius: Some(61),
        lost: false,
    };
    assert_eq!(health, expected);
    gpu.look(Duration::ZERO, &mut health).unwrap();
    assert_eq!(health, expected, "errors are told once and remembered");
}

#[test]
fn a_gpu_that_falls_off_the_bus_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let Some(nvml) = stand_in(folder.path(), &["-DLOST"]) else {
        return;
    };
    let mut gpu = NvmlGpu::find(nvml, UUID).unwrap();
    let mut health = GpuHealth::default();
    gpu.look(Duration::ZERO, &mut health).unwrap();
    assert!(health.lost);
    assert!(
        gpu.events.is_none(),
        "there is nothing to wait for any more"
    );
}

#[test]
fn another_gpu_is_not_found() {
    let folder = tempfile::tempdir().unwrap();
    let Some(nvml) = stand_in(folder.path(), &[]) else {
        return;
    };
    let why = NvmlGpu::find(nvml, "GPU-of-another").err().unwrap();
    assert!(why.contains("GPU-of-another"), "{why}");
}

#[test]
fn a_limit_of_power_is_no_trouble() {
    let usual = ThrottleReasons::SW_POWER_CAP | ThrottleReasons::GPU_IDLE;
    assert!(slowdown(usual).is_none());
    let hot = slowdown(usual | ThrottleReasons::HW_SLOWDOWN | ThrottleReasons::HW_THERMAL_SLOWDOWN);
    assert_eq!(hot.to_string(), "too hot");
}

#[test]
fn a_gpu_without_a_feature_has_answered_and_one_off_the_bus_is_lost() {
    let mut answers = Answers::default();
    assert_eq!(answers.take::<u32>(Err(NvmlError::NotSupported)), None);
    assert!(answers.any && !answers.lost);

    let mut answers = Answers::default();
    assert_eq!(answers.take::<u32>(Err(NvmlError::GpuLost)), None);
    assert!(answers.lost && !answers.any);

    let mut answers = Answers::default();
    answers.take::<u32>(Err(NvmlError::Unknown));
    assert!(answers.other.is_some() && !answers.any);
}

#[test]
fn the_library_is_looked_for_where_the_driver_is_by_the_name_that_drivers_have() {
    let files = files(&Environment::of_process());
    assert_eq!(files[0], PathBuf::from("libnvidia-ml.so.1"));
    assert!(files.iter().any(|file| file.is_absolute()));
}
