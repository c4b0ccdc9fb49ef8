//! Making, describing and scaling streams, and what is said when they cannot be used.

use std::time::Duration;

use ferrokinesis::store::StoreOptions;
use ingest::log::Stream;
use ingest::log::kinesis::admin::{self, Mode, OpenError, PARTITIONS_TAG, stream_name};
use ingest::log::kinesis::{Kinesis, Options};

use super::double::at_once;
use super::{Double, options, scale};
use crate::faults::{Chances, Fault};

async fn refused(double: &Double, options: Options) -> OpenError {
    Kinesis::open(double.aws(), options).await.err().expect("these streams cannot be used")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn making_streams_again_changes_nothing_but_retention_and_tags() {
    let double = Double::start(at_once()).await;
    let mode = Mode::Provisioned { shards: 2 };
    let tag = |value: &str| [("team".to_owned(), value.to_owned())];
    let double = &double;
    let create = |hours, tags: [(String, String); 1]| async move {
        let retention = Some(Duration::from_hours(hours));
        admin::create(double.aws(), double.prefix(), 8, mode, retention, &tags).await.unwrap();
        admin::describe(double.aws(), double.prefix()).await.unwrap()
    };
    let first = create(24, tag("a")).await;
    assert_eq!(first.len(), 4);
    for (found, stream) in first.iter().zip(Stream::ALL) {
        assert_eq!((found.stream, found.partitions, found.status.as_str()), (stream, 8, "ACTIVE"));
        assert_eq!(found.retention, Duration::from_hours(24));
        assert_eq!((&found.tags["team"], &found.tags[PARTITIONS_TAG]), (&"a".to_owned(), &"8".to_owned()));
        let partitions: Vec<Vec<u16>> =
            found.shards.iter().map(|shard| shard.partitions.iter().map(|p| p.0).collect()).collect();
        assert_eq!(partitions, [[0, 1, 2, 3], [4, 5, 6, 7]]);
    }
    assert_eq!(create(24, tag("a")).await, first);
    let second = create(48, tag("b")).await;
    assert!(
        second.iter().all(|found| found.retention == Duration::from_hours(48) && found.tags["team"] == "b")
    );
    assert_eq!(second[0].shards, first[0].shards);
    assert_eq!(create(24, tag("b")).await[3].retention, Duration::from_hours(24));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_cannot_be_used_are_told_apart_in_one_line() {
    let double = Double::start(at_once()).await;
    let missing = refused(&double, options(double.prefix())).await;
    let name = stream_name(double.prefix(), Stream::Submissions);
    assert_eq!(missing, OpenError::Missing { name, place: double.aws().place() });
    let said = missing.to_string();
    assert!(
        said.contains("`podium streams create`") && said.contains("region us-east-1 at http://"),
        "{said}"
    );

    double.create(4, 1).await;
    let wanted = Options { partitions: Some(32), ..options(double.prefix()) };
    let other = refused(&double, wanted).await;
    assert!(matches!(other, OpenError::Partitions { found: 4, wanted: 32, .. }), "{other}");
    let mode = Mode::Provisioned { shards: 1 };
    let again = admin::create(double.aws(), double.prefix(), 8, mode, None, &[]).await;
    assert!(matches!(again, Err(OpenError::Partitions { found: 4, wanted: 8, .. })), "{again:?}");
    let right = Options { partitions: Some(4), ..options(double.prefix()) };
    assert!(Kinesis::open(double.aws(), right).await.is_ok());

    let name = stream_name(double.prefix(), Stream::Results);
    let client = double.client();
    let set = async |value: &str| {
        client.add_tags_to_stream().stream_name(&name).tags(PARTITIONS_TAG, value).send().await.unwrap();
    };
    for bad in ["", "0", "many", "70000", "1025"] {
        set(bad).await;
        let foreign = refused(&double, options(double.prefix())).await;
        assert!(matches!(foreign, OpenError::Foreign { .. }), "{bad:?}: {foreign}");
    }
    set("5").await;
    let mixed = refused(&double, options(double.prefix())).await;
    assert!(matches!(mixed, OpenError::Partitions { found: 5, wanted: 4, .. }), "{mixed}");
    client.remove_tags_from_stream().stream_name(&name).tag_keys(PARTITIONS_TAG).send().await.unwrap();
    let foreign = refused(&double, options(double.prefix())).await;
    assert!(foreign.to_string().contains("not one of Podium's"), "{foreign}");
}

/// Two people set the same cluster up at once, and want different numbers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_comes_first_decides_how_many_partitions_there_are() {
    let slow = StoreOptions { create_stream_ms: 400, ..at_once() };
    let double = Double::start(slow).await;
    let mode = Mode::Provisioned { shards: 1 };
    let create = |partitions| admin::create(double.aws(), double.prefix(), partitions, mode, None, &[]);
    let (first, second) = tokio::join!(create(4), create(8));
    let (refused, kept) = match (first, second) {
        (Ok(_), Err(refused)) => (refused, 4),
        (Err(refused), Ok(_)) => (refused, 8),
        both => panic!("{both:?}"),
    };
    assert!(matches!(refused, OpenError::Partitions { found, .. } if found == kept), "{refused}");
    let found = admin::describe(double.aws(), double.prefix()).await.unwrap();
    assert!(found.iter().all(|stream| stream.partitions == kept), "{found:?}");
    let (first, second) = tokio::join!(create(kept), create(kept));
    assert_eq!(first.unwrap(), second.unwrap());
}

/// A table holds what is true of streams: it has to tell one from another of the same name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_made_again_is_another() {
    let double = Double::with_streams(4, 1).await;
    let origins = async || double.open().await.origins().clone();
    let first = origins().await;
    assert_eq!(first, origins().await, "it stays the same one");
    let name = stream_name(double.prefix(), Stream::Results);
    assert_eq!(first[&Stream::Results].name, name);
    let made_again = async {
        // The double dates its streams in whole seconds.
        loop {
            double.client().delete_stream().stream_name(&name).send().await.unwrap();
            double.create(4, 1).await;
            let now = origins().await;
            if now != first {
                return now;
            }
        }
    };
    let second = tokio::time::timeout(super::LIMIT, made_again).await.unwrap();
    for stream in Stream::ALL {
        let is_same = first[&stream] == second[&stream];
        assert_eq!(is_same, stream != Stream::Results, "{:?} and {:?}", first[&stream], second[&stream]);
    }
}

/// One that another is making is waited for, and keeps the number that its maker said.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_in_the_making_keeps_its_tag() {
    let slow = StoreOptions { create_stream_ms: 400, ..at_once() };
    let double = Double::start(slow).await;
    let client = double.client();
    for stream in Stream::ALL {
        let name = stream_name(double.prefix(), stream);
        client.create_stream().stream_name(&name).shard_count(1).send().await.unwrap();
        client.add_tags_to_stream().stream_name(&name).tags(PARTITIONS_TAG, "4").send().await.unwrap();
    }
    let create = |partitions| admin::create(double.aws(), double.prefix(), partitions, None, None, &[]);
    let refused = create(8).await;
    assert!(matches!(refused, Err(OpenError::Partitions { found: 4, wanted: 8, .. })), "{refused:?}");
    create(4).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_mode_and_a_taken_tag_are_refused() {
    let double = Double::with_streams(4, 2).await;
    let create = async |mode: Option<Mode>, tags: &[(String, String)]| {
        admin::create(double.aws(), double.prefix(), 4, mode, None, tags).await
    };
    let said = create(Some(Mode::OnDemand), &[]).await.unwrap_err().to_string();
    assert!(said.contains("provisioned, not on demand") && said.contains("--mode"), "{said}");
    let ready = create(Some(Mode::Provisioned { shards: 3 }), &[]).await.unwrap();
    assert!(ready.iter().all(|ready| ready.shards == Some(2)), "it tells what there is: {ready:?}");
    assert_eq!(create(None, &[]).await.unwrap(), ready);
    let tag = (PARTITIONS_TAG.to_owned(), "9".to_owned());
    let said = create(None, &[tag]).await.unwrap_err().to_string();
    assert!(said.contains("is taken"), "{said}");
    let found = admin::describe(double.aws(), double.prefix()).await.unwrap();
    assert!(found.iter().all(|stream| stream.partitions == 4), "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_credentials_and_a_silent_endpoint_say_what_to_check() {
    let double = Double::with_streams(2, 1).await;
    double.faults.next("DescribeStreamSummary", [Fault::Refuse(400, "UnrecognizedClientException"); 3]);
    let said = refused(&double, options(double.prefix())).await.to_string();
    assert!(said.contains("credentials") && said.contains("region") && !said.contains('\n'), "{said}");
    assert!(said.ends_with("(a fault of the test)"), "the first line of what Kinesis says: {said}");
    double.faults.stop();
    double.faults.chances("*", Chances { lose_request: 1_000, ..Chances::default() });
    let said = refused(&double, options(double.prefix())).await.to_string();
    assert!(said.contains("cannot be reached") && !said.contains('\n'), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scaling_keeps_partitions_whole_whatever_the_numbers() {
    let double = Double::with_streams(7, 3).await;
    for shards in [7, 2, 5, 1, 3] {
        let found = scale(&double, Stream::Standings, shards).await;
        let open: Vec<_> = found.iter().filter(|shard| !shard.is_closed).collect();
        assert_eq!(open.len(), shards as usize);
        let carried: usize = open.iter().map(|shard| shard.partitions.len()).sum();
        assert_eq!(carried, 7, "each partition is on one shard");
        let sizes = open.iter().map(|shard| shard.partitions.len());
        assert!(sizes.clone().max().unwrap() - sizes.min().unwrap() <= 1, "and they are spread evenly");
        for shard in &found {
            assert!(shard.parents.iter().all(|parent| found.iter().any(|other| &other.id == parent)));
        }
        assert_eq!(scale(&double, Stream::Standings, shards).await, found, "again changes nothing");
    }
    for bad in [0, 8] {
        let refused = admin::scale(double.aws(), double.prefix(), Stream::Standings, bad).await;
        assert!(matches!(refused, Err(OpenError::Invalid(_))), "{refused:?}");
    }
}
