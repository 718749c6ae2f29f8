//! A policy with the files that it was read from: what is compiled, what goes into its snapshot, and what is watched.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::Context as _;
use icmp_userspace::{
    kernel::{
        stamp::Stamped,
        state::{self, Generation, Listing},
    },
    policy::{Policy, file, slots::Slots},
};

/// A policy that has been read.
pub(super) struct Source {
    /// What it means.
    pub(super) policy: Policy,
    text: String,
    path: Option<PathBuf>,
    files: Vec<Stamped>,
}

/// The name of a policy in its snapshot.
const SNAPSHOT: &str = "policy.toml";

impl Source {
    /// Reads a policy file, or takes the default policy.
    pub(super) fn read(path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path else {
            return Ok(Self {
                policy: Policy::default(),
                text: String::new(),
                path: None,
                files: Vec::new(),
            });
        };
        let begin = SystemTime::now();
        let policy = file::read(path)?;
        let text =
            fs::read_to_string(path).with_context(|| format!("reading the policy {}", path.display()))?;
        let path =
            std::path::absolute(path).with_context(|| format!("making {} absolute", path.display()))?;
        let files = vec![Stamped::read_since(&path, begin)];
        Ok(Self { policy, text, path: Some(path), files })
    }

    /// Reads the policy of a program that has been loaded, from its generation.
    pub(super) fn of_snapshot(directory: &Path, source: &state::Source) -> anyhow::Result<Self> {
        let path = directory.join(SNAPSHOT);
        let policy = file::read(&path)?;
        let text =
            fs::read_to_string(&path).with_context(|| format!("reading the policy {}", path.display()))?;
        Ok(Self { policy, text, path: source.policy.clone(), files: source.files.clone() })
    }

    /// Writes its snapshot.
    pub(super) fn save(&self, directory: &Path) -> io::Result<()> {
        fs::write(directory.join(SNAPSHOT), &self.text)
    }

    /// What belongs to its program, with these slots.
    pub(super) fn generation(&self, slots: Slots) -> Generation {
        let sets = self.policy.sets.iter().filter(|set| !set.dynamic).map(|set| set.name.clone());
        let listing = Listing { rules: slots.lines(&self.policy), sets: sets.collect() };
        let source = state::Source { policy: self.path.clone(), files: self.files.clone() };
        Generation { slots, listing, source }
    }

    /// The policy's file; `None` for the default policy.
    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Whether any of its files is not as it was when it was read.
    pub(super) fn has_changed(&self) -> bool {
        self.files.iter().any(Stamped::has_changed)
    }

    /// Takes the files as they are now for those that were read.
    pub(super) fn accept_changes(&mut self) {
        self.files = self.files.iter().map(|file| Stamped::now(&file.path)).collect();
    }

    /// Whether it means the same, wherever it was read from.
    pub(super) fn means_the_same(&self, other: &Self) -> bool {
        let (one, two) = (&self.policy, &other.policy);
        let texts = |policy: &Policy| -> Vec<_> {
            policy.acl.rules.iter().map(|rule| (rule.number, rule.origin, rule.to_string())).collect()
        };
        let sets = |policy: &Policy| -> Vec<_> {
            let sets = policy.sets.iter();
            sets.map(|set| (set.name.clone(), set.prefixes.clone(), set.dynamic)).collect()
        };
        one.respond == two.respond
            && (one.acl.default, one.acl.errors) == (two.acl.default, two.acl.errors)
            && texts(one) == texts(two)
            && sets(one) == sets(two)
    }
}
