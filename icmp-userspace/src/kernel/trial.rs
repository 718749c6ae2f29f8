//! Trial runs: a second instance of the attached program, attached to nothing itself, for packets that must leave no trace.
//!
//! It has the tables of the policy that runs, copies of what changes meanwhile (dynamic sets, buckets), and counters of its own.
//! What can be compared with the program that runs is compared.

use std::{collections::BTreeMap, io, os::fd::AsFd as _};

use aya::{
    maps::{Array, Map, MapData, MapError, MapFd, MapInfo, MapType},
    programs::{TestRun as _, TestRunOptions, loaded_programs},
};
use icmp_common::{Family, bucket::CELLS, config::NextHop};

use super::{
    bans, bpf,
    change::Change,
    channels,
    error::{Doing as _, Error},
    load::{BUCKETS, KEPT, Program},
    sets,
};
use crate::policy::compile::Tables;

/// Shortest frame that a trial takes: an Ethernet header (`bpf_test_init` in the kernel's `net/bpf/test_run.c`).
pub const SHORTEST: usize = 14;
/// Longest frame: the longest IP packet in an Ethernet frame with two VLAN tags. The kernel puts it into as many buffers as it takes.
pub const LONGEST: usize = 65_535 + 22;

/// Most bytes that a frame grows by when it becomes the error about it.
const GROWTH: usize = 64;

/// A line of buckets.
type Buckets = [u64; CELLS];

/// A second instance of an attached program.
pub struct Trial {
    program: Program,
    /// The buckets that the program that runs had.
    buckets: Vec<Buckets>,
    /// The bans that it had.
    bans: Vec<bans::Value>,
    /// The interface that frames come from, if the routing table is asked.
    interface: Option<u32>,
}

/// In what a second instance differs from the program that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// In its instructions.
    Instructions,
    /// In this table.
    Table(String),
    /// That could not be found out.
    Unknown(String),
}

impl Change<'_> {
    /// A second instance of what is in place. `tables` are those of its policy; in what it differs nevertheless is told.
    pub fn trial(&self, object: &[u8], tables: &Tables) -> Result<(Trial, Option<Difference>), Error> {
        let running = self.must_run()?.program;
        let kept = self.site.pins.kept()?;
        let secret = kept.iter().find(|(name, _)| *name == BUCKETS).map(|(_, pin)| pin.as_path());
        // Its channels have the settings of the one that runs, or it would differ; their ring buffers are its own.
        let mut taps = channels::held(&self.site.files, &self.site.pins);
        taps.rings.iter_mut().for_each(|(_, pin)| *pin = None);
        let mut program = Program::load(object, tables, &[], secret, &taps, &self.site.files.verifier_log)?;
        let missing = kept.is_empty();
        let difference = match difference(running, program.id()?) {
            Ok(None) if missing => Some(Difference::Unknown("some of its pins are missing".to_owned())),
            Ok(difference) => difference,
            Err(error) => Some(Difference::Unknown(error.to_string())),
        };
        // Last, because a bucket fills while tables are compared.
        let (mut buckets, mut bans) = (Vec::new(), Vec::new());
        for (name, pin) in kept.iter().map(|(name, pin)| (*name, pin)) {
            let doing = || format!("copying {}", pin.display());
            let copied = if name == BUCKETS {
                MapData::from_pin(pin).and_then(lines).map(|lines| buckets = lines)
            } else if name == bans::BANS {
                bans::lines(pin).map(|lines| bans = lines)
            } else if let Some(family) =
                Family::ALL.into_iter().find(|family| sets::MAPS[*family as usize] == name)
            {
                sets::copy(family, pin, program.open(name)?)
            } else {
                Ok(())
            };
            copied.map_err(|error| io::Error::other(error.to_string())).doing(doing)?;
        }
        let asks = tables.config.next_hop == NextHop::Fib as u8;
        let interface = asks.then_some(self.site.interface.index);
        let trial = Trial { program, buckets, bans, interface };
        trial.restore()?;
        Ok((trial, difference))
    }
}

impl Trial {
    /// Takes a frame through it, and returns what became of it.
    pub fn run(&mut self, frame: &[u8]) -> Result<Vec<u8>, Error> {
        let length = frame.len();
        if !(SHORTEST..=LONGEST).contains(&length) {
            return Err(Error::FrameLength { length, least: SHORTEST, most: LONGEST });
        }
        let mut bytes = vec![0; length + GROWTH];
        // `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let context = [0, length as u32, 0, self.interface.unwrap_or(0), 0, 0].map(u32::to_ne_bytes);
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut bytes),
            ctx_in: self.interface.map(|_| context.as_flattened()),
            ..TestRunOptions::new()
        };
        let result = self.program.xdp()?.test_run(options);
        let result = result
            .map_err(|error| io::Error::other(error.to_string()))
            .doing(|| "trying out the program on a packet".to_owned())?;
        bytes.truncate(result.data_size_out as usize);
        Ok(bytes)
    }

    /// Fills its buckets as they were when it was made, and bans whom was banned then.
    pub fn restore(&self) -> Result<(), Error> {
        let (buckets, bans) = (self.program.open(BUCKETS)?, self.program.open(bans::BANS)?);
        let restore =
            bpf::fill_array(&buckets, &self.buckets).and_then(|()| bpf::fill_array(&bans, &self.bans));
        restore.doing(|| "copying buckets and bans".to_owned())
    }

    /// The map of its counters.
    pub fn counters(&self) -> Result<MapData, Error> {
        self.program.counters()
    }

    /// The map of its counters of rules.
    pub fn rules(&self) -> Result<MapData, Error> {
        self.program.open("RULES")
    }
}

/// The lines of a map of buckets.
fn lines(map: MapData) -> Result<Vec<Buckets>, MapError> {
    Array::<_, Buckets>::try_from(Map::Array(map))?.iter().collect()
}

/// In what two loaded programs differ: instructions, settings, tables. To look into another one's maps takes CAP_SYS_ADMIN.
fn difference(running: u32, own: u32) -> Result<Option<Difference>, Error> {
    let (running, own) = (parts(running)?, parts(own)?);
    if running.tag != own.tag || !running.tables.keys().eq(own.tables.keys()) {
        return Ok(Some(Difference::Instructions));
    }
    for (name, table) in &own.tables {
        let other = &running.tables[name];
        let size = |table: &MapInfo| (table.max_entries(), table.value_size());
        if size(table) != size(other) || !contents_are_equal(table, other)? {
            return Ok(Some(Difference::Table(name.clone())));
        }
    }
    Ok(None)
}

/// What a loaded program consists of.
struct Parts {
    /// Stands for its instructions.
    tag: u64,
    /// Its settings and tables, which nobody changes, by name.
    tables: BTreeMap<String, MapInfo>,
}

fn parts(program: u32) -> Result<Parts, Error> {
    let doing = || format!("looking into program {program}");
    let info = loaded_programs().filter_map(Result::ok).find(|info| info.id() == program);
    let info = info.ok_or(io::ErrorKind::NotFound).doing(doing)?;
    let ids = info.map_ids().map_err(|error| io::Error::other(error.to_string())).doing(doing)?;
    let mut tables = BTreeMap::new();
    for id in ids.unwrap_or_default() {
        let map = MapInfo::from_id(id).map_err(|error| io::Error::other(error.to_string())).doing(doing)?;
        let name = map.name_as_str().unwrap_or_default().to_owned();
        // What a CPU has a value of its own of is no table.
        let is_array = map.map_type().is_ok_and(|kind| kind == MapType::Array);
        if is_array && KEPT.iter().all(|kept| kept.name != name) {
            tables.insert(name, map);
        }
    }
    Ok(Parts { tag: info.tag(), tables })
}

/// Whether two arrays of the same size hold the same.
fn contents_are_equal(one: &MapInfo, two: &MapInfo) -> Result<bool, Error> {
    let doing = || format!("comparing {}", one.name_as_str().unwrap_or_default());
    let open = |map: &MapInfo| map.fd().map_err(|error| io::Error::other(error.to_string())).doing(doing);
    let length = one.value_size() as usize;
    let fds = [open(one)?, open(two)?];
    for index in 0..one.max_entries() {
        let read = |map: &MapFd| bpf::array_value(map.as_fd(), index, length).doing(doing);
        if read(&fds[0])? != read(&fds[1])? {
            return Ok(false);
        }
    }
    Ok(true)
}
