//! Capture files: pcap, in both byte orders, with micro- or nanoseconds, and pcapng. Frames of Ethernet come out, in their order.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use pcap_parser::{Block, Linktype, PcapBlockOwned, PcapError, create_reader, traits::PcapReaderIterator};
use thiserror::Error;

/// What is read at once, in bytes.
const BUFFER: usize = 64 << 10;
/// Longest block that is read, in bytes: more than any packet, and than what else captures hold.
const MAX_BLOCK: usize = 4 << 20;

/// A capture file while it is read.
pub struct Capture {
    reader: Box<dyn PcapReaderIterator + Send>,
    path: PathBuf,
    /// Link types, by the number of the interface; a classic file has one.
    links: Vec<Linktype>,
    /// Packets that have been read.
    number: u64,
}

/// A frame from a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// Its number, from 1.
    pub number: u64,
    /// Its bytes.
    pub frame: Vec<u8>,
    /// Whether all of them were captured.
    pub whole: bool,
}

/// A capture that can't be read on.
#[derive(Debug, Error)]
pub enum CaptureError {
    /// The system refused.
    #[error("opening {}: {error}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Something is wrong at the beginning, before any packet.
    #[error("{}: {what}", path.display())]
    Beginning {
        /// The file.
        path: PathBuf,
        /// What.
        what: String,
    },
    /// Something is wrong at or behind a packet.
    #[error("{}: packet {number}: {what}", path.display())]
    Packet {
        /// The file.
        path: PathBuf,
        /// The number of the packet that could not be read.
        number: u64,
        /// What.
        what: String,
    },
}

impl Capture {
    /// Opens a file.
    pub fn open(path: &Path) -> Result<Self, CaptureError> {
        let opening = |error| CaptureError::Open { path: path.to_owned(), error };
        let file = File::open(path).map_err(opening)?;
        if file.metadata().map_err(opening)?.is_dir() {
            return Err(opening(io::ErrorKind::IsADirectory.into()));
        }
        let reader = create_reader(BUFFER, file).map_err(|error| {
            let what = match error {
                PcapError::Eof | PcapError::Incomplete(_) | PcapError::UnexpectedEof => {
                    "it ends within its first header".to_owned()
                }
                PcapError::ReadError => "it can't be read".to_owned(),
                _ => "it is no capture file: neither pcap nor pcapng".to_owned(),
            };
            CaptureError::Beginning { path: path.to_owned(), what }
        })?;
        Ok(Self { reader, path: path.to_owned(), links: Vec::new(), number: 0 })
    }

    /// The next packet; `None` at the end.
    pub fn next_packet(&mut self) -> Result<Option<Captured>, CaptureError> {
        loop {
            let (consumed, step) = match self.reader.next() {
                Ok((consumed, block)) => (consumed, understand(&block, &mut self.links)),
                Err(PcapError::Eof) => return Ok(None),
                Err(PcapError::Incomplete(_)) => {
                    self.refill()?;
                    continue;
                }
                Err(PcapError::BufferTooSmall) => {
                    self.grow()?;
                    continue;
                }
                Err(error) => {
                    let what = match error {
                        PcapError::UnexpectedEof => "the file ends within it",
                        PcapError::ReadError => "the file can't be read on",
                        _ => "it makes no sense",
                    };
                    return Err(self.broken(what));
                }
            };
            match step {
                Ok(None) => self.reader.consume(consumed),
                Ok(Some((frame, whole))) => {
                    self.reader.consume(consumed);
                    self.number += 1;
                    return Ok(Some(Captured { number: self.number, frame, whole }));
                }
                Err(what) => return Err(self.broken(what)),
            }
        }
    }

    fn refill(&mut self) -> Result<(), CaptureError> {
        let before = self.reader.data().len();
        let refilled = self.reader.refill().is_ok();
        if !refilled {
            return Err(self.broken("the file can't be read on"));
        }
        // Neither more nor the end: the buffer is full.
        let full = self.reader.data().len() == before && !self.reader.reader_exhausted();
        if full { self.grow() } else { Ok(()) }
    }

    /// Makes room for the longest block; there is no more than that.
    fn grow(&mut self) -> Result<(), CaptureError> {
        if self.reader.grow(MAX_BLOCK) {
            Ok(())
        } else {
            Err(self.broken("it is said to be longer than a packet can be"))
        }
    }

    /// Something is wrong with the packet that comes next.
    fn broken(&self, what: impl Into<String>) -> CaptureError {
        CaptureError::Packet { path: self.path.clone(), number: self.number + 1, what: what.into() }
    }
}

/// The frame in a block, if it is one with a packet, and whether it is whole; an error if it can't be one of ours.
fn understand(
    block: &PcapBlockOwned<'_>,
    links: &mut Vec<Linktype>,
) -> Result<Option<(Vec<u8>, bool)>, String> {
    let (interface, data, captured, length) = match block {
        PcapBlockOwned::LegacyHeader(header) => {
            // The upper bits tell about checksums behind frames.
            *links = vec![Linktype(header.network.0 & 0xffff)];
            return Ok(None);
        }
        PcapBlockOwned::Legacy(packet) => (0, packet.data, packet.caplen, packet.origlen),
        PcapBlockOwned::NG(Block::SectionHeader(_)) => {
            links.clear();
            return Ok(None);
        }
        PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
            links.push(interface.linktype);
            return Ok(None);
        }
        PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
            (packet.if_id, packet.data, packet.caplen, packet.origlen)
        }
        PcapBlockOwned::NG(Block::SimplePacket(packet)) => {
            (0, packet.data, packet.origlen.min(packet.data.len() as u32), packet.origlen)
        }
        PcapBlockOwned::NG(_) => return Ok(None),
    };
    match links.get(interface as usize) {
        Some(&Linktype::ETHERNET) => {}
        Some(Linktype(other)) => {
            return Err(format!(
                "it was captured on a link of type {other}; icmpctl knows Ethernet alone, which is type 1"
            ));
        }
        None => return Err(format!("it is of interface {interface}, of which the file says nothing")),
    }
    let frame = data.get(..captured as usize).ok_or("it makes no sense")?;
    Ok(Some((frame.to_vec(), captured == length)))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// A classic file by the specification (draft-ietf-opsawg-pcap, 4 and 5), in one of the byte orders.
    fn classic(magic: u32, link: u32, packets: &[(&[u8], u32)], big: bool) -> Vec<u8> {
        let u32 = |number: u32| if big { number.to_be_bytes() } else { number.to_le_bytes() };
        let u16 = |number: u16| if big { number.to_be_bytes() } else { number.to_le_bytes() };
        let mut file = [&u32(magic)[..], &u16(2), &u16(4), &[0; 8], &u32(0x40000), &u32(link)].concat();
        for (bytes, length) in packets {
            for number in [1_700_000_000, 999_999_999, bytes.len() as u32, *length] {
                file.extend(u32(number));
            }
            file.extend(*bytes);
        }
        file
    }

    /// A block of a pcapng file (draft-ietf-opsawg-pcapng, 3.1).
    fn block(kind: u32, body: &[u8], big: bool) -> Vec<u8> {
        let u32 = |number: u32| if big { number.to_be_bytes() } else { number.to_le_bytes() };
        let padding = vec![0; body.len().next_multiple_of(4) - body.len()];
        let length = u32(12 + body.len().next_multiple_of(4) as u32);
        [&u32(kind)[..], &length, body, &padding, &length].concat()
    }

    /// A pcapng file with one interface.
    fn next_generation(link: u16, packets: &[(u32, &[u8], u32)], big: bool) -> Vec<u8> {
        let u32 = |number: u32| if big { number.to_be_bytes() } else { number.to_le_bytes() };
        let u16 = |number: u16| if big { number.to_be_bytes() } else { number.to_le_bytes() };
        let section = [&u32(0x1a2b_3c4d)[..], &u16(1), &u16(0), &[0xff; 8]].concat();
        let mut file = block(0x0a0d_0d0a, &section, big);
        file.extend(block(1, &[&u16(link)[..], &u16(0), &u32(0)].concat(), big));
        for (interface, bytes, length) in packets {
            let mut body: Vec<u8> =
                [*interface, 0, 0, bytes.len() as u32, *length].into_iter().flat_map(u32).collect();
            body.extend(*bytes);
            file.extend(block(6, &body, big));
        }
        file
    }

    fn read(bytes: &[u8]) -> Result<Vec<Captured>, String> {
        let mut file = tempfile::Builder::new().prefix("capture").tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let without_path = |error: CaptureError| {
            let text = error.to_string();
            text.replace(&file.path().display().to_string(), "FILE")
        };
        let mut capture = Capture::open(file.path()).map_err(without_path)?;
        let mut packets = Vec::new();
        while let Some(packet) = capture.next_packet().map_err(without_path)? {
            packets.push(packet);
        }
        Ok(packets)
    }

    const LONG: [u8; 61] = [7; 61];
    const CUT: [u8; 14] = [9; 14];

    fn expected() -> Vec<Captured> {
        vec![
            Captured { number: 1, frame: LONG.to_vec(), whole: true },
            Captured { number: 2, frame: CUT.to_vec(), whole: false },
        ]
    }

    #[test]
    fn every_format_is_read() {
        let packets: &[(&[u8], u32)] = &[(&LONG, 61), (&CUT, 1500)];
        for big in [false, true] {
            for magic in [0xa1b2_c3d4, 0xa1b2_3c4d] {
                assert_eq!(read(&classic(magic, 1, packets, big)).unwrap(), expected(), "{magic:x} {big}");
            }
            // The upper bits of the link type: four bytes of checksum behind each frame.
            assert_eq!(read(&classic(0xa1b2_c3d4, 0x2400_0001, packets, big)).unwrap(), expected());
            let packets: &[(u32, &[u8], u32)] = &[(0, &LONG, 61), (0, &CUT, 1500)];
            assert_eq!(read(&next_generation(1, packets, big)).unwrap(), expected(), "{big}");
        }
    }

    #[test]
    fn other_links_are_refused() {
        let error = read(&classic(0xa1b2_c3d4, 113, &[(&LONG, 61)], false)).unwrap_err();
        assert_eq!(
            error,
            "FILE: packet 1: it was captured on a link of type 113; icmpctl knows Ethernet alone, which is type 1"
        );
        assert!(read(&next_generation(276, &[(0, &LONG, 61)], false)).unwrap_err().contains("of type 276"));
        let error = read(&next_generation(1, &[(0, &LONG, 61), (5, &LONG, 61)], false)).unwrap_err();
        assert_eq!(error, "FILE: packet 2: it is of interface 5, of which the file says nothing");
    }

    /// Cut anywhere, a file gives the packets before the cut, or says where it ends.
    #[test]
    fn cut_files_say_where_they_end() {
        let file = classic(0xa1b2_c3d4, 1, &[(&LONG, 61), (&CUT, 1500)], false);
        assert_eq!(read(&[]).unwrap_err(), "FILE: it ends within its first header");
        assert_eq!(read(&file[..23]).unwrap_err(), "FILE: it ends within its first header");
        assert_eq!(read(&file[..24]).unwrap(), []);
        assert_eq!(read(&file[..25]).unwrap_err(), "FILE: packet 1: the file ends within it");
        assert_eq!(read(&file[..24 + 16 + 61]).unwrap(), expected()[..1]);
        assert_eq!(read(&file[..file.len() - 1]).unwrap_err(), "FILE: packet 2: the file ends within it");
        let file = next_generation(1, &[(0, &LONG, 61), (0, &CUT, 1500)], true);
        assert_eq!(read(&file[..file.len() - 1]).unwrap_err(), "FILE: packet 2: the file ends within it");
    }

    /// More than is read at once, and as much as there may be.
    #[test]
    fn long_packets_are_read() {
        for length in [BUFFER, 3 * BUFFER, MAX_BLOCK - 100] {
            let frame = vec![5; length];
            let packets =
                read(&classic(0xa1b2_c3d4, 1, &[(&LONG, 61), (&frame, length as u32)], false)).unwrap();
            assert_eq!((packets.len(), packets[1].frame.len()), (2, length));
        }
    }

    #[test]
    fn lies_about_lengths_are_found() {
        let mut file = classic(0xa1b2_c3d4, 1, &[(&LONG, 61)], false);
        file[24 + 8..24 + 12].copy_from_slice(&u32::MAX.to_le_bytes());
        file.resize(3 * MAX_BLOCK, 0);
        assert_eq!(read(&file).unwrap_err(), "FILE: packet 1: it is said to be longer than a packet can be");
        for at in 48..next_generation(1, &[(0, &LONG, 61)], false).len() {
            for byte in [0x00, 0x7f, 0xff] {
                let mut file = next_generation(1, &[(0, &LONG, 61)], false);
                file[at] = byte;
                // It ends, and does not panic.
                let _ = read(&file);
            }
        }
        assert_eq!(
            read(b"PK\x03\x04 and whatever follows").unwrap_err(),
            "FILE: it is no capture file: neither pcap nor pcapng"
        );
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(64))]

        /// Whatever follows a good beginning: the file ends, or something is wrong with it.
        #[test]
        fn garbage_is_no_trouble(
            big: bool,
            new: bool,
            keep in 0_usize..200,
            garbage in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
        ) {
            let file = if new {
                next_generation(1, &[(0, &LONG, 61), (0, &CUT, 1500)], big)
            } else {
                classic(0xa1b2_c3d4, 1, &[(&LONG, 61), (&CUT, 1500)], big)
            };
            let _ = read(&[&file[..keep.min(file.len())], &garbage].concat());
        }
    }

    #[test]
    fn what_is_no_file_is_told() {
        let error = Capture::open(Path::new("/")).err().unwrap().to_string();
        assert_eq!(error, "opening /: is a directory");
    }
}
