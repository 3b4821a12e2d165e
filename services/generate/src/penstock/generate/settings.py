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
