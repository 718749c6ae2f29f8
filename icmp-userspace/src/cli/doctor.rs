//! `icmpctl doctor`: what this kernel, its drivers and interfaces can do, and what that means. Nothing is attached or changed.

use std::collections::BTreeMap;

use anyhow::bail;
use icmp_userspace::{
    doctor::{Finding, Level, about_interface, about_kernel, in_short, worst},
    kernel::{attach::Places, device::devices, interface::Netlink, probe::Kernel},
};
use serde::Serialize;

use super::output::{self, Colour};

/// What can be typed behind `doctor`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// All about this interface, too; without it a line for each
    interface: Option<String>,
    /// As JSON, all about each interface
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    kernel: Vec<Finding>,
    interfaces: BTreeMap<String, Vec<Finding>>,
}

impl Arguments {
    pub(super) async fn run(&self, places: &Places) -> anyhow::Result<()> {
        let netlink = Netlink::open()?;
        let kernel = Kernel::probe(places.bpffs.clone(), super::OBJECT)?;
        let devices = devices(&netlink, places, self.interface.as_deref()).await?;
        let about = about_kernel(&kernel);
        let mut level = worst(&about);
        if self.interface.is_some() {
            let of_interface = devices.iter().map(|device| worst(&about_interface(device, &kernel)));
            level = of_interface.fold(level, Level::max);
        }
        if self.json {
            let interfaces = devices
                .iter()
                .map(|device| (device.name.clone(), about_interface(device, &kernel)))
                .collect();
            output::json(&Report { kernel: about, interfaces })?;
        } else {
            print("this kernel", about.iter().map(|finding| (finding.about, finding)))?;
            if self.interface.is_some() {
                for device in &devices {
                    let findings = about_interface(device, &kernel);
                    print(&device.name, findings.iter().map(|finding| (finding.about, finding)))?;
                }
            } else {
                let lines: Vec<_> =
                    devices.iter().map(|device| (&*device.name, in_short(device, &kernel))).collect();
                print("interfaces", lines.iter().map(|(name, line)| (*name, line)))?;
                output::line("\n`icmpctl doctor INTERFACE` says all about one of them")?;
            }
        }
        if level == Level::Problem {
            bail!("there are problems that keep icmpctl from working here: see above");
        }
        Ok(())
    }
}

/// How wide the columns of levels and of what was looked at are.
const LEVELS: usize = 7;
const ABOUT: usize = 16;

/// One line for each finding; below it, what it means and what to do, unless all is well.
fn print<'a>(title: &str, findings: impl Iterator<Item = (&'a str, &'a Finding)>) -> std::io::Result<()> {
    output::line(title)?;
    for (about, finding) in findings {
        let Finding { level, found, meaning, advice, .. } = finding;
        let colour = match level {
            Level::Ok => Colour::Green,
            Level::Note => Colour::Yellow,
            Level::Problem => Colour::Red,
        };
        let word = output::coloured(&format!("{:LEVELS$}", level.name()), colour);
        let first = format!("  {word}  {about:ABOUT$}  {found}");
        let (same, below) = if *level == Level::Ok { (meaning, &None) } else { (&None, meaning) };
        let more = same.as_ref().map(|meaning| format!(": {meaning}")).unwrap_or_default();
        output::line(&format!("{first}{more}"))?;
        let advice = advice.as_ref().map(|advice| format!("-> {advice}"));
        for text in below.iter().chain(&advice) {
            output::line(&format!("{:indent$}{text}", "", indent = 2 + LEVELS + 2 + ABOUT + 2))?;
        }
    }
    Ok(())
}
