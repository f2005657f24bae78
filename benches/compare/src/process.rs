//! What the operating system knows of a process, and processes that measure.

use crate::Failure;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Seconds of processor time that this process has used, in steps of 10 ms.
pub fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is a name in brackets that may hold spaces.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok()).unwrap_or(f64::NAN);
    (ticks(11) + ticks(12)) / 100.0
}

/// Runs this program with other arguments, its allocator set as that of vocabd (main.rs there), and reads the JSON that it
/// prints.
pub fn ask<T: DeserializeOwned>(args: &[String]) -> Result<T, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(args).env("MIMALLOC_PURGE_DELAY", "0");
    run(command)
}

/// Runs a program and reads the JSON that it prints. The failure is what it complained about last, or the message of its
/// panic.
pub fn run<T: DeserializeOwned>(mut command: Command) -> Result<T, Failure> {
    let output = command.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        if output.status.code() == Some(124) {
            return Err("it took too long".into());
        }
        let complaints = String::from_utf8_lossy(&output.stderr);
        let mut lines = complaints.lines().filter(|line| !line.trim().is_empty());
        let panic = lines.clone().skip_while(|line| !line.contains("panicked at")).nth(1);
        let last = panic.or_else(|| lines.next_back()).unwrap_or_default();
        return Err(format!("{}: {last}", output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// A folder for the files of one comparison, gone when it is dropped.
pub struct Folder(PathBuf);

impl Folder {
    /// Makes an empty one.
    pub fn new() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("compare-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Prints what [`ask`] reads.
pub fn answer(value: &impl Serialize) -> Result<(), Failure> {
    println!("{}", serde_json::to_string(value)?);
    Ok(())
}

/// Says on standard error on what it runs.
pub fn describe_machine() {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let after = |text: &str, field| {
        let line = text.lines().find(|line| line.starts_with(field)).unwrap_or_default();
        line.split_once(':').map_or(String::new(), |(_, value)| value.trim().to_owned())
    };
    eprintln!(
        "machine: {}, {} cores, pinned to {}, load {}",
        after(&read("/proc/cpuinfo"), "model name"),
        read("/proc/cpuinfo").matches("processor\t").count(),
        after(&read("/proc/self/status"), "Cpus_allowed_list"),
        read("/proc/loadavg").split(' ').next().unwrap_or_default(),
    );
}

/// The middle value; of an even number of them the lower one of the two.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

/// With so many digits behind the point.
pub fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}
