//! `icmpctl status`: where the program is attached, in which mode and why, since when.

use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use icmp_userspace::kernel::{
    attach::{self, Attachment},
    interface::Netlink,
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
    pub(super) async fn run(&self, bpffs: &Path) -> anyhow::Result<()> {
        let netlink = Netlink::open()?;
        let attachments = attach::list(&netlink, bpffs, self.interface.as_deref()).await?;
        if self.json {
            output::json(&attachments)?;
        } else if attachments.is_empty() {
            output::line("icmpctl is attached to no interface of this network namespace")?;
        } else {
            let mut rows = vec![
                ["INTERFACE", "STATE", "MODE", "PROGRAM", "SINCE", "FOLLOWED BY", "POLICY"]
                    .map(str::to_owned),
            ];
            rows.extend(attachments.iter().map(row));
            output::columns(&rows, &[])?;
            for note in attachments.iter().filter_map(Attachment::note) {
                output::line(&note)?;
            }
        }
        Ok(())
    }
}

fn row(attachment: &Attachment) -> [String; 7] {
    let dash = || "-".to_owned();
    let age =
        |since| SystemTime::now().duration_since(UNIX_EPOCH + Duration::from_secs(since)).unwrap_or_default();
    [
        attachment.interface.clone(),
        attachment.state.name().to_owned(),
        attachment.mode.map_or_else(dash, |mode| mode.name().to_owned()),
        attachment.program.map_or_else(dash, |id| id.to_string()),
        attachment.since.map_or_else(dash, |since| format!("{} ago", duration(age(since)))),
        attachment.follower.map_or_else(|| "nobody".to_owned(), |pid| format!("pid {pid}")),
        attachment
            .policy
            .as_ref()
            .map_or_else(|| "default".to_owned(), |policy| policy.display().to_string()),
    ]
}

/// The two largest units of a duration.
fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h{}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{}h", seconds / 86400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units() {
        let texts =
            [59, 60, 3599, 3600, 86399, 86400, 180_000].map(|seconds| duration(Duration::from_secs(seconds)));
        assert_eq!(texts, ["59s", "1m0s", "59m59s", "1h0m", "23h59m", "1d0h", "2d2h"]);
    }
}
