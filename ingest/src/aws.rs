//! The connection to AWS: endpoint, region and credentials as its SDK finds them, and what its errors mean in words.

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_smithy_http_client::{Builder, tls};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_smithy_types::retry::RetryConfig;

pub mod offset;

use offset::Offset;

/// Longest time of one try of a call. A page of 256 KB passes a slow line within it; a stuck connection is given up.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest time of a call with its tries: shorter than a lease, so that a worker hears of it while it still has one.
const CALL_TIMEOUT: Duration = Duration::from_secs(8);
/// Longest time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Tries of one call, as is the SDK's default.
const ATTEMPTS_MAX: u32 = 3;

/// Everything that a client of an AWS service is made from.
#[derive(Clone)]
pub struct Aws {
    sdk: SdkConfig,
    offset: Arc<Offset>,
}

impl fmt::Debug for Aws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Credentials have no place in a log.
        f.debug_struct("Aws").field("region", &self.sdk.region()).finish_non_exhaustive()
    }
}

/// There is no way to reach AWS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AwsError {
    /// Nothing says which region.
    #[error("no AWS region is set: set AWS_REGION, or a region in the profile that AWS_PROFILE names")]
    NoRegion,
}

impl Aws {
    /// Returns the connection that the environment describes: `AWS_REGION`, `AWS_ENDPOINT_URL`, `AWS_PROFILE`, keys in
    /// the environment or a profile, the role of the machine or container.
    ///
    /// # Errors
    /// [`AwsError`] says what is missing. Credentials are looked for at the first call.
    pub async fn from_env() -> Result<Self, AwsError> {
        let ring = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
        let http = Builder::new().tls_provider(ring).build_https();
        let offset = Arc::new(Offset::default());
        let sdk = base().http_client(offset::observed(http, offset.clone())).load().await;
        if sdk.region().is_none() {
            return Err(AwsError::NoRegion);
        }
        Ok(Self { sdk, offset })
    }

    /// Returns a connection to one address for all services over a client of the caller's: for doubles, with any keys.
    pub async fn at(endpoint: &str, http: SharedHttpClient) -> Self {
        let keys = aws_sdk_kinesis::config::Credentials::new("podium", "podium", None, None, "test");
        let base = base().region(Region::new("us-east-1")).endpoint_url(endpoint).credentials_provider(keys);
        let offset = Arc::new(Offset::default());
        Self { sdk: base.http_client(offset::observed(http, offset.clone())).load().await, offset }
    }

    /// Returns a connection to doubles at one address on this machine, without encryption.
    pub async fn local(endpoint: &str) -> Self {
        Self::at(endpoint, Builder::new().build_http()).await
    }

    /// Returns where calls go, in words: the region, and the address if one is set.
    pub fn place(&self) -> String {
        let region = self.sdk.region().map_or("none", Region::as_ref);
        match self.sdk.endpoint_url() {
            Some(url) => format!("region {region} at {url}"),
            None => format!("region {region}"),
        }
    }

    /// Returns what clients are made from.
    pub fn sdk(&self) -> &SdkConfig {
        &self.sdk
    }

    /// Returns what the answers tell of this machine's clock.
    pub fn offset(&self) -> &Arc<Offset> {
        &self.offset
    }
}

fn base() -> aws_config::ConfigLoader {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(CALL_TIMEOUT)
        .build();
    let retries = RetryConfig::standard().with_max_attempts(ATTEMPTS_MAX);
    aws_config::defaults(BehaviorVersion::latest()).timeout_config(timeouts).retry_config(retries)
}

/// Tells whether a conditional write was refused because its condition did not hold.
pub fn is_refused<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code);
    code == Some("ConditionalCheckFailedException")
}

/// Returns what a failed call means, in one line that says what to do about it where a person can do something.
pub fn explain<E>(error: &SdkError<E, HttpResponse>) -> String
where
    E: std::error::Error + ProvideErrorMetadata + 'static,
{
    let said = match error.as_service_error() {
        Some(service) => {
            let code = service.code().unwrap_or("an error without a code");
            let hint = match code {
                "UnrecognizedClientException"
                | "InvalidSignatureException"
                | "IncompleteSignatureException"
                | "MissingAuthenticationTokenException"
                | "InvalidClientTokenId" => {
                    ": these credentials are not known there; check the keys or the profile, and the region"
                }
                "ExpiredTokenException" | "ExpiredToken" => ": the session has ended; sign in again",
                "AccessDeniedException" => ": the role lacks this permission",
                _ => "",
            };
            return match service.message().and_then(first_line) {
                Some(message) => format!("{code}{hint} ({message})"),
                None => format!("{code}{hint}"),
            };
        }
        None => match error {
            SdkError::TimeoutError(_) => "no answer in time",
            SdkError::DispatchFailure(_) => {
                "cannot be reached, or no credentials; check AWS_ENDPOINT_URL, region and keys"
            }
            SdkError::ConstructionFailure(_) => "the call could not be made; check the AWS settings",
            SdkError::ResponseError(_) => "the answer is not one of AWS",
            SdkError::ServiceError(_) | _ => "the call failed",
        },
    };
    // The outermost words of the SDK say nothing; the innermost name the cause.
    let mut cause = error.source();
    while let Some(inner) = cause.and_then(|cause| cause.source()) {
        cause = Some(inner);
    }
    let Some(cause) = cause.map(ToString::to_string) else { return said.to_owned() };
    // A chain of credential providers says what it tried, a line each; the first line is what came of it.
    let cause = first_line(&cause).unwrap_or_default().trim_end_matches(". Attempted:");
    match advice(cause) {
        Some(advice) => format!("no credentials: {advice} ({cause})"),
        None => format!("{said} ({cause})"),
    }
}

/// Returns what to do about credentials that could not be had, where the SDK's own words do not say it.
fn advice(cause: &str) -> Option<&'static str> {
    // A library of cryptography for a second way to sign in is not worth its weight.
    let login = "sessions of `aws login` are not read; name a profile that says \
        `credential_process = aws configure export-credentials --profile` and the one that is signed in";
    let known = [("credentials-login", login), ("SSO token", "sign in with `aws sso login`")];
    known.into_iter().find(|(words, _)| cause.contains(words)).map(|(_, advice)| advice)
}

/// Returns the line that says it: a wrong signature is told with the whole request as it should have been signed.
fn first_line(text: &str) -> Option<&str> {
    text.lines().map(str::trim).find(|line| !line.is_empty())
}
