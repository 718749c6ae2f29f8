//! Ring buffers: reading what the kernel half puts there.
//!
//! A ring buffer of the kernel (`BPF_MAP_TYPE_RINGBUF`) has one consumer, who moves the place on up to which all has been read; what
//! lies behind it is free. This reads it without: it keeps a place of its own, and moves the consumer's on only if it is the consumer.
//! So any number of readers can look on, and see what others have consumed as long as nothing else lies there; whoever is too slow
//! is told that he has missed something. The consumer's place is moved on behind a record when the next one is asked for: a consumer who
//! is killed loses none, and the one after him may see the last one again.
//!
//! Layout (`kernel/bpf/ringbuf.c`): a page with the consumer's place, a page with the producer's, then the data, mapped twice in a row
//! so that every record lies in one piece. A record is a length of 4 bytes, whose upper bits say that it is not complete yet or to be
//! skipped, 4 bytes that are not for us, and the data, rounded up to 8 bytes.

use std::{
    io,
    os::fd::AsFd,
    path::Path,
    ptr::{self, NonNull},
    sync::atomic::{AtomicU32, AtomicU64, Ordering, fence},
};

use aya::maps::MapData;
use rustix::{
    mm::{MapFlags, ProtFlags, mmap, munmap},
    param::page_size,
};

use super::error::{Doing as _, Error};

/// Not complete yet (`BPF_RINGBUF_BUSY_BIT`), and to be skipped (`BPF_RINGBUF_DISCARD_BIT`).
const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
/// What stands before each record (`BPF_RINGBUF_HDR_SZ`).
const HEADER: u64 = 8;

/// A ring buffer that is read.
pub struct Ring {
    map: MapData,
    consumer: Mapping,
    /// The producer's place, and the data, twice.
    producer: Mapping,
    size: u64,
    page: usize,
    /// Up to where it has been read.
    place: u64,
    consumes: bool,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// A record, which has been copied.
    Record,
    /// So many bytes of records have been overwritten before they were read.
    Missed(u64),
    /// Nothing yet.
    Nothing,
}

impl Ring {
    /// Opens a ring buffer that is pinned; reading begins with the first record that nobody has consumed. Who `consumes` has to see
    /// to it that he is the only one.
    pub fn open(pin: &Path, consumes: bool) -> Result<Self, Error> {
        let doing = || format!("opening the ring buffer {}", pin.display());
        let map = MapData::from_pin(pin).map_err(io::Error::other).doing(doing)?;
        let size = map.info().map_err(io::Error::other).doing(doing)?.max_entries();
        Self::map(map, size, consumes).doing(doing)
    }

    fn map(map: MapData, size: u32, consumes: bool) -> io::Result<Self> {
        let page = page_size();
        let size = u64::from(size);
        let consumer = Self::consumer(&map, page, consumes)?;
        let data = page + 2 * size as usize;
        let producer = Mapping::new(map.fd().as_fd(), data, ProtFlags::READ, page as u64)?;
        let mut ring = Self { map, consumer, producer, size, page, place: 0, consumes };
        ring.place = ring.consumed();
        Ok(ring)
    }

    fn consumer(map: &MapData, page: usize, consumes: bool) -> io::Result<Mapping> {
        let protection = if consumes { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        Mapping::new(map.fd().as_fd(), page, protection, 0)
    }

    /// Begins with the oldest record that is left, whoever has consumed it. That can be found only where all have this many bytes. Not
    /// for who consumes.
    pub fn look_back(&mut self, length: usize) {
        let oldest = self.produced().saturating_sub(self.size).next_multiple_of(step(length));
        self.place = self.place.min(oldest);
    }

    /// Consumes what has been read, and what is read from now on. Nobody else may consume any more.
    pub fn consume(&mut self) -> Result<(), Error> {
        if !self.consumes {
            self.consumer = Self::consumer(&self.map, self.page, true)
                .doing(|| "opening a ring buffer to consume it".to_owned())?;
            self.place = self.place.max(self.consumed());
            self.consumes = true;
        }
        self.consumer_place().store(self.place, Ordering::Release);
        Ok(())
    }

    /// The next record, if there is one, is copied to `record`. Who consumes has done with the one before.
    pub fn next(&mut self, record: &mut Vec<u8>) -> Next {
        loop {
            if self.consumes {
                self.consumer_place().store(self.place, Ordering::Release);
            }
            let produced = self.produced();
            if let Some(missed) = self.overtaken(produced) {
                return Next::Missed(missed);
            }
            if self.place >= produced {
                return Next::Nothing;
            }
            let offset = self.page + (self.place % self.size) as usize;
            let head = self.head(offset);
            if head & BUSY != 0 {
                return Next::Nothing;
            }
            let length = u64::from(head & !DISCARDED);
            if length > self.size - HEADER {
                // Overwritten while it was read.
                return self.overtaken(self.produced()).map_or(Next::Nothing, Next::Missed);
            }
            self.copy(offset + HEADER as usize, length as usize, record);
            // What was overwritten meanwhile is worth nothing. Not asked before all has been copied.
            fence(Ordering::Acquire);
            if let Some(missed) = self.overtaken(self.produced()) {
                return Next::Missed(missed);
            }
            self.place += step(length as usize);
            if head & DISCARDED == 0 {
                return Next::Record;
            }
        }
    }

    /// Copies what stands from a byte on. The kernel may write to it meanwhile, if others consume it.
    fn copy(&self, begin: usize, length: usize, record: &mut Vec<u8>) {
        record.clear();
        for word in (0..length).step_by(8) {
            // SAFETY: within the data, which is mapped twice, and aligned to 8 bytes, as all records are.
            let word = unsafe { &*self.producer.at(begin + word).cast::<AtomicU64>() };
            record.extend_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        }
        record.truncate(length);
    }

    /// If what comes next has been overwritten, how much was; goes on with what has not been consumed.
    fn overtaken(&mut self, produced: u64) -> Option<u64> {
        if self.consumes || produced.saturating_sub(self.place) <= self.size {
            return None;
        }
        let begin = self.place;
        self.place = self.consumed();
        Some(self.place.saturating_sub(begin))
    }

    fn head(&self, offset: usize) -> u32 {
        // SAFETY: within the data, and aligned to 8 bytes, as all records are; the kernel changes it at any time.
        let head = unsafe { &*self.producer.at(offset).cast::<AtomicU32>() };
        head.load(Ordering::Acquire)
    }

    fn produced(&self) -> u64 {
        // SAFETY: the page begins with it; the kernel changes it at any time.
        let place = unsafe { &*self.producer.at(0).cast::<AtomicU64>() };
        place.load(Ordering::Acquire)
    }

    fn consumed(&self) -> u64 {
        self.consumer_place().load(Ordering::Acquire)
    }

    fn consumer_place(&self) -> &AtomicU64 {
        // SAFETY: the page begins with it; it is written only if it is mapped for that.
        unsafe { &*self.consumer.at(0).cast::<AtomicU64>() }
    }
}

/// Bytes that a record of so many takes.
pub(super) const fn step(length: usize) -> u64 {
    (HEADER + length as u64).next_multiple_of(8)
}

/// Mapped memory.
struct Mapping {
    place: NonNull<libc::c_void>,
    length: usize,
}

// SAFETY: the memory belongs to the process, whatever thread looks at it.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(fd: impl AsFd, length: usize, protection: ProtFlags, offset: u64) -> io::Result<Self> {
        // SAFETY: at a place that the kernel chooses, so that nothing is unmapped by it.
        let place = unsafe { mmap(ptr::null_mut(), length, protection, MapFlags::SHARED, fd, offset)? };
        NonNull::new(place)
            .map(|place| Self { place, length })
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// The address of a byte.
    fn at(&self, byte: usize) -> *mut libc::c_void {
        self.place.as_ptr().wrapping_byte_add(byte)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and nobody has a reference into it any more.
        let _ = unsafe { munmap(self.place.as_ptr(), self.length) };
    }
}
