//! The README's way in: import real trivia, play some of it over HTTP, and see that right is right.

use serde_json::{Value, json};

use super::harness::{Client, Podium, podium, submission, text};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/opentriviaqa/geography");

/// A question as the file has it, read in the plainest way there is.
#[derive(Debug, PartialEq)]
struct Trivium {
    text: String,
    key: String,
    options: Vec<String>,
}

fn plain_questions() -> Vec<Trivium> {
    let file = std::fs::read_to_string(FILE).unwrap_or_else(|error| panic!("{FILE}: {error}"));
    let mut all = Vec::new();
    for block in file.split("#Q ").skip(1) {
        let (text, rest) = block.split_once("\n^ ").unwrap();
        let mut lines = rest.lines().map(str::trim).filter(|line| !line.is_empty());
        let key = lines.next().unwrap().to_owned();
        let options = lines.map(|line| line[2..].to_owned()).collect();
        all.push(Trivium { text: text.trim().to_owned(), key, options });
    }
    all
}

/// Imports the whole file with more arguments of the command line.
pub(crate) async fn import(podium: &Podium, quiz: &str, args: &[&str]) -> String {
    let (url, data) = (podium.url(), podium.data.to_str().unwrap());
    let import = ["quiz", "import", FILE, "--quiz", quiz, "--url", &url, "--data", data];
    let ended = podium_ended(&[&import, args].concat()).await;
    ended.to_owned()
}

async fn podium_ended(args: &[&str]) -> String {
    let ended = podium(args).await;
    assert!(ended.status.success(), "{ended:?}");
    ended.stdout
}

/// Returns the questions with their keys, as the host gets them.
async fn definition(host: &Client, quiz: &str) -> Vec<Value> {
    let state = host.get(&format!("/v1/quizzes/{quiz}")).await.expect(200);
    state["definition"]["questions"].as_array().unwrap().clone()
}

/// Returns the right choices of the first questions.
pub(crate) async fn keys(podium: &Podium, quiz: &str, count: usize) -> Vec<String> {
    let host = podium.host().await;
    let questions = definition(&host, quiz).await;
    let key = |question: &Value| question["key"]["choice"].as_str().unwrap().to_owned();
    questions.iter().take(count).map(key).collect()
}

/// Returns the id of the choice with this text.
fn choice(question: &Value, option: &str) -> Value {
    let choices = question["choices"].as_array().unwrap();
    let found = choices.iter().find(|choice| choice["text"] == option);
    json!({"choice": found.unwrap_or_else(|| panic!("{question} has no {option}"))["id"]})
}

#[tokio::test]
async fn every_question_of_a_real_file_is_imported_with_its_key() {
    let data = tempfile::tempdir().unwrap();
    let podium = Podium::start(data.path()).await;
    let plain = plain_questions();
    assert!(plain.len() > 800, "{} questions", plain.len());
    let said = import(&podium, "geography", &["--free"]).await;
    assert!(said.contains(&format!("{} questions from", plain.len())), "{said}");
    let host = podium.host().await;
    let questions = definition(&host, "geography").await;
    assert_eq!(questions.len(), plain.len());
    for (question, plain) in questions.iter().zip(&plain) {
        let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(squeeze(&text(&question["text"])), squeeze(&plain.text));
        assert_eq!(choice(question, &plain.key)["choice"], question["key"]["choice"], "{plain:?}");
        for option in &plain.options {
            choice(question, option);
        }
    }
}

#[tokio::test]
async fn right_answers_to_real_trivia_score_and_wrong_ones_do_not() {
    let data = tempfile::tempdir().unwrap();
    let podium = Podium::start(data.path()).await;
    import(&podium, "geography", &["--free"]).await;
    let host = podium.host().await;
    host.command("geography", &json!({"type": "open"})).await;
    let (ana, right) = podium.client().join("geography", "Ana").await;
    let (ben, wrong) = podium.client().join("geography", "Ben").await;
    let questions = definition(&host, "geography").await;
    let plain = plain_questions();
    for (n, nth) in (1..).zip([0, 1, 100, 420, plain.len() - 1]) {
        let (question, plain) = (&questions[nth], &plain[nth]);
        let id = text(&question["id"]);
        let receipt = right.answer("geography", &id, &choice(question, &plain.key), &submission(n)).await;
        assert_eq!(
            (&receipt["verdict"], &receipt["correct"]),
            (&json!("counted"), &json!(true)),
            "{plain:?}"
        );
        let other = plain.options.iter().find(|option| **option != plain.key).unwrap();
        let receipt = wrong.answer("geography", &id, &choice(question, other), &submission(n)).await;
        assert_eq!(
            (&receipt["verdict"], &receipt["correct"]),
            (&json!("counted"), &json!(false)),
            "{plain:?}"
        );
    }
    host.command("geography", &json!({"type": "close"})).await;
    host.finality("geography").await;
    let board = podium.client().get("/v1/quizzes/geography/leaderboard").await.expect(200);
    let row = |nth: usize, name: &str| board["standings"][nth][name].clone();
    assert_eq!(
        [row(0, "participant"), row(0, "points"), row(0, "correct")],
        [json!(ana), json!("5000"), json!(5)]
    );
    assert_eq!(
        [row(1, "participant"), row(1, "points"), row(1, "correct")],
        [json!(ben), json!("0"), json!(0)]
    );
    let books = host.get("/v1/quizzes/geography/books").await.expect(200);
    assert_eq!((&books["received"], &books["counted"]), (&json!(10), &json!(10)), "{books}");
}

#[tokio::test]
async fn a_sample_of_real_trivia_is_played_question_by_question() {
    let data = tempfile::tempdir().unwrap();
    let podium = Podium::start(data.path()).await;
    let args = ["--sample", "3", "--seed", "7", "--time-limit", "30s", "--title", "Three of them"];
    let said = import(&podium, "three", &args).await;
    assert!(said.contains("3 questions from"), "{said}");
    let host = podium.host().await;
    host.command("three", &json!({"type": "open"})).await;
    let (_, ana) = podium.client().join("three", "Ana").await;
    let questions = definition(&host, "three").await;
    assert_eq!(questions.len(), 3);
    for (n, question) in (1..).zip(&questions) {
        let id = text(&question["id"]);
        host.command("three", &json!({"type": "open_question", "question": id})).await;
        let seen = ana.get("/v1/quizzes/three").await.expect(200);
        assert_eq!(seen["question"]["id"], id, "{seen}");
        let receipt =
            ana.answer("three", &id, &json!({"choice": question["key"]["choice"]}), &submission(n)).await;
        assert_eq!(
            (&receipt["verdict"], &receipt["correct"]),
            (&json!("counted"), &json!(true)),
            "{receipt}"
        );
        host.command("three", &json!({"type": "close_question", "question": id})).await;
    }
}
