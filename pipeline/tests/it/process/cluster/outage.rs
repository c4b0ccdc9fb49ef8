//! Workers that are told to stop while nothing answers, and a cluster that rested for longer than records are kept.

use std::net::SocketAddr;
use std::process::Command;

use aws_sdk_dynamodb::types::AttributeValue;
use ingest::log::kinesis::admin::{self, Mode};
use ingest::table::Table;
use pipeline::store::Stage;
use serde_json::json;

use super::super::harness::{Client, Process, submission, until};
use super::{BINARY, Cluster, House, PARTITIONS};

/// Returns a cluster with one of each in which something is going on, and a player's token.
async fn busy() -> (Cluster, Option<String>) {
    let cluster = Cluster::start_with(1, &[], 1, &[]).await;
    let host = cluster.host_of_quiz().await;
    let (_, player) = host.join("sums", "Ana").await;
    (cluster, player.token)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_can_store_nothing_ends_all_the_same() {
    let (Cluster { doubles, graders, rankers, .. }, _) = busy().await;
    drop(doubles);
    for worker in graders.into_iter().chain(rankers) {
        worker.signal("TERM");
        let ended = worker.end().await;
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        let last = ended.stderr.lines().last().unwrap_or_default().to_owned();
        assert!(last.starts_with("podium: stopped, but "), "{last}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_a_worker_at_once() {
    let mut cluster = Cluster::start_with(1, &[], 1, &[]).await;
    cluster.retire(Stage::Grade, 0).await;
    let patient = cluster.launch_patient();
    let host = cluster.host_of_quiz().await;
    host.join("sums", "Ana").await;
    drop(cluster);
    patient.signal("TERM");
    until("its first answer", async || patient.log().contains("stopping: storing").then_some(())).await;
    patient.signal("TERM");
    let ended = patient.end().await;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.stderr.contains("podium: told twice to stop"), "{ended:?}");
}

impl Cluster {
    async fn host_of_quiz(&self) -> Client {
        let host = self.host().await;
        let question = json!({"id": "q", "kind": "numeric", "text": "1 + 1?", "key": {"value": "2"}});
        host.publish_and_open("sums", &json!({"title": "T", "pace": "free", "questions": [question]})).await;
        host
    }

    /// Starts a grader whose leases last so long that no test sees their end.
    fn launch_patient(&self) -> Process {
        let mut command = Command::new(BINARY);
        command.args(["grade", "--lease", "300s", "--pulse", "100ms", "--data"]).arg(self.data.path());
        self.spawn(&mut command)
    }

    /// Makes other streams under the same table: what was in the first is gone, as after a rest that was longer than their
    /// retention.
    async fn forget(&mut self) {
        self.prefix = "later-";
        let mode = Mode::Provisioned { shards: self.shards as u32 };
        admin::create(&self.aws, self.prefix, PARTITIONS, mode, None, &[]).await.unwrap();
        // Other streams are refused as long as the table remembers which were its own.
        let table = Table::new(&self.aws, "podium");
        let key = |name: &str| AttributeValue::S(name.into());
        let forget = table.client.delete_item().table_name("podium");
        forget.key("pk", key("cluster")).key("sk", key("identity")).send().await.unwrap();
    }

    /// Starts a worker with a page about itself.
    async fn launch_watched(&self, stage: &str, args: &[&str]) -> (Process, Client) {
        let args = [&["--admin-listen", "127.0.0.1:0"], args].concat();
        let mut worker = self.launch(stage, &args);
        let at = |line: &str| {
            let (_, rest) = line.split_once("metrics at http://")?;
            rest.strip_suffix("/metrics")?.parse::<SocketAddr>().ok()
        };
        let address = worker.line(at).await.expect("it says where");
        (worker, Client::new(address))
    }
}

/// Nobody can tell whether what is gone had been read, so a person has to say that it is well.
#[tokio::test(flavor = "multi_thread")]
async fn a_rest_longer_than_the_retention_is_told_and_ends_when_a_person_says_so() {
    let (mut cluster, token) = busy().await;
    cluster.gateways.clear();
    for (stage, workers) in [("grade", &mut cluster.graders), ("rank", &mut cluster.rankers)] {
        let worker = workers.remove(0);
        worker.signal("TERM");
        let ended = worker.end().await;
        assert!(ended.status.success(), "{stage}: {ended:?}");
    }
    cluster.forget().await;

    let (refusing, page) = cluster.launch_watched("grade", &[]).await;
    let told = until("its refusal", async || {
        let page = page.get("/readyz").await;
        let text = String::from_utf8_lossy(&page.body).into_owned();
        (page.status == 503 && text.contains("stands still")).then_some(text)
    })
    .await;
    assert!(told.contains("partition 0 of submissions"), "{told}");
    refusing.signal("TERM");
    let ended = refusing.end().await;
    assert!(ended.status.success() && ended.stderr.contains("the partition stands still"), "{ended:?}");

    let (grader, page) = cluster.launch_watched("grade", &["--skip-lost"]).await;
    let (ranker, _) = cluster.launch_watched("rank", &["--skip-lost"]).await;
    until("readiness", async || (page.get("/readyz").await.status == 200).then_some(())).await;
    cluster.graders.push(grader);
    cluster.rankers.push(ranker);
    cluster.fill().await;
    // What was there before the rest still is, and goes on.
    let player = cluster.client().holding(token);
    player.answer("sums", "q", &json!({"value": "2"}), &submission(1)).await;
    assert_eq!(player.receipt("sums", &submission(1)).await["verdict"], "counted");
}
