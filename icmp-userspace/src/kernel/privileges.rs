//! Whether this process may do what it is about to do; asked first, so that nothing is left half done.

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

use super::error::{Doing as _, Error};

/// What loading and attaching need; CAP_SYS_ADMIN stands in for the two newer ones (capabilities(7)).
const NEEDED: [(CapabilitySet, &str); 3] = [
    (CapabilitySet::BPF, "CAP_BPF"),
    (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
    (CapabilitySet::PERFMON, "CAP_PERFMON"),
];

/// Refuses to go on without the capabilities that BPF and XDP need.
pub fn check() -> Result<(), Error> {
    let missing = lacked()?;
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::Privileges { needed: "CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON", missing: missing.join(", ") })
}

/// Those of the needed capabilities that this process lacks.
pub fn lacked() -> Result<Vec<&'static str>, Error> {
    let held = capabilities(None).doing(|| "asking for this process's capabilities".to_owned())?;
    Ok(missing(held.effective))
}

/// Gives up every capability but those that loading and attaching need. `reads` keeps that of reading other users' files as
/// well, for a process that goes on to follow a policy file.
pub fn drop_others(reads: bool) -> Result<(), Error> {
    let doing = || "giving up capabilities that are not needed".to_owned();
    let held = capabilities(None).doing(doing)?;
    let needed = NEEDED.iter().fold(CapabilitySet::empty(), |sum, (needed, _)| sum | *needed);
    // Where an older system knows only CAP_SYS_ADMIN, it has to stay.
    let needed =
        if held.effective.contains(CapabilitySet::BPF) { needed } else { needed | CapabilitySet::SYS_ADMIN };
    // Reading what a program logs takes its map by its number.
    let needed = if cfg!(feature = "debug-log") { needed | CapabilitySet::SYS_ADMIN } else { needed };
    let needed = if reads { needed | CapabilitySet::DAC_READ_SEARCH } else { needed };
    let sets = CapabilitySets {
        effective: held.effective & needed,
        permitted: held.permitted & needed,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).doing(doing)
}

fn missing(effective: CapabilitySet) -> Vec<&'static str> {
    let admin = effective.contains(CapabilitySet::SYS_ADMIN);
    let lacks =
        |needed: CapabilitySet| !(effective.contains(needed) || admin && needed != CapabilitySet::NET_ADMIN);
    NEEDED.iter().filter(|(needed, _)| lacks(*needed)).map(|(_, name)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sys_admin_stands_in_for_bpf_and_perfmon_alone() {
        assert_eq!(missing(CapabilitySet::SYS_ADMIN), ["CAP_NET_ADMIN"]);
        assert_eq!(missing(CapabilitySet::NET_ADMIN), ["CAP_BPF", "CAP_PERFMON"]);
        assert!(missing(CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN).is_empty());
    }
}
