//! Charts as SVG files: lines over two axes, with units, a legend and the machine.

use std::{fs, ops::Range, path::Path};

use anyhow::{Context, Result, anyhow};
use plotters::{
    coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter},
    prelude::{ChartBuilder, Circle, DrawingArea, IntoDrawingArea, LineSeries, PathElement, SVGBackend},
    style::{BLACK, Color, IntoFont, RGBColor, TextStyle, WHITE},
};

use crate::stats::Latencies;

/// Width and height of a chart in pixels.
const SIZE: (u32, u32) = (1080, 600);
/// Height of the line with the machine.
const CAPTION: u32 = 24;
/// Width of the space for the legend.
const LEGEND: u32 = 230;
/// Colours that most people can distinguish (Okabe and Ito).
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(120, 120, 120),
    RGBColor(0, 0, 0),
];
/// Points of a percentile curve for each further nine.
const STEPS: u32 = 20;

/// Approximate ticks of an axis for many points.
const MOST_TICKS: f64 = 12.0;

/// Maximum lines in one chart; more cannot be distinguished.
const LINES: usize = COLOURS.len();

/// The scale of an axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scale {
    /// Linear, with a tick at every value.
    Linear,
    /// Logarithmic, with ticks at 1, 2 and 5 of each power of ten.
    Log,
    /// Shares below 1 by their number of nines, with a tick at each.
    Nines,
    /// Linear, with ticks at round values; for many points.
    Even,
}

pub(crate) struct Axis {
    /// With the unit.
    pub(crate) label: &'static str,
    pub(crate) scale: Scale,
}

pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
    pub(crate) style: Style,
}

/// The style of a line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Style {
    /// Points joined by lines.
    Joined,
    /// Separate points.
    Points,
}

pub(crate) struct Chart {
    /// Of the file, without its ending.
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) lines: Vec<Line>,
}

/// Latency in microseconds.
pub(crate) const LATENCY: Axis = Axis { label: "latency in µs", scale: Scale::Log };
/// Share of messages with a lower latency.
const PERCENTILE: Axis = Axis { label: "percentile", scale: Scale::Nines };

/// A curve over all percentiles that the number of values allows.
fn percentiles(name: &str, latencies: &Latencies) -> Line {
    let nines = (latencies.count().max(1) as f64).log10();
    let steps = (nines * f64::from(STEPS)).floor() as u32;
    let shares = (0..=steps).map(|step| 1.0 - 10f64.powf(-f64::from(step) / f64::from(STEPS)));
    let points = shares.map(|share| (share, latencies.micros(share))).collect();
    Line { name: name.to_owned(), points, style: Style::Joined }
}

/// Charts with a curve for each row; several charts if there are too many rows. A part is a subset of messages or recipients,
/// empty for the whole.
pub(crate) fn curves<'a>(scenario: &str, part: &str, rows: impl Iterator<Item = (&'a str, Latencies)>) -> Vec<Chart> {
    let mut lines = rows.map(|(row, latencies)| percentiles(row, &latencies)).peekable();
    let mut charts = Vec::new();
    while lines.peek().is_some() {
        let number = if charts.is_empty() { String::new() } else { format!(" {}", charts.len() + 1) };
        let of = if part.is_empty() { String::new() } else { format!(", {part}") };
        charts.push(Chart {
            name: format!("{scenario} percentiles {part}{number}").trim().replace(' ', "-").replace("--", "-"),
            title: format!("{scenario}{of}: percentiles of latency"),
            x: PERCENTILE,
            y: LATENCY,
            lines: lines.by_ref().take(LINES).collect(),
        });
    }
    charts
}

impl Chart {
    /// Writes `NAME.svg` to the folder, unless the chart is empty.
    pub(crate) fn write(&self, folder: &Path, caption: &str) -> Result<()> {
        if self.lines.iter().all(|line| line.points.len() < 2) {
            return Ok(());
        }
        let path = folder.join(format!("{}.svg", self.name));
        let mut svg = String::new();
        self.draw(&SVGBackend::with_string(&mut svg, SIZE).into_drawing_area(), caption)
            .with_context(|| format!("cannot draw {}", self.name))?;
        fs::write(&path, svg).with_context(|| path.display().to_string())
    }

    fn draw(&self, area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>, caption: &str) -> Result<()> {
        let failed = |error: plotters::drawing::DrawingAreaErrorKind<_>| anyhow!("{error}");
        area.fill(&WHITE).map_err(failed)?;
        let (area, below) = area.split_vertically(SIZE.1 - CAPTION);
        let small: TextStyle<'_> = ("sans-serif", 12).into_font().color(&RGBColor(90, 90, 90));
        below.draw_text(caption, &small, (10, 2)).map_err(failed)?;
        let (x, y) = (self.ruler(&self.x, |point| point.0), self.ruler(&self.y, |point| point.1));
        let mut chart = ChartBuilder::on(&area)
            .caption(&self.title, ("sans-serif", 20))
            .margin(10)
            .margin_right(LEGEND)
            .x_label_area_size(45)
            .y_label_area_size(75)
            .build_cartesian_2d(x, y)
            .map_err(failed)?;
        chart
            .configure_mesh()
            .x_desc(self.x.label)
            .y_desc(self.y.label)
            .light_line_style(RGBColor(240, 240, 240))
            .label_style(("sans-serif", 13))
            .draw()
            .map_err(failed)?;
        for (line, colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            let points = || line.points.iter().filter_map(|point| self.place(*point));
            let style = colour.stroke_width(2);
            if line.style == Style::Joined {
                chart.draw_series(LineSeries::new(points(), style)).map_err(failed)?;
            }
            // Curves have too many points to show each.
            if line.style == Style::Points || matches!(self.x.scale, Scale::Linear | Scale::Log) {
                chart.draw_series(points().map(|at| Circle::new(at, 3, colour.filled()))).map_err(failed)?;
            }
        }
        for ((name, colour), y) in self.legend().zip((40..).step_by(20)) {
            let x = (SIZE.0 - LEGEND + 5) as i32;
            area.draw(&PathElement::new([(x, y + 7), (x + 18, y + 7)], colour.stroke_width(2))).map_err(failed)?;
            area.draw_text(name, &("sans-serif", 13).into_font().color(&BLACK), (x + 24, y)).map_err(failed)?;
        }
        area.present().map_err(failed)
    }

    fn legend(&self) -> impl Iterator<Item = (&str, RGBColor)> {
        self.lines.iter().map(|line| line.name.as_str()).zip(COLOURS.into_iter().cycle())
    }

    fn place(&self, (x, y): (f64, f64)) -> Option<(f64, f64)> {
        let at = (self.x.scale.place(x), self.y.scale.place(y));
        (at.0.is_finite() && at.1.is_finite()).then_some(at)
    }

    /// An axis around all the points.
    fn ruler(&self, axis: &Axis, value: impl Fn(&(f64, f64)) -> f64) -> Ruler {
        let points = self.lines.iter().flat_map(|line| &line.points).filter(|point| self.place(**point).is_some());
        let ticks = axis.scale.ticks(points.map(value).map(|value| axis.scale.place(value)).collect());
        Ruler { scale: axis.scale, ticks }
    }
}

/// A straight axis that ends with its first and its last tick.
struct Ruler {
    scale: Scale,
    ticks: Vec<f64>,
}

impl Ranged for Ruler {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, at: &f64, (start, end): (i32, i32)) -> i32 {
        let Range { start: from, end: to } = self.range();
        start + (f64::from(end - start) * (at - from) / (to - from)).round() as i32
    }

    fn key_points<H: KeyPointHint>(&self, hint: H) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.ticks.clone() }
    }

    fn range(&self) -> Range<f64> {
        let (from, to) = (self.ticks.first().copied().unwrap_or(0.0), self.ticks.last().copied().unwrap_or(1.0));
        from..if to > from { to } else { from + 1.0 }
    }
}

impl ValueFormatter<f64> for Ruler {
    fn format_ext(&self, at: &f64) -> String {
        self.scale.label(*at)
    }
}

impl Scale {
    /// The position of a value on a linear axis.
    fn place(self, value: f64) -> f64 {
        match self {
            Self::Linear | Self::Even => value,
            Self::Log => value.log10(),
            Self::Nines => -(1.0 - value).log10(),
        }
    }

    /// The label at a position.
    fn label(self, at: f64) -> String {
        match self {
            Self::Linear | Self::Even => format!("{}", (at * 1000.0).round() / 1000.0),
            Self::Log => {
                let value = 10f64.powf(at);
                let digits = if value < 1.0 { (-at).ceil() as usize } else { 0 };
                format!("{value:.digits$}")
            }
            Self::Nines => {
                let digits = (at.round() as usize).saturating_sub(2);
                format!("{:.digits$} %", 100.0 * (1.0 - 10f64.powf(-at)))
            }
        }
    }

    /// Ascending ticks around positions.
    fn ticks(self, mut places: Vec<f64>) -> Vec<f64> {
        places.sort_by(f64::total_cmp);
        places.dedup();
        let (Some(&from), Some(&to)) = (places.first(), places.last()) else { return vec![0.0, 1.0] };
        match self {
            Self::Linear => places,
            Self::Even => {
                let step = round_step((to - from) / MOST_TICKS);
                ((from / step).floor() as i64..=(to / step).ceil() as i64).map(|tick| tick as f64 * step).collect()
            }
            // A value that is a tick but for rounding needs none beyond it.
            Self::Nines => (from.floor() as i32..=(to - 1e-6).ceil() as i32).map(f64::from).collect(),
            Self::Log => {
                let decades = from.floor() as i32..=to.ceil() as i32;
                let all: Vec<f64> = decades
                    .flat_map(|decade| [1.0f64, 2.0, 5.0].map(|step| f64::from(decade) + step.log10()))
                    .collect();
                let first = all.iter().rposition(|tick| *tick <= from).unwrap_or(0);
                let last = all.iter().position(|tick| *tick >= to).unwrap_or(all.len() - 1);
                all[first..=last.max(first + 1).min(all.len() - 1)].to_vec()
            }
        }
    }
}

/// The next of 1, 2 and 5 times a power of ten.
fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.max(1e-3).log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|times| times * power).find(|step| *step >= least).unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;

    fn labels(scale: Scale, values: &[f64]) -> Vec<String> {
        let ticks = scale.ticks(values.iter().map(|value| scale.place(*value)).collect());
        ticks.into_iter().map(|tick| scale.label(tick)).collect()
    }

    #[test]
    fn ticks_stand_around_the_values() {
        assert_eq!(labels(Scale::Linear, &[5.0, 0.0, 0.5]), ["0", "0.5", "5"]);
        assert_eq!(labels(Scale::Even, &[0.05, 21.0, 39.9]), ["0", "5", "10", "15", "20", "25", "30", "35", "40"]);
        assert_eq!(labels(Scale::Even, &[7.0, 7.0]).len(), 1);
        assert_eq!(labels(Scale::Log, &[130.0, 900.0]), ["100", "200", "500", "1000"]);
        assert_eq!(labels(Scale::Log, &[0.3, 1.0]), ["0.2", "0.5", "1"]);
        assert_eq!(labels(Scale::Log, &[100.0, 100.0]), ["100", "200"]);
        assert_eq!(labels(Scale::Nines, &[0.0, 0.9985]), ["0 %", "90 %", "99 %", "99.9 %"]);
    }

    #[test]
    fn a_curve_ends_where_one_value_is_left() {
        let mut latencies = Latencies::new();
        (1..=1000).for_each(|micros| latencies.record(Duration::from_micros(micros)));
        let line = percentiles("quip", &latencies);
        assert_eq!(line.points.len(), 61);
        let ((first, least), (last, most)) = (line.points[0], line.points[60]);
        assert!((first, least) == (0.0, 1.0) && (last - 0.999).abs() < 1e-9, "{first} {least} {last}");
        assert!((most - 999.0).abs() < 2.0, "{most}");
    }

    #[test]
    fn many_rows_make_several_charts() {
        let rows: Vec<String> = (0..LINES + 1).map(|row| format!("row {row}")).collect();
        let charts = curves("bare pairs", "first recipient", rows.iter().map(|row| (row.as_str(), Latencies::new())));
        let found: Vec<_> = charts.iter().map(|chart| (chart.name.as_str(), chart.lines.len())).collect();
        assert_eq!(
            found,
            [("bare-pairs-percentiles-first-recipient", 8), ("bare-pairs-percentiles-first-recipient-2", 1)]
        );
        assert_eq!(
            curves("hol", "", rows.iter().map(|row| (row.as_str(), Latencies::new())))[1].name,
            "hol-percentiles-2"
        );
    }

    #[test]
    fn a_chart_has_axes_legend_and_caption() {
        let folder = tempfile::tempdir().unwrap();
        let line = |name: &str| Line {
            name: name.to_owned(),
            points: vec![(0.5, 100.0), (0.99, 900.0)],
            style: Style::Joined,
        };
        let mut chart = Chart {
            name: "test".to_owned(),
            title: "A title".to_owned(),
            x: PERCENTILE,
            y: LATENCY,
            lines: vec![line("quip"), line("bare")],
        };
        chart.write(folder.path(), "a machine").unwrap();
        let svg = fs::read_to_string(folder.path().join("test.svg")).unwrap();
        for text in ["A title", "latency in µs", "percentile", "quip", "bare", "a machine", "99 %", "1000", "<polyline"]
        {
            assert!(svg.contains(text), "no {text} in {svg}");
        }
        chart.lines.clear();
        chart.name = "empty".to_owned();
        chart.write(folder.path(), "").unwrap();
        assert!(!folder.path().join("empty.svg").exists());
    }
}
