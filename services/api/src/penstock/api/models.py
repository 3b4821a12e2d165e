"""What clients send. Limits stand here and nowhere else."""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from penstock.common.events import EMBEDDING_MODELS, JsonObject, Turn
from penstock.common.metadata import Metadata, storable

MOST_DOCUMENTS = 1_000
"""Documents in one request: one job, one transaction."""

MOST_METADATA_BYTES = 32 * 1024


def _name(value: str) -> str:
    if not value.isprintable() or value != value.strip():
        raise ValueError("must be printable text without spaces at either end")
    return value


Name = Annotated[str, Field(min_length=1, max_length=512), AfterValidator(_name)]
ShortName = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_name)]


def _tenant(value: str) -> str:
    if "/" in value:
        raise ValueError("must have no slash: the first one ends the tenant in a record's key")
    return value


Tenant = Annotated[ShortName, AfterValidator(_tenant)]


def _known(model: str) -> str:
    if model not in EMBEDDING_MODELS:
        raise ValueError(f"must be one of {', '.join(EMBEDDING_MODELS)}; this is {model!r}")
    return model


EmbeddingModel = Annotated[ShortName, AfterValidator(_known)]


def _readable(value: str) -> str:
    if "\0" in value or not value.strip():
        raise ValueError("must hold more than white space, and no NUL character")
    return value


Words = Annotated[str, Field(min_length=1, max_length=4_000), AfterValidator(_readable)]
"""A question or a query: as long as the searcher takes it."""


OPERATORS = ("in", "gt", "gte", "lt", "lte")


def _filter(value: JsonObject) -> JsonObject:
    """What the searcher takes; refused here, and not after the question has travelled there."""
    for name, wanted in storable(value).items():
        if not name or "\0" in name:
            raise ValueError("every field needs a name without NUL characters")
        operands = list(wanted.items()) if isinstance(wanted, dict) else [("", wanted)]
        if not operands:
            raise ValueError(f"{name}: name an operator, one of {', '.join(OPERATORS)}")
        for operator, operand in operands:
            if operator and operator not in OPERATORS:
                raise ValueError(
                    f"{name}: there is no operator {operator!r}; use {', '.join(OPERATORS)}"
                )
            if isinstance(operand, list) != (operator == "in"):
                raise ValueError(f"{name}: a list belongs to the operator in, and to no other")
            _scalars(name, operand if isinstance(operand, list) else [operand])
    return value


def _scalars(name: str, values: list[Any]) -> None:
    if not values or len(values) > 100:
        raise ValueError(f"{name}: give 1 to 100 values")
    if not all(isinstance(value, str | bool | int | float) for value in values):
        raise ValueError(f"{name}: compare with text, numbers, true and false alone")
    if any(isinstance(value, float) and not math.isfinite(value) for value in values):
        raise ValueError(f"{name}: a number must be finite")
    if any(isinstance(value, str) and "\0" in value for value in values):
        raise ValueError(f"{name}: text must hold no NUL character")


Filter = Annotated[JsonObject, Field(max_length=16), AfterValidator(_filter)]
"""`{"field": value}`, `{"field": {"in": […]}}`, `{"field": {"gte": …, "lt": …}}`; all must hold."""


class Request(BaseModel):
    """A misspelt field is refused, not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NewDocument(Request):
    """One document: its text, or where the text lies."""

    id: Name | None = None
    title: str | None = Field(default=None, max_length=1000)
    text: str | None = Field(default=None, min_length=1)
    uri: str | None = Field(default=None, min_length=1, max_length=4000)
    filename: str | None = Field(default=None, max_length=512)
    metadata: Metadata = Field(default_factory=dict)
    access: tuple[ShortName, ...] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.text is None) == (self.uri is None):
            raise ValueError("give exactly one of text and uri")
        return self


class NewDocuments(Request):
    documents: tuple[NewDocument, ...] = Field(min_length=1, max_length=MOST_DOCUMENTS)
    collection: ShortName = "default"
    callback_url: str | None = Field(default=None, max_length=2000)


class FileFields(Request):
    """The fields beside the files of a multipart request; they hold for all of its files."""

    title: str | None = Field(default=None, max_length=1000)
    collection: ShortName = "default"
    callback_url: str | None = Field(default=None, max_length=2000)
    metadata: Metadata = Field(default_factory=dict)
    access: tuple[ShortName, ...] | None = None


class NewQuestion(Request):
    question: Words
    conversation: tuple[Turn, ...] = Field(default=(), max_length=100)
    top_k: int = Field(default=6, ge=1, le=50)
    strategy: str = "direct"
    filter: Filter = Field(default_factory=dict)
    collection: ShortName = "default"
    deadline_s: float = Field(default=60.0, gt=0, le=3600)
    callback_url: str | None = Field(default=None, max_length=2000)


class Search(Request):
    query: Words
    top_k: int = Field(default=10, ge=1, le=50)
    mode: Literal["hybrid", "dense", "lexical"] = "hybrid"
    filter: Filter = Field(default_factory=dict)
    collection: ShortName = "default"


class Decision(Request):
    """On a quarantined document."""

    decision: Literal["release", "reject"]
    comment: Annotated[str, AfterValidator(_readable)] | None = Field(default=None, max_length=2000)


class NewKey(Request):
    name: ShortName
    roles: tuple[Literal["reader", "publisher", "approver", "operator"], ...] = Field(min_length=1)
    groups: tuple[ShortName, ...] = ()
    tenant: Tenant | None = None
    """Another tenant than the caller's: for a global operator alone."""
    all_tenants: bool = False
    """A global operator; made by one."""


class NewCollection(Request):
    """See `penstock.common.events.CollectionConfigured`."""

    name: ShortName
    model: EmbeddingModel | None = None
    chunk_tokens: int | None = Field(default=None, ge=32, le=512)
    max_chunks: int | None = Field(default=None, ge=1)
    guard_policy: ShortName | None = None


class ProblemBody(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[dict[str, Any]] | None = None


class Progress(BaseModel):
    done: int
    total: int
    stages: dict[str, Any] = Field(default_factory=dict)
    documents: dict[str, int] = Field(default_factory=dict)


class JobBody(BaseModel):
    """A job, with its result once there is one."""

    id: str
    kind: Literal["document", "removal", "question"]
    state: Literal["accepted", "running", "succeeded", "failed", "cancelled"]
    attempt: int
    progress: Progress
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    created_at: str
    finished_at: str | None
    deadline: str | None


class DocumentBody(BaseModel):
    id: str
    collection: str
    state: Literal["pending", "searchable", "quarantined", "failed", "removed"]
    searchable_version: int | None
    latest: dict[str, Any]
    chunks: int | None
    source: dict[str, Any] | None
    created_at: str
    updated_at: str
    searchable_at: str | None
    removed_at: str | None
