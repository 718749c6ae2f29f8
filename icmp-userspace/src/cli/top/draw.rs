//! Drawing: what became of packets above, tables below: all four where there is room, else the one that keys are for.

use icmp_userspace::observe::top::{
    Outcome,
    state::{Column, Panel, State, Table, rate},
};
use ratatui::{
    Frame,
    layout::{Alignment, Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    symbols::border,
    text::{Line, Span},
    widgets::{Block, Borders, Cell, Clear, Paragraph, RenderDirection, Row, Sparkline, Wrap},
};

use super::keys::HELP;

/// The least room that something can be read in.
const LEAST: [u16; 2] = [60, 18];
/// From here on there is room for all four tables.
const WIDE: [u16; 2] = [118, 34];
/// What the longest addresses take with their numbers.
const ADDRESSES: u16 = 66;
/// A title, the names of columns, seven lines.
const OUTCOMES: u16 = 9;

/// Whether there are colours.
#[derive(Clone, Copy)]
pub(super) struct Look {
    pub(super) colours: bool,
}

impl Look {
    /// Without colours if `NO_COLOR` is set (no-color.org).
    pub(super) fn of_environment() -> Self {
        Self { colours: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) }
    }

    fn colour(self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }

    /// Of a verdict.
    fn of(self, outcome: &str) -> Style {
        match outcome {
            "answered" => self.colour(Color::Green),
            "denied" | "rejected" => self.colour(Color::Red),
            "limited" => self.colour(Color::Yellow),
            "malformed" => self.colour(Color::Magenta),
            "passed" => self.colour(Color::Cyan),
            _ => Style::new(),
        }
    }

    const TITLE: Style = Style::new().add_modifier(Modifier::BOLD).remove_modifier(Modifier::DIM);
    const NAMES: Style = Style::new().add_modifier(Modifier::DIM);
    const CHOSEN: Style = Style::new().add_modifier(Modifier::REVERSED);
}

/// Draws everything.
pub(super) fn all(frame: &mut Frame<'_>, state: &State, title: &str, look: Look) {
    let area = frame.area();
    let [width, height] = LEAST;
    if area.width < width || area.height < height {
        let text = format!("top needs {width}x{height} characters; here are {}x{}", area.width, area.height);
        frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }), area);
        return;
    }
    let wide = area.width >= WIDE[0] && area.height >= WIDE[1];
    let rows = [1, OUTCOMES, u16::from(!wide)].map(Constraint::Length);
    let rows = rows.into_iter().chain([Constraint::Fill(1), Constraint::Length(1)]);
    let [head, outcomes, tabs, tables, foot] = Layout::vertical(rows).areas(area);
    draw_head(frame, head, state, title, look);
    draw_outcomes(frame, outcomes, state, look);
    if wide {
        let [above, below] = Layout::vertical([Constraint::Fill(1), Constraint::Fill(1)]).areas(tables);
        for (area, panels) in
            [(above, [Panel::Rules, Panel::Sources]), (below, [Panel::Types, Panel::Destinations])]
        {
            let columns = [Constraint::Fill(1), Constraint::Length(ADDRESSES)];
            let areas: [Rect; 2] = Layout::horizontal(columns).spacing(2).areas(area);
            areas.into_iter().zip(panels).for_each(|(area, panel)| draw_table(frame, area, state, panel));
        }
    } else {
        draw_tabs(frame, tabs, state);
        draw_table(frame, tables, state, state.panel);
    }
    draw_foot(frame, foot, state);
    if state.help {
        draw_help(frame, area);
    }
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, state: &State, title: &str, look: Look) {
    let paused = if state.paused { "PAUSED " } else { "" };
    let paused = Span::styled(paused, Look::TITLE.patch(look.colour(Color::Yellow)));
    let spans = [Span::styled("icmpctl top ", Look::TITLE), paused, Span::raw(title)];
    frame.render_widget(Line::from_iter(spans), area);
}

/// A table's frame: a line above it, with what it counts in it.
fn block(title: String) -> Block<'static> {
    let title = Span::styled(format!(" {title} "), Look::TITLE);
    Block::new().borders(Borders::TOP).border_set(border::PLAIN).border_style(Look::NAMES).title(title)
}

fn draw_outcomes(frame: &mut Frame<'_>, area: Rect, state: &State, look: Look) {
    let block = block("What became of packets: packets/s by family, packets in all".to_owned());
    let [names, lines] =
        Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(block.inner(area));
    frame.render_widget(block, area);
    let columns = [9, 10, 10, 13].map(Constraint::Length);
    let columns = Layout::horizontal([columns[0], columns[1], columns[2], columns[3], Constraint::Fill(1)]);
    let columns = columns.spacing(1);
    let heads = ["", "IPv4/s", "IPv6/s", "PACKETS", "EACH SECOND, to its own scale"];
    let areas: [Rect; 5] = columns.areas(names);
    for (number, (area, head)) in areas.into_iter().zip(heads).enumerate() {
        let alignment = if number == 4 { Alignment::Left } else { Alignment::Right };
        frame.render_widget(Line::styled(head, Look::NAMES).alignment(alignment), area);
    }
    for (number, outcome) in (0..).zip(&state.shown.outcomes) {
        let area = Rect { y: lines.y + number, height: 1, ..lines };
        let [name, ipv4, ipv6, packets, history]: [Rect; 5] = columns.areas(area.intersection(lines));
        let Outcome { name: text, per_second, packets: total, history: seconds } = outcome;
        frame.render_widget(Line::styled(*text, look.of(text)), name);
        for (area, family) in [(ipv4, 0), (ipv6, 1)] {
            let rate = rate(per_second.map(|families| families[family]));
            frame.render_widget(Line::raw(rate).right_aligned(), area);
        }
        frame.render_widget(Line::raw(total.to_string()).right_aligned(), packets);
        // The last one on the right, where it came in.
        let seconds = seconds.iter().rev().take(history.width.into());
        let spark = Sparkline::default().data(seconds).direction(RenderDirection::RightToLeft);
        frame.render_widget(spark.style(look.of(text)), history);
    }
}

fn draw_tabs(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let tabs = Panel::ALL.into_iter().zip(1..).flat_map(|(panel, number)| {
        let style = if panel == state.panel { Look::CHOSEN } else { Style::new() };
        [Span::styled(format!(" {number} {} ", panel.name()), style), Span::raw(" ")]
    });
    frame.render_widget(Line::from_iter(tabs), area);
}

fn draw_table(frame: &mut Frame<'_>, area: Rect, state: &State, panel: Panel) {
    // The title and the names of columns.
    let table = state.table(panel, usize::from(area.height.saturating_sub(2)));
    let Table { title, columns, sorted, lines, chosen, of, why_empty } = &table;
    let name = panel.name();
    let block = block(format!("{} {name} ({of}): {title}", panel as usize + 1));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    if let Some(why) = why_empty {
        frame.render_widget(Paragraph::new(why.as_str()).wrap(Wrap { trim: true }), inner);
        return;
    }
    let widths = widths(columns, lines, inner.width);
    let shown: Vec<_> = widths.iter().enumerate().filter(|(_, width)| **width > 0).collect();
    let row = |cells: &dyn Fn(usize) -> String| {
        Row::new(shown.iter().map(|(column, _)| {
            let line = Line::raw(cells(*column));
            Cell::new(if columns[*column].right { line.right_aligned() } else { line })
        }))
    };
    let names = row(&|column| {
        let mark = if *sorted == Some(column) { "▼" } else { "" };
        format!("{mark}{}", columns[column].name)
    });
    let is_chosen = |number: usize| *chosen == Some(number) && panel == state.panel;
    let rows = lines.iter().enumerate().map(|(number, cells)| {
        let style = if is_chosen(number) { Look::CHOSEN } else { Style::new() };
        row(&|column| cells[column].clone()).style(style)
    });
    let constraints = shown.iter().map(|(_, width)| Constraint::Length(**width));
    let table = ratatui::widgets::Table::new(rows, constraints).column_spacing(1);
    frame.render_widget(table.header(names.style(Look::NAMES)), inner);
}

/// How wide columns are: as their cells are, and the last one as there is room; 0 for those that can be done without, if there is
/// none.
fn widths(columns: &[Column], lines: &[Vec<String>], room: u16) -> Vec<u16> {
    let last = columns.len() - 1;
    let longest = |number: usize| {
        let cells = lines.iter().map(|cells| cells[number].chars().count());
        cells.max().map_or(0, |width| width as u16).max(columns[number].width)
    };
    let mut widths: Vec<u16> = (0..columns.len()).map(longest).collect();
    // An address is read to its end, a rule only begun.
    widths[last] = widths[last].min(39);
    let needed =
        |widths: &[u16]| widths.iter().filter(|width| **width > 0).map(|width| width + 1).sum::<u16>() - 1;
    if needed(&widths) > room {
        columns.iter().zip(&mut widths).filter(|(column, _)| column.extra).for_each(|(_, width)| *width = 0);
    }
    widths[last] = (room + widths[last]).saturating_sub(needed(&widths));
    widths
}

fn draw_foot(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let text = if state.typing {
        format!("Filter: {}█   Enter: keep it   Esc: show all", state.filter)
    } else if let Some(notice) = &state.notice {
        notice.clone()
    } else if !state.filter.is_empty() {
        format!("Filter: {}   Esc: show all   / type on   s sort   p pause   q leave", state.filter)
    } else {
        "1-4 Tab table  ↑↓ line  s sort  p pause  / filter  Enter rule  ? keys  q leave".to_owned()
    };
    frame.render_widget(Line::raw(text), area);
}

fn draw_help(frame: &mut Frame<'_>, area: Rect) {
    let [width, height] = [74_u16, HELP.len() as u16 + 2];
    let inside = Rect {
        x: area.width.saturating_sub(width) / 2,
        y: area.height.saturating_sub(height) / 2,
        width: width.min(area.width),
        height: height.min(area.height),
    };
    let lines = HELP.iter().map(|(keys, what)| Line::raw(format!(" {keys:<24}{what}")));
    frame.render_widget(Clear, inside);
    let block = Block::bordered().title(Span::styled(" Keys ", Look::TITLE));
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()).block(block), inside);
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use icmp_common::reason::Reason;
    use icmp_userspace::observe::{
        top::{
            Rule, Shown,
            samples::Talker,
            state::{Command, Sampling},
        },
        types,
    };
    use ratatui::{Terminal, backend::TestBackend};

    use super::*;

    /// A policy of 40 rules, of which the second one limits, and two sources.
    fn state() -> State {
        let outcome = |name, per_second: f64, packets| Outcome {
            name,
            per_second: Some([per_second, 0.5]),
            packets,
            history: vec![0, 4, 8],
        };
        let rule = |number: u32| Rule {
            slot: number,
            number: Some(number),
            text: format!("limit 100/s burst 200 per source icmp host 192.0.2.{number} any echo"),
            packets: 1_000,
            per_second: Some(f64::from(100 - number)),
            over: (number == 2).then_some(7.0),
        };
        let talker = |address: &str, packets: f64, over| Talker {
            address: address.parse::<IpAddr>().unwrap(),
            packets,
            over,
            reason: Reason::OverLimit,
            slot: Some(2),
        };
        let echo = types::Row {
            family: "ipv4",
            icmp_type: Some(8),
            code: Some(0),
            name: Some("echo"),
            packets: 9_876,
            passed: 0,
            per_second: Some(543.2),
        };
        let sources = vec![
            talker("2001:db8:1234:5678:9abc:def0:1234:5678", 1_234.5, 1_000.0),
            talker("198.51.100.7", 12.34, 0.0),
        ];
        let shown = Shown {
            outcomes: vec![
                outcome("received", 123_456.7, 99_999_999),
                outcome("answered", 999.94, 5),
                outcome("limited", 1_000.0, 0),
            ],
            rules: (1..=40).map(rule).collect(),
            types: vec![echo],
            destinations: vec![talker("192.0.2.1", 1_246.8, 1_000.0)],
            sources,
            samples: 345.6,
        };
        let mut state = State::default();
        (state.shown, state.sampling) = (shown, Sampling::Own);
        state
    }

    fn screen(state: &State, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let title = "eth0: program 7, native mode, policy.toml";
        terminal.draw(|frame| all(frame, state, title, Look { colours: false })).unwrap();
        let buffer = terminal.backend().buffer();
        assert!(buffer.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
        let lines = buffer.content.chunks(usize::from(width).max(1));
        lines
            .map(|line| line.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned())
            .collect()
    }

    fn has(screen: &[String], line: &str) {
        assert!(
            screen.iter().any(|found| found.contains(line)),
            "{line:?} is missing in:\n{}",
            screen.join("\n")
        );
    }

    #[test]
    fn one_table_fits_24_lines_of_80() {
        let mut state = state();
        let rules = screen(&state, 80, 24);
        assert_eq!(rules[0], "icmpctl top eth0: program 7, native mode, policy.toml");
        assert!(
            rules[1].starts_with(" What became of packets: packets/s by family, packets in all ─"),
            "{rules:?}"
        );
        has(&rules, "received      123457        0.5      99999999 ");
        has(&rules, "answered       999.9        0.5             5 ");
        // A lower, and a full block, at the right edge.
        assert!(rules[3].ends_with("▄█"), "{}", rules[3]);
        assert_eq!(rules[10], " 1 Rules   2 Types   3 Sources   4 Destinations");
        assert!(rules[11].starts_with(" 1 Rules (40): packets/s that each decided about ─"), "{}", rules[11]);
        assert_eq!(rules[12], " RULE ▼PACKETS/s   OVER/s     PACKETS TEXT");
        assert_eq!(
            rules[13],
            "    1       99.0        -        1000 limit 100/s burst 200 per source icmp host"
        );
        assert_eq!(
            rules[14],
            "    2       98.0      7.0        1000 limit 100/s burst 200 per source icmp host"
        );
        assert!(rules[22].starts_with("   10 ") && rules[23].contains("q leave"), "{rules:?}");
        assert!(rules.iter().all(|line| line.chars().count() <= 80));

        state.obey(Command::Show(Panel::Sources));
        let sources = screen(&state, 80, 24);
        has(&sources, " 3 Sources (2): ~packets/s from each (346 samples/s) ─");
        assert_eq!(sources[12], "▼~PACKETS/s  ~OVER/s RULE LAST      ADDRESS");
        let long = "      ~1234    ~1000    2 limited   2001:db8:1234:5678:9abc:def0:1234:5678";
        assert_eq!(sources[13], long);
        assert_eq!(sources[14], "      ~12.3        -    2 limited   198.51.100.7");
        state.obey(Command::Show(Panel::Types));
        let types = screen(&state, 80, 24);
        has(&types, " 2 Types (1): packets/s by type and code ─");
        has(&types, "ipv4       8    0      543.2        9876 echo");
    }

    #[test]
    fn four_tables_fit_40_lines_of_120() {
        let screen = screen(&state(), 120, 40);
        for title in [
            "1 Rules (40): packets/s that each decided about",
            "2 Types (1): packets/s by type and code",
            "3 Sources (2): ~packets/s from each (346 samples/s) ─",
            "4 Destinations (1): ~packets/s to each (346 samples/s) ─",
        ] {
            has(&screen, title);
        }
        // Without the columns that there is no room for; addresses are there to the end.
        has(&screen, "    2       98.0      7.0 limit 100/s burst 200 per");
        has(&screen, "  ~1000    2 2001:db8:1234:5678:9abc:def0:1234:5678");
    }

    #[test]
    fn what_is_typed_paused_or_too_small_is_said() {
        let mut state = state();
        state.obey(Command::Pause);
        state.obey(Command::Filter);
        "2.33 ".chars().for_each(|character| state.obey(Command::Type(character)));
        let filtered = screen(&state, 80, 24);
        assert!(
            filtered[0].starts_with("icmpctl top PAUSED eth0: ")
                && filtered[23].starts_with("Filter: 2.33 █"),
            "{filtered:?}"
        );
        has(&filtered, "1 Rules (1)");
        state.obey(Command::Accept);
        assert!(screen(&state, 80, 24)[23].starts_with("Filter: 2.33 "));
        state.obey(Command::Help);
        has(&screen(&state, 80, 24), "│ /                       show only lines that contain what is typed");
        for (width, height) in [(59, 24), (80, 17), (1, 1), (0, 0)] {
            let small = screen(&state, width, height).join(" ");
            assert!(width < 20 || small.contains("top needs 60x18 characters"), "{small:?}");
        }
        state.obey(Command::Help);
        has(&screen(&state, 60, 18), "1 Rules (1)");
    }

    #[test]
    fn colours_tell_verdicts_apart_unless_they_are_not_wanted() {
        let colours = |colours| {
            ["answered", "passed", "denied", "limited", "malformed"].map(|name| Look { colours }.of(name).fg)
        };
        let [with, without] = [true, false].map(colours);
        assert!(
            with.iter()
                .enumerate()
                .all(|(number, colour)| colour.is_some() && !with[..number].contains(colour))
        );
        assert_eq!(without, [None; 5]);
    }
}
