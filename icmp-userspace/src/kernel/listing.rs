//! What is attached where, and what is left of what was.

use std::path::PathBuf;

use serde::Serialize;

use super::{
    attach::Places,
    error::{Doing as _, Error},
    interface::{Netlink, RunningMode},
    load::BUCKETS,
    lock::Lock,
    pins::Pins,
    privileges,
    record::Files,
    state::{self, Generation},
};

/// An interface that has our pins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attachment {
    /// Its name; that from when it was attached if it is gone.
    pub interface: String,
    /// Whether the program is attached.
    pub state: State,
    /// Where the program runs.
    pub mode: Option<RunningMode>,
    /// Why in generic mode, if native mode was tried.
    pub why_generic: Option<String>,
    /// The program's id.
    pub program: Option<u32>,
    /// Seconds since 1970 when it was attached.
    pub since: Option<u64>,
    /// The process that follows the interface's addresses, if it is alive.
    pub follower: Option<u32>,
    /// The policy file; none stands for the default policy.
    pub policy: Option<PathBuf>,
    /// How many rules the policy has, if that is known.
    pub rules: Option<usize>,
    /// Seconds until the former policy comes back, unless this one is confirmed.
    pub pending: Option<u64>,
    /// What is wrong with the policy file, of which the policy in place is an earlier state.
    pub complaint: Option<String>,
    /// What is wrong with the pins, if they are not ours.
    pub problem: Option<String>,
}

/// Whether pins are alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The program is attached.
    Attached,
    /// The `icmpctl run` that attached it died; it goes on, but follows nothing.
    Orphaned,
    /// Pins are left of a program that is attached no more.
    Stale,
    /// What is pinned is somebody else's, or the interface has gone elsewhere.
    Foreign,
}

impl State {
    /// The word that listings use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Attached => "attached",
            Self::Orphaned => "orphaned",
            Self::Stale => "stale",
            Self::Foreign => "foreign",
        }
    }
}

impl Attachment {
    /// What whoever sees the listing should know besides.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let name = &self.interface;
        let mut notes = Vec::new();
        match (self.state, &self.why_generic) {
            (State::Orphaned, _) => notes.push(format!(
                "{name}: its `icmpctl run` ended without detaching; addresses are not followed. `icmpctl run {name}` takes \
                 over, `icmpctl detach {name}` takes it off"
            )),
            (State::Stale, _) => notes.push(format!(
                "{name}: pins are left over, nothing is attached. `icmpctl detach {name}` removes them"
            )),
            (State::Foreign, _) => {
                notes.extend(self.problem.as_ref().map(|problem| format!("{name}: {problem}")));
            }
            (State::Attached, Some(why)) => notes.push(format!("{name}: generic mode, not native: {why}")),
            (State::Attached, None) => {}
        }
        match self.pending {
            Some(0) => notes.push(format!(
                "{name}: its policy was not confirmed in time; `icmpctl confirm {name} --rollback` brings the former one back"
            )),
            Some(left) => notes.push(format!(
                "{name}: its policy goes in {left} s unless it is confirmed: `icmpctl confirm {name}`"
            )),
            None => {}
        }
        notes.extend(self.complaint.as_ref().map(|complaint| format!("{name}: {complaint}")));
        notes
    }
}

/// The attachments of the current network namespace, or that of one interface.
pub async fn list(netlink: &Netlink, places: &Places, only: Option<&str>) -> Result<Vec<Attachment>, Error> {
    privileges::check()?;
    let mut attachments = Vec::new();
    for (index, pins) in chosen(netlink, places, only).await? {
        let interface = netlink.by_index(index).await?;
        let record = Files::of(pins.key())?.read();
        let (link, problem) = match pins.open_link(index) {
            Ok(link) => (link, None),
            Err(error @ Error::ForeignPin { .. }) => (None, Some(error.to_string())),
            Err(error) => return Err(error),
        };
        let info = link.map(|link| link.info()).transpose().doing(|| "asking what is attached".to_owned())?;
        let program = info.map(|info| info.program);
        let state_of = |record: &super::record::Record| state::State::at(record.state.clone());
        let generation = match (program, &record) {
            (Some(program), Some(record)) => state_of(record).read(program),
            _ => Ok(None),
        };
        let (generation, unknown) = match generation {
            Ok(generation) => (generation, None),
            Err(error) => (None, Some(error.to_string())),
        };
        let follower = record.as_ref().and_then(|record| record.follower);
        let alive = follower.filter(|pid| is_icmpctl(*pid));
        let state = match (&info, follower.is_some() && alive.is_none()) {
            (None, _) if problem.is_some() => State::Foreign,
            (None, _) => State::Stale,
            (Some(_), true) => State::Orphaned,
            (Some(_), false) => State::Attached,
        };
        let name = interface.as_ref().map(|interface| interface.name.clone());
        attachments.push(Attachment {
            interface: name
                .or_else(|| record.as_ref().map(|record| record.interface.clone()))
                .unwrap_or_else(|| format!("interface {index}")),
            state,
            mode: interface.and_then(|interface| interface.xdp).map(|attached| attached.mode),
            why_generic: record.as_ref().and_then(|record| record.why_generic.clone()),
            program,
            since: record.as_ref().map(|record| record.since),
            follower: alive,
            rules: generation.as_ref().map(Generation::count_rules),
            policy: generation.and_then(|generation| generation.source.policy),
            pending: record.as_ref().and_then(|record| record.pending).map(|pending| pending.left()),
            complaint: record.and_then(|record| record.complaint).or(unknown),
            problem,
        });
    }
    Ok(attachments)
}

/// Removes the pins that an interface left when it went away; false if there are none.
pub async fn forget(netlink: &Netlink, places: &Places, name: &str) -> Result<bool, Error> {
    let mut forgotten = false;
    for (index, pins) in Pins::all(&places.bpffs)? {
        let files = Files::of(pins.key())?;
        let was_called_so = files.read().is_some_and(|record| record.interface == name);
        if was_called_so && netlink.by_index(index).await?.is_none() {
            let _lock = Lock::take(&files.lock, name, "detach")?;
            pins.open_link(index)?;
            pins.kept()?;
            pins.remove()?;
            files.remove()?;
            forgotten = true;
        }
    }
    Ok(forgotten)
}

/// What can be read of an interface that has our pins.
#[derive(Debug)]
pub struct Readable {
    /// Its name.
    pub interface: String,
    /// Where the counters are pinned.
    pub counters: PathBuf,
    /// Where the counters of rules are pinned, if there are any.
    pub rules: Option<PathBuf>,
    /// Where the buckets are pinned, if there are any.
    pub buckets: Option<PathBuf>,
    /// Where is pinned what has become of events, if it is.
    pub telling: Option<PathBuf>,
    /// The program that counts, if it is attached.
    pub program: Option<u32>,
    /// Where it runs.
    pub mode: Option<RunningMode>,
    /// What belongs to it; `None` if nothing is known of it.
    pub generation: Result<Option<Generation>, Error>,
    /// The directory of that, with the policy as it was read.
    pub snapshot: Option<PathBuf>,
}

/// What can be read of the interfaces that have our pins, or of one.
pub async fn readable(
    netlink: &Netlink,
    places: &Places,
    only: Option<&str>,
) -> Result<Vec<Readable>, Error> {
    privileges::check()?;
    let mut found = Vec::new();
    for (index, pins) in chosen(netlink, places, only).await? {
        found.extend(read(netlink, index, &pins).await?);
    }
    Ok(found)
}

/// What can be read of the interface with this number; `None` if nothing of ours is pinned for it.
pub async fn readable_at(netlink: &Netlink, places: &Places, index: u32) -> Result<Option<Readable>, Error> {
    read(netlink, index, &Pins::of(&places.bpffs, index)?).await
}

async fn read(netlink: &Netlink, index: u32, pins: &Pins) -> Result<Option<Readable>, Error> {
    let Some(counters) = pins.map("COUNTERS").filter(|pin| pin.exists()) else { return Ok(None) };
    pins.kept()?;
    let interface = netlink.by_index(index).await?;
    let mode = interface.as_ref().and_then(|interface| interface.xdp).map(|attached| attached.mode);
    let Found { program, generation, snapshot } = find(pins, index)?;
    Ok(Some(Readable {
        interface: interface.map_or_else(|| format!("interface {index}"), |interface| interface.name),
        counters,
        rules: if pins.has("RULES")? { pins.map("RULES") } else { None },
        buckets: if pins.has(BUCKETS)? { pins.map(BUCKETS) } else { None },
        telling: if pins.has("TELLING")? { pins.map("TELLING") } else { None },
        program,
        mode: mode.filter(|_| program.is_some()),
        generation,
        snapshot,
    }))
}

/// A program and what belongs to it.
pub(super) struct Found {
    pub(super) program: Option<u32>,
    pub(super) generation: Result<Option<Generation>, Error>,
    snapshot: Option<PathBuf>,
}

/// How often a program is looked for that may just have given way to another one.
const TRIES: u32 = 5;

/// The program that is attached, if one is, and what belongs to it, if that is known.
pub(super) fn find(pins: &Pins, index: u32) -> Result<Found, Error> {
    let record = Files::of(pins.key())?.read();
    let mut found = Found { program: attached(pins, index)?, generation: Ok(None), snapshot: None };
    for _ in 0..TRIES {
        let (Some(record), Some(program)) = (&record, found.program) else { break };
        let state = state::State::at(record.state.clone());
        found.generation = state.read(program);
        found.snapshot = Some(state.generation(program));
        if matches!(found.generation, Ok(Some(_))) {
            break;
        }
        // The generation of a program goes with it.
        found.program = attached(pins, index)?;
        if found.program == Some(program) {
            break;
        }
    }
    Ok(found)
}

/// The program that is attached, if one of ours is.
pub(super) fn attached(pins: &Pins, index: u32) -> Result<Option<u32>, Error> {
    let Some(link) = pins.open_link(index)? else { return Ok(None) };
    link.info().doing(|| "asking what is attached".to_owned()).map(|info| Some(info.program))
}

/// The one interface that our program is attached to, if none is named.
pub async fn only(netlink: &Netlink, places: &Places, named: Option<&str>) -> Result<String, Error> {
    if let Some(name) = named {
        return Ok(name.to_owned());
    }
    privileges::check()?;
    let mut names = Vec::new();
    for (index, pins) in Pins::all(&places.bpffs)? {
        if let (Some(interface), Some(_)) = (netlink.by_index(index).await?, pins.open_link(index)?) {
            names.push(interface.name);
        }
    }
    match names.len() {
        0 => Err(Error::Nowhere),
        1 => Ok(names.remove(0)),
        _ => Err(Error::Several { interfaces: names }),
    }
}

async fn chosen(netlink: &Netlink, places: &Places, only: Option<&str>) -> Result<Vec<(u32, Pins)>, Error> {
    let Some(name) = only else { return Pins::all(&places.bpffs) };
    let interface = netlink.by_name(name).await?;
    let pins = Pins::of(&places.bpffs, interface.index)?;
    if !pins.exist()? {
        return Err(Error::NotAttached { interface: interface.name });
    }
    Ok(vec![(interface.index, pins)])
}

/// Whether a process is there, and is one of us: numbers of processes are used again.
fn is_icmpctl(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == "icmpctl")
}
