//! Paths of lines and areas, in a square of 1000 by 1000 that is stretched.

/// Makes of each value the sum of it and those below. What was not measured counts as nothing where others were.
pub(super) fn stack(heights: &mut [Vec<Option<f64>>]) {
    let count = heights.first().map_or(0, Vec::len);
    for at in 0..count {
        let mut sum = heights.iter().any(|it| it[at].is_some()).then_some(0.0);
        for values in heights.iter_mut() {
            sum = sum.map(|sum| sum + values[at].unwrap_or(0.0));
            values[at] = sum;
        }
    }
}

/// Paths of one series; one that is empty draws nothing.
pub(super) struct Shape {
    pub(super) area: String,
    pub(super) line: String,
    /// Points between gaps: a line needs two.
    pub(super) dots: String,
}

/// Returns the shape of each series; only those that are stacked have areas.
pub(super) fn shapes(heights: &[Vec<Option<f64>>], stacked: bool, max: f64) -> Vec<Shape> {
    let floor = |at: usize| at.checked_sub(1).map(|below| &heights[below]);
    let shape = |(at, values): (usize, &Vec<Option<f64>>)| {
        let runs = runs(values);
        let (dots, lines): (Vec<_>, Vec<_>) = runs.iter().partition(|run| run.len() == 1);
        let line = |run: &Run| line(run, values.len(), max);
        let area = |run: &Run| area(run, floor(at), values.len(), max);
        Shape {
            area: if stacked { runs.iter().map(area).collect() } else { String::new() },
            line: lines.into_iter().map(line).collect(),
            dots: dots.into_iter().map(|run| line(run) + "h0").collect(),
        }
    };
    heights.iter().enumerate().map(shape).collect()
}

/// Points without a gap between them: the number of each interval, and its value.
type Run = Vec<(usize, f64)>;

fn runs(values: &[Option<f64>]) -> Vec<Run> {
    let points = values.iter().enumerate().map(|(at, value)| value.map(|value| (at, value)));
    let points: Vec<_> = points.collect();
    let runs = points.split(Option::is_none).filter(|run| !run.is_empty());
    runs.map(|run| run.iter().copied().flatten().collect()).collect()
}

/// A path through the points of a run.
fn line(run: &[(usize, f64)], count: usize, max: f64) -> String {
    let points = run.iter().map(|(at, value)| point(*at, *value, count, max));
    format!("M{}", points.collect::<Vec<_>>().join("L"))
}

fn area(run: &[(usize, f64)], floor: Option<&Vec<Option<f64>>>, count: usize, max: f64) -> String {
    // An area of one point has a width as well: that of half an interval.
    let widened = |it: &(usize, f64)| {
        let [left, right] = [-0.25, 0.25].map(|by| place(it.0 as f64 + by, it.1, count, max));
        if run.len() == 1 { vec![left, right] } else { vec![point(it.0, it.1, count, max)] }
    };
    let below = |it: &(usize, f64)| (it.0, floor.and_then(|floor| floor[it.0]).unwrap_or(0.0));
    let top = run.iter().flat_map(widened);
    let bottom = run.iter().rev().map(below);
    let bottom = bottom.flat_map(|it| widened(&it).into_iter().rev());
    format!("M{}Z", top.chain(bottom).collect::<Vec<_>>().join("L"))
}

fn point(at: usize, value: f64, count: usize, max: f64) -> String {
    place(at as f64, value, count, max)
}

/// The middle of an interval, at the height of the value.
fn place(at: f64, value: f64, count: usize, max: f64) -> String {
    let (x, y) = (1000.0 * (at + 0.5) / count as f64, 1000.0 - 1000.0 * value / max);
    format!("{},{}", rounded(x), rounded(y))
}

/// A number without digits that no screen shows.
fn rounded(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}
