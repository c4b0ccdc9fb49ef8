//! Who is asking: tokens, made and checked by our own issuer.
//!
//! A token is a JWT with the one header `{"alg":"HS256","typ":"JWT"}`. The algorithm is pinned here, never taken from
//! the token; `kid`, `jku` and their like are ignored. Another issuer is another [`Verifier`].

use std::borrow::Cow;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use operators::id::{ParticipantId, QuizId, UnixMillis};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Characters of a subject: OIDC allows 255 bytes.
pub const SUBJECT_CHARS_MAX: usize = 256;
/// Characters of a token: ours have about 250, and a header line has to fit a buffer.
pub const TOKEN_CHARS_MAX: usize = 4_096;
/// The file with the issuer's key.
pub const KEY_FILE: &str = "issuer.key";

/// The header of every token that we make: `{"alg":"HS256","typ":"JWT"}`.
const HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";
const NAME: &str = "podium";

/// What a token lets its bearer do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Publishes and runs quizzes, sees everything.
    Host,
    /// Joins and answers.
    Player,
    /// Reads what is public.
    Viewer,
}

/// A text names no role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be host, player or viewer")]
pub struct RoleError;

impl FromStr for Role {
    type Err = RoleError;
    fn from_str(text: &str) -> Result<Self, RoleError> {
        match text {
            "host" => Ok(Self::Host),
            "player" => Ok(Self::Player),
            "viewer" => Ok(Self::Viewer),
            _ => Err(RoleError),
        }
    }
}

/// The bearer of a valid token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Who, within the issuer.
    pub subject: Box<str>,
    /// What for.
    pub role: Role,
    /// The only quiz that the token is for: it was made by joining it.
    pub quiz: Option<QuizId>,
}

/// Why a token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not three parts of base64url with JSON in them.
    #[error("the token is not a JWT")]
    Malformed,
    /// Another algorithm or type than ours.
    #[error("the token's algorithm is not accepted")]
    Algorithm,
    /// Not signed by this issuer.
    #[error("the token's signature is wrong")]
    Signature,
    /// Claims are missing, of the wrong type, or for somebody else.
    #[error("the token's claims are not accepted")]
    Claims,
    /// Its time is over, or has not come.
    #[error("the token has expired")]
    Expired,
}

/// Checks tokens.
pub trait Verifier: Send + Sync {
    /// Returns the bearer of a token that is valid now.
    ///
    /// # Errors
    /// [`TokenError`]: the request is answered with 401.
    fn verify(&self, token: &str, now: UnixMillis) -> Result<Caller, TokenError>;
}

/// Podium as its own issuer. Holds the key, so it has no `Debug`.
#[derive(Clone)]
pub struct Issuer {
    mac: Hmac<Sha256>,
}

#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
    #[serde(borrow)]
    typ: Cow<'a, str>,
    // RFC 7515, 4.1.11: an extension that is not understood must be refused, and none is.
    crit: Option<serde::de::IgnoredAny>,
}

#[derive(Serialize, Deserialize)]
struct Claims<'a> {
    #[serde(borrow)]
    iss: Cow<'a, str>,
    #[serde(borrow)]
    aud: Cow<'a, str>,
    #[serde(borrow)]
    sub: Cow<'a, str>,
    role: Role,
    exp: u64,
    iat: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quiz: Option<QuizId>,
}

impl Issuer {
    /// Returns the issuer with this key.
    pub fn from_key(key: [u8; 32]) -> Self {
        Self { mac: Hmac::new_from_slice(&key).expect("HMAC takes keys of any length") }
    }

    /// Returns the issuer whose key is in `dir`, made on first use with mode 0600. Safe when several processes start
    /// at once: the first key wins and all use it.
    ///
    /// # Errors
    /// The file cannot be read or made, others may read it, or it holds no key.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let path = dir.join(KEY_FILE);
        let key = match read_key(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create_key(dir, &path)?;
                read_key(&path)?
            }
            read => read?,
        };
        Ok(Self::from_key(key))
    }

    /// Returns a token for `subject`, valid from `now` for `ttl` (whole seconds); with a quiz, valid for that one only.
    ///
    /// # Panics
    /// If the subject is empty or longer than [`SUBJECT_CHARS_MAX`].
    pub fn mint(
        &self,
        subject: &str,
        role: Role,
        quiz: Option<&QuizId>,
        ttl: Duration,
        now: UnixMillis,
    ) -> String {
        assert!(is_subject(subject), "a subject has 1 to {SUBJECT_CHARS_MAX} characters");
        let iat = now.0 / 1_000;
        let claims = Claims {
            iss: NAME.into(),
            aud: NAME.into(),
            sub: subject.into(),
            role,
            exp: iat.saturating_add(ttl.as_secs()),
            iat,
            nbf: None,
            quiz: quiz.cloned(),
        };
        let claims = serde_json::to_vec(&claims).expect("claims are always JSON");
        let mut token = String::with_capacity(320);
        token.push_str(HEADER);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let signature = self.mac.clone().chain_update(&token).finalize().into_bytes();
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        token
    }

    /// Returns what tells this key from others without telling anything else of it: 32 hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        let digest: [u8; 32] = self.mac.clone().chain_update(b"fingerprint").finalize().into_bytes().into();
        let half = u128::from_be_bytes(digest[..16].try_into().expect("32 bytes hold 16"));
        format!("{half:032x}")
    }

    /// Returns a subject that only this issuer can derive from `parts`: nobody can guess who used which key.
    pub fn derive(&self, parts: &[&str]) -> String {
        let mut mac = self.mac.clone().chain_update(b"derive");
        for part in parts {
            mac.update(&[0]);
            mac.update(part.as_bytes());
        }
        let digest: [u8; 32] = mac.finalize().into_bytes().into();
        let half = u128::from_be_bytes(digest[..16].try_into().expect("32 bytes hold 16"));
        format!("{half:032x}")
    }
}

impl Verifier for Issuer {
    // About 1 µs with SHA instructions: less than a lookup in a shared cache of verified tokens, so there is none.
    fn verify(&self, token: &str, now: UnixMillis) -> Result<Caller, TokenError> {
        if token.len() > TOKEN_CHARS_MAX {
            return Err(TokenError::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        if claims.contains('.') {
            return Err(TokenError::Malformed);
        }
        if header != HEADER {
            check_header(header)?;
        }
        let mut tag = [0u8; 32];
        match URL_SAFE_NO_PAD.decode_slice(signature, &mut tag) {
            Ok(32) => {}
            Ok(_) | Err(_) => return Err(TokenError::Signature),
        }
        let mac = self.mac.clone().chain_update(signed);
        mac.verify_slice(&tag).map_err(|_| TokenError::Signature)?;
        let claims = URL_SAFE_NO_PAD.decode(claims).map_err(|_| TokenError::Malformed)?;
        let claims: Claims<'_> = serde_json::from_slice(&claims).map_err(|_| TokenError::Claims)?;
        if claims.iss != NAME || claims.aud != NAME || !is_subject(&claims.sub) {
            return Err(TokenError::Claims);
        }
        let now_s = now.0 / 1_000;
        if claims.exp <= now_s || claims.nbf.is_some_and(|nbf| nbf > now_s) {
            return Err(TokenError::Expired);
        }
        Ok(Caller { subject: claims.sub.into(), role: claims.role, quiz: claims.quiz })
    }
}

/// Returns the participant that a subject is in a quiz: the first 16 bytes of SHA-256(quiz ‖ 0 ‖ subject).
pub fn participant_of(quiz: &QuizId, subject: &str) -> ParticipantId {
    let hash = Sha256::new().chain_update(quiz.as_str()).chain_update([0]).chain_update(subject);
    let digest: [u8; 32] = hash.finalize().into();
    ParticipantId(u128::from_be_bytes(digest[..16].try_into().expect("32 bytes hold 16")))
}

fn is_subject(text: &str) -> bool {
    !text.is_empty() && text.chars().count() <= SUBJECT_CHARS_MAX
}

fn check_header(header: &str) -> Result<(), TokenError> {
    let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| TokenError::Malformed)?;
    let header: Header<'_> = serde_json::from_slice(&header).map_err(|_| TokenError::Algorithm)?;
    let ours = header.alg == "HS256" && header.typ == "JWT" && header.crit.is_none();
    if ours { Ok(()) } else { Err(TokenError::Algorithm) }
}

fn read_key(path: &Path) -> io::Result<[u8; 32]> {
    let file = fs::File::open(path)?;
    refuse_shared(&file, path)?;
    let mut text = String::new();
    file.take(128).read_to_string(&mut text)?;
    let decoded = URL_SAFE_NO_PAD.decode(text.trim_end()).ok().and_then(|key| key.try_into().ok());
    let damaged = || format!("{} does not hold a key; delete it to make a new one", path.display());
    decoded.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, damaged()))
}

#[cfg(unix)]
fn refuse_shared(file: &fs::File, path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if file.metadata()?.permissions().mode() & 0o077 == 0 {
        return Ok(());
    }
    let advice = format!("others may read {path}; run: chmod 600 {path}", path = path.display());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, advice))
}

#[cfg(not(unix))]
fn refuse_shared(_: &fs::File, _: &Path) -> io::Result<()> {
    Ok(())
}

/// Writes a new key beside its place and links it there, which fails if somebody else's key is there already.
fn create_key(dir: &Path, path: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let fresh = dir.join(format!(".{KEY_FILE}.{}", uuid::Uuid::new_v4()));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&fresh).and_then(|mut file| {
        writeln!(file, "{}", URL_SAFE_NO_PAD.encode(random_key()))?;
        file.sync_all()
    });
    let linked = written.and_then(|()| fs::hard_link(&fresh, path));
    fs::remove_file(&fresh).ok();
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    }
}

/// Returns 32 random bytes. A random UUID holds 122 random bits of the system's source: four hold more than the key.
fn random_key() -> [u8; 32] {
    let mut hash = Sha256::new();
    for _ in 0..4 {
        hash.update(uuid::Uuid::new_v4().as_bytes());
    }
    hash.finalize().into()
}
