//! `icmpctl detach`: take the program off an interface, and its pins away.

use std::path::Path;

use icmp_userspace::kernel::{
    Error,
    attach::{self, Site},
    interface::Netlink,
};

/// What can be typed behind `detach`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The interface
    interface: String,
}

impl Arguments {
    pub(super) async fn run(&self, bpffs: &Path) -> anyhow::Result<()> {
        let netlink = Netlink::open()?;
        match Site::lock(&netlink, &self.interface, bpffs, "detach").await {
            Ok(site) => site.detach()?,
            Err(Error::NoInterface { .. }) if attach::forget(&netlink, bpffs, &self.interface).await? => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}
