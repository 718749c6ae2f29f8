//! `icmpctl attach`: load, pin, end.

use std::path::Path;

use icmp_userspace::kernel::{attach::Site, interface::Netlink};

use super::settings::{self, Settings};

/// What can be typed behind `attach`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    settings: Settings,
}

impl Arguments {
    pub(super) async fn run(&self, bpffs: &Path) -> anyhow::Result<()> {
        super::output::log_to_stderr(false);
        let policy = self.settings.policy()?;
        let options = self.settings.options(false)?;
        let netlink = Netlink::open()?;
        let mut site = Site::lock(&netlink, &self.settings.interface, bpffs, "attach").await?;
        let (outcome, _) = settings::attach(&netlink, &mut site, &policy, &options).await?;
        settings::announce(&site, &outcome);
        Ok(())
    }
}
