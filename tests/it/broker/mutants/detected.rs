//! What detected each mutant when all were last run (`every_broken_function_is_detected` prints the rows). It is tried
//! first, so a row that is missing or no longer true costs only time.

/// The mutant, and the scenario.
pub(super) const DETECTED_BY: &[(&str, &str)] = &[
    (
        "a broken running record stops the sweep",
        "a broken running record does not stop the recovery of others",
    ),
    (
        "a call of several jobs is taken for one job",
        "a call about many queues leaves exactly the tokens that are missing",
    ),
    (
        "a call promotes fewer jobs than a worker wants",
        "a worker gets as many jobs in each call while due jobs are promoted",
    ),
    (
        "a call takes all queues for empty if one is",
        "a call about many queues leaves exactly the tokens that are missing",
    ),
    ("a cancel fails on a broken running record", "a broken running record can be canceled"),
    ("a cancel makes no ghost", "an id that is in two places is handed out once"),
    (
        "a change of a task is not announced",
        "new tasks are refused at the limit, and declared ones are renewed",
    ),
    (
        "a claim leaves no wake-up token for the rest",
        "each claim leaves a wake-up token until no claimable work is left",
    ),
    (
        "a claim leaves the id in the ready list",
        "kinds of errors of one task beyond its limit share a group",
    ),
    (
        "a claim reads a lane only once",
        "each claim leaves a wake-up token until no claimable work is left",
    ),
    ("a claim takes canceled jobs", "canceled jobs do not hide a live job of their priority"),
    (
        "a clock that went back is not detected",
        "a clock that went back makes a sweep visit every queue",
    ),
    ("a deadline is not listed", "whatever fails a job lists it in a group"),
    ("a deadline is not listed as due", "random histories"),
    (
        "a delayed job is not listed as due",
        "a job that is in no list is put back where its status says",
    ),
    (
        "a delete leaves the entries in the indexes",
        "jobs leave their error group, which stays for a week",
    ),
    (
        "a deleted job stays in its error group",
        "jobs leave their error group, which stays for a week",
    ),
    ("a deleted job stays in its indexes", "jobs are in their indexes until they are deleted"),
    (
        "a failed attempt that is retried is not counted",
        "an error group counts attempts and lists jobs",
    ),
    ("a failed job is in no error group", "failures of one kind are one group"),
    ("a feature in use is listed again", "a heartbeat stops a process that lacks a feature in use"),
    ("a feature in use is not listed", "a heartbeat stops a process that lacks a feature in use"),
    (
        "a first declaration replaces one",
        "new tasks are refused at the limit, and declared ones are renewed",
    ),
    (
        "a full list renews no task",
        "new tasks are refused at the limit, and declared ones are renewed",
    ),
    (
        "a full queue accepts a job that is submitted alone",
        "a job that is submitted alone is refused where one of many would be",
    ),
    (
        "a gap in the changes is not reported",
        "the changes of a job that is followed are kept without a gap, or the gap is reported",
    ),
    (
        "a ghost that is retried by hand is queued twice",
        "an audit reports nothing that only looks wrong",
    ),
    (
        "a group without jobs is written",
        "a job that does not fit into a call waits for the next one, whatever its queue",
    ),
    ("a healed attempt is charged", "a job that is in no list is put back where its status says"),
    (
        "a healed lease is not listed as due",
        "a running job without a lease stays with a worker that sends heartbeats",
    ),
    ("a heartbeat extends the lease of any worker", "a lease is valid only for its worker"),
    (
        "a heartbeat in the future counts",
        "a worker that died before the clock was set back is counted as a loss",
    ),
    ("a job does not name its indexes", "jobs are in their indexes until they are deleted"),
    ("a job is in one of its indexes", "jobs are in their indexes until they are deleted"),
    ("a job leaves one of its indexes", "jobs are in their indexes until they are deleted"),
    (
        "a job may expire at once",
        "no job expires before a call whose reply was lost can be repeated",
    ),
    (
        "a job that is listed by mistake is deleted",
        "jobs that end together are one entry, from which each can be removed",
    ),
    (
        "a job that is lost after its deadline does not fail",
        "a job that runs at its deadline stays with its worker until it is lost",
    ),
    (
        "a job that is retried by hand has no deadline",
        "a job that ended has no deadline any more, and one that is retried has",
    ),
    (
        "a job that is retried by hand stays listed as finished",
        "a job that is retried by hand no longer expires",
    ),
    (
        "a job that is retried by hand stays parked",
        "a job that was parked once goes only to workers that have its task",
    ),
    (
        "a job that is submitted alone does not list its queue",
        "kinds of errors beyond the limit share a group",
    ),
    ("a job that is submitted alone is not among the newest", "random histories"),
    (
        "a job that is submitted alone is not counted beside those in other lanes",
        "a job that is submitted alone is refused where one of many would be",
    ),
    (
        "a job that is submitted alone may be known, or its queue have other lanes",
        "large payloads are stored before their job, and deleted with it",
    ),
    (
        "a job that is submitted alone wakes no worker",
        "each claim leaves a wake-up token until no claimable work is left",
    ),
    ("a job that kills its workers never fails", "whatever fails a job lists it in a group"),
    (
        "a job that kills its workers never runs alone",
        "a job that kills its workers runs alone from the second loss and fails with the fifth",
    ),
    (
        "a job that missed its deadline stays in its list",
        "a deadline ends a job that no worker claims, wherever it waits",
    ),
    (
        "a job that runs again keeps the name of its error group",
        "jobs leave their error group, which stays for a week",
    ),
    (
        "a job that runs again stays in its error group",
        "jobs leave their error group, which stays for a week",
    ),
    (
        "a job that succeeds keeps its deadline",
        "a job that ended has no deadline any more, and one that is retried has",
    ),
    (
        "a job that waits for a machine is charged",
        "what a machine cannot run is uncharged, waits ever longer, and shows why",
    ),
    (
        "a job that waits for a machine is tried again at once",
        "what a machine cannot run is uncharged, waits ever longer, and shows why",
    ),
    (
        "a job whose task a worker lacks is not parked",
        "parked jobs go to workers with their task, in order",
    ),
    (
        "a job with failed hand-overs never fails",
        "failed hand-overs run alone from the third and end with the eighth",
    ),
    (
        "a job with failed hand-overs never runs alone",
        "failed hand-overs run alone from the third and end with the eighth",
    ),
    (
        "a job with indexed labels is in no index",
        "jobs are in their indexes until they are deleted",
    ),
    (
        "a known kind of errors loses its group at the limit",
        "kinds of errors of one task beyond its limit share a group",
    ),
    ("a lane of parked jobs is not listed", "parked jobs go to workers with their task, in order"),
    (
        "a later due time replaces an earlier one",
        "a job that is in no list is put back where its status says",
    ),
    ("a lease is not listed as due", "what an operator must decide is reported and left alone"),
    (
        "a lost reply counts as a loss",
        "failed hand-overs run alone from the third and end with the eighth",
    ),
    ("a minute is sampled repeatedly", "the depths of queues are sampled once a minute"),
    (
        "a muted job has deliveries",
        "each generation of a job has one delivery, and a muted job has no more",
    ),
    (
        "a nearly full Redis accepts a job that is submitted alone",
        "a job that is submitted alone is refused where one of many would be",
    ),
    ("a nearly full Redis is swept in turn", "a nearly full Redis makes a sweep visit every queue"),
    (
        "a nearly full Redis takes logs",
        "a nearly full Redis takes reports later, and counts the lines of the last one",
    ),
    (
        "a parked job that was delayed is no longer parked",
        "a job that was parked once goes only to workers that have its task",
    ),
    (
        "a partition that is being moved is written to",
        "a partition that is being moved is not written to",
    ),
    ("a pause makes any queue known", "random histories"),
    (
        "a payload of a refused job is not deleted",
        "large payloads are stored before their job, and deleted with it",
    ),
    (
        "a payload that was stored before makes a job known",
        "large payloads are stored before their job, and deleted with it",
    ),
    ("a purge cancels what has run", "a purge cancels what waits and leaves what runs or has run"),
    ("a purge leaves parked jobs", "parked jobs are counted, listed, canceled and purged"),
    (
        "a purge leaves the ids in their lists",
        "a purge cancels what waits and leaves what runs or has run",
    ),
    ("a queue is listed for sweeps only", "an id in the wrong place is removed from it"),
    (
        "a queue is taken for empty though a call has no room for the rest",
        "a job for which a call has no room wakes a worker",
    ),
    ("a queue of parked jobs is removed", "parked jobs may wait for hours"),
    (
        "a queue that is read is taken for empty",
        "each claim leaves a wake-up token until no claimable work is left",
    ),
    ("a queue with parked jobs is not a side queue", "parked jobs may wait for hours"),
    (
        "a queue's last use is never written again",
        "an empty queue is removed an hour after its last use, and not after its first",
    ),
    ("a reclaim charges no loss", "whatever fails a job lists it in a group"),
    (
        "a reclaim keeps the reservation",
        "a job that waits to run alone does not wait for a dead worker",
    ),
    (
        "a reclaim leaves its worker listed",
        "a reclaim requeues the jobs of a dead worker at once and counts a loss, and another worker goes on",
    ),
    (
        "a reclaim reads a queue only once",
        "a reclaim requeues everything, however much its worker held",
    ),
    (
        "a reclaim takes jobs of other workers",
        "a reclaim requeues the jobs of a dead worker at once and counts a loss, and another worker goes on",
    ),
    (
        "a reclaim wakes no worker",
        "a reclaim requeues the jobs of a dead worker at once and counts a loss, and another worker goes on",
    ),
    (
        "a reclaimed worker may exchange",
        "calls of a worker that arrive after its reclaim are refused",
    ),
    (
        "a reclaimed worker may send heartbeats",
        "calls of a worker that arrive after its reclaim are refused",
    ),
    ("a redrive accepts an unknown queue", "random histories"),
    (
        "a release ignores a request to cancel",
        "what a machine cannot run is uncharged, waits ever longer, and shows why",
    ),
    (
        "a release is charged",
        "a job that kills its workers runs alone from the second loss and fails with the fifth",
    ),
    (
        "a report is accepted without a lease",
        "a report that is sent again is written once, in each attempt",
    ),
    (
        "a reservation is not renewed",
        "a worker that is reserved for a solitary job stays so, and paused queues reserve none",
    ),
    ("a resume makes any queue known", "random histories"),
    (
        "a retry by hand changes when the last attempt ended",
        "jobs leave their error group, which stays for a week",
    ),
    ("a retry ignores a request to cancel", "a cancel wins over another attempt"),
    ("a round begins every second", "queues in which nothing is due are visited in rounds"),
    (
        "a round reads a lane of ghosts only once",
        "queues in which nothing is due are visited in rounds",
    ),
    (
        "a round that stopped by budget waits for the next",
        "queues in which nothing is due are visited in rounds",
    ),
    (
        "a running job fails at its deadline",
        "a job that runs at its deadline stays with its worker until it is lost",
    ),
    ("a series of one call replaces another", "series of attempts beyond the limit share one"),
    ("a side queue is not listed", "whatever fails a job lists it in a group"),
    ("a single lease is not listed as due", "random histories"),
    (
        "a solitary job does not run alone",
        "a job that kills its workers runs alone from the second loss and fails with the fifth",
    ),
    ("a submission lists its queue for sweeps only", "an audit checks the groups of errors"),
    (
        "a sweep does not continue within the second",
        "a call promotes a hundred jobs over all queues, and a sweep continues until all are",
    ),
    ("a sweep drops ids that are not ghosts", "sweeps drop parked jobs that were canceled"),
    (
        "a sweep has no budget",
        "a call promotes a hundred jobs over all queues, and a sweep continues until all are",
    ),
    (
        "a sweep ignores the grace period",
        "a queue with side jobs is listed, and a sweep finds one that is not",
    ),
    ("a sweep leaves ghosts in the ready list", "sweeps drop parked jobs that were canceled"),
    ("a sweep leaves ghosts of parked jobs", "sweeps drop parked jobs that were canceled"),
    (
        "a sweep leaves the lease that it reclaimed",
        "a reclaim requeues the jobs of a dead worker at once and counts a loss, and another worker goes on",
    ),
    (
        "a sweep lists no side queue",
        "a queue with side jobs is listed, and a sweep finds one that is not",
    ),
    (
        "a sweep visits every queue",
        "a sweep finds what is due in one of many queues, and visits the others in turn",
    ),
    ("a sweep wakes no worker for parked jobs", "sweeps drop parked jobs that were canceled"),
    (
        "a visit does not list the next deadline as due",
        "a deadline ends a job that no worker claims, wherever it waits",
    ),
    (
        "a visit drops what is due later",
        "a job that kills its workers runs alone from the second loss and fails with the fifth",
    ),
    (
        "a visit that stopped by budget counts as done",
        "a queue with many due jobs is visited until all are promoted",
    ),
    (
        "a worker does not learn what was requested",
        "a worker learns with its heartbeats what an operator requested",
    ),
    (
        "a worker is not asked for a heartbeat",
        "a worker learns with its heartbeats what an operator requested",
    ),
    (
        "a worker that is not known gets requests",
        "a worker learns with its heartbeats what an operator requested",
    ),
    (
        "all generations share one delivery id",
        "each generation of a job has one delivery, and a muted job has no more",
    ),
    ("an audit accepts a broken record", "what an operator must decide is reported and left alone"),
    ("an audit accepts any listed deadline", "an audit checks deadlines and parked jobs"),
    (
        "an audit does not check the list of optional fields",
        "ended jobs are listed and expire again",
    ),
    ("an audit misses a deadline that is not listed", "an audit checks deadlines and parked jobs"),
    (
        "an audit misses a queue that is missing from the index of names",
        "an audit finds a queue that is missing from the index of names",
    ),
    ("an audit misses ghosts that are in no lane", "entries and keys without a job are removed"),
    ("an audit misses lanes that are not listed", "an audit checks deadlines and parked jobs"),
    ("an audit overlooks a job in an index that it does not name", "an audit checks indexes"),
    (
        "an audit overlooks a job in the error group of others",
        "an audit checks the groups of errors",
    ),
    ("an audit overlooks a job that is missing from an index", "an audit checks indexes"),
    (
        "an audit overlooks a job that is missing from its error group",
        "an audit checks the groups of errors",
    ),
    (
        "an audit overlooks an error group that is not listed",
        "an audit checks the groups of errors",
    ),
    (
        "an audit reports a ghost that was retried by hand",
        "an audit reports nothing that only looks wrong",
    ),
    ("an audit reports ghosts of failed jobs", "an audit checks deadlines and parked jobs"),
    (
        "an audit reports the ghost of an expired job",
        "an audit reports nothing that only looks wrong",
    ),
    (
        "an ended job keeps its deadline",
        "a job that ended has no deadline any more, and one that is retried has",
    ),
    ("an error group is not listed", "failures of one kind are one group"),
    ("an error group is removed at once", "random histories"),
    (
        "an error group is removed while it has jobs",
        "jobs leave their error group, which stays for a week",
    ),
    (
        "an expired job stays in its error group",
        "jobs leave their error group, which stays for a week",
    ),
    ("an expired job stays in its indexes", "jobs that expire leave their indexes"),
    ("an hour has any number of series", "series of attempts beyond the limit share one"),
    (
        "an idle exchange does not look for side queues that are not listed",
        "a queue with side jobs is listed, and a sweep finds one that is not",
    ),
    ("an index is not sorted by id", "an index lists the newest jobs first"),
    ("any number of error groups is kept", "kinds of errors beyond the limit share a group"),
    (
        "any number of kinds of one task is kept",
        "kinds of errors of one task beyond its limit share a group",
    ),
    ("attempts are not added up", "attempts are counted in their minute and their hour, once"),
    (
        "attempts of an hour are not kept",
        "attempts are counted in their minute and their hour, once",
    ),
    (
        "changes are not kept",
        "the changes of a job that is followed are kept without a gap, or the gap is reported",
    ),
    (
        "changes are not published",
        "every change of a watched job is published, and none of other jobs",
    ),
    (
        "changes of jobs that are not watched are published",
        "every change of a watched job is published, and none of other jobs",
    ),
    (
        "counts replace those of the same minute",
        "attempts are counted in their minute and their hour, once",
    ),
    (
        "counts that are sent again are added again",
        "attempts are counted in their minute and their hour, once",
    ),
    (
        "counts that may have been added are added",
        "attempts are counted in their minute and their hour, once",
    ),
    ("delayed jobs start early", "a new earliest delayed job wakes a worker, a later one does not"),
    (
        "deliveries have the retention of other jobs",
        "the end of a job creates a delivery in the same step",
    ),
    ("deliveries wake no worker", "the end of a job creates a delivery in the same step"),
    (
        "due jobs are promoted in another order of queues",
        "a new earliest delayed job wakes a worker, a later one does not",
    ),
    (
        "empty lanes of parked jobs stay listed",
        "parked jobs are counted, listed, canceled and purged",
    ),
    (
        "empty queues get tokens",
        "each claim leaves a wake-up token until no claimable work is left",
    ),
    (
        "empty queues hide those beside them",
        "a call about many queues leaves exactly the tokens that are missing",
    ),
    (
        "ends that were not requested create deliveries",
        "each generation of a job has one delivery, and a muted job has no more",
    ),
    (
        "enqueue is not idempotent",
        "large payloads are stored before their job, and deleted with it",
    ),
    ("epochs may repeat", "a report that is sent again is written once, in each attempt"),
    ("error groups stay for ever", "jobs leave their error group, which stays for a week"),
    ("errors of all kinds are one group", "failures of one kind are one group"),
    ("errors of all queues are one group", "random histories"),
    ("errors of the functions are one kind", "whatever fails a job lists it in a group"),
    (
        "events do not expire with their job",
        "the changes of a job that is followed are kept without a gap, or the gap is reported",
    ),
    (
        "events of a job that is retried by hand expire",
        "the changes of a job that is followed are kept without a gap, or the gap is reported",
    ),
    (
        "every declaration is a change",
        "new tasks are refused at the limit, and declared ones are renewed",
    ),
    ("every worker claims parked jobs", "parked jobs go to workers with their task, in order"),
    ("expired jobs are not deleted", "expired jobs leave the indexes"),
    (
        "failed hand-overs are losses",
        "failed hand-overs run alone from the third and end with the eighth",
    ),
    ("failures of one call are counted once", "failures of one kind in one call are one kind"),
    (
        "failures of one kind in one call are several kinds of their task",
        "failures of one kind in one call are one kind",
    ),
    ("healing does not let logs of ended jobs expire", "ended jobs are listed and expire again"),
    (
        "healing gives a lease to a dead worker",
        "a job that is in no list is put back where its status says",
    ),
    (
        "healing ignores a request to cancel",
        "a job that is canceled while it is in no list stays canceled",
    ),
    ("healing keeps both places", "an id that is in two places is handed out once"),
    ("healing leaves the id in the wrong place", "an id in the wrong place is removed from it"),
    (
        "healing puts back a job that it is not certain about",
        "healing leaves alone what has changed since the audit",
    ),
    (
        "healing requeues the job of a live worker",
        "a running job without a lease stays with a worker that sends heartbeats",
    ),
    (
        "healing starts delayed jobs early",
        "a job that is in no list is put back where its status says",
    ),
    ("healing wakes no worker", "a job that is in no list is put back where its status says"),
    (
        "heartbeats hide the features in use",
        "a heartbeat stops a process that lacks a feature in use",
    ),
    (
        "hours are kept as long as minutes",
        "attempts are counted in their minute and their hour, once",
    ),
    (
        "idempotency ignores the request",
        "the same key and request is one job, in one call or in two",
    ),
    (
        "jobs that are listed with a removed one are not listed any more",
        "jobs that end together are one entry, from which each can be removed",
    ),
    (
        "kinds of errors are counted for ever",
        "kinds of errors of one task beyond its limit share a group",
    ),
    ("known queues are counted again", "new queues are refused at the limit, and known ones go on"),
    ("lines are numbered anew", "lines of a log keep their numbers when older ones are dropped"),
    (
        "lines of another attempt are taken for repeats",
        "a report that is sent again is written once, in each attempt",
    ),
    ("losses are never counted", "whatever fails a job lists it in a group"),
    (
        "minutes are kept as long as hours",
        "attempts are counted in their minute and their hour, once",
    ),
    ("missing lines are not counted", "the log shows how many lines are missing"),
    (
        "new log lines are not published",
        "every change of a watched job is published, and none of other jobs",
    ),
    (
        "no declaration replaces another one",
        "new tasks are refused at the limit, and declared ones are renewed",
    ),
    ("no delivery is created", "the end of a job creates a delivery in the same step"),
    ("no round follows the first", "jobs leave their error group, which stays for a week"),
    ("no worker claims parked jobs", "parked jobs go to workers with their task, in order"),
    (
        "one unreadable record fails the whole call",
        "one unreadable record does not stop the claim of nine others",
    ),
    ("only one optional field is listed", "jobs leave their error group, which stays for a week"),
    (
        "only the first half of many queues gets its missing tokens",
        "a call about many queues leaves exactly the tokens that are missing",
    ),
    ("optional fields are not listed", "jobs leave their error group, which stays for a week"),
    (
        "parked jobs that are left wake no worker",
        "parked jobs go to workers with their task, in order",
    ),
    ("parked tasks take no turns", "parked jobs of several tasks take turns"),
    ("parking wakes no worker", "parked jobs go to workers with their task, in order"),
    ("paused queues reserve workers", "resume wakes a worker"),
    ("payloads are not padded", "the end of a job creates a delivery in the same step"),
    ("priorities are ignored", "canceled jobs do not hide a live job of their priority"),
    (
        "released jobs wake no worker",
        "jobs that a worker without queues releases wake another worker",
    ),
    (
        "repeated lines are written again",
        "a report that is sent again is written once, in each attempt",
    ),
    (
        "repeated progress is a change",
        "a report that is sent again is written once, in each attempt",
    ),
    ("samples of hours stay for ever", "the depths of queues are sampled once a minute"),
    ("samples of minutes stay for ever", "the depths of queues are sampled once a minute"),
    ("settling does not check the epoch", "a lease is valid only for its worker"),
    ("settling does not remove the lease", "an audit checks the groups of errors"),
    ("settling is not idempotent", "random histories"),
    (
        "settling removes no expired entries",
        "settling removes twice as many expired entries as it adds",
    ),
    ("side queues are taken for empty", "an urgent job among empty queues is found"),
    ("silence is noticed too late", "random histories"),
    ("sweeps hide the features in use", "a sweep stops a process that lacks a feature in use"),
    ("sweeps in heartbeats do so", "no worker is waited for where nothing was due before"),
    (
        "sweeps take the time in which nothing was due for an outage",
        "no worker is waited for where nothing was due before",
    ),
    (
        "sweeps trust a look that is older than an outage",
        "workers are waited for after an outage, whatever was seen before it",
    ),
    (
        "the bytes that a call hands out have no limit",
        "a job for which a call has no room wakes a worker",
    ),
    (
        "the count of a task's kinds is never removed",
        "kinds of errors of one task beyond its limit share a group",
    ),
    (
        "the fast path of claims ignores optional fields",
        "every change of a watched job is published, and none of other jobs",
    ),
    (
        "the fast path of promotions ignores optional fields",
        "every change of a watched job is published, and none of other jobs",
    ),
    ("the fast path of settling does not check the worker", "a lease is valid only for its worker"),
    (
        "the fast path of settling ignores optional fields",
        "no job expires before a call whose reply was lost can be repeated",
    ),
    ("the feature of indexes is not listed", "jobs are in their indexes until they are deleted"),
    ("the fencing check ignores the worker", "a lease is valid only for its worker"),
    (
        "the first counts of a worker are left out",
        "attempts are counted in their minute and their hour, once",
    ),
    ("the history has no byte limit", "a history of long errors stays within its byte limit"),
    (
        "the history lacks a healed attempt",
        "a job that is in no list is put back where its status says",
    ),
    ("the hour has the last depths", "the depths of queues are sampled once a minute"),
    (
        "the index of names is never corrected",
        "pages list every queue by name, also those of a version without the index of names",
    ),
    ("the latest due time of a step is listed, not the earliest", "random histories"),
    (
        "the list of the newest jobs grows for ever",
        "a partition lists a thousand of its newest jobs",
    ),
    (
        "the longest durations are left out",
        "attempts are counted in their minute and their hour, once",
    ),
    ("the newest jobs are not listed", "a list begins with the newest jobs over all queues"),
    (
        "the number of an exchange is ignored",
        "two exchanges of a worker may be under way, each with its own number",
    ),
    (
        "the number of counts is not kept",
        "attempts are counted in their minute and their hour, once",
    ),
    (
        "the number of declared tasks has no limit",
        "new tasks are refused at the limit, and declared ones are renewed",
    ),
    (
        "the number of known queues has no limit",
        "new queues are refused at the limit, and known ones go on",
    ),
    ("the number of parked tasks has no limit", "a job that cannot be parked is tried again later"),
    ("the oldest of the newest jobs are kept", "a partition lists a thousand of its newest jobs"),
    (
        "the order of a batch depends on optional fields",
        "a batch of plain and special jobs keeps its order",
    ),
    (
        "the queue of deliveries is not listed for sweeps",
        "the end of a job creates a delivery in the same step",
    ),
    (
        "the sequences share their claims",
        "two exchanges of a worker may be under way, each with its own number",
    ),
    (
        "the sequences share their numbers",
        "two exchanges of a worker may be under way, each with its own number",
    ),
    ("the series of one call are not counted", "series of attempts beyond the limit share one"),
    ("visits to all queues never end", "a clock that went back makes a sweep visit every queue"),
    (
        "what an operator requested is not kept",
        "a worker learns with its heartbeats what an operator requested",
    ),
    (
        "where most tokens are missing, none is left",
        "each claim leaves a wake-up token until no claimable work is left",
    ),
];
