//! Capture files as they are written: pcapng (draft-ietf-opsawg-pcapng) with one Ethernet interface, times in nanoseconds, and
//! what was decided about each packet as its comment.
//!
//! Only whole blocks are handed on, so that whoever reads along finds whole packets; after a failure [`Writer::whole`] says how
//! much of the output consists of such.

use std::io;

use super::captured::{Captured, Direction};

/// Types of blocks.
const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;

/// By which a reader tells the byte order.
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// Ethernet, among link types.
const ETHERNET: u16 = 1;

/// Codes of options. Those from 2 on mean another thing in each type of block.
const COMMENT: u16 = 1;
const SECTION_APPLICATION: u16 = 4;
const INTERFACE_NAME: u16 = 2;
const INTERFACE_RESOLUTION: u16 = 9;
const PACKET_FLAGS: u16 = 2;
const STATISTICS_BEGIN: u16 = 2;
const STATISTICS_END: u16 = 3;
const STATISTICS_RECEIVED: u16 = 4;
const STATISTICS_DROPPED: u16 = 5;

/// Times are counted in units of ten to the minus so much of a second.
const NANOSECONDS: u8 = 9;

/// So much is handed on at once, even if nobody asks for it.
const MOST_WAITING: usize = 1 << 20;

/// Writes a capture file.
pub struct Writer<W> {
    out: W,
    /// Whole blocks that have not been handed on.
    waiting: Vec<u8>,
    whole: u64,
}

/// What the end of a capture file tells.
#[derive(Clone, Copy, Debug)]
pub struct Statistics {
    /// When the capture began, in nanoseconds since 1970.
    pub begin: u64,
    /// When it ended.
    pub end: u64,
    /// Packets that were to be captured.
    pub received: u64,
    /// Packets among these that were lost on the way.
    pub dropped: u64,
}

impl<W: io::Write> Writer<W> {
    /// Begins a file about an interface, of whose frames `snaplen` bytes are captured.
    pub fn begin(out: W, interface: &str, snaplen: u32) -> io::Result<Self> {
        let mut writer = Self { out, waiting: Vec::new(), whole: 0 };
        writer.block(SECTION_HEADER, |block| {
            block.words(&[BYTE_ORDER]);
            // Version 1.0; the section's length is not known.
            block.halves(&[1, 0]);
            block.words(&[u32::MAX, u32::MAX]);
            block.option(SECTION_APPLICATION, concat!("icmpctl ", env!("CARGO_PKG_VERSION")).as_bytes());
            block.end_of_options();
        });
        writer.block(INTERFACE_DESCRIPTION, |block| {
            block.halves(&[ETHERNET, 0]);
            block.words(&[snaplen]);
            block.option(INTERFACE_NAME, interface.as_bytes());
            block.option(INTERFACE_RESOLUTION, &[NANOSECONDS]);
            block.end_of_options();
        });
        writer.flush()?;
        Ok(writer)
    }

    /// Adds a packet. It is seen at the next [`Self::flush`] at the latest.
    pub fn packet(&mut self, captured: &Captured<'_>) -> io::Result<()> {
        let Captured { time, direction, frame, length, judgement } = captured;
        let inbound_or_outbound: u32 = match direction {
            Direction::In => 1,
            Direction::Out => 2,
        };
        self.block(ENHANCED_PACKET, |block| {
            block.words(&[0]);
            block.time(*time);
            block.words(&[frame.len() as u32, *length]);
            block.padded(frame);
            block.option(COMMENT, judgement.to_string().as_bytes());
            block.option(PACKET_FLAGS, &inbound_or_outbound.to_ne_bytes());
            block.end_of_options();
        });
        if self.waiting.len() > MOST_WAITING { self.flush() } else { Ok(()) }
    }

    /// Ends the file.
    pub fn end(&mut self, statistics: &Statistics) -> io::Result<()> {
        let Statistics { begin, end, received, dropped } = statistics;
        self.block(INTERFACE_STATISTICS, |block| {
            block.words(&[0]);
            block.time(*end);
            for (code, time) in [(STATISTICS_BEGIN, begin), (STATISTICS_END, end)] {
                block.option(code, &halves_of(*time));
            }
            for (code, packets) in [(STATISTICS_RECEIVED, received), (STATISTICS_DROPPED, dropped)] {
                block.option(code, &packets.to_ne_bytes());
            }
            block.end_of_options();
        });
        self.flush()
    }

    /// Hands on what waits. After a failure, what could not be handed on is lost.
    pub fn flush(&mut self) -> io::Result<()> {
        let mut written = 0;
        let mut outcome = Ok(());
        while written < self.waiting.len() {
            match self.out.write(&self.waiting[written..]) {
                Ok(0) => outcome = Err(io::ErrorKind::WriteZero.into()),
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => outcome = Err(error),
            }
            if outcome.is_err() {
                break;
            }
        }
        self.whole += whole_blocks(&self.waiting[..written]) as u64;
        self.waiting.clear();
        outcome.and_then(|()| self.out.flush())
    }

    /// How many bytes of the output are whole blocks.
    pub const fn whole(&self) -> u64 {
        self.whole
    }

    /// Adds a block with what `fill` puts into it.
    fn block(&mut self, kind: u32, fill: impl FnOnce(&mut Block<'_>)) {
        let begin = self.waiting.len();
        let mut block = Block(&mut self.waiting);
        block.words(&[kind, 0]);
        fill(&mut block);
        // The length stands at both ends.
        let length = (self.waiting.len() - begin + size_of::<u32>()) as u32;
        self.waiting[begin + 4..begin + 8].copy_from_slice(&length.to_ne_bytes());
        self.waiting.extend(length.to_ne_bytes());
    }
}

/// How many of these bytes, which begin with a block, are whole blocks.
fn whole_blocks(bytes: &[u8]) -> usize {
    let mut end = 0;
    loop {
        let length = bytes[end..].get(4..8).and_then(|length| length.try_into().ok());
        let length = length.map_or(usize::MAX, |length| u32::from_ne_bytes(length) as usize);
        if length > bytes.len() - end {
            return end;
        }
        end += length;
    }
}

/// A time as blocks have it: the upper half first, whatever the byte order is.
fn halves_of(time: u64) -> [u8; 8] {
    let [a, b, c, d] = ((time >> 32) as u32).to_ne_bytes();
    let [e, f, g, h] = (time as u32).to_ne_bytes();
    [a, b, c, d, e, f, g, h]
}

/// A block while it is filled, in this machine's byte order. Everything in it begins at a multiple of four bytes.
struct Block<'a>(&'a mut Vec<u8>);

impl Block<'_> {
    fn halves(&mut self, numbers: &[u16; 2]) {
        self.0.extend(numbers.iter().flat_map(|number| number.to_ne_bytes()));
    }

    fn words(&mut self, numbers: &[u32]) {
        self.0.extend(numbers.iter().flat_map(|number| number.to_ne_bytes()));
    }

    fn time(&mut self, time: u64) {
        self.0.extend(halves_of(time));
    }

    fn padded(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
        let padding = bytes.len().next_multiple_of(4) - bytes.len();
        self.0.extend(&[0; 3][..padding]);
    }

    fn option(&mut self, code: u16, value: &[u8]) {
        // No text that is written here comes near to that.
        let value = &value[..value.len().min(u16::MAX.into())];
        self.halves(&[code, value.len() as u16]);
        self.padded(value);
    }

    fn end_of_options(&mut self) {
        self.halves(&[0, 0]);
    }
}

#[cfg(test)]
mod tests {
    use icmp_common::reason::Reason;
    use pcap_parser::{Block, PcapBlockOwned, PcapNGSlice, traits::PcapNGPacketBlock as _};

    use super::*;
    use crate::observe::captured::Judgement;

    const TIME: u64 = 1_700_000_000_123_456_789;

    fn captured(frame: &[u8], direction: Direction) -> Captured<'_> {
        let judgement = Judgement { reason: Reason::BadHeader, rule: None };
        Captured { time: TIME, direction, frame, length: 1500, judgement }
    }

    fn file() -> Vec<u8> {
        let mut file = Vec::new();
        let mut writer = Writer::begin(&mut file, "eth0", 61).unwrap();
        writer.packet(&captured(&[7; 61], Direction::In)).unwrap();
        writer.packet(&captured(&[9; 60], Direction::Out)).unwrap();
        writer.end(&Statistics { begin: TIME - 5, end: TIME + 5, received: 3, dropped: 1 << 40 }).unwrap();
        assert_eq!(writer.whole(), file.len() as u64);
        file
    }

    /// What somebody else's reader finds; tests/tests/pcapng.rs has Wireshark's.
    #[test]
    fn blocks_are_read_back() {
        let file = file();
        let blocks = PcapNGSlice::from_slice(&file).unwrap();
        let told: Vec<_> = blocks
            .map(|block| match block.unwrap() {
                PcapBlockOwned::NG(block) => tell(&block),
                _ => panic!("a classic file"),
            })
            .collect();
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            told,
            [
                format!("section 1.0, icmpctl {version}"),
                "interface eth0, link 1, snaplen 61, 10^-9 s".to_owned(),
                format!("packet at {TIME}, 61 of 1500 bytes, malformed, reason bad-header, flags 1"),
                format!("packet at {TIME}, 60 of 1500 bytes, malformed, reason bad-header, flags 2"),
                format!("statistics of {}: from {} to {}, 3, {}", TIME + 5, TIME - 5, TIME + 5, 1_u64 << 40),
            ]
        );
    }

    fn tell(block: &Block<'_>) -> String {
        let text = |options: &[pcap_parser::PcapNGOption<'_>], code: u16| {
            let option = options.iter().find(|option| option.code.0 == code).unwrap();
            String::from_utf8(option.as_bytes().unwrap().to_vec()).unwrap()
        };
        let number = |options: &[pcap_parser::PcapNGOption<'_>], code: u16| {
            let option = options.iter().find(|option| option.code.0 == code).unwrap();
            u64::from_le_bytes(option.as_bytes().unwrap().try_into().unwrap())
        };
        let time = |number: u64| number.rotate_left(32);
        match block {
            Block::SectionHeader(block) => {
                format!(
                    "section {}.{}, {}",
                    block.major_version,
                    block.minor_version,
                    text(&block.options, 4)
                )
            }
            Block::InterfaceDescription(block) => {
                let (name, link) = (text(&block.options, 2), block.linktype.0);
                format!(
                    "interface {name}, link {link}, snaplen {}, 10^-{} s",
                    block.snaplen, block.if_tsresol
                )
            }
            Block::EnhancedPacket(block) => {
                let time = u64::from(block.ts_high) << 32 | u64::from(block.ts_low);
                let byte = if block.caplen == 61 { 7 } else { 9 };
                assert!(block.packet_data().iter().all(|other| *other == byte));
                let flags = block.options.iter().find(|option| option.code.0 == 2).unwrap();
                let flags = u32::from_le_bytes(flags.as_bytes().unwrap().try_into().unwrap());
                let comment = text(&block.options, 1);
                format!(
                    "packet at {time}, {} of {} bytes, {comment}, flags {flags}",
                    block.caplen, block.origlen
                )
            }
            Block::InterfaceStatistics(block) => {
                let at = u64::from(block.ts_high) << 32 | u64::from(block.ts_low);
                let [begin, end] = [2, 3].map(|code| time(number(&block.options, code)));
                let [received, dropped] = [4, 5].map(|code| number(&block.options, code));
                format!("statistics of {at}: from {begin} to {end}, {received}, {dropped}")
            }
            _ => "something else".to_owned(),
        }
    }

    /// Takes so many bytes, at most `most` at once, and then none.
    struct Full {
        taken: Vec<u8>,
        room: usize,
        most: usize,
    }

    impl io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let length = bytes.len().min(self.room - self.taken.len()).min(self.most);
            if length == 0 && !bytes.is_empty() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.taken.extend(&bytes[..length]);
            Ok(length)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Wherever there is no more room, what is whole ends with a packet, and begins like the file that found room.
    #[test]
    fn what_a_full_disk_has_taken_is_known_to_the_block() {
        let all = file();
        let header = Writer::begin(Vec::new(), "eth0", 61).unwrap().whole() as usize;
        let frame = [7; 61];
        let packet = {
            let mut writer = Writer::begin(Vec::new(), "eth0", 61).unwrap();
            writer.packet(&captured(&frame, Direction::In)).unwrap();
            writer.flush().unwrap();
            writer.whole() as usize - header
        };
        for room in header..header + 3 * packet {
            for most in [7, usize::MAX] {
                let full = Full { taken: Vec::new(), room, most };
                let mut writer = Writer::begin(full, "eth0", 61).unwrap();
                for _ in 0..3 {
                    writer.packet(&captured(&frame, Direction::In)).unwrap();
                }
                let error = writer.flush().unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::StorageFull);
                assert_eq!(writer.whole() as usize, header + (room - header) / packet * packet);
                assert_eq!(writer.out.taken.len(), room);
                assert_eq!(writer.out.taken[..header], all[..header]);
            }
        }
    }
}
