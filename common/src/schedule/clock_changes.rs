//! Ticks around changes of clocks: a table whose times were found by another program, which looks at the clock of the zone in
//! every minute.
//!
//! A time of day that is left out is the first instant after the gap, one that comes twice is the first of the two; lines
//! with steps, ranges or any hour follow the clock.

use super::{Rule, Timing};

/// Line, zone, a time, and the three ticks after it.
type Row = (&'static str, &'static str, &'static str, [&'static str; 3]);

#[rustfmt::skip]
const CHANGES: [Row; 50] = [
    // Spring: 02:30 does not exist.
    ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00Z", ["2026-03-29T01:00Z", "2026-03-30T00:30Z", "2026-03-31T00:30Z"]),
    // Autumn: 02:30 comes twice.
    ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00Z", ["2026-10-25T00:30Z", "2026-10-26T01:30Z", "2026-10-27T01:30Z"]),
    // Steps leave out the gap.
    ("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:15Z", ["2026-03-29T00:30Z", "2026-03-29T01:00Z", "2026-03-29T01:30Z"]),
    // Steps follow the clock twice.
    ("*/30 2 * * *", "Europe/Berlin", "2026-10-24T23:45Z", ["2026-10-25T00:00Z", "2026-10-25T00:30Z", "2026-10-25T01:00Z"]),
    // Hourly, twice.
    ("0 * * * *", "Europe/London", "2026-10-25T00:00Z", ["2026-10-25T01:00Z", "2026-10-25T02:00Z", "2026-10-25T03:00Z"]),
    ("30 1 * * *", "Europe/London", "2026-03-28T12:00Z", ["2026-03-29T01:00Z", "2026-03-30T00:30Z", "2026-03-31T00:30Z"]),
    // Negative saving time in winter.
    ("30 1 * * *", "Europe/Dublin", "2026-10-24T12:00Z", ["2026-10-25T00:30Z", "2026-10-26T01:30Z", "2026-10-27T01:30Z"]),
    ("30 2 * * *", "America/New_York", "2026-03-07T12:00Z", ["2026-03-08T07:00Z", "2026-03-09T06:30Z", "2026-03-10T06:30Z"]),
    ("30 1 * * *", "America/New_York", "2026-10-31T12:00Z", ["2026-11-01T05:30Z", "2026-11-02T06:30Z", "2026-11-03T06:30Z"]),
    // On Sundays only.
    ("0 2 * * 0", "America/New_York", "2026-03-02T12:00Z", ["2026-03-08T07:00Z", "2026-03-15T06:00Z", "2026-03-22T06:00Z"]),
    ("15 2 * * *", "America/Los_Angeles", "2026-03-07T12:00Z", ["2026-03-08T10:00Z", "2026-03-09T09:15Z", "2026-03-10T09:15Z"]),
    // Offset of half an hour.
    ("5 0 * * *", "America/St_Johns", "2026-03-07T12:00Z", ["2026-03-08T03:35Z", "2026-03-09T02:35Z", "2026-03-10T02:35Z"]),
    // Changed at 00:01, repeats 23:01 of the day before.
    ("1 0 * * *", "America/St_Johns", "2006-10-28T12:00Z", ["2006-10-29T03:31Z", "2006-10-30T03:31Z", "2006-10-31T03:31Z"]),
    ("30 23 * * *", "America/St_Johns", "2006-10-27T12:00Z", ["2006-10-28T02:00Z", "2006-10-29T02:00Z", "2006-10-30T03:00Z"]),
    // Midnight does not exist.
    ("0 0 * * *", "America/Havana", "2026-03-07T12:00Z", ["2026-03-08T05:00Z", "2026-03-09T04:00Z", "2026-03-10T04:00Z"]),
    // 00:30 comes twice.
    ("30 0 * * *", "America/Havana", "2024-11-02T12:00Z", ["2024-11-03T04:30Z", "2024-11-04T05:30Z", "2024-11-05T05:30Z"]),
    // Midnight does not exist.
    ("0 0 * * *", "America/Santiago", "2026-09-04T12:00Z", ["2026-09-05T04:00Z", "2026-09-06T04:00Z", "2026-09-07T03:00Z"]),
    // 23:30 comes twice.
    ("30 23 * * *", "America/Santiago", "2026-04-03T12:00Z", ["2026-04-04T02:30Z", "2026-04-05T02:30Z", "2026-04-06T03:30Z"]),
    // The gap is on the day itself.
    ("30 0 * * 0", "America/Asuncion", "2023-09-28T12:00Z", ["2023-10-01T04:00Z", "2023-10-08T03:30Z", "2023-10-15T03:30Z"]),
    // Midnight does not exist.
    ("15 0 * * *", "Asia/Beirut", "2026-03-27T12:00Z", ["2026-03-27T22:15Z", "2026-03-28T22:00Z", "2026-03-29T21:15Z"]),
    ("30 23 * * *", "Asia/Beirut", "2026-10-23T12:00Z", ["2026-10-23T20:30Z", "2026-10-24T20:30Z", "2026-10-25T21:30Z"]),
    // On a Friday.
    ("30 0 * * *", "Africa/Cairo", "2026-04-23T12:00Z", ["2026-04-23T22:00Z", "2026-04-24T21:30Z", "2026-04-25T21:30Z"]),
    ("30 23 * * *", "Africa/Cairo", "2026-10-28T12:00Z", ["2026-10-28T20:30Z", "2026-10-29T20:30Z", "2026-10-30T21:30Z"]),
    // The clock goes back for Ramadan.
    ("30 2 * * *", "Africa/Casablanca", "2026-02-14T12:00Z", ["2026-02-15T01:30Z", "2026-02-16T02:30Z", "2026-02-17T02:30Z"]),
    // And forward after it.
    ("30 2 * * *", "Africa/Casablanca", "2026-03-21T12:00Z", ["2026-03-22T02:00Z", "2026-03-23T01:30Z", "2026-03-24T01:30Z"]),
    // On a Friday.
    ("30 2 * * *", "Asia/Jerusalem", "2026-03-26T12:00Z", ["2026-03-27T00:00Z", "2026-03-27T23:30Z", "2026-03-28T23:30Z"]),
    // The last one there.
    ("30 0 * * *", "Asia/Tehran", "2022-03-20T12:00Z", ["2022-03-20T21:00Z", "2022-03-21T20:30Z", "2022-03-22T20:00Z"]),
    // Half an hour forward.
    ("15 2 * * *", "Australia/Lord_Howe", "2026-10-02T12:00Z", ["2026-10-02T15:45Z", "2026-10-03T15:30Z", "2026-10-04T15:15Z"]),
    // Half an hour back.
    ("45 1 * * *", "Australia/Lord_Howe", "2026-04-03T12:00Z", ["2026-04-03T14:45Z", "2026-04-04T14:45Z", "2026-04-05T15:15Z"]),
    // Steps through half an hour twice.
    ("*/15 1-2 * * *", "Australia/Lord_Howe", "2026-04-04T14:20Z", ["2026-04-04T14:30Z", "2026-04-04T14:45Z", "2026-04-04T15:00Z"]),
    ("30 2 * * *", "Australia/Sydney", "2026-10-02T12:00Z", ["2026-10-02T16:30Z", "2026-10-03T16:00Z", "2026-10-04T15:30Z"]),
    ("45 2 * * *", "Pacific/Auckland", "2026-09-25T12:00Z", ["2026-09-25T14:45Z", "2026-09-26T14:00Z", "2026-09-27T13:45Z"]),
    // 02:45 becomes 03:45.
    ("0 3 * * *", "Pacific/Chatham", "2026-09-25T12:00Z", ["2026-09-25T14:15Z", "2026-09-26T14:00Z", "2026-09-27T13:15Z"]),
    // 03:00 comes twice.
    ("0 3 * * *", "Pacific/Chatham", "2026-04-03T12:00Z", ["2026-04-03T13:15Z", "2026-04-04T13:15Z", "2026-04-05T14:15Z"]),
    // Hourly in an offset of quarters.
    ("15 * * * *", "Pacific/Chatham", "2026-04-04T12:20Z", ["2026-04-04T12:30Z", "2026-04-04T13:30Z", "2026-04-04T14:30Z"]),
    // Two hours forward.
    ("30 1 * * *", "Antarctica/Troll", "2026-03-28T12:00Z", ["2026-03-29T01:00Z", "2026-03-29T23:30Z", "2026-03-30T23:30Z"]),
    // Two hours back.
    ("30 1 * * *", "Antarctica/Troll", "2026-10-24T12:00Z", ["2026-10-24T23:30Z", "2026-10-26T01:30Z", "2026-10-27T01:30Z"]),
    // Hourly, two hours twice.
    ("0 * * * *", "Antarctica/Troll", "2026-10-24T23:30Z", ["2026-10-25T00:00Z", "2026-10-25T01:00Z", "2026-10-25T02:00Z"]),
    // 30 December 2011 was left out.
    ("0 12 * * *", "Pacific/Apia", "2011-12-29T21:00Z", ["2011-12-29T22:00Z", "2011-12-30T22:00Z", "2011-12-31T22:00Z"]),
    // That day's tick is none.
    ("30 2 30 * *", "Pacific/Apia", "2011-11-29T12:00Z", ["2011-11-30T12:30Z", "2012-01-29T12:30Z", "2012-03-29T12:30Z"]),
    // The hour goes on.
    ("0 * * * *", "Pacific/Apia", "2011-12-30T08:30Z", ["2011-12-30T09:00Z", "2011-12-30T10:00Z", "2011-12-30T11:00Z"]),
    // Saturday follows Thursday.
    ("0 0 * * 6", "Pacific/Apia", "2011-12-28T12:00Z", ["2011-12-30T10:00Z", "2012-01-06T10:00Z", "2012-01-13T10:00Z"]),
    // Left out 21 August 1993.
    ("0 12 * * *", "Pacific/Kwajalein", "1993-08-20T00:30Z", ["1993-08-21T00:00Z", "1993-08-22T00:00Z", "1993-08-23T00:00Z"]),
    // Left out the last day of 1994.
    ("0 12 * * *", "Pacific/Kiritimati", "1994-12-30T23:00Z", ["1994-12-31T22:00Z", "1995-01-01T22:00Z", "1995-01-02T22:00Z"]),
    // The last change before it stayed.
    ("30 2 * * *", "America/Nuuk", "2023-03-25T12:00Z", ["2023-03-26T04:30Z", "2023-03-27T04:30Z", "2023-03-28T04:30Z"]),
    // At 22:00 the evening before.
    ("30 22 * * *", "America/Nuuk", "2024-03-29T12:00Z", ["2024-03-30T00:30Z", "2024-03-31T00:30Z", "2024-03-31T23:30Z"]),
    // Permanent, one hour back.
    ("30 2 * * *", "Europe/Moscow", "2014-10-25T12:00Z", ["2014-10-25T23:30Z", "2014-10-26T23:30Z", "2014-10-27T23:30Z"]),
    // Half an hour forward for good.
    ("15 0 * * *", "Asia/Pyongyang", "2018-05-03T12:00Z", ["2018-05-03T15:45Z", "2018-05-04T15:15Z", "2018-05-05T15:15Z"]),
    // Half an hour forward for good.
    ("45 2 * * *", "America/Caracas", "2016-04-30T12:00Z", ["2016-05-01T07:00Z", "2016-05-02T06:45Z", "2016-05-03T06:45Z"]),
    ("30 1 * * *", "Asia/Gaza", "2023-10-27T12:00Z", ["2023-10-27T22:30Z", "2023-10-28T23:30Z", "2023-10-29T23:30Z"]),
];

#[test]
fn ticks_around_changes_of_clocks_are_neither_missing_nor_twice() {
    let mut wrong = Vec::new();
    for (line, zone, after, expected) in CHANGES {
        let timing = Timing {
            time_zone: zone.parse().unwrap(),
            ..Timing::of(Rule::Cron(line.parse().unwrap()))
        };
        let mut time = after.parse().unwrap();
        let mut found = Vec::new();
        for _ in 0..3 {
            time = timing.next_after(time).unwrap().unwrap();
            found.push(time);
        }
        if found != expected.map(|time| time.parse().unwrap()) {
            wrong.push(format!("{line} in {zone} after {after}: {found:?}, expected {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
