//! The description of the API (OpenAPI 3.1): the types describe themselves, and one table says
//! where they go.

use api::{
    AccountDenial, AccountReport, AccountRole, AccountWhose, Acknowledgement, Authorities,
    Authority, BatchItem, BatchOutcome, BatchResult, Because, Bot, BotApplied, BotIdentity,
    BotInstance, BotInstanceState, BotJoinRequest, BotRenewRequest, BotRole, BotSpec, BotStatus,
    BotToken, BotTokenRequest, Bots, Card, CardAttestation, CardCertificate, CardChanged, CardKey,
    CardQuery, CardRecord, CardState, CardTaken, Cards, CertificatePage, CertificateRecord,
    Challenge, ConsumeRequest, CutConnection, Decision, DirectoryAnswer, Effect, EndCause, Host,
    HostEffect, HostMode, HostRequest, Hosts, IDEMPOTENCY_KEY, Issued, JoinMethod, JoinProof,
    JoinRequest, JoinToken, Joined, ListQuery, Lock, LockEffect, LockPreview, LockRequest, Locked,
    Locks, Login, LoginReport, LogonAccount, LogonSource, NDJSON, Operation, PROBLEM_JSON,
    PinnedAccount, Problem, ProblemKind, RevocationBundle, RevocationReason, RevokeRequest,
    Revoked, Session, SessionEnded, SessionQuery, SessionRequest, SessionState, Sessions,
    SignRequest, Signed, SmartcardRequest, SshHostRequest, SshUserRequest, UnlockRequest,
    X509Request,
};
use utoipa::{
    OpenApi,
    openapi::{
        self, Content, HttpMethod, Ref, Required, Response,
        path::{OperationBuilder, Parameter, ParameterBuilder, ParameterIn},
        request_body::RequestBodyBuilder,
        response::ResponseBuilder,
        schema::{ObjectBuilder, Type},
    },
};

/// The whole document.
pub(super) fn document() -> openapi::OpenApi {
    let mut document = Document::openapi();
    for path in PATHS {
        let method = if path.posted { HttpMethod::Post } else { HttpMethod::Get };
        document.paths.add_path_operation(path.path, vec![method], path.operation());
    }
    document
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Chancery",
        description = "Signs what its rules allow. /v1 is on the listener that asks for a client \
                       certificate, the rest on the public one. Errors are problems (RFC 9457)."
    ),
    components(schemas(
        AccountDenial,
        AccountReport,
        AccountRole,
        AccountWhose,
        Acknowledgement,
        Authorities,
        Authority,
        BatchItem,
        BatchOutcome,
        BatchResult,
        Because,
        Bot,
        BotApplied,
        BotIdentity,
        BotInstance,
        BotInstanceState,
        BotJoinRequest,
        BotRenewRequest,
        BotRole,
        BotSpec,
        BotStatus,
        BotToken,
        BotTokenRequest,
        Bots,
        Card,
        CardAttestation,
        CardCertificate,
        CardChanged,
        CardKey,
        CardQuery,
        CardRecord,
        CardState,
        CardTaken,
        Cards,
        CertificatePage,
        CertificateRecord,
        Challenge,
        ConsumeRequest,
        CutConnection,
        Decision,
        DirectoryAnswer,
        Effect,
        EndCause,
        Host,
        HostEffect,
        HostMode,
        HostRequest,
        Hosts,
        Issued,
        JoinMethod,
        JoinProof,
        JoinRequest,
        JoinToken,
        Joined,
        ListQuery,
        Lock,
        LockEffect,
        LockPreview,
        LockRequest,
        Locked,
        Locks,
        Login,
        LoginReport,
        LogonAccount,
        LogonSource,
        Operation,
        PinnedAccount,
        Problem,
        RevocationBundle,
        RevocationReason,
        RevokeRequest,
        Revoked,
        Session,
        SessionEnded,
        SessionQuery,
        SessionRequest,
        SessionState,
        Sessions,
        SignRequest,
        Signed,
        SmartcardRequest,
        SshHostRequest,
        SshUserRequest,
        UnlockRequest,
        X509Request
    ))
)]
struct Document;

/// One method of one path.
struct Path {
    path: &'static str,
    /// By POST, not by GET.
    posted: bool,
    /// Whether asking again with the same idempotency key gives the same.
    repeatable: bool,
    summary: &'static str,
    /// Media type and schema of the body.
    request: Option<(&'static str, &'static str)>,
    status: &'static str,
    /// Media type and schema of the answer; without a schema it is text or bytes.
    answer: (&'static str, Option<&'static str>),
    problems: &'static [ProblemKind],
}

const JSON: &str = "application/json";
const PEM: &str = "application/x-pem-file";

const ABSENT: &[ProblemKind] = &[ProblemKind::MethodNotAllowed, ProblemKind::NotFound];

const READING: &[ProblemKind] = &[
    ProblemKind::BadRequest,
    ProblemKind::Denied,
    ProblemKind::Internal,
    ProblemKind::MethodNotAllowed,
    ProblemKind::NotFound,
    ProblemKind::TooManyRequests,
    ProblemKind::Unavailable,
];

const PATHS: &[Path] = &[
    operation("/v1/issue/smartcard", "Issues a smart-card logon certificate", "SmartcardRequest"),
    operation("/v1/issue/ssh-host", "Issues an SSH host certificate", "SshHostRequest"),
    operation("/v1/issue/ssh-user", "Issues an SSH user certificate", "SshUserRequest"),
    operation("/v1/issue/x509", "Issues a TLS or KDC certificate", "X509Request"),
    Path {
        status: "200",
        answer: (JSON, Some("Signed")),
        ..operation("/v1/sign", "Signs a digest with a key that is no CA's", "SignRequest")
    },
    Path {
        request: Some((NDJSON, "BatchItem")),
        repeatable: false,
        status: "200",
        answer: (NDJSON, Some("BatchResult")),
        ..operation("/v1/batch", "Performs each line; answers in their order", "BatchItem")
    },
    command("/v1/sessions", "Asks for a session", "SessionRequest", "Session"),
    command("/v1/sessions/{id}/approve", "Approves a session", "Because", "Session"),
    command("/v1/sessions/{id}/deny", "Denies a session", "Because", "Session"),
    command("/v1/sessions/{id}/end", "Ends a session", "Because", "SessionEnded"),
    command("/v1/locks", "Sets a lock", "LockRequest", "Locked"),
    command("/v1/locks/preview", "What a lock would hit", "LockPreview", "LockEffect"),
    command("/v1/locks/remove", "Removes the locks on a target", "UnlockRequest", "Locks"),
    command("/v1/revoke", "Revokes a certificate", "RevokeRequest", "Revoked"),
    Path {
        posted: true,
        ..reading(
            "/v1/sessions/{id}/heartbeat",
            "Says that a session is still needed",
            (JSON, Some("Session")),
        )
    },
    reading(
        "/v1/directory/accounts/{upn}",
        "What directory and rules say of an account",
        (JSON, Some("AccountReport")),
    ),
    reading("/v1/locks", "The locks in force", (JSON, Some("Locks"))),
    reading("/v1/sessions", "Lists sessions", (JSON, Some("Sessions"))),
    reading("/v1/sessions/{id}", "One session", (JSON, Some("Session"))),
    reading("/v1/cards", "Lists cards that have attested a key", (JSON, Some("Cards"))),
    reading("/v1/cards/{serial}", "One card", (JSON, Some("CardRecord"))),
    command(
        "/v1/cards/{serial}/release",
        "Takes a card from its holder, so that it may become another's",
        "Because",
        "CardChanged",
    ),
    command("/v1/cards/{serial}/remove", "Takes a card away for good", "Because", "CardChanged"),
    reading("/v1/authorities", "The authorities", (JSON, Some("Authorities"))),
    reading("/v1/certificates", "Lists certificates", (JSON, Some("CertificatePage"))),
    reading(
        "/v1/certificates/{issuer}/{serial}",
        "One certificate",
        (JSON, Some("CertificateRecord")),
    ),
    Path {
        status: "201",
        ..command("/v1/hosts", "Makes a token with which a host joins", "HostRequest", "JoinToken")
    },
    command("/v1/hosts/{name}/remove", "Forgets a host, revokes what it has", "Because", "Host"),
    Path {
        status: "201",
        ..command("/v1/join", "Joins, without a client certificate", "JoinRequest", "Joined")
    },
    Path {
        posted: true,
        status: "201",
        ..reading(
            "/v1/join/challenge",
            "What is to be signed to join as a bot, without a client certificate",
            (JSON, Some("Challenge")),
        )
    },
    command("/v1/bots", "Adds a bot, or changes it", "BotSpec", "BotApplied"),
    command("/v1/bots/{name}/remove", "Forgets a bot, revokes what it has", "Because", "Bot"),
    Path {
        status: "201",
        ..command(
            "/v1/bots/{name}/token",
            "Makes a token with which a bot joins",
            "BotTokenRequest",
            "BotToken",
        )
    },
    Path {
        status: "201",
        ..command(
            "/v1/join/bot",
            "Joins as a bot, without a client certificate",
            "BotJoinRequest",
            "BotIdentity",
        )
    },
    Path {
        status: "201",
        ..command(
            "/v1/bot/renew",
            "Renews the client certificate of a bot's instance",
            "BotRenewRequest",
            "BotIdentity",
        )
    },
    reading("/v1/bot", "How the asking instance of a bot stands", (JSON, Some("BotStatus"))),
    reading("/v1/bots", "The bots", (JSON, Some("Bots"))),
    reading("/v1/bots/{name}", "One bot", (JSON, Some("Bot"))),
    silent("/v1/logins", "Tells who came to a host, and who went", "LoginReport"),
    silent("/v1/consume", "Uses up a one-use certificate", "ConsumeRequest"),
    silent("/v1/revocations/acknowledge", "Says what a host has in force", "Acknowledgement"),
    reading("/v1/hosts", "The hosts", (JSON, Some("Hosts"))),
    reading("/v1/effects/{change}", "Where a change is in force", (JSON, Some("Effect"))),
    reading(
        "/v1/revocations",
        "What was taken back, once it is news; 204 if there is none in time",
        (JSON, Some("RevocationBundle")),
    ),
    public("/authorities", "The authorities", (JSON, Some("Authorities"))),
    public("/authorities/{name}.chain.pem", "CA certificates up to the root", (PEM, None)),
    public("/authorities/{name}.der", "A CA certificate", ("application/pkix-cert", None)),
    public("/authorities/{name}.pem", "A CA certificate, or a raw key's public half", (PEM, None)),
    public("/authorities/{name}.pub", "An SSH CA's public key line", ("text/plain", None)),
    public("/crl/{issuer}.crl", "A revocation list", ("application/pkix-crl", None)),
    public("/krl", "The KRL for sshd", ("application/octet-stream", None)),
    public("/revocations", "The KRL, signed", (JSON, Some("RevocationBundle"))),
    public("/healthz", "Whether the process answers", ("text/plain", None)),
    public("/metrics", "Metrics for Prometheus", ("text/plain", None)),
    public(
        "/ocsp/{issuer}/{request}",
        "Whether a certificate is good; POST to /ocsp/{issuer} does the same",
        ("application/ocsp-response", None),
    ),
    public("/openapi.json", "This document", (JSON, None)),
    public("/readyz", "Whether it can sign; 503 with the reasons if not", (JSON, None)),
];

const fn operation(path: &'static str, summary: &'static str, request: &'static str) -> Path {
    Path {
        path,
        posted: true,
        repeatable: true,
        summary,
        request: Some((JSON, request)),
        status: "201",
        answer: (JSON, Some("Issued")),
        problems: ProblemKind::ALL,
    }
}

const fn command(
    path: &'static str,
    summary: &'static str,
    request: &'static str,
    answer: &'static str,
) -> Path {
    Path {
        repeatable: false,
        status: "200",
        answer: (JSON, Some(answer)),
        ..operation(path, summary, request)
    }
}

const fn silent(path: &'static str, summary: &'static str, request: &'static str) -> Path {
    Path { status: "204", answer: (JSON, None), ..command(path, summary, request, "") }
}

const fn reading(
    path: &'static str,
    summary: &'static str,
    answer: (&'static str, Option<&'static str>),
) -> Path {
    Path {
        path,
        posted: false,
        repeatable: false,
        summary,
        request: None,
        status: "200",
        answer,
        problems: READING,
    }
}

const fn public(
    path: &'static str,
    summary: &'static str,
    answer: (&'static str, Option<&'static str>),
) -> Path {
    Path { problems: ABSENT, ..reading(path, summary, answer) }
}

impl Path {
    fn operation(&self) -> OperationBuilder {
        let content = Content::new(self.answer.1.map(Ref::from_schema_name));
        let answer =
            ResponseBuilder::new().description(self.summary).content(self.answer.0, content);
        let mut operation = OperationBuilder::new()
            .summary(Some(self.summary))
            .response(self.status, answer)
            .parameters(Some(self.parameters()));
        if let Some((media_type, schema)) = self.request {
            let content = Content::new(Some(Ref::from_schema_name(schema)));
            let body = RequestBodyBuilder::new()
                .content(media_type, content)
                .required(Some(Required::True))
                .build();
            operation = operation.request_body(Some(body));
        }
        for (status, titles) in statuses(self.problems) {
            operation = operation.response(status, problem(&titles));
        }
        operation
    }

    fn parameters(&self) -> Vec<Parameter> {
        let mut parameters: Vec<_> = self
            .path
            .split('{')
            .skip(1)
            .filter_map(|rest| rest.split_once('}'))
            .map(|(name, _)| parameter(name, ParameterIn::Path))
            .collect();
        if self.repeatable {
            parameters.push(parameter(IDEMPOTENCY_KEY, ParameterIn::Header));
        }
        let fields: &[&str] = match (self.path, self.posted) {
            // Of ListQuery, CardQuery, EffectQuery, BundleQuery and SessionQuery.
            ("/v1/certificates", _) => &["after", "caller", "issuer", "kind", "limit"],
            ("/v1/cards", _) => &["after", "holder", "limit", "state"],
            ("/v1/effects/{change}", _) => &["wait"],
            ("/v1/revocations", _) => &["after", "wait"],
            ("/v1/sessions", false) => &["limit", "requester", "role", "state"],
            _ => &[],
        };
        parameters.extend(fields.iter().map(|name| parameter(name, ParameterIn::Query)));
        parameters
    }
}

fn parameter(name: &str, place: ParameterIn) -> Parameter {
    let required =
        if matches!(place, ParameterIn::Path) { Required::True } else { Required::False };
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(required)
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .build()
}

/// One response for each status: several kinds share one.
fn statuses(kinds: &[ProblemKind]) -> std::collections::BTreeMap<String, String> {
    let mut statuses = std::collections::BTreeMap::<String, String>::new();
    for kind in kinds {
        let titles = statuses.entry(kind.status().to_string()).or_default();
        if !titles.is_empty() {
            titles.push_str("; ");
        }
        titles.push_str(kind.title());
    }
    statuses
}

fn problem(titles: &str) -> Response {
    let content = Content::new(Some(Ref::from_schema_name("Problem")));
    ResponseBuilder::new().description(titles).content(PROBLEM_JSON, content).build()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn every_schema_that_is_named_is_described() {
        let document = serde_json::to_value(document()).unwrap();
        let described: BTreeSet<_> =
            document["components"]["schemas"].as_object().unwrap().keys().cloned().collect();
        let mut named = BTreeSet::new();
        references(&document, &mut named);
        assert!(named.is_subset(&described), "{:?}", named.difference(&described));
        assert!(named.contains("SshUserRequest") && named.contains("Problem"));
        let operations = document["paths"].as_object().unwrap().values();
        let operations: usize = operations.map(|path| path.as_object().unwrap().len()).sum();
        assert_eq!(operations, PATHS.len());
    }

    #[test]
    fn the_lists_take_the_fields_of_their_queries() {
        let document = serde_json::to_value(document()).unwrap();
        for (path, query) in [("/v1/cards", "CardQuery"), ("/v1/certificates", "ListQuery")] {
            let fields = document["components"]["schemas"][query]["properties"].as_object();
            let parameters = document["paths"][path]["get"]["parameters"].as_array();
            let named = parameters.unwrap().iter().map(|it| it["name"].as_str().unwrap());
            assert!(named.eq(fields.unwrap().keys().map(String::as_str).collect::<BTreeSet<_>>()));
        }
    }

    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            Value::Object(fields) => {
                for (name, value) in fields {
                    if let (true, Some(path)) = (name == "$ref", value.as_str()) {
                        found.insert(path.rsplit('/').next().unwrap().to_owned());
                    }
                    references(value, found);
                }
            }
            _ => {}
        }
    }
}
