//! Opening a directory: lock, format, recovery, and the high-water mark that a damaged journal cannot hide behind.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use fjall::compaction::Leveled;
use fjall::config::FilterPolicy;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, Snapshot};
use tokio::sync::watch;

use super::committer::{Committer, End, MARK_WITHIN};
use super::disk::{self, Disk, FjallDisk};
use super::records::{self, Logs};
use super::{Embedded, Inner, Options, Tails};
use crate::error::ReadError;
use crate::limits::{PARTITIONS_MAX, QUEUE_CALLS_MAX};
use crate::log::Stream;
use crate::partition::PartitionId;

/// A directory cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{0} is in use by another process: stop that process, or name another directory with --data")]
    InUse(PathBuf),
    /// It was made with another number of partitions.
    #[error("{dir} was made with {found} partitions, not {wanted}: use {found}, or another directory")]
    Partitions {
        /// The directory.
        dir: PathBuf,
        /// Its partitions.
        found: u16,
        /// The wanted ones.
        wanted: u16,
    },
    /// The setting is out of range.
    #[error("partitions must be 1 to {PARTITIONS_MAX}, not {0}")]
    PartitionsRange(u16),
    /// It was written by a Podium with another layout.
    #[error(
        "{dir} has format {found}, this Podium reads format {FORMAT}: use the Podium that made it, or another directory"
    )]
    Format {
        /// The directory.
        dir: PathBuf,
        /// Its format.
        found: String,
    },
    /// The disk refused.
    #[error("{dir} cannot be opened: {reason}")]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What the disk said.
        reason: String,
    },
    /// Something that was durable is gone.
    #[error("{dir} is damaged: {reason}; restore it from a copy")]
    Corrupt {
        /// The directory.
        dir: PathBuf,
        /// What is missing.
        reason: String,
    },
}

/// The layout that this code writes.
const FORMAT: &str = "2";
/// Bytes of block cache: hot rows are in the operators' memory, so reads are few.
const CACHE_BYTES: u64 = 16 << 20;
/// Bytes of one memtable and of one table. A table is synced as a whole and the sync of a commit waits behind it: at
/// 10,000 answers/s the slowest hundredth of appends took 12 ms with 2 MiB, 40 ms with 8 MiB.
const TABLE_BYTES: u64 = 2 << 20;
/// Bytes of journals: the least that the database takes; reopening 280 MB was measured at 2 to 4 s.
const JOURNAL_BYTES: u64 = 64 << 20;

pub(super) fn open(dir: &Path, options: Options) -> Result<Embedded, OpenError> {
    open_on(dir, options, MARK_WITHIN, |disk| disk)
}

/// Opens a directory with what `wrap` makes of its disk.
pub(super) fn open_on<D: Disk + 'static>(
    dir: &Path,
    options: Options,
    mark_within: Duration,
    wrap: impl FnOnce(FjallDisk) -> D,
) -> Result<Embedded, OpenError> {
    if options.partitions == 0 || options.partitions > PARTITIONS_MAX {
        return Err(OpenError::PartitionsRange(options.partitions));
    }
    let io = |reason: String| OpenError::Io { dir: dir.to_owned(), reason };
    let corrupt = |reason: String| OpenError::Corrupt { dir: dir.to_owned(), reason };
    make(dir).map_err(|error| io(error.to_string()))?;
    // Before the database: to open it may already change a directory that is not for us to change.
    let known = check_format(dir, options)?;
    let journal_bytes = journal_bytes(dir).map_err(|error| io(error.to_string()))?;
    let database = open_database(dir).map_err(|error| {
        if let fjall::Error::Io(error) = error {
            return io(error.to_string());
        }
        let in_use = matches!(error, fjall::Error::Locked);
        if in_use { OpenError::InUse(dir.to_owned()) } else { corrupt(error.to_string()) }
    })?;
    let rows = open_rows(&database).map_err(|error| io(error.to_string()))?;
    let logs = Logs::open(&database, options.partitions).map_err(|error| io(error.to_string()))?;
    let mark = HighWater { path: dir.join("high-water") };
    let view = disk::View::new(&database);
    let (commits, ends) =
        recover(&view.get(), &logs, &rows, journal_bytes, options.partitions, &mark).map_err(corrupt)?;
    if !known {
        if commits > 0 {
            return Err(corrupt("the file that names its format is gone".into()));
        }
        replace(&dir.join("format"), &format!("{FORMAT} {}\n", options.partitions))
            .map_err(|error| io(error.to_string()))?;
    }
    let tails: Tails =
        Arc::new(ends.iter().map(|(place, end)| (*place, watch::channel(end.next).0)).collect());
    let (jobs, queue) = mpsc::sync_channel(QUEUE_CALLS_MAX);
    let queued = Arc::<AtomicUsize>::default();
    let disk = FjallDisk {
        database: database.clone(),
        view: view.clone(),
        logs: logs.clone(),
        rows: rows.clone(),
        commits,
    };
    let disk = wrap(disk);
    let committer = Committer { disk, ends, tails: tails.clone(), mark, mark_within, queued: queued.clone() };
    let thread = std::thread::Builder::new().name("committer".into());
    let thread = thread.spawn(move || committer.run(queue)).map_err(|error| io(error.to_string()))?;
    let inner = Inner {
        partitions: options.partitions,
        logs,
        rows,
        view,
        jobs: Some(jobs),
        queued,
        tails,
        committer: Some(thread),
        _database: database,
    };
    Ok(Embedded { inner: Arc::new(inner) })
}

/// Opens or makes a keyspace for rows.
fn open_rows(database: &Database) -> fjall::Result<Keyspace> {
    database.keyspace("rows", keyspace_options)
}

/// Opens or makes a keyspace for records, which are read in ranges only: a filter of keys would never be asked.
pub(super) fn open_log(database: &Database, name: &str) -> fjall::Result<Keyspace> {
    database.keyspace(name, || keyspace_options().filter_policy(FilterPolicy::disabled()))
}

fn keyspace_options() -> KeyspaceCreateOptions {
    let compaction = Leveled::default().with_table_target_size(TABLE_BYTES);
    KeyspaceCreateOptions::default().max_memtable_size(TABLE_BYTES).compaction_strategy(Arc::new(compaction))
}

/// Returns the bytes of the journals, which the database empties when it opens them.
fn journal_bytes(dir: &Path) -> std::io::Result<u64> {
    let entries = match fs::read_dir(dir.join("store")) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut bytes = 0;
    for entry in entries {
        let entry = entry?;
        if entry.path().extension().is_some_and(|extension| extension == "jnl") {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}

fn open_database(dir: &Path) -> fjall::Result<Database> {
    let builder = Database::builder(dir.join("store"));
    let builder = builder.cache_size(CACHE_BYTES).max_journaling_size(JOURNAL_BYTES).worker_threads(1);
    // The database panics on some damage, a flipped bit in a length for one. Nothing of it is left then.
    let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| builder.open()));
    opened.unwrap_or(Err(fjall::Error::Unrecoverable))
}

/// Makes the directory, durably: what is synced inside a directory is found again only if the way to it is.
fn make(dir: &Path) -> std::io::Result<()> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.exists()).collect();
    fs::create_dir_all(dir)?;
    for parent in missing.iter().filter_map(|dir| dir.parent()) {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// Checks the file that says how the rest is to be read; tells whether it is there.
fn check_format(dir: &Path, options: Options) -> Result<bool, OpenError> {
    let text = match fs::read_to_string(dir.join("format")) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(OpenError::Io { dir: dir.to_owned(), reason: error.to_string() }),
    };
    let mut words = text.split_whitespace();
    let (format, partitions) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let unknown = || OpenError::Format { dir: dir.to_owned(), found: text.trim().to_owned() };
    let found = partitions.parse().map_err(|_| unknown())?;
    if format != FORMAT {
        return Err(unknown());
    }
    if found != options.partitions {
        return Err(OpenError::Partitions { dir: dir.to_owned(), found, wanted: options.partitions });
    }
    Ok(true)
}

type Ends = HashMap<(Stream, PartitionId), End>;

/// Returns the number of commits and the end of every partition, refusing what ends before what was acknowledged or
/// has a gap before its end.
fn recover(
    view: &Snapshot,
    logs: &Logs,
    rows: &Keyspace,
    journal_bytes: u64,
    partitions: u16,
    mark: &HighWater,
) -> Result<(u64, Ends), String> {
    let reason = |error| match error {
        ReadError::Corrupt(reason) | ReadError::Unavailable(reason) => reason,
    };
    let commits = disk::last_commit(view, rows).map_err(reason)?;
    let (durable, marks) = mark.read()?;
    if commits < durable {
        return Err(format!("it ends at commit {commits}, but commit {durable} was durable"));
    }
    let mut ends = HashMap::new();
    for stream in Stream::ALL {
        for partition in (0..partitions).map(PartitionId) {
            let place = (stream, partition);
            let log = logs.get(place);
            let last = log.and_then(|log| records::last(view, log, place, journal_bytes).transpose());
            let last = last.transpose().map_err(reason)?;
            let end =
                last.map_or_else(End::default, |(offset, append_at)| End { next: offset + 1, append_at });
            let next = end.next;
            let known = disk::end(view, rows, place).map_err(reason)?;
            if known != next {
                return Err(format!("{stream} partition {partition} ends at {next}, its rows at {known}"));
            }
            let durable = marks.get(&(stream.name().to_owned(), partition.0)).copied().unwrap_or(0);
            if next < durable {
                return Err(format!(
                    "{stream} partition {partition} ends at {next}, but {durable} was durable"
                ));
            }
            ends.insert(place, end);
        }
    }
    Ok((commits, ends))
}

/// A small file, synced on its own, that says how far the directory and each partition are durable at least.
///
/// A flipped bit in the middle of a journal makes the database drop everything behind it without a word; this file
/// turns that silence into a refusal to start.
pub(super) struct HighWater {
    pub(super) path: PathBuf,
}

type Marks = HashMap<(String, u16), u64>;

impl HighWater {
    pub(super) fn write(&self, commits: u64, ends: &Ends) -> Result<(), String> {
        let mut lines: Vec<_> = ends.iter().filter(|(_, end)| end.next > 0).collect();
        lines.sort_by_key(|(place, _)| **place);
        let mut text = format!("{commits}\n");
        for ((stream, partition), end) in lines {
            let _ = writeln!(text, "{stream} {partition} {}", end.next);
        }
        replace(&self.path, &text).map_err(|error| format!("high-water mark: {error}"))
    }

    fn read(&self) -> Result<(u64, Marks), String> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((0, Marks::new())),
            Err(error) => return Err(format!("high-water mark: {error}")),
        };
        let unreadable = |line: &str| format!("high-water mark: cannot read {line:?}");
        let (commits, lines) = text.split_once('\n').ok_or_else(|| unreadable(&text))?;
        let parse = |line: &str| {
            let mut words = line.split(' ');
            let stream = words.next()?.to_owned();
            Some(((stream, words.next()?.parse().ok()?), words.next()?.parse().ok()?))
        };
        let marks = lines.lines().map(|line| parse(line).ok_or_else(|| unreadable(line)));
        Ok((commits.parse().map_err(|_| unreadable(commits))?, marks.collect::<Result<_, _>>()?))
    }
}

/// Replaces a file as a whole: after a crash it holds the old text or the new.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    // The name itself is durable only once its directory is.
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}
