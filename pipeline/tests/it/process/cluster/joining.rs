//! A process joins a cluster only if it belongs to it: same streams, same number of partitions, same key.

use aws_sdk_dynamodb::types::AttributeValue;

use super::*;
use crate::process::harness::Ended;

/// Returns the line with which a stage refuses to start.
#[track_caller]
fn refusal(ended: &Ended) -> &str {
    assert_eq!((ended.status.code(), ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
    let said: Vec<&str> = ended.stderr.lines().filter(|line| line.starts_with("podium: ")).collect();
    assert_eq!(said.len(), 1, "{ended:?}");
    said[0]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_with_another_key_is_refused_until_it_has_the_same() {
    let cluster = Cluster::start(1, &[]).await;
    let other = tempfile::tempdir().unwrap();
    let gateway = ["--listen", "127.0.0.1:0"];
    for _ in 0..2 {
        let ended = cluster.launch_with(other.path(), "gateway", &gateway).end().await;
        let said = refusal(&ended);
        let file = other.path().join("issuer.key");
        assert!(said.contains(file.to_str().unwrap()) && said.contains("copy issuer.key"), "{said}");
    }
    let table = Table::new(&cluster.aws, "podium");
    let keys = [("pk", "cluster"), ("sk", "identity")].map(|(k, v)| (k.into(), AttributeValue::S(v.into())));
    let item = table.client.get_item().table_name("podium").set_key(Some(keys.into())).send().await.unwrap();
    let key = std::fs::read_to_string(cluster.data.path().join("issuer.key")).unwrap();
    assert!(!format!("{item:?}").contains(key.trim()), "the key itself is nowhere");

    std::fs::copy(cluster.data.path().join("issuer.key"), other.path().join("issuer.key")).unwrap();
    let args = [&gateway[..], &["--admin-listen", "127.0.0.1:0"]].concat();
    let mut joined = cluster.launch_with(other.path(), "gateway", &args);
    let announced = |line: &str| {
        let (public, admin) =
            line.strip_prefix("Podium's gateway is up at http://")?.split_once("/, metrics at http://")?;
        Some((public.parse().ok()?, admin.strip_suffix("/metrics")?.parse().ok()?))
    };
    let Some((public, admin)) = joined.line(announced).await else { panic!("{:?}", joined.end().await) };
    let (public, admin) = (Client::new(public), Client::new(admin));
    let host = cluster.host().await;
    let question = serde_json::json!({"id": "q", "kind": "numeric", "text": "1 + 1?", "key": {"value": "2"}});
    let quiz = serde_json::json!({"title": "T", "pace": "free", "questions": [question]});
    public.holding(host.token).put("/v1/quizzes/sums", &quiz).await.expect(201);

    // Its metrics have an address of their own.
    assert_eq!(
        (public.get("/metrics").await.status, public.get("/readyz").await.status),
        (404.try_into().unwrap(), 200.try_into().unwrap())
    );
    let metrics = admin.get("/metrics").await;
    let text = String::from_utf8_lossy(&metrics.body).into_owned();
    assert!(metrics.status == 200 && text.contains("podium_gateway_requests_total"), "{text}");
    assert_eq!(
        (admin.get("/readyz").await.status, admin.get("/v1/quizzes").await.status),
        (200.try_into().unwrap(), 404.try_into().unwrap())
    );
    assert_eq!(
        cluster.client().get("/metrics").await.status,
        200,
        "without the flag they are where they were"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_stays_with_its_streams() {
    let doubles = Doubles::start((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    let aws = Aws::local(&doubles.endpoint()).await;
    let mode = Mode::Provisioned { shards: 1 };
    let create = async |prefix: &str, partitions| {
        admin::create(&aws, prefix, partitions, mode, None, &[]).await.unwrap();
    };
    create("podium-", 4).await;
    create("other-", 4).await;
    let table = Table::create(&aws, "podium", Capacity::OnDemand, &[]).await.unwrap();
    let data = tempfile::tempdir().unwrap();
    let cluster = Cluster {
        doubles,
        aws: aws.clone(),
        data,
        gateways: Vec::new(),
        graders: Vec::new(),
        rankers: Vec::new(),
        blows: Vec::new(),
        shards: 1,
        grading: Vec::new(),
        each: 1,
        prefix: "podium-",
    };
    let ends = async |stage: &str, args: &[&str]| {
        let gateway = if stage == "gateway" { &["--listen", "127.0.0.1:0"][..] } else { &[] };
        cluster.launch(stage, &[gateway, args].concat()).end().await
    };
    let said = ends("grade", &["--partitions", "5"]).await;
    assert!(refusal(&said).contains("has 4 partitions, not 5"), "{said:?}");
    let mut first = cluster.launch("rank", &["--partitions", "4"]);
    let up = first.line(|line| line.contains("rank stage is up").then_some(())).await;
    assert!(up.is_some(), "{:?}", first.end().await);
    for stage in ["grade", "rank", "gateway"] {
        let said = ends(stage, &["--prefix", "other-"]).await;
        let said = refusal(&said);
        assert!(said.contains("other-submissions") && said.contains("say --prefix podium-,"), "{said}");
    }

    // Streams that are deleted and made again are others, of the same name.
    drop(first);
    let keys = [("pk", "cluster"), ("sk", "identity")].map(|(k, v)| (k.into(), AttributeValue::S(v.into())));
    let update = table.client.update_item().table_name("podium").set_key(Some(keys.clone().into()));
    let update = update.update_expression("SET streams.results.made = :earlier");
    let earlier = AttributeValue::N("1700000000000".into());
    update.expression_attribute_values(":earlier", earlier).send().await.unwrap();
    let said = ends("grade", &[]).await;
    let said = refusal(&said);
    assert!(said.contains("podium-results that was made on") && said.contains("table create"), "{said}");

    // Whoever says that they belong together all the same takes the item away.
    table.client.delete_item().table_name("podium").set_key(Some(keys.into())).send().await.unwrap();
    let mut again = cluster.launch("grade", &[]);
    let up = again.line(|line| line.contains("grade stage is up").then_some(())).await;
    assert!(up.is_some(), "{:?}", again.end().await);
}
