//! `actions`: what operators did.

use super::Session;
use super::list::{finish, list};
use crate::documents::{OperatorAction, read};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Cell, Table};

const HEADER: [&str; 5] = ["AT", "BY", "ACTION", "ON", "JOBS"];

pub(crate) fn run(session: &mut Session<'_>) -> Result<Exit, Error> {
    let mut table = Table::new(&HEADER);
    list(session, &["actions"], |document| {
        table.row(row(&read(document)?));
        Ok(())
    })?;
    finish(session, &table, "no actions")
}

fn row(action: &OperatorAction) -> Vec<Cell> {
    let by = action.key.as_ref().or(action.address.as_ref());
    let on = [&action.job, &action.worker, &action.filter, &action.queue];
    let on = on.into_iter().flatten().next();
    let jobs = action.count.map(|count| count.to_string());
    vec![
        Cell::time(Some(action.at)),
        Cell::optional(by),
        Cell::text(&action.action),
        Cell::optional(on),
        Cell::optional(jobs.as_ref()),
    ]
}
