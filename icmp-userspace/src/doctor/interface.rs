//! What an interface and its driver can do, and what lies above and below it.

use super::{Finding, Level, worst};
use crate::kernel::{
    device::{Device, Features, Offloads, Owner},
    interface::AttachedXdp,
    probe::Kernel,
};

/// The longest packet that a driver can give XDP in one page of 4 KiB, with room for what stands around it; some take less.
const ONE_PAGE: u32 = 3498;

/// All there is to say of an interface on this kernel.
#[must_use]
pub fn about_interface(device: &Device, kernel: &Kernel) -> Vec<Finding> {
    if !device.is_ethernet {
        let finding = Finding::problem("interface", format!("{}, not Ethernet", kind(device)))
            .means("icmpctl answers Ethernet frames only");
        return vec![finding];
    }
    let mut findings = vec![state(device), program(device), native(device), mtu(device, kernel)];
    findings.extend(queues(device, kernel));
    findings.extend(tags(device));
    findings.extend(merging(device));
    findings.extend(above(device));
    findings.extend(below(device));
    findings.push(forwarding(device));
    findings.extend(reverse_path(device));
    findings
}

/// The same in one finding.
#[must_use]
pub fn in_short(device: &Device, kernel: &Kernel) -> Finding {
    let findings = about_interface(device, kernel);
    let told: Vec<_> = findings.iter().filter(|finding| finding.level != Level::Ok).collect();
    // Somewhere there is always one that can't be used.
    let level = worst(&findings).min(Level::Note);
    let mut parts = vec![state(device).found];
    if !device.is_ethernet {
        parts[0] = format!("{}, not Ethernet", kind(device));
    } else if let Some((xdp, Owner::Ours)) = device.xdp {
        parts.push(format!("icmpctl runs there in {} mode", xdp.mode.name()));
    }
    let worth: Vec<_> =
        told.iter().map(|finding| finding.about).filter(|about| *about != "interface").collect();
    if !worth.is_empty() {
        parts.push(format!("worth knowing: {}", worth.join(", ")));
    }
    Finding::new(level, "interface", parts.join("; "))
}

fn kind(device: &Device) -> &str {
    device.kind.as_deref().unwrap_or("network interface")
}

fn state(device: &Device) -> Finding {
    let found = format!("{}, MTU {}", kind(device), device.mtu);
    if device.is_up {
        return Finding::ok("interface", format!("{found}, up"));
    }
    Finding::note("interface", format!("{found}, down"))
        .means("nothing arrives")
        .advises(format!("ip link set {} up", device.name))
}

fn program(device: &Device) -> Finding {
    let Some((AttachedXdp { program, mode }, owner)) = &device.xdp else {
        return Finding::ok("XDP program", "none is attached");
    };
    let found = format!("program {program} in {} mode", mode.name());
    match owner {
        Owner::Ours => Finding::ok("XDP program", format!("icmpctl's, {found}")),
        Owner::Unknown => {
            Finding::note("XDP program", found).means("whose it is takes more privileges to say")
        }
        Owner::Other(name) => {
            let name = name.as_ref().map(|name| format!(", named {name:?}")).unwrap_or_default();
            Finding::problem("XDP program", format!("somebody else's, {found}{name}"))
                .means("there is room for one, and icmpctl does not replace it")
                .advises(format!(
                    "look at it with `bpftool prog show id {program}`; detach it, or `icmpctl attach {} --force`",
                    device.name
                ))
        }
    }
}

fn native(device: &Device) -> Finding {
    let slow = "generic mode works, at several times the cost for a packet";
    match device.features {
        None => Finding::note("native mode", "not known")
            .means("this kernel does not tell what drivers can do (Linux 6.3 was the first to)")
            .advises(format!("`icmpctl attach {} --mode native` attaches natively or changes nothing", device.name)),
        Some(Features { native: false, .. }) => {
            Finding::note("native mode", "the driver has none").means(slow)
        }
        Some(_) if device.kind.as_deref() == Some("veth") => Finding::note("native mode", "the driver has it")
            .means(
                "on a veth, what is answered natively reaches the other end only if a native XDP program is attached there, \
                 too; `--mode auto` takes generic mode",
            )
            .advises("where there is one, `--mode native`"),
        Some(_) => Finding::ok("native mode", "the driver has it"),
    }
}

fn mtu(device: &Device, kernel: &Kernel) -> Finding {
    let found = |frags| format!("{} bytes; the driver {frags}", device.mtu);
    let frags = match device.features {
        Some(Features { frags: true, .. }) => "gives XDP long packets in several buffers",
        Some(_) => "gives XDP packets in one buffer",
        None => "does not tell whether it gives XDP packets in several buffers",
    };
    let finding = |level| Finding::new(level, "MTU", found(frags));
    let in_pieces = device.features.is_some_and(|features| features.frags);
    if device.mtu <= ONE_PAGE || device.features.is_some_and(|features| !features.native) {
        return finding(Level::Ok);
    }
    if in_pieces && kernel.program_takes_frags {
        return finding(Level::Ok).means("packets of this length are taken natively");
    }
    finding(Level::Note)
        .means(format!(
            "most drivers refuse native mode above {ONE_PAGE} bytes; `--mode auto` then takes generic mode"
        ))
        .advises(format!("for native mode, ip link set {} mtu {ONE_PAGE} or less", device.name))
}

fn queues(device: &Device, kernel: &Kernel) -> Option<Finding> {
    let queues = device.queues?;
    let found = format!("{} to receive, {} to send, {} CPUs", queues.receive, queues.send, kernel.cpus);
    if queues.send as usize >= kernel.cpus {
        return Some(Finding::ok("queues", found));
    }
    let finding = Finding::note("queues", found)
        .means("where replies have fewer queues than there are CPUs, CPUs wait for each other, and some drivers refuse native mode")
        .advises(format!("`ethtool -l {0}` shows how many the card has, `ethtool -L {0}` sets them", device.name));
    Some(finding)
}

fn tags(device: &Device) -> Option<Finding> {
    match device.offloads {
        Some(Offloads { strips_tags: true, .. }) => {}
        Some(_) => return Some(Finding::ok("VLAN tags", "stay in what is received")),
        None => {
            let finding =
                Finding::note("VLAN tags", "not known: the kernel does not tell what the driver offloads")
                    .means("if the driver strips them, what arrives tagged counts as untagged for rules")
                    .advises(format!("`ethtool -k {}` may know more: look for rx-vlan-offload", device.name));
            return Some(finding);
        }
    }
    let finding = Finding::note(
        "VLAN tags",
        "are stripped by the driver (rxvlan, or rx-vlan-stag-hw-parse for 802.1ad, is on)",
    )
    .means("XDP sees none: what arrives tagged counts as untagged for rules, and its replies carry no tag")
    .advises(format!(
        "where tagged frames arrive, ethtool -K {} rxvlan off rx-vlan-stag-hw-parse off",
        device.name
    ));
    Some(finding)
}

fn merging(device: &Device) -> Option<Finding> {
    device.offloads?.merges.then(|| {
        Finding::note("merging", "the card merges what it receives (LRO or GRO in hardware)")
            .means("many drivers refuse native mode meanwhile; for generic mode the kernel switches it off")
            .advises(format!("if the driver does, ethtool -K {} lro off rx-gro-hw off", device.name))
    })
}

/// What it is a port of.
fn above(device: &Device) -> Option<Finding> {
    let (name, kind) = device.controller.as_ref()?;
    let kind = kind.as_deref().unwrap_or("device");
    let finding = Finding::note("port", format!("of the {kind} {name}"));
    let finding = match kind {
        "bridge" => finding
            .means(format!(
                "the addresses are {name}'s: \"own\" finds none here, and a frame for a MAC address other than this port's is \
                 not answered"
            ))
            .advises(format!("to answer for {name}, attach to it (in generic mode)")),
        "bond" | "team" => finding
            .means(format!("the addresses are {name}'s: \"own\" finds none here"))
            .advises(format!("attach to {name}, not to its ports")),
        _ => finding
            .means(format!("the addresses may be {name}'s: \"own\" finds this interface's alone"))
            .advises("name in the policy what is to be served"),
    };
    Some(finding)
}

/// What it lies upon.
fn below(device: &Device) -> Option<Finding> {
    let kind = device.kind.as_deref()?;
    let upon = device.parent.as_deref();
    let finding = match (kind, upon) {
        ("vlan", Some(parent)) => Finding::note("VLAN", format!("upon {parent}"))
            .means("packets arrive here without their tag, and in generic mode alone")
            .advises(format!(
                "natively, attach to {parent}, name this interface's addresses in the policy, and ethtool -K {parent} rxvlan off"
            )),
        ("bond" | "team", _) => Finding::note(if kind == "bond" { "bond" } else { "team" }, "has ports below it")
            .means(
                "it has native mode as far as all its ports' drivers do, and a bond not in each of its modes; replies leave by \
                 the port that it chooses",
            )
            .advises("attach here, not to its ports"),
        ("bridge", _) => Finding::note("bridge", "has ports below it")
            .means("it is reached by what is for the bridge itself, in generic mode alone")
            .advises("for native mode, attach to a port and name in the policy what is to be served; frames for other MAC addresses than the port's stay the bridge's"),
        ("macvlan" | "macvtap" | "ipvlan" | "ipvtap", Some(parent)) => {
            Finding::note("parent", format!("{kind} upon {parent}"))
                .means("packets pass the parent first, and arrive here in generic mode alone")
                .advises(format!("natively, attach to {parent}; frames for other MAC addresses than its own are not answered there"))
        }
        _ => return None,
    };
    Some(finding)
}

fn forwarding(device: &Device) -> Finding {
    let [v4, v6] = device.forwards.map(|forwards| match forwards {
        Some(true) => "on",
        Some(false) => "off",
        None => "not there",
    });
    let finding = Finding::ok("forwarding", format!("{v4} for IPv4, {v6} for IPv6"));
    if device.forwards == [Some(true); 2] {
        return finding.means("next-hop = \"fib\" can ask the routing table");
    }
    finding.means(
        "next-hop = \"fib\" needs it, and leaves requests to the stack where it is off; \"swap\" does not",
    )
}

fn reverse_path(device: &Device) -> Option<Finding> {
    device.filters_reverse_path.then(|| {
        Finding::note("rp_filter", "is set")
            .means("the stack drops what comes from where it would not send to; XDP runs before it, and answers it")
            .advises("deny in the access list what must not be answered")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        doctor::kernel::tests::good,
        kernel::{device::Queues, interface::RunningMode},
    };

    /// A card as it should be.
    fn card() -> Device {
        Device {
            name: "eth0".to_owned(),
            kind: None,
            is_ethernet: true,
            is_up: true,
            mtu: 1500,
            parent: None,
            controller: None,
            xdp: None,
            features: Some(Features { native: true, frags: true }),
            queues: Some(Queues { receive: 4, send: 4 }),
            offloads: Some(Offloads::default()),
            forwards: [Some(false); 2],
            filters_reverse_path: false,
        }
    }

    fn of_kind(kind: &str, parent: Option<&str>) -> Device {
        Device { kind: Some(kind.to_owned()), parent: parent.map(str::to_owned), ..card() }
    }

    /// The one finding that is not simply well.
    #[track_caller]
    fn told(device: &Device) -> Finding {
        let mut findings = about_interface(device, &good());
        findings.retain(|finding| finding.level != Level::Ok);
        assert_eq!(findings.len(), 1, "{findings:#?}");
        findings.remove(0)
    }

    /// What one finding says, which is a note.
    #[track_caller]
    fn noted(device: &Device, about: &str, part: &str) {
        let finding = told(device);
        assert_eq!((finding.level, finding.about), (Level::Note, about));
        let text = format!("{finding:?}");
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }

    #[test]
    fn a_good_card_has_nothing_to_be_noted() {
        let findings = about_interface(&card(), &good());
        assert!(findings.iter().all(|finding| finding.level == Level::Ok), "{findings:#?}");
        let short = in_short(&card(), &good());
        assert_eq!((short.level, &*short.found), (Level::Ok, "network interface, MTU 1500, up"));
    }

    #[test]
    fn what_is_not_ethernet_is_a_problem() {
        let device = Device { is_ethernet: false, ..of_kind("tun", None) };
        assert_eq!(told(&device).level, Level::Problem);
        // But not to whoever asks about all interfaces.
        let short = in_short(&device, &good());
        assert_eq!((short.level, &*short.found), (Level::Note, "tun, not Ethernet"));
    }

    #[test]
    fn drivers_without_native_mode_are_noted() {
        let with = |features| Device { features, ..card() };
        noted(&with(None), "native mode", "Linux 6.3");
        noted(&with(Some(Features { native: false, frags: false })), "native mode", "generic mode works");
        noted(&of_kind("veth", None), "native mode", "--mode auto");
    }

    #[test]
    fn long_packets_need_both_sides_to_take_them_in_pieces() {
        let whole = Device { features: Some(Features { native: true, frags: false }), ..card() };
        noted(&Device { mtu: 9000, ..whole.clone() }, "MTU", "refuse native mode above 3498");
        noted(&Device { mtu: 3499, ..whole.clone() }, "MTU", "mtu 3498");
        let mtu = |device: &Device, kernel: &Kernel| super::mtu(device, kernel).level;
        assert_eq!(mtu(&Device { mtu: 3498, ..whole }, &good()), Level::Ok);
        let jumbo = Device { mtu: 9000, ..card() };
        assert_eq!(mtu(&jumbo, &good()), Level::Ok);
        assert_eq!(mtu(&jumbo, &Kernel { program_takes_frags: false, ..good() }), Level::Note);
    }

    #[test]
    fn programs_are_told_by_their_owner() {
        let with = |owner| {
            let xdp = AttachedXdp { program: 7, mode: RunningMode::Native };
            Device { xdp: Some((xdp, owner)), ..card() }
        };
        let finding = told(&with(Owner::Other(Some("pass".to_owned()))));
        assert_eq!(finding.level, Level::Problem);
        assert_eq!(finding.found, "somebody else's, program 7 in native mode, named \"pass\"");
        assert!(finding.advice.unwrap().contains("--force"));
        noted(&with(Owner::Unknown), "XDP program", "privileges");
        let ours = with(Owner::Ours);
        assert_eq!(worst(&about_interface(&ours, &good())), Level::Ok);
        assert!(in_short(&ours, &good()).found.contains("icmpctl runs there in native mode"));
    }

    #[test]
    fn offloads_and_queues_are_noted() {
        let strips = Offloads { strips_tags: true, ..Offloads::default() };
        noted(&Device { offloads: Some(strips), ..card() }, "VLAN tags", "ethtool -K eth0 rxvlan off");
        noted(&Device { offloads: None, ..card() }, "VLAN tags", "not known: the kernel does not tell");
        let merges = Offloads { merges: true, ..Offloads::default() };
        noted(&Device { offloads: Some(merges), ..card() }, "merging", "lro off");
        let queues = Some(Queues { receive: 4, send: 3 });
        noted(&Device { queues, ..card() }, "queues", "4 to receive, 3 to send, 4 CPUs");
    }

    #[test]
    fn what_lies_above_and_below_says_where_to_attach() {
        let port = |kind: &str| {
            let controller = Some(("up0".to_owned(), Some(kind.to_owned())));
            Device { controller, ..card() }
        };
        noted(&port("bridge"), "port", "to answer for up0, attach to it");
        noted(&port("bond"), "port", "attach to up0, not to its ports");
        noted(&port("vrf"), "port", "name in the policy");
        noted(&of_kind("vlan", Some("eth1")), "VLAN", "attach to eth1");
        noted(&of_kind("bond", None), "bond", "attach here");
        noted(&of_kind("bridge", None), "bridge", "attach to a port");
        noted(&of_kind("macvlan", Some("eth1")), "parent", "attach to eth1");
    }

    #[test]
    fn what_the_stack_would_not_do_is_noted() {
        noted(&Device { is_up: false, ..card() }, "interface", "ip link set eth0 up");
        noted(&Device { filters_reverse_path: true, ..card() }, "rp_filter", "XDP runs before it");
        let forwards = [Some(true); 2];
        let finding = super::forwarding(&Device { forwards, ..card() });
        assert!(finding.meaning.unwrap().contains("can ask"));
    }
}
