"""The Python client and the penstock command."""

from penstock.client.client import Penstock
from penstock.client.errors import ApiError, PenstockError, UnreachableError
from penstock.client.models import Answer, Citation, Document, Event, Job, Passage, SearchResult

__all__ = [
    "Answer",
    "ApiError",
    "Citation",
    "Document",
    "Event",
    "Job",
    "Passage",
    "Penstock",
    "PenstockError",
    "SearchResult",
    "UnreachableError",
]
