//! The machine and what processes use of it, as Linux tells in `/proc`.

use std::time::Duration;

/// Ticks of processor time per second in `/proc/*/stat`: `USER_HZ`, which Linux fixes at 100 for programs.
const TICKS_PER_SECOND: u64 = 100;

/// What a process has used so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Processor time, user and system.
    pub(crate) cpu: Duration,
    /// Memory in use now.
    pub(crate) rss_bytes: u64,
}

/// Returns what a process has used, `None` if it is gone or this is no Linux.
pub(crate) fn usage(process: &str) -> Option<Usage> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    Some(Usage { cpu: cpu(&stat)?, rss_bytes: rss_bytes(&status)? })
}

fn cpu(stat: &str) -> Option<Duration> {
    // The name may hold anything, spaces and brackets included: fields are counted after its last bracket.
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks = |nth: usize| fields.split_ascii_whitespace().nth(nth)?.parse::<u64>().ok();
    let ticks = ticks(11)? + ticks(12)?;
    Some(Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND))
}

fn rss_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1_024)
}

/// Returns the machine in words: cores, model, memory.
pub(crate) fn describe() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let model = field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown processor".to_owned());
    let memory = field(&read("/proc/meminfo"), "MemTotal")
        .and_then(|text| text.strip_suffix("kB")?.trim().parse::<u64>().ok())
        .map_or_else(String::new, |kib| format!(", {:.1} GiB", kib as f64 / 1_048_576.0));
    format!("{cores} cores, {model}{memory}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_after_a_name_with_brackets() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 100 1000 200";
        assert_eq!(cpu(stat), Some(Duration::from_millis(3_000)));
        assert_eq!(rss_bytes("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2_097_152));
        assert_eq!((cpu(""), rss_bytes("")), (None, None));
    }

    #[test]
    fn this_process_uses_memory() {
        assert!(usage("self").unwrap().rss_bytes > 100_000);
        assert_eq!(usage("0"), None);
    }
}
