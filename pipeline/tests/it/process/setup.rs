//! What a data engineer gets wrong when setting a cluster up: told in one line, before anything is done.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use ingest::aws::Aws;
use ingest::table::Table;
use tokio::net::TcpListener;

use super::harness::{Process, podium};
use super::operators::{Account, refused};

/// What AWS says of a wrong secret key: the request as it should have been signed, line by line.
const WRONG_SIGNATURE: &str = "The request signature we calculated does not match the signature you provided. Check your AWS \
    Secret Access Key and signing method.\n\nThe Canonical String for this request should have been\n'POST\n/\n\n'\n";

/// Keys that are refused, with what AWS answers and what is to be said.
const KEYS: [(&str, &str, &str, &str); 3] = [
    (
        "UNKNOWN",
        "UnrecognizedClientException",
        "The security token included in the request is invalid.",
        "check the keys",
    ),
    ("MISTYPED", "InvalidSignatureException", WRONG_SIGNATURE, "check the keys"),
    (
        "UNENTITLED",
        "AccessDeniedException",
        "User: arn:aws:iam::1:user/a is not authorized to perform this",
        "the role lacks this permission",
    ),
];

/// Answers as AWS does to keys that it refuses, for as long as the test runs.
async fn refusing() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(|request| std::future::ready(Ok::<_, Infallible>(refusal(&request))));
            tokio::spawn(async move {
                let server = Builder::new(TokioExecutor::new());
                server.serve_connection(TokioIo::new(stream), service).await.ok();
            });
        }
    });
    address
}

fn refusal(request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let signed = request.headers()["authorization"].to_str().unwrap();
    let known = KEYS.iter().find(|(key, ..)| signed.contains(&format!("Credential={key}/"))).unwrap();
    let body =
        serde_json::json!({"__type": format!("com.amazon.coral.service#{}", known.1), "message": known.2});
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response
}

/// Returns a stage that is to run against an account.
fn stage(account: &Account, data: &Path, args: &[&str]) -> Command {
    let mut command = account.command(args);
    command.args(["--log", "warn", "--data"]).arg(data);
    if args[0] == "gateway" {
        command.args(["--listen", "127.0.0.1:0"]);
    }
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_keys_are_told_in_one_line_by_every_command() {
    let mut account = Account::new("keys").await;
    account.endpoint = format!("http://{}", refusing().await);
    let data = tempfile::tempdir().unwrap();
    for (key, code, _, advice) in KEYS {
        for args in [&["streams", "create"][..], &["streams", "describe"], &["table", "create"]] {
            let mut command = account.command(args);
            refused(Process::spawn(command.env("AWS_ACCESS_KEY_ID", key)).end().await, &[code, advice]);
        }
        for one in ["grade", "rank", "gateway"] {
            let mut command = stage(&account, data.path(), &[one]);
            refused(Process::spawn(command.env("AWS_ACCESS_KEY_ID", key)).end().await, &[code, advice]);
        }
    }
}

/// A profile whose keys another program tells works as everywhere; one that cannot work says what does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn profiles_are_read_as_by_other_programs() {
    let account = Account::new("profiles").await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config");
    let keys = r#"{"Version":1,"AccessKeyId":"a","SecretAccessKey":"b"}"#;
    let text = format!(
        "[profile told]\ncredential_process = echo '{keys}'\n\
         [profile sso]\nsso_session = s\nsso_account_id = 123456789012\nsso_role_name = r\n\
         [sso-session s]\nsso_region = us-east-1\nsso_start_url = https://example.com/start\n\
         [profile login]\nlogin_session = arn:aws:iam::123456789012:user/a\n"
    );
    std::fs::write(&file, text).unwrap();
    for (profile, words) in [
        ("told", &["there is no stream"][..]),
        ("sso", &["no credentials", "aws sso login"]),
        ("login", &["no credentials", "credential_process"]),
    ] {
        let mut command = account.command(&["streams", "describe"]);
        command.env("AWS_CONFIG_FILE", &file).env("AWS_PROFILE", profile).env("HOME", dir.path());
        command.env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null").env("AWS_EC2_METADATA_DISABLED", "true");
        command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
        refused(Process::spawn(&mut command).end().await, words);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_in_this_region_is_missed_there() {
    let account = Account::new("region").await;
    let data = tempfile::tempdir().unwrap();
    let place = format!("in region eu-north-1 at {}", account.endpoint);
    let missed = async |what: &str| {
        for one in ["grade", "rank", "gateway"] {
            let mut command = stage(&account, data.path(), &[one]);
            let ended = Process::spawn(command.env("AWS_REGION", "eu-north-1")).end().await;
            refused(ended, &[what, &place, "AWS_REGION"]);
        }
    };
    missed(&format!("there is no stream {}submissions", account.prefix)).await;
    let mut command = account.command(&["streams", "create", "--partitions", "4", "--mode", "provisioned"]);
    let made = Process::spawn(command.env("AWS_REGION", "eu-north-1")).end().await;
    assert!(made.status.success(), "{made:?}");
    missed(&format!("there is no table {}", account.table)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_of_somebody_else_is_left_alone() {
    let account = Account::new("foreign").await;
    let data = tempfile::tempdir().unwrap();
    account.does(&["streams", "create", "--partitions", "4", "--mode", "provisioned"]).await;
    let table = Table::new(&Aws::local(&account.endpoint).await, &account.table);
    let key = KeySchemaElement::builder().attribute_name("id").key_type(KeyType::Hash).build().unwrap();
    let id = AttributeDefinition::builder().attribute_name("id").attribute_type(ScalarAttributeType::S);
    let call = table.client.create_table().table_name(&table.name).billing_mode(BillingMode::PayPerRequest);
    call.key_schema(key).attribute_definitions(id.build().unwrap()).send().await.unwrap();
    let words = ["is not one of Podium's", "partition key is not the text `pk`", "--table"];
    account.refuses(&["table", "create"], &words).await;
    for one in ["grade", "rank", "gateway"] {
        refused(Process::spawn(&mut stage(&account, data.path(), &[one])).end().await, &words);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_settings_file_says_which_streams_and_which_table() {
    let account = Account::new("file").await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("podium.toml");
    let (prefix, table) = (format!("{}file-", account.prefix), format!("{}-file", account.table));
    let text = format!("[cluster]\nprefix = \"{prefix}\"\ntable = \"{table}\"\npartitions = 4\n");
    std::fs::write(&file, text).unwrap();
    let run = async |args: &[&str]| {
        let mut command = account.command(args);
        command.arg("--config").arg(&file).env_remove("PODIUM_STREAM_PREFIX").env_remove("PODIUM_TABLE");
        let ended = Process::spawn(&mut command).end().await;
        assert_eq!((ended.status.code(), ended.stderr.as_str()), (Some(0), ""), "{args:?}: {ended:?}");
        ended.stdout
    };
    let made = run(&["streams", "create", "--mode", "provisioned"]).await;
    assert!(made.starts_with(&format!("stream {prefix}submissions is ready\n")), "{made}");
    let described = run(&["streams", "describe"]).await;
    assert!(described.contains(", 4 partitions, "), "{described}");
    let scaled = run(&["streams", "scale", "--shards", "2"]).await;
    assert!(scaled.starts_with(&format!("stream {prefix}submissions has 2 open shards\n")), "{scaled}");
    assert_eq!(run(&["table", "create"]).await, format!("table {table} is ready\n"));
    // A stage finds what the commands made.
    let mut command = account.command(&["grade", "--config"]);
    command.arg(&file).env_remove("PODIUM_STREAM_PREFIX").env_remove("PODIUM_TABLE");
    let mut grade = Process::spawn(&mut command);
    let up = grade.line(|line| line.contains("grade stage is up").then_some(())).await;
    assert!(up.is_some(), "{:?}", grade.end().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_are_there_keep_their_mode_and_shards() {
    let account = Account::new("keep").await;
    let create = ["streams", "create", "--partitions", "4"];
    account.does(&[&create[..], &["--mode", "provisioned", "--shards", "2"]].concat()).await;
    let other = [&create[..], &["--mode", "on-demand"]].concat();
    account.refuses(&other, &["provisioned, not on demand", "--mode"]).await;
    let more = account.does(&[&create[..], &["--mode", "provisioned", "--shards", "3"]].concat()).await;
    for line in more.lines() {
        assert!(
            line.ends_with(
                " is ready; it keeps its 2 shards: `podium streams scale --shards 3` changes that"
            )
        );
    }
    let kept = account.does(&create).await;
    assert!(kept.lines().count() == 4 && kept.lines().all(|line| line.ends_with(" is ready")), "{kept}");
}

/// Settings with which every answer would be refused are refused instead, all of them at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_that_do_not_go_together_are_refused() {
    let account = Account::new("times").await;
    for (args, words, lines) in [
        (&["gateway", "--poll", "5s"][..], &["views would be up to 11.45s old", "view_age_max"][..], 1),
        (&["rank", "--checkpoint", "60s"], &["views would be up to 61.45s old"], 1),
        (&["gateway", "--pulse", "1s"], &["views would be up to 4.2s old"], 1),
        (&["grade", "--poll", "5s", "--lease", "1ms"], &["views would be", "lease: must be"], 2),
    ] {
        let ended = Process::spawn(&mut account.command(args)).end().await;
        assert_eq!((ended.status.code(), ended.stderr.lines().count()), (Some(1), lines), "{ended:?}");
        for word in words {
            assert!(ended.stderr.contains(word), "{word:?} is not in: {}", ended.stderr);
        }
    }
    // Where no endpoint is named it is AWS, with its quota.
    let mut command = account.command(&["grade", "--poll", "100ms"]);
    let ended = Process::spawn(command.env_remove("AWS_ENDPOINT_URL")).end().await;
    refused(ended, &["poll: must be at least 200ms", "five reads a second"]);
}

#[tokio::test]
async fn check_prints_what_is_in_force_for_a_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("podium.toml");
    let check = async |text: &str, args: &[&str]| {
        std::fs::write(&file, text).unwrap();
        podium(&[&["check", "--config", file.to_str().unwrap()], args].concat()).await
    };
    let ended =
        check("grace = \"3s\"\n[cluster]\ntable = \"t\"\ngrace = \"4900ms\"", &["--poll", "300ms"]).await;
    let (one, cluster) = ended.stdout.split_once("\n[cluster]\n").unwrap();
    assert!(one.contains("grace = \"3000ms\"") && one.contains("partitions = 4"), "{one}");
    for line in [
        "table = \"t\"",
        "prefix = \"podium-\"",
        "grace = \"4900ms\"",
        "poll = \"300ms\"",
        "lease = \"10000ms\"",
    ] {
        assert!(cluster.lines().any(|found| found == line), "{line} is not in:\n{cluster}");
    }
    let again = check(&ended.stdout, &[]).await;
    assert_eq!((again.status.code(), &again.stdout), (Some(0), &ended.stdout), "{again:?}");
    let wrong = check("[cluster]\npoll = \"4s\"", &[]).await;
    refused(wrong, &["[cluster] poll", "view_age_max"]);
    // Who sets nothing of a cluster need not care for one.
    let alone = check("grace = \"3500ms\"", &[]).await;
    assert!(alone.status.success() && alone.stdout.contains("# a cluster needs times"), "{alone:?}");
}

#[tokio::test]
async fn help_tells_the_defaults_of_a_cluster_as_well() {
    for one in ["gateway", "grade", "rank"] {
        let help = podium(&[one, "--help"]).await;
        for words in ["[default: 2s; in a cluster 5s]", "500ms; in a cluster 1s", "1s; in a cluster 3500ms"] {
            assert!(help.stdout.contains(words), "{words} is not in:\n{}", help.stdout);
        }
    }
}
