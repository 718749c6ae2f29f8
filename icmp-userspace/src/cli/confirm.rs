//! `icmpctl confirm`: keep a policy that waits for confirmation, or bring the former one back at once.

use icmp_userspace::kernel::{
    attach::{Places, Site},
    interface::Netlink,
    listing, privileges,
    stamp::Stamped,
    state::Snapshot,
};

use super::{install::Compiled, output, source::Source};

/// What can be typed behind `confirm`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The interface; may be left out if icmpctl is attached to one alone
    #[arg(value_name = "IFACE")]
    interface: Option<String>,
    /// Bring the former policy back at once
    #[arg(long)]
    rollback: bool,
}

impl Arguments {
    pub(super) async fn run(&self, places: &Places) -> anyhow::Result<()> {
        output::log_to_stderr(false);
        let netlink = Netlink::open()?;
        let name = listing::only(&netlink, places, self.interface.as_deref()).await?;
        let mut site = Site::open(&netlink, &name, places).await?;
        privileges::drop_others(false)?;
        if self.rollback {
            roll_back(&netlink, &mut site, Why::Wanted).await?;
            log::info!("{name}: the former policy is back");
        } else {
            let mut change = site.change("confirm").await?;
            change.pending()?;
            change.conclude(None)?;
            log::info!("{name}: the policy is confirmed");
        }
        Ok(())
    }
}

/// Why the former policy comes back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Somebody said so.
    Wanted,
    /// Nobody confirmed the new one in time.
    Deadline,
}

/// Puts the former policy in place again; false if it was confirmed meanwhile.
pub(super) async fn roll_back(netlink: &Netlink, site: &mut Site, why: Why) -> anyhow::Result<bool> {
    let mut change = site.change("confirm --rollback").await?;
    let pending = match change.pending() {
        Ok(pending) => pending,
        Err(_) if why == Why::Deadline => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    if why == Why::Deadline && pending.left() > 0 {
        return Ok(false);
    }
    let running = change.must_run()?;
    let mut complaint = None;
    // Otherwise the new one never got into place.
    if running.program != pending.previous {
        let mut generation = change.generation_of(pending.previous)?;
        let source =
            Source::of_snapshot(&change.site().state().generation(pending.previous), &generation.source)?;
        // What happened to the files before this moment is what is rolled back.
        generation.source.files =
            generation.source.files.iter().map(|file| Stamped::now(&file.path)).collect();
        let compiled = Compiled::with(netlink, &change, &source, generation).await?;
        change.swap(&compiled.to_install(Snapshot::Of(pending.previous)))?;
        if why == Why::Deadline {
            let file = running.generation.source.policy.unwrap_or_default();
            complaint = Some(format!(
                "{} was not confirmed in time: the former policy is back; `icmpctl apply` puts another in place",
                file.display()
            ));
        }
    }
    change.conclude(complaint)?;
    Ok(true)
}
