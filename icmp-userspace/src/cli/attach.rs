//! `icmpctl attach`: load, pin, end.

use icmp_userspace::kernel::{
    attach::{Places, Site},
    interface::Netlink,
};

use super::settings::{self, Settings};

/// What can be typed behind `attach`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    settings: Settings,
}

impl Arguments {
    pub(super) async fn run(&self, places: &Places) -> anyhow::Result<()> {
        super::output::log_to_stderr(false);
        let source = self.settings.source()?;
        let options = self.settings.options(false);
        let netlink = Netlink::open()?;
        let mut site = Site::lock(&netlink, &self.settings.interface, places, "attach").await?;
        let (outcome, _) = settings::attach(&netlink, &mut site, &source, &options, "attach").await?;
        settings::announce(&site, &outcome);
        Ok(())
    }
}
