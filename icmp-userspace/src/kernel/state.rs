//! The state directory: what belongs to a loaded program and outlives processes and reboots.
//!
//! `<root>/<key>/<program id>/` is a generation: a snapshot of the policy, its slots, its rules for listings, and where it was
//! read from. It is complete on disk under its name before the program is put in place, so the generation of whatever runs is
//! found by that program's id, wherever a process is killed or power is lost. `last-good` beside the generations points to the
//! last one that is to stay; `dynamic.json` there belongs to [`super::sets`].
//!
//! What is read back may be anything: sizes are bounded, contents are checked.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, symlink},
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    error::{Doing as _, Error},
    namespace,
    stamp::Stamped,
};
use crate::policy::{
    acl::Origin,
    slots::{LimitLine, Line, ServedLine, Slots},
};

/// Where state is kept by custom.
pub const STATE: &str = "/var/lib/icmpctl";

/// Longest file that is read back, in bytes.
const MAX_BYTES: u64 = 64 << 20;
/// How deep snapshots are.
const MAX_DEPTH: usize = 4;

const SLOTS: &str = "slots.json";
const RULES: &str = "rules.json";
const SOURCE: &str = "source.json";
const LAST_GOOD: &str = "last-good";

/// What is known of a loaded program besides what is in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Generation {
    /// Where its rules count, and the numbers of its dynamic sets.
    pub slots: Slots,
    /// What listings show of it.
    pub listing: Listing,
    /// Where its policy came from.
    pub source: Source,
}

impl Generation {
    /// How many rules its policy has, presets included.
    #[must_use]
    pub fn count_rules(&self) -> usize {
        self.listing.rules.iter().filter(|rule| rule.number.is_some()).count()
    }
}

/// What listings show of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Listing {
    /// Its rules.
    pub rules: Vec<Line>,
    /// The rates of its limits.
    #[serde(default)]
    pub limits: Vec<LimitLine>,
    /// What it serves, as it is counted.
    #[serde(default)]
    pub served: Vec<ServedLine>,
    /// Names of its sets that are not dynamic.
    pub sets: Vec<String>,
}

impl Listing {
    /// The rule with a number: the policy's own, else that of a preset.
    #[must_use]
    pub fn rule(&self, number: u32) -> Option<&Line> {
        let mut rules: Vec<_> = self.rules.iter().filter(|line| line.number == Some(number)).collect();
        rules.sort_by_key(|line| line.origin != Origin::File.name());
        rules.first().copied()
    }
}

/// Where a policy came from.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Source {
    /// Its file; none stands for the default policy.
    pub policy: Option<PathBuf>,
    /// All files that it was read from, as they were before that.
    pub files: Vec<Stamped>,
}

/// How the snapshot of a policy gets into its generation.
#[derive(Clone, Copy)]
pub enum Snapshot<'a> {
    /// This writes it into a directory.
    Save(&'a dyn Fn(&Path) -> io::Result<()>),
    /// It is that of an earlier generation.
    Of(u32),
}

/// The state of one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    directory: PathBuf,
}

impl State {
    /// The state of an interface of the current network namespace below `root`. In the initial namespace, and in that of a
    /// container, which is the one of its first process, it is found again after a reboot.
    pub fn of(root: &Path, interface: &str) -> Result<Self, Error> {
        let key = if namespace::is_initial() {
            format!("host-{interface}")
        } else {
            format!("netns{}-{interface}", namespace::current()?)
        };
        let root = std::path::absolute(root).doing(|| format!("making {} absolute", root.display()))?;
        Ok(Self { directory: root.join(key) })
    }

    /// The state in this very directory.
    #[must_use]
    pub const fn at(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Its directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The directory of a program's generation.
    #[must_use]
    pub fn generation(&self, program: u32) -> PathBuf {
        self.directory.join(program.to_string())
    }

    /// Writes the generation of a program that is loaded but not in place yet. What stands there is of an earlier boot.
    pub fn write(&self, program: u32, generation: &Generation, snapshot: Snapshot<'_>) -> Result<(), Error> {
        self.make()?;
        let doing = || format!("writing the state of program {program} to {}", self.directory.display());
        let new = tempfile::Builder::new().prefix(".new-").tempdir_in(&self.directory).doing(doing)?;
        match snapshot {
            Snapshot::Save(save) => save(new.path()),
            Snapshot::Of(earlier) => link_files(&self.generation(earlier), new.path(), MAX_DEPTH),
        }
        .doing(doing)?;
        write_json(&new.path().join(SLOTS), &generation.slots).doing(doing)?;
        write_json(&new.path().join(RULES), &generation.listing).doing(doing)?;
        write_json(&new.path().join(SOURCE), &generation.source).doing(doing)?;
        sync_all(new.path(), MAX_DEPTH).doing(doing)?;
        let target = self.generation(program);
        match renameat_with(CWD, new.path(), CWD, &target, RenameFlags::NOREPLACE) {
            Ok(()) => drop(new.keep()),
            // Now the temporary directory is the old one, and goes.
            Err(rustix::io::Errno::EXIST) => {
                renameat_with(CWD, new.path(), CWD, &target, RenameFlags::EXCHANGE).doing(doing)?;
            }
            Err(error) => return Err(error).doing(doing),
        }
        sync(&self.directory).doing(doing)
    }

    /// Reads the generation of a program; `None` if there is none, an error if it makes no sense.
    pub fn read(&self, program: u32) -> Result<Option<Generation>, Error> {
        let directory = self.generation(program);
        let Some(slots) = read_json::<Slots>(&directory.join(SLOTS))? else { return Ok(None) };
        if !slots.are_valid() || !slots.rules().all(|(text, _)| is_plain(text)) {
            return Err(broken(&directory.join(SLOTS), "slots that no policy has"));
        }
        let listing = read_json::<Listing>(&directory.join(RULES))?.unwrap_or_default();
        let known = |line: &Line| slots.rule(&line.text) == Some(line.slot) && is_plain(&line.origin);
        let rates = listing.limits.iter().flat_map(|limit| [&limit.rate, &limit.origin]);
        let shown = listing.sets.iter().chain(rates);
        if !listing.rules.iter().all(known) || !shown.into_iter().all(|text| is_plain(text)) {
            return Err(broken(&directory.join(RULES), "rules that have no slots"));
        }
        let source = read_json(&directory.join(SOURCE))?.unwrap_or_default();
        Ok(Some(Generation { slots, listing, source }))
    }

    /// Points `last-good` to a program's generation.
    pub fn mark_good(&self, program: u32) -> Result<(), Error> {
        let doing = || format!("marking program {program} as good in {}", self.directory.display());
        let new = tempfile::Builder::new().prefix(".new-").tempdir_in(&self.directory).doing(doing)?;
        let link = new.path().join(LAST_GOOD);
        symlink(program.to_string(), &link).doing(doing)?;
        fs::rename(&link, self.directory.join(LAST_GOOD)).doing(doing)?;
        sync(&self.directory).doing(doing)
    }

    /// Removes all generations but these and the last good one, and what interrupted writers left.
    pub fn remove_others(&self, keep: &[u32]) -> Result<(), Error> {
        let doing = || format!("removing old state from {}", self.directory.display());
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error).doing(doing),
        };
        let last_good = fs::read_link(self.directory.join(LAST_GOOD)).ok();
        for entry in entries {
            let entry = entry.doing(doing)?;
            let name = entry.file_name();
            let Some(text) = name.to_str() else { continue };
            let is_old = text.parse::<u32>().is_ok_and(|program| !keep.contains(&program))
                && last_good.as_deref() != Some(Path::new(text));
            if (is_old || text.starts_with(".new-")) && entry.file_type().doing(doing)?.is_dir() {
                fs::remove_dir_all(entry.path()).doing(doing)?;
            }
        }
        Ok(())
    }

    /// Removes the generation of a program that did not get into place.
    pub fn discard(&self, program: u32) {
        // What stays is removed by the next change.
        let _ = fs::remove_dir_all(self.generation(program));
    }

    /// Makes the directory; only root looks into it.
    pub(super) fn make(&self) -> Result<(), Error> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.directory);
        made.doing(|| {
            format!(
                "making the state directory {} (another one can be named with --state)",
                self.directory.display()
            )
        })
    }
}

/// Whether a text can be shown on a terminal as it is.
pub(super) fn is_plain(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

pub(super) fn broken(path: &Path, why: impl Into<String>) -> Error {
    Error::BrokenState { path: path.to_owned(), why: why.into() }
}

/// Reads a file of ours; `None` if there is none.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    // A file that is no file must not make us wait.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let file = match File::options().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(broken(path, error.to_string())),
    };
    let is_file = file.metadata().doing(|| format!("looking at {}", path.display()))?.is_file();
    if !is_file {
        return Err(broken(path, "it is no file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).doing(|| format!("reading {}", path.display()))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(broken(path, format!("it is longer than {} MiB", MAX_BYTES >> 20)));
    }
    serde_json::from_slice(&bytes).map(Some).map_err(|error| broken(path, error.to_string()))
}

/// Writes a file of ours: all of it or nothing, whatever happens meanwhile.
pub(super) fn replace_json(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let doing = || format!("writing {}", path.display());
    let directory = path.parent().unwrap_or(Path::new("/"));
    let file = tempfile::Builder::new().prefix(".new-").tempfile_in(directory).doing(doing)?;
    serde_json::to_writer(io::BufWriter::new(file.as_file()), value).map_err(io::Error::from).doing(doing)?;
    file.as_file().sync_all().doing(doing)?;
    file.persist(path).map_err(|error| error.error).doing(doing)?;
    sync(directory).doing(doing)
}

fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let mut file = io::BufWriter::new(File::create_new(path)?);
    serde_json::to_writer(&mut file, value)?;
    file.flush()
}

/// Gives the files of a snapshot another name each.
fn link_files(from: &Path, to: &Path, depth: usize) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, name) = (entry.file_type()?, entry.file_name());
        let is_ours = [SLOTS, RULES, SOURCE].iter().any(|ours| name == *ours);
        if kind.is_file() && !is_ours {
            fs::hard_link(entry.path(), to.join(name))?;
        } else if kind.is_dir() && depth > 0 {
            fs::create_dir(to.join(&name))?;
            link_files(&entry.path(), &to.join(name), depth - 1)?;
        }
    }
    Ok(())
}

/// Has everything in a directory written to the disk.
fn sync_all(directory: &Path, depth: usize) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_file() {
            sync(&entry.path())?;
        } else if kind.is_dir() && depth > 0 {
            sync_all(&entry.path(), depth - 1)?;
        }
    }
    sync(directory)
}

fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generation() -> Generation {
        let slots = r#"{"rules": {"guard": 3, "default permit": 0}, "dynamic": {"banned": 2}}"#;
        let line = Line { slot: 3, number: None, origin: "built-in".to_owned(), text: "guard".to_owned() };
        Generation {
            slots: serde_json::from_str(slots).unwrap(),
            listing: Listing { rules: vec![line], sets: vec!["trusted".to_owned()], ..Listing::default() },
            source: Source { policy: Some("/etc/p.toml".into()), files: vec![Stamped::now(Path::new("/"))] },
        }
    }

    fn save(directory: &Path) -> io::Result<()> {
        fs::create_dir(directory.join("sets"))?;
        fs::write(directory.join("sets/banned.txt"), "192.0.2.1\n")?;
        fs::write(directory.join("policy.toml"), "# policy\n")
    }

    fn state() -> (tempfile::TempDir, State) {
        let directory = tempfile::tempdir().unwrap();
        let state = State::at(directory.path().join("root/host-eth0"));
        (directory, state)
    }

    #[test]
    fn reads_what_it_wrote() {
        let (_directory, state) = state();
        assert_eq!(state.read(7).unwrap(), None);
        state.write(7, &generation(), Snapshot::Save(&save)).unwrap();
        assert_eq!(state.read(7).unwrap(), Some(generation()));
        let snapshot = fs::read_to_string(state.generation(7).join("sets/banned.txt")).unwrap();
        assert_eq!(snapshot, "192.0.2.1\n");
    }

    #[test]
    fn a_snapshot_is_shared_and_an_earlier_boots_is_replaced() {
        let (_directory, state) = state();
        state.write(7, &generation(), Snapshot::Save(&save)).unwrap();
        let old = |directory: &Path| fs::write(directory.join("policy.toml"), "# old\n");
        state.write(8, &Generation::default(), Snapshot::Save(&old)).unwrap();
        state.write(8, &generation(), Snapshot::Of(7)).unwrap();
        state.mark_good(8).unwrap();
        state.remove_others(&[]).unwrap();
        let names: Vec<_> =
            fs::read_dir(state.directory()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
        assert_eq!(state.read(8).unwrap(), Some(generation()));
        let good = state.directory().join(LAST_GOOD);
        assert_eq!(fs::read_to_string(good.join("policy.toml")).unwrap(), "# policy\n");
    }

    #[test]
    fn what_interrupted_writers_left_is_no_generation() {
        let (_directory, state) = state();
        state.write(7, &generation(), Snapshot::Save(&save)).unwrap();
        fs::create_dir(state.directory().join(".new-abc")).unwrap();
        fs::write(state.directory().join("dynamic.json"), "[]").unwrap();
        state.remove_others(&[7]).unwrap();
        assert!(!state.directory().join(".new-abc").exists());
        assert!(state.directory().join("dynamic.json").exists());
        assert_eq!(state.read(7).unwrap(), Some(generation()));
    }

    #[test]
    fn a_failed_snapshot_leaves_nothing() {
        let (_directory, state) = state();
        let fail = |_: &Path| Err(io::ErrorKind::StorageFull.into());
        assert!(state.write(7, &generation(), Snapshot::Save(&fail)).is_err());
        assert_eq!(fs::read_dir(state.directory()).unwrap().count(), 0);
    }

    #[test]
    fn garbage_is_refused() {
        let (_directory, state) = state();
        state.write(7, &generation(), Snapshot::Save(&save)).unwrap();
        let directory = state.generation(7);
        for (name, text) in [
            (SLOTS, "{"),
            (SLOTS, "\0\0\0"),
            (SLOTS, r#"{"rules": {"guard": 99999}, "dynamic": {}}"#),
            (SLOTS, r#"{"rules": {"\u001b[2J": 3}, "dynamic": {}}"#),
            (RULES, r#"{"rules": [{"slot": 1, "number": 1, "origin": "file", "text": "x"}], "sets": []}"#),
            (RULES, r#"{"rules": [], "sets": ["\u0007"]}"#),
            (SOURCE, "[1, 2]"),
        ] {
            let good = fs::read(directory.join(name)).unwrap();
            fs::write(directory.join(name), text).unwrap();
            let error = state.read(7).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("makes no sense"), "{text}: {error}");
            fs::write(directory.join(name), good).unwrap();
        }
        fs::remove_file(directory.join(SLOTS)).unwrap();
        symlink("/dev/zero", directory.join(SLOTS)).unwrap();
        assert!(state.read(7).is_err());
        fs::remove_file(directory.join(SLOTS)).unwrap();
        fs::create_dir(directory.join(SLOTS)).unwrap();
        assert!(state.read(7).is_err());
    }
}
