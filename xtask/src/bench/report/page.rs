//! The report as one page for a browser, which loads nothing else.

use std::fmt::Write as _;

use super::{
    super::{
        control::{self, Control},
        end_to_end::{self, Entrant},
        packets::{
            self, Packets,
            cases::{Chart, Group},
        },
        samples::{Spread, Summary},
    },
    Report,
    chart::{Bar, Curve, Wide, bars, curves, escape},
    goals::{self, Judged},
};

/// The page.
pub(super) fn page(report: &Report) -> String {
    let goals = goals::all(report);
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>icmpctl: measured</title><style>{}</style></head><body>\n\
         <h1>icmpctl, measured</h1><p class=\"dim\">{}</p>\n",
        include_str!("style.css"),
        escape(&report.circumstances())
    );
    html += &tiles(report, &goals);
    if !report.end_to_end.is_empty() {
        html += &floods(&report.end_to_end);
    }
    if let Some(packets) = &report.packets {
        html += &growth(packets);
        html += &costs(packets);
    }
    if !report.control.is_empty() {
        html += &changes(&report.control);
    }
    if !goals.is_empty() {
        html += &judged(&goals);
    }
    html + "</body></html>\n"
}

/// What is to be seen first.
fn tiles(report: &Report, goals: &[Judged]) -> String {
    let mut html = String::from("<div class=\"tiles\">");
    let mut tile = |class: &str, number: String, text: &str| {
        let _ = write!(html, "<div class=\"card tile {class}\"><b>{number}</b>{}</div>", escape(text));
    };
    let goals_met = goals::met(goals);
    if !goals.is_empty() {
        let class = if goals_met == goals.len() { "good" } else { "bad" };
        tile(class, format!("{goals_met} of {}", goals.len()), "goals are met");
    }
    let lines = report.packets.as_ref().map_or(&[][..], |packets| &packets.lines);
    if let Some(line) = lines.iter().find(|line| line.group == Group::Echo) {
        let text = format!("more than an empty program for {}", line.name);
        tile("", format!("{:.1} ns", line.summary.net.median), &text);
    }
    for line in &report.end_to_end {
        for Entrant { name, outcome, .. } in &line.entrants {
            if let Ok(outcome) = outcome
                && outcome.goal.is_some()
            {
                let text = format!("as many a second as {name}: {}", line.name);
                tile("", format!("{:.1}\u{d7}", outcome.ratio.median), &text);
            }
        }
    }
    html + "</div>\n"
}

/// Packets a second of a core, from end to end.
fn floods(lines: &[end_to_end::Line]) -> String {
    let mut html = String::from(
        "<h2>Throughput, from end to end</h2><p class=\"dim\">Millions of requests a second of one core, which makes them, takes \
         them in and counts what comes back; where two cores send, of each. The same flood for everybody, in turn. Lines across the ends \
         of bars are the spread of all rounds.</p>\
         <ul class=\"legend\"><li><span class=\"key ours\"></span>icmpctl, native</li><li><span class=\"key ours2\"></span>icmpctl, \
         generic</li><li><span class=\"key peer\"></span>others</li><li><span class=\"key floor\"></span>the least that an XDP program \
         has to do</li></ul><br>\n<div class=\"grid\">",
    );
    let names = lines.iter().flat_map(|line| &line.entrants).map(|entrant| entrant.name.len());
    let label = names.max().unwrap_or_default();
    for line in lines {
        let measured =
            line.entrants.iter().filter_map(|entrant| Some((entrant, entrant.outcome.as_ref().ok()?)));
        let of_all: Vec<_> = measured
            .map(|(entrant, outcome)| {
                let each = outcome.each;
                let rate = |nanoseconds: f64| 1000.0 / nanoseconds;
                let value =
                    Spread { median: rate(each.median), least: rate(each.most), most: rate(each.least) };
                let ratio = outcome.ratio.median;
                let compared = if (ratio - 1.0).abs() < 0.005 {
                    String::new()
                } else if ratio > 1.0 {
                    format!(" \u{b7} {ratio:.1} times less")
                } else {
                    format!(" \u{b7} {:.1} times more", 1.0 / ratio)
                };
                Bar {
                    label: entrant.name.to_owned(),
                    value,
                    class: entrant.class(),
                    text: format!("{:.2} M/s{compared}", value.median),
                    goal: None,
                    met: None,
                }
            })
            .collect();
        let _ = write!(
            html,
            "<figure class=\"card\"><h3>{}</h3>{}",
            escape(&line.name),
            bars(&of_all, Wide::Half, label)
        );
        for entrant in &line.entrants {
            if let Err(reason) = &entrant.outcome {
                let _ =
                    write!(html, "<small>{} was not measured: {}.</small> ", entrant.name, escape(reason));
            }
        }
        html += "</figure>\n";
    }
    html + "</div>\n"
}

/// What costs grow with.
fn growth(packets: &Packets) -> String {
    let mut html = String::new();
    for (chart, title, across) in [
        (Chart::Rules, "Cost against the number of rules", "rules"),
        (Chart::Prefixes, "Cost against the number of prefixes", "prefixes in a set that is denied"),
        (Chart::Sources, "Cost against the number of sources", "sources"),
        (Chart::Length, "Cost against the length of a ping", "bytes of data"),
    ] {
        let mut all: Vec<Curve> = Vec::new();
        for line in &packets.lines {
            for point in line.points.iter().filter(|point| point.chart == chart) {
                let place = (point.x.into(), line.summary.net);
                match all.iter_mut().find(|curve| curve.name == point.series) {
                    Some(curve) => curve.points.push(place),
                    None => all.push(Curve { name: point.series, points: vec![place] }),
                }
            }
        }
        if all.iter().any(|curve| curve.points.len() > 1) {
            let chart = curves(across, "ns a packet", &all);
            let _ = writeln!(html, "<figure class=\"card\"><h3>{title}</h3>{chart}</figure>");
        }
    }
    if html.is_empty() {
        return html;
    }
    format!(
        "<h2>What costs grow with</h2><p class=\"dim\">Nanoseconds a packet more than an empty program; both axes are logarithmic.</p>\
         <div class=\"grid\">{html}</div>\n"
    )
}

/// What a packet costs, case by case.
fn costs(packets: &Packets) -> String {
    let mut html = format!(
        "<h2>Packet by packet</h2><p class=\"dim\">Nanoseconds more than an empty program, which takes {:.1} with what every program is \
         entered by. Lines across the ends of bars are the spread of all loads; behind each bar is the whole time's ratio to that of a \
         program that only exchanges the MAC addresses.</p><ul class=\"legend\"><li><span class=\"key mark\"></span>goal</li></ul><br>\n\
         <div class=\"column\">",
        packets.empty
    );
    let label = packets.lines.iter().map(|line| line.name.len()).max().unwrap_or_default();
    for lines in packets.lines.chunk_by(|one, other| one.group == other.group) {
        let bar = |line: &packets::Line| {
            let Summary { net, ratio } = line.summary;
            let unsteady = if line.is_steady() { "" } else { " \u{b7} unsteady" };
            Bar {
                label: line.name.clone(),
                value: net,
                class: if line.group == Group::Floors { "floor" } else { "ours" },
                text: format!("{:.1} ns \u{b7} {:.2}\u{d7}{unsteady}", net.median, ratio.median),
                goal: line.goal.map(|goal| goal.net).filter(|net| net.is_finite()),
                met: line.is_met(&packets.lines),
            }
        };
        let all: Vec<_> = lines.iter().map(bar).collect();
        let _ = writeln!(
            html,
            "<figure class=\"card\"><h3>{}</h3>{}</figure>",
            escape(lines[0].group.name()),
            bars(&all, Wide::Page, label)
        );
    }
    html + "</div>\n"
}

/// What changes cost.
fn changes(control: &Control) -> String {
    let mut html = String::from(
        "<h2>Control plane</h2><div class=\"grid top\"><div class=\"card wide\"><table><tr><th>command</th><th class=\"number\">ms</th><th class=\"number\">spread</th><th class=\"number\">MiB</th></tr>",
    );
    for control::Line { name, seconds, mib, .. } in &control.lines {
        let [median, least, most] = [seconds.median, seconds.least, seconds.most].map(|time| time * 1000.0);
        let _ = write!(
            html,
            "<tr><td>{}</td><td class=\"number\">{median:.0}</td><td class=\"number\">{least:.0} to {most:.0}</td><td \
             class=\"number\">{:.0}</td></tr>",
            escape(name),
            mib.most
        );
    }
    if let Some(account) = &control.swapped {
        let _ = write!(
            html,
            "<tr><td>{}, {} requests</td><td colspan=\"3\" class=\"number\">{}</td></tr>",
            escape(control::SWAPPED),
            account.requests,
            escape(&control::lost(account))
        );
    }
    html += "</table></div>";
    if !control.memory.is_empty() {
        html += "<div class=\"card wide\"><table><tr><th>memory of the kernel</th><th class=\"number\">maps</th><th \
                 class=\"number\">program</th><th class=\"number\">machine code</th></tr>";
        for control::Memory { name, maps, program: [instructions, machine] } in &control.memory {
            let _ = write!(
                html,
                "<tr><td>{}</td><td class=\"number\">{maps:.1} MiB</td><td class=\"number\">{instructions:.0} KiB</td><td \
                 class=\"number\">{machine:.0} KiB</td></tr>",
                escape(name)
            );
        }
        html += "</table></div>";
    }
    html + "</div>\n"
}

/// All goals.
fn judged(goals: &[Judged]) -> String {
    let mut html = String::from(
        "<h2>Goals</h2><div class=\"card wide\"><table><tr><th></th><th>what</th><th>measured</th><th>goal</th></tr>",
    );
    for Judged { what, measured, goal, met, steady } in goals {
        let (class, word) = if *met { ("met", "\u{2713} met") } else { ("missed", "\u{2717} missed") };
        let unsteady = if *steady { "" } else { " <small>(unsteady)</small>" };
        let [what, measured, goal] = [what, measured, goal].map(|text| escape(text));
        let _ = write!(
            html,
            "<tr><td class=\"{class}\">{word}</td><td>{what}</td><td>{measured}{unsteady}</td><td>{goal}</td></tr>"
        );
    }
    html + "</table></div>\n"
}

impl Entrant {
    /// A class of the style sheet.
    fn class(&self) -> &'static str {
        match self.kind {
            end_to_end::Kind::Native => "ours",
            end_to_end::Kind::Generic => "ours2",
            end_to_end::Kind::Floor => "floor",
            end_to_end::Kind::Peer => "peer",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        super::super::{Effort, packets::cases::Point},
        *,
    };

    /// A report with two cases in a chart.
    fn report() -> Report {
        let effort = Effort { loads: 1, rounds: 1, changes: 1, floods: 1, chunk: Duration::ZERO };
        let spread = |median| Spread { median, least: median, most: median };
        let line = |name: &str, net, x| packets::Line {
            name: name.to_owned(),
            group: Group::Rules,
            many: false,
            summary: Summary { net: spread(net), ratio: spread(1.5) },
            goal: None,
            points: vec![Point { chart: Chart::Rules, series: "series", x }],
        };
        let lines = vec![line("few <rules>", 19.0, 10), line("many rules", 21.0, 1000)];
        Report { packets: Some(Packets { lines, empty: 9.0 }), ..Report::new(effort) }
    }

    #[test]
    fn the_page_loads_nothing_and_runs_nothing() {
        let page = page(&report());
        for outside in ["http:", "https:", "//", "src=", "href=", "url(", "@import", "<script", "<link"] {
            assert!(!page.contains(outside), "{outside} in {page}");
        }
        assert!(page.contains("prefers-color-scheme: dark"));
    }

    #[test]
    fn the_page_has_every_case_in_bars_and_in_curves() {
        let page = page(&report());
        assert!(page.contains("few &lt;rules&gt;</text>") && page.contains("many rules</text>"), "{page}");
        assert!(page.contains("series <small>19.0 \u{2192} 21.0 ns</small>"), "{page}");
    }

    #[test]
    fn every_element_is_closed() {
        let page = page(&report());
        let mut open = Vec::new();
        for part in page.split('<').skip(1) {
            let (tag, _) = part.split_once('>').unwrap();
            let name = tag.split([' ', '/']).find(|word| !word.is_empty()).unwrap();
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name), "{page}");
            } else if !tag.ends_with('/') && !matches!(name, "!doctype" | "meta" | "br") {
                open.push(name);
            }
        }
        assert!(open.is_empty(), "{open:?}");
    }
}
