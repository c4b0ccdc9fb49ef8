//! `podium token` and `podium quiz` beside a running Podium: what they print, and what they refuse.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::harness::{Ended, Podium, podium};

/// A running Podium and a directory for files.
struct Desk {
    podium: Podium,
    files: tempfile::TempDir,
}

impl Desk {
    async fn new() -> Self {
        let files = tempfile::tempdir().unwrap();
        Self { podium: Podium::start(&files.path().join("data")).await, files }
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.files.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Runs `podium quiz …` against the running one.
    async fn quiz(&self, args: &[&str]) -> Ended {
        let (url, data) = (self.podium.url(), self.podium.data.to_str().unwrap().to_owned());
        podium(&[&["quiz"], args, &["--url", &url, "--data", &data]].concat()).await
    }

    async fn list(&self) -> String {
        let ended = self.quiz(&["list"]).await;
        assert!(ended.status.success(), "{ended:?}");
        ended.stdout
    }

    /// Checks that a file is refused with exit code 1, naming everything in `names`, and that nothing was published.
    async fn refuses(&self, command: &[&str], file: &Path, names: &[&str]) {
        let ended = self.quiz(&[command, &[file.to_str().unwrap(), "--quiz", "refused"]].concat()).await;
        assert_eq!((ended.status.code(), ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
        for name in names {
            assert!(ended.stderr.contains(name), "{name} is not named in:\n{}", ended.stderr);
        }
        assert_eq!(self.list().await, "", "nothing was published");
    }
}

#[tokio::test]
async fn a_token_is_one_line_and_works_beside_the_running_process() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let ended = podium(&["token", "--role", "host", "--data", data.to_str().unwrap()]).await;
    assert_eq!((ended.status.code(), ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    let lines: Vec<&str> = ended.stdout.split('\n').collect();
    let &[early, ""] = lines.as_slice() else { panic!("one line and nothing else: {:?}", ended.stdout) };
    let is_base64url = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    assert_eq!(early.split('.').filter(|part| is_base64url(part)).count(), 3, "{early}");
    let mode = std::fs::metadata(data.join("issuer.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "only the owner may read the key");

    // One made before the start, and one made beside it.
    let podium = Podium::start(&data).await;
    let quiz = json!({"title": "T", "questions": [
        {"id": "q", "kind": "numeric", "text": "1 + 1?", "key": {"value": "2"}}]});
    podium.client().with(early).put("/v1/quizzes/early", &quiz).await.expect(201);
    podium.host().await.put("/v1/quizzes/late", &quiz).await.expect(201);
    // The same subject is the same participant, whoever asks.
    let player = podium.client().with(&podium.token(&["--role", "player", "--subject", "ana"]).await);
    let again = podium.client().with(&podium.token(&["--role", "player", "--subject", "ana"]).await);
    let join = json!({"name": "Ana"});
    let first = player.post("/v1/quizzes/late/participants", &join).await.expect(201);
    let second = again.post("/v1/quizzes/late/participants", &join).await.expect(200);
    assert_eq!(first["participant"], second["participant"]);
}

#[tokio::test]
async fn a_token_with_a_quiz_or_a_short_life_is_good_for_that_only() {
    let desk = Desk::new().await;
    let quiz = json!({"title": "T", "questions": [
        {"id": "q", "kind": "numeric", "text": "1 + 1?", "key": {"value": "2"}}]});
    let host = desk.podium.host().await;
    host.put("/v1/quizzes/one", &quiz).await.expect(201);
    host.put("/v1/quizzes/two", &quiz).await.expect(201);
    let only_one = ["--role", "player", "--subject", "ana", "--quiz", "one"];
    let ana = desk.podium.client().with(&desk.podium.token(&only_one).await);
    ana.post("/v1/quizzes/one/participants", &json!({"name": "Ana"})).await.expect(201);
    let other = ana.post("/v1/quizzes/two/participants", &json!({"name": "Ana"})).await;
    assert_eq!((other.status.as_u16(), other.code().as_str()), (403, "wrong_quiz"));
    // A host of one quiz is no host of another: no key is shown, nothing is published, nobody's result is told.
    let only_one = desk.podium.client().with(&desk.podium.token(&["--role", "host", "--quiz", "one"]).await);
    assert!(only_one.get("/v1/quizzes/one").await.expect(200)["definition"].is_object());
    assert!(only_one.get("/v1/quizzes/two").await.expect(200).get("definition").is_none());
    only_one.put("/v1/quizzes/one", &quiz).await.expect(200);
    let ben = host.post("/v1/quizzes/two/participants", &json!({"name": "Ben"})).await.expect(201);
    let ben = ben["participant"].as_str().unwrap().to_owned();
    for (other, code) in [
        (only_one.put("/v1/quizzes/two", &quiz).await, "wrong_quiz"),
        (only_one.post("/v1/quizzes/two/commands", &json!({"type": "open"})).await, "wrong_quiz"),
        (only_one.get("/v1/quizzes/two/books").await, "wrong_quiz"),
        (only_one.get(&format!("/v1/quizzes/two/participants/{ben}")).await, "unknown_participant"),
    ] {
        assert_eq!(other.code(), code);
    }
    host.get(&format!("/v1/quizzes/two/participants/{ben}")).await.expect(200);
    let gone = desk.podium.client().with(&desk.podium.token(&["--role", "host", "--ttl", "0s"]).await);
    let refused = gone.get("/v1/quizzes").await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (401, "token_expired"));
}

#[tokio::test]
async fn token_refuses_what_it_does_not_know() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let long = "x".repeat(257);
    for (args, name) in [
        (vec!["token", "--data", data], "--role"),
        (vec!["token", "--role", "king", "--data", data], "king"),
        (vec!["token", "--role", "host", "--subject", "", "--data", data], "--subject"),
        (vec!["token", "--role", "host", "--subject", &long, "--data", data], "--subject"),
        (vec!["token", "--role", "host", "--ttl", "soon", "--data", data], "soon"),
        (vec!["token", "--role", "host", "--data", "/proc/nowhere"], "/proc/nowhere"),
    ] {
        let ended = podium(&args).await;
        assert!(!ended.status.success() && ended.stdout.is_empty(), "{args:?} {ended:?}");
        assert!(ended.stderr.contains(name), "{name} is not named in:\n{}", ended.stderr);
    }
}

#[tokio::test]
async fn publishing_prints_the_version_and_the_list_shows_it() {
    let desk = Desk::new().await;
    assert_eq!(desk.list().await, "");
    let definition = |title: &str| {
        let questions = json!([{"id": "q", "kind": "numeric", "text": "1 + 1?", "key": {"value": "2"}}]);
        json!({"title": title, "questions": questions}).to_string()
    };
    let file = desk.file("quiz.json", &definition("First"));
    let publish = ["publish", file.to_str().unwrap(), "--quiz", "sums"];
    let ended = desk.quiz(&publish).await;
    assert_eq!(
        (ended.status.code(), ended.stdout.as_str()),
        (Some(0), "sums published version 1\n"),
        "{ended:?}"
    );
    let again = desk.quiz(&publish).await;
    assert_eq!(again.stdout, "sums is now at version 1\n", "the same content is the same version: {again:?}");
    desk.file("quiz.json", &definition("Second"));
    let next = desk.quiz(&publish).await;
    assert_eq!(next.stdout, "sums is now at version 2\n", "{next:?}");
    assert_eq!(desk.list().await, "sums\tdraft\tversion 2\t0 participants\tSecond\n");
}

#[tokio::test]
async fn a_bad_definition_is_refused_with_every_problem_at_its_pointer() {
    let desk = Desk::new().await;
    let bad = json!({"title": "", "questions": [
        {"id": "q1", "kind": "single_choice", "text": "?", "key": {"choice": "z"},
         "choices": [{"id": "a", "text": "A"}, {"id": "a", "text": "B"}]},
        {"id": "q1", "kind": "numeric", "text": "?", "key": {"value": "1", "min": "2"}, "points": "-1"}]});
    let bad = desk.file("bad.json", &bad.to_string());
    let pointers = [
        "/title:",
        "/questions/0/key/choice:",
        "/questions/0/choices/1",
        "/questions/1/id:",
        "/questions/1/key",
        "/questions/1/points:",
    ];
    desk.refuses(&["publish"], &bad, &pointers).await;
    let unknown = desk.file("unknown.json", &json!({"titel": "T", "questions": []}).to_string());
    desk.refuses(&["publish"], &unknown, &["titel"]).await;
    let broken = desk.file("broken.json", "{\"title\": \"T\",\n\"questions\": [");
    desk.refuses(&["publish"], &broken, &["line 2"]).await;
    desk.refuses(&["publish"], Path::new("/no/such/file.json"), &["/no/such/file.json"]).await;
}

#[tokio::test]
async fn a_broken_question_file_is_refused_by_line_and_publishes_nothing() {
    let desk = Desk::new().await;
    let good = "#Q Capital of Peru?\n^ Lima\nA Quito\nB Lima\n\n";
    let trivia = desk.file("trivia", &format!("{good}#Q Capital of Chile?\n^ Santiago\nA Lima\nB Quito\n"));
    desk.refuses(&["import"], &trivia, &["trivia", "line 7", "Santiago"]).await;
    let gift =
        desk.file("sums.gift", "// sums\n\n::a:: 1+1? {=2 ~3}\n\n::b:: 2+2? {=4 ~5\n\n::c:: Yes? {T}\n");
    desk.refuses(&["import"], &gift, &["sums.gift", "line 5", "not closed"]).await;
    let empty = desk.file("empty.gift", "// nothing here\n");
    desk.refuses(&["import"], &empty, &["empty.gift"]).await;
    let prose = desk.file("prose", "It was a dark and stormy night.\n");
    desk.refuses(&["import"], &prose, &["prose"]).await;
    // What can be imported is, when asked to leave out the rest.
    let args = ["import", trivia.to_str().unwrap(), "--quiz", "some", "--skip-bad"];
    let ended = desk.quiz(&args).await;
    assert!(ended.status.success(), "{ended:?}");
    assert!(ended.stdout.contains("1 questions from") && ended.stdout.contains("1 left out"), "{ended:?}");
    assert!(ended.stderr.contains("trivia:7: "), "{ended:?}");
}

#[tokio::test]
async fn a_dry_run_prints_a_definition_that_can_be_published() {
    let desk = Desk::new().await;
    let gift =
        desk.file("sums.gift", "::a:: 1+1? {=2 ~3}\n\n::b:: Who? {=Ana =Anna}\n\n::c:: Pi? {#3.14:0.01}\n");
    let import = ["import", gift.to_str().unwrap(), "--quiz", "sums", "--dry-run", "--title", "Sums"];
    let printed = desk.quiz(&import).await;
    assert!(printed.status.success(), "{printed:?}");
    assert_eq!(desk.list().await, "");
    let file = desk.file("sums.json", &printed.stdout);
    let ended = desk.quiz(&["publish", file.to_str().unwrap(), "--quiz", "sums"]).await;
    assert_eq!(ended.stdout, "sums published version 1\n", "{ended:?}");
    assert!(desk.list().await.ends_with("\tSums\n"));
}

#[tokio::test]
async fn a_gateway_that_is_not_there_or_not_ours_is_said_so() {
    let desk = Desk::new().await;
    let other = tempfile::tempdir().unwrap();
    let (url, data) = (desk.podium.url(), other.path().to_str().unwrap());
    let ended = podium(&["quiz", "list", "--url", &url, "--data", data]).await;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.stderr.contains("401") && ended.stderr.contains("--data"), "{ended:?}");
    // A port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{free}");
    let ended = podium(&["quiz", "list", "--url", &url, "--data", data]).await;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.stderr.contains(&url) && ended.stderr.contains("cannot reach"), "{ended:?}");
}
