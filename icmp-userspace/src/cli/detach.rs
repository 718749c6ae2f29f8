//! `icmpctl detach`: take the program off an interface, and its pins away.

use icmp_userspace::kernel::{
    Error,
    attach::{Places, Site},
    interface::Netlink,
    listing,
};

/// What can be typed behind `detach`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The interface
    interface: String,
}

impl Arguments {
    pub(super) async fn run(&self, places: &Places) -> anyhow::Result<()> {
        let netlink = Netlink::open()?;
        super::output::log_to_stderr(false);
        let name = &self.interface;
        // An interface of this name may have gone and left its pins, and another one may have come since.
        let forgotten = listing::forget(&netlink, places, name).await?;
        let detached = match Site::lock(&netlink, name, places, "detach").await {
            Ok(mut site) => site.change("detach").await.and_then(|mut change| change.detach()),
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
