//! `unique = { fields = ["/customer"], on_conflict = "reject" }`: what the jobs of a task are unique by.

use std::time::Duration;

use crunch_common::job::{InvalidUnique, Unique, UniqueMembers};
use crunch_common::time::whole_ms;

use super::duration;
use super::table::{self, Table};

pub(super) fn read(outer: &mut Table<'_>) -> Option<Unique> {
    const MIN: Duration = Duration::from_millis(1);
    let (at, entries) = outer.take_spanned("unique", table::table)?;
    let mut table = Table::new(entries, at.clone());
    let mut time = |key| table.take(key, |value| duration::at_least(MIN, value)).map(whole_ms);
    let (for_ms, max_wait_ms) = (time("for"), time("max_wait"));
    let members = UniqueMembers {
        key: table.take("key", table::parsed),
        fields: table.take("fields", |value| table::list(value, table::parsed)),
        until: table.take("until", table::parsed),
        for_ms,
        on_conflict: table.take("on_conflict", table::parsed),
        max_wait_ms,
    };
    table.refuse_the_rest();
    let unique = match Unique::try_from(members) {
        Ok(unique) => Some(unique),
        Err(InvalidUnique { member, reason }) => {
            if table.mistakes.is_empty() {
                table.note(at, format!("{}: {reason}", member.trim_end_matches("_ms")));
            }
            None
        }
    };
    outer.adopt("unique", table);
    unique
}
