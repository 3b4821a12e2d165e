"""What comes in is checked, what goes out is made to fit."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from penstock.common.events import Passage, PassageRetrieved, QuestionPlanned
from penstock.common.failures import PermanentError
from penstock.retrieve.search import Mode

MAX_QUERY = 4_000
"""Characters of one search text."""

MAX_SEARCHES = 8
"""Search texts of one planned question."""

MAX_EVENT = 200 * 1024
"""Bytes of `passage.retrieved`; what follows from it (the prompt, the answer) is to fit as well."""

LEAST_PASSAGES = 8
"""The answerer judges by more passages than it shows."""

Query = Annotated[str, Field(min_length=1, max_length=MAX_QUERY)]


class SearchRequest(BaseModel):
    """The body of `POST /v1/search`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    query: Query
    top_k: int = Field(default=10, ge=1, le=50)
    mode: Mode = "hybrid"
    filter: dict[str, Any] = Field(default_factory=dict)
    collection: str = Field(default="default", min_length=1, max_length=200)


def search_request(body: bytes) -> SearchRequest:
    """
    Raises:
        PermanentError: `invalid_request`, naming the field and its limit.
    """
    try:
        request = SearchRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        raise PermanentError(f"{where}: {first['msg']}", type="invalid_request") from error
    checked_query("query", request.query)
    return request


def searches_of(question: QuestionPlanned) -> tuple[str, ...]:
    """The texts to search by: the plan's, or the question itself.

    Raises:
        PermanentError: `invalid_request`, for one that is empty or too long.
    """
    texts = tuple(dict.fromkeys(question.searches or (question.question,)))
    if len(texts) > MAX_SEARCHES:
        raise PermanentError(
            f"searches: the plan has {len(texts)}; {MAX_SEARCHES} at most", type="invalid_request"
        )
    for text in texts:
        checked_query("searches", text)
    return texts


def checked_query(field: str, text: str) -> None:
    if not text.strip() or len(text) > MAX_QUERY or "\0" in text:
        raise PermanentError(
            f"{field}: must hold 1 to {MAX_QUERY} characters, not all white space and no NUL; "
            f"this has {len(text)}",
            type="invalid_request",
        )


def fitting(event: PassageRetrieved) -> PassageRetrieved:
    """The event with as many of its passages, best first, as keep it under `MAX_EVENT` bytes.

    At least one stays: a single chunk is far smaller than that.
    """
    if len(event.model_dump_json().encode()) <= MAX_EVENT:
        return event
    room = MAX_EVENT - len(event.model_copy(update={"passages": ()}).model_dump_json().encode())
    kept: list[Passage] = []
    for passage in event.passages:
        room -= len(passage.model_dump_json().encode()) + 1
        if room < 0 and kept:
            break
        kept.append(passage)
    return event.model_copy(update={"passages": tuple(kept)})
