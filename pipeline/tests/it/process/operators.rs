//! `podium streams` and `podium table` against the doubles: what they make, show and change, and how they refuse.

use std::net::Ipv4Addr;
use std::process::Command;

use aws_sdk_dynamodb::types::TimeToLiveStatus;
use ingest::aws::Aws;
use ingest::table::{Capacity, EXPIRES, Table};

use super::harness::{BINARY, Ended, Process};
use crate::doubles::Doubles;

/// Somewhere to make streams, with a prefix and a table of one's own.
pub(super) struct Account {
    pub(super) endpoint: String,
    pub(super) prefix: String,
    pub(super) table: String,
    _doubles: Option<Doubles>,
}

impl Account {
    pub(super) async fn new(name: &str) -> Self {
        let given = std::env::var("PODIUM_TEST_AWS_ENDPOINT").ok();
        let doubles = match given {
            Some(_) => None,
            None => Some(Doubles::start((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap()),
        };
        let endpoint = given.or_else(|| Some(doubles.as_ref()?.endpoint())).unwrap();
        let unique = format!("podium-{name}-{}", std::process::id());
        Self { endpoint, prefix: format!("{unique}-"), table: unique, _doubles: doubles }
    }

    /// Returns the command with AWS settings and nothing of what this machine has.
    pub(super) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(args).env("AWS_ENDPOINT_URL", &self.endpoint).env("AWS_REGION", "us-east-1");
        command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
        command.env("PODIUM_STREAM_PREFIX", &self.prefix).env("PODIUM_TABLE", &self.table);
        command
    }

    /// Runs a command that must do what it is told; returns what it printed.
    pub(super) async fn does(&self, args: &[&str]) -> String {
        let ended = Process::spawn(&mut self.command(args)).end().await;
        assert_eq!((ended.status.code(), ended.stderr.as_str()), (Some(0), ""), "{args:?}: {ended:?}");
        ended.stdout
    }

    pub(super) async fn refuses(&self, args: &[&str], words: &[&str]) {
        refused(Process::spawn(&mut self.command(args)).end().await, words);
    }
}

/// Checks for exit code 1 and one line that has these words.
#[track_caller]
pub(super) fn refused(ended: Ended, words: &[&str]) {
    assert_eq!((ended.status.code(), ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "one line: {}", ended.stderr);
    for word in words {
        assert!(ended.stderr.contains(word), "{word:?} is not in: {}", ended.stderr);
    }
}

/// Returns the lines of the open shards of each stream.
fn open(described: &str) -> Vec<Vec<&str>> {
    let mut streams: Vec<Vec<&str>> = Vec::new();
    for line in described.lines() {
        match line.strip_prefix("  ") {
            Some(shard) if shard.contains(" open, ") => streams.last_mut().unwrap().push(shard),
            Some(_) => {}
            None => streams.push(Vec::new()),
        }
    }
    streams
}

/// Returns what follows the shard's id and state.
fn partitions(shards: &[&str]) -> Vec<String> {
    let part =
        |shard: &&str| shard.split(" open, ").nth(1).unwrap().split(", from").next().unwrap().to_owned();
    let mut all: Vec<String> = shards.iter().map(part).collect();
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_made_once_however_often_it_is_asked() {
    let account = Account::new("create").await;
    let create = ["streams", "create", "--partitions", "8", "--mode", "provisioned", "--shards", "2"];
    let create = [&create[..], &["--retention", "48h", "--tag", "team=quiz"]].concat();
    let made = account.does(&create).await;
    assert_eq!(made.lines().count(), 4, "{made}");
    let described = account.does(&["streams", "describe"]).await;
    let first = format!("{}submissions: active, ", account.prefix);
    assert!(described.starts_with(&first), "{described}");
    assert!(described.contains(", 8 partitions, records kept for 48 hours"), "{described}");
    for shards in open(&described) {
        assert_eq!(partitions(&shards), ["partitions 0 to 3", "partitions 4 to 7"], "{described}");
    }
    assert_eq!(account.does(&create).await, made);
    assert_eq!(account.does(&["streams", "describe"]).await, described, "the second time changed nothing");
    account
        .refuses(&["streams", "create", "--partitions", "16"], &["has 8 partitions, not 16", "--prefix"])
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_are_split_and_merged_on_borders_of_partitions() {
    let account = Account::new("scale").await;
    account.does(&["streams", "create", "--partitions", "8", "--mode", "provisioned"]).await;
    for (shards, wanted) in [
        ("4", vec!["partitions 0 to 1", "partitions 2 to 3", "partitions 4 to 5", "partitions 6 to 7"]),
        ("4", vec!["partitions 0 to 1", "partitions 2 to 3", "partitions 4 to 5", "partitions 6 to 7"]),
        ("3", vec!["partitions 0 to 1", "partitions 2 to 4", "partitions 5 to 7"]),
        ("1", vec!["partitions 0 to 7"]),
    ] {
        let scaled = account.does(&["streams", "scale", "--stream", "submissions", "--shards", shards]).await;
        assert!(scaled.contains(&format!("submissions has {shards} open shard")), "{scaled}");
        let described = account.does(&["streams", "describe"]).await;
        let open = open(&described);
        assert_eq!(partitions(&open[0]), wanted, "{described}");
        assert_eq!(partitions(&open[1]), ["partitions 0 to 7"], "the other streams stay");
    }
    account.refuses(&["streams", "scale", "--shards", "9"], &["8 partitions", "not on 9"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_is_made_once_however_often_it_is_asked() {
    let account = Account::new("table").await;
    for _ in 0..2 {
        let made = account.does(&["table", "create", "--tag", "team=quiz"]).await;
        assert_eq!(made, format!("table {} is ready\n", account.table));
    }
    account.does(&["table", "create", "--tag", "stage=test"]).await;
    let table = Table::open(&Aws::local(&account.endpoint).await, &account.table).await.unwrap();
    let found = table.describe().await.unwrap();
    assert_eq!(Capacity::of(&found), Capacity::OnDemand);
    let tags =
        table.client.list_tags_of_resource().resource_arn(found.table_arn.unwrap()).send().await.unwrap();
    let mut tags: Vec<_> = tags.tags().iter().map(|tag| format!("{}={}", tag.key(), tag.value())).collect();
    tags.sort();
    assert_eq!(tags, ["stage=test", "team=quiz"]);
    let expiry = table.client.describe_time_to_live().table_name(&table.name).send().await.unwrap();
    let expiry = expiry.time_to_live_description.unwrap();
    assert_eq!(expiry.attribute_name.as_deref(), Some(EXPIRES));
    assert_eq!(expiry.time_to_live_status, Some(TimeToLiveStatus::Enabled));
    let other = ["table", "create", "--mode", "provisioned", "--reads", "1", "--writes", "1"];
    account.refuses(&other, &["on demand, not provisioned", "--mode"]).await;
    let other = format!("{}-2", account.table);
    let provisioned = ["table", "create", "--table", &other, "--mode", "provisioned"];
    account.refuses(&provisioned, &["--reads and --writes"]).await;
    account.does(&[&provisioned[..], &["--reads", "10", "--writes", "20"]].concat()).await;
    let again = account.does(&[&provisioned[..], &["--reads", "10", "--writes", "30"]].concat()).await;
    assert!(again.contains("is ready; it keeps its 10 read and 20 write units"), "{again}");
    account
        .refuses(&["table", "create", "--table", &other, "--mode", "on-demand"], &["provisioned, not on"])
        .await;
    let kept = account.does(&["table", "create", "--table", &other]).await;
    assert_eq!(kept, format!("table {other} is ready\n"), "as it is");
    account.refuses(&["table", "create", "--reads", "10"], &["--mode provisioned"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_done_is_said_in_one_line() {
    let account = Account::new("refused").await;
    let place = format!("in region us-east-1 at {}", account.endpoint);
    account.refuses(&["streams", "describe"], &["there is no stream", "podium streams create", &place]).await;
    account.refuses(&["streams", "scale", "--shards", "2"], &["there is no stream"]).await;
    account.refuses(&["streams", "create", "--shards", "2"], &["--mode provisioned"]).await;
    account.refuses(&["streams", "create", "--partitions", "0"], &["partitions"]).await;
    let nobody = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let nowhere = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    for args in [&["streams", "describe"], &["streams", "create"], &["table", "create"]] {
        let mut command = account.command(args);
        let ended = Process::spawn(command.env("AWS_ENDPOINT_URL", &nowhere)).end().await;
        refused(ended, &["cannot be reached", "AWS_ENDPOINT_URL"]);
        let mut command = account.command(args);
        command
            .env_remove("AWS_REGION")
            .env_remove("AWS_DEFAULT_REGION")
            .env("AWS_EC2_METADATA_DISABLED", "true");
        command.env("AWS_CONFIG_FILE", "/dev/null").env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
        refused(Process::spawn(&mut command).end().await, &["AWS_REGION"]);
        let mut command = account.command(args);
        command.env_remove("AWS_ACCESS_KEY_ID").env("AWS_EC2_METADATA_DISABLED", "true");
        command.env("AWS_CONFIG_FILE", "/dev/null").env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
        refused(Process::spawn(&mut command).end().await, &["credentials"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flags_that_mean_nothing_are_refused() {
    let account = Account::new("flags").await;
    for (args, word) in [
        (&["streams", "create", "--tag", "podium.partitions=4"][..], "are taken"),
        (&["streams", "create", "--tag", "podium:partitions=4"], "are taken"),
        (&["streams", "create", "--tag", "team"], "KEY=VALUE"),
        (&["streams", "scale", "--shards", "0"], "0"),
        (&["streams", "scale", "--shards", "2", "--stream", "answers"], "submissions, standings"),
        (&["streams", "create", "--retention", "long"], "duration"),
    ] {
        let ended = Process::spawn(&mut account.command(args)).end().await;
        assert_eq!(ended.status.code(), Some(2), "{ended:?}");
        assert!(ended.stderr.contains(word) && ended.stderr.lines().count() == 1, "{}", ended.stderr);
    }
}
