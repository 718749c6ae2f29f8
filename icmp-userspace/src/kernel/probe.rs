//! What the kernel can do, found out by trying: tiny programs and maps are loaded, and nothing is attached.

use std::{fs, io, path::PathBuf};

use aya::util::online_cpus;
use rustix::system::uname;

use super::{
    bpf::{try_link_update, try_map, try_program},
    clock,
    error::Error,
    object,
    pins::is_bpffs,
    privileges, release,
};

/// What a kernel may be able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ability {
    /// To run XDP programs.
    Programs,
    /// To have values of more than 4 MiB in a map.
    Tables,
    /// To compare and swap in BPF programs.
    CompareAndSwap,
    /// To tell BPF programs the time in TAI.
    Tai,
    /// To put another program behind a link.
    LinkUpdate,
    /// To hand events to user space through a ring buffer.
    RingBuffer,
    /// To give XDP packets in several buffers.
    Frags,
}

impl Ability {
    /// All of them, that first without which there is none of the others.
    pub const ALL: [Self; 7] = [
        Self::Programs,
        Self::Tables,
        Self::CompareAndSwap,
        Self::Tai,
        Self::LinkUpdate,
        Self::RingBuffer,
        Self::Frags,
    ];

    /// Tries it; nothing stays of that.
    fn attempt(self) -> io::Result<()> {
        match self {
            Self::Programs => try_program(&[R0_IS_PASS, EXIT], 0).map(|_| ()),
            Self::Tables => try_map(ARRAY, 4, (4 << 20) + 8, 1),
            Self::CompareAndSwap => try_program(&COMPARE_AND_SWAP, 0).map(|_| ()),
            Self::Tai => try_program(&[CALL_TAI, R0_IS_PASS, EXIT], 0).map(|_| ()),
            Self::LinkUpdate => try_link_update(),
            // As large as the largest pages are that it has to be made of.
            Self::RingBuffer => try_map(RING_BUFFER, 0, 0, 64 << 10),
            Self::Frags => try_program(&[R0_IS_PASS, EXIT], HAS_FRAGS).map(|_| ()),
        }
    }
}

/// `linux/bpf.h`: types of maps, and a flag for loading programs.
const ARRAY: u32 = 2;
const RING_BUFFER: u32 = 27;
const HAS_FRAGS: u32 = 1 << 5;

/// An instruction: operation, registers, offset and immediate value, as `struct bpf_insn` has them.
const fn instruction(operation: u8, to: u8, from: u8, offset: i16, value: i32) -> u64 {
    let [offset0, offset1] = offset.to_ne_bytes();
    let [value0, value1, value2, value3] = value.to_ne_bytes();
    // The registers are two bit fields, of which the byte order says which comes first.
    let registers = if cfg!(target_endian = "little") { from << 4 | to } else { to << 4 | from };
    u64::from_ne_bytes([operation, registers, offset0, offset1, value0, value1, value2, value3])
}

/// `r0 = XDP_PASS`, the program's end, and `r0 = bpf_ktime_get_tai_ns()`.
const R0_IS_PASS: u64 = instruction(0xb7, 0, 0, 0, 2);
const EXIT: u64 = instruction(0x95, 0, 0, 0, 0);
const CALL_TAI: u64 = instruction(0x85, 0, 0, 0, 208);

/// `*(u64 *)(r10 - 8) = 0; r0 = 0; r1 = 1; r0 = cmpxchg(r10 - 8, r0, r1)`.
const COMPARE_AND_SWAP: [u64; 6] = [
    instruction(0x7a, 10, 0, -8, 0),
    instruction(0xb7, 0, 0, 0, 0),
    instruction(0xb7, 1, 0, 0, 1),
    instruction(0xdb, 10, 1, -8, 0xf1),
    R0_IS_PASS,
    EXIT,
];

/// What is to be known of a kernel, and of what it lets this process do.
#[derive(Debug)]
pub struct Kernel {
    /// What it calls itself.
    pub release: String,
    /// The architecture.
    pub machine: String,
    /// The capabilities that this process lacks.
    pub lacked: Vec<&'static str>,
    /// What came of trying; nothing without the capabilities.
    pub abilities: Vec<(Ability, io::Result<()>)>,
    /// Whether programs become machine code; `None` if none could be loaded.
    pub is_jitted: Option<bool>,
    /// `net.core.bpf_jit_harden`, where it can be seen: in the first network namespace, by root.
    pub jit_harden: Option<u32>,
    /// Whether it tells BPF programs about its own types.
    pub has_btf: bool,
    /// Where pins go.
    pub bpffs: PathBuf,
    /// Whether they can.
    pub has_bpffs: bool,
    /// How many CPUs run.
    pub cpus: usize,
    /// How many jiffies make a second.
    pub hz: u32,
    /// How many seconds TAI is ahead of UTC, as far as the kernel knows; 0 if nobody has told it.
    pub tai_offset: u32,
    /// Whether the stack answers no pings, over IPv4 and IPv6, in this network namespace.
    pub ignores_echo: [bool; 2],
    /// Whether the program that would be attached takes packets in several buffers.
    pub program_takes_frags: bool,
}

impl Kernel {
    /// Finds out. `object` is the kernel half's object file.
    pub fn probe(bpffs: PathBuf, object: &[u8]) -> Result<Self, Error> {
        let lacked = privileges::lacked()?;
        let (mut abilities, mut is_jitted) = (Vec::new(), None);
        if lacked.is_empty() {
            abilities.extend(Ability::ALL.map(|ability| (ability, ability.attempt())));
            is_jitted = try_program(&[R0_IS_PASS, EXIT], 0).ok().map(|bytes| bytes > 0);
        }
        Ok(Self {
            release: release::running(),
            machine: uname().machine().to_string_lossy().into_owned(),
            lacked,
            abilities,
            is_jitted,
            jit_harden: setting("core/bpf_jit_harden"),
            has_btf: fs::exists("/sys/kernel/btf/vmlinux").unwrap_or(false),
            has_bpffs: is_bpffs(&bpffs),
            bpffs,
            cpus: online_cpus().map_or(1, |cpus| cpus.len()),
            hz: clock::hz(),
            tai_offset: clock::tai_offset(),
            ignores_echo: ["ipv4/icmp_echo_ignore_all", "ipv6/icmp/echo_ignore_all"]
                .map(|name| setting(name).is_some_and(|value| value != 0)),
            program_takes_frags: object::takes_frags(object),
        })
    }
}

/// A number below `/proc/sys/net`, of this network namespace.
pub(super) fn setting(name: &str) -> Option<u32> {
    fs::read_to_string(format!("/proc/sys/net/{name}")).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes that LLVM's assembler makes of the same instructions.
    #[test]
    fn instructions_are_encoded_as_compilers_do() {
        let [.., swap, _, _] = COMPARE_AND_SWAP;
        for (instruction, expected) in [
            (R0_IS_PASS, [0xb7, 0, 0, 0, 2, 0, 0, 0]),
            (swap, [0xdb, 0x1a, 0xf8, 0xff, 0xf1, 0, 0, 0]),
            (CALL_TAI, [0x85, 0, 0, 0, 0xd0, 0, 0, 0]),
        ] {
            assert_eq!(instruction.to_le(), u64::from_le_bytes(expected));
        }
    }
}
