//! The chart for the documentation: CPU a hit of the relay and of what people write instead, as
//! bars, without a script.

use super::table::Row;

const WIDTH: f64 = 760.0;
const LEFT: f64 = 270.0;
const LINE: f64 = 26.0;

/// Bars of CPU seconds per million hits, the shortest first; the relay's own stand out.
pub fn svg(rows: &[Row]) -> String {
    let mut rows: Vec<&Row> =
        rows.iter().filter(|row| row.kind != "ceiling" && row.of_sink.is_none()).collect();
    rows.retain(|row| {
        row.kind == "peer"
            || matches!(row.name, "relay, bulk 50" | "relay, bulk 1" | "relay, MATOMO_API=single")
    });
    rows.sort_by(|a, b| {
        a.cpu_microseconds_per_hit.median.total_cmp(&b.cpu_microseconds_per_hit.median)
    });
    let most = rows.iter().map(|row| row.cpu_microseconds_per_hit.median).fold(1.0, f64::max);
    let height = 44.0 + LINE * rows.len() as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"CPU seconds per million hits\" font-family=\"system-ui, sans-serif\" \
         font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n<text \
         x=\"12\" y=\"24\" font-weight=\"600\" fill=\"#1f2328\">CPU seconds per million hits \
         (less is better)</text>\n"
    );
    for (place, row) in rows.into_iter().enumerate() {
        let value = row.cpu_microseconds_per_hit.median;
        let y = 36.0 + LINE * place as f64;
        let bar = (value / most * (WIDTH - LEFT - 70.0)).max(2.0);
        let colour = if row.kind == "relay" { "#0a7d4f" } else { "#8c959f" };
        out += &format!(
            "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\" fill=\"#1f2328\">{}</text><rect \
             x=\"{LEFT}\" y=\"{:.0}\" width=\"{bar:.1}\" height=\"16\" rx=\"2\" \
             fill=\"{colour}\"/><text x=\"{:.0}\" y=\"{:.0}\" fill=\"#1f2328\">{value:.0}</text>\n",
            LEFT - 8.0,
            y + 13.0,
            row.name,
            y,
            LEFT + bar + 6.0,
            y + 13.0,
        );
    }
    out + "</svg>\n"
}
