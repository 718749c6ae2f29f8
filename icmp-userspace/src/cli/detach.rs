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
        super::output::log_to_stderr(false);
        let name = &self.interface;
        // An interface of this name may have gone and left its pins, and another one may have come since.
        let forgotten = attach::forget(&netlink, bpffs, name).await?;
        let detached = match Site::lock(&netlink, name, bpffs, "detach").await {
            Ok(site) => site.detach(),
            Err(error) => Err(error),
        };
        match detached {
            Ok(()) => log::info!("detached from {name}"),
            Err(Error::NoInterface { .. } | Error::NotAttached { .. }) if forgotten => {
                log::info!("removed what an interface {name} had left when it went away");
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}
