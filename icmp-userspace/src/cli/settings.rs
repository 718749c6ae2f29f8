//! What `run` and `attach` share: which policy, which mode, and the way from there to an attached program.

use std::path::PathBuf;

use anyhow::bail;
use clap::ValueEnum;
use icmp_userspace::{
    kernel::{
        attach::{Mode, Options, Outcome, Site},
        change::Change,
        interface::Netlink,
        state::Snapshot,
    },
    policy::compile::Interface,
};

use super::{
    install::{self, Compiled},
    progress::Progress,
    source::Source,
};

/// How to attach, as it is typed.
#[derive(clap::Args)]
pub(super) struct Settings {
    /// The interface
    pub(super) interface: String,
    /// The policy file; without one the interface's own addresses are answered
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Where the program runs: native in the driver, generic in the stack's entry
    #[arg(long, value_enum, default_value = "auto")]
    mode: ModeName,
    /// Replace another XDP program that is attached there
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum ModeName {
    /// Native where the driver takes it, else generic
    Auto,
    /// Native, or fail
    Native,
    /// Generic
    Generic,
}

impl Settings {
    /// Reads the policy, or takes the default.
    pub(super) fn source(&self) -> anyhow::Result<Source> {
        let progress = Progress::begin();
        progress.stage("reading the policy and its sets");
        let source = Source::read(self.policy.as_deref())?;
        drop(progress);
        source.warn();
        Ok(source)
    }

    /// How to attach, as it is meant.
    pub(super) const fn options(&self, follows: bool) -> Options {
        let mode = match self.mode {
            ModeName::Auto => Mode::Auto,
            ModeName::Native => Mode::Native,
            ModeName::Generic => Mode::Generic,
        };
        Options { mode, force: self.force, follows }
    }
}

/// Compiles the policy for the interface as it is now and attaches it; says on stderr what is noteworthy.
pub(super) async fn attach(
    netlink: &Netlink,
    site: &mut Site,
    source: &Source,
    options: &Options,
    verb: &str,
) -> anyhow::Result<(Outcome, Interface)> {
    let progress = Progress::begin();
    let mut change = site.change(verb).await?;
    refuse_to_forget(&change, source)?;
    progress.stage("compiling");
    let compiled = Compiled::following(netlink, &change, source).await?;
    progress.stage("loading");
    let save = |directory: &std::path::Path| source.save(directory);
    let outcome = change.attach(netlink, &compiled.to_install(Snapshot::Save(&save)), options).await?;
    drop((change, progress));
    let name = &site.interface.name;
    if let Some(why) = &outcome.why_generic {
        log::warn!("{name} runs in generic mode, at several times the cost a packet: {why}");
    }
    install::warn(name, source.policy(), &compiled.interface, options.follows);
    Ok((outcome, compiled.interface))
}

/// Refuses the default policy in the place of one from a file: nobody who leaves out `--policy` means that.
fn refuse_to_forget(change: &Change<'_>, source: &Source) -> anyhow::Result<()> {
    let running = change.running()?.and_then(|running| running.generation.source.policy);
    let Some(policy) = running.filter(|_| source.path().is_none()) else { return Ok(()) };
    let (name, policy) = (&change.site().interface.name, policy.display());
    bail!(
        "{name} runs the policy {policy}, and without --policy it would run the default one: name a policy with --policy, or \
         `icmpctl detach {name}` first"
    )
}

/// Says what is attached now.
pub(super) fn announce(site: &Site, outcome: &Outcome) {
    let Outcome { program, mode, replaced, .. } = outcome;
    let (name, mode) = (&site.interface.name, mode.name());
    match replaced {
        Some(old) => log::info!("{name}: program {program} replaces {old} ({mode} mode); its counters go on"),
        None => log::info!("{name}: program {program} attached in {mode} mode"),
    }
}
