"""One frozen settings object for the service: defaults < file < environment < flags."""

import os
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from modelward.domain import InvalidInputError, SandboxOptions

__all__ = ["Settings", "load_settings", "show_settings"]

_GIB = 1024**3
_CONFIG_VARIABLE = "MODELWARD_CONFIG"


class Settings(BaseSettings):
    """Everything that can be set about the service; environment names start with MODELWARD_."""

    model_config = SettingsConfigDict(
        env_prefix="MODELWARD_",
        env_nested_delimiter="_",
        env_nested_max_split=1,
        enable_decoding=False,
        frozen=True,
        extra="forbid",
    )

    data: Path = Path("modelward-data")
    """Folder of the database, the files and the signing key."""
    host: str = "127.0.0.1"
    """Address to listen on; anything but loopback needs this to be set."""
    port: int = Field(default=8000, ge=0, le=65535)
    """TCP port; 0 picks a free one."""
    public_url: str | None = None
    """Address under which clients reach the service; links are built from it."""
    ssl_certfile: Path | None = None
    """TLS certificate (PEM)."""
    ssl_keyfile: Path | None = None
    """TLS private key (PEM)."""
    ssl_keyfile_password: SecretStr | None = None
    """Password of the TLS private key."""
    key_exchange: bool = True
    """Whether an organisation id alone may fetch an API key (GET /get_aws_api_key)."""
    key_lifetime_seconds: float = Field(default=7 * 86_400, gt=0)
    """Life of an exchanged key after its last use."""
    key_renewal_seconds: float = Field(default=300, ge=0)
    """A key's expiry is moved at most this often, so that reading stays free of writes."""
    keys_per_organisation: int = Field(default=50, ge=1)
    """Live exchanged keys of one organisation; the one used longest ago is dropped."""
    key_exchange_per_second: float = Field(default=5, gt=0)
    """Sustained rate of key exchanges of one organisation."""
    requests_per_second: float = Field(default=15, gt=0)
    """Sustained rate of requests of one key."""
    request_burst: int = Field(default=15, ge=1)
    """Requests that may come at once before the rate counts."""
    upload_lifetime_seconds: float = Field(default=600, gt=0)
    """Life of an upload URL."""
    upload_max_bytes: int = Field(default=2 * _GIB, gt=0)
    """Largest upload of one slot."""
    json_max_bytes: int = Field(default=1024**2, gt=0)
    """Largest JSON body."""
    view_lifetime_seconds: float = Field(default=7 * 86_400, gt=0)
    """Life of the links to the monitor page."""
    max_jobs: int = Field(default=1, ge=1)
    """Jobs that run at the same time; further ones wait."""
    worker_nice: int = Field(default=10, ge=0, le=19)
    """Niceness of job processes, so that the service stays quick beside them."""
    sandbox: SandboxOptions = SandboxOptions()
    """How models that carry code are run; MODELWARD_SANDBOX_INTERPRETERS and the like."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Level of the service's own log."""

    @property
    def tls(self) -> bool:
        """Whether the service itself speaks TLS."""
        return self.ssl_certfile is not None

    @property
    def base_url(self) -> str:
        """Start of every link, without a trailing slash; never taken from a request."""
        if self.public_url:
            return self.public_url.rstrip("/")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInputError(
            f"settings file: expected a readable TOML file at {path}; got {error.strerror}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"settings file {path}: expected TOML; got {error}") from error


def load_settings(config: Path | None = None, **flags: Any) -> Settings:
    """Read the settings.

    A file is read only where it is named, by ``config`` or by the variable MODELWARD_CONFIG;
    nothing is picked up from the working directory.

    Args:
        config: TOML file with any of the fields of :class:`Settings`.
        flags: Values that override file and environment; None means not given.

    Raises:
        InvalidInputError: Unreadable file, unknown field or a value that does not fit.
    """
    named = config or (Path(value) if (value := os.environ.get(_CONFIG_VARIABLE)) else None)
    file_values = _read_file(named) if named else {}

    class _Effective(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, InitSettingsSource(settings_cls, file_values)

    try:
        return _Effective(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}, got {item['input']!r}"
            for item in error.errors()
        )
        raise InvalidInputError(f"settings: {problems}") from error


def show_settings(settings: Settings) -> str:
    """The effective settings as lines of ``name = value``, secrets masked."""
    lines = []
    for name, value in settings.model_dump().items():
        if isinstance(value, dict):
            lines += [f"{name}.{inner} = {_shown(one)}" for inner, one in value.items()]
        else:
            lines.append(f"{name} = {value!s}")
    return "\n".join(lines)


def _shown(value: Any) -> str:
    return ":".join(map(str, value)) if isinstance(value, tuple) else str(value)
