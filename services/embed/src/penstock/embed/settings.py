"""Settings of the embed process."""

from pydantic import Field

from penstock.common.settings import ServiceSettings
from penstock.models import DEFAULT_MODEL


class EmbedSettings(ServiceSettings):
    """Beside these, `penstock.models.ModelSettings` says what runs the model and how."""

    embed_model: str = DEFAULT_MODEL
    """The model of this process; a document whose collection has another becomes a dead letter."""
    embed_batch: int = Field(default=16, ge=1)
    """Records embedded together. More fill the cores better, but a small document waits for the
    batch it is in: 16 full records are 1,024 chunks, a quarter of a minute on two cores."""
    embed_concurrency: int = Field(default=2, ge=1)
    """Batches at once, so that the cores do not wait while one is published."""
