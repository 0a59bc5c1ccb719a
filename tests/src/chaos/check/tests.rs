//! Tests that the check can fail: each promise is broken in invented evidence, and the check must find it.

use serde_json::json;

use super::super::faults::Target;
use super::super::orders::without_padding;
use super::super::survey::PastError;
use super::*;

const LEASE: Duration = Duration::from_secs(1);

fn entry(moment: Moment, epoch: u64, pid: u32) -> Entry {
    Entry { moment, id: "a".to_owned(), epoch, pid, at_ms: epoch, in_child: false }
}

fn fault(kind: Kind, target: Target, pid: Option<u32>) -> Injected {
    Injected { kind, target, pid, from_ms: 1_100, to_ms: 1_200 }
}

/// Evidence of one job: its first worker was killed, its second completed it.
fn evidence() -> Evidence {
    let submission = Submission { ids: vec!["a".to_owned()], ..Submission::default() };
    let past = PastAttempt {
        started_at_ms: 1_000,
        finished_at_ms: 2_500,
        outcome: "lost".to_owned(),
        error: None,
    };
    let job = Job {
        status: "succeeded".to_owned(),
        epoch: 3_000,
        version: 5,
        finished_at: 3_001,
        result: json!({ "epoch": 3000, "number": 7 }),
        history: vec![past],
        ..Job::default()
    };
    let ended = job.ended().unwrap();
    Evidence {
        submissions: [(7, submission)].into(),
        runs: vec![
            entry(Moment::Start, 1_000, 1),
            entry(Moment::Start, 3_000, 2),
            entry(Moment::End, 3_000, 2),
        ],
        jobs: [("a".to_owned(), job)].into(),
        seen_ended: [("a".to_owned(), ended)].into(),
        faults: vec![fault(Kind::KillWorker, Target::Worker(0), Some(1))],
        lease: LEASE,
        ..Evidence::default()
    }
}

/// Returns the promises that are broken after a change of the evidence.
fn broken(change: impl FnOnce(&mut Evidence)) -> Vec<&'static str> {
    let mut evidence = evidence();
    change(&mut evidence);
    let mut promises: Vec<_> =
        evidence.violations().into_iter().map(|violation| violation.promise).collect();
    promises.dedup();
    promises
}

fn job(evidence: &mut Evidence) -> &mut Job {
    evidence.jobs.get_mut("a").unwrap()
}

#[test]
fn complete_evidence_breaks_no_promise() {
    assert_eq!(broken(|_| {}), [""; 0]);
    let evidence = evidence();
    let runs = evidence.runs_of_jobs(&mut |_, _| {});
    assert_eq!(evidence.cause("a", &runs["a"][0]), Cause::Lost);
}

#[test]
fn a_lost_job_is_found() {
    let lost = broken(|evidence| {
        evidence.jobs.clear();
        evidence.seen_ended.clear();
        evidence.runs.clear();
    });
    assert_eq!(lost, ["nothing acknowledged is lost"]);
}

#[test]
fn a_job_that_did_not_end_is_found() {
    let open = broken(|evidence| {
        job(evidence).status = "running".to_owned();
        evidence.seen_ended.clear();
    });
    assert_eq!(open, ["every job ends"]);
}

#[test]
fn two_jobs_for_one_order_are_found() {
    let twice = |evidence: &mut Evidence| {
        evidence.submissions.get_mut(&7).unwrap().ids.push("b".to_owned());
    };
    assert_eq!(broken(twice), ["one order is one job"]);
    let unacknowledged = |evidence: &mut Evidence| {
        let job = Job { status: "succeeded".to_owned(), version: 3, ..Job::default() };
        evidence.jobs.insert("b".to_owned(), job);
    };
    assert_eq!(broken(unacknowledged), ["one order is one job"]);
}

#[test]
fn a_second_end_is_found() {
    let seen =
        |evidence: &mut Evidence| evidence.seen_ended.get_mut("a").unwrap().finished_at = 3_000;
    assert_eq!(broken(seen), ["a job ends once"]);
    assert_eq!(broken(|evidence| job(evidence).version += 1), ["a job ends once"]);
}

#[test]
fn a_run_without_a_cause_is_found() {
    let unexplained = ["every second run has a cause"];
    assert_eq!(broken(|evidence| evidence.faults.clear()), unexplained);
    // Another worker was killed; only Redis was killed; the fault was long ago.
    assert_eq!(broken(|evidence| evidence.faults[0].pid = Some(3)), unexplained);
    let redis = fault(Kind::KillRedis, Target::Redis(0), None);
    assert_eq!(broken(|evidence| evidence.faults = vec![redis]), unexplained);
    // A slow link does not explain a second run.
    let slow = fault(Kind::Throttle, Target::Workers, None);
    assert_eq!(broken(|evidence| evidence.faults = vec![slow]), unexplained);
    let long_ago = |evidence: &mut Evidence| {
        evidence.runs[0].epoch += 100_000;
        evidence.runs[1].epoch += 100_000;
        evidence.runs[2].epoch += 100_000;
        let job = job(evidence);
        job.epoch += 100_000;
        job.history[0].started_at_ms += 100_000;
        job.history[0].finished_at_ms += 100_000;
        job.result = json!({ "epoch": 103_000, "number": 7 });
        evidence.seen_ended.clear();
    };
    assert_eq!(broken(long_ago), unexplained);
    // The outcome is "lost", but the history has no attempt at that time.
    assert_eq!(broken(|evidence| job(evidence).history[0].started_at_ms = 2_000), unexplained);
}

#[test]
fn two_attempts_a_few_milliseconds_apart_each_have_their_own_cause() {
    let mut evidence = evidence();
    let released = PastAttempt {
        started_at_ms: 984,
        finished_at_ms: 990,
        outcome: "released".to_owned(),
        error: None,
    };
    job(&mut evidence).history.insert(0, released);
    job(&mut evidence).version += 2;
    assert_eq!(evidence.violations(), []);
}

/// Makes the first attempt fail because its child died.
fn with_dead_child(evidence: &mut Evidence, kind: Kind) {
    evidence.submissions.get_mut(&7).unwrap().order = Order::of_server();
    evidence.faults[0].kind = kind;
    let job = job(evidence);
    job.version += 1;
    job.history[0].outcome = "failed".to_owned();
    job.history[0].error = Some(PastError { code: "child_died".to_owned() });
}

#[test]
fn a_child_that_died_without_a_fault_is_found() {
    for kind in [Kind::KillChild, Kind::KillLauncher, Kind::FreezeChild, Kind::ExitChild] {
        assert_eq!(broken(|evidence| with_dead_child(evidence, kind)), [""; 0]);
    }
    let (death, run) = ("a child dies of a fault", "every second run has a cause");
    for kind in [Kind::RepeatAnswers, Kind::Reset] {
        assert_eq!(broken(|evidence| with_dead_child(evidence, kind)), [death, run]);
    }
    let of_another_worker = |evidence: &mut Evidence| {
        with_dead_child(evidence, Kind::KillChild);
        evidence.faults[0].pid = Some(3);
    };
    assert_eq!(broken(of_another_worker), [run]);
    let before_it_ran = |evidence: &mut Evidence| {
        with_dead_child(evidence, Kind::Reset);
        evidence.runs.remove(0);
    };
    assert_eq!(broken(before_it_ran), [death]);
    let of_another_code = |evidence: &mut Evidence| {
        with_dead_child(evidence, Kind::KillChild);
        job(evidence).history[0].error = Some(PastError { code: "protocol".to_owned() });
    };
    assert_eq!(broken(of_another_code), [death]);
    // The worker of a child that died keeps its leases.
    assert_eq!(broken(|evidence| evidence.faults[0].kind = Kind::KillChild), [run]);
}

#[test]
fn a_job_that_fails_is_found() {
    let failed = |error: &str| {
        broken(|evidence| {
            job(evidence).status = "failed".to_owned();
            job(evidence).error = error.to_owned();
            evidence.seen_ended.clear();
        })
    };
    assert_eq!(failed("worker_lost"), [""; 0]);
    assert_eq!(failed("child_died"), ["a job is tried until it succeeds"]);
}

#[test]
fn a_claim_that_runs_twice_is_found() {
    let twice = broken(|evidence| evidence.runs.push(entry(Moment::Start, 3_000, 2)));
    assert_eq!(twice, ["a claim runs once"]);
}

#[test]
fn a_result_of_an_older_claim_is_found() {
    let stale = |evidence: &mut Evidence| {
        job(evidence).result = json!({ "epoch": 1000, "number": 7 });
    };
    assert_eq!(broken(stale), ["the result is of the last claim"]);
    assert_eq!(broken(|evidence| drop(evidence.runs.pop())), ["the accepted claim is the last"]);
}

#[test]
fn a_payload_or_a_result_that_lost_some_of_its_bytes_is_found() {
    let large = |evidence: &mut Evidence| {
        evidence.submissions.get_mut(&7).unwrap().order = Order::large(100_000, 70_000);
    };
    let result = |received, padding| {
        let result =
            json!({ "number": 7, "epoch": 3000, "received": received, "padding": padding });
        without_padding(&result.to_string())
    };
    let complete = "x".repeat(70_000);
    let damaged = complete.replacen('x', "y", 1);
    for (received, padding, expected) in [
        (100_000, &complete[..], vec![]),
        (99_999, &complete, vec!["the result is of the last claim"]),
        (100_000, &complete[1..], vec!["the result is of the last claim"]),
        (100_000, &damaged, vec!["the result is of the last claim"]),
    ] {
        let found = broken(|evidence| {
            large(evidence);
            job(evidence).result = result(received, padding);
        });
        assert_eq!(found, expected, "{received}");
    }
}

#[test]
fn only_jobs_of_a_task_that_a_worker_may_lack_may_be_released() {
    let released = |order, times: u64| {
        broken(|evidence| {
            evidence.submissions.get_mut(&7).unwrap().order = order;
            job(evidence).version += times;
        })
    };
    assert_eq!(released(Order::rare(), 6), [""; 0]);
    assert_eq!(released(Order::rare(), 1), ["a job ends once"]);
    assert_eq!(released(Order::default(), 3), ["a job ends once"]);
}

#[test]
fn a_canceled_job_that_succeeded_is_found() {
    let canceled = |evidence: &mut Evidence| {
        evidence.submissions.get_mut(&7).unwrap().cancel = Some(200);
    };
    assert_eq!(broken(canceled), ["what was canceled does not run on"]);
}

#[test]
fn claims_a_few_milliseconds_apart_are_distinguished() {
    // Released by a worker that was terminated, and claimed by the next at once.
    let released = |evidence: &mut Evidence| {
        let past = PastAttempt {
            started_at_ms: 990,
            finished_at_ms: 995,
            outcome: "released".to_owned(),
            error: None,
        };
        let job = job(evidence);
        job.history.insert(0, past);
        job.version += 2;
    };
    assert!(!broken(released).contains(&"every second run has a cause"));
}
