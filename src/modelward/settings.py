"""One frozen settings object for the service: defaults < file < environment < flags."""

import difflib
import ipaddress
import json
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from modelward.domain import InvalidInputError, SandboxOptions, Severity
from modelward.netguard import OutboundPolicy

__all__ = ["Settings", "load_settings", "show_settings", "shown_settings"]

_GIB = 1024**3
_CONFIG_VARIABLE = "MODELWARD_CONFIG"
_SIEM_ADDRESSES = ("siem_azure_log_endpoint", "siem_sentinel_endpoint", "siem_splunk_url")
_ADDRESSES = ("public_url", *_SIEM_ADDRESSES)
"""Their values are never repeated in messages: a malformed one may carry a password."""


def _listed(value: Any) -> Any:
    """A list in the environment: with commas, or as JSON."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return json.loads(value)
    return [part.strip() for part in value.split(",") if part.strip()]


Texts = Annotated[tuple[str, ...], BeforeValidator(_listed)]


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

    data: Path = Field(default=Path("modelward-data"), validate_default=True)
    """Folder of the database, the files and the signing key; made absolute."""
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
    job_attempts: int = Field(default=3, ge=1)
    """Starts of a worker for one job; after that many that ended before the job, it fails."""
    job_max_seconds: float = Field(default=86_400, gt=0)
    """Wall time of one job, over all of its attempts; a job above it is ended."""
    job_max_memory_bytes: int | None = Field(default=None, gt=0)
    """Memory of one job's processes together; None: four fifths of the machine's memory."""
    disk_reserve_bytes: int = Field(default=256 * 1024**2, ge=0)
    """Free space in the data folder that is left for reports: with less of it no job is started,
    and no upload is taken that would touch it."""
    queue_max_jobs: int = Field(default=1_000, ge=1)
    """Jobs that may wait; further analysis requests get 429."""
    queue_max_jobs_per_organisation: int = Field(default=100, ge=1)
    """Jobs of one organisation that may wait."""
    checkpoint_seconds: float = Field(default=10, ge=0)
    """Pause between two checkpoints inside a stage; the end of a stage is always kept."""
    shutdown_grace_seconds: float = Field(default=6, ge=0)
    """How long an orderly stop waits for running jobs to reach a checkpoint."""
    retention_days: float | None = Field(default=None, gt=0)
    """Age at which uploads and artifacts of ended jobs are removed; None: never."""
    database_wait_seconds: float = Field(default=10, gt=0)
    """How long a call waits for the database's write lock before it answers 503."""
    worker_nice: int = Field(default=10, ge=0, le=19)
    """Niceness of job processes, so that the service stays quick beside them."""
    key_exchange_role: Literal["viewer", "submitter", "admin"] = "submitter"
    """Role of exchanged keys."""
    address_requests_per_second: float = Field(default=150, gt=0)
    """Sustained rate of requests of one client address, whoever is behind it."""
    address_burst: int = Field(default=300, ge=1)
    """Requests of one address that may come at once before the rate counts."""
    failures_per_second: float = Field(default=0.5, gt=0)
    """Sustained rate of wrong organisation ids, keys and link tokens of one address."""
    failure_burst: int = Field(default=30, ge=1)
    """Failures of one address that may come at once before the rate counts."""
    trusted_proxies: Texts = ()
    """Addresses or networks of proxies whose X-Forwarded-For names the client; none by default."""
    connections_per_address: int = Field(default=128, ge=1)
    """Open connections of one address; those of trusted proxies are not counted."""
    max_connections: int = Field(default=2000, ge=1)
    """Open connections in all; further requests are answered with 503."""
    header_timeout_seconds: float = Field(default=15, gt=0)
    """Time for the header of a request to arrive."""
    header_max_bytes: int = Field(default=16 * 1024, ge=1024, le=1024**2)
    """Largest header of a request, with its request line."""
    body_min_bytes_per_second: float = Field(default=1000, gt=0)
    """Slowest body that is waited for, on average over the window."""
    body_window_seconds: float = Field(default=20, gt=0)
    """Longest time that a body may stand still, or an answer stay unread."""
    disk_free_floor_bytes: int = Field(default=_GIB // 2, ge=0)
    """Free space on the disk of the data folder below which /readyz says no."""
    metrics_token: SecretStr | None = None
    """Bearer token for /metrics; without one only this machine may read them."""
    outbound_allow: Texts = ()
    """Hosts and networks that requests of the service itself may reach although they are private
    (see ``modelward.netguard``)."""
    log_format: Literal["text", "json"] = "text"
    """Form of the service's own log: lines for people, or one JSON object per line."""
    sandbox: SandboxOptions = SandboxOptions()
    """How models that carry code are run; MODELWARD_SANDBOX_INTERPRETERS and the like."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Level of the service's own log."""
    siem_min_severity: Severity = Severity.HIGH
    """Finished jobs are reported to the SIEM from this severity on."""
    siem_azure_log_customer_id: str | None = None
    """Workspace id of Microsoft Sentinel; with siem_azure_log_shared_key."""
    siem_azure_log_shared_key: SecretStr | None = None
    """Primary or secondary key of the workspace, base64."""
    siem_azure_log_endpoint: str | None = None
    """Address instead of the workspace's own."""
    siem_sentinel_endpoint: str | None = None
    """Logs ingestion address of a data collection endpoint or rule; with siem_sentinel_dcr."""
    siem_sentinel_dcr: str | None = None
    """Immutable id of the data collection rule, dcr-..."""
    siem_sentinel_stream: str = "Custom-AIShield_CL"
    """Stream that the rule declares."""
    siem_splunk_url: str | None = None
    """Address of a Splunk HTTP Event Collector; with siem_splunk_authorization."""
    siem_splunk_authorization: SecretStr | None = None
    """Its token, with or without the word Splunk before it."""
    siem_ca_bundle: Path | None = None
    """PEM file of the authorities that SIEMs are trusted by, instead of the system's."""
    siem_allow_http: bool = False
    """Whether events may leave this machine over plain http."""

    @property
    def tls(self) -> bool:
        """Whether the service itself speaks TLS."""
        return self.ssl_certfile is not None

    @property
    def longest_link_life(self) -> float:
        """Seconds that any link lives; for so long a retired signing key is read."""
        return max(self.upload_lifetime_seconds, self.view_lifetime_seconds)

    @field_validator("data")
    @classmethod
    def _absolute(cls, given: Path) -> Path:
        # Job processes and sandboxes work in other folders.
        return given.absolute()

    @field_validator(*_ADDRESSES)
    @classmethod
    def _without_secrets(cls, given: str | None) -> str | None:
        # Addresses are shown and logged. A SIEM's own code says what else it needs.
        if given and any(sign in given for sign in "@?#"):
            raise ValueError(
                "expected an address without user name, password, query and fragment (no @, ? "
                "or #); credentials have settings of their own"
            )
        return given

    @field_validator("public_url")
    @classmethod
    def _reachable(cls, given: str | None) -> str | None:
        if given and not _is_web_address(given):
            raise ValueError(
                "expected an address of http or https with a host, such as "
                "https://host/path; got another"
            )
        return given

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for text in given:
            ipaddress.ip_network(text, strict=False)
        return given

    @field_validator("outbound_allow")
    @classmethod
    def _allowed(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        OutboundPolicy(allow=given)
        return given

    @property
    def base_url(self) -> str:
        """Start of every link, without a trailing slash; never taken from a request."""
        if self.public_url:
            return self.public_url.rstrip("/")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"


def _is_web_address(text: str) -> bool:
    """Whether links can start with it: http(s), a host, and nothing that ends a link."""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    safe = text.isascii() and text.isprintable() and not any(sign in text for sign in ' "<>\\')
    return parts.scheme in ("http", "https") and bool(host) and safe


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
        problems = "; ".join(_problem(item) for item in error.errors())
        # Not chained: the original repeats every value.
        raise InvalidInputError(f"settings: {problems}") from None


def _problem(item: Any) -> str:
    """One thing that is wrong with the settings."""
    name = ".".join(str(part) for part in item["loc"])
    if item["type"] != "extra_forbidden":
        return f"{name}: {item['msg']}{_shown(item)}"
    close = difflib.get_close_matches(name, Settings.model_fields, n=1)
    hint = f"did you mean {close[0]}?" if close else "`modelward serve --show-settings` lists all"
    return f"{name}: expected the name of a setting, this is none; {hint}"


def _shown(problem: Any) -> str:
    """What came instead, unless it is or may be a secret (a misspelt name hides which)."""
    field = Settings.model_fields.get(str(problem["loc"][0])) if problem["loc"] else None
    secret = field is None or "Secret" in str(field.annotation)
    if secret or problem["loc"][0] in _ADDRESSES:
        return ""
    return f", got {problem['input']!r}"


def show_settings(settings: Settings) -> str:
    """The effective settings as lines of ``name = value``, secrets masked."""
    return "\n".join(f"{name} = {value}" for name, value in shown_settings(settings).items())


def shown_settings(settings: Settings) -> dict[str, str]:
    """The effective settings as texts by name, secrets masked; groups as ``group.name``."""
    shown: dict[str, str] = {}
    for name, value in settings.model_dump().items():
        if isinstance(value, dict):
            shown |= {f"{name}.{inner}": _text(one) for inner, one in value.items()}
        else:
            shown[name] = str(value)
    return shown


def _text(value: Any) -> str:
    return ":".join(map(str, value)) if isinstance(value, tuple) else str(value)
