//! The OpenAPI document around the operations: what it is, who may call, and every error code by status.

use std::collections::BTreeMap;

use axum::http::Method;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Components, ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Ref, ResponseBuilder,
};
use utoipa::{PartialSchema, ToSchema};

use crate::error::{Code, ProblemBody};

/// Who may call an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    /// Operations endpoints: no token is looked at.
    Open,
    /// A token is optional.
    Public,
    /// A token is needed.
    Token,
}

/// Codes that any operation under `/v1` may answer with.
const EVERY: &[Code] = &[
    Code::MalformedRequest,
    Code::MissingHost,
    Code::TokenInvalid,
    Code::TokenExpired,
    Code::RateLimited,
    Code::Internal,
    Code::Overloaded,
    Code::ViewUnavailable,
    Code::Timeout,
];
/// Codes of operations that read a JSON body.
const BODY: &[Code] = &[
    Code::MalformedJson,
    Code::RequestTimeout,
    Code::BodyTooLarge,
    Code::UnsupportedMediaType,
    Code::UnsupportedEncoding,
    Code::InvalidBody,
];
/// Codes of operations that append to the log.
const WRITE: &[Code] = &[Code::LogUnavailable, Code::ViewStale];

/// One operation: who may call it, and the codes it may answer with.
struct Rule {
    method: Method,
    path: &'static str,
    access: Access,
    groups: &'static [&'static [Code]],
    own: &'static [Code],
}

impl Rule {
    const fn new(
        method: Method,
        path: &'static str,
        access: Access,
        groups: &'static [&'static [Code]],
        own: &'static [Code],
    ) -> Self {
        Self { method, path, access, groups, own }
    }
}

/// Every operation. A test refuses one that is missing.
const RULES: &[Rule] = {
    use Code::*;
    &[
        Rule::new(Method::GET, "/v1/quizzes", Access::Public, &[EVERY], &[InvalidQuery]),
        Rule::new(Method::GET, "/v1/quizzes/{quiz}", Access::Public, &[EVERY], &[UnknownQuiz]),
        Rule::new(
            Method::PUT,
            "/v1/quizzes/{quiz}",
            Access::Token,
            &[EVERY, BODY, WRITE],
            &[
                TokenMissing,
                WrongRole,
                WrongQuiz,
                InvalidId,
                InvalidDefinition,
                InvalidSubmission,
                SubmissionReused,
                VersionMismatch,
                QuizOpen,
                QuizClosed,
                SectionsFixed,
                NotVisibleYet,
            ],
        ),
        Rule::new(
            Method::POST,
            "/v1/quizzes/{quiz}/commands",
            Access::Token,
            &[EVERY, BODY, WRITE],
            &[
                TokenMissing,
                WrongRole,
                WrongQuiz,
                UnknownQuiz,
                UnknownQuestion,
                UnsupportedCommand,
                InvalidId,
                InvalidSubmission,
                SubmissionConflict,
                SubmissionReused,
                QuizOpen,
                QuizNotOpen,
                QuizClosed,
                QuestionOpened,
                QuestionNotOpen,
                AnotherOpen,
                FreePaced,
                NotVisibleYet,
            ],
        ),
        Rule::new(
            Method::POST,
            "/v1/quizzes/{quiz}/participants",
            Access::Public,
            &[EVERY, BODY, WRITE],
            &[
                WrongRole,
                WrongQuiz,
                UnknownQuiz,
                InvalidName,
                InvalidSubmission,
                SubmissionReused,
                QuizClosed,
                NotVisibleYet,
            ],
        ),
        Rule::new(
            Method::GET,
            "/v1/quizzes/{quiz}/participants/{participant}",
            Access::Token,
            &[EVERY],
            &[TokenMissing, UnknownQuiz, UnknownParticipant],
        ),
        Rule::new(
            Method::POST,
            "/v1/quizzes/{quiz}/answers",
            Access::Token,
            &[EVERY, BODY, WRITE],
            &[
                TokenMissing,
                WrongRole,
                WrongQuiz,
                NotParticipant,
                UnknownQuiz,
                UnknownQuestion,
                WrongShape,
                UnknownChoice,
                RepeatedChoice,
                TooLong,
                MissingSubmission,
                InvalidSubmission,
                SubmissionConflict,
                SubmissionReused,
                QuestionClosed,
                NotAcknowledged,
            ],
        ),
        Rule::new(
            Method::GET,
            "/v1/quizzes/{quiz}/submissions/{submission}",
            Access::Token,
            &[EVERY],
            &[
                TokenMissing,
                WrongQuiz,
                UnknownQuiz,
                UnknownParticipant,
                UnknownSubmission,
                ReceiptPending,
                InvalidQuery,
            ],
        ),
        Rule::new(
            Method::GET,
            "/v1/quizzes/{quiz}/leaderboard",
            Access::Public,
            &[EVERY],
            &[UnknownQuiz, UnknownParticipant, InvalidQuery],
        ),
        Rule::new(
            Method::GET,
            "/v1/quizzes/{quiz}/books",
            Access::Token,
            &[EVERY],
            &[TokenMissing, WrongRole, WrongQuiz, UnknownQuiz],
        ),
        Rule::new(
            Method::GET,
            "/v1/quizzes/{quiz}/live",
            Access::Public,
            &[EVERY],
            &[OriginRefused, UnknownQuiz, InvalidQuery, NotReady],
        ),
        Rule::new(Method::GET, "/healthz", Access::Open, &[], &[MissingHost, Internal]),
        Rule::new(Method::GET, "/metrics", Access::Open, &[], &[MissingHost, NotFound, Internal]),
        Rule::new(Method::GET, "/readyz", Access::Open, &[], &[MissingHost, NotReady]),
    ]
};

pub(super) fn base() -> OpenApi {
    let info = InfoBuilder::new()
        .title("Podium")
        .version("v1")
        .description(Some(
            "Scores live quizzes. Decimals are strings, times RFC 3339 with milliseconds, positions opaque strings. \
             Errors are `application/problem+json` with a stable `code`. Repeating a request is safe: a submission \
             id, a command id or an `Idempotency-Key` makes it one; the same id with another content is refused.",
        ))
        .build();
    let mut components = Components::new();
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    components.security_schemes.insert("token".to_owned(), bearer.into());
    let mut schemas = vec![(ProblemBody::name().into_owned(), ProblemBody::schema())];
    <ProblemBody<'_> as ToSchema>::schemas(&mut schemas);
    components.schemas.extend(schemas);
    OpenApiBuilder::new().info(info).components(Some(components)).build()
}

/// Adds to each operation who may call it and what it answers when it refuses.
pub(super) fn complete(document: &mut OpenApi) {
    for (path, item) in &mut document.paths.paths {
        let operations =
            [(Method::GET, &mut item.get), (Method::PUT, &mut item.put), (Method::POST, &mut item.post)];
        for (method, operation) in operations {
            let Some(operation) = operation else { continue };
            if let Some(rule) = RULES.iter().find(|rule| rule.method == method && rule.path == path) {
                secure(operation, rule.access);
                let codes = rule.groups.iter().copied().flatten().chain(rule.own).copied();
                refuse(operation, codes);
            }
        }
    }
}

fn secure(operation: &mut Operation, access: Access) {
    let token = SecurityRequirement::new::<_, [&str; 0], &str>("token", []);
    operation.security = match access {
        Access::Open => None,
        Access::Public => Some(vec![SecurityRequirement::default(), token]),
        Access::Token => Some(vec![token]),
    };
}

fn refuse(operation: &mut Operation, codes: impl Iterator<Item = Code>) {
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    for code in codes {
        by_status.entry(code.status().as_u16()).or_default().push(code);
    }
    for (status, mut codes) in by_status {
        codes.sort();
        codes.dedup();
        let lines: Vec<String> = codes.iter().map(|c| format!("`{}`: {}", c.name(), c.meaning())).collect();
        let problem = Ref::from_schema_name(ProblemBody::name());
        let content = ContentBuilder::new().schema(Some(problem)).build();
        let response = ResponseBuilder::new()
            .description(lines.join("\n\n"))
            .content("application/problem+json", content)
            .build();
        operation.responses.responses.insert(status.to_string(), response.into());
    }
}
