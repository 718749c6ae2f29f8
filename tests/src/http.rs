//! HTTP over a plain TCP connection, in a network namespace.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use crate::{icmpctl::PATIENCE, netns::Namespace};

/// Connects to an address.
///
/// # Panics
///
/// Panics if nobody listens there.
#[must_use]
pub fn connect(namespace: &Namespace, address: &str) -> TcpStream {
    let stream = namespace.enter(|| TcpStream::connect(address).unwrap());
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends bytes, and reads what comes back: head and body.
///
/// # Panics
///
/// Panics if that is no HTTP.
#[must_use]
pub fn exchange(namespace: &Namespace, address: &str, request: &[u8]) -> (String, String) {
    let mut stream = connect(namespace, address);
    stream.write_all(request).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}"));
    (head.to_owned(), body.to_owned())
}
