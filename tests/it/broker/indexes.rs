//! Lists of the jobs with a label, by an index and by a scan: over one partition and over four, both find the same.

use std::collections::BTreeSet;

use crunch_common::broker::{Broker, IndexId, Library, ListQuery, NewJob};
use crunch_common::job::{JobId, Status};
use crunch_common::queue::QueueName;
use crunch_common::task::TaskDescriptor;
use crunch_tests::RedisServer;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

const LABEL: (&str, &str) = ("customer", "acme");

fn job(broker: &Broker, queue: &str, is_labelled: bool) -> NewJob {
    let task = TaskDescriptor::new("order".parse().unwrap());
    let mut job = NewJob::of(&task, broker.new_id(None), "{}");
    job.queue = queue.parse().unwrap();
    if is_labelled {
        job.options.metadata.insert(LABEL.0.to_owned(), LABEL.1.to_owned()).unwrap();
        job.indexes.extend(IndexId::of(LABEL.0, LABEL.1));
    }
    job
}

async fn submit(broker: &Broker, jobs: &[NewJob]) {
    for answer in broker.enqueue(jobs).await {
        answer.unwrap();
    }
}

fn query(limit: usize) -> ListQuery {
    let mut query = ListQuery { limit, ..ListQuery::default() };
    query.metadata.insert(LABEL.0.to_owned(), LABEL.1.to_owned()).unwrap();
    query
}

/// What a list finds, how many jobs it looked at, and its cursors.
#[derive(Default)]
struct Found {
    ids: Vec<JobId>,
    looked_at: u64,
    of: Option<u64>,
    cursors: Vec<String>,
}

async fn find(broker: &Broker, mut query: ListQuery) -> Found {
    let mut found = Found::default();
    loop {
        let page = broker.list(&query).await.unwrap();
        assert!(page.items.len() <= query.limit);
        found.ids.extend(page.items.iter().map(|job| job.id));
        found.looked_at += page.looked_at;
        found.of = page.of;
        let Some(cursor) = page.next else { return found };
        let text = cursor.to_string();
        assert!(query.fits(&cursor) && !found.cursors.contains(&text), "{text}");
        query.cursor = Some(text.parse().unwrap());
        found.cursors.push(text);
    }
}

/// What a key space contains.
struct Contents {
    /// The jobs with the label, newest first.
    labelled: Vec<NewJob>,
    canceled: BTreeSet<JobId>,
    submitted: u64,
}

/// Submits jobs of three queues; some have the label, some are canceled or deleted.
async fn fill(broker: &Broker, mut random: Pcg64Mcg) -> Contents {
    let (mut labelled, mut canceled, mut submitted) = (Vec::new(), BTreeSet::new(), 0);
    for _ in 0..8 {
        let jobs: Vec<_> = (0..40)
            .map(|_| {
                job(broker, ["a", "b", "c"][random.random_range(0..3)], random.random_bool(0.4))
            })
            .collect();
        submit(broker, &jobs).await;
        for job in jobs {
            let is_labelled = !job.indexes.is_empty();
            match random.random_range(0..6) {
                0 => {
                    broker.cancel(job.id).await.unwrap();
                    broker.delete(job.id).await.unwrap();
                    continue;
                }
                1 => {
                    broker.cancel(job.id).await.unwrap();
                    canceled.insert(job.id);
                }
                _ => {}
            }
            submitted += 1;
            if is_labelled {
                labelled.push(job);
            }
        }
    }
    labelled.sort_unstable_by_key(|job| std::cmp::Reverse(job.id));
    Contents { labelled, canceled, submitted }
}

/// Compares lists with a plain list of what was submitted.
async fn compare(partitions: u16) {
    let redis = RedisServer::start().with_partitions(partitions);
    let broker = redis.broker("indexes", Library::shipped());
    let random = Pcg64Mcg::seed_from_u64(u64::from(partitions));
    let Contents { labelled, canceled, submitted } = fill(&broker, random).await;
    let index = IndexId::of(LABEL.0, LABEL.1);
    let expected = |selects: &dyn Fn(&NewJob) -> bool| -> Vec<JobId> {
        labelled.iter().filter(|job| selects(job)).map(|job| job.id).collect()
    };
    let middle = Some(labelled[labelled.len() / 2].id.created_at());
    let queue: QueueName = "b".parse().unwrap();
    for limit in [1, 3, 20, 100] {
        let all = query(limit);
        let of_canceled = ListQuery { status: Some(Status::Canceled), ..all.clone() };
        let of_queue = ListQuery { queue: Some(queue.clone()), ..all.clone() };
        let among = ListQuery { among: Some([queue.clone()].into()), ..all.clone() };
        let recent = ListQuery { created_after: middle, ..all.clone() };
        let older = ListQuery { created_before: middle, ..all.clone() };
        let cases = [
            (all, expected(&|_| true)),
            (of_canceled, expected(&|job| canceled.contains(&job.id))),
            (of_queue, expected(&|job| job.queue == queue)),
            (among, expected(&|job| job.queue == queue)),
            (recent, expected(&|job| Some(job.id.created_at()) >= middle)),
            (older, expected(&|job| Some(job.id.created_at()) < middle)),
        ];
        for (query, expected) in cases {
            let by_index = find(&broker, ListQuery { index, ..query.clone() }).await;
            assert_eq!(by_index.ids, expected, "{query:?}");
            let is_restricted = query.among.is_some();
            assert_eq!(by_index.of, (!is_restricted).then_some(labelled.len() as u64));
            assert!(by_index.looked_at >= expected.len() as u64);
            let others = labelled.iter().filter(|job| is_restricted && job.queue != queue);
            for other in others {
                let id = other.id.to_string();
                assert!(by_index.cursors.iter().all(|cursor| !cursor.contains(&id)), "{id}");
            }
            let is_whole = expected.len() == labelled.len();
            let by_scan = find(&broker, query).await;
            assert!(!is_whole || by_scan.looked_at == submitted, "{}", by_scan.looked_at);
            let (scanned, expected): (BTreeSet<_>, BTreeSet<_>) =
                (by_scan.ids.iter().collect(), expected.iter().collect());
            assert_eq!((scanned, by_scan.ids.len()), (expected.clone(), expected.len()));
        }
    }
    let audit = broker.audit(|_| ()).await.unwrap();
    assert!(audit.findings.is_empty(), "{:?}", audit.findings);
}

#[tokio::test]
async fn an_index_of_one_partition_lists_what_a_scan_finds() {
    compare(1).await;
}

#[tokio::test]
async fn an_index_of_four_partitions_lists_what_a_scan_finds() {
    compare(4).await;
}

/// A page looks at ten thousand jobs at most: a caller that may see none of them gets a cursor without an id of theirs.
#[tokio::test]
async fn a_page_stops_among_jobs_that_its_caller_may_not_see() {
    let redis = RedisServer::start().with_partitions(1);
    let broker = redis.broker("hidden", Library::shipped());
    let visible = [job(&broker, "mine", true)];
    submit(&broker, &visible).await;
    for _ in 0..24 {
        let hidden: Vec<_> = (0..500).map(|_| job(&broker, "theirs", true)).collect();
        submit(&broker, &hidden).await;
    }
    let index = IndexId::of(LABEL.0, LABEL.1);
    let mine = Some(["mine".parse().unwrap()].into());
    let found = find(&broker, ListQuery { among: mine, index, ..query(20) }).await;
    assert_eq!((found.ids, found.looked_at), (vec![visible[0].id], 1));
    let ends = |cursor: &String| cursor.rsplit_once('/').unwrap().1.parse::<u64>().is_ok();
    assert!(found.cursors.len() == 1 && found.cursors.iter().all(ends), "{:?}", found.cursors);
}
