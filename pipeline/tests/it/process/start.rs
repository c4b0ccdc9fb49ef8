//! Starting when something is wrong: one clear message that names it, exit code not 0, nothing harmed.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::harness::{BINARY, Ended, PATIENCE, Podium, Process, podium};

/// Checks that a start was refused with one line that contains all of `names`.
#[track_caller]
fn refused(ended: &Ended, names: &[&str]) {
    refused_in(ended, names, 1);
}

/// Checks that a start was refused with a line for each thing that is wrong.
#[track_caller]
fn refused_in(ended: &Ended, names: &[&str], lines: usize) {
    assert!(ended.status.code().is_some_and(|code| code != 0), "{ended:?}");
    assert_eq!(ended.stdout, "", "{ended:?}");
    for name in names {
        assert!(ended.stderr.contains(name), "{name} is not named in:\n{}", ended.stderr);
    }
    let said: Vec<&str> = ended.stderr.lines().collect();
    assert!(said.len() == lines && said[0].starts_with("podium: "), "{lines} lines, not:\n{}", ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    assert!(!ended.stderr.contains('\u{1b}'), "no colours where nobody sees them:\n{}", ended.stderr);
}

async fn up(data: &Path, args: &[&str]) -> Ended {
    Podium::launch(data, args).end().await
}

#[tokio::test]
async fn a_busy_port_is_named_on_one_line() {
    let data = tempfile::tempdir().unwrap();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    let ended = podium(&["--listen", &address, "--data", data.path().to_str().unwrap()]).await;
    refused(&ended, &[&address, "--listen"]);
}

#[tokio::test]
async fn a_second_process_on_a_directory_is_turned_away_and_the_first_goes_on() {
    let data = tempfile::tempdir().unwrap();
    let first = Podium::start(data.path()).await;
    let ended = up(data.path(), &[]).await;
    refused(&ended, &[data.path().to_str().unwrap(), "in use", "--data"]);
    let host = first.host().await;
    let quiz = serde_json::json!({"title": "T", "questions": [
        {"id": "q", "kind": "numeric", "text": "1 + 1?", "key": {"value": "2"}}]});
    host.put("/v1/quizzes/t", &quiz).await.expect(201);
}

#[tokio::test]
async fn another_number_of_partitions_is_refused_with_the_right_one() {
    let data = tempfile::tempdir().unwrap();
    Podium::start_with(data.path(), &["--partitions", "3"]).await.kill();
    let ended = up(data.path(), &["--partitions", "5"]).await;
    refused(&ended, &[data.path().to_str().unwrap(), "3 partitions", "not 5"]);
    Podium::start_with(data.path(), &["--partitions", "3"]).await;
}

#[tokio::test]
async fn wrong_flags_are_named() {
    let data = tempfile::tempdir().unwrap();
    for (args, names) in [
        (&["--nonsense"][..], &["--nonsense"][..]),
        (&["serve"], &["serve"]),
        (&["--listn", "127.0.0.1:0"], &["--listn", "'--listen'"]),
        (&["--grace", "soon"], &["--grace", "soon", "500ms"]),
        (&["--grace=-1s"], &["--grace", "-1s"]),
        (&["--partitions", "many"], &["--partitions", "many"]),
        (&["--partitions", "0"], &["partitions", "not 0"]),
        (&["--listen", "0.0.0.0:0"], &["listen", "0.0.0.0:0", "loopback"]),
        (&["--listen", "localhost"], &["--listen", "localhost"]),
        (&["--log", "a=b=c"], &["log"]),
        (&["--grace", "1s", "--margin", "500ms", "--view-age-max", "1s"], &["grace"]),
    ] {
        let ended = podium(&[&["--data", data.path().to_str().unwrap()], args].concat()).await;
        refused(&ended, names);
    }
    assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 0, "a refused start leaves nothing behind");
}

#[tokio::test]
async fn unknown_and_wrong_variables_are_named() {
    for (name, value, says) in [
        ("PODIUM_LISTN", "127.0.0.1:0", "PODIUM_LISTN"),
        ("PODIUM_GRACE", "soon", "soon"),
        ("PODIUM_CONFIG", "/no/such/file", "/no/such/file"),
    ] {
        let mut command = Command::new(BINARY);
        let data = tempfile::tempdir().unwrap();
        command.args(["--listen", "127.0.0.1:0", "--data"]).arg(data.path()).env(name, value);
        refused(&Process::spawn(&mut command).end().await, &[says]);
    }
}

#[tokio::test]
async fn unknown_and_wrong_keys_of_the_settings_file_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("podium.toml");
    let path = file.to_str().unwrap();
    for (text, names) in [
        ("listn = \"127.0.0.1:0\"", &["listn", "listen"][..]),
        ("grace = \"soon\"", &["grace", "soon"]),
        ("grace = 2", &["grace"]),
        ("partitions = 70000", &["partitions"]),
        ("listen = ", &["listen"]),
        (
            "listen = \"0.0.0.0:1\"\npartitions = 0\nlive_interval = \"1ms\"",
            &["loopback", "partitions", "live_interval"],
        ),
    ] {
        std::fs::write(&file, text).unwrap();
        let ended = podium(&["--config", path, "--data", dir.path().join("data").to_str().unwrap()]).await;
        // The last one has a problem in each of its lines.
        refused_in(&ended, names, text.lines().count());
    }
    let missing = dir.path().join("missing.toml");
    refused(&podium(&["--config", missing.to_str().unwrap()]).await, &[missing.to_str().unwrap()]);
}

#[tokio::test]
async fn what_check_prints_loads_again_and_prints_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("the \"data\"");
    let data = data.to_str().unwrap();
    let args = ["check", "--listen", "127.0.0.1:0", "--data", data, "--grace", "3500ms", "--partitions", "7"];
    let first = podium(&args).await;
    assert!(first.status.success(), "{first:?}");
    assert!(first.stdout.contains("partitions = 7"), "{}", first.stdout);
    let file = dir.path().join("podium.toml");
    std::fs::write(&file, &first.stdout).unwrap();
    let second = podium(&["check", "--config", file.to_str().unwrap()]).await;
    assert_eq!((second.status.code(), &second.stdout), (Some(0), &first.stdout), "{second:?}");
    let key = dir.path().join("the \"data\"/issuer.key");
    assert!(!key.exists(), "check makes nothing");

    let mut process = Process::spawn(Command::new(BINARY).args(["--config", file.to_str().unwrap()]));
    let up = tokio::time::timeout(PATIENCE, process.line(|line| line.strip_prefix("Podium is up").map(drop)))
        .await;
    assert_eq!(up, Ok(Some(())), "the settings start a Podium");
    let third = podium(&["check", "--config", file.to_str().unwrap()]).await;
    let secret = std::fs::read_to_string(key).unwrap();
    assert!(third.stdout.contains("***") && !third.stdout.contains(secret.trim()), "{}", third.stdout);
}

#[tokio::test]
async fn a_key_that_others_may_read_or_that_is_damaged_is_refused() {
    let data = tempfile::tempdir().unwrap();
    Podium::start(data.path()).await.kill();
    let key = data.path().join("issuer.key");
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).unwrap();
    refused(&up(data.path(), &[]).await, &["issuer.key", "chmod 600"]);
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::write(&key, "short\n").unwrap();
    refused(&up(data.path(), &[]).await, &["issuer.key", "does not hold a key"]);
}

#[tokio::test]
async fn a_log_that_no_terminal_shows_is_plain_text_or_json() {
    let data = tempfile::tempdir().unwrap();
    for format in ["text", "json"] {
        let podium = Podium::start_with(data.path(), &["--log-format", format]).await;
        podium.terminate();
        let ended = podium.end().await;
        assert!(ended.stderr.lines().count() >= 3, "{ended:?}");
        for line in ended.stderr.lines() {
            assert!(!line.contains('\u{1b}'), "{line:?}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(line).is_ok(), format == "json", "{line}");
        }
        assert_eq!(
            ended.stdout.lines().count(),
            2,
            "stdout is for the two lines that say where it is: {ended:?}"
        );
    }
}
