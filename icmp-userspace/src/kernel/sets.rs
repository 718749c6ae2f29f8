//! Entries of dynamic sets: the list that counts is a file in the state directory, and the maps are brought in line with it.
//!
//! Names, prefixes and moments of the wall clock in the file; numbers of sets and moments of the monotonic clock in the maps,
//! whose layout is described in [`icmp_common::dynamic`]. The file is written first: whatever ends a process between the two,
//! the next change mends the maps.

use std::{
    collections::BTreeMap,
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aya::{
    Pod,
    maps::{
        Map, MapData, MapError,
        lpm_trie::{Key, LpmTrie},
    },
};
use icmp_common::{
    Family,
    dynamic::{DYNAMIC_ENTRIES, DYNAMIC_SETS, Membership, Until},
};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::{
    error::{Doing as _, Error},
    pins::Pins,
    state::{State, broken, is_plain, read_json, replace_json},
};
use crate::policy::prefix::Prefix;

/// The file in the state directory.
const FILE: &str = "dynamic.json";
/// The maps in the object file, by the number of their [`Family`].
pub(super) const MAPS: [&str; 2] = ["DYNAMIC4", "DYNAMIC6"];
/// Longest name of a set that is read back.
const MAX_NAME: usize = 256;

/// A moment on two clocks at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since 1970.
    pub wall: u64,
    /// Nanoseconds on the monotonic clock.
    pub monotonic: u64,
}

impl Now {
    /// This moment.
    #[must_use]
    pub fn read() -> Self {
        let monotonic = clock_gettime(ClockId::Monotonic);
        let monotonic = Duration::new(monotonic.tv_sec.unsigned_abs(), monotonic.tv_nsec as u32);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { wall: wall.as_millis() as u64, monotonic: monotonic.as_nanos() as u64 }
    }

    /// The moment of the wall clock that the maps say, in milliseconds since 1970.
    pub(super) fn wall_of(self, moment: Until) -> u64 {
        let there = u64::from(moment.0) * (1_000 / 16) + u64::from(moment.0) / 2;
        (self.wall + there).saturating_sub(self.monotonic / 1_000_000)
    }

    /// When a moment of the wall clock comes, as the maps say it: rounded up, so that nothing ends early.
    fn until(self, wall: u64) -> Until {
        const UNIT: u64 = 1_000_000_000 / 16;
        if wall <= self.wall {
            return Until::NEVER;
        }
        let left = (wall - self.wall).saturating_mul(1_000_000);
        Until::from_nanoseconds(self.monotonic.saturating_add(left).saturating_add(UNIT - 1))
    }
}

/// What is in the dynamic sets: the end of each prefix's membership in each set, none for no end.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Entries {
    sets: BTreeMap<String, BTreeMap<Prefix, Option<u64>>>,
}

/// An entry as it stands in the file.
#[derive(Serialize, Deserialize)]
struct Written {
    set: String,
    prefix: String,
    /// Milliseconds since 1970; none for no end.
    until: Option<u64>,
}

impl Entries {
    /// Reads the entries of an interface's sets; there are none where nothing was written.
    pub fn read(state: &State) -> Result<Self, Error> {
        let path = path(state);
        let mut entries = Self::default();
        for Written { set, prefix, until } in read_json::<Vec<Written>>(&path)?.unwrap_or_default() {
            if set.len() > MAX_NAME || !is_plain(&set) {
                return Err(broken(&path, "a set with a name that no policy allows"));
            }
            let prefix = prefix.parse().map_err(|error| broken(&path, format!("{error}")))?;
            entries.add(&set, prefix, until);
        }
        entries.check().map_err(|error| broken(&path, error.to_string()))?;
        Ok(entries)
    }

    /// Whether there are any on the disk.
    #[must_use]
    pub fn exist(state: &State) -> bool {
        path(state).exists()
    }

    /// Writes them: all of them or nothing, whatever happens meanwhile.
    pub fn write(&self, state: &State) -> Result<(), Error> {
        let path = path(state);
        if self.sets.is_empty() {
            return match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(error).doing(|| format!("removing {}", path.display()))
                }
                _ => Ok(()),
            };
        }
        let written: Vec<_> = self
            .iter()
            .map(|(set, prefix, until)| Written { set: set.to_owned(), prefix: prefix.to_string(), until })
            .collect();
        state.make()?;
        replace_json(&path, &written)
    }

    /// Adds an entry, or changes when it ends; true if it is new.
    pub fn add(&mut self, set: &str, prefix: Prefix, until: Option<u64>) -> bool {
        self.sets.entry(set.to_owned()).or_default().insert(prefix, until).is_none()
    }

    /// Removes an entry; false if there is none.
    pub fn remove(&mut self, set: &str, prefix: Prefix) -> bool {
        let Some(prefixes) = self.sets.get_mut(set) else { return false };
        let removed = prefixes.remove(&prefix).is_some();
        if prefixes.is_empty() {
            self.sets.remove(set);
        }
        removed
    }

    /// Removes all entries of a set; how many there were.
    pub fn flush(&mut self, set: &str) -> usize {
        self.sets.remove(set).map_or(0, |prefixes| prefixes.len())
    }

    /// Removes what has ended, and what is in none of these sets; true if anything was removed.
    pub fn prune(&mut self, now: Now, is_known: impl Fn(&str) -> bool) -> bool {
        let before = self.iter().count();
        self.sets.retain(|set, prefixes| {
            prefixes.retain(|_, until| until.is_none_or(|until| until > now.wall));
            !prefixes.is_empty() && is_known(set)
        });
        before != self.iter().count()
    }

    /// Sets, prefixes, and milliseconds since 1970 when they end.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Prefix, Option<u64>)> {
        self.sets
            .iter()
            .flat_map(|(set, prefixes)| prefixes.iter().map(move |(prefix, until)| (&**set, *prefix, *until)))
    }

    /// Refuses more prefixes than the maps have room for.
    pub fn check(&self) -> Result<(), Error> {
        let mut prefixes: Vec<_> = self.iter().map(|(_, prefix, _)| prefix).collect();
        prefixes.sort_unstable();
        prefixes.dedup();
        for family in Family::ALL {
            let count = prefixes.iter().filter(|prefix| self::family(**prefix) == family).count();
            if count > DYNAMIC_ENTRIES as usize {
                return Err(Error::SetsFull { family: family.name(), count, most: DYNAMIC_ENTRIES });
            }
        }
        Ok(())
    }

    /// What the maps hold if these are the entries, and sets have these numbers: for each prefix, and each set, the latest end of
    /// all entries that cover it.
    #[must_use]
    pub fn memberships(&self, numbers: &BTreeMap<String, u32>, now: Now) -> BTreeMap<Prefix, Membership> {
        let mut memberships = BTreeMap::new();
        for (set, prefix, until) in self.iter() {
            let Some(number) = numbers.get(set).filter(|number| (**number as usize) < DYNAMIC_SETS) else {
                continue;
            };
            let until = until.map_or(Until::FOREVER, |until| now.until(until));
            let own = &mut memberships.entry(prefix).or_insert(Membership::NONE).until[*number as usize];
            *own = until.0.max(*own);
        }
        // A prefix stands in front of all that lie in it, so what covers the next one is always on the stack.
        let mut covering: Vec<(Prefix, Membership)> = Vec::new();
        for (prefix, membership) in &mut memberships {
            while covering.last().is_some_and(|(outer, _)| !outer.contains(*prefix)) {
                covering.pop();
            }
            if let Some((_, outer)) = covering.last() {
                for (own, outer) in membership.until.iter_mut().zip(outer.until) {
                    *own = outer.max(*own);
                }
            }
            covering.push((*prefix, *membership));
        }
        memberships
    }

    /// Brings the pinned maps in line with these entries, where sets have these numbers.
    pub fn enforce(&self, pins: &Pins, numbers: &BTreeMap<String, u32>, now: Now) -> Result<(), Error> {
        let memberships = self.memberships(numbers, now);
        for family in Family::ALL {
            let Some(pin) = pins.map(MAPS[family as usize]) else { continue };
            let wanted = memberships.iter().filter(|(prefix, _)| self::family(**prefix) == family);
            let wanted = wanted.map(|(prefix, membership)| (*prefix, *membership)).collect();
            let doing = || format!("changing the dynamic sets in {}", pin.display());
            match family {
                Family::Ipv4 => bring_in_line::<[u8; 4]>(&pin, &wanted),
                Family::Ipv6 => bring_in_line::<[u8; 16]>(&pin, &wanted),
            }
            .map_err(|error| io::Error::other(error.to_string()))
            .doing(doing)?;
        }
        Ok(())
    }
}

fn path(state: &State) -> PathBuf {
    state.directory().join(FILE)
}

const fn family(prefix: Prefix) -> Family {
    match prefix.address() {
        IpAddr::V4(_) => Family::Ipv4,
        IpAddr::V6(_) => Family::Ipv6,
    }
}

/// A membership as it lies in a map.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Value(Membership);

// SAFETY: an array of integers, without padding: any bytes are a value.
unsafe impl Pod for Value {}

/// The bytes of an address in a map's key.
trait Octets: Pod + Into<IpAddr> {
    fn of(address: IpAddr) -> Option<Self>;
}

impl Octets for [u8; 4] {
    fn of(address: IpAddr) -> Option<Self> {
        if let IpAddr::V4(address) = address { Some(address.octets()) } else { None }
    }
}

impl Octets for [u8; 16] {
    fn of(address: IpAddr) -> Option<Self> {
        if let IpAddr::V6(address) = address { Some(address.octets()) } else { None }
    }
}

fn key<K: Octets>(prefix: Prefix) -> Option<Key<K>> {
    Some(Key::new(u32::from(prefix.length()), K::of(prefix.address())?))
}

/// Copies what the pinned map of a family holds into another one.
pub(super) fn copy(family: Family, pin: &Path, to: MapData) -> Result<(), MapError> {
    match family {
        Family::Ipv4 => copy_entries::<[u8; 4]>(pin, to),
        Family::Ipv6 => copy_entries::<[u8; 16]>(pin, to),
    }
}

fn copy_entries<K: Octets>(pin: &Path, to: MapData) -> Result<(), MapError> {
    let from = LpmTrie::<_, K, Value>::try_from(Map::LpmTrie(MapData::from_pin(pin)?))?;
    let mut to = LpmTrie::<_, K, Value>::try_from(Map::LpmTrie(to))?;
    for entry in &from {
        let (key, value) = entry?;
        to.insert(&key, value, 0)?;
    }
    Ok(())
}

/// Changes in a map what is not as it is wanted. What leaves goes first, so that a full map has room for what comes.
fn bring_in_line<K: Octets>(pin: &Path, wanted: &BTreeMap<Prefix, Membership>) -> Result<(), MapError> {
    let mut map = LpmTrie::<_, K, Value>::try_from(Map::LpmTrie(MapData::from_pin(pin)?))?;
    let mut found = BTreeMap::new();
    for entry in &map {
        let (key, Value(membership)) = entry?;
        let address: IpAddr = key.data().into();
        found.insert(Prefix::containing(address, key.prefix_len() as u8), membership);
    }
    for key in
        found.keys().filter(|prefix| !wanted.contains_key(prefix)).filter_map(|prefix| key::<K>(*prefix))
    {
        map.remove(&key)?;
    }
    for (prefix, membership) in wanted {
        let is_new = found.get(prefix).is_none_or(|found| differ(found, membership));
        if let Some(key) = key::<K>(*prefix).filter(|_| is_new) {
            map.insert(&key, Value(*membership), 0)?;
        }
    }
    Ok(())
}

/// Whether memberships differ by more than the clocks do between two looks at them.
fn differ(found: &Membership, wanted: &Membership) -> bool {
    let differ = |found: u32, wanted: u32| {
        let ends = [found, wanted].iter().all(|until| ![Until::NEVER.0, Until::FOREVER.0].contains(until));
        if ends { found.abs_diff(wanted) > 2 } else { found != wanted }
    };
    found.until.iter().zip(wanted.until).any(|(found, wanted)| differ(*found, wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Now = Now { wall: 1_000_000, monotonic: 5_000_000_000 };

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    fn numbers() -> BTreeMap<String, u32> {
        [("a", 3), ("b", 15)].map(|(name, number)| (name.to_owned(), number)).into()
    }

    /// The latest end of what covers an address in a set, entry by entry.
    fn walked(entries: &Entries, set: &str, host: Prefix) -> u32 {
        let covers = entries.iter().filter(|(name, prefix, _)| *name == set && prefix.contains(host));
        covers.map(|(_, _, until)| until.map_or(u32::MAX, |until| NOW.until(until).0)).max().unwrap_or(0)
    }

    /// What the longest match says of an address.
    fn matched(memberships: &BTreeMap<Prefix, Membership>, host: Prefix) -> Membership {
        let covers = memberships.iter().filter(|(prefix, _)| prefix.contains(host));
        covers.max_by_key(|(prefix, _)| prefix.length()).map_or(Membership::NONE, |(_, value)| *value)
    }

    /// Numbers without a pattern, and the same ones in each run.
    fn numbers_without_pattern() -> impl FnMut(u64) -> u64 {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        move |below| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        }
    }

    #[test]
    fn the_longest_match_tells_what_a_walk_over_all_entries_tells() {
        let mut random = numbers_without_pattern();
        for _ in 0..500 {
            let mut entries = Entries::default();
            for _ in 0..random(12) {
                let set = ["a", "b", "gone"][random(3) as usize];
                let (address, length): (IpAddr, _) = if random(2) == 0 {
                    ((random(16) as u32).to_be_bytes().map(|byte| byte << 4).into(), 32 - random(7) as u8)
                } else {
                    ((u128::from(random(64)) << 61).to_be_bytes().into(), 64 + random(7) as u8)
                };
                let until = (random(4) > 0).then(|| NOW.wall - 5_000 + random(20_000));
                entries.add(set, Prefix::containing(address, length), until);
            }
            let memberships = entries.memberships(&numbers(), NOW);
            let hosts4 = (0..=255_u8).map(|byte| Prefix::host([0, 0, 0, byte].into()));
            let hosts6 = (0..64_u128).map(|word| Prefix::host((word << 61).to_be_bytes().into()));
            for host in hosts4.chain(hosts6) {
                let found = matched(&memberships, host);
                for (set, number) in numbers() {
                    assert_eq!(
                        found.until[number as usize],
                        walked(&entries, &set, host),
                        "{host} in {entries:?}"
                    );
                }
                assert!((0..16).filter(|n| ![3, 15].contains(n)).all(|n| found.until[n] == 0));
            }
        }
    }

    #[test]
    fn ends_are_rounded_up_and_the_past_never_matches() {
        let second = 1_000_000_000_u64;
        let until = NOW.until(NOW.wall + 1_000);
        let is_after = |time| until.is_after(Until::from_nanoseconds(time));
        assert!(is_after(NOW.monotonic + second - 1) && !is_after(NOW.monotonic + second));
        let until = NOW.until(NOW.wall + 1);
        let is_after = |time| until.is_after(Until::from_nanoseconds(time));
        assert!(is_after(NOW.monotonic) && !is_after(NOW.monotonic + second / 16));
        assert_eq!(NOW.until(NOW.wall), Until::NEVER);
        assert!(NOW.until(u64::MAX) < Until::FOREVER);
    }

    #[test]
    fn entries_survive_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::at(directory.path().join("key"));
        assert_eq!(Entries::read(&state).unwrap(), Entries::default());
        let mut entries = Entries::default();
        assert!(entries.add("a", prefix("192.0.2.0/24"), Some(NOW.wall + 10)));
        assert!(entries.add("a", prefix("2001:db8::/32"), None));
        assert!(entries.add("b", prefix("192.0.2.0/24"), None));
        assert!(!entries.add("b", prefix("192.0.2.0/24"), Some(7)));
        entries.write(&state).unwrap();
        assert_eq!(Entries::read(&state).unwrap(), entries);
        assert!(entries.remove("a", prefix("2001:db8::/32")));
        assert!(!entries.remove("a", prefix("2001:db8::/32")));
        assert_eq!((entries.flush("a"), entries.flush("a"), entries.flush("b")), (1, 0, 1));
        entries.write(&state).unwrap();
        assert!(!path(&state).exists());
    }

    #[test]
    fn what_has_ended_or_is_in_no_set_goes() {
        let mut entries = Entries::default();
        entries.add("a", prefix("192.0.2.1"), Some(NOW.wall));
        entries.add("a", prefix("192.0.2.2"), Some(NOW.wall + 1));
        entries.add("gone", prefix("192.0.2.3"), None);
        assert!(entries.prune(NOW, |set| set == "a"));
        let left: Vec<_> = entries.iter().collect();
        assert_eq!(left, [("a", prefix("192.0.2.2"), Some(NOW.wall + 1))]);
        assert!(!entries.prune(NOW, |set| set == "a"));
    }

    #[test]
    fn more_than_the_maps_hold_is_refused() {
        let mut entries = Entries::default();
        for number in 0..=DYNAMIC_ENTRIES {
            entries.add("a", Prefix::host(number.to_be_bytes().into()), None);
        }
        let error = entries.check().unwrap_err().to_string();
        assert_eq!(error, "the dynamic sets would hold 65537 different ipv4 prefixes; 65536 are the most");
        // The same prefix in two sets takes one place.
        entries.remove("a", prefix("0.0.0.0"));
        entries.add("b", prefix("0.0.0.7"), None);
        entries.check().unwrap();
    }

    #[test]
    fn garbage_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::at(directory.path().to_owned());
        for text in [
            "",
            "{}",
            r#"[{"set": "a", "prefix": "192.0.2.1/24", "until": null}]"#,
            r#"[{"set": "a", "prefix": "192.0.2.1", "until": -1}]"#,
            r#"[{"set": "\u001b]0;x", "prefix": "192.0.2.1", "until": 1}]"#,
        ] {
            fs::write(path(&state), text).unwrap();
            let error = Entries::read(&state).unwrap_err().to_string();
            assert!(error.contains("dynamic.json makes no sense: "), "{text}: {error}");
        }
    }

    #[test]
    fn small_drifts_of_the_clocks_change_nothing() {
        let with = |until| Membership { until: [until; DYNAMIC_SETS] };
        assert!(!differ(&with(100), &with(102)));
        for (found, wanted) in [(100, 103), (0, 1), (u32::MAX, u32::MAX - 1), (1, 0)] {
            assert!(differ(&with(found), &with(wanted)), "{found} {wanted}");
        }
    }
}
