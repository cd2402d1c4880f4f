"""How models that carry code are run: limits, and the interpreters that may run them."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

__all__ = ["SandboxOptions"]

_MIB = 2**20


def _paths(value: Any) -> Any:
    """A list of paths may be written as one text with colons, as PATH is."""
    if isinstance(value, str):
        return [part for part in value.split(":") if part]
    return value


class SandboxOptions(BaseModel):
    """Settings of the sandbox; ``docs/sandbox.md`` says what each limit holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = True
    """False: models that carry code are refused whatever the machine offers."""
    interpreters: Annotated[tuple[Path, ...], BeforeValidator(_paths)] = ()
    """Python interpreters that may run models, the preferred one first; empty: the service's own
    and the TensorFlow environment beside it. In the environment a list with colons."""
    memory_bytes: int = Field(default=4096 * _MIB, ge=256 * _MIB)
    """Memory of all processes of one model together."""
    processes: int = Field(default=128, ge=16, le=4096)
    """Processes and threads of one model together."""
    cpu_seconds: int = Field(default=4 * 3600, ge=1)
    """CPU time of one process of a model, over the whole job."""
    file_bytes: int = Field(default=256 * _MIB, ge=_MIB)
    """Largest file that a model may write, and the size of its scratch folder in memory."""
    load_seconds: float = Field(default=300, gt=0)
    """Wall time until a model is loaded."""
    answer_seconds: float = Field(default=120, gt=0)
    """Wall time of the answer to one batch."""
    threads: int = Field(default=4, ge=1, le=64)
    """Threads that numeric libraries are told to use, at most the processors of the machine."""
    private: tuple[Path, ...] = ()
    """Folders that no sandbox may see, such as the data folder; filled in by the service."""
