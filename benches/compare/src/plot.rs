//! `plot`: a record's speeds as a picture for the README: a panel for each vocabulary (of a record of training, for each size), a
//! group of bars for each corpus, a bar for each engine, those that are ahead of vocabd among them.

use crate::{Failure, peers};
use clap::Args;
use serde_json::Value;
use std::fmt::Write as _;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct PlotArgs {
    /// Lines that `encode --json` or `train --json` printed; of the same cell the last counts.
    #[arg(value_name = "RECORD")]
    record: PathBuf,
    /// The picture.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// What stands above it.
    #[arg(long, default_value = "Encoding, MB/s on one core")]
    title: String,
    /// Vocabularies to show, in this order [default: all, in the record's order].
    #[arg(long, num_args = 1..)]
    vocab: Vec<String>,
}

/// Those that only train stand behind [`peers::ALL`].
const TRAINERS: [&str; 2] = ["rustbpe", "ffbpe"];

fn name(place: usize) -> &'static str {
    peers::ALL.into_iter().chain(TRAINERS).nth(place).unwrap_or_default()
}

/// Colours by place among the names: vocabd's is the strong one, those of slow engines are faint. All of them can be
/// told from white and from black.
const COLOURS: [&str; 12] = [
    "#e5484d", "#3b82f6", "#14b8a6", "#f59e0b", "#8b5cf6", "#94a3b8", "#7c8aa0", "#a8a29e", "#8b8378",
    "#6b7280", "#3b82f6", "#f59e0b",
];

const WIDTH: f64 = 900.0;
const LEFT: f64 = 34.0;
const TOP: f64 = 74.0;
/// Height of a panel's bars, and of everything beside them.
const BARS: f64 = 112.0;
const AROUND: f64 = 62.0;
/// Groups that stand side by side.
const GROUPS: usize = 6;

/// A vocabulary: for each corpus the engines by place in [`peers::ALL`] with their speeds.
struct Panel {
    vocab: String,
    /// By place, as the record says.
    versions: Vec<(usize, String)>,
    groups: Vec<(String, Vec<(usize, f64)>)>,
}

/// Draws a record.
pub fn draw(args: &PlotArgs) -> Result<(), Failure> {
    let record =
        std::fs::read_to_string(&args.record).map_err(|e| format!("{}: {e}", args.record.display()))?;
    let mut panels: Vec<Panel> = Vec::new();
    for line in record.lines() {
        add(&mut panels, &serde_json::from_str(line)?);
    }
    if !args.vocab.is_empty() {
        let place = |panel: &Panel| args.vocab.iter().position(|vocab| *vocab == panel.vocab);
        panels.retain(|panel| place(panel).is_some());
        panels.sort_by_key(place);
    }
    if panels.is_empty() {
        return Err(format!("{}: nothing was measured in mode docs", args.record.display()).into());
    }
    Ok(std::fs::write(&args.output, picture(&args.title, &panels))?)
}

fn add(panels: &mut Vec<Panel>, line: &Value) {
    let text = |name: &str| line.get(name).and_then(Value::as_str);
    let number = |name: &str| line.get(name).and_then(Value::as_f64);
    let (Some(engine), Some(corpus)) = (text("engine"), text("corpus")) else { return };
    let (vocab, speed) = match (text("vocab"), text("mode"), number("vocab_size"), number("seconds")) {
        (Some(vocab), Some("docs"), ..) => (vocab.to_owned(), number("mb_per_s")),
        (None, None, Some(size), Some(seconds)) => {
            let bytes = number("bytes").unwrap_or(0.0);
            (format!("{size} tokens"), Some(bytes / 1e6 / seconds))
        }
        _ => return,
    };
    let place = (0..COLOURS.len()).find(|place| name(*place) == engine);
    let (Some(place), Some(speed)) = (place, speed) else { return };
    let panel = find_or_push(
        panels,
        |panel| panel.vocab == vocab,
        || Panel { vocab: vocab.clone(), versions: Vec::new(), groups: Vec::new() },
    );
    panel.versions.extend(text("version").map(|version| (place, version.to_owned())));
    let group =
        find_or_push(&mut panel.groups, |group| group.0 == corpus, || (corpus.to_owned(), Vec::new()));
    group.1.retain(|(engine, _)| *engine != place);
    group.1.push((place, speed));
    group.1.sort_by_key(|(engine, _)| *engine);
}

fn find_or_push<T>(list: &mut Vec<T>, is: impl Fn(&T) -> bool, new: impl FnOnce() -> T) -> &mut T {
    let at = list.iter().position(is).unwrap_or_else(|| {
        list.push(new());
        list.len() - 1
    });
    &mut list[at]
}

fn picture(title: &str, panels: &[Panel]) -> String {
    let mut body = String::new();
    let (mut row, mut column) = (0, 0);
    for panel in panels {
        if column > 0 && column + panel.groups.len() > GROUPS {
            (row, column) = (row + 1, 0);
        }
        let step = (WIDTH - LEFT) / GROUPS as f64;
        let (x, y) = (LEFT + step * column as f64, TOP + (BARS + AROUND) * row as f64);
        draw_panel(&mut body, panel, x, y, step);
        column += panel.groups.len();
    }
    let height = TOP + (BARS + AROUND) * (row + 1) as f64;
    let mut styles = String::new();
    for (place, colour) in COLOURS.iter().enumerate() {
        let _ = write!(styles, ".e{place}{{fill:{colour}}}");
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n\
         <title>{title}</title>\n\
         <style>text{{font:11px system-ui,sans-serif;fill:#57606a}}.t{{font-size:15px;font-weight:600;fill:#1f2328}}\
         .h{{font-weight:600;fill:#1f2328}}.n{{font-size:9px;text-anchor:middle}}.m{{text-anchor:middle}}\
         .a{{font-size:9px;text-anchor:end}}.g{{stroke:#8c959f;stroke-opacity:.35}}{styles}\
         @media(prefers-color-scheme:dark){{text{{fill:#9198a1}}.t,.h{{fill:#f0f6fc}}}}</style>\n\
         <text class=\"t\" x=\"{LEFT}\" y=\"20\">{title}</text>\n{}{body}</svg>\n",
        legend(panels),
    )
}

/// The engines that are shown, in two lines.
fn legend(panels: &[Panel]) -> String {
    let shown = |place: usize| {
        panels
            .iter()
            .flat_map(|panel| &panel.groups)
            .any(|(_, bars)| bars.iter().any(|(bar, _)| *bar == place))
    };
    let places: Vec<usize> = (0..COLOURS.len()).filter(|place| shown(*place)).collect();
    let mut legend = String::new();
    for (at, place) in places.iter().enumerate() {
        let (x, y) = (LEFT + 172.0 * (at % 5) as f64, 30.0 + 16.0 * (at / 5) as f64);
        let _ = writeln!(
            legend,
            "<rect class=\"e{place}\" x=\"{x}\" y=\"{y}\" width=\"10\" height=\"10\" rx=\"2\"/>\
             <text x=\"{}\" y=\"{}\">{} {}</text>",
            x + 15.0,
            y + 9.0,
            name(*place).trim_end_matches("-rc"),
            version(panels, *place),
        );
    }
    legend
}

fn version(panels: &[Panel], place: usize) -> String {
    let told = panels.iter().flat_map(|panel| &panel.versions).rfind(|(known, _)| *known == place);
    told.map_or_else(|| peers::version(name(place)), |(_, version)| version.clone())
}

fn draw_panel(body: &mut String, panel: &Panel, x: f64, y: f64, step: f64) {
    let speeds = panel.groups.iter().flat_map(|(_, bars)| bars.iter().map(|(_, speed)| *speed));
    let most = speeds.fold(1.0, f64::max);
    let tick = tick(most);
    let base = y + 24.0 + BARS;
    let up = |speed: f64| base - BARS * speed / most;
    let _ = writeln!(body, "<text class=\"h\" x=\"{x}\" y=\"{}\">{}</text>", y + 8.0, panel.vocab);
    let mut line = 0.0;
    while line <= most {
        let at = up(line);
        let right = x + step * panel.groups.len() as f64 - 10.0;
        let _ = writeln!(
            body,
            "<path class=\"g\" d=\"M{x} {at:.1}H{right:.1}\"/><text class=\"a\" x=\"{:.1}\" y=\"{:.1}\">{line}</text>",
            x - 4.0,
            at + 3.0
        );
        line += tick;
    }
    for (at, (corpus, bars)) in panel.groups.iter().enumerate() {
        let from = x + step * at as f64 + 4.0;
        let width = ((step - 22.0) / bars.len() as f64).min(16.0);
        let best = bars.iter().filter(|(place, _)| *place > 0).map(|(_, speed)| *speed).fold(0.0, f64::max);
        for (nth, (place, speed)) in bars.iter().enumerate() {
            let (left, top) = (from + width * nth as f64, up(*speed));
            let _ = writeln!(
                body,
                "<rect class=\"e{place}\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
                width - 1.0,
                base - top
            );
            // Its own speed and that of the best of the others are written out; its own to the left, as the bar beside
            // it may be higher.
            if *place == 0 || *speed == best {
                let (class, at) =
                    if *place == 0 { ("a", left + width - 1.0) } else { ("n", left + width / 2.0) };
                let y = top - 3.0;
                let _ =
                    writeln!(body, "<text class=\"{class}\" x=\"{at:.1}\" y=\"{y:.1}\">{speed:.0}</text>");
            }
        }
        let middle = from + width * bars.len() as f64 / 2.0;
        let _ =
            writeln!(body, "<text class=\"m\" x=\"{middle:.1}\" y=\"{:.1}\">{corpus}</text>", base + 14.0);
    }
}

/// The distance of grid lines: three to six of them.
fn tick(most: f64) -> f64 {
    [5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0]
        .into_iter()
        .find(|tick| most / tick <= 5.0)
        .unwrap_or(2000.0)
}
