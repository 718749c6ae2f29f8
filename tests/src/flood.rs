//! A flood: echo requests that the kernel makes itself in the client's driver (BPF_PROG_TEST_RUN with live frames, Linux 5.18), from
//! as many sources as are wanted.

use std::time::{Duration, Instant};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, PerCpuArray},
    programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp, XdpMode},
};
use etherparse::{Ipv4Header, Ipv6Header};
use icmp_common::Family;

use crate::{
    frames::{ICMP6, IP, Ping4, Ping6},
    icmpctl,
    netns::{CLIENT_END, Lab},
};

/// Frames that are sent without a look at the clock.
const CHUNK: u32 = 1 << 16;
/// Bytes at the beginning of a frame that the generator writes anew each time.
const TEMPLATE: usize = 70;

/// A generator of echo requests.
pub struct Flood {
    object: Ebpf,
    family: Family,
    frame: Vec<u8>,
}

impl Flood {
    /// Makes one whose sources are the first of 10.0.0.0/8 or of 2001:db8:a::/96, so many; a power of two. Every one sends once before
    /// any sends again.
    #[must_use]
    pub fn new(family: Family, sources: u32) -> Self {
        assert!(sources.is_power_of_two());
        let (frame, source_at, checksum_at) = match family {
            Family::Ipv4 => {
                let ping = Ping4::default();
                let ip = Ipv4Header { source: [10, 0, 0, 0], ..ping.ip };
                (Ping4 { ip, ..ping }.frame(), IP + 12, IP + 10)
            }
            Family::Ipv6 => {
                let ping = Ping6::default();
                let source = [0x20, 0x01, 0x0d, 0xb8, 0, 0xa, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                let ip = Ipv6Header { source, ..ping.ip };
                (Ping6 { ip, ..ping }.frame(), IP + 20, ICMP6 + 2)
            }
        };
        let template: [u8; TEMPLATE] = frame[..TEMPLATE].try_into().unwrap();
        let (mask, source_at, checksum_at) = (sources - 1, source_at as u32, checksum_at as u32);
        let mut object = EbpfLoader::new()
            .override_global("SOURCES_MASK", &mask, true)
            .override_global("SOURCE_AT", &source_at, true)
            .override_global("CHECKSUM_AT", &checksum_at, true)
            .load_file(icmpctl::instruments())
            .unwrap();
        let map = object.map_mut("TEMPLATE").unwrap();
        Array::<_, [u8; TEMPLATE]>::try_from(map).unwrap().set(0, template, 0).unwrap();
        for program in ["generate", "sink"] {
            let program: &mut Xdp = object.program_mut(program).unwrap().try_into().unwrap();
            program.load().unwrap();
        }
        Self { object, family, frame }
    }

    /// Takes what is answered at the client's end, which must have no program, and counts it.
    pub fn count_replies(&mut self, lab: &Lab) {
        let sink: &mut Xdp = self.object.program_mut("sink").unwrap().try_into().unwrap();
        lab.client.enter(|| sink.attach(CLIENT_END, XdpMode::Driver)).unwrap();
    }

    /// How many replies have been counted.
    #[must_use]
    pub fn replies(&self) -> u64 {
        let map = PerCpuArray::<_, u64>::try_from(self.object.map("REPLIES").unwrap()).unwrap();
        map.get(&(self.family as u32), 0).unwrap().iter().sum()
    }

    /// Sends at least so many requests, and for at least so long, out of the client's end, which must have a native program; returns
    /// how many it sent.
    pub fn send(&mut self, lab: &Lab, requests: u64, time: Duration) -> u64 {
        let interface = lab.client.index(CLIENT_END);
        let generate: &mut Xdp = self.object.program_mut("generate").unwrap().try_into().unwrap();
        // `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let context = [0, self.frame.len() as u32, 0, interface, 0, 0].map(u32::to_ne_bytes);
        let frame = &*self.frame;
        lab.client.enter(|| {
            let begin = Instant::now();
            let mut sent = 0;
            while sent < requests || begin.elapsed() < time {
                let options = TestRunOptions {
                    data_in: Some(frame),
                    ctx_in: Some(context.as_flattened()),
                    repeat: CHUNK,
                    attrs: TestRunAttrs::new().xdp_live_frames(64),
                    ..TestRunOptions::new()
                };
                generate.test_run(options).unwrap();
                sent += u64::from(CHUNK);
            }
            sent
        })
    }
}
