//! The preset `flood-guard`: no flood of one sort of messages starves another, and what keeps the network up is never limited
//! (C92). In the host build, whose clock stands still here: only bursts count.

use std::net::Ipv6Addr;

use etherparse::PacketBuilder;
use icmp_ebpf::Verdict;
use icmp_tests::{
    frames::{CLIENT_MAC, SERVER_MAC, SERVER4, SERVER6},
    host::tables,
};
use icmp_userspace::explain::host::HostState;

const CLIENT4: [u8; 4] = [198, 51, 100, 9];
const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 9);

/// An ICMP message from a host of the client's network with the type, code and TTL.
fn icmp4(host: u8, [icmp_type, code]: [u8; 2]) -> Vec<u8> {
    let source = [CLIENT4[0], CLIENT4[1], host, CLIENT4[3]];
    let packet = PacketBuilder::ethernet2(CLIENT_MAC, SERVER_MAC).ipv4(source, SERVER4, 64);
    let mut frame = Vec::new();
    packet.icmpv4_raw(icmp_type, code, [0; 4]).write(&mut frame, &[0; 56]).unwrap();
    frame
}

fn icmp6(network: u16, [icmp_type, code]: [u8; 2], hops: u8) -> Vec<u8> {
    let mut source = CLIENT6.segments();
    source[2] = network;
    let source = Ipv6Addr::from(source).octets();
    let packet = PacketBuilder::ethernet2(CLIENT_MAC, SERVER_MAC).ipv6(source, SERVER6, hops);
    let mut frame = Vec::new();
    packet.icmpv6_raw(icmp_type, code, [0; 4]).write(&mut frame, &[0; 56]).unwrap();
    frame
}

/// How many of so many are not limited.
fn passed(state: &mut HostState<'_>, times: usize, frame: &[u8]) -> usize {
    (0..times).filter(|_| state.handle(frame.to_vec()).0 != Verdict::Limit).count()
}

const GUARDED: &str = "acl.preset = ['flood-guard']";

#[test]
fn c92_sorts_of_messages_have_limits_of_their_own() {
    let tables = tables(GUARDED);
    let mut state = HostState::new(&tables);
    // Echo, errors, everything else; IPv4 and IPv6 sources have buckets of their own.
    for (messages, burst) in [([[8, 0], [128, 0]], 200), ([[11, 0], [3, 1]], 50), ([[0, 0], [129, 0]], 200)] {
        assert_eq!(passed(&mut state, 1000, &icmp4(1, messages[0])), burst, "{messages:?}");
        assert_eq!(passed(&mut state, 1000, &icmp6(1, messages[1], 64)), burst, "{messages:?}");
        // Another source is not limited by that.
        assert_eq!(passed(&mut state, 10, &icmp4(2, messages[0])), 10);
        assert_eq!(passed(&mut state, 10, &icmp6(2, messages[1], 64)), 10);
    }
}

#[test]
fn c92_a_flood_of_echo_requests_from_everywhere_leaves_room_for_the_rest() {
    let tables = tables(GUARDED);
    let mut state = HostState::new(&tables);
    let flood = (0..=u8::MAX).map(|host| passed(&mut state, 200, &icmp4(host, [8, 0]))).sum::<usize>();
    // All together have what one destination may have: a tenth of a second's worth, but for what lies in a purse.
    assert!((1998..=2000).contains(&flood), "{flood}");
    assert_eq!(passed(&mut state, 10, &icmp4(1, [11, 0])), 10);
    assert_eq!(passed(&mut state, 10, &icmp4(1, [0, 0])), 10);
}

#[test]
fn c67_c69_c74_c92_what_keeps_the_network_up_is_never_limited() {
    let tables = tables(GUARDED);
    let mut state = HostState::new(&tables);
    assert_eq!(passed(&mut state, 20_000, &icmp4(1, [3, 4])), 20_000);
    for (icmp_type, hops) in [
        (2, 64),
        (133, 255),
        (134, 255),
        (135, 255),
        (136, 255),
        (137, 255),
        (130, 1),
        (131, 1),
        (132, 1),
        (143, 1),
    ] {
        assert_eq!(passed(&mut state, 20_000, &icmp6(1, [icmp_type, 0], hops)), 20_000, "{icmp_type}");
    }
    // What only looks like it, from farther away than the link, is.
    assert_eq!(passed(&mut state, 1000, &icmp6(1, [135, 0], 254)), 200);
}
