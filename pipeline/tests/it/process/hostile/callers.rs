//! Paths, names and commands that cannot be, and callers who may not.

use gateway::auth::{Issuer, Role};
use http_body_util::Full;
use hyper::Method;
use operators::id::UnixMillis;
use serde_json::{Value, json};

use super::{Door, QUIZ, refused};
use crate::process::harness::{Client, submission};

#[tokio::test]
async fn paths_and_queries_that_name_nothing_are_refused() {
    let door = Door::open().await;
    let quiz = format!("/v1/quizzes/{QUIZ}");
    let (ana, nobody) = (&door.ana, "0".repeat(32));
    for (path, status, code) in [
        ("/v1/quizzes/unknown".to_owned(), 404, "unknown_quiz"),
        ("/v1/quizzes/unknown/leaderboard".to_owned(), 404, "unknown_quiz"),
        ("/v1/quizzes/unknown/live".to_owned(), 404, "unknown_quiz"),
        ("/v1/quizzes/unknown/books".to_owned(), 404, "unknown_quiz"),
        (format!("/v1/quizzes/{}", "x".repeat(5_000)), 404, "unknown_quiz"),
        ("/v1/quizzes/%2e%2e%2f%2e%2e".to_owned(), 404, "unknown_quiz"),
        ("/v1/quizzes/a%20b".to_owned(), 404, "unknown_quiz"),
        ("/v1/quizzes/%00".to_owned(), 400, "malformed_request"),
        ("/v1/quizzes/%ff%fe".to_owned(), 400, "malformed_request"),
        (format!("{quiz}/participants/%00"), 400, "malformed_request"),
        (format!("{quiz}/participants/{nobody}"), 404, "unknown_participant"),
        (format!("{quiz}/participants/nobody"), 404, "unknown_participant"),
        (format!("{quiz}/participants/{ana}0"), 404, "unknown_participant"),
        (format!("{quiz}/submissions/nothing"), 404, "unknown_submission"),
        (format!("{quiz}/submissions/{}?participant={nobody}", submission(1)), 404, "unknown_participant"),
        (format!("{quiz}/submissions/{}?participant=x", submission(1)), 422, "invalid_query"),
        (format!("{quiz}/leaderboard?limit=0"), 422, "invalid_query"),
        (format!("{quiz}/leaderboard?limit=-1"), 422, "invalid_query"),
        (format!("{quiz}/leaderboard?limit=1001"), 422, "invalid_query"),
        (format!("{quiz}/leaderboard?limit=1e9"), 422, "invalid_query"),
        (format!("{quiz}/leaderboard?limit=99999999999999999999999"), 422, "invalid_query"),
        (format!("{quiz}/leaderboard?limit=1&limit=2"), 422, "invalid_query"),
        (format!("{quiz}/leaderboard?cursor=nonsense"), 422, "invalid_query"),
        (format!("{quiz}/leaderboard?around=nobody"), 422, "invalid_query"),
        (format!("{quiz}/leaderboard?around={nobody}"), 404, "unknown_participant"),
        ("/v1/quizzes?cursor=..%2f".to_owned(), 422, "invalid_query"),
        ("/v1/nothing".to_owned(), 404, "not_found"),
        ("/page/../../Cargo.toml".to_owned(), 404, "not_found"),
        ("/page/%2e%2e%2f%2e%2e%2fCargo.toml".to_owned(), 404, "not_found"),
    ] {
        refused(&path, &door.host.get(&path).await, status, code, "");
    }
    let pending = door.player.get(&format!("{quiz}/submissions/{}", submission(77))).await;
    refused("never handed in", &pending, 404, "receipt_pending", "");
    assert!(pending.headers.contains_key("retry-after"));
    for (method, path) in
        [(Method::DELETE, "/v1/quizzes"), (Method::PATCH, "/v1/quizzes/door"), (Method::POST, "/healthz")]
    {
        let request = door.host.request(method, path).body(Full::default()).unwrap();
        refused(path, &door.host.send(request).await.unwrap(), 405, "method_not_allowed", "");
    }
    door.is_well().await;
}

#[tokio::test]
async fn names_and_commands_that_cannot_be_are_refused() {
    let door = Door::open().await;
    let quiz = format!("/v1/quizzes/{QUIZ}");
    let join = format!("{quiz}/participants");
    for (name, code) in [
        (json!(""), "invalid_name"),
        (json!("  "), "invalid_name"),
        (json!("x".repeat(65)), "invalid_name"),
        (json!("a\0b"), "invalid_name"),
        (json!("a\nb"), "invalid_name"),
        (json!("a\u{202e}b"), "invalid_name"),
        (json!(7), "invalid_body"),
        (json!(["Ana"]), "invalid_body"),
        (Value::Null, "invalid_body"),
    ] {
        let reply = door.podium.client().post(&join, &json!({"name": name})).await;
        refused(&name.to_string(), &reply, 422, code, "/name");
    }
    let extra = door.podium.client().post(&join, &json!({"name": "Eve", "role": "host"})).await;
    refused("a role of one's own", &extra, 422, "invalid_body", "");
    for (command, status, code, pointer) in [
        (json!({"type": "self_destruct"}), 422, "unsupported_command", "/type"),
        (json!({"type": 1}), 422, "invalid_body", "/type"),
        (json!({}), 422, "invalid_body", ""),
        (json!({"type": "open_question"}), 422, "invalid_body", "/question"),
        (json!({"type": "open", "question": "one"}), 422, "invalid_body", "/question"),
        (json!({"type": "open_question", "question": "a b"}), 422, "unknown_question", "/question"),
        (json!({"type": "open", "id": "a b"}), 422, "invalid_id", "/id"),
        (json!({"type": "open", "extra": 1}), 422, "invalid_body", ""),
        (json!({"type": "open_question", "question": "one"}), 409, "free_paced", ""),
    ] {
        let reply = door.host.post(&format!("{quiz}/commands"), &command).await;
        refused(&command.to_string(), &reply, status, code, pointer);
    }
    let unknown = door.host.post("/v1/quizzes/unknown/commands", &json!({"type": "open"})).await;
    refused("a command to no quiz", &unknown, 404, "unknown_quiz", "");
    let opened = door
        .host
        .put(
            &quiz,
            &json!({"title": "T", "questions": [
        {"id": "q", "kind": "numeric", "text": "?", "key": {"value": "1"}}]}),
        )
        .await;
    refused("publishing over an open quiz", &opened, 409, "quiz_open", "");
    door.is_well().await;
}

/// Returns tokens that must not be accepted, with what is wrong with each.
fn forged(door: &Door, expired: &str) -> Vec<(&'static str, String)> {
    let token = |client: &Client| client.token.clone().unwrap();
    let parts = |token: &str| token.split('.').map(str::to_owned).collect::<Vec<_>>();
    let (host, player) = (parts(&token(&door.host)), parts(&token(&door.player)));
    let now = UnixMillis(u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap());
    let hour = std::time::Duration::from_secs(3_600);
    let stranger = Issuer::from_key([7; 32]).mint("stranger", Role::Host, None, hour, now);
    // {"alg":"none","typ":"JWT"}, {"alg":"HS512",…}, {"alg":"RS256",…}
    let (none, hs512, rs256) = (
        "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0",
        "eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9",
        "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9",
    );
    vec![
        ("alg none without a signature", format!("{none}.{}.", host[1])),
        ("alg none with the old signature", format!("{none}.{}.{}", host[1], host[2])),
        ("another HMAC", format!("{hs512}.{}.{}", host[1], host[2])),
        ("a public key algorithm", format!("{rs256}.{}.{}", host[1], host[2])),
        ("another issuer's key", stranger),
        ("a host's claims under a player's signature", format!("{}.{}.{}", host[0], host[1], player[2])),
        ("no signature", format!("{}.{}.", host[0], host[1])),
        ("two parts", format!("{}.{}", host[0], host[1])),
        ("four parts", format!("{}.x", token(&door.host))),
        ("a cut signature", token(&door.host)[..token(&door.host).len() - 1].to_owned()),
        ("nothing", String::new()),
        ("dots", "..".to_owned()),
        ("5,000 characters", "x".repeat(5_000)),
        ("an expired one", expired.to_owned()),
    ]
}

#[tokio::test]
async fn forged_and_foreign_tokens_open_nothing() {
    let door = Door::open().await;
    let expired = door.podium.token(&["--role", "host", "--ttl", "0s"]).await;
    let quiz = format!("/v1/quizzes/{QUIZ}");
    for (what, token) in forged(&door, &expired) {
        for path in [format!("{quiz}/books"), "/v1/quizzes".to_owned()] {
            let reply = door.podium.client().with(&token).get(&path).await;
            let code = if what == "an expired one" { "token_expired" } else { "token_invalid" };
            refused(what, &reply, 401, code, "");
            assert!(reply.headers.contains_key("www-authenticate"), "{what}: {reply:?}");
        }
    }
    let definition = json!({"title": "Other", "questions": [
        {"id": "q0", "kind": "numeric", "text": "?", "key": {"value": "1"}}]});
    door.host.publish_and_open("other", &definition).await;
    let (eve, stranger) = door.podium.client().join("other", "Eve").await;
    let viewer = door.podium.client().with(&door.podium.token(&["--role", "viewer"]).await);
    let outsider = door.podium.client().with(&door.podium.token(&["--role", "player"]).await);
    let answer = json!({"question": "last", "answer": {"value": "1"}, "submission": submission(50)});
    let answers = format!("{quiz}/answers");
    refused("another quiz's player", &stranger.post(&answers, &answer).await, 403, "wrong_quiz", "");
    refused("a viewer", &viewer.post(&answers, &answer).await, 403, "wrong_role", "");
    refused("one who has not joined", &outsider.post(&answers, &answer).await, 403, "not_participant", "");
    refused("nobody", &door.podium.client().post(&answers, &answer).await, 401, "token_missing", "");
    let by_url =
        door.podium.client().get(&format!("{quiz}/books?token={}", door.host.token.clone().unwrap())).await;
    refused("a token in the URL", &by_url, 401, "token_missing", "");
    for (what, path) in [("books", "books".to_owned()), ("commands", "commands".to_owned())] {
        let reply = match what {
            "books" => door.player.get(&format!("{quiz}/{path}")).await,
            _ => door.player.post(&format!("{quiz}/{path}"), &json!({"type": "close"})).await,
        };
        refused(what, &reply, 403, "wrong_role", "");
    }
    let publish = door.player.put(&quiz, &definition).await;
    refused("publishing as a player", &publish, 403, "wrong_role", "");
    // Other people's results look as if they were not there.
    let ana = format!("{quiz}/participants/{}", door.ana);
    refused("another's result", &outsider.get(&ana).await, 404, "unknown_participant", "");
    refused("another's result", &stranger.get(&ana).await, 404, "unknown_participant", "");
    let eves = format!("/v1/quizzes/other/submissions/{}?participant={eve}", submission(1));
    refused("another's receipt", &door.player.get(&eves).await, 403, "wrong_quiz", "");
    door.is_well().await;
}
