//! Clusters whose engines throttle, do not answer and are slow, whose workers change, and that read in another way.

use std::collections::BTreeMap;

use ingest::lease::Leases;
use ingest::lease::dynamodb::Dynamo;

use super::super::harness::submission;
use super::*;

/// A tenth of all calls goes wrong, and workers are lost besides.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_in_trouble_loses_nothing_and_counts_nothing_twice() {
    let blows = [Blow::KillGrade, Blow::PauseRank, Blow::KillRank, Blow::Reshard];
    let cluster = Cluster::start(2, &blows).await;
    cluster.doubles.disturb(33);
    play(Game { unanswered: true, ..game(14, &blows) }, cluster).await;
}

/// A worker that is added gets its share of the shards, while answers come in.
#[tokio::test(flavor = "multi_thread")]
async fn an_added_worker_takes_shards_over() {
    let mut cluster = Cluster::start(6, &[]).await;
    let host = cluster.host().await;
    let questions: Vec<_> = (1..=40)
        .map(|n| serde_json::json!({"id": format!("q{n}"), "kind": "numeric", "text": "1?", "key": {"value": "1"}}))
        .collect();
    let quiz = serde_json::json!({"title": "T", "pace": "free", "questions": questions});
    host.publish_and_open("grows", &quiz).await;
    let (participant, player) = host.holding(None).join("grows", "Ana").await;
    let leases = Dynamo::new(Table::new(&cluster.aws, "podium"), "grade");
    let shares = async |count: usize| {
        until("a share for everybody", async || {
            let listed = leases.list().await.unwrap();
            let mut held: BTreeMap<String, usize> = BTreeMap::new();
            for lease in &listed {
                *held.entry(lease.owner.clone()?).or_default() += 1;
            }
            let fair = held.len() == count && held.values().all(|shards| *shards == 6 / count);
            fair.then_some(held)
        })
        .await
    };
    let before = shares(2).await;
    cluster.graders.push(cluster.launch("grade", &[]));
    let mut question = 0;
    let mut answer = async || {
        question += 1;
        let value = serde_json::json!({"value": "1"});
        let receipt = player.answer("grows", &format!("q{question}"), &value, &submission(question)).await;
        assert_eq!(receipt["verdict"], "counted");
    };
    answer().await;
    let after = shares(3).await;
    assert!(before.keys().all(|worker| after.contains_key(worker)), "{before:?}, then {after:?}");
    answer().await;
    // One that leaves in good order leaves its shards to the others at once, long before its leases run out.
    let leaving = cluster.graders.remove(0);
    leaving.signal("TERM");
    assert!(leaving.end().await.status.success());
    shares(2).await;
    answer().await;
    let place = host.get(&format!("/v1/quizzes/grows/participants/{participant}")).await.expect(200);
    assert_eq!(place["points"], "3000", "{place}");
}

/// Stages read by enhanced fan-out as by polling.
#[tokio::test(flavor = "multi_thread")]
async fn stages_may_read_by_enhanced_fan_out() {
    let cluster = Cluster::start_with(2, &[], 2, &["--fan-out", "quick"]).await;
    let host = cluster.host().await;
    let (participant, _) = forget::play(&host).await;
    let place = host.get(&format!("/v1/quizzes/goes/participants/{participant}")).await.expect(200);
    assert_eq!(place["points"], "1000", "{place}");
}
