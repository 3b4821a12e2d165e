"""Questions and searches."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from penstock.api import jobs
from penstock.api.access import Reader
from penstock.api.collections import require
from penstock.api.errors import Problem
from penstock.api.jobs import Once
from penstock.api.models import JobBody, NewQuestion, Search
from penstock.api.proxy import pass_on
from penstock.api.resources import Resources, resources
from penstock.api.routes.answering import IdempotencyKey, Prefer, answer_job
from penstock.api.webhooks import check_callback

router = APIRouter(tags=["questions"])
Shared = Annotated[Resources, Depends(resources)]

STRATEGIES = ("direct",)


@router.post("/v1/questions", status_code=202, response_model=JobBody)
async def ask(
    question: NewQuestion,
    caller: Reader,
    shared: Shared,
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> Response:
    """Ask. The job's result is the answer with its citations, or an abstention."""
    if question.strategy not in STRATEGIES:
        raise Problem(
            "unsupported_strategy",
            f"strategy: {question.strategy!r} is not available; use {' or '.join(STRATEGIES)}",
        )
    check_callback(shared.settings, question.callback_url)
    await require(shared, caller.tenant, question.collection)
    once = Once.of(idempotency_key, question.model_dump_json().encode())
    job = await jobs.ask(shared, caller, question, once)
    return await answer_job(shared, caller, job, prefer)


@router.post("/v1/search")
async def search(query: Search, caller: Reader, shared: Shared) -> Response:
    """Passages for a query, without an answer."""
    return await pass_on(
        shared, caller, "searcher", "POST", ("v1", "search"), body=query.model_dump_json().encode()
    )
