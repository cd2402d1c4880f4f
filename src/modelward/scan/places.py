"""What the place of a file in an archive or folder says about it: raw tensors have no format."""

import re
from collections.abc import Iterable

__all__ = ["bad_name", "roles"]

MAX_NAME = 1024
MAX_FOLDERS = 20
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def roles(names: Iterable[str]) -> dict[str, str]:
    """Roles of the members whose content cannot tell what they are.

    Args:
        names: Every file of one archive or folder, with forward slashes.

    Returns:
        ``tensor`` for storages of PyTorch and shards of TensorFlow checkpoints, ``torchscript``
        for the program text of a TorchScript archive, ``protobuf`` for TensorFlow's fingerprint,
        each only where the file that goes with it is there.
    """
    known = set(names)
    found: dict[str, str] = {}
    for name in known:
        parts = name.split("/")
        if len(name) > MAX_NAME:
            continue
        for depth in range(min(len(parts), MAX_FOLDERS)):
            role = _role("/".join(parts[:depth]), "/".join(parts[depth:]), known)
            if role:
                found[name] = role
    return found


def _role(folder: str, rest: str, known: set[str]) -> str | None:
    """Role of a file by what lies in one of the folders above it."""
    base = f"{folder}/" if folder else ""
    shard = re.fullmatch(r"(.+)\.data-\d{5}-of-\d{5}", rest)
    if shard and f"{base}{shard[1]}.index" in known:
        return "tensor"
    if re.fullmatch(r"(data|constants)/\d+", rest) and f"{base}data.pkl" in known:
        return "tensor"
    if f"{base}constants.pkl" in known:
        if re.fullmatch(r"code/.+\.py", rest):
            return "torchscript"
        if rest.endswith((".pkl", ".debug_pkl")):
            return "torchscript_pickle"
    if f"{base}saved_model.pb" in known and rest == "fingerprint.pb":
        return "protobuf"
    return None


def bad_name(name: str) -> str | None:
    """Why unpacking a member of this name could leave the folder; None: it cannot."""
    if _CONTROL.search(name):
        return "control characters"
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name):
        return "an absolute path"
    if ".." in re.split(r"[/\\]", name):
        return "a part that leads upwards"
    return None
