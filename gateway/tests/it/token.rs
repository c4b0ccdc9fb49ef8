//! Tokens: what we mint is accepted, and nothing else is.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gateway::auth::{Caller, Issuer, Role, TokenError, Verifier, participant_of};
use hmac::{Hmac, KeyInit, Mac};
use operators::id::{QuizId, UnixMillis};
use serde_json::{Value, json};
use sha2::Sha256;

const KEY: [u8; 32] = [7; 32];
const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
const HOUR: Duration = Duration::from_secs(3_600);

/// Signs with the right key whatever header and claims say: only the checks stand between it and acceptance.
fn sign(header: &str, claims: &str) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let tag = Hmac::<Sha256>::new_from_slice(&KEY).unwrap().chain_update(&signed).finalize().into_bytes();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
}

fn claims() -> Value {
    json!({"iss": "podium", "aud": "podium", "sub": "ana", "role": "player", "iat": 1_800_000_000u64,
           "exp": 1_800_003_600u64})
}

fn verify(token: &str) -> Result<Caller, TokenError> {
    Issuer::from_key(KEY).verify(token, NOW)
}

#[test]
fn a_minted_token_names_its_bearer_until_it_expires() {
    let issuer = Issuer::from_key(KEY);
    let quiz: QuizId = "geo".parse().unwrap();
    let token = issuer.mint("ana", Role::Player, Some(&quiz), HOUR, NOW);
    let caller = Caller { subject: "ana".into(), role: Role::Player, quiz: Some(quiz) };
    assert_eq!(issuer.verify(&token, NOW), Ok(caller.clone()));
    assert_eq!(issuer.verify(&token, NOW.plus(3_599_999)), Ok(caller));
    assert_eq!(issuer.verify(&token, NOW.plus(3_600_000)), Err(TokenError::Expired));
    assert_eq!(Issuer::from_key([8; 32]).verify(&token, NOW), Err(TokenError::Signature));
}

#[test]
fn only_our_header_is_accepted_even_when_signed() {
    let good = claims().to_string();
    assert!(verify(&sign(r#"{"alg":"HS256","typ":"JWT"}"#, &good)).is_ok());
    assert!(
        verify(&sign(r#"{"typ":"JWT","alg":"HS256","kid":"../../etc/passwd","jku":"http://x"}"#, &good))
            .is_ok()
    );
    for header in [
        r#"{"alg":"none","typ":"JWT"}"#,
        r#"{"alg":"None","typ":"JWT"}"#,
        r#"{"alg":"nOnE","typ":"JWT"}"#,
        r#"{"alg":"hs256","typ":"JWT"}"#,
        r#"{"alg":"HS512","typ":"JWT"}"#,
        r#"{"alg":"RS256","typ":"JWT"}"#,
        r#"{"alg":"HS256"}"#,
        r#"{"typ":"JWT"}"#,
        r#"{"alg":"HS256","typ":"at+jwt"}"#,
        r#"{"alg":["HS256"],"typ":"JWT"}"#,
        r#"{"alg":"HS256","typ":"JWT","crit":["b64"]}"#,
        r#"{"alg":"HS256","alg":"none","typ":"JWT"}"#,
        "",
        "[]",
        "null",
    ] {
        assert!(verify(&sign(header, &good)).is_err(), "{header}");
    }
}

#[test]
fn unsigned_and_malformed_tokens_are_refused() {
    let token = sign(r#"{"alg":"HS256","typ":"JWT"}"#, &claims().to_string());
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
    let claims = signed.split_once('.').unwrap().1;
    for bad in [
        format!("{signed}."),
        signed.to_owned(),
        format!("{token}."),
        format!("{token}.x"),
        format!(".{token}"),
        format!("{signed}.{}", &signature[1..]),
        format!("{signed}.{signature}="),
        format!("{none}.{claims}."),
        format!("{none}.{claims}.{signature}"),
        String::new(),
        ".".into(),
        "..".into(),
        "a.b.c".into(),
        "x".repeat(10_000),
        format!("{} ", token),
    ] {
        assert!(verify(&bad).is_err(), "{bad}");
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let token = Issuer::from_key(KEY).mint("ana", Role::Player, None, HOUR, NOW);
    for at in 0..token.len() {
        for bit in 0..8 {
            let mut bytes = token.clone().into_bytes();
            bytes[at] ^= 1 << bit;
            if let Ok(forged) = String::from_utf8(bytes) {
                assert!(verify(&forged).is_err(), "byte {at} bit {bit}");
            }
        }
    }
}

#[test]
fn claims_must_be_there_and_of_their_type() {
    let change = |name: &str, value: Option<Value>| {
        let mut claims = claims();
        let map = claims.as_object_mut().unwrap();
        match value {
            Some(value) => map.insert(name.into(), value),
            None => map.remove(name),
        };
        verify(&sign(r#"{"alg":"HS256","typ":"JWT"}"#, &claims.to_string()))
    };
    for name in ["iss", "aud", "sub", "role", "exp", "iat"] {
        assert_eq!(change(name, None), Err(TokenError::Claims), "{name}");
    }
    for (name, value) in [
        ("exp", json!("1800003600")),
        ("exp", json!(1_800_003_600.5)),
        ("exp", json!(-1)),
        ("exp", json!(null)),
        ("exp", json!([1_800_003_600u64])),
        ("iss", json!("Podium")),
        ("aud", json!("other")),
        ("aud", json!(["podium"])),
        ("role", json!("admin")),
        ("role", json!(["host"])),
        ("sub", json!("")),
        ("sub", json!(7)),
        ("sub", json!("x".repeat(257))),
        ("quiz", json!("../x")),
        ("nbf", json!("0")),
    ] {
        assert_eq!(change(name, Some(value.clone())), Err(TokenError::Claims), "{name} {value}");
    }
    assert_eq!(change("exp", Some(json!(1_800_000_000u64))), Err(TokenError::Expired));
    assert_eq!(change("nbf", Some(json!(1_800_000_001u64))), Err(TokenError::Expired));
    assert!(change("nbf", Some(json!(1_800_000_000u64))).is_ok());
}

#[test]
fn a_participant_is_one_subject_in_one_quiz() {
    let (geo, bio): (QuizId, QuizId) = ("geo".parse().unwrap(), "bio".parse().unwrap());
    // First 16 bytes of: printf 'geo\0ana' | sha256sum
    assert_eq!(participant_of(&geo, "ana").to_string(), GEO_ANA);
    assert_ne!(participant_of(&geo, "ana"), participant_of(&bio, "ana"));
    assert_ne!(participant_of(&geo, "ana"), participant_of(&geo, "bob"));
}

const GEO_ANA: &str = "cddb84969f3d50ed685f09b7213f9481";

#[test]
fn the_key_file_is_made_once_and_kept_private() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("podium-data");
    let issuers: Vec<Issuer> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| Issuer::open(&data).unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let token = issuers[0].mint("ana", Role::Host, None, HOUR, NOW);
    assert!(issuers.iter().all(|issuer| issuer.verify(&token, NOW).is_ok()));
    assert_eq!(std::fs::read_dir(&data).unwrap().count(), 1, "no half-made key is left");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let path = data.join("issuer.key");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(Issuer::open(&data).err().unwrap().kind(), std::io::ErrorKind::PermissionDenied);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "short").unwrap();
        assert_eq!(Issuer::open(&data).err().unwrap().kind(), std::io::ErrorKind::InvalidData);
    }
}
