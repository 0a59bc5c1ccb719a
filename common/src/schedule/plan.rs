//! Which ticks of a schedule are to be submitted now: by what was missed, and what the schedule says of that.

use std::time::Duration;

use super::{Missed, MissedPolicy, ScheduleName, Timing, Uncomputable};
use crate::time::{Timestamp, whole_ms};

/// How many missed ticks are counted at once; of more, only that there are as many.
pub const MAX_COUNTED: u32 = 1000;

/// How far back the last due tick is looked for, the shortest time first: so a schedule of every second is not computed tick
/// by tick through a day.
const LOOKS_BACK: [Duration; 5] = [
    Duration::from_secs(60),
    Duration::from_secs(3600),
    Duration::from_secs(24 * 3600),
    Duration::from_secs(32 * 24 * 3600),
    Duration::from_secs(366 * 24 * 3600),
];

/// What to do with the ticks of a schedule that are due.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Those whose jobs are to be submitted, in this order.
    pub ticks: Vec<Timestamp>,
    /// How many were missed and are not made up for; at most [`MAX_COUNTED`].
    pub missed: u32,
    /// The next tick; `None` if there is none.
    pub next: Option<Timestamp>,
}

impl Plan {
    /// Returns what to do at `now` if `tick` is the next one. No more than `most` ticks are submitted at once: then `next` is
    /// one that is due, too.
    ///
    /// # Errors
    /// If a tick cannot be computed.
    pub fn of(
        (timing, name): (&Timing, &ScheduleName),
        missed: &Missed,
        (tick, now): (Timestamp, Timestamp),
        most: usize,
    ) -> Result<Self, Uncomputable> {
        let is_due = |tick: Timestamp| timing.due(name, tick) <= now;
        if !is_due(tick) {
            return Ok(Self { next: Some(tick), ..Self::default() });
        }
        let second = timing.next_after(tick)?;
        if !second.is_some_and(is_due) && missed.policy != MissedPolicy::Skip {
            return Ok(Self { ticks: vec![tick], missed: 0, next: second });
        }
        match missed.policy {
            MissedPolicy::All => Self::of_all(timing, missed, (tick, now), (most, &is_due)),
            MissedPolicy::Once | MissedPolicy::Skip => {
                let last = last_due(timing, (tick, now), &is_due)?;
                let late = timing.due(name, last).until(now);
                let skips = missed.policy == MissedPolicy::Skip && late > Missed::LATE;
                let passed = count(timing, (tick, last))?;
                let ticks = if skips { Vec::new() } else { vec![last] };
                let missed = (passed + u32::from(skips)).min(MAX_COUNTED);
                Ok(Self { ticks, missed, next: timing.next_after(last)? })
            }
        }
    }

    fn of_all(
        timing: &Timing,
        missed: &Missed,
        (tick, now): (Timestamp, Timestamp),
        (most, is_due): (usize, &impl Fn(Timestamp) -> bool),
    ) -> Result<Self, Uncomputable> {
        let at_most = usize::try_from(missed.at_most).unwrap_or(usize::MAX);
        let oldest = now.unix_ms().saturating_sub(whole_ms(missed.within));
        let mut first = tick;
        if tick.unix_ms() < oldest {
            let before = Timestamp::from_unix_ms(oldest - 1);
            first = timing.next_after(before)?.filter(|it| is_due(*it)).unwrap_or(tick);
        }
        let mut due = Vec::new();
        let mut next = Some(first);
        while let Some(tick) = next.filter(|tick| is_due(*tick)) {
            due.push(tick);
            next = timing.next_after(tick)?;
        }
        // The newest of them; one that is not missed is among them.
        let mut ticks = due.split_off(due.len().saturating_sub(at_most));
        ticks.retain(|tick| tick.unix_ms() >= oldest);
        let from = ticks.first().copied().or(next);
        let missed = from.map_or(Ok(MAX_COUNTED), |from| count(timing, (tick, from)))?;
        if ticks.len() > most {
            next = Some(ticks[most]);
            ticks.truncate(most);
        }
        Ok(Self { ticks, missed, next })
    }
}

/// Returns the last tick that is due; `tick` is.
fn last_due(
    timing: &Timing,
    (tick, now): (Timestamp, Timestamp),
    is_due: &impl Fn(Timestamp) -> bool,
) -> Result<Timestamp, Uncomputable> {
    for back in LOOKS_BACK {
        // A tick of before may be due by its jitter only now.
        let back = now.unix_ms().saturating_sub(whole_ms(back + timing.jitter));
        if back <= tick.unix_ms() {
            break;
        }
        let after = timing.next_after(Timestamp::from_unix_ms(back))?;
        if let Some(found) = after.filter(|found| is_due(*found)) {
            return last_from(timing, found, is_due);
        }
    }
    last_from(timing, tick, is_due)
}

fn last_from(
    timing: &Timing,
    mut last: Timestamp,
    is_due: &impl Fn(Timestamp) -> bool,
) -> Result<Timestamp, Uncomputable> {
    while let Some(next) = timing.next_after(last)?.filter(|next| is_due(*next)) {
        last = next;
    }
    Ok(last)
}

/// How many ticks there are from one to before another; at most [`MAX_COUNTED`].
fn count(timing: &Timing, (from, to): (Timestamp, Timestamp)) -> Result<u32, Uncomputable> {
    let (mut tick, mut counted) = (Some(from), 0);
    while let Some(at) = tick.filter(|at| *at < to) {
        counted += 1;
        if counted == MAX_COUNTED {
            break;
        }
        tick = timing.next_after(at)?;
    }
    Ok(counted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Rule;

    const SECOND: u64 = 1000;

    fn seconds() -> Timing {
        Timing::of(Rule::Every(Duration::from_secs(1)))
    }

    fn of(timing: &Timing, policy: MissedPolicy, tick: u64, now: u64, most: usize) -> Plan {
        let name = "s".parse().unwrap();
        let missed = Missed { policy, at_most: 5, within: Duration::from_secs(60) };
        let times = (Timestamp::from_unix_ms(tick), Timestamp::from_unix_ms(now));
        Plan::of((timing, &name), &missed, times, most).unwrap()
    }

    fn plan(ticks: &[u64], missed: u32, next: u64) -> Plan {
        let at = |second: &u64| Timestamp::from_unix_ms(second * SECOND);
        Plan { ticks: ticks.iter().map(at).collect(), missed, next: Some(at(&next)) }
    }

    #[test]
    fn a_tick_in_time_is_submitted_whatever_the_policy() {
        for policy in MissedPolicy::ALL {
            let found = of(&seconds(), policy, 100 * SECOND, 100_999, 10);
            assert_eq!(found, plan(&[100], 0, 101), "{policy}");
            let early = of(&seconds(), policy, 100 * SECOND, 99_999, 10);
            assert_eq!(early, plan(&[], 0, 100), "{policy}");
        }
    }

    #[test]
    fn of_missed_ticks_the_last_one_counts_or_none_or_all_within_bounds() {
        let now = 103_500;
        assert_eq!(of(&seconds(), MissedPolicy::Once, 100_000, now, 10), plan(&[103], 3, 104));
        assert_eq!(of(&seconds(), MissedPolicy::Skip, 100_000, now, 10), plan(&[103], 3, 104));
        let all = of(&seconds(), MissedPolicy::All, 100_000, now, 10);
        assert_eq!(all, plan(&[100, 101, 102, 103], 0, 104));
        // Two at once; the rest is next, although it is due.
        assert_eq!(of(&seconds(), MissedPolicy::All, 100_000, now, 2), plan(&[100, 101], 0, 102));
        // No more than five, the newest.
        let all = of(&seconds(), MissedPolicy::All, 100_000, 109_999, 10);
        assert_eq!(all, plan(&[105, 106, 107, 108, 109], 5, 110));
    }

    #[test]
    fn ticks_are_made_up_for_within_their_window_only() {
        let minutes = Timing::of(Rule::Every(Duration::from_secs(60)));
        // 10:00 to 13:00 after 1970, in minutes: only the one of the last minute.
        let all = of(&minutes, MissedPolicy::All, 600 * SECOND, 780 * SECOND + 1, 10);
        assert_eq!(all, plan(&[780], 3, 840));
    }

    #[test]
    fn a_late_tick_is_skipped_only_by_skip_and_only_if_it_is_very_late() {
        let days = Timing::of(Rule::Every(Duration::from_secs(86_400)));
        let tick = 864_000;
        let at = |policy, late| of(&days, policy, tick * SECOND, tick * SECOND + late, 10);
        let (fires, next) = (plan(&[tick], 0, tick + 86_400), tick + 86_400);
        assert_eq!(at(MissedPolicy::Skip, 10_000), fires);
        assert_eq!(at(MissedPolicy::Skip, 10_001), plan(&[], 1, next));
        assert_eq!(at(MissedPolicy::Once, 3_600_000), fires);
    }

    #[test]
    fn a_year_of_missed_seconds_is_planned_quickly() {
        let start = std::time::Instant::now();
        let line = Timing::of(Rule::Cron("* * * * * *".parse().unwrap()));
        let now = 400 * 86_400 * SECOND;
        let found = of(&line, MissedPolicy::Once, 86_400 * SECOND, now, 10);
        assert_eq!(found, plan(&[400 * 86_400], MAX_COUNTED, 400 * 86_400 + 1));
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }
}
