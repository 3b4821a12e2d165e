"""Settings of `penstock bootstrap database`."""

from pydantic import SecretStr
from pydantic_settings import BaseSettings

from penstock.common.bootstrap.database import SCHEMAS
from penstock.common.settings import CONFIG


class AdminSettings(BaseSettings):
    """A superuser's address and the passwords that the services' roles are given."""

    model_config = CONFIG

    admin_database: SecretStr
    """postgresql://superuser:password@host:port/postgres; used by this command alone."""
    api_password: SecretStr
    """Of the role `penstock_api`."""
    ingest_password: SecretStr
    """Of the role `penstock_ingest`."""
    guard_password: SecretStr
    """Of the role `penstock_guard`."""
    retrieve_password: SecretStr
    """Of the role `penstock_retrieve`."""
    generate_password: SecretStr
    """Of the role `penstock_generate`."""

    def passwords(self) -> dict[str, str]:
        """By schema."""
        named = {schema: getattr(self, f"{schema}_password") for schema in SCHEMAS}
        return {schema: secret.get_secret_value() for schema, secret in named.items()}
