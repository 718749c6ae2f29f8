//! `icmpctl explain`: what becomes of a packet, and why. Nothing is counted, nothing consumed, nothing sent.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    net::IpAddr,
    path::{Path, PathBuf},
};

use icmp_common::{
    config::NextHop,
    reason::{Reason, Verdict},
    wire::ethernet::Mac,
};
use icmp_userspace::{
    explain::{
        capture::{Capture, Captured},
        host::HostState,
        loaded::Loaded,
        outcome::{Explanation, Outcome},
        packet::{Addresses, Packet, PacketError, neighbour},
    },
    kernel::{
        attach::{Places, Site},
        interface::Netlink,
        listing, privileges,
        trial::{Difference, LONGEST, SHORTEST},
    },
    observe::decode::Decoded,
    policy::{
        compile::{Interface, Tables},
        packet,
        slots::{Line, Slots},
    },
};
use serde::Serialize;

use super::{Usage, install::Compiled, output, progress::Progress, source::Source};

/// What can be typed behind `explain`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Its type, by name or number
    #[arg(value_name = "TYPE", required_unless_present_any = ["fragment", "pcap"])]
    kind: Option<String>,
    /// Its code, by name or number
    code: Option<String>,
    /// The interface that it comes to; may be left out if icmpctl is attached to one alone
    #[arg(long, value_name = "IFACE")]
    iface: Option<String>,
    /// Where it comes from
    #[arg(long, value_name = "ADDRESS", required_unless_present = "pcap")]
    from: Option<IpAddr>,
    /// Where it goes
    #[arg(long, value_name = "ADDRESS", required_unless_present = "pcap")]
    to: Option<IpAddr>,
    /// Length of the IP packet in bytes, header included
    #[arg(long, value_name = "N")]
    length: Option<u16>,
    /// TTL or hop limit
    #[arg(long, value_name = "N")]
    ttl: Option<u8>,
    /// DSCP, by number or name
    #[arg(long, value_name = "N", value_parser = packet::dscp)]
    dscp: Option<u8>,
    /// Number of the VLAN that it comes by
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4094))]
    vlan: Option<u16>,
    /// A fragment other than the first
    #[arg(long, conflicts_with = "kind")]
    fragment: bool,
    /// All packets of a capture file (pcap or pcapng) instead, each as if it came alone and now
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["kind", "from", "to", "length", "ttl", "dscp", "vlan", "fragment"]
    )]
    pcap: Option<PathBuf>,
    /// By a policy file that is not loaded, instead of by the program that is attached
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// As JSON; one object a line for packets of a capture
    #[arg(long)]
    json: bool,
}

/// What decides about packets.
struct Judge {
    by: By,
    /// What it is called.
    title: String,
    /// Its rules.
    lines: Vec<Line>,
    /// The MAC address of its interface.
    mac: [u8; 6],
    /// Whether that is made up.
    nowhere: bool,
}

enum By {
    /// The attached program, in a second instance.
    Loaded(Box<Loaded>),
    /// The host build, with these tables.
    Host(Box<Tables>),
}

/// What is told of one packet.
#[derive(Serialize)]
struct Told<'a> {
    program: &'a str,
    packet: Option<Decoded>,
    #[serde(flatten)]
    explanation: Explanation<'a>,
}

/// What is told of a packet of a capture.
#[derive(Serialize)]
struct ToldOne<'a> {
    number: u64,
    packet: Option<Decoded>,
    #[serde(flatten)]
    explanation: Option<Explanation<'a>>,
    /// Why nothing can be said.
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<&'static str>,
}

impl Arguments {
    pub(super) async fn run(&self, places: &Places) -> anyhow::Result<()> {
        output::log_to_stderr(false);
        let packet = if self.pcap.is_none() { Some(self.packet()?) } else { None };
        let capture = self.pcap.as_deref().map(Capture::open).transpose()?;
        let mut judge = match &self.policy {
            Some(file) => Judge::host(file, self.iface.as_deref()).await?,
            None => Judge::loaded(self.iface.as_deref(), places).await?,
        };
        match (packet, capture) {
            (Some(packet), _) => self.one(&mut judge, &packet),
            (None, Some(capture)) => self.all(&mut judge, capture),
            (None, None) => Ok(()),
        }
    }

    /// The packet that is described.
    fn packet(&self) -> Result<Packet, Usage> {
        let usage = |error: PacketError| Usage(error.to_string());
        let (Some(from), Some(to)) = (self.from, self.to) else {
            return Err(Usage("--from and --to say where the packet comes from and goes".to_owned()));
        };
        let addresses = Addresses::new(from, to).map_err(usage)?;
        let family = addresses.family();
        let message = self.kind.as_deref().map(|kind| packet::message(family, kind, self.code.as_deref()));
        let message = message.transpose().map_err(Usage)?;
        let ttl = self.ttl.unwrap_or_else(|| packet::usual_ttl(family, message));
        let (dscp, vlan) = (self.dscp.unwrap_or(0), self.vlan);
        let packet = Packet { addresses, message, length: self.length, ttl, dscp, vlan };
        // What can't be made is said before anything is asked of the kernel.
        packet.frame([0; 6]).map_err(usage)?;
        Ok(packet)
    }

    fn one(&self, judge: &mut Judge, packet: &Packet) -> anyhow::Result<()> {
        let frame = packet.frame(judge.mac)?;
        let outcome = judge.run(&frame)?;
        let packet = Decoded::of_frame(&frame);
        let explanation = outcome.explain(packet.as_ref(), &judge.lines);
        let told = Told { program: &judge.title, packet, explanation };
        if self.json { Ok(output::json(&told)?) } else { Ok(told.print()?) }
    }

    fn all(&self, judge: &mut Judge, mut capture: Capture) -> anyhow::Result<()> {
        if judge.nowhere {
            log::info!("no interface is named: all frames to one host are taken for frames to this one");
        }
        let mut sums = Sums::default();
        let mut out = io::BufWriter::new(io::stdout().lock());
        let outcome = (|| {
            while let Some(captured) = capture.next_packet()? {
                let told = judge.tell(captured)?;
                sums.add(&told);
                if self.json {
                    serde_json::to_writer(&mut out, &told).map_err(io::Error::from)?;
                    writeln!(out)?;
                } else {
                    told.print(&mut out)?;
                }
            }
            Ok(())
        })();
        // What could be read is told in any case.
        out.flush()?;
        drop(out);
        if !self.json {
            sums.print()?;
        }
        outcome
    }
}

impl Judge {
    /// A policy that is not loaded, for an interface or for none.
    async fn host(file: &Path, interface: Option<&str>) -> anyhow::Result<Self> {
        let source = Source::read(Some(file))?;
        source.warn();
        let policy = source.policy();
        let described = match interface {
            Some(name) => {
                let netlink = Netlink::open()?;
                netlink.describe(&netlink.by_name(name).await?, &policy.respond).await?
            }
            None => {
                if policy.respond.own {
                    log::info!("no interface is named: \"own\" stands for no address");
                }
                // An address that is nobody's (RFC 7042 2.1).
                Interface { mac: [2, 0, 0, 0, 0, 1], ..Interface::default() }
            }
        };
        let dynamic: Vec<_> =
            policy.sets.iter().filter(|set| set.dynamic).map(|set| set.name.as_str()).collect();
        if !dynamic.is_empty() {
            log::info!("dynamic sets are empty in a policy that is not loaded: {}", dynamic.join(", "));
        }
        if policy.respond.next_hop == NextHop::Fib {
            log::info!(
                "the routing table is not asked: each answer is taken to have a neighbour that it goes to"
            );
        }
        let slots = Slots::assign(policy, &Slots::default())?;
        let tables = Tables::compile(policy, &described, &slots)?;
        let place = interface.map_or_else(String::new, |name| format!(" on {name}"));
        Ok(Self {
            by: By::Host(Box::new(tables)),
            title: format!("{}{place}, not loaded", file.display()),
            lines: slots.lines(policy),
            mac: described.mac,
            nowhere: interface.is_none(),
        })
    }

    /// The program that is attached.
    async fn loaded(interface: Option<&str>, places: &Places) -> anyhow::Result<Self> {
        let progress = Progress::begin();
        let netlink = Netlink::open()?;
        let name = listing::only(&netlink, places, interface).await?;
        let mut site = Site::open(&netlink, &name, places).await?;
        let change = site.change("explain").await?;
        let program = change.must_run()?.program;
        let generation = change.generation_of(program)?;
        progress.stage("compiling");
        let source = Source::of_snapshot(&change.site().state().generation(program), &generation.source)?;
        let compiled = Compiled::with(&netlink, &change, &source, generation).await?;
        progress.stage("loading");
        let (trial, difference) = change.trial(super::OBJECT, &compiled.tables)?;
        drop((change, progress));
        privileges::drop_others(false)?;
        if let Some(difference) = difference {
            log::warn!("{}", told(&difference, &name, program));
        }
        let lines = compiled.generation.listing.rules;
        Ok(Self {
            by: By::Loaded(Box::new(Loaded::new(trial, &lines))),
            title: format!("{program} on {name}"),
            lines,
            mac: compiled.interface.mac,
            nowhere: false,
        })
    }

    fn run(&mut self, frame: &[u8]) -> anyhow::Result<Outcome> {
        match &mut self.by {
            By::Loaded(loaded) => Ok(loaded.run(frame)?),
            By::Host(tables) => {
                let mut state = HostState::new(tables);
                let parts = |mac| Mac::new(mac).parts();
                state.next_hop = Some(icmp_ebpf::NextHop {
                    source: parts(self.mac),
                    destination: parts(neighbour(self.mac)),
                });
                Ok(state.outcome(frame.to_vec()))
            }
        }
    }

    fn tell(&mut self, captured: Captured) -> anyhow::Result<ToldOne<'_>> {
        let Captured { number, mut frame, whole } = captured;
        let packet = Decoded::of_frame(&frame);
        let tries = matches!(self.by, By::Loaded(_));
        let skipped = match frame.len() {
            _ if !whole => Some("not captured as a whole"),
            length if tries && length < SHORTEST => Some("too short for the kernel to try out"),
            length if tries && length > LONGEST => Some("too long for the kernel to try out"),
            _ => None,
        };
        if skipped.is_some() {
            return Ok(ToldOne { number, packet, explanation: None, skipped });
        }
        if self.nowhere
            && let Some(to) = frame.first_chunk_mut::<6>()
            && to[0] & 1 == 0
        {
            *to = self.mac;
        }
        let outcome = self.run(&frame)?;
        let explanation = Some(outcome.explain(packet.as_ref(), &self.lines));
        Ok(ToldOne { number, packet, explanation, skipped })
    }
}

/// What follows from a difference.
fn told(difference: &Difference, interface: &str, program: u32) -> String {
    let why = match difference {
        Difference::Instructions => "was loaded by another build of icmpctl".to_owned(),
        Difference::Table(name) => {
            format!(
                "was loaded for other addresses than {interface} has now, or by another build of icmpctl ({name} differs)"
            )
        }
        Difference::Unknown(why) => format!("could not be compared with what is tried out here: {why}"),
    };
    format!(
        "program {program} on {interface} may decide otherwise, because it {why}; `icmpctl apply {interface} FILE` loads it anew"
    )
}

impl Told<'_> {
    fn print(&self) -> io::Result<()> {
        let Explanation { steps, verdict, reason, explanation, reply, .. } = &self.explanation;
        let mut rows = vec![["program".to_owned(), self.program.to_owned()]];
        let mut row = |name: &str, text: String| rows.push([name.to_owned(), text]);
        row("packet", self.packet.as_ref().map_or_else(|| "not IP".to_owned(), ToString::to_string));
        for step in steps {
            row(step.step, step.decision.clone());
        }
        row("verdict", (*verdict).to_owned());
        row(
            "reason",
            reason.map_or_else(|| (*explanation).to_owned(), |reason| format!("{reason}: {explanation}")),
        );
        if let Some(reply) = reply {
            row("reply", reply.to_string());
            if let Some(quoted) = &reply.quoted {
                row("quoted", quoted.to_string());
            }
        }
        output::columns(&rows, &[])
    }
}

impl ToldOne<'_> {
    fn print(&self, out: &mut impl io::Write) -> io::Result<()> {
        let width = |names: &mut dyn Iterator<Item = &'static str>| names.map(str::len).max().unwrap_or(0);
        let verdicts = width(&mut Verdict::ALL.iter().map(|verdict| verdict.name()));
        let reasons = width(&mut Reason::ALL.iter().map(|reason| reason.name()));
        let (verdict, reason, rule) = match &self.explanation {
            Some(explanation) => {
                let rule = explanation.rule.map_or_else(|| "-".to_owned(), |rule| rule.name());
                (explanation.verdict, explanation.reason.unwrap_or("-"), rule)
            }
            None => ("skipped", "-", self.skipped.unwrap_or("-").to_owned()),
        };
        let packet = self.packet.as_ref().map_or_else(|| "not IP".to_owned(), ToString::to_string);
        writeln!(out, "{:>6}  {verdict:<verdicts$}  {reason:<reasons$}  {rule:<14}  {packet}", self.number)
    }
}

/// How many packets of a capture had which verdict, for which reason.
#[derive(Default)]
struct Sums(BTreeMap<(&'static str, &'static str), u64>);

impl Sums {
    fn add(&mut self, told: &ToldOne<'_>) {
        let key = match &told.explanation {
            Some(explanation) => (explanation.verdict, explanation.reason.unwrap_or("not ICMP")),
            None => ("skipped", told.skipped.unwrap_or("-")),
        };
        *self.0.entry(key).or_default() += 1;
    }

    fn print(&self) -> io::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        output::line("")?;
        let mut rows = vec![["VERDICT", "REASON", "PACKETS"].map(str::to_owned)];
        rows.extend(self.0.iter().map(|((verdict, reason), packets)| {
            [(*verdict).to_owned(), (*reason).to_owned(), packets.to_string()]
        }));
        output::columns(&rows, &[2])
    }
}
