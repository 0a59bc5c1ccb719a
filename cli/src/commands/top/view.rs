//! How it is drawn.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row, Table, TableState};

use super::model::{Mode, Model, PANES, Pane};
use crate::clock;
use crate::format::age;
use crate::output::printable;

/// Below this width there is room for one pane only.
const WIDE: u16 = 100;

const HELP: &str = "\
Tab, 1 to 4   next pane, or one of them
up, down      select a row
/             show only rows with a text; Esc shows all
r             run the failed jobs of a queue or an error again
c             cancel the running job
p             pause the queue, or resume it
q, Ctrl-C     quit";

pub(super) fn draw(frame: &mut Frame<'_>, model: &Model) {
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Fill(1), Constraint::Length(1)])
            .areas(frame.area());
    frame.render_widget(header(model), head);
    if body.width < WIDE {
        draw_pane(frame, body, model, model.pane);
    } else {
        let halves = [Constraint::Fill(1), Constraint::Fill(1)];
        let rows: [Rect; 2] = Layout::vertical(halves).areas(body);
        for (row, panes) in rows.into_iter().zip(PANES.chunks(2)) {
            let areas: [Rect; 2] = Layout::horizontal(halves).areas(row);
            for (area, pane) in areas.into_iter().zip(panes) {
                draw_pane(frame, area, model, *pane);
            }
        }
    }
    frame.render_widget(footer(model), foot);
    if model.mode == Mode::Help {
        draw_help(frame);
    }
}

fn draw_pane(frame: &mut Frame<'_>, area: Rect, model: &Model, pane: Pane) {
    match pane {
        Pane::Queues => draw_queues(frame, area, model),
        Pane::Running => draw_running(frame, area, model),
        Pane::Workers => draw_workers(frame, area, model),
        Pane::Errors => draw_errors(frame, area, model),
    }
}

fn header(model: &Model) -> Line<'_> {
    let sum = |count: fn(&crate::documents::Counts) -> u64| -> u64 {
        model.snapshot.queues.iter().map(|queue| count(&queue.counts)).sum()
    };
    let totals = format!(
        " {}  queued {}  running {}  failed {}",
        model.url,
        sum(|counts| counts.queued),
        sum(|counts| counts.running),
        sum(|counts| counts.failed),
    );
    Line::from(totals).style(Style::new().add_modifier(Modifier::BOLD))
}

fn footer(model: &Model) -> Line<'_> {
    let bad = Style::new().fg(Color::Red);
    match &model.mode {
        Mode::Confirm(action, counted) => {
            Line::from(format!(" {} y/N", action.question(counted.jobs))).style(bad)
        }
        Mode::Filter => Line::from(format!(" /{}_", model.filter)),
        Mode::Browse | Mode::Help => match (&model.away, model.has_data) {
            (Some((since, cause)), _) => {
                let since = age(since.elapsed());
                Line::from(format!(" away for {since}, trying again: {}", printable(cause)))
                    .style(bad)
            }
            (None, false) => Line::from(" connecting"),
            (None, true) if model.pending.is_some() => Line::from(" counting the jobs"),
            (None, true) if !model.message.is_empty() => {
                Line::from(format!(" {}", printable(&model.message)))
            }
            (None, true) => {
                Line::from(" ? help  / filter  Tab pane  r redrive  c cancel  p pause  q quit")
            }
        },
    }
}

fn draw_table(
    frame: &mut Frame<'_>,
    area: Rect,
    (model, pane, title): (&Model, Pane, &str),
    (header, widths): (&[&'static str], &[Constraint]),
    rows: Vec<Row<'_>>,
) {
    let is_active = model.pane == pane;
    let filter =
        if model.filter.is_empty() { String::new() } else { format!(" /{}", model.filter) };
    let title = format!(" {} {title} {}{filter} ", pane as usize + 1, rows.len());
    let border = Style::new().fg(if is_active { Color::Cyan } else { Color::DarkGray });
    let mut state = TableState::new();
    state.select(model.selected(pane).filter(|_| is_active));
    let table = Table::new(rows, widths)
        .header(Row::new(header.to_vec()).style(Style::new().add_modifier(Modifier::BOLD)))
        .block(Block::bordered().title(title).border_style(border))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    frame.render_stateful_widget(table, area, &mut state);
}

/// A number at the right of its column.
fn number(number: u64) -> Cell<'static> {
    Cell::from(Text::from(number.to_string()).right_aligned())
}

fn bad_if(cell: Cell<'static>, is_bad: bool) -> Cell<'static> {
    if is_bad { cell.style(Style::new().fg(Color::Red)) } else { cell }
}

fn draw_queues(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let rows = model.queues().into_iter().map(|queue| {
        let oldest = queue.oldest_age_ms.map(|ms| age(Duration::from_millis(ms)));
        let state = match (queue.paused, queue.workers, queue.counts.queued) {
            (true, _, _) => "paused",
            (false, 0, 1..) => "no worker",
            _ => "",
        };
        Row::new([
            Cell::from(queue.name.clone()),
            number(queue.counts.queued),
            number(queue.counts.running),
            bad_if(number(queue.counts.failed), queue.counts.failed > 0),
            Cell::from(Text::from(oldest.unwrap_or_default()).right_aligned()),
            bad_if(Cell::from(state), !state.is_empty()),
        ])
    });
    let widths = [
        Constraint::Fill(1),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Length(6),
        Constraint::Length(9),
    ];
    let header = ["queue", " queued", "running", " failed", "oldest", "state"];
    draw_table(frame, area, (model, Pane::Queues, "Queues"), (&header, &widths), rows.collect());
}

fn draw_running(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let rows = model.running().into_iter().map(|job| {
        let progress = job.progress.map(|part| format!("{:.0} %", part * 100.0));
        let time = job.started_at.map(|started| age(clock::since(started)));
        Row::new([
            Cell::from(job.task.clone()),
            Cell::from(Text::from(time.unwrap_or_default()).right_aligned()),
            Cell::from(Text::from(progress.unwrap_or_default()).right_aligned()),
            Cell::from(printable(&job.note()).into_owned()),
        ])
    });
    let widths =
        [Constraint::Fill(1), Constraint::Length(5), Constraint::Length(5), Constraint::Fill(2)];
    let header = ["task", " time", " done", "message"];
    draw_table(frame, area, (model, Pane::Running, "Running"), (&header, &widths), rows.collect());
}

fn draw_workers(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let rows = model.workers().into_iter().map(|worker| {
        let is_ill = !worker.suspended.is_empty()
            || worker.servers.iter().any(|server| server.ready < server.processes);
        Row::new([
            Cell::from(worker.host.clone()),
            number(u64::from(worker.pid)),
            Cell::from(Text::from(format!("{}/{}", worker.busy, worker.slots)).right_aligned()),
            Cell::from(Text::from(age(clock::since(worker.seen_at))).right_aligned()),
            bad_if(Cell::from(worker.tasks.join(" ")), is_ill),
        ])
    });
    let widths = [
        Constraint::Fill(1),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Length(4),
        Constraint::Fill(2),
    ];
    let header = ["host", "    pid", "   busy", "seen", "tasks"];
    draw_table(frame, area, (model, Pane::Workers, "Workers"), (&header, &widths), rows.collect());
}

fn draw_errors(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let rows = model.errors().into_iter().map(|group| {
        let message = format!("{}: {}", group.error.code, group.error.message);
        Row::new([
            bad_if(number(group.failed_jobs), group.failed_jobs > 0),
            Cell::from(Text::from(age(clock::since(group.last_at))).right_aligned()),
            Cell::from(group.task.clone().unwrap_or_default()),
            Cell::from(printable(&message).into_owned()),
        ])
    });
    let widths =
        [Constraint::Length(7), Constraint::Length(4), Constraint::Fill(1), Constraint::Fill(2)];
    let header = [" failed", "last", "task", "error"];
    draw_table(frame, area, (model, Pane::Errors, "Errors"), (&header, &widths), rows.collect());
}

fn draw_help(frame: &mut Frame<'_>) {
    let (width, height) = (64, HELP.lines().count() as u16 + 2);
    let [area] = Layout::horizontal([Constraint::Length(width)])
        .flex(ratatui::layout::Flex::Center)
        .areas(frame.area());
    let [area] = Layout::vertical([Constraint::Length(height)])
        .flex(ratatui::layout::Flex::Center)
        .areas(area);
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(HELP).block(Block::bordered().title(" Keys ")), area);
}
