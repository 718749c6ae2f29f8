//! Generic netlink: one question, one answer, as a list of attributes. Families are asked for by name, because the kernel numbers
//! them as it likes.

use std::io;

use rtnetlink::{
    packet_core::{DefaultNla, Emitable as _, NLM_F_REQUEST, NLMSG_ERROR, Nla as _, NlasIterator},
    packet_core::{NetlinkBuffer, NetlinkHeader},
    sys::{Socket, SocketAddr, protocols::NETLINK_GENERIC},
};

/// `GENL_ID_CTRL`, `CTRL_CMD_GETFAMILY` and its attributes, of `linux/genetlink.h`.
const CONTROLLER: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

/// Length of `struct nlmsghdr` and of `struct genlmsghdr`.
const HEADER: usize = 16;
const GENERIC_HEADER: usize = 4;

/// A socket, in the network namespace in which it was opened.
pub(super) struct Generic(Socket);

/// A family as the kernel numbers it now.
#[derive(Clone, Copy)]
pub(super) struct Family(u16);

impl Generic {
    pub(super) fn open() -> io::Result<Self> {
        let socket = Socket::new(NETLINK_GENERIC)?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // The kernel has answered when the call that asks returns: there is never anything to wait for.
        socket.set_non_blocking(true)?;
        Ok(Self(socket))
    }

    /// The family of a name; `None` if this kernel has none.
    pub(super) fn family(&self, name: &str) -> io::Result<Option<Family>> {
        let name = DefaultNla::new(FAMILY_NAME, [name.as_bytes(), &[0]].concat());
        match self.ask(Family(CONTROLLER), GET_FAMILY, &[name]) {
            Ok(answer) => {
                let id = find(&answer, FAMILY_ID).as_deref().and_then(number);
                Ok(id.and_then(|id| id.try_into().ok()).map(Family))
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks, and gives the attributes of the answer.
    pub(super) fn ask(
        &self,
        family: Family,
        command: u8,
        question: &[DefaultNla],
    ) -> io::Result<Vec<DefaultNla>> {
        let length = HEADER + GENERIC_HEADER + question.buffer_len();
        let mut message = vec![0; length];
        let mut header = NetlinkHeader::default();
        (header.length, header.message_type, header.flags) = (length as u32, family.0, NLM_F_REQUEST);
        header.emit(&mut message);
        // Command and version; both families that are asked are of version 1, and so is the controller.
        (message[HEADER], message[HEADER + 1]) = (command, 1);
        question.emit(&mut message[HEADER + GENERIC_HEADER..]);
        self.0.send(&message, 0)?;
        let (answer, _) = self.0.recv_from_full()?;
        let answer = NetlinkBuffer::new_checked(&answer[..]).map_err(io::Error::other)?;
        let payload = answer.payload();
        if answer.message_type() == NLMSG_ERROR {
            let code = payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
            return Err(io::Error::from_raw_os_error(code.checked_neg().unwrap_or(libc::EPROTO)));
        }
        attributes(payload.get(GENERIC_HEADER..).unwrap_or_default())
    }
}

/// The attributes in these bytes.
pub(super) fn attributes(bytes: &[u8]) -> io::Result<Vec<DefaultNla>> {
    let parsed = NlasIterator::new(bytes).map(|attribute| {
        let attribute = attribute.map_err(io::Error::other)?;
        Ok(DefaultNla::new(attribute.kind(), attribute.value().to_vec()))
    });
    parsed.collect()
}

/// The value of the first attribute of a kind.
pub(super) fn find(attributes: &[DefaultNla], kind: u16) -> Option<Vec<u8>> {
    attributes.iter().find(|attribute| attribute.kind() == kind).map(value)
}

/// The value of an attribute.
pub(super) fn value(attribute: &DefaultNla) -> Vec<u8> {
    let mut value = vec![0; attribute.value_len()];
    attribute.emit_value(&mut value);
    value
}

/// A number in the host's byte order, of 2, 4 or 8 bytes.
pub(super) fn number(bytes: &[u8]) -> Option<u64> {
    match bytes {
        [a, b] => Some(u16::from_ne_bytes([*a, *b]).into()),
        [a, b, c, d] => Some(u32::from_ne_bytes([*a, *b, *c, *d]).into()),
        _ => bytes.try_into().ok().map(u64::from_ne_bytes),
    }
}
