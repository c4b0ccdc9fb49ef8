//! Splits and merges once more on another double, whose lineage and lag are Kinesis' own: `kinesis-local`, which
//! `infra/test.sh` installs. It is slow, so this is short.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use ingest::log::Stream;
use ingest::log::kinesis::admin::{self, Mode};
use ingest::log::{Log, kinesis::Kinesis};

use super::{Double, Follower, LIMIT, options, scale};
use crate::support::{ALL, read_all, record};

const STREAM: Stream = Stream::Submissions;

/// The other double, stopped when dropped.
struct Local {
    child: Child,
    endpoint: String,
}

impl Drop for Local {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

impl Local {
    async fn start() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/node/node_modules/kinesis-local");
        assert!(folder.join("main.js").exists(), "{} is made by infra/test.sh", folder.display());
        let port = free_port();
        let mut command = Command::new("node");
        command.arg("main.js").current_dir(folder).stdout(Stdio::null()).stderr(Stdio::null());
        command.env("KINESIS_MOCK_PLAIN_PORT", port.to_string());
        command.env("KINESIS_MOCK_TLS_PORT", free_port().to_string());
        for change in ["CREATE_STREAM", "SPLIT_SHARD", "MERGE_SHARDS", "UPDATE_STREAM_MODE"] {
            command.env(format!("{change}_DURATION"), "1ms");
        }
        let child = command.spawn().expect("node is installed by infra/test.sh");
        let mut local = Self { child, endpoint: format!("http://127.0.0.1:{port}") };
        let answers = async {
            while tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
                assert!(local.child.try_wait().unwrap().is_none(), "it ended by itself");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(LIMIT, answers).await.expect("it answers in time");
        local
    }
}

async fn append(log: &Kinesis, round: usize) {
    let records = (0..64u16).map(|n| record(STREAM, n % 4, format!("{round}.{n:02}")));
    log.append(records.collect()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn splits_and_merges_on_the_other_double() {
    let local = Local::start().await;
    let double = Double::at(local.endpoint.clone()).await;
    double.create(4, 1).await;
    let log = double.open_with(options(double.prefix())).await;
    let mut follower = Follower::new(&log, STREAM);
    for (round, shards) in [2, 4, 1, 3].into_iter().enumerate() {
        append(&log, round).await;
        if round % 2 == 0 {
            follower.until((round + 1) * 64).await;
        }
        scale(&double, STREAM, shards).await;
    }
    append(&log, 4).await;
    follower.until(5 * 64).await;
    for partition in 0..4u16 {
        let rounds = (0..5).flat_map(|round| (0..16).map(move |n| (round, n * 4 + partition)));
        let sent: Vec<String> = rounds.map(|(round, n)| format!("{round}.{n:02}")).collect();
        assert_eq!(follower.texts(partition), sent);
        let walked = read_all(&log, STREAM, partition, None, ALL).await;
        assert!(walked == follower.records[&ingest::partition::PartitionId(partition)]);
    }
    let shards = log.shards(STREAM).await.unwrap();
    assert_eq!(follower.finished(), shards.iter().filter(|shard| shard.is_closed).count());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_on_demand_are_made_and_not_scaled() {
    let local = Local::start().await;
    let double = Double::at(local.endpoint.clone()).await;
    for _ in 0..2 {
        admin::create(double.aws(), double.prefix(), 8, Mode::OnDemand, None, &[]).await.unwrap();
    }
    let found = admin::describe(double.aws(), double.prefix()).await.unwrap();
    assert!(found.iter().all(|stream| stream.mode.as_deref() == Some("ON_DEMAND") && stream.partitions == 8));
    let log = double.open_with(options(double.prefix())).await;
    log.append((0..8).map(|p| record(STREAM, p, "x")).collect()).await.unwrap();
    for partition in 0..8 {
        assert_eq!(read_all(&log, STREAM, partition, None, ALL).await.len(), 1);
    }
    let refused = admin::scale(double.aws(), double.prefix(), STREAM, 2).await.unwrap_err();
    assert!(refused.to_string().contains("on demand"), "{refused}");
}
