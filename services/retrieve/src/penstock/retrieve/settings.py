"""What the processes of this package are told: the database besides what every process needs."""

from penstock.common.settings import DatabaseSettings


class RetrieveSettings(DatabaseSettings):
    """Both processes use the same role; the searcher drops to `retrieve_request` for requests."""
