"""What the answerer is told, besides what every process needs."""

from pydantic import Field, SecretStr

from penstock.common.settings import DatabaseSettings


class GenerateSettings(DatabaseSettings):
    chat_url: str | None = None
    """Base URL of an OpenAI-compatible endpoint, …/v1; absent: answers are quotes, no model."""
    chat_model: str | None = None
    """The model's name there; required with `PENSTOCK_CHAT_URL`."""
    chat_key: SecretStr | None = None
    """Sent as a bearer token."""
    chat_timeout_s: float = Field(default=60.0, gt=0)
    """Longest silence of the model, seconds."""
    answer_deadline_s: float = Field(default=120.0, gt=0)
    """For questions that bring no deadline of their own: how long a model is waited for."""
    sentence_wait_ms: float = Field(default=20.0, ge=0)
    """So long the first sentence is held back: an answer that is whole by then goes out once. 0
    sends every sentence ahead."""
