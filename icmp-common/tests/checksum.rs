//! The Internet checksum against etherparse's, which is somebody else's.

use etherparse::checksum::u32_16bit_word;
use icmp_common::checksum::{fold, sum, update, verifies};
use proptest::prelude::*;

/// The checksum of `bytes` in host order, by etherparse.
fn expected(bytes: &[u8]) -> u16 {
    u16::from_be(u32_16bit_word::ones_complement(u32_16bit_word::add_slice(0, bytes)))
}

proptest! {
    #[test]
    fn a_full_computation_agrees(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert_eq!(u16::from_be(!fold(sum(&bytes))), expected(&bytes));
    }

    #[test]
    fn sums_of_parts_add_up(head in prop::collection::vec(any::<[u8; 2]>(), 0..50), tail in prop::collection::vec(any::<u8>(), 0..50)) {
        let (head, mut whole) = (head.concat(), head.concat());
        whole.extend(&tail);
        prop_assert_eq!(fold(sum(&head) + sum(&tail)), fold(sum(&whole)));
    }

    #[test]
    fn a_message_verifies_with_its_checksum_and_no_other(
        mut bytes in prop::collection::vec(any::<u8>(), 8..200), wrong in 1..0xffff_u16,
    ) {
        bytes[2..4].fill(0);
        let checksum = expected(&bytes);
        bytes[2..4].copy_from_slice(&checksum.to_be_bytes());
        prop_assert!(verifies(sum(&bytes)));
        bytes[2..4].copy_from_slice(&checksum.wrapping_add(wrong).to_be_bytes());
        // 0xffff and 0 are the two zeros of ones' complement.
        let other_zero = checksum == 0xffff && wrong == 1;
        prop_assert_eq!(verifies(sum(&bytes)), other_zero);
    }
}

/// Every checksum that a message can have, and every change of a word that an answer makes.
#[test]
fn c03_c53_an_update_is_a_full_computation() {
    for (old, new) in [(0x0800_u16, 0x0000_u16), (0x8000, 0x8100), (0x4001, 0x0101), (0xffff, 0x0001)] {
        for word in 0..=u16::MAX {
            let message = |first: u16| [first.to_be_bytes(), word.to_be_bytes(), [0x12, 0x34]].concat();
            assert_eq!(
                update(expected(&message(old)), old, new),
                expected(&message(new)),
                "{old:#x} {new:#x} {word:#x}"
            );
        }
    }
}

/// The one case that an update can't tell: nothing but zeros is left.
#[test]
fn an_update_to_nothing_but_zeros_is_off_by_the_other_zero() {
    assert_eq!(update(expected(&[8, 0, 0, 0]), 0x0800, 0), 0);
    assert_eq!(expected(&[0; 4]), 0xffff);
}
