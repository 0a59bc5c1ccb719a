//! The dashboard as Grafana reads it.

use serde_json::{Value, json};

use super::HOW_TO_CHANGE;
use super::panels::{Panel, Query, Row};

/// The width of a dashboard, in Grafana's units.
const WIDTH: usize = 24;
/// Width and height of a chart, and of a number.
const CHART: [usize; 2] = [8, 8];
const NUMBER: [usize; 2] = [3, 4];

/// The dashboard's JSON.
pub(super) fn render(rows: &[Row]) -> String {
    let mut panels = Vec::new();
    let mut top = 0;
    for row in rows {
        let at = |[width, height]: [usize; 2], left, top| json!({ "x": left, "y": top, "w": width, "h": height });
        panels.push(json!({
            "type": "row",
            "title": row.title,
            "collapsed": false,
            "panels": [],
            "gridPos": at([WIDTH, 1], 0, top),
        }));
        top += 1;
        let [mut left, mut bottom] = [0, top];
        for panel in row.panels {
            let size @ [width, height] = if panel.is_number { NUMBER } else { CHART };
            if left + width > WIDTH {
                [left, top] = [0, bottom];
            }
            let mut rendered = render_panel(panel);
            rendered["gridPos"] = at(size, left, top);
            panels.push(rendered);
            left += width;
            bottom = top + height;
        }
        top = bottom;
    }
    for (number, panel) in panels.iter_mut().enumerate() {
        panel["id"] = json!(number + 1);
    }
    let mut text = serde_json::to_string_pretty(&frame(&panels)).expect("a value has text keys");
    text.push('\n');
    text
}

/// What is around the panels.
fn frame(panels: &[Value]) -> Value {
    json!({
        "uid": "crunch",
        "title": "Crunch",
        "description": format!("{HOW_TO_CHANGE} tests/src/monitoring/panels.rs."),
        "tags": ["crunch"],
        "editable": true,
        "graphTooltip": 1,
        "refresh": "30s",
        "schemaVersion": 39,
        "time": { "from": "now-3h", "to": "now" },
        "timezone": "browser",
        "templating": { "list": [
            { "name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus" },
            {
                "name": "queue",
                "label": "Queue",
                "type": "query",
                "datasource": data_source(),
                "query": { "query": "label_values(crunch_queue_jobs, queue)", "refId": "queues" },
                "refresh": 2,
                "sort": 1,
                "multi": true,
                "includeAll": true,
                "allValue": ".*",
                "current": { "text": "All", "value": "$__all" },
            },
        ] },
        "panels": panels,
    })
}

fn data_source() -> Value {
    json!({ "type": "prometheus", "uid": "${source}" })
}

fn render_panel(panel: &Panel) -> Value {
    let is_share = panel.unit == "percentunit";
    let mut defaults = json!({ "unit": panel.unit, "min": 0 });
    if is_share {
        defaults["max"] = json!(1);
    }
    let options = if panel.is_number {
        json!({ "reduceOptions": { "calcs": ["lastNotNull"] }, "graphMode": "area" })
    } else {
        json!({ "legend": { "displayMode": "list", "placement": "bottom" }, "tooltip": { "mode": "multi", "sort": "desc" } })
    };
    json!({
        "type": if panel.is_number { "stat" } else { "timeseries" },
        "title": panel.title,
        "description": panel.help,
        "datasource": data_source(),
        "fieldConfig": { "defaults": defaults, "overrides": [] },
        "options": options,
        "targets": panel.queries.iter().enumerate().map(target).collect::<Vec<_>>(),
    })
}

fn target((number, query): (usize, &Query)) -> Value {
    let letters = ["A", "B", "C", "D"];
    json!({
        "refId": letters[number],
        "datasource": data_source(),
        "expr": query.text,
        "legendFormat": query.legend,
    })
}
