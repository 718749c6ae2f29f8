//! What keys change: which table is looked at, in which order, through which filter, and which line of it is chosen.

use std::{cmp::Ordering, net::IpAddr};

use super::{Model, Reading, Rule, Shown, samples::Sample, samples::Talker};
use crate::observe::types;

/// A table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Panel {
    /// Rules.
    Rules,
    /// Types and codes.
    Types,
    /// Who sends.
    Sources,
    /// To whom.
    Destinations,
}

impl Panel {
    /// All, in the order of their keys.
    pub const ALL: [Self; 4] = [Self::Rules, Self::Types, Self::Sources, Self::Destinations];

    /// What it is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rules => "Rules",
            Self::Types => "Types",
            Self::Sources => "Sources",
            Self::Destinations => "Destinations",
        }
    }

    /// The orders that its lines can be in; the first one to begin with.
    const fn orders(self) -> &'static [Order] {
        match self {
            Self::Rules => &[Order::Rate, Order::Over, Order::Total, Order::Name],
            Self::Types => &[Order::Rate, Order::Total, Order::Name],
            Self::Sources | Self::Destinations => &[Order::Rate, Order::Over, Order::Name],
        }
    }
}

/// An order of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Most packets a second first.
    Rate,
    /// Most packets over a limit a second first.
    Over,
    /// Most packets first.
    Total,
    /// Rules as they stand in the policy, types by their number, addresses as they follow each other.
    Name,
}

/// What somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Another table.
    Show(Panel),
    /// The table so many further on.
    Turn(usize),
    /// A line so many further down, or up.
    Move(isize),
    /// The next order.
    Sort,
    /// Hold, or go on.
    Pause,
    /// The rule that decided about the chosen address.
    Jump,
    /// A filter is going to be typed.
    Filter,
    /// A character of it.
    Type(char),
    /// The last character of it was wrong.
    Erase,
    /// That was the filter.
    Accept,
    /// No filter.
    Cancel,
    /// What keys there are.
    Help,
}

/// Where samples come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sampling {
    /// They are asked for.
    Beginning,
    /// A channel of our own.
    Own,
    /// Somebody else's.
    Others,
    /// Nowhere, because.
    Impossible(String),
}

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Rule(Option<u32>, u32),
    Type(&'static str, Option<u8>, Option<u8>),
    Address(IpAddr),
}

/// A column of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// What stands above it.
    pub name: &'static str,
    /// How wide it is at least.
    pub width: u16,
    /// Whether it is aligned to the right.
    pub right: bool,
    /// Whether it can be done without where there is no room.
    pub extra: bool,
    /// What it sorts by.
    order: Option<Order>,
}

/// A table as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// What it counts, and in which unit.
    pub title: String,
    /// Its columns.
    pub columns: &'static [Column],
    /// The number of the column that its lines are sorted by.
    pub sorted: Option<usize>,
    /// Those of its lines that there is room for.
    pub lines: Vec<Vec<String>>,
    /// Which of them is chosen.
    pub chosen: Option<usize>,
    /// How many lines there are in all.
    pub of: usize,
    /// Why there are none.
    pub why_empty: Option<String>,
}

/// Everything that is shown, and how.
#[derive(Debug)]
pub struct State {
    model: Model,
    /// As of the last reading, or of the pause.
    pub shown: Shown,
    /// Where samples come from.
    pub sampling: Sampling,
    /// The table that keys are for.
    pub panel: Panel,
    /// Whether what is shown stays.
    pub paused: bool,
    /// Whether the keys are shown.
    pub help: bool,
    /// What lines have to contain.
    pub filter: String,
    /// Whether that is being typed.
    pub typing: bool,
    /// What the last key came to, if there is anything to say of it.
    pub notice: Option<String>,
    orders: [usize; Panel::ALL.len()],
    chosen: [Option<Key>; Panel::ALL.len()],
}

impl Default for State {
    fn default() -> Self {
        Self {
            model: Model::default(),
            shown: Shown::default(),
            sampling: Sampling::Beginning,
            panel: Panel::Rules,
            paused: false,
            help: false,
            filter: String::new(),
            typing: false,
            notice: None,
            orders: Default::default(),
            chosen: Default::default(),
        }
    }
}

const fn column(name: &'static str, width: u16, order: Option<Order>) -> Column {
    Column { name, width, right: true, extra: false, order }
}

const RULES: &[Column] = &[
    column("RULE", 5, Some(Order::Name)),
    column("PACKETS/s", 10, Some(Order::Rate)),
    column("OVER/s", 8, Some(Order::Over)),
    Column { extra: true, ..column("PACKETS", 11, Some(Order::Total)) },
    Column { right: false, ..column("TEXT", 12, None) },
];
const TYPES: &[Column] = &[
    Column { right: false, ..column("FAMILY", 6, None) },
    column("TYPE", 5, Some(Order::Name)),
    column("CODE", 4, None),
    column("PACKETS/s", 10, Some(Order::Rate)),
    Column { extra: true, ..column("PACKETS", 11, Some(Order::Total)) },
    Column { right: false, ..column("NAME", 12, None) },
];
const ADDRESSES: &[Column] = &[
    column("~PACKETS/s", 11, Some(Order::Rate)),
    column("~OVER/s", 8, Some(Order::Over)),
    column("RULE", 4, None),
    Column { right: false, extra: true, ..column("LAST", 9, None) },
    Column { right: false, ..column("ADDRESS", 15, Some(Order::Name)) },
];

impl State {
    /// Takes a sample in.
    pub fn add(&mut self, sample: &Sample) {
        self.model.add(sample);
    }

    /// Takes a reading in.
    pub fn read(&mut self, reading: Reading) {
        let shown = self.model.read(reading);
        if !self.paused {
            self.shown = shown;
        }
    }

    /// Does what somebody wants.
    pub fn obey(&mut self, command: Command) {
        self.notice = None;
        match command {
            Command::Show(panel) => self.panel = panel,
            Command::Turn(by) => {
                self.panel = Panel::ALL[(self.panel as usize + by) % Panel::ALL.len()];
            }
            Command::Move(by) => self.choose(by),
            Command::Sort => {
                let order = &mut self.orders[self.panel as usize];
                *order = (*order + 1) % self.panel.orders().len();
            }
            Command::Pause => self.paused = !self.paused,
            Command::Jump => self.jump(),
            Command::Filter => self.typing = true,
            Command::Type(character) => self.filter.push(character),
            Command::Erase => {
                self.filter.pop();
            }
            Command::Accept => self.typing = false,
            Command::Cancel => {
                self.typing = false;
                self.help = false;
                self.filter.clear();
            }
            Command::Help => self.help = !self.help,
        }
    }

    /// What a table shows in so many lines.
    #[must_use]
    pub fn table(&self, panel: Panel, room: usize) -> Table {
        let (columns, title) = match panel {
            Panel::Rules => (RULES, "packets/s that each decided about".to_owned()),
            Panel::Types => (TYPES, "packets/s by type and code".to_owned()),
            Panel::Sources => (ADDRESSES, self.estimated("from each")),
            Panel::Destinations => (ADDRESSES, self.estimated("to each")),
        };
        let lines = self.lines(panel);
        let chosen = self.place_of_chosen(panel, &lines);
        // The chosen line is among those that are shown.
        let first = chosen.map_or(0, |chosen| (chosen + 1).saturating_sub(room.max(1)));
        let shown: Vec<_> = lines.iter().skip(first).take(room).map(|line| line.cells(&self.shown)).collect();
        let order = self.order(panel);
        Table {
            title,
            columns,
            sorted: columns.iter().position(|column| column.order == Some(order)),
            chosen: chosen.filter(|_| !shown.is_empty()).map(|chosen| chosen - first),
            lines: shown,
            of: lines.len(),
            why_empty: lines.is_empty().then(|| self.why_empty(panel)),
        }
    }

    fn estimated(&self, each: &str) -> String {
        let whose = if self.sampling == Sampling::Others { " of another top" } else { "" };
        format!("~packets/s {each} ({:.0} samples/s{whose})", self.shown.samples)
    }

    fn why_empty(&self, panel: Panel) -> String {
        let is_sampled = matches!(panel, Panel::Sources | Panel::Destinations);
        match &self.sampling {
            Sampling::Impossible(why) if is_sampled => format!("No samples: {why}"),
            Sampling::Beginning if is_sampled => "Samples are being asked for.".to_owned(),
            _ if !self.filter.is_empty() => format!("Nothing contains {:?}.", self.filter),
            _ => "Nothing has come.".to_owned(),
        }
    }

    const fn order(&self, panel: Panel) -> Order {
        panel.orders()[self.orders[panel as usize]]
    }

    /// The lines of a table that the filter leaves, in their order.
    fn lines(&self, panel: Panel) -> Vec<Line<'_>> {
        let shown = &self.shown;
        let mut lines: Vec<_> = match panel {
            Panel::Rules => shown.rules.iter().map(Line::Rule).collect(),
            Panel::Types => shown.types.iter().map(Line::Type).collect(),
            Panel::Sources => shown.sources.iter().map(Line::Talker).collect(),
            Panel::Destinations => shown.destinations.iter().map(Line::Talker).collect(),
        };
        if !self.filter.is_empty() {
            let filter = self.filter.to_lowercase();
            lines.retain(|line| line.text().to_lowercase().contains(&filter));
        }
        let order = self.order(panel);
        lines.sort_by(|one, two| {
            let most = match order {
                Order::Rate => two.rate().total_cmp(&one.rate()),
                Order::Over => two.over().total_cmp(&one.over()),
                Order::Total => two.total().cmp(&one.total()),
                Order::Name => Ordering::Equal,
            };
            // Rules and types are in their order already, and sorting keeps that.
            most.then_with(|| one.address().cmp(&two.address()))
        });
        lines
    }

    /// The chosen line, or the first one.
    fn place_of_chosen(&self, panel: Panel, lines: &[Line<'_>]) -> Option<usize> {
        let place = lines.iter().position(|line| Some(line.key()) == self.chosen[panel as usize]);
        place.or((!lines.is_empty()).then_some(0))
    }

    fn choose(&mut self, by: isize) {
        let lines = self.lines(self.panel);
        let Some(place) = self.place_of_chosen(self.panel, &lines) else { return };
        let place = place.saturating_add_signed(by).min(lines.len() - 1);
        // Nobody who is at the top wants to stay with the line that is there by chance.
        let key = (place > 0).then(|| lines[place].key());
        self.chosen[self.panel as usize] = key;
    }

    /// Shows the rule that decided about the last sample of the chosen address.
    fn jump(&mut self) {
        let lines = self.lines(self.panel);
        let chosen = self.place_of_chosen(self.panel, &lines).map(|place| &lines[place]);
        let Some(Line::Talker(talker)) = chosen else { return };
        let Talker { address, slot, reason, .. } = talker;
        let rule = slot.map(|slot| self.shown.rules.iter().find(|rule| rule.slot == slot));
        match rule {
            Some(Some(rule)) => {
                let number = rule.number.map_or_else(|| rule.text.clone(), |number| format!("rule {number}"));
                self.notice =
                    Some(format!("{address}: the last sample was {} by {number}", reason.verdict().name()));
                self.chosen[Panel::Rules as usize] = Some(Key::Rule(rule.number, rule.slot));
                self.panel = Panel::Rules;
                self.filter.clear();
            }
            Some(None) => self.notice = Some(format!("{address}: the rule that decided has gone")),
            None => self.notice = Some(format!("{address}: no rule was asked: {}", reason.explanation())),
        }
    }
}

/// A line of a table.
#[derive(Clone, Copy)]
enum Line<'a> {
    Rule(&'a Rule),
    Type(&'a types::Row),
    Talker(&'a Talker),
}

impl Line<'_> {
    const fn key(&self) -> Key {
        match self {
            Self::Rule(rule) => Key::Rule(rule.number, rule.slot),
            Self::Type(row) => Key::Type(row.family, row.icmp_type, row.code),
            Self::Talker(talker) => Key::Address(talker.address),
        }
    }

    fn rate(&self) -> f64 {
        match self {
            Self::Rule(rule) => rule.per_second.unwrap_or_default(),
            Self::Type(row) => row.per_second.unwrap_or_default(),
            Self::Talker(talker) => talker.packets,
        }
    }

    fn over(&self) -> f64 {
        match self {
            Self::Rule(rule) => rule.over.unwrap_or(-1.0),
            Self::Type(_) => 0.0,
            Self::Talker(talker) => talker.over,
        }
    }

    const fn total(&self) -> u64 {
        match self {
            Self::Rule(rule) => rule.packets,
            Self::Type(row) => row.packets,
            Self::Talker(_) => 0,
        }
    }

    const fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Talker(talker) => Some(talker.address),
            Self::Rule(_) | Self::Type(_) => None,
        }
    }

    /// What a filter is compared with: all but what changes by itself.
    fn text(&self) -> String {
        match self {
            Self::Rule(Rule { number: Some(number), text, .. }) => format!("{number} {text}"),
            Self::Rule(rule) => rule.text.clone(),
            Self::Type(row) => format!("{} {}", row.family, row.name.unwrap_or_default()),
            Self::Talker(talker) => format!("{} {}", talker.address, talker.reason.verdict().name()),
        }
    }

    /// As many as its table has columns.
    fn cells(&self, shown: &Shown) -> Vec<String> {
        let number = |number: Option<u32>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        match self {
            Self::Rule(rule) => vec![
                number(rule.number),
                rate(rule.per_second),
                rate(rule.over.filter(|_| rule.per_second.is_some())),
                rule.packets.to_string(),
                rule.text.clone(),
            ],
            Self::Type(row) => vec![
                row.family.to_owned(),
                number(row.icmp_type.map(u32::from)),
                number(row.code.map(u32::from)),
                rate(row.per_second),
                row.packets.to_string(),
                row.name.unwrap_or_default().to_owned(),
            ],
            Self::Talker(talker) => {
                let rule = shown.rules.iter().find(|rule| Some(rule.slot) == talker.slot);
                vec![
                    format!("~{}", rate(Some(talker.packets))),
                    if talker.over > 0.0 { format!("~{}", rate(Some(talker.over))) } else { "-".to_owned() },
                    number(rule.and_then(|rule| rule.number)),
                    talker.reason.verdict().name().to_owned(),
                    talker.address.to_string(),
                ]
            }
        }
    }
}

/// A rate in as few digits as anybody reads.
#[must_use]
pub fn rate(per_second: Option<f64>) -> String {
    match per_second {
        None => "-".to_owned(),
        Some(rate) if rate < 999.95 => format!("{rate:.1}"),
        Some(rate) => format!("{rate:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use icmp_common::{Family, reason::Reason};

    use super::{
        super::{Outcome, tests::reading},
        *,
    };

    /// Rates of 300 and 42 packets a second by rules 10 and 20; three sources, the second one limited.
    fn state() -> State {
        let mut state = State { sampling: Sampling::Own, ..State::default() };
        state.read(reading(0, 0, 0));
        for (last, reason, slot, samples) in
            [(1, Reason::Echo, Some(3), 10), (2, Reason::OverLimit, Some(4), 5), (3, Reason::Echo, None, 20)]
        {
            let (source, family) = match reason {
                Reason::OverLimit => ("2001:db8::2".parse().unwrap(), Family::Ipv6),
                _ => (IpAddr::from([10, 0, 0, last]), Family::Ipv4),
            };
            let destination = [192, 0, 2, 1].into();
            (0..samples).for_each(|_| state.add(&Sample { family, source, destination, reason, slot }));
        }
        state.read(reading(1, 300, 40));
        state
    }

    fn column_of(table: &Table, name: &str) -> Vec<String> {
        let place = table.columns.iter().position(|column| column.name == name).unwrap();
        table.lines.iter().map(|line| line[place].clone()).collect()
    }

    fn chosen(table: &Table) -> &[String] {
        &table.lines[table.chosen.unwrap()]
    }

    #[test]
    fn lines_are_sorted_and_the_order_changes() {
        let mut state = state();
        let order = |state: &State| column_of(&state.table(state.panel, 10), "RULE");
        assert_eq!(order(&state), ["10", "20", "-"]);
        state.obey(Command::Sort);
        assert_eq!(state.table(Panel::Rules, 10).sorted, Some(2));
        assert_eq!(order(&state), ["20", "10", "-"]);
        (0..3).for_each(|_| state.obey(Command::Sort));
        assert_eq!(order(&state), ["10", "20", "-"]);

        state.obey(Command::Show(Panel::Sources));
        let addresses = |state: &State| column_of(&state.table(Panel::Sources, 10), "ADDRESS");
        assert_eq!(addresses(&state), ["10.0.0.3", "10.0.0.1", "2001:db8::2"]);
        state.obey(Command::Sort);
        assert_eq!(addresses(&state), ["2001:db8::2", "10.0.0.1", "10.0.0.3"]);
        let table = state.table(Panel::Sources, 10);
        assert!(table.lines.iter().all(|line| line[0].starts_with('~')), "{table:?}");
        assert_eq!(column_of(&table, "~OVER/s")[1..], ["-", "-"]);
        assert_eq!(column_of(&table, "RULE"), ["20", "10", "-"]);
        state.obey(Command::Sort);
        assert_eq!(addresses(&state), ["10.0.0.1", "10.0.0.3", "2001:db8::2"]);
    }

    #[test]
    fn what_is_chosen_stays_chosen_wherever_it_goes() {
        let mut state = state();
        state.obey(Command::Move(1));
        assert_eq!(chosen(&state.table(Panel::Rules, 10))[0], "20");
        state.obey(Command::Sort);
        assert_eq!(
            (state.table(Panel::Rules, 10).chosen, &*chosen(&state.table(Panel::Rules, 10))[0]),
            (Some(0), "20")
        );
        state.obey(Command::Sort);
        state.obey(Command::Move(100));
        // In a window of two lines it is the lower one.
        let table = state.table(Panel::Rules, 2);
        assert_eq!((table.lines.len(), table.of, table.chosen), (2, 3, Some(1)));
        assert_eq!(chosen(&table)[0], "-");
        state.obey(Command::Move(-100));
        assert_eq!(state.table(Panel::Rules, 2).chosen, Some(0));
        assert_eq!(state.table(Panel::Rules, 0).chosen, None);
    }

    #[test]
    fn a_filter_leaves_what_contains_it() {
        let mut state = state();
        state.obey(Command::Filter);
        "ICMP6".chars().for_each(|character| state.obey(Command::Type(character)));
        assert!(state.typing);
        state.obey(Command::Accept);
        assert_eq!(column_of(&state.table(Panel::Rules, 10), "RULE"), ["20"]);
        let sources = state.table(Panel::Sources, 10);
        assert_eq!(sources.why_empty.as_deref(), Some("Nothing contains \"ICMP6\"."));
        state.obey(Command::Erase);
        state.obey(Command::Cancel);
        assert_eq!(state.table(Panel::Rules, 10).of, 3);
    }

    #[test]
    fn a_source_leads_to_the_rule_that_decided() {
        let mut state = state();
        state.obey(Command::Show(Panel::Sources));
        // The first one: no rule was asked.
        state.obey(Command::Jump);
        assert_eq!(state.panel, Panel::Sources);
        assert!(state.notice.as_ref().unwrap().starts_with("10.0.0.3: no rule was asked: "));
        state.obey(Command::Filter);
        "2001:".chars().for_each(|character| state.obey(Command::Type(character)));
        state.obey(Command::Accept);
        state.obey(Command::Jump);
        assert_eq!((state.panel, &*state.filter), (Panel::Rules, ""));
        assert_eq!(chosen(&state.table(Panel::Rules, 10))[0], "20");
        assert_eq!(state.notice.as_deref(), Some("2001:db8::2: the last sample was limited by rule 20"));
        // Another policy, without that rule.
        state.obey(Command::Show(Panel::Sources));
        state.obey(Command::Move(100));
        state.shown.rules.clear();
        state.obey(Command::Jump);
        assert_eq!(state.notice.as_deref(), Some("2001:db8::2: the rule that decided has gone"));
    }

    #[test]
    fn a_pause_keeps_what_is_shown() {
        let mut state = state();
        let packets = |state: &State| -> Vec<u64> {
            state.shown.outcomes.iter().map(|Outcome { packets, .. }| *packets).collect()
        };
        let before = packets(&state);
        state.obey(Command::Pause);
        state.read(reading(2, 1_000, 40));
        assert_eq!(packets(&state), before);
        state.obey(Command::Pause);
        state.read(reading(3, 1_100, 40));
        assert_eq!(packets(&state)[0], 1_140);
        // What came meanwhile is part of the history.
        assert_eq!(state.shown.outcomes[1].history, [300, 700, 100]);
    }

    #[test]
    fn tables_without_samples_say_why() {
        let why = |sampling| {
            let state = State { sampling, ..State::default() };
            [Panel::Rules, Panel::Sources].map(|panel| state.table(panel, 5).why_empty.unwrap())
        };
        assert_eq!(why(Sampling::Own), ["Nothing has come.", "Nothing has come."]);
        let impossible = why(Sampling::Impossible("a policy waits".to_owned()));
        assert_eq!(impossible, ["Nothing has come.", "No samples: a policy waits"]);
    }
}
