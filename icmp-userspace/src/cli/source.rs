//! A policy with the files that it was read from: what is compiled, what goes into its snapshot, and what is watched.

use std::{
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::Context as _;
use icmp_userspace::{
    kernel::{
        stamp::Stamped,
        state::{self, Generation, Listing},
    },
    policy::{
        Policy,
        file::{self, Loaded},
        slots::Slots,
    },
};

/// A policy that has been read.
pub(super) struct Source {
    loaded: Loaded,
    /// The policy's file; none for the default policy.
    path: Option<PathBuf>,
    files: Vec<Stamped>,
}

impl Source {
    /// Reads a policy file, or takes the default policy.
    pub(super) fn read(path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path else {
            let loaded = Loaded {
                policy: Policy::default(),
                text: String::new(),
                path: PathBuf::new(),
                warnings: Vec::new(),
                files: Vec::new(),
            };
            return Ok(Self { loaded, path: None, files: Vec::new() });
        };
        let begin = SystemTime::now();
        let loaded = file::load(path)?;
        let stamped = |path: &PathBuf| Ok(Stamped::read_since(&absolute(path)?, begin));
        let files = loaded.files.iter().map(stamped).collect::<anyhow::Result<_>>()?;
        Ok(Self { path: Some(absolute(path)?), loaded, files })
    }

    /// Reads the policy of a program that has been loaded, from its generation.
    pub(super) fn of_snapshot(directory: &Path, source: &state::Source) -> anyhow::Result<Self> {
        let loaded = file::load_snapshot(directory)?;
        Ok(Self { loaded, path: source.policy.clone(), files: source.files.clone() })
    }

    /// What it means.
    pub(super) const fn policy(&self) -> &Policy {
        &self.loaded.policy
    }

    /// Writes its snapshot.
    pub(super) fn save(&self, directory: &Path) -> io::Result<()> {
        self.loaded.save(directory)
    }

    /// What belongs to its program, with these slots.
    pub(super) fn generation(&self, slots: Slots) -> Generation {
        let policy = self.policy();
        let sets = policy.sets.iter().filter(|set| !set.dynamic).map(|set| set.name.clone());
        let listing = Listing {
            rules: slots.lines(policy),
            limits: slots.limits(policy),
            served: slots.served(policy),
            sets: sets.collect(),
        };
        let source = state::Source { policy: self.path.clone(), files: self.files.clone() };
        Generation { slots, listing, source }
    }

    /// The policy's file; `None` for the default policy.
    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Says what is probably not meant.
    pub(super) fn warn(&self) {
        if !self.loaded.warnings.is_empty() {
            log::info!("{}", self.loaded.report());
        }
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
        let (one, two) = (self.policy(), other.policy());
        let texts = |policy: &Policy| -> Vec<_> {
            policy.acl.rules.iter().map(|rule| (rule.number, rule.origin, rule.to_string())).collect()
        };
        let sets_are_equal = || {
            let mut pairs = one.sets.iter().zip(&two.sets);
            one.sets.len() == two.sets.len()
                && pairs.all(|(one, two)| {
                    (&one.name, &one.prefixes, one.dynamic) == (&two.name, &two.prefixes, two.dynamic)
                })
        };
        one.respond == two.respond
            && (one.acl.default, one.acl.errors) == (two.acl.default, two.acl.errors)
            && one.limits == two.limits
            && texts(one) == texts(two)
            && sets_are_equal()
    }
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("making {} absolute", path.display()))
}
