//! What is to be known of interfaces beyond what attaching needs: what their drivers can do, what they are ports or parents of, and
//! what is attached to them. Asked through rtnetlink, and of the drivers through generic netlink (`ethtool`, `netdev`).

use std::io;

use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage};
use rtnetlink::packet_core::{DefaultNla, NLA_F_NESTED};

use super::{
    attach::{Places, program_name},
    error::{Doing as _, Error},
    generic::{Family, Generic, attributes, find, number, value},
    interface::{AttachedXdp, Netlink, attached},
    pins::Pins,
    privileges,
    probe::setting,
};

/// An interface, and what its driver can do.
#[derive(Clone, Debug)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// What kind of virtual interface it is, as `ip -d link` names it; `None` for a card's.
    pub kind: Option<String>,
    /// Whether its frames are Ethernet's.
    pub is_ethernet: bool,
    /// Whether it is up.
    pub is_up: bool,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// The interface that it lies upon, such as a VLAN's parent; a number if that is in another network namespace.
    pub parent: Option<String>,
    /// The bridge, bond or team that it is a port of, and its kind.
    pub controller: Option<(String, Option<String>)>,
    /// The XDP program on it, and whose it is.
    pub xdp: Option<(AttachedXdp, Owner)>,
    /// What its driver says of XDP; `None` if the kernel has no such question.
    pub features: Option<Features>,
    /// How many queues it uses, where its driver tells.
    pub queues: Option<Queues>,
    /// Which of the offloads that matter here are on; `None` if the kernel does not tell.
    pub offloads: Option<Offloads>,
    /// Whether it forwards, over IPv4 and IPv6; `None` without that family.
    pub forwards: [Option<bool>; 2],
    /// Whether the stack asks for a source's way back (RFC 3704).
    pub filters_reverse_path: bool,
}

/// Whose program it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// icmpctl's.
    Ours,
    /// Somebody else's; its name, if that can be said.
    Other(Option<String>),
    /// That takes more privileges to say.
    Unknown,
}

/// What a driver says of XDP (`NETDEV_XDP_ACT_*` of `linux/netdev.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// It has native mode.
    pub native: bool,
    /// It gives XDP packets in several buffers.
    pub frags: bool,
}

/// How many queues an interface uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queues {
    /// For what it receives.
    pub receive: u32,
    /// For what it sends.
    pub send: u32,
}

/// Offloads that change what XDP sees, or exclude it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// VLAN tags are stripped from what is received.
    pub strips_tags: bool,
    /// Segments are merged by the card.
    pub merges: bool,
}

/// `linux/netdev.h`.
const NETDEV_DEV_GET: u8 = 1;
const NETDEV_INDEX: u16 = 1;
const NETDEV_XDP_FEATURES: u16 = 3;
const XDP_BASIC: u64 = 1;
const XDP_RX_SG: u64 = 32;

/// `linux/ethtool_netlink.h`.
const ETHTOOL_FEATURES_GET: u8 = 11;
const ETHTOOL_CHANNELS_GET: u8 = 17;
const ETHTOOL_HEADER: u16 = 1;
const HEADER_INDEX: u16 = 1;
const FEATURES_ACTIVE: u16 = 4;
const BITSET_BITS: u16 = 3;
const BIT_NAME: u16 = 2;
const CHANNELS_RECEIVE: u16 = 6;
const CHANNELS_SEND: u16 = 7;
const CHANNELS_COMBINED: u16 = 9;

/// The interfaces of the current network namespace, or one of them.
pub async fn devices(netlink: &Netlink, places: &Places, only: Option<&str>) -> Result<Vec<Device>, Error> {
    let messages = netlink.messages().await?;
    let drivers = Drivers::open().doing(|| "opening a generic netlink socket".to_owned())?;
    let wanted = |message: &&LinkMessage| only.is_none_or(|name| link_name(message) == Some(name));
    let chosen: Vec<_> = messages.iter().filter(wanted).collect();
    match only {
        Some(name) if chosen.is_empty() => Err(Error::NoInterface { name: name.to_owned() }),
        _ => Ok(chosen.into_iter().map(|message| device(message, &messages, &drivers, places)).collect()),
    }
}

fn device(message: &LinkMessage, all: &[LinkMessage], drivers: &Drivers, places: &Places) -> Device {
    let index = message.header.index;
    let by_index = |index: u32| all.iter().find(|message| message.header.index == index);
    let (mut mtu, mut parent, mut is_elsewhere, mut controller, mut xdp) = (0, None, false, None, None);
    let mut has_mac = false;
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Address(bytes) => has_mac = bytes.len() == 6,
            LinkAttribute::Mtu(value) => mtu = *value,
            // A veth names its other end here, which it does not lie upon.
            LinkAttribute::Link(value) if *value != index => parent = Some(*value),
            LinkAttribute::LinkNetNsId(_) => is_elsewhere = true,
            LinkAttribute::Controller(value) => controller = by_index(*value),
            LinkAttribute::Xdp(attributes) => xdp = attached(attributes),
            _ => {}
        }
    }
    let name = link_name(message).unwrap_or_default().to_owned();
    let kind = link_kind(message);
    let parent = parent.filter(|_| kind.as_deref().is_some_and(|kind| kind != "veth"));
    let parent_name = |parent: u32| match by_index(parent).and_then(link_name).filter(|_| !is_elsewhere) {
        Some(name) => name.to_owned(),
        None => format!("interface {parent} of another network namespace"),
    };
    let forwards = |family: &str| setting(&format!("{family}/conf/{name}/forwarding")).map(|on| on != 0);
    let filter = |of: &str| setting(&format!("ipv4/conf/{of}/rp_filter")).unwrap_or(0);
    Device {
        is_ethernet: has_mac
            && matches!(message.header.link_layer_type, LinkLayerType::Ether | LinkLayerType::Loopback),
        is_up: message.header.flags.contains(LinkFlags::Up),
        mtu,
        parent: parent.map(parent_name),
        controller: controller.and_then(|message| Some((link_name(message)?.to_owned(), link_kind(message)))),
        xdp: xdp.map(|xdp| (xdp, owner(index, xdp.program, places))),
        features: drivers.features(index),
        queues: drivers.queues(index),
        offloads: drivers.offloads(index),
        forwards: ["ipv4", "ipv6"].map(forwards),
        // The stricter one of the two counts.
        filters_reverse_path: filter("all").max(filter(&name)) > 0,
        name,
        kind,
    }
}

fn link_name(message: &LinkMessage) -> Option<&str> {
    message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(&**name),
        _ => None,
    })
}

fn link_kind(message: &LinkMessage) -> Option<String> {
    message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.iter().find_map(|info| match info {
            LinkInfo::Kind(kind) => Some(kind.to_string()),
            _ => None,
        }),
        _ => None,
    })
}

fn owner(index: u32, program: u32, places: &Places) -> Owner {
    if !privileges::lacked().is_ok_and(|lacked| lacked.is_empty()) {
        return Owner::Unknown;
    }
    let link = Pins::of(&places.bpffs, index).and_then(|pins| pins.open_link(index));
    match link.map(|link| link.and_then(|link| link.info().ok())) {
        Ok(Some(info)) if info.program == program => Owner::Ours,
        _ => Owner::Other(program_name(program)),
    }
}

/// Asks drivers.
struct Drivers {
    socket: Generic,
    ethtool: Option<Family>,
    netdev: Option<Family>,
}

impl Drivers {
    fn open() -> io::Result<Self> {
        let socket = Generic::open()?;
        let [ethtool, netdev] = [socket.family("ethtool")?, socket.family("netdev")?];
        Ok(Self { socket, ethtool, netdev })
    }

    /// What is asked for of one interface; `None` if kernel or driver have no answer.
    fn ask(&self, family: Option<Family>, command: u8, which: DefaultNla) -> Option<Vec<DefaultNla>> {
        self.socket.ask(family?, command, &[which]).ok()
    }

    fn ask_ethtool(&self, command: u8, index: u32) -> Option<Vec<DefaultNla>> {
        let [a, b, c, d] = index.to_ne_bytes();
        let [kind, length] = [HEADER_INDEX.to_ne_bytes(), 8_u16.to_ne_bytes()];
        let header = vec![length[0], length[1], kind[0], kind[1], a, b, c, d];
        self.ask(self.ethtool, command, DefaultNla::new(ETHTOOL_HEADER | NLA_F_NESTED, header))
    }

    fn features(&self, index: u32) -> Option<Features> {
        let which = DefaultNla::new(NETDEV_INDEX, index.to_ne_bytes().to_vec());
        let answer = self.ask(self.netdev, NETDEV_DEV_GET, which)?;
        let bits = number(&find(&answer, NETDEV_XDP_FEATURES)?)?;
        Some(Features { native: bits & XDP_BASIC != 0, frags: bits & XDP_RX_SG != 0 })
    }

    fn queues(&self, index: u32) -> Option<Queues> {
        let answer = self.ask_ethtool(ETHTOOL_CHANNELS_GET, index)?;
        let count = |kind| {
            let count = find(&answer, kind).and_then(|value| number(&value)).unwrap_or(0);
            u32::try_from(count).unwrap_or(u32::MAX)
        };
        let both = count(CHANNELS_COMBINED);
        let with_both = |alone| both.saturating_add(count(alone));
        Some(Queues { receive: with_both(CHANNELS_RECEIVE), send: with_both(CHANNELS_SEND) })
    }

    fn offloads(&self, index: u32) -> Option<Offloads> {
        let names = self.ask_ethtool(ETHTOOL_FEATURES_GET, index).and_then(|answer| active(&answer))?;
        let is_on = |name: &str| names.iter().any(|active| active == name);
        Some(Offloads {
            strips_tags: is_on("rx-vlan-hw-parse") || is_on("rx-vlan-stag-hw-parse"),
            merges: is_on("rx-lro") || is_on("rx-gro-hw"),
        })
    }
}

/// The names of the features that are on; that of a bit is listed if it is.
fn active(answer: &[DefaultNla]) -> Option<Vec<String>> {
    let set = attributes(&find(answer, FEATURES_ACTIVE)?).ok()?;
    let bits = attributes(&find(&set, BITSET_BITS)?).ok()?;
    let name = |bit: &DefaultNla| {
        let name = find(&attributes(&value(bit)).ok()?, BIT_NAME)?;
        Some(String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned())
    };
    Some(bits.iter().filter_map(name).collect())
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_core::Emitable as _;

    use super::*;

    fn nested(kind: u16, parts: &[DefaultNla]) -> DefaultNla {
        let mut bytes = vec![0; parts.buffer_len()];
        parts.emit(&mut bytes);
        DefaultNla::new(kind | NLA_F_NESTED, bytes)
    }

    #[test]
    fn features_that_are_on_are_listed_by_name() {
        let bit = |name: &str| nested(1, &[DefaultNla::new(BIT_NAME, [name.as_bytes(), &[0]].concat())]);
        let bits = nested(BITSET_BITS, &[bit("rx-lro"), bit("tx-lockless")]);
        let size = DefaultNla::new(2, 64_u32.to_ne_bytes().to_vec());
        // As `attributes` gives it: without the mark of what is nested.
        let features = DefaultNla::new(FEATURES_ACTIVE, value(&nested(FEATURES_ACTIVE, &[size, bits])));
        assert_eq!(active(&[features]).unwrap(), ["rx-lro", "tx-lockless"]);
    }

    /// What is cut off or makes no sense is no answer, and no reason to panic.
    #[test]
    fn broken_answers_are_none() {
        assert_eq!(active(&[]), None);
        for bytes in [&[0xff; 3][..], &[4, 0, 3, 0, 1], &[2, 0, 3, 0], &[0xff, 0xff, 3, 0, 1, 2]] {
            let answer = [DefaultNla::new(FEATURES_ACTIVE, bytes.to_vec())];
            assert!(active(&answer).is_none_or(|names| names.is_empty()), "{bytes:?}");
        }
    }
}
