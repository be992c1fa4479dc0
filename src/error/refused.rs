//! The answers of the rules for what is asked.

use http::StatusCode;

use super::Row;
use crate::graphql::{Denied, Limit, Refusal, Unknown, Unreadable};

/// What a refusal comes to.
pub(super) fn row(refusal: Refusal) -> Row {
    match refusal {
        Refusal::Unreadable(what) => Row::client(
            StatusCode::BAD_REQUEST,
            "GRAPHQL_UNREADABLE",
            "http_request_error",
            unreadable(what),
        ),
        Refusal::Denied(what) => Row::client(
            StatusCode::FORBIDDEN,
            "OPERATION_DENIED",
            "http_request_denied",
            match what {
                Denied::Mutation => {
                    "This proxy does not let this mutation pass; graphql.mutations can allow it."
                }
                Denied::Introspection => {
                    "This proxy does not let introspection pass; graphql.introspection can allow it."
                }
                Denied::Rest => {
                    "This proxy lets pass what its rules can judge only; graphql.rest can allow the path."
                }
            },
        ),
        Refusal::Exceeded(limit) => Row::client(
            StatusCode::BAD_REQUEST,
            "LIMIT_EXCEEDED",
            "http_request_denied",
            match limit {
                Limit::Tokens => "The document has more tokens than graphql.max_tokens allows.",
                Limit::Nesting => "The document is nested deeper than the rules of this proxy read.",
                Limit::Depth => "The operation is nested deeper than graphql.max_depth allows.",
                Limit::Aliases => "The operation has more aliases than graphql.max_aliases allows.",
                Limit::RootFields => {
                    "The operation has more root fields than graphql.max_root_fields allows."
                }
                Limit::Batch => "The batch has more requests than the rules of this proxy read.",
            },
        ),
        Refusal::Unknown(what) => Row::client(
            StatusCode::BAD_REQUEST,
            "DOCUMENT_UNKNOWN",
            "http_request_denied",
            match what {
                Unknown::Missing => {
                    "The request has no document, and graphql.trusted_documents has none for its hash."
                }
                Unknown::Untrusted => "The document is not one of graphql.trusted_documents.",
            },
        ),
    }
}

fn unreadable(what: Unreadable) -> &'static str {
    match what {
        Unreadable::Encoding => {
            "The body has a content encoding, which the rules of this proxy do not read; send it as it is."
        }
        Unreadable::ContentType => "The rules of this proxy read application/json in UTF-8 only.",
        Unreadable::Parameters => "A POST has query parameters, which the rules of this proxy do not take.",
        Unreadable::Body => "A GET has a body, which the rules of this proxy do not take.",
        Unreadable::Envelope => "The request is no GraphQL over HTTP, or can be read in two ways.",
        Unreadable::Document => {
            "The document is no GraphQL of operations and fragments, or can be read in two ways."
        }
        Unreadable::OperationName => "The document has no operation of the name that operationName tells.",
    }
}
