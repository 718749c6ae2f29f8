//! What keys mean.

use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use icmp_userspace::observe::top::state::{Command, Panel};

/// The keys, for whoever asks.
pub(super) const HELP: [(&str, &str); 10] = [
    ("1 2 3 4, Tab", "rules, types, sources, destinations"),
    ("Up Down, Page, Home End", "choose a line"),
    ("s", "sort by the next column"),
    ("p, Space", "hold what is shown; once more: go on"),
    ("/", "show only lines that contain what is typed"),
    ("Esc", "show all lines again"),
    ("Enter", "go from an address to the rule that decided"),
    ("?", "these keys"),
    ("q, Ctrl-C", "leave"),
    ("~", "estimated from samples; all else is counted"),
];

/// What somebody wants who has pressed a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// That something be done.
    Do(Command),
    /// The screen, as it is now.
    Draw,
    /// To leave.
    Leave,
    /// Nothing that we know.
    Nothing,
}

/// What an event means; while a filter is being typed most keys are part of it.
pub(super) fn wish(event: &Event, typing: bool) -> Wish {
    let key = match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => key,
        Event::Resize(..) => return Wish::Draw,
        _ => return Wish::Nothing,
    };
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return if key.code == KeyCode::Char('c') { Wish::Leave } else { Wish::Nothing };
    }
    match (typing, key.code) {
        (true, code) => command_while_typing(code).map_or(Wish::Nothing, Wish::Do),
        (false, KeyCode::Char('q')) => Wish::Leave,
        (false, _) => command(key).map_or(Wish::Nothing, Wish::Do),
    }
}

fn command_while_typing(code: KeyCode) -> Option<Command> {
    Some(match code {
        KeyCode::Char(character) => Command::Type(character),
        KeyCode::Backspace => Command::Erase,
        KeyCode::Enter => Command::Accept,
        KeyCode::Esc => Command::Cancel,
        _ => return None,
    })
}

fn command(key: &KeyEvent) -> Option<Command> {
    Some(match key.code {
        KeyCode::Char(number @ '1'..='4') => Command::Show(Panel::ALL[number as usize - '1' as usize]),
        KeyCode::Tab | KeyCode::Right => Command::Turn(1),
        KeyCode::BackTab | KeyCode::Left => Command::Turn(Panel::ALL.len() - 1),
        KeyCode::Up | KeyCode::Char('k') => Command::Move(-1),
        KeyCode::Down | KeyCode::Char('j') => Command::Move(1),
        KeyCode::PageUp => Command::Move(-10),
        KeyCode::PageDown => Command::Move(10),
        KeyCode::Home => Command::Move(isize::MIN),
        KeyCode::End => Command::Move(isize::MAX),
        KeyCode::Char('s') => Command::Sort,
        KeyCode::Char('p' | ' ') => Command::Pause,
        KeyCode::Char('/') => Command::Filter,
        KeyCode::Enter => Command::Jump,
        KeyCode::Char('?' | 'h') => Command::Help,
        KeyCode::Esc => Command::Cancel,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pressed(code: KeyCode) -> Event {
        Event::Key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    #[test]
    fn keys_mean_letters_while_a_filter_is_typed() {
        let q = pressed(KeyCode::Char('q'));
        assert_eq!((wish(&q, false), wish(&q, true)), (Wish::Leave, Wish::Do(Command::Type('q'))));
        let enter = pressed(KeyCode::Enter);
        let meant = (wish(&enter, false), wish(&enter, true));
        assert_eq!(meant, (Wish::Do(Command::Jump), Wish::Do(Command::Accept)));
        let interrupt = Event::Key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL));
        assert_eq!((wish(&interrupt, false), wish(&interrupt, true)), (Wish::Leave, Wish::Leave));
        assert_eq!(wish(&pressed(KeyCode::Char('3')), false), Wish::Do(Command::Show(Panel::Sources)));
        assert_eq!(
            (wish(&Event::Resize(80, 24), true), wish(&Event::FocusLost, true)),
            (Wish::Draw, Wish::Nothing)
        );
    }
}
