//! A raw port on an interface: frames as they are, out and in (packet(7)).

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use crate::netns::Namespace;

/// A packet socket that is bound to an interface.
pub struct Port {
    file: File,
}

impl Port {
    /// Opens one in a namespace. Frames are sent past the stack's queues, and with VLAN tags where they stand.
    #[must_use]
    pub fn open(namespace: &Namespace, interface: &str) -> Self {
        let index = namespace.index(interface);
        let socket = namespace.enter(|| packet_socket(index));
        Self { file: socket.unwrap().into() }
    }

    /// Sends a frame.
    pub fn send(&mut self, frame: &[u8]) {
        self.file.write_all(frame).unwrap();
    }

    /// Sends a frame, unless the ring at the other end is full; says whether it did.
    pub fn offer(&mut self, frame: &[u8]) -> bool {
        match self.file.write_all(frame) {
            Ok(()) => true,
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => false,
            Err(error) => panic!("sending: {error}"),
        }
    }

    /// The next frame that is received; `None` if none comes for a short while.
    pub fn receive<'a>(&mut self, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        match self.file.read(buffer) {
            Ok(length) => Some(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => panic!("receiving: {error}"),
        }
    }

    /// Sends a frame and waits for the first frame to be received that is wanted; `None` if none comes in `patience`.
    pub fn exchange(
        &mut self,
        frame: &[u8],
        patience: Duration,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> Option<Vec<u8>> {
        self.send(frame);
        let begin = Instant::now();
        let mut buffer = vec![0; 1 << 16];
        while begin.elapsed() < patience {
            if let Some(frame) = self.receive(&mut buffer).filter(|frame| wanted(frame)) {
                return Some(frame.to_vec());
            }
        }
        None
    }
}

fn packet_socket(interface: u32) -> io::Result<OwnedFd> {
    let protocol = (libc::ETH_P_ALL as u16).to_be();
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol.into()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given it to us alone.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol,
        sll_ifindex: interface as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let size = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the address is valid and as long as is said.
    let outcome = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size) };
    if outcome < 0 {
        return Err(io::Error::last_os_error());
    }
    set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &libc::timeval { tv_sec: 0, tv_usec: 20_000 })?;
    // A flood must not outrun who reads it.
    set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &(64_i32 << 20))?;
    // What this socket sends itself is not what it waits for.
    set_option(&socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1_i32)?;
    Ok(socket)
}

fn set_option<T>(socket: &OwnedFd, level: i32, option: i32, value: &T) -> io::Result<()> {
    let value = std::ptr::from_ref(value).cast();
    let size = size_of::<T>() as libc::socklen_t;
    // SAFETY: the value is valid and as long as is said.
    let outcome = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value, size) };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
