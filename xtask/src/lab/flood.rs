//! A flood: echo requests made in the client's driver, as fast as one core makes them, and replies counted there.
//!
//! Frames enter through BPF_PROG_TEST_RUN with live frames (Linux 5.18): no socket, no stack, no ping on the
//! client's side, so the server's work is what is measured. Everything happens on one core.

use std::{
    fs,
    os::fd::AsFd as _,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread::sleep,
    time::Duration,
};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    maps::{Array, PerCpuArray, PerCpuValues},
    programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp},
    util::nr_cpus,
};
use icmp_common::{
    checksum,
    wire::icmp::{ECHO4, ECHO6},
};
use rustix::{
    process::setpriority_process,
    thread::{CpuSet, LinkNameSpaceType, move_into_link_name_space, sched_setaffinity},
    time::{ClockId, clock_gettime},
};

use super::network::{
    CLIENT, CLIENT_END, CLIENT_MAC, CLIENT4, CLIENT6, CROWD4, LINE_END, Network, SERVER, SERVER_END,
    SERVER_MAC, SERVER4, SERVER6,
};
use crate::ebpf::Objects;

/// Frames between two looks at whether somebody wants us to end: many, because after each chunk the kernel waits some 20 ms for
/// whoever might still use what it has set up for it. If frames have their pace, most are not due.
const CHUNK: u32 = 1 << 20;
const PACED_CHUNK: u32 = 1 << 24;
/// How many rounds a flood has; its number of requests is a multiple of it.
const ROUNDS: u32 = 10;
/// After a round without a reply for so long, no more are waited for.
const LOOK: Duration = Duration::from_millis(20);
/// How long replies may take to arrive once the last request is out.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// Bytes at the beginning of a frame that the generator writes anew each time.
const TEMPLATE: usize = 70;

/// Where an IPv4 frame has the last four bytes of its source address, and the checksum that covers them.
const SOURCE_AT: u32 = 14 + 12;
const CHECKSUM_AT: u32 = 14 + 10;

/// Many sources in place of the client, in IPv4.
#[derive(Clone, Copy)]
pub(crate) struct Crowd {
    /// How many; a power of two.
    pub(crate) sources: u32,
    /// How many more there are that send half of all frames together.
    pub(crate) heavy: u32,
    /// From one frame to the next; zero: as fast as one core makes them.
    pub(crate) gap: Duration,
}

/// Which family is flooded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flood {
    /// Echo requests of ICMP.
    Ipv4,
    /// Echo requests of ICMPv6.
    Ipv6,
}

/// What a flood is sent from.
pub(crate) struct Source {
    /// An echo request.
    frame: Vec<u8>,
    /// The number of the client's end.
    interface: u32,
}

/// What one round of a flood came to.
pub(crate) struct Round {
    /// Requests that went out.
    pub(crate) requests: u64,
    /// Replies that arrived.
    pub(crate) replies: u64,
    /// Errors that arrived.
    pub(crate) errors: u64,
    /// Time of all cores that it took.
    pub(crate) time: Duration,
}

/// What a flood came to.
pub(crate) struct Outcome {
    /// Replies that arrived.
    pub(crate) replies: u64,
    /// Nanoseconds of one core a reply, with all that it takes: generator, server, and the client's counting
    /// run in one thread's time. The fastest of the rounds: whatever else the machine is busy with only makes rounds
    /// slower.
    pub(crate) nanoseconds: f64,
}

impl Flood {
    /// The family's name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        }
    }

    /// An echo request with 56 bytes of data to the server's address, from the client's or, in IPv4, from `from`.
    fn request(self, from: &str) -> Result<Vec<u8>> {
        let mut message = vec![0; 64];
        message[4..8].copy_from_slice(&[0x1c, 0x3b, 0, 1]);
        for (number, byte) in message[8..].iter_mut().enumerate() {
            *byte = number as u8;
        }
        let mut frame = Vec::new();
        frame.extend(mac(SERVER_MAC)?);
        frame.extend(mac(CLIENT_MAC)?);
        let mut sum = 0;
        match self {
            Self::Ipv4 => {
                message[0] = ECHO4.request;
                frame.extend([0x08, 0x00]);
                let mut header = vec![0x45, 0, 0, 84, 0x1c, 0x3b, 0x40, 0, 64, 1, 0, 0];
                header.extend(from.parse::<std::net::Ipv4Addr>()?.octets());
                header.extend(SERVER4.parse::<std::net::Ipv4Addr>()?.octets());
                let checksum = !checksum::fold(checksum::sum(&header));
                header[10..12].copy_from_slice(&checksum.to_ne_bytes());
                frame.extend(header);
            }
            Self::Ipv6 => {
                message[0] = ECHO6.request;
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 64, 58, 64]);
                let mut addresses = CLIENT6.parse::<std::net::Ipv6Addr>()?.octets().to_vec();
                addresses.extend(SERVER6.parse::<std::net::Ipv6Addr>()?.octets());
                sum = checksum::sum(&addresses) + checksum::sum(&[0, 0, 0, 64, 0, 0, 0, 58]);
                frame.extend(addresses);
            }
        }
        let checksum = !checksum::fold(sum + checksum::sum(&message));
        message[2..4].copy_from_slice(&checksum.to_ne_bytes());
        frame.extend(message);
        Ok(frame)
    }
}

/// A MAC address as it is written, colons between its bytes.
fn mac(text: &str) -> Result<Vec<u8>> {
    text.split(':')
        .map(|byte| u8::from_str_radix(byte, 16))
        .collect::<Result<_, _>>()
        .context("a MAC address")
}

/// The programs on the client's side.
pub(crate) struct Instruments {
    object: Ebpf,
    crowd: Option<Crowd>,
}

impl Instruments {
    /// Loads them; the client alone sends, or a crowd.
    pub(crate) fn load(objects: &Objects, crowd: Option<Crowd>) -> Result<Self> {
        let path = &objects.instruments;
        let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let mask = crowd.map_or(0, |crowd| crowd.sources - 1);
        let heavy = crowd.map_or(0, |crowd| crowd.heavy);
        let gap = crowd.map_or(Ok(0), |crowd| u64::try_from(crowd.gap.as_nanos()))?;
        let loaded = aya::EbpfLoader::new()
            .btf(None)
            .override_global("SOURCES_MASK", &mask, true)
            .override_global("SOURCE_AT", &SOURCE_AT, true)
            .override_global("CHECKSUM_AT", &CHECKSUM_AT, true)
            .override_global("HEAVY_SOURCES", &heavy, true)
            .override_global("GAP", &gap, true)
            .load(&bytes);
        let mut object = loaded.with_context(|| format!("loading {}", path.display()))?;
        for name in ["pass", "discard", "minimal_echo", "generate", "sink", "hold"] {
            program(&mut object, name)?.load().with_context(|| format!("loading the program {name}"))?;
        }
        // Each core has its own way through the sources.
        let walk = object.map_mut("WALK").context("the instruments have no map WALK")?;
        let begins =
            (0..nr_cpus().map_err(|(_, error)| error)?).map(|cpu| (cpu as u32).wrapping_mul(0x9e37_79b9));
        PerCpuArray::<_, u32>::try_from(walk)?
            .set(0, PerCpuValues::try_from(begins.collect::<Vec<_>>())?, 0)
            .context("writing WALK")?;
        Ok(Self { object, crowd })
    }

    /// Attaches the program that passes everything to the client's end: without a native program there, veth
    /// would not take the server's replies.
    pub(crate) fn pass_on_client(&mut self, network: &Network) -> Result<()> {
        self.attach(network, "pass", CLIENT, CLIENT_END)
    }

    /// Attaches the program that passes everything to the server's end, which for the same reason needs one when
    /// the stack is to answer.
    pub(crate) fn pass_on_server(&mut self, network: &Network) -> Result<()> {
        self.attach(network, "pass", SERVER, SERVER_END)
    }

    /// Attaches another one to the server's end.
    pub(crate) fn put_on_server(&mut self, network: &Network, program: &str) -> Result<()> {
        self.attach(network, program, SERVER, SERVER_END)
    }

    /// Attaches the program that lets the generator send a client's requests to the end of the line.
    pub(crate) fn hold_on_line(&mut self, network: &Network) -> Result<()> {
        self.attach(network, "hold", CLIENT, LINE_END)
    }

    /// Attaches a program for as long as the interface exists, or until another one takes its place.
    fn attach(&mut self, network: &Network, name: &str, namespace: &str, interface: &str) -> Result<()> {
        let program = program(&mut self.object, name)?;
        // Another load of the instruments has pins of its own.
        let pin = network.bpffs().join(format!("{name}-{}", program.info()?.id()));
        if !pin.exists() {
            program.pin(&pin).with_context(|| format!("pinning {}", pin.display()))?;
        }
        let pin = pin.to_string_lossy();
        let link = ["-n", namespace, "-force", "link", "set", "dev", interface, "xdpdrv", "pinned", &pin];
        network.run("ip", &link).map(drop)
    }

    /// Sends `requests` from the client's end, in rounds, and counts what comes back.
    pub(crate) fn flood(&mut self, network: &Network, flood: Flood, requests: u32) -> Result<Outcome> {
        let source = self.prepare(network, flood)?;
        let mut outcome = Outcome { replies: 0, nanoseconds: f64::INFINITY };
        for _ in 0..ROUNDS {
            let Round { replies, time, .. } = self.round(network, &source, requests / ROUNDS, 1)?;
            outcome.replies += replies;
            outcome.nanoseconds = outcome.nanoseconds.min(time.as_secs_f64() * 1e9 / replies.max(1) as f64);
        }
        self.pass_on_client(network)?;
        Ok(outcome)
    }

    /// Sends from the client's end while something else happens; returns how many requests went out, and what happened. What comes
    /// back is counted on and on, until [`Self::pass_on_client`].
    pub(crate) fn flood_during<T>(
        &mut self,
        network: &Network,
        flood: Flood,
        happening: impl FnOnce(&Self) -> Result<T>,
    ) -> Result<(u64, T)> {
        let source = self.prepare(network, flood)?;
        let before = self.sent()?;
        let over = AtomicBool::new(false);
        let is_paced = self.crowd.is_some_and(|crowd| !crowd.gap.is_zero());
        let chunk = if is_paced { PACED_CHUNK } else { CHUNK };
        let chunks = std::iter::from_fn(|| (!over.load(Ordering::Relaxed)).then_some(chunk));
        let this = &*self;
        let (sent, happened) = std::thread::scope(|scope| {
            let sender = scope.spawn(|| this.send(network, &source, 0, chunks));
            let happened = happening(this);
            over.store(true, Ordering::Relaxed);
            (sender.join(), happened)
        });
        sent.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok((self.sent()? - before, happened?))
    }

    /// Makes generator and sink ready.
    pub(crate) fn prepare(&mut self, network: &Network, flood: Flood) -> Result<Source> {
        let frame = flood.request(if self.crowd.is_some() { CROWD4 } else { CLIENT4 })?;
        self.set_template(&frame)?;
        self.attach(network, "sink", CLIENT, CLIENT_END)?;
        let index = network.run_in(CLIENT, &["cat", &format!("/sys/class/net/{CLIENT_END}/ifindex")])?;
        let interface = index.trim().parse().context("reading the number of the client's end")?;
        Ok(Source { frame, interface })
    }

    /// One round, in which so many cores send as many requests each.
    pub(crate) fn round(
        &self,
        network: &Network,
        source: &Source,
        requests: u32,
        cores: usize,
    ) -> Result<Round> {
        let before = (self.replies()?, self.errors()?);
        let each = requests / cores as u32;
        let chunks = (0..each).step_by(CHUNK as usize).map(|sent| CHUNK.min(each - sent));
        let sent: Result<Vec<_>> = std::thread::scope(|scope| {
            let send = |core| {
                scope.spawn({
                    let chunks = chunks.clone();
                    move || self.send(network, source, core, chunks)
                })
            };
            let senders: Vec<_> = (0..cores).map(send).collect();
            senders
                .into_iter()
                .map(|sender| sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        });
        let requests = u64::from(each) * cores as u64;
        let answers = || Ok((self.replies()? - before.0, self.errors()? - before.1));
        let mut seen: (u64, u64) = answers()?;
        while seen.0 + seen.1 < requests {
            sleep(LOOK);
            let now: Result<_> = answers();
            let now = now?;
            if now == std::mem::replace(&mut seen, now) {
                break;
            }
        }
        Ok(Round { requests, replies: seen.0, errors: seen.1, time: sent?.into_iter().sum() })
    }

    /// Tells the generator how its frames begin.
    fn set_template(&mut self, frame: &[u8]) -> Result<()> {
        let template: [u8; TEMPLATE] = frame[..TEMPLATE].try_into()?;
        let map = self.object.map_mut("TEMPLATE").context("the instruments have no map TEMPLATE")?;
        Array::<_, [u8; TEMPLATE]>::try_from(map)?.set(0, template, 0).context("writing TEMPLATE")
    }

    /// Sends the frame over and over, in chunks, from a thread of its own that lives in the client's namespace and on one core; says
    /// what time it took that thread, in which the kernel does the rest of the work, too.
    fn send(
        &self,
        network: &Network,
        source: &Source,
        core: usize,
        chunks: impl Iterator<Item = u32> + Send,
    ) -> Result<Duration> {
        let generate = self.object.program("generate").context("the instruments have no program generate")?;
        let generate: &Xdp = generate.try_into()?;
        let Source { frame, interface } = source;
        let send_all = |network: &Network| -> Result<Duration> {
            let namespace = fs::File::open(Path::new("/run/netns").join(CLIENT))?;
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            // One core does it all, so that frames are used again where they were freed.
            let mut one = CpuSet::new();
            one.set(core);
            sched_setaffinity(None, &one)?;
            // Whatever else the machine is busy with is not to be seen in the flood of a crowd, during which nobody is in a hurry.
            if self.crowd.is_some() {
                setpriority_process(None, -20).context("giving the flood priority")?;
            }
            let begin = clock_gettime(ClockId::ThreadCPUTime);
            for repeat in chunks {
                network.check()?;
                // `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
                let context = [0, frame.len() as u32, 0, *interface, 0, 0].map(u32::to_ne_bytes).concat();
                generate.test_run(TestRunOptions {
                    data_in: Some(frame),
                    ctx_in: Some(&context),
                    repeat,
                    attrs: TestRunAttrs::new().xdp_live_frames(64),
                    ..TestRunOptions::new()
                })?;
            }
            Ok((clock_gettime(ClockId::ThreadCPUTime) - begin).try_into()?)
        };
        let sent = std::thread::scope(|scope| scope.spawn(|| send_all(network)).join());
        match sent {
            Ok(outcome) => outcome
                .context("sending a flood through BPF_PROG_TEST_RUN (live frames: Linux 5.18 or later)"),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Requests that have gone out so far.
    pub(crate) fn sent(&self) -> Result<u64> {
        let map = self.object.map("SENT").context("the instruments have no map SENT")?;
        let counts = PerCpuArray::<_, u64>::try_from(map)?.get(&0, 0).context("reading SENT")?;
        Ok(counts.iter().sum())
    }

    /// Errors that the client's end has seen so far.
    fn errors(&self) -> Result<u64> {
        let map = self.object.map("ERRORS").context("the instruments have no map ERRORS")?;
        let counts = PerCpuArray::<_, u64>::try_from(map)?.get(&0, 0).context("reading ERRORS")?;
        Ok(counts.iter().sum())
    }

    /// Replies that the client's end has seen so far.
    pub(crate) fn replies(&self) -> Result<u64> {
        let map = self.object.map("REPLIES").context("the instruments have no map REPLIES")?;
        let map = PerCpuArray::<_, u64>::try_from(map)?;
        let families = [0, 1].map(|family| map.get(&family, 0));
        let mut sum = 0;
        for counts in families {
            sum += counts.context("reading REPLIES")?.iter().sum::<u64>();
        }
        Ok(sum)
    }
}

fn program<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program =
        object.program_mut(name).with_context(|| format!("the instruments have no program {name}"))?;
    Ok(program.try_into()?)
}
