//! The lab: two network namespaces joined by a veth pair, icmpctl on the server's end, real clients on the
//! other. `cargo xtask run` shows in it that the program works, and what it is worth.

mod access;
mod clients;
pub(crate) mod counts;
mod crowd;
pub(crate) mod flood;
pub(crate) mod interrupt;
mod napi;
pub(crate) mod network;
pub(crate) mod nftables;
mod summary;
pub(crate) mod swaps;

use anyhow::{Result, ensure};

use crate::{
    Setup, say, tools,
    userspace::{self, Build},
};
use clients::Ping;
use counts::Counts;
use flood::{Flood, Instruments};
use network::Network;
use summary::{FloodRow, PingRow, Summary};

/// Requests of a flood that the program answers, and of one that the kernel's stack answers.
const FLOOD: u32 = 1_000_000;
const STACK_FLOOD: u32 = 200_000;

/// Runs the lab; an error, and with it an exit status other than 0, if anything was not as it should be.
pub(crate) fn run(setup: Setup, keep: bool) -> Result<()> {
    let interrupted = interrupt::listen()?;
    let built = userspace::both_halves(&Build { release: false, debug_log: false, setup })?;
    tools::ensure(setup)?;
    let network = Network::make(&built.icmpctl, &interrupted, 1)?;
    let mut instruments = Instruments::load(&built.objects, None)?;
    instruments.pass_on_client(&network)?;

    say::step("attaching icmpctl to the server's end, in native mode");
    network.attach()?;
    let mut summary = Summary::default();
    for ping in Ping::all() {
        say::step(&format!("{ping}"));
        let before = Counts::read(&network)?;
        let outcome = ping.run(&network)?;
        summary.pings.push(PingRow::new(&ping, outcome, Counts::read(&network)?.since(&before)));
    }
    summary.accesses = access::run(&network)?;
    for flood in [Flood::Ipv4, Flood::Ipv6] {
        summary.swaps.push(swaps::run(&mut instruments, &network, flood)?);
    }
    for flood in [Flood::Ipv4, Flood::Ipv6] {
        say::step(&format!("flood: {FLOOD} requests, {}, answered by the program", flood.name()));
        summary.floods.push(measure(&mut instruments, &network, flood, FLOOD)?);
    }
    network.detach()?;
    instruments.pass_on_server(&network)?;
    for flood in [Flood::Ipv4, Flood::Ipv6] {
        say::step(&format!(
            "flood: {STACK_FLOOD} requests, {}, answered by the kernel's stack",
            flood.name()
        ));
        summary.floods.push(measure(&mut instruments, &network, flood, STACK_FLOOD)?);
    }
    network.clear_server()?;
    summary.crowds = crowd::run(&network, &built.objects)?;
    print!("\n{summary}");
    if keep {
        network.attach()?;
        network.keep();
    } else {
        network.remove()?;
    }
    let failures = summary.failures();
    ensure!(failures.is_empty(), "not as it should be:\n  {}", failures.join("\n  "));
    Ok(())
}

fn measure(
    instruments: &mut Instruments,
    network: &Network,
    flood: Flood,
    requests: u32,
) -> Result<FloodRow> {
    let before = Counts::read(network)?;
    let outcome = instruments.flood(network, flood, requests)?;
    Ok(FloodRow::new(flood, requests, outcome, Counts::read(network)?.since(&before)))
}
