//! `docs/conformance.md` says what tests show, and nothing else. `ICMPCTL_BLESS=1` writes it anew.

use std::{collections::BTreeSet, env, fs, path::Path};

use icmp_tests::conformance::{SUBJECTS, covered, document, numbers, tests};

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn listed() -> Vec<u8> {
    SUBJECTS
        .iter()
        .flat_map(|(_, requirements)| *requirements)
        .map(|requirement| requirement.number)
        .collect()
}

#[test]
fn every_number_has_a_test() {
    let covered = covered(workspace());
    let listed = listed();
    assert!(listed.is_sorted_by(|a, b| a < b), "numbers stand in their order, each once");
    let uncovered: Vec<_> = listed.iter().filter(|number| !covered.contains_key(number)).collect();
    assert!(uncovered.is_empty(), "no test covers {uncovered:?}");
}

#[test]
fn no_test_claims_a_number_that_does_not_exist() {
    let listed = BTreeSet::from_iter(listed());
    for (number, tests) in covered(workspace()) {
        assert!(listed.contains(&number), "C{number} does not exist: {tests:?}");
    }
}

#[test]
fn the_document_is_what_list_and_tests_say() {
    let path = workspace().join("docs/conformance.md");
    let document = document(&covered(workspace()));
    if env::var_os("ICMPCTL_BLESS").is_some_and(|bless| bless == "1") {
        fs::write(&path, &document).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    let differs = written.lines().zip(document.lines()).find(|(written, made)| written != made);
    assert!(
        written == document,
        "docs/conformance.md is not what it would be made to be, from {differs:?} on; ICMPCTL_BLESS=1 makes it so"
    );
}

#[test]
fn only_tests_cover_numbers() {
    let source = r##"
        /// #[test]
        fn c07_helper() {}
        /// With words behind it.
        #[test]
        #[ignore = "needs root and BPF"]
        fn c01_c02_both() {
            fn c04_inner() {}
        }
        // #[test]
        fn c05_commented_out() {}
        const TEXT: &str = "
            #[test]
            fn c08_in_a_string() {}
        ";
        #[test]
        #[ignore = "does not work"]
        fn c09_always_ignored() {}
        macro_rules! in_both_builds {
            ($($test:ident,)+) => { $(#[test] fn $test() {})+ };
        }
        in_both_builds! {
            c06_in_both,
        }
        proptest! {
            #[test]
            fn c10_in_a_macro(value: u8) {}
        }
        #[test]
        fn without_number() {}
    "##;
    assert_eq!(tests(source), ["c01_c02_both", "c06_in_both", "c10_in_a_macro", "without_number"]);
    assert_eq!(numbers("c01_c02_both_c03").collect::<Vec<_>>(), [1, 2]);
    assert_eq!(numbers("c1_x").count() + numbers("cab_x").count() + numbers("check").count(), 0);
}
