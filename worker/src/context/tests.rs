//! What is reported, confirmed, and dropped.

use crunch_common::job::Partition;

use super::*;

fn job() -> (JobContext, LeaseKey) {
    let id = JobId::generate(Partition::default());
    let lease = LeaseKey { id, epoch: Epoch::new(1) };
    let details = JobDetails {
        id,
        epoch: lease.epoch,
        task: "task".parse().unwrap(),
        group: None,
        attempt: 1,
        max_attempts: 1,
        metadata: Metadata::default(),
        content_type: ContentType::json(),
        trace: None,
        deadline: AtomicU64::new(0),
    };
    let cancellation = CancellationToken::new();
    let unconfirmed = Arc::default();
    let job = Arc::new(details);
    (JobContext { job, cancellation, unconfirmed, observer: None, stop: None, slot: None }, lease)
}

#[test]
fn what_is_not_confirmed_is_reported_again() {
    let (job, lease) = job();
    assert!(job.unconfirmed(lease).is_none());
    job.log("one\n\nthree");
    job.progress(0.5, "half");
    let first = job.unconfirmed(lease).unwrap();
    assert_eq!(
        (first.first_line, &first.log[..]),
        (1, &["one", "", "three"].map(String::from)[..])
    );
    job.log("four");
    job.progress(0.6, "more");
    job.note(&first, Reported::Full);
    assert_eq!(job.unconfirmed(lease).unwrap().log.len(), 4);
    job.note(&first, Reported::Confirmed);
    let rest = job.unconfirmed(lease).unwrap();
    assert_eq!((rest.first_line, &rest.log[..]), (4, &["four".to_owned()][..]));
    assert_eq!(rest.progress.as_ref().map(|(number, _)| *number), Some(2));
    job.note(&rest, Reported::Confirmed);
    assert!(job.unconfirmed(lease).is_none());
}

#[test]
fn a_handler_that_writes_too_fast_loses_the_oldest_lines_and_keeps_their_numbers() {
    let (job, lease) = job();
    (0..MAX_WAITING_LINES + 7).for_each(|line| job.log(line.to_string()));
    let report = job.unconfirmed(lease).unwrap();
    assert_eq!((report.first_line, report.log.len()), (8, MAX_WAITING_LINES));
    (0..100).for_each(|_| job.log("x".repeat(1000)));
    let later = job.unconfirmed(lease).unwrap();
    assert!(later.log.iter().map(String::len).sum::<usize>() <= MAX_WAITING_BYTES);
    // Lines that are confirmed late were dropped meanwhile.
    job.note(&report, Reported::Confirmed);
    assert_eq!(job.unconfirmed(lease).unwrap().first_line, later.first_line);
}

#[test]
fn reports_of_a_lost_lease_are_forgotten() {
    let (job, lease) = job();
    job.log("one");
    let report = job.unconfirmed(lease).unwrap();
    job.note(&report, Reported::Stale);
    assert!(job.unconfirmed(lease).is_none());
}
