//! The report as one page that needs nothing else: latency over time and its distribution, drawn as SVG.

use std::fmt::Write;

use super::Ending;
use super::slo::Checked;
use crate::play::stats::{Latencies, Second, Stats};

const STYLE: &str = "
:root { color-scheme: light dark; --p50: #2a78d6; --p99: #eb6834; --max: #888; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.3rem } h2 { font-size: 1.05rem; margin-top: 2rem }
td { padding: .15rem 1rem .15rem 0; vertical-align: top } td:first-child { opacity: .7; white-space: nowrap }
svg { width: 100%; height: auto } svg text { font-size: 11px; fill: currentColor; opacity: .75 }
.grid { stroke: currentColor; opacity: .15 } .bar { fill: var(--p50) } .key { font-weight: 600 }
.bad { color: #c22 }
";

/// Returns the page.
pub(super) fn page(
    title: &str,
    ending: Ending,
    facts: &[(String, String)],
    checked: &[Checked],
    invalid: &[String],
    differences: &[String],
    stats: &Stats,
) -> String {
    let mut page = String::new();
    push(&mut page, format_args!("<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">"));
    push(&mut page, format_args!("<meta name=\"viewport\" content=\"width=device-width\">"));
    push(&mut page, format_args!("<title>{0}</title><style>{STYLE}</style><h1>{0}</h1>", escape(title)));
    let verdict = match ending {
        Ending::Good => "✓ valid, all thresholds kept, the books balance",
        Ending::Differs => "✗ the audit found differences",
        Ending::Invalid => "✗ the run is not valid",
        Ending::Broken => "✗ a threshold was broken",
    };
    push(&mut page, format_args!("<p class=\"key{}\">{verdict}</p>", bad(ending == Ending::Good)));
    for reason in invalid {
        push(&mut page, format_args!("<p class=\"bad\">not valid: {}</p>", escape(reason)));
    }
    for checked in checked {
        let mark = super::mark(checked.kept);
        push(
            &mut page,
            format_args!("<p class=\"{}\">{mark} {}</p>", bad(checked.kept), escape(&checked.text)),
        );
    }
    page.push_str("<table>");
    for (name, value) in facts {
        push(&mut page, format_args!("<tr><td>{}</td><td>{}</td></tr>", escape(name), escape(value)));
    }
    page.push_str("</table>");
    for difference in differences {
        push(&mut page, format_args!("<p class=\"bad\">{}</p>", escape(difference)));
    }
    page.push_str("<h2>From the intended start to the acknowledgement, second by second</h2>");
    over_time(&mut page, &stats.seconds);
    page.push_str("<h2>How the latencies are distributed</h2>");
    distribution(&mut page, &stats.intended);
    page.push_str("</html>\n");
    page
}

fn push(page: &mut String, text: std::fmt::Arguments<'_>) {
    let written = page.write_fmt(text);
    debug_assert!(written.is_ok(), "a String takes everything");
}

fn bad(good: bool) -> &'static str {
    if good { "" } else { " bad" }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Size of a drawing in pixels, and its margins for labels.
const WIDTH: f64 = 880.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 64.0;
const TOP: f64 = 10.0;

/// Maps a latency to its height, by its logarithm: a stall of seconds and a median under a millisecond both show.
struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    /// Returns a scale of whole decades around these latencies.
    fn around(least_us: u64, most_us: u64) -> Self {
        let low = (least_us.max(1) as f64).log10().floor();
        let high = (most_us.max(2) as f64).log10().ceil().max(low + 1.0);
        Self { low, high }
    }

    fn share(&self, us: u64) -> f64 {
        (((us.max(1) as f64).log10() - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    /// Returns the decades on it, with their labels.
    fn decades(&self) -> Vec<(u64, String)> {
        let decades = self.low as i32..=self.high as i32;
        let label = |us: f64| match us {
            us if us >= 1e6 => format!("{} s", us / 1e6),
            us if us >= 1e3 => format!("{} ms", us / 1e3),
            us => format!("{us} µs"),
        };
        decades.map(|decade| (10f64.powi(decade) as u64, label(10f64.powi(decade)))).collect()
    }
}

fn over_time(page: &mut String, seconds: &[Second]) {
    let least = seconds.iter().filter(|s| s.acks > 0).map(|s| s.p50_us).min().unwrap_or(1);
    let most = seconds.iter().map(|s| s.max_us).max().unwrap_or(1);
    let scale = Scale::around(least, most);
    let height = |us| TOP + HEIGHT * (1.0 - scale.share(us));
    let across = |second: usize| LEFT + WIDTH * second as f64 / seconds.len().max(2) as f64;
    open_svg(page, "latency by second");
    for (us, label) in scale.decades() {
        let y = height(us);
        let (right, x) = (LEFT + WIDTH, LEFT - 8.0);
        push(
            page,
            format_args!("<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>"),
        );
        push(page, format_args!("<text x=\"{x}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>", y + 4.0));
    }
    for (nth, name) in ["max", "p99", "p50"].into_iter().enumerate() {
        let figure = |second: &Second| [second.max_us, second.p99_us, second.p50_us][nth];
        page.push_str("<polyline fill=\"none\" stroke-width=\"1.8\" points=\"");
        for (second, figures) in seconds.iter().enumerate().filter(|(_, figures)| figures.acks > 0) {
            push(page, format_args!("{:.1},{:.1} ", across(second), height(figure(figures))));
        }
        push(page, format_args!("\" style=\"stroke: var(--{name})\"/>"));
        let x = LEFT + WIDTH - 40.0 - 60.0 * nth as f64;
        let y = TOP + HEIGHT + 34.0;
        push(
            page,
            format_args!("<text x=\"{x}\" y=\"{y}\" style=\"fill: var(--{name}); opacity: 1\">{name}</text>"),
        );
    }
    let step = seconds.len().div_ceil(10).max(1);
    for second in (0..seconds.len()).step_by(step) {
        let (x, y) = (across(second), TOP + HEIGHT + 16.0);
        push(page, format_args!("<text x=\"{x:.1}\" y=\"{y}\">{second} s</text>"));
    }
    page.push_str("</svg>");
}

fn distribution(page: &mut String, latencies: &Latencies) {
    let scale = Scale::around(latencies.min(), latencies.max());
    const BARS: usize = 80;
    let mut bars = [0u64; BARS];
    for value in latencies.iter_recorded() {
        let bar = (scale.share(value.value_iterated_to()) * BARS as f64) as usize;
        bars[bar.min(BARS - 1)] += value.count_since_last_iteration();
    }
    let most = bars.iter().max().copied().unwrap_or(1).max(1);
    let width = WIDTH / BARS as f64;
    open_svg(page, "histogram of latencies");
    for (bar, count) in bars.into_iter().enumerate().filter(|(_, count)| *count > 0) {
        // At least a pixel: one answer in a million must not vanish.
        let height = (HEIGHT * count as f64 / most as f64).max(1.0);
        let (x, y) = (LEFT + width * bar as f64, TOP + HEIGHT - height);
        push(
            page,
            format_args!(
                "<rect class=\"bar\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{height:.1}\"><title>{count}</title></rect>",
                width - 1.0
            ),
        );
    }
    for (us, label) in scale.decades() {
        let (x, y) = (LEFT + WIDTH * scale.share(us), TOP + HEIGHT + 16.0);
        push(page, format_args!("<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{label}</text>"));
    }
    page.push_str("</svg>");
}

fn open_svg(page: &mut String, label: &str) {
    let (width, height) = (WIDTH + LEFT + 30.0, HEIGHT + TOP + 44.0);
    push(page, format_args!("<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{label}\">"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_page_stands_alone_and_escapes_what_it_shows() {
        let mut stats = Stats::new();
        for ms in [1, 2, 900] {
            let latency = Duration::from_millis(ms);
            stats.acknowledged(latency, latency, latency);
            stats.tick();
        }
        let facts = [("server".to_owned(), "<script>".to_owned())];
        let page = page("a & b", Ending::Good, &facts, &[], &[], &[], &stats);
        assert!(page.contains("a &amp; b") && page.contains("&lt;script&gt;") && !page.contains("<script"));
        assert!(!page.contains("http://") && !page.contains("https://"), "nothing is loaded from elsewhere");
        assert_eq!(page.matches("<polyline").count(), 3);
        assert_eq!(page.matches("<rect").count(), 3);
    }

    #[test]
    fn an_empty_run_still_has_a_page() {
        let page = page("t", Ending::Invalid, &[], &[], &["nothing".to_owned()], &[], &Stats::new());
        assert!(page.contains("not valid: nothing") && !page.contains("NaN"));
    }
}
