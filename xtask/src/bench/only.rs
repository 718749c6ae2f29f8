//! Which cases are measured.

/// The choice.
#[derive(Clone, Debug)]
pub(super) enum Only {
    /// All.
    All,
    /// Those with this text in their names; upper and lower case are the same.
    With(String),
    /// Those of these names.
    These(Vec<String>),
}

impl Only {
    /// Whether a case is measured.
    pub(super) fn wants(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::With(text) => name.to_lowercase().contains(&text.to_lowercase()),
            Self::These(names) => names.iter().any(|wanted| wanted == name),
        }
    }

    /// Whether any of these is measured.
    pub(super) fn wants_any(&self, names: &[String]) -> bool {
        names.iter().any(|name| self.wants(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_contain_the_text_or_are_listed() {
        let with = Only::With("tcp ipv4".into());
        assert!(with.wants("TCP IPv4, the whole policy"));
        assert!(!with.wants("TCP IPv6"));
        let these = Only::These(vec!["TCP IPv4".into()]);
        assert!(these.wants_any(&["a".into(), "TCP IPv4".into()]));
        assert!(!these.wants("TCP IPv4, the whole policy"));
        assert!(Only::All.wants("anything"));
    }
}
