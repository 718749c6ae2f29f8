//! nftables' limit to each source, on the server's end: the way to do it without icmpctl.

use anyhow::{Context as _, Result};
use std::{fs, path::Path};

use super::network::{DIRECTORY, Network, SERVER, SERVER_END};

/// The limit, in a namespace whose server's end has a program that passes everything.
pub(crate) struct Limit;

impl Limit {
    /// Puts a limit in place that each source of echo requests has for itself, such as `100/second burst 20 packets`; `sources` is
    /// how many the set has room for. It is asked as early as nftables can be: before the stack has looked at the packet.
    pub(crate) fn set(network: &Network, rate: &str, sources: u32) -> Result<Self> {
        let path = Path::new(DIRECTORY).join("limit.nft");
        fs::write(&path, ruleset(rate, sources)).with_context(|| format!("writing {}", path.display()))?;
        network.run_in(SERVER, &["nft", "-f", &path.to_string_lossy()])?;
        Ok(Self)
    }

    /// Takes it away.
    pub(crate) fn remove(self, network: &Network) -> Result<()> {
        network.run_in(SERVER, &["nft", "delete", "table", "netdev", "lab"]).map(drop)
    }
}

fn ruleset(rate: &str, sources: u32) -> String {
    format!(
        "table netdev lab {{\n\
         set sources {{ type ipv4_addr; size {sources}; flags dynamic,timeout; timeout 1m; }}\n\
         chain ingress {{ type filter hook ingress device {SERVER_END} priority 0; policy accept;\n\
         icmp type echo-request update @sources {{ ip saddr limit rate over {rate} }} drop\n\
         }}\n}}\n"
    )
}
