//! Changes of what is attached: made under the lock, one after another, so that whoever is killed in one leaves something that
//! the next one understands.
//!
//! A new policy is a new program behind the same link: each packet meets the old one or the new one. In this order: load it,
//! write its generation to the disk, prepare the dynamic sets, put it in place, tidy up.

use std::{collections::BTreeMap, time::Duration};

use super::{
    attach::Site,
    bans::{self, Ban},
    channels::{self, Which},
    error::{Doing as _, Error},
    load::{BUCKETS, Program},
    lock::Lock,
    record::{Pending, Record, since_boot},
    sets::{Entries, Now},
    state::{Generation, Snapshot},
};
use crate::policy::{acl::BANNED, compile::Tables, prefix::Prefix, slots::Slots};

/// A change that has begun; it ends when it is dropped.
pub struct Change<'a> {
    pub(super) site: &'a mut Site,
    _lock: Lock,
}

/// What is to be put in place.
#[derive(Clone, Copy)]
pub struct New<'a> {
    /// The kernel half's object file.
    pub object: &'a [u8],
    /// The policy's tables.
    pub tables: &'a Tables,
    /// What else belongs to the program.
    pub generation: &'a Generation,
    /// The policy's files.
    pub snapshot: Snapshot<'a>,
}

/// What is in place.
#[derive(Clone, Debug)]
pub struct Running {
    /// The program's id.
    pub program: u32,
    /// What belongs to it; that of a program without rules if nothing is known.
    pub generation: Generation,
    /// Why nothing is known.
    pub problem: Option<String>,
}

impl<'a> Change<'a> {
    pub(super) const fn new(site: &'a mut Site, lock: Lock) -> Self {
        Self { site, _lock: lock }
    }

    /// The interface and its files.
    #[must_use]
    pub const fn site(&self) -> &Site {
        self.site
    }

    /// What is in place, if anything of ours is.
    pub fn running(&self) -> Result<Option<Running>, Error> {
        let Some(program) = self.site.attached()? else { return Ok(None) };
        let (generation, problem) = match self.generation_of(program) {
            Ok(generation) => (generation, None),
            Err(error @ (Error::BrokenState { .. } | Error::NoState { .. })) => {
                (Generation::default(), Some(error.to_string()))
            }
            Err(error) => return Err(error),
        };
        Ok(Some(Running { program, generation, problem }))
    }

    /// As [`Self::running`], where something has to be.
    pub fn must_run(&self) -> Result<Running, Error> {
        self.running()?.ok_or_else(|| Error::Detached { interface: self.site.interface.name.clone() })
    }

    /// What belongs to a program.
    pub fn generation_of(&self, program: u32) -> Result<Generation, Error> {
        self.site.state.read(program)?.ok_or_else(|| Error::NoState {
            interface: self.site.interface.name.clone(),
            program,
            path: self.site.state.generation(program),
        })
    }

    /// Puts a program in the place of the attached one, and returns its id. What has been counted stays.
    pub fn swap(&mut self, new: &New<'_>) -> Result<u32, Error> {
        let running = self.must_run()?;
        let Site { interface, pins, files, state, link, .. } = &*self.site;
        let link = link.as_ref().ok_or_else(|| self.site.not_attached())?;
        let mut kept = pins.kept()?;
        // A policy with more buckets, or fewer, begins with full ones.
        let fit = !kept.is_empty() && pins.fit(new.tables.config.bucket_mask + 1)?;
        let secret = kept.iter().find(|(name, _)| *name == BUCKETS).map(|(_, pin)| pin.clone());
        kept.retain(|(name, _)| fit || *name != BUCKETS);
        let taps = channels::held(files, pins);
        let mut program =
            Program::load(new.object, new.tables, &kept, secret.as_deref(), &taps, &files.verifier_log)?;
        let id = program.id()?;
        let replaced = (|| {
            state.write(id, new.generation, new.snapshot)?;
            if kept.is_empty() {
                // Some were missing, and without them the others are worth nothing.
                pins.pin_all(&program)?;
            }
            let others = if kept.is_empty() { &Slots::default() } else { &running.generation.slots };
            self.enforce_sets(&new.generation.slots, others)?;
            for (which, _) in taps.rings.iter().filter(|(_, pin)| pin.is_none()) {
                program.pin(which.map(), &pins.channel(*which))?;
            }
            let fd = program.fd()?;
            link.update(fd).doing(|| format!("replacing the program on {}", interface.name))
        })();
        if let Err(error) = replaced {
            state.discard(id);
            return Err(error);
        }
        // Only now: those that are pinned belong to the program that ran until here.
        let pinned = if fit || kept.is_empty() { Ok(()) } else { pins.pin_buckets(&program) };
        let mut closed =
            Which::ALL.into_iter().filter(|which| taps.rings.iter().all(|(open, _)| open != which));
        let pinned = pinned.and_then(|()| closed.try_for_each(|which| pins.remove_channel(which)));
        let pinned = pinned.and_then(|()| self.remove_stale_locks());
        let tidied = pinned.and_then(|()| self.settle(id, files.read().and_then(|record| record.pending)));
        tidied.map_err(|error| Error::Untidy { error: Box::new(error) })?;
        Ok(id)
    }

    /// Tidies up behind a program that is in place now.
    pub(super) fn settle(&self, program: u32, pending: Option<Pending>) -> Result<(), Error> {
        let state = &self.site.state;
        let generation = self.generation_of(program)?;
        let mut known = vec![&generation.slots];
        let previous = pending.and_then(|pending| self.generation_of(pending.previous).ok());
        match (&previous, pending) {
            (Some(previous), Some(pending)) => {
                known.push(&previous.slots);
                state.remove_others(&[program, pending.previous])?;
            }
            _ => {
                state.mark_good(program)?;
                state.remove_others(&[program])?;
            }
        }
        let mut entries = self.entries(&generation.slots)?;
        if entries.prune(Now::read(), |name| known.iter().any(|slots| slots.set(name).is_some())) {
            entries.write(state)?;
        }
        if known.iter().all(|slots| slots.set(BANNED).is_none()) {
            self.lift_bans(|_| true)?;
        }
        bans::forget_reasons(&self.site.pins, |slot| known.iter().any(|slots| slots.uses(slot)))?;
        entries.enforce(&self.site.pins, &numbers(&known[..1]), Now::read())
    }

    /// Who is banned, as far as what is in place bans prefixes of that length.
    pub fn bans(&self) -> Result<Vec<Ban>, Error> {
        let limits = self.must_run()?.generation.listing.limits;
        let mut bans = bans::read(&self.site.pins, Now::read())?;
        bans.retain(|Ban { prefix, .. }| {
            let family = usize::from(prefix.address().is_ipv6());
            limits.iter().any(|limit| limit.bans.is_some_and(|lengths| lengths[family] == prefix.length()))
        });
        Ok(bans)
    }

    /// Lifts bans of these prefixes.
    pub fn lift_bans(&self, which: impl Fn(Prefix) -> bool) -> Result<(), Error> {
        bans::lift(&self.site.pins, which)
    }

    /// Brings the maps of dynamic sets in line with the entries, before `coming` gets into place: for its sets, and for those of
    /// what runs until then.
    pub(super) fn enforce_sets(&self, coming: &Slots, running: &Slots) -> Result<(), Error> {
        self.entries(coming)?.enforce(&self.site.pins, &numbers(&[coming, running]), Now::read())
    }

    /// All entries. If the policy that comes has no dynamic sets it does not matter what is wrong with their file.
    fn entries(&self, coming: &Slots) -> Result<Entries, Error> {
        match Entries::read(&self.site.state) {
            Err(Error::BrokenState { .. }) if coming.sets().next().is_none() => Ok(Entries::default()),
            outcome => outcome,
        }
    }

    /// Changes the entries of the dynamic sets of what is in place. Ended ones go.
    pub fn change_sets<T>(
        &mut self,
        change: impl FnOnce(&mut Entries, Now) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let running = self.must_run()?;
        let mut entries = Entries::read(&self.site.state)?;
        let before = entries.clone();
        let now = Now::read();
        entries.prune(now, |_| true);
        let outcome = change(&mut entries, now)?;
        entries.check()?;
        if entries != before {
            entries.write(&self.site.state)?;
        }
        entries.enforce(&self.site.pins, &numbers(&[&running.generation.slots]), now)?;
        Ok(outcome)
    }

    /// Refuses to go on while a policy waits for confirmation. One whose guardian is gone waits no more.
    pub fn refuse_pending(&mut self) -> Result<(), Error> {
        match self.site.files.read().and_then(|record| record.pending) {
            Some(pending) if pending.is_overdue() => self.withdraw(),
            Some(pending) => {
                Err(Error::Unconfirmed { interface: self.site.interface.name.clone(), left: pending.left() })
            }
            None => Ok(()),
        }
    }

    /// What waits for confirmation.
    pub fn pending(&self) -> Result<Pending, Error> {
        let pending = self.site.files.read().and_then(|record| record.pending);
        pending.ok_or_else(|| Error::NothingPending { interface: self.site.interface.name.clone() })
    }

    /// Announces a policy that goes unless it is confirmed within this time; before it is in place, so that nothing keeps
    /// it there if this process ends.
    pub fn expect_confirmation(&mut self, within: Duration) -> Result<Pending, Error> {
        let running = self.must_run()?;
        let previous = self.generation_of(running.program).map(|_| running.program)?;
        let pending = Pending { deadline: since_boot().saturating_add(within.as_millis() as u64), previous };
        self.amend(|record| record.pending = Some(pending))?;
        Ok(pending)
    }

    /// Takes such an announcement back: the policy did not get into place.
    pub fn withdraw(&mut self) -> Result<(), Error> {
        self.amend(|record| record.pending = None)
    }

    /// What is in place stays, whether it was confirmed or was there before.
    pub fn conclude(&mut self, complaint: Option<String>) -> Result<(), Error> {
        let running = self.must_run()?;
        self.amend(|record| {
            record.pending = None;
            record.complaint = complaint;
        })?;
        self.settle(running.program, None)
    }

    /// Records what is wrong with the policy file, or that nothing is.
    pub fn complain(&mut self, complaint: Option<String>) -> Result<(), Error> {
        self.amend(|record| record.complaint = complaint)
    }

    /// Records that the process that followed the interface ends.
    pub fn leave(&mut self) -> Result<(), Error> {
        self.amend(|record| record.follower = None)
    }

    /// Whether what has been counted is still within reach; else the next program counts anew.
    pub fn keeps_counters(&self) -> Result<bool, Error> {
        Ok(!self.site.pins.kept()?.is_empty())
    }

    /// Changes the record. One that is lost is begun anew with what is known.
    pub(super) fn amend(&self, amend: impl FnOnce(&mut Record)) -> Result<(), Error> {
        let Site { interface, files, state, .. } = &*self.site;
        let mut record = files.read().unwrap_or_else(|| Record::new(&interface.name, state.directory()));
        amend(&mut record);
        files.write(&record)
    }
}

/// The numbers of the dynamic sets of policies that follow each other, of which no two give a number to different sets.
fn numbers(slots: &[&Slots]) -> BTreeMap<String, u32> {
    slots.iter().flat_map(|slots| slots.sets()).map(|(name, number)| (name.to_owned(), number)).collect()
}
