//! The examples of `docs/policy.md`, which have to be right.

use std::fs;

use super::{file, lists, names, presets::PRESETS, router};

const PAGE: &str = include_str!("../../../docs/policy.md");

/// The examples in a language, as they are fenced.
fn examples(language: &str) -> Vec<String> {
    let mut examples = Vec::new();
    let mut lines = PAGE.lines();
    while let Some(line) = lines.next() {
        let Some(of) = line.strip_prefix("```") else { continue };
        let example: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        if of == language {
            examples.push(example.join("\n") + "\n");
        }
    }
    assert!(!examples.is_empty(), "{language}");
    examples
}

/// Reads a policy that has the page's blocklist beside it.
fn load(policy: &str) -> file::Loaded {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("blocklist.txt"), &examples("blocklist")[0]).unwrap();
    let path = directory.path().join("policy.toml");
    fs::write(&path, policy).unwrap();
    file::load(&path).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn policies_are_right() {
    for policy in examples("toml") {
        let loaded = load(&policy);
        assert_eq!(loaded.warnings, [], "{}", loaded.report());
    }
}

#[test]
fn rules_are_right() {
    for rules in examples("acl") {
        let loaded = load(&format!(
            "[sets]\ntrusted = [\"10.0.0.0/8\"]\nblocklist = {{ file = \"blocklist.txt\" }}\n[acl]\nrules = '''\n{rules}'''\n"
        ));
        assert!(!loaded.policy.acl.rules.is_empty(), "{rules}");
    }
}

#[test]
fn the_blocklist_is_right() {
    let list = lists::parse(examples("blocklist")[0].as_bytes());
    assert_eq!((list.errors.len(), list.masked, list.prefixes.len()), (0, None, 5));
}

#[test]
fn the_router_is_understood() {
    let import = router::import(&examples("router")[0], &[]);
    assert_eq!(import.left_out.iter().map(|line| line.number).collect::<Vec<_>>(), [6]);
    assert_eq!(load(&import.policy).policy.acl.rules.len(), 3);
}

#[test]
fn the_table_of_names_is_complete() {
    let row = |line: &'static str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        match cells[..] {
            [names, v4, v6] if names.starts_with('`') => Some((names, [v4, v6])),
            _ => None,
        }
    };
    let mut listed = Vec::new();
    for (texts, kinds) in
        PAGE.lines().filter_map(row).filter(|(_, [v4, _])| v4.starts_with(|c: char| c.is_ascii_digit()))
    {
        for text in texts.split(", ").map(|text| text.trim_matches('`')) {
            let name = names::find(text).unwrap();
            let printed = name.kinds.map(|kind| {
                let kind = kind.unwrap();
                kind.code.map_or_else(|| kind.kind.to_string(), |code| format!("{}/{code}", kind.kind))
            });
            assert_eq!(printed, kinds, "{text}");
            listed.push(text);
        }
    }
    for name in names::NAMES.iter().filter(|name| !name.kinds.contains(&None)) {
        assert!(listed.contains(&name.text), "{} is missing", name.text);
    }
}

#[test]
fn all_presets_are_described() {
    for preset in &PRESETS {
        assert!(PAGE.contains(&format!("| `{}` |", preset.name)), "{}", preset.name);
    }
}
