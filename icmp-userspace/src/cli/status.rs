//! `icmpctl status`: where the program is attached, in which mode and why, since when.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use icmp_userspace::{
    duration,
    kernel::{
        attach::Places,
        interface::Netlink,
        listing::{self, Attachment},
    },
};

use super::output;

/// What can be typed behind `status`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// This interface alone
    interface: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(super) async fn run(&self, places: &Places) -> anyhow::Result<()> {
        let netlink = Netlink::open()?;
        let attachments = listing::list(&netlink, places, self.interface.as_deref()).await?;
        if self.json {
            output::json(&attachments)?;
        } else if attachments.is_empty() {
            output::line("icmpctl is attached to no interface of this network namespace")?;
        } else {
            let mut rows = vec![
                ["INTERFACE", "STATE", "MODE", "PROGRAM", "SINCE", "FOLLOWED BY", "RULES", "POLICY"]
                    .map(str::to_owned),
            ];
            rows.extend(attachments.iter().map(row));
            output::columns(&rows, &[])?;
            for note in attachments.iter().flat_map(Attachment::notes) {
                output::line(&note)?;
            }
        }
        Ok(())
    }
}

fn row(attachment: &Attachment) -> [String; 8] {
    let dash = || "-".to_owned();
    let age =
        |since| SystemTime::now().duration_since(UNIX_EPOCH + Duration::from_secs(since)).unwrap_or_default();
    [
        attachment.interface.clone(),
        attachment.state.name().to_owned(),
        attachment.mode.map_or_else(dash, |mode| mode.name().to_owned()),
        attachment.program.map_or_else(dash, |id| id.to_string()),
        attachment.since.map_or_else(dash, |since| format!("{} ago", duration::show(age(since)))),
        attachment.follower.map_or_else(|| "nobody".to_owned(), |pid| format!("pid {pid}")),
        attachment.rules.map_or_else(dash, |rules| rules.to_string()),
        match (&attachment.policy, attachment.rules) {
            (Some(policy), _) => policy.display().to_string(),
            (None, Some(_)) => "default".to_owned(),
            (None, None) => dash(),
        },
    ]
}
