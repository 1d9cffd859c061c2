//! How much memory this machine has, and what is said where a device has not enough.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Resource, getrlimit};

use crate::error::{Error, Result};

/// What there is to do where a device has not enough memory.
pub const REMEDY: &str = "--low-memory keeps less during training, a smaller --batch or network needs less; 'kerase info \
                          --plan' says how much before anything starts";

/// Bytes, for people.
pub fn size(bytes: usize) -> String {
    const UNITS: [(usize, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} bytes"),
    }
}

/// A limit that the environment sets, in MiB, as bytes.
///
/// # Errors
/// [`Error::Input`] for what is no number.
pub fn limit_from_environment(variable: &str) -> Result<Option<usize>> {
    let Ok(mib) = std::env::var(variable) else { return Ok(None) };
    let bytes = mib.parse::<usize>().ok().and_then(|mib| mib.checked_mul(1 << 20));
    bytes.map(Some).ok_or_else(|| Error::input(format!("{variable}={mib}: expected a number of MiB")))
}

/// Processes that share this machine to do one work.
static SHARED_BY: AtomicUsize = AtomicUsize::new(1);

/// From now on so many processes, this one among them, are taken to need as much of this machine's memory each.
pub fn share_machine(processes: usize) {
    SHARED_BY.store(processes.max(1), Ordering::Relaxed);
}

/// What people are told beside the machine's memory.
pub fn shared() -> String {
    match SHARED_BY.load(Ordering::Relaxed) {
        1 => String::new(),
        ranks => format!(" for each of {ranks} ranks"),
    }
}

/// All memory that this process could ever have, or its share of it: the machine's, or its control group's or `ulimit -v`
/// where that is less. What others use at the moment does not count, for they come and go. None where the system does not
/// say so as Linux does.
pub fn of_machine() -> Option<usize> {
    static TOTAL: OnceLock<Option<usize>> = OnceLock::new();
    let limit = || getrlimit(Resource::As).current.and_then(|bytes| usize::try_from(bytes).ok());
    let total = *TOTAL.get_or_init(|| Some(total(Path::new("/"))?.min(limit().unwrap_or(usize::MAX))));
    total.map(|bytes| bytes / SHARED_BY.load(Ordering::Relaxed))
}

/// Refuses what this machine never has memory for. `what` takes so many bytes; `remedy` is what there is to do.
///
/// # Errors
/// [`Error::NoMemory`] with both.
pub fn check_host(bytes: usize, what: &str, remedy: &str) -> Result<()> {
    match of_machine() {
        Some(machine) if bytes > machine => Err(Error::NoMemory(format!(
            "{what} take {} of the host's memory, this machine has {}{}: {remedy}",
            size(bytes),
            size(machine),
            shared()
        ))),
        _ => Ok(()),
    }
}

/// As [`of_machine`], of a system whose files lie under `root`.
fn total(root: &Path) -> Option<usize> {
    let read = |path: &Path| std::fs::read_to_string(root.join(path)).ok();
    let machine = total_of(&read(Path::new("proc/meminfo"))?)?;
    let groups = read(Path::new("proc/self/cgroup")).unwrap_or_default();
    // A limit of version 2 that is none is called max; that of version 1 is larger than any machine.
    let limits = groups.lines().flat_map(limit_files).filter_map(|path| read(&path)?.trim().parse().ok());
    Some(limits.fold(machine, usize::min))
}

fn total_of(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1 << 10)
}

/// Where the limits of a control group and of those around it are said, for a line of /proc/self/cgroup. In a container the
/// path may be that of the host, and the group itself the top one.
fn limit_files(line: &str) -> Vec<PathBuf> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else { return Vec::new() };
    let (top, file) = match controllers {
        "" => ("sys/fs/cgroup", "memory.max"),
        _ if controllers.split(',').any(|name| name == "memory") => {
            ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
        }
        _ => return Vec::new(),
    };
    let group = Path::new(group.trim_start_matches('/'));
    group.ancestors().map(|group| Path::new(top).join(group).join(file)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_for_people() {
        assert_eq!(
            [0, 1023, 1536, 3 << 20, 80 << 30].map(size),
            ["0 bytes", "1023 bytes", "1.5 KiB", "3.0 MiB", "80.0 GiB"]
        );
    }

    #[test]
    fn what_no_machine_has_is_refused() {
        check_host(1, "weights", "take fewer").unwrap();
        if of_machine().is_some() {
            let message = check_host(usize::MAX, "weights", "take fewer").unwrap_err().to_string();
            assert!(message.starts_with("weights take ") && message.ends_with(": take fewer"), "{message}");
        }
    }

    #[test]
    fn a_control_group_may_have_less_than_the_machine() {
        let system = |files: &[(&str, &str)]| {
            let root = tempfile::tempdir().unwrap();
            for (name, text) in files {
                let path = root.path().join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            total(root.path())
        };
        let machine = ("proc/meminfo", "MemTotal:       16384 kB\nMemFree:         1 kB\n");
        let own = |text| ("proc/self/cgroup", text);
        const MIB: usize = 1 << 20;
        assert_eq!(system(&[]), None, "not Linux");
        assert_eq!(system(&[machine]), Some(16 * MIB));
        let second = [machine, own("0::/user/job 1\n"), ("sys/fs/cgroup/user/job 1/memory.max", "max\n")];
        assert_eq!(system(&second), Some(16 * MIB));
        let around = ("sys/fs/cgroup/user/memory.max", "2097152\n");
        assert_eq!(system(&[&second[..], &[around]].concat()), Some(2 * MIB), "of the group around it");
        let first = [machine, own("5:cpu:/\n4:cpuset,memory:/job\n")];
        let limit = |path, text| [&first[..], &[(path, text)]].concat();
        assert_eq!(
            system(&limit("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "3145728")),
            Some(3 * MIB)
        );
        assert_eq!(
            system(&limit("sys/fs/cgroup/memory/memory.limit_in_bytes", "1048576")),
            Some(MIB),
            "in a container"
        );
        let none = "9223372036854771712";
        assert_eq!(system(&limit("sys/fs/cgroup/memory/job/memory.limit_in_bytes", none)), Some(16 * MIB));
    }
}
