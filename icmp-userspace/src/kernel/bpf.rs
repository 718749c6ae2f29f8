//! The few bpf(2) commands that aya has no call for: XDP links that never fall back to netlink, what a link is
//! attached to, pins, values whose size is known only when the program runs, many values at once, and programs and maps that are
//! made only to see whether the kernel takes them.
//!
//! Attributes are prefixes of the kernel's `union bpf_attr` (`linux/bpf.h`); it takes what is missing for zeros.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
    thread,
    time::{Duration, Instant},
};

use aya::{Pod, maps::MapData};

const BPF_MAP_CREATE: u32 = 0;
const BPF_MAP_LOOKUP_ELEM: u32 = 1;
const BPF_PROG_LOAD: u32 = 5;
const BPF_OBJ_PIN: u32 = 6;
const BPF_OBJ_GET: u32 = 7;
const BPF_OBJ_GET_INFO_BY_FD: u32 = 15;
const BPF_MAP_UPDATE_BATCH: u32 = 26;
const BPF_LINK_CREATE: u32 = 28;
const BPF_LINK_UPDATE: u32 = 29;
const BPF_LINK_GET_FD_BY_ID: u32 = 30;
const BPF_LINK_GET_NEXT_ID: u32 = 31;
const BPF_LINK_DETACH: u32 = 34;

/// `BPF_XDP` of `enum bpf_attach_type`.
const ATTACH_XDP: u32 = 37;
/// `BPF_LINK_TYPE_XDP` of `enum bpf_link_type`.
const LINK_XDP: u32 = 6;

/// How long somebody else's attaching may take: many times what switching a driver to XDP does.
const UNSETTLED: Duration = Duration::from_secs(5);

/// Runs one command.
///
/// # Safety
///
/// `attributes` is laid out as the command wants, and pointers in it are valid.
unsafe fn bpf<T>(command: u32, attributes: &mut T) -> io::Result<i64> {
    // SAFETY: by the contract of this function; the size is that of the attributes.
    let outcome =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(outcome) }
}

/// Runs a command that gives a file descriptor.
///
/// # Safety
///
/// As [`bpf`], and the command gives a new file descriptor.
unsafe fn bpf_fd<T>(command: u32, attributes: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: by the contract of this function.
    let fd = unsafe { bpf(command, attributes) }?;
    // SAFETY: the kernel has just given it to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// An XDP link: a program's attachment to an interface, which ends with its last file descriptor or pin.
#[derive(Debug)]
pub struct XdpLink(OwnedFd);

/// What a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// The attached program's id.
    pub program: u32,
    /// The interface's index; 0 if the interface is gone.
    pub interface: u32,
}

impl XdpLink {
    /// Attaches a program. `flags` are `XDP_FLAGS_*`.
    pub fn create(program: BorrowedFd<'_>, interface: u32, flags: u32) -> io::Result<Self> {
        #[repr(C)]
        struct Attributes {
            program: i32,
            interface: u32,
            attach_type: u32,
            flags: u32,
        }
        let mut attributes =
            Attributes { program: program.as_raw_fd(), interface, attach_type: ATTACH_XDP, flags };
        // SAFETY: laid out as `link_create`.
        unsafe { bpf_fd(BPF_LINK_CREATE, &mut attributes) }.map(Self)
    }

    /// Puts another program in the place of the attached one, atomically: each packet meets the one or the other.
    pub fn update(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        #[repr(C)]
        struct Attributes {
            link: i32,
            program: i32,
            flags: u32,
            old_program: u32,
        }
        let mut attributes =
            Attributes { link: self.0.as_raw_fd(), program: program.as_raw_fd(), flags: 0, old_program: 0 };
        // SAFETY: laid out as `link_update`.
        unsafe { bpf(BPF_LINK_UPDATE, &mut attributes) }.map(|_| ())
    }

    /// Detaches the program now, whoever else holds the link.
    pub fn detach(&self) -> io::Result<()> {
        let mut link = self.0.as_raw_fd();
        // SAFETY: laid out as `link_detach`.
        unsafe { bpf(BPF_LINK_DETACH, &mut link) }.map(|_| ())
    }

    /// What it is attached to.
    pub fn info(&self) -> io::Result<LinkInfo> {
        xdp_info(self.0.as_fd())?.ok_or_else(|| io::Error::other("it is not an XDP link"))
    }

    /// Opens a pinned link; anything else that is pinned there is an error.
    pub fn open(path: &Path) -> io::Result<Self> {
        let link = Self(open_pin(path)?);
        link.info()?;
        Ok(link)
    }

    /// Pins the link.
    pub fn pin(&self, path: &Path) -> io::Result<()> {
        pin(self.0.as_fd(), path)
    }

    /// The link that is attached to an interface of this network namespace with a given program, if there is one.
    pub fn find(interface: u32, program: u32) -> io::Result<Option<Self>> {
        let mut id = 0;
        while let Some(next) = next_link(id)? {
            id = next;
            let Some(link) = link_by_id(id)? else { continue };
            let info = xdp_info(link.as_fd())?;
            if info.is_some_and(|info| info.interface == interface && info.program == program) {
                return Ok(Some(Self(link)));
            }
        }
        Ok(None)
    }
}

/// Whether the kernel knows the command that puts another program behind a link; no link is touched.
pub fn try_link_update() -> io::Result<()> {
    let mut attributes = [-1, -1, 0, 0];
    // SAFETY: laid out as `link_update`; both file descriptors are -1.
    match unsafe { bpf(BPF_LINK_UPDATE, &mut attributes) } {
        // It asked for the link, so it knows the command.
        Err(error) if error.raw_os_error() == Some(libc::EBADF) => Ok(()),
        outcome => outcome.map(|_| ()),
    }
}

/// The link of an id; `None` if it went away meanwhile.
fn link_by_id(id: u32) -> io::Result<Option<OwnedFd>> {
    let end = Instant::now() + UNSETTLED;
    loop {
        let mut attributes = id;
        // SAFETY: laid out as `link_id`.
        match unsafe { bpf_fd(BPF_LINK_GET_FD_BY_ID, &mut attributes) } {
            Ok(link) => return Ok(Some(link)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
            // Somebody, in whatever network namespace, is just making it: it has an id before it can be opened.
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) && Instant::now() < end => {
                thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error),
        }
    }
}

fn next_link(start: u32) -> io::Result<Option<u32>> {
    let mut attributes = [start, 0];
    // SAFETY: laid out as `start_id`, `next_id`.
    match unsafe { bpf(BPF_LINK_GET_NEXT_ID, &mut attributes) } {
        Ok(_) => Ok(Some(attributes[1])),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What an XDP link is; `None` for a link of another type, an error for what is no link.
fn xdp_info(link: BorrowedFd<'_>) -> io::Result<Option<LinkInfo>> {
    /// The beginning of `struct bpf_link_info`, up to the interface index of an XDP link.
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        link_type: u32,
        id: u32,
        program: u32,
        reserved: u32,
        interface: u32,
        reserved_too: u32,
    }
    // Maps and programs answer the same command with structures of their own; only a link has this file name.
    let name = std::fs::read_link(format!("/proc/self/fd/{}", link.as_raw_fd()))?;
    if !name.as_os_str().as_bytes().starts_with(b"anon_inode:bpf_link")
        && !name.as_os_str().as_bytes().starts_with(b"anon_inode:bpf-link")
    {
        return Err(io::Error::other("it is not a BPF link"));
    }
    let mut info = Info::default();
    // SAFETY: any bytes are such a structure.
    unsafe { info_of(link, &mut info) }?;
    let Info { link_type, program, interface, .. } = info;
    Ok((link_type == LINK_XDP).then_some(LinkInfo { program, interface }))
}

/// Asks what a file descriptor is of.
///
/// # Safety
///
/// `info` is the beginning of the structure for what it is of, and any bytes are valid in it.
unsafe fn info_of<T>(fd: BorrowedFd<'_>, info: &mut T) -> io::Result<()> {
    #[repr(C)]
    struct Attributes {
        fd: i32,
        length: u32,
        info: u64,
    }
    let mut attributes = Attributes {
        fd: fd.as_raw_fd(),
        length: size_of::<T>() as u32,
        info: std::ptr::from_mut(info) as u64,
    };
    // SAFETY: laid out as `info`, and its pointer is to as many bytes as it says.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attributes) }.map(|_| ())
}

#[repr(C)]
struct PathAttributes {
    path: u64,
    fd: i32,
    flags: u32,
}

/// Pins an object in a BPF file system.
pub fn pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = PathAttributes { path: path.as_ptr() as u64, fd: fd.as_raw_fd(), flags: 0 };
    // SAFETY: laid out as `pathname`, `bpf_fd`, `file_flags`; the path outlives the call.
    unsafe { bpf(BPF_OBJ_PIN, &mut attributes) }.map(|_| ())
}

fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = PathAttributes { path: path.as_ptr() as u64, fd: 0, flags: 0 };
    // SAFETY: as above.
    unsafe { bpf_fd(BPF_OBJ_GET, &mut attributes) }
}

/// A value of an array map, one for all CPUs, whose values have `length` bytes.
pub fn array_value(map: BorrowedFd<'_>, index: u32, length: usize) -> io::Result<Vec<u8>> {
    #[repr(C)]
    struct Attributes {
        map: u32,
        reserved: u32,
        key: u64,
        value: u64,
        flags: u64,
    }
    let mut value = vec![0; length];
    let mut attributes = Attributes {
        map: map.as_raw_fd() as u32,
        reserved: 0,
        key: std::ptr::from_ref(&index) as u64,
        value: value.as_mut_ptr() as u64,
        flags: 0,
    };
    // SAFETY: laid out as `map_fd`, `key`, `value`, `flags`; both pointers are to as many bytes as the map has in a key and a value.
    unsafe { bpf(BPF_MAP_LOOKUP_ELEM, &mut attributes) }?;
    Ok(value)
}

/// Writes the first values of an array map, one for all CPUs, by one command (Linux 5.6).
pub fn fill_array<T: Pod>(map: &MapData, values: &[T]) -> io::Result<()> {
    #[repr(C)]
    struct Attributes {
        in_batch: u64,
        out_batch: u64,
        keys: u64,
        values: u64,
        count: u32,
        map: i32,
        element_flags: u64,
        flags: u64,
    }
    let info = map.info().map_err(|error| io::Error::other(error.to_string()))?;
    if info.value_size() as usize != size_of::<T>() {
        return Err(io::Error::other(format!("its values have {} bytes", info.value_size())));
    }
    let keys: Vec<_> = (0..values.len() as u32).collect();
    let mut attributes = Attributes {
        in_batch: 0,
        out_batch: 0,
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count: keys.len() as u32,
        map: map.fd().as_fd().as_raw_fd(),
        element_flags: 0,
        flags: 0,
    };
    // SAFETY: laid out as `batch`; there are as many keys and values as it says, of the sizes that the map has.
    unsafe { bpf(BPF_MAP_UPDATE_BATCH, &mut attributes) }.map(|_| ())
}

/// `BPF_PROG_TYPE_XDP` of `enum bpf_prog_type`.
const PROGRAM_XDP: u32 = 6;

/// Loads an XDP program of these instructions, and unloads it again; tells how many bytes of machine code it became, which is none
/// where it would be interpreted.
pub fn try_program(instructions: &[u64], flags: u32) -> io::Result<u32> {
    /// The beginning of `union bpf_attr`, up to `prog_flags`.
    #[repr(C)]
    struct Attributes {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        version: u32,
        flags: u32,
    }
    /// The beginning of `struct bpf_prog_info`, up to `xlated_prog_len`.
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        kind: u32,
        id: u32,
        tag: [u8; 8],
        machine_code: u32,
        instructions: u32,
    }
    let mut attributes = Attributes {
        kind: PROGRAM_XDP,
        count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        version: 0,
        flags,
    };
    // SAFETY: laid out as `BPF_PROG_LOAD` wants it; instructions and license outlive the call.
    let program = unsafe { bpf_fd(BPF_PROG_LOAD, &mut attributes) }?;
    let mut info = Info::default();
    // SAFETY: any bytes are such a structure.
    unsafe { info_of(program.as_fd(), &mut info) }?;
    Ok(info.machine_code)
}

/// Makes a map of one kind, and removes it again.
pub fn try_map(kind: u32, key: u32, value: u32, entries: u32) -> io::Result<()> {
    let mut attributes = [kind, key, value, entries];
    // SAFETY: laid out as `map_type`, `key_size`, `value_size`, `max_entries`.
    unsafe { bpf_fd(BPF_MAP_CREATE, &mut attributes) }.map(drop)
}
