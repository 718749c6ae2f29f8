//! Interfaces and their addresses, asked of and followed through rtnetlink.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use futures_util::{StreamExt as _, TryStreamExt as _};
use netlink_packet_route::{
    AddressFamily,
    address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage},
    link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage, LinkXdp, XdpAttached},
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteType},
};
use rtnetlink::{Handle, LinkUnspec, MulticastGroup, new_connection, new_multicast_connection};
use tokio::time::{sleep, timeout};

use super::{
    clock::tai_offset,
    error::{Doing as _, Error},
};
use crate::policy::{Respond, compile, prefix::Prefix};

/// An interface as it is at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its number in its network namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Whether it is one end of a veth pair.
    pub is_veth: bool,
    /// The XDP program that is attached to it, ours or not.
    pub xdp: Option<AttachedXdp>,
}

/// An XDP program on an interface, as the kernel tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachedXdp {
    /// The program's id.
    pub program: u32,
    /// Where it runs.
    pub mode: RunningMode,
}

/// Where an attached program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RunningMode {
    /// In the driver, before the packet has a socket buffer.
    Native,
    /// In the stack's entry, at several times the cost.
    Generic,
    /// In the network card.
    Offloaded,
}

impl RunningMode {
    /// The word that listings use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Offloaded => "offloaded",
        }
    }
}

/// A connection to rtnetlink, in the network namespace in which it was opened.
#[derive(Clone)]
pub struct Netlink {
    handle: Handle,
}

impl Netlink {
    /// Opens a connection; it is served by a task of the current runtime.
    pub fn open() -> Result<Self, Error> {
        let (connection, handle, _) = new_connection().doing(|| "opening a netlink socket".to_owned())?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// The interface with this name.
    pub async fn by_name(&self, name: &str) -> Result<Interface, Error> {
        let missing = || Error::NoInterface { name: name.to_owned() };
        // Longer names are none; the kernel would only say that the message is invalid.
        if name.is_empty() || name.len() >= libc::IFNAMSIZ {
            return Err(missing());
        }
        let mut links = self.handle.link().get().match_name(name.to_owned()).execute();
        let message = links.try_next().await.map_err(|error| not_found(&error, missing(), name))?;
        interface(&message.ok_or_else(missing)?)
    }

    /// The interface with this number; `None` if it is gone.
    pub async fn by_index(&self, index: u32) -> Result<Option<Interface>, Error> {
        let mut links = self.handle.link().get().match_index(index).execute();
        match links.try_next().await {
            Ok(message) => message.as_ref().map(interface).transpose(),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(netlink_failed(&error, &format!("interface {index}"))),
        }
    }

    /// All interfaces, as the kernel describes them.
    pub(super) async fn messages(&self) -> Result<Vec<LinkMessage>, Error> {
        let links = self.handle.link().get().execute();
        links.try_collect().await.map_err(|error| netlink_failed(&error, "interfaces"))
    }

    /// What the tables need to know of an interface, to answer as a policy says.
    pub async fn describe(
        &self,
        interface: &Interface,
        respond: &Respond,
    ) -> Result<compile::Interface, Error> {
        let mut described = compile::Interface {
            index: interface.index,
            name: interface.name.clone(),
            mac: interface.mac,
            tai_offset: if respond.timestamp { tai_offset() } else { 0 },
            ..compile::Interface::default()
        };
        let mut messages = self.handle.address().get().set_link_index_filter(interface.index).execute();
        while let Some(message) =
            messages.try_next().await.map_err(|error| netlink_failed(&error, &interface.name))?
        {
            // Older kernels do not filter.
            if message.header.index == interface.index && is_usable(&message) {
                let addresses = local(&message).map(|address| (address, own_length(&message, address)));
                described.addresses.extend(addresses);
                described.broadcasts.extend(broadcast(&message));
            }
        }
        described.addresses.sort_unstable();
        described.broadcasts.sort_unstable();
        if respond.traceroute {
            described.elsewhere = self.owned().await?;
        }
        Ok(described)
    }

    /// What the host takes in as its own: the routes of the local table, which are those of its addresses, and whatever else
    /// somebody has put there (`ip route add local ...`).
    async fn owned(&self) -> Result<Vec<Prefix>, Error> {
        let mut owned = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut wanted = RouteMessage::default();
            wanted.header.address_family = family;
            wanted.header.table = libc::RT_TABLE_LOCAL;
            wanted.header.kind = RouteType::Local;
            let mut routes = self.handle.route().get(wanted).execute();
            while let Some(route) =
                routes.try_next().await.map_err(|error| netlink_failed(&error, "the host's own addresses"))?
            {
                // Older kernels do not filter.
                if route.header.kind == RouteType::Local {
                    owned.extend(destination(&route));
                }
            }
        }
        owned.sort_unstable();
        owned.dedup();
        Ok(owned)
    }

    /// Detaches an XDP program that was attached through netlink, without a link.
    pub async fn detach_xdp(&self, interface: &Interface, mode: RunningMode) -> Result<(), Error> {
        let flags = match mode {
            RunningMode::Generic => XDP_FLAGS_SKB_MODE,
            RunningMode::Native => XDP_FLAGS_DRV_MODE,
            RunningMode::Offloaded => XDP_FLAGS_HW_MODE,
        };
        let nothing = LinkAttribute::Xdp(vec![LinkXdp::Fd(-1), LinkXdp::Flags(flags)]);
        let message = LinkUnspec::new_with_index(interface.index).append_extra_attribute(nothing).build();
        let outcome = self.handle.link().set(message).execute().await;
        outcome.map_err(|error| netlink_failed(&error, &interface.name))
    }
}

/// `linux/if_link.h`.
const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
const XDP_FLAGS_HW_MODE: u32 = 1 << 3;

/// Whether an address is in use: not one that duplicate address detection still doubts or has refused (RFC 4862
/// 5.4), unless it may be used meanwhile (RFC 4429).
fn is_usable(message: &AddressMessage) -> bool {
    let mut flags = message.header.flags;
    let mut more = AddressFlags::empty();
    for attribute in &message.attributes {
        if let AddressAttribute::Flags(value) = attribute {
            more = *value;
        }
    }
    flags |= AddressHeaderFlags::from_bits_truncate(more.bits() as u8);
    let doubted =
        flags.contains(AddressHeaderFlags::Tentative) && !flags.contains(AddressHeaderFlags::Optimistic);
    !doubted && !flags.contains(AddressHeaderFlags::Dadfailed)
}

/// The interface's own address; on a point-to-point interface the other one in the message is the peer's.
fn local(message: &AddressMessage) -> Option<IpAddr> {
    let find = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(wanted);
    find(|attribute| if let AddressAttribute::Local(address) = attribute { Some(*address) } else { None })
        .or_else(|| {
            find(
                |attribute| {
                    if let AddressAttribute::Address(address) = attribute { Some(*address) } else { None }
                },
            )
        })
}

/// The length of the address's own prefix: on a point-to-point interface the one in the message is the peer's.
fn own_length(message: &AddressMessage, address: IpAddr) -> u8 {
    let peer = |attribute: &AddressAttribute| matches!(attribute, AddressAttribute::Address(peer) if *peer != address);
    let all = if address.is_ipv4() { 32 } else { 128 };
    if message.attributes.iter().any(peer) { all } else { message.header.prefix_len }
}

/// Where a route goes.
fn destination(route: &RouteMessage) -> Option<Prefix> {
    let length = route.header.destination_prefix_length;
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) if length <= 32 => {
            Some(Prefix::containing((*address).into(), length))
        }
        RouteAttribute::Destination(RouteAddress::Inet6(address)) if length <= 128 => {
            Some(Prefix::containing((*address).into(), length))
        }
        _ => None,
    })
}

fn broadcast(message: &AddressMessage) -> Option<Ipv4Addr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Broadcast(address) => Some(*address),
        _ => None,
    })
}

fn interface(message: &LinkMessage) -> Result<Interface, Error> {
    let mut name = String::new();
    let (mut mac, mut mtu, mut is_veth, mut xdp) = (None, 0, false, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(value) => name.clone_from(value),
            LinkAttribute::Address(bytes) => mac = <[u8; 6]>::try_from(&**bytes).ok(),
            LinkAttribute::Mtu(value) => mtu = *value,
            LinkAttribute::LinkInfo(infos) => is_veth = infos.contains(&LinkInfo::Kind(InfoKind::Veth)),
            LinkAttribute::Xdp(attributes) => xdp = attached(attributes),
            _ => {}
        }
    }
    let Some(mac) = mac else { return Err(Error::NotEthernet { name }) };
    Ok(Interface { index: message.header.index, name, mac, mtu, is_veth, xdp })
}

/// What `linux/if_link.h` calls IFLA_XDP.
pub(super) fn attached(attributes: &[LinkXdp]) -> Option<AttachedXdp> {
    let (mut mode, mut program) = (None, None);
    for attribute in attributes {
        match attribute {
            LinkXdp::Attached(XdpAttached::Driver) => mode = Some(RunningMode::Native),
            LinkXdp::Attached(XdpAttached::SocketBuffer) => mode = Some(RunningMode::Generic),
            // With programs in several places only one can be ours, and links know which.
            LinkXdp::Attached(XdpAttached::Hardware | XdpAttached::Multiple) => {
                mode = Some(RunningMode::Offloaded)
            }
            LinkXdp::ProgId(id) | LinkXdp::DrvProgId(id) | LinkXdp::SkbProgId(id) | LinkXdp::HwProgId(id) => {
                program = Some(*id)
            }
            _ => {}
        }
    }
    Some(AttachedXdp { program: program?, mode: mode? })
}

fn is_missing(error: &rtnetlink::Error) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(message) if message.raw_code() == -libc::ENODEV)
}

fn not_found(error: &rtnetlink::Error, missing: Error, what: &str) -> Error {
    if is_missing(error) { missing } else { netlink_failed(error, what) }
}

fn netlink_failed(error: &rtnetlink::Error, what: &str) -> Error {
    let error = match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        error => io::Error::other(error.to_string()),
    };
    Error::System { what: format!("asking the kernel about {what}"), error }
}

/// Tells when something about interfaces or addresses may have changed.
pub struct Watch {
    messages: Option<Messages>,
}

type Messages = std::pin::Pin<Box<dyn futures_util::Stream<Item = ()>>>;

/// Changes come in bursts; they are waited for to end, but not for long.
const QUIET: Duration = Duration::from_millis(50);
const LONGEST: usize = 20;

impl Watch {
    /// Begins to listen.
    pub fn open() -> Result<Self, Error> {
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
        let (connection, _, messages) =
            new_multicast_connection(&groups).doing(|| "listening to changes of addresses".to_owned())?;
        tokio::spawn(connection);
        Ok(Self { messages: Some(Box::pin(messages.map(|_| ()))) })
    }

    /// Waits until something may have changed. A listener that lost messages begins anew, and takes that for a
    /// change.
    pub async fn changed(&mut self) {
        match &mut self.messages {
            Some(messages) => {
                if messages.next().await.is_none() {
                    self.messages = None;
                    return;
                }
                for _ in 0..LONGEST {
                    if timeout(QUIET, messages.next()).await.is_err() {
                        break;
                    }
                }
            }
            None => {
                sleep(Duration::from_secs(1)).await;
                self.messages = Self::open().ok().and_then(|watch| watch.messages);
            }
        }
    }
}
