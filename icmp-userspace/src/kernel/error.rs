//! What can go wrong between us and the kernel: what was being done, to what, and what to do next.

use std::{io, path::PathBuf};

use thiserror::Error;

use super::release;

/// A failed piece of work on an interface.
#[derive(Debug, Error)]
pub enum Error {
    /// There is no such interface.
    #[error("there is no interface {name} in this network namespace; `ip link` lists those there are")]
    NoInterface {
        /// What was asked for.
        name: String,
    },
    /// The interface has no MAC address.
    #[error("{name} is not an Ethernet interface; icmpctl answers Ethernet frames only")]
    NotEthernet {
        /// The interface.
        name: String,
    },
    /// There is no such network namespace.
    #[error("entering the network namespace {name}: {error}; `ip netns list` lists those there are")]
    Namespace {
        /// Its name.
        name: String,
        /// Why it can't be entered.
        error: io::Error,
    },
    /// Privileges are missing.
    #[error(
        "this needs the capabilities {needed}; this process lacks {missing}: run it as root, for example with sudo"
    )]
    Privileges {
        /// All that are needed.
        needed: &'static str,
        /// Those that are missing.
        missing: String,
    },
    /// No BPF file system.
    #[error(
        "no BPF file system is mounted at {}, which keeps the program attached when icmpctl ends; mount one with \
         `mount -t bpf bpf {}`, or name another with --bpffs (under `ip netns exec` it is out of sight: use --netns instead)",
        path.display(), path.display()
    )]
    NoBpffs {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The kernel lacks what we need.
    #[error(
        "this kernel can't {what}: {error}; it is Linux {}, and icmpctl needs Linux {}.{} or later with CONFIG_BPF_SYSCALL, {}; \
         `icmpctl doctor` says what is missing", release::running(), release::OLDEST.0, release::OLDEST.1, release::WHY
    )]
    OldKernel {
        /// What it can't do.
        what: &'static str,
        /// What it said.
        error: io::Error,
    },
    /// The verifier refused the program.
    #[error(
        "the kernel's verifier refused the program ({error}); its log is in {}: please report it, with the kernel's \
         version", log.display()
    )]
    Verifier {
        /// What the kernel said.
        error: io::Error,
        /// The file with the verifier's log.
        log: PathBuf,
    },
    /// The loader failed.
    #[error("loading the program: {0}")]
    Load(String),
    /// The binary has no usable program in it.
    #[error(
        "the program that this icmpctl carries is of ABI version {found}, where {expected} is expected: rebuild it"
    )]
    Abi {
        /// What it carries.
        found: u32,
        /// What it should carry.
        expected: u32,
    },
    /// Somebody else's program is there.
    #[error(
        "another XDP program (id {id}{}) is attached to {interface}; look at it with `bpftool prog show id {id}`, \
         detach it, or replace it with --force", owner.as_ref().map(|owner| format!(", {owner}")).unwrap_or_default()
    )]
    Foreign {
        /// The interface.
        interface: String,
        /// The program's id.
        id: u32,
        /// Whose it is, if that can be said.
        owner: Option<String>,
    },
    /// Something that is not ours is where our pins should be.
    #[error("{} is not icmpctl's: {why}; move it away, or name another BPF file system with --bpffs", path.display())]
    ForeignPin {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Native mode was demanded and refused.
    #[error(
        "{interface} refuses native mode: {error}{}; use --mode generic, or --mode auto to fall back by itself; `icmpctl \
         doctor {interface}` says what the driver can do",
        hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default()
    )]
    NativeRefused {
        /// The interface.
        interface: String,
        /// What the driver said.
        error: io::Error,
        /// What it may mean.
        hint: Option<String>,
    },
    /// Our program is attached in another mode than the one that is asked for.
    #[error(
        "icmpctl is attached to {interface} in another mode, which can't be changed in place; detach it first: `icmpctl detach {interface}`"
    )]
    OtherMode {
        /// The interface.
        interface: String,
    },
    /// The lock is held.
    #[error("another icmpctl ({holder}) is working on {interface}; wait for it or end it")]
    Locked {
        /// The interface.
        interface: String,
        /// Process id and command of the holder.
        holder: String,
    },
    /// Nothing of ours is attached.
    #[error("icmpctl is not attached to {interface}; `icmpctl status` lists where it is")]
    NotAttached {
        /// The interface.
        interface: String,
    },
    /// No interface can be meant.
    #[error("icmpctl is attached to no interface of this network namespace; `icmpctl attach` attaches it")]
    Nowhere,
    /// Several interfaces can be meant.
    #[error("icmpctl is attached to several interfaces ({}); name the one that is meant", interfaces.join(", "))]
    Several {
        /// Them.
        interfaces: Vec<String>,
    },
    /// The link has gone since it was looked at.
    #[error(
        "the program was detached from {interface} meanwhile; `icmpctl attach {interface}` attaches it again"
    )]
    Detached {
        /// The interface.
        interface: String,
    },
    /// A policy waits for confirmation.
    #[error(
        "the policy on {interface} goes in {left} s unless it is confirmed; first `icmpctl confirm {interface}`, or \
         `icmpctl confirm {interface} --rollback` for the former one"
    )]
    Unconfirmed {
        /// The interface.
        interface: String,
        /// Seconds that are left.
        left: u64,
    },
    /// Nothing waits for confirmation.
    #[error("no policy on {interface} waits for confirmation: what runs stays; `icmpctl status` shows it")]
    NothingPending {
        /// The interface.
        interface: String,
    },
    /// Something in the state directory is not as we wrote it.
    #[error("{} makes no sense: {why}; move it away", path.display())]
    BrokenState {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The state of a program is not there.
    #[error("nothing is known of the policy of program {program} on {interface}: {} is missing; `icmpctl apply {interface} FILE` puts one in place", path.display())]
    NoState {
        /// The interface.
        interface: String,
        /// The program.
        program: u32,
        /// Where its state should be.
        path: PathBuf,
    },
    /// A frame that no trial run takes.
    #[error("the kernel tries out frames of {least} to {most} bytes alone, and this one has {length}")]
    FrameLength {
        /// How long it is.
        length: usize,
        /// How long it has to be.
        least: usize,
        /// How long it may be.
        most: usize,
    },
    /// Too many entries in dynamic sets.
    #[error("the dynamic sets would hold {count} different {family} prefixes; {most} are the most")]
    SetsFull {
        /// The family.
        family: &'static str,
        /// How many there would be.
        count: usize,
        /// How many there may be.
        most: u32,
    },
    /// A policy is in place, and something went wrong afterwards.
    #[error("the new policy is in place, but tidying up behind it failed: {error}")]
    Untidy {
        /// What went wrong.
        error: Box<Error>,
    },
    /// Anything else that the system refused.
    #[error("{what}: {error}")]
    System {
        /// What was being done, to what.
        what: String,
        /// Why it failed.
        error: io::Error,
    },
}

/// Says what was being done when the system refused.
pub(crate) trait Doing<T> {
    /// Adds `what` to an error.
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|error| Error::System { what: what(), error: error.into() })
    }
}
