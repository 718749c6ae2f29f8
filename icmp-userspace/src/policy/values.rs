//! TOML values: what is said where another one was expected.

use std::ops::Range;

use toml::{Spanned, de::DeValue};

use super::diagnostic::{Diagnostic, nearest};

/// A value and where it stands.
pub(super) type Value<'a> = Spanned<DeValue<'a>>;

/// Another value was expected.
pub(super) fn expected(value: &Value<'_>, what: &str) -> Diagnostic {
    Diagnostic::new(value.span(), format!("expected {what}, found {}", describe(value.get_ref())))
}

/// True or false was expected.
pub(super) fn boolean(value: &Value<'_>) -> Result<bool, Diagnostic> {
    value.get_ref().as_bool().ok_or_else(|| expected(value, "true or false"))
}

/// One of a few strings was expected.
pub(super) fn one_of<T: Copy>(value: &Value<'_>, choices: &[(&str, T)]) -> Result<T, Diagnostic> {
    let text = value.get_ref().as_str();
    if let Some((_, choice)) = choices.iter().find(|(name, _)| Some(*name) == text) {
        return Ok(*choice);
    }
    let quoted: Vec<String> = choices.iter().map(|(name, _)| format!("{name:?}")).collect();
    let diagnostic = expected(value, &quoted.join(" or "));
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    Err(match text.and_then(|text| nearest(text, &names)) {
        Some(nearest) => diagnostic.with_help(format!("did you mean {nearest:?}?")),
        None => diagnostic,
    })
}

/// A table or a key of it that does not exist.
pub(super) fn unknown(what: &str, name: &str, span: Range<usize>, known: &[&str]) -> Diagnostic {
    let diagnostic = Diagnostic::new(span, format!("unknown {what}: {name}"));
    match nearest(name, known) {
        Some(nearest) => diagnostic.with_help(format!("did you mean {nearest}?")),
        None => diagnostic.with_help(format!("known: {}", known.join(", "))),
    }
}

fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) if text.len() > 60 => "a long text".to_owned(),
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(integer) => integer.to_string(),
        DeValue::Float(float) => float.to_string(),
        DeValue::Boolean(boolean) => boolean.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}
