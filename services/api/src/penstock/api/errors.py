"""Every error that the API answers with: RFC 9457 problems, one table of types.

`docs/errors.md` is written from it by `make contracts`, and `make check` compares them.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ErrorType:
    """One type of problem: its HTTP status, what it means, and what to do about it."""

    name: str
    status: int
    meaning: str
    remedy: str


TYPES = {
    error.name: error
    for error in (
        ErrorType("invalid", 422, "A field is missing, malformed or outside its limits; `errors` "
                  "names each.", "Correct the named field."),
        ErrorType("unsupported_strategy", 422, "The question names a planner strategy that this "
                  "version does not have.", "Leave `strategy` out or set it to `direct`."),
        ErrorType("unknown_collection", 422, "The collection is not configured for the tenant.",
                  "Create it with `POST /v1/collections`, or leave the field out."),
        ErrorType("idempotency_key_reused", 422, "The `Idempotency-Key` was used with another "
                  "request.", "Use a new key for a new request."),
        ErrorType("callback_not_allowed", 422, "The `callback_url` does not lie under an address "
                  "that the operator allows.", "Ask the operator for `PENSTOCK_WEBHOOK_PREFIXES`."),
        ErrorType("event_too_large", 413, "What was sent makes an event of more than 256 KiB.",
                  "Shorten the metadata or the conversation; documents may be long."),
        ErrorType("too_large", 413, "A document or a request body is over the limit.",
                  "Split it, or raise `PENSTOCK_MAX_DOCUMENT_BYTES`."),
        ErrorType("unsupported_media_type", 415, "The body is neither JSON nor multipart.",
                  "Send `application/json`, or `multipart/form-data` with `files=@…`."),
        ErrorType("unauthenticated", 401, "The API key is missing, unknown or revoked.",
                  "Send `Authorization: Bearer pk_<id>_<secret>`."),
        ErrorType("forbidden", 403, "The key lacks the role that this call needs.",
                  "Use a key with that role; an operator makes one with `POST /v1/keys`."),
        ErrorType("not_found", 404, "There is no such thing, or not for this key.",
                  "Check the id, and the tenant of the key."),
        ErrorType("method_not_allowed", 405, "The address exists, but not with this method.",
                  "See `/docs` for the calls that there are."),
        ErrorType("not_acceptable_now", 409, "What was asked is not possible in the present "
                  "state; the detail says why.", "Read the state first, then decide."),
        ErrorType("unavailable", 503, "A server or service behind the API does not answer.",
                  "Try again; `/readyz` says what is away."),
        ErrorType("internal", 500, "A bug. It has been logged.",
                  "Report it with the time and the `traceparent` of the response."),
        ErrorType("invalid_filter", 422, "The filter has an operator or a value that the searcher "
                  "does not take.", "Use values, `in`, `gt`, `gte`, `lt`, `lte`."),
        ErrorType("invalid_request", 422, "The searcher does not take the request.",
                  "Correct the named field."),
        ErrorType("document_not_found", 404, "There is no searchable version that this key may "
                  "read.", "Look at the document's state with `GET /v1/documents/{id}`."),
        ErrorType("quarantine_not_found", 404, "No document with this id is in quarantine.",
                  "Take ids from `GET /v1/quarantine`."),
        ErrorType("invalid_query", 400, "A parameter of the quarantine's list is malformed.",
                  "See the detail."),
        ErrorType("invalid_decision", 422, "A decision is `release` or `reject`, with a comment "
                  "of at most 2,000 characters.", "Send one of them."),
        ErrorType("already_decided", 409, "Somebody has decided about this document.",
                  "See the detail: who, and when."),
        ErrorType("not_ready", 409, "The document has not been screened to its end.",
                  "Wait a moment, then decide."),
        ErrorType("role_missing", 403, "The key lacks the role that an inner door needs.",
                  "Use an approver's or an operator's key."),
        ErrorType("try_again", 503, "The guard is starting or stopping.", "Try again."),
        ErrorType("service_token_missing", 401, "An inner door was called without a service "
                  "token.", "Call the API instead."),
        ErrorType("service_token_invalid", 401, "An inner door was called with a token that does "
                  "not hold.", "Give every service the same `PENSTOCK_SERVICE_SECRET`."),
    )
}  # fmt: skip

JOB_ERRORS = {
    "dead_lettered": "A stage could not handle it; `message` names the stage and the dead letter. "
    "Repair the cause, then `penstock dlq redrive`.",
    "expired": "Not finished by its deadline, or a document job without progress for a day.",
    "superseded": "A newer version of the document has overtaken it.",
    "rejected": "Quarantined by the guard, then rejected by a person.",
    "refused": "The guard does not admit the question; `message` says why.",
    "failed": "A stage failed without giving a type.",
}
"""Types of a job's `error`; a document that cannot be read brings its own type from ingest."""


class Problem(Exception):  # noqa: N818  (RFC 9457's own word)
    """An error for the client; `type` is one of `TYPES`."""

    def __init__(
        self,
        type: str,  # noqa: A002  (RFC 9457's own word)
        detail: str,
        *,
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(detail)
        self.error = TYPES[type]
        self.detail = detail
        self.headers = headers
        self.more = more


def table() -> str:
    """The documentation's page of errors."""
    lines = [
        "# Errors",
        "",
        "Every error is a problem as in RFC 9457 (`application/problem+json`): `type` ends in one "
        "of the names below, `detail` says what is wrong here and what to do.",
        "",
        "| type | status | meaning | what to do |",
        "|---|---|---|---|",
        *(f"| `{e.name}` | {e.status} | {e.meaning} | {e.remedy} |" for e in TYPES.values()),
        "",
        "## A job's error",
        "",
        "A job that fails carries `error.type` and `error.message`. Beside those that ingest gives "
        "for a file it cannot read:",
        "",
        "| type | meaning |",
        "|---|---|",
        *(f"| `{name}` | {meaning} |" for name, meaning in JOB_ERRORS.items()),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
