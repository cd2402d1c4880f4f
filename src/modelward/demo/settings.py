"""What a reference run is told."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from modelward.demo.networks import Architecture
from modelward.demo.reporting import SiemTarget
from modelward.domain import Access, AttackType, InvalidParameterError

__all__ = ["DemoSettings"]

_QUERIES, _QUICK_QUERIES = 20_000, 2_000
_MOST_QUERIES = 1_000_000


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """Options of ``modelward demo mnist``."""

    output: Path
    """Folder of this run; everything goes below it."""
    quick: bool = False
    """Small digits, small networks, few queries."""
    queries: int = _QUERIES
    """Query budget of the attack."""
    seed: int = 42
    """Seed of split, training and assessment."""
    access: Access = Access.LABELS
    attack_type: AttackType = AttackType.BLACKBOX
    architecture: Architecture = Architecture.DEFAULT
    tracking_uri: str | None = None
    """MLflow server or store; None: SQLite below ``output``."""
    url: str | None = None
    """A running service; None: one is started on a free loopback port."""
    org_id: str | None = None
    api_key: str | None = None
    keep_serving: bool = False
    """Leave the service up at the end, until interrupted."""
    cache: Path | None = None
    """Cache folder of the data set; None: ``$MODELWARD_CACHE`` or ``~/.cache/modelward``."""
    siem: SiemTarget = field(default_factory=SiemTarget)
    """Where the detections of the last step go; nowhere by default."""

    def __post_init__(self) -> None:
        if not 1 <= self.queries <= _MOST_QUERIES:
            raise InvalidParameterError(
                f"queries: expected 1 to {_MOST_QUERIES:,}, got {self.queries:,}"
            )
        if not 0 <= self.seed < 2**32:
            raise InvalidParameterError(f"seed: expected 0 to 2**32 - 1, got {self.seed}")
        if self.url and not (self.org_id or self.api_key):
            raise InvalidParameterError(
                "url: a running service needs org_id or api_key too; "
                "`modelward org create NAME` prints both"
            )
        if not self.url and (self.org_id or self.api_key):
            raise InvalidParameterError(
                "org_id and api_key belong to a running service: expected url as well"
            )
        if self.url and self.keep_serving:
            raise InvalidParameterError(
                "keep_serving: expected no url, since only a service started here can be kept"
            )

    @staticmethod
    def default_queries(quick: bool) -> int:
        """Query budget where none was given."""
        return _QUICK_QUERIES if quick else _QUERIES

    @staticmethod
    def default_output() -> Path:
        """``runs/mnist-<UTC time>``."""
        return Path("runs") / f"mnist-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"

    @property
    def tracking(self) -> str:
        """Where MLflow keeps the run."""
        return self.tracking_uri or f"sqlite:///{(self.output / 'mlflow.db').resolve()}"
