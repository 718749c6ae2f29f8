//! What `attach`, `run`, `apply` and a rollback share: the way from a policy to what can be put in place.

use anyhow::Context as _;
use icmp_common::config::NextHop;
use icmp_userspace::{
    kernel::{
        change::{Change, New},
        clock,
        interface::Netlink,
        state::{Generation, Snapshot},
    },
    observe::rules::Counts,
    policy::{
        Policy,
        compile::{Interface, Tables},
        slots::Slots,
    },
};

use super::source::Source;

/// A policy that is compiled for an interface as it is now.
pub(super) struct Compiled {
    /// Its tables.
    pub(super) tables: Tables,
    /// What else belongs to its program.
    pub(super) generation: Generation,
    /// The interface as the tables know it.
    pub(super) interface: Interface,
}

impl Compiled {
    /// Compiles a policy that follows on the one in place: what stays of that keeps its counters.
    pub(super) async fn following(
        netlink: &Netlink,
        change: &Change<'_>,
        source: &Source,
    ) -> anyhow::Result<Self> {
        let running = change.running()?;
        let former = running.as_ref().map(|running| running.generation.slots.clone()).unwrap_or_default();
        if let Some(problem) = running.as_ref().and_then(|running| running.problem.as_ref()) {
            log::warn!("the counters of rules begin anew: {problem}");
        }
        let mut slots = Slots::assign(source.policy(), &former)?;
        if running.is_some() && !change.keeps_counters()? {
            log::warn!("all counters begin anew: some of their pins are missing");
            slots = slots.with_new_counters();
        } else if running.is_some() {
            let counts = counts(change)?;
            for slot in slots.new_since(&former) {
                slots.start(slot, counts.amount(slot));
            }
            slots.begin(&former, clock::monotonic());
        }
        Self::with(netlink, change, source, source.generation(slots)).await
    }

    /// Compiles a policy to what belongs to it already: that of a program which runs or ran.
    pub(super) async fn with(
        netlink: &Netlink,
        change: &Change<'_>,
        source: &Source,
        generation: Generation,
    ) -> anyhow::Result<Self> {
        let site = change.site();
        // It may have got another MAC address since it was found.
        let now = netlink.by_index(site.interface.index).await?;
        let interface = now.as_ref().unwrap_or(&site.interface);
        let interface = netlink.describe(interface, &source.policy().respond).await?;
        let tables = Tables::compile(source.policy(), &interface, &generation.slots)?;
        Ok(Self { tables, generation, interface })
    }

    /// What can be put in place.
    pub(super) const fn to_install<'a>(&'a self, snapshot: Snapshot<'a>) -> New<'a> {
        New { object: super::OBJECT, tables: &self.tables, generation: &self.generation, snapshot }
    }
}

/// What the counters of rules hold.
fn counts(change: &Change<'_>) -> anyhow::Result<Counts> {
    match change.site().map_pin("RULES").filter(|pin| pin.exists()) {
        Some(pin) => Counts::read_pinned(&pin).with_context(|| format!("reading {}", pin.display())),
        None => Ok(Counts::zero()),
    }
}

/// Says what is noteworthy about a policy on an interface.
pub(super) fn warn(name: &str, policy: &Policy, interface: &Interface, follows: bool) {
    if policy.respond.own && interface.addresses.is_empty() {
        let follow = if follows { "; addresses that it gets will be" } else { "" };
        log::warn!("{name} has no addresses of its own that could be served{follow}");
    }
    if policy.respond.next_hop == NextHop::Fib {
        warn_without_forwarding(name);
    }
}

/// The kernel answers look-ups from XDP only on interfaces that forward.
fn warn_without_forwarding(interface: &str) {
    for family in ["ipv4", "ipv6"] {
        let path = format!("/proc/sys/net/{family}/conf/{interface}/forwarding");
        if std::fs::read_to_string(path).is_ok_and(|value| value.trim() == "0") {
            log::warn!(
                "next-hop = \"fib\" works only where the interface forwards: until net.{family}.conf.{interface}.forwarding \
                 is 1, {family} requests are left to the stack"
            );
        }
    }
}
