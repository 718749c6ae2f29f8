//! The access list at work: clients that are answered, denied and rejected by it.

use anyhow::Result;

use super::{
    clients::Ping,
    counts::Counts,
    network::{CLIENT, CLIENT_END, CLOSED4, CLOSED6, Network, OTHER4, OTHER6, SERVER_MAC, SERVER4, SERVER6},
    summary::AccessRow,
};
use crate::say;

/// The list. Its last rule leaves Neighbour Discovery alone, which no rule denies that does not name it.
pub(crate) const RULES: &str = "\
deny   icmp host 192.0.2.3 any
deny   icmp host 2001:db8::3 any
reject icmp any host 198.51.100.9 echo
reject icmp any host 2001:db8:53::9 echo
permit icmp any any echo
deny   icmp any any
";

/// What should become of a client's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Each is answered.
    Answered,
    /// None is, and nothing is said about it.
    Denied,
    /// There is an error about each, of which ping says this.
    Rejected(&'static str),
}

/// The clients.
const CLIENTS: [(Option<&str>, &str, Fate); 6] = [
    (None, SERVER4, Fate::Answered),
    (None, SERVER6, Fate::Answered),
    (Some(OTHER4), SERVER4, Fate::Denied),
    (Some(OTHER6), SERVER6, Fate::Denied),
    (None, CLOSED4, Fate::Rejected("Packet filtered")),
    (None, CLOSED6, Fate::Rejected("Administratively prohibited")),
];

/// Puts the list in place and lets the clients ping.
pub(crate) fn run(network: &Network) -> Result<Vec<AccessRow>> {
    say::step("applying an access list that denies one client and rejects requests to one address");
    network.apply(&network.with_rules("access-list.toml", RULES)?)?;
    let neighbour =
        |verb: &str| format!("-n {CLIENT} neighbour {verb} {SERVER6} lladdr {SERVER_MAC} dev {CLIENT_END}");
    // The client has to ask who the server is.
    network.ip(&neighbour("delete"))?;
    let rows = CLIENTS.into_iter().map(|(from, address, fate)| {
        let ping = Ping { from, address, size: 56, count: 5, flood: false };
        say::step(&format!("{ping}"));
        let before = Counts::read(network)?;
        let outcome = ping.run(network)?;
        Ok(AccessRow::new(&ping, fate, outcome, Counts::read(network)?.since(&before)))
    });
    let rows = rows.collect::<Result<_>>()?;
    network.ip(&neighbour("replace"))?;
    Ok(rows)
}
