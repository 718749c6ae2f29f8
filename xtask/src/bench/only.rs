//! Which cases are measured: all, or those with some text in their names.

/// The choice; without a text, all.
#[derive(Clone, Debug, Default)]
pub(super) struct Only(pub(super) Option<String>);

impl Only {
    /// Whether a case is measured. Upper and lower case are the same.
    pub(super) fn wants(&self, name: &str) -> bool {
        let text = self.0.as_ref().map(|text| text.to_lowercase());
        text.is_none_or(|text| name.to_lowercase().contains(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_contain_the_text() {
        let only = Only(Some("tcp ipv4".into()));
        assert!(only.wants("TCP IPv4, the whole policy"));
        assert!(!only.wants("TCP IPv6"));
        assert!(Only::default().wants("anything"));
    }
}
