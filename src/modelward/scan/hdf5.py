"""What an HDF5 file of weights may hold: plain numbers, in the file itself."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from modelward.domain import AssessmentError

__all__ = ["MAX_HDF5_BYTES", "Hdf5Problem", "check_hdf5", "hdf5_problems"]

MAX_HDF5_OBJECTS = 100_000
MAX_HDF5_DEPTH = 64
MAX_HDF5_BYTES = 4 * 2**30
HDF5_ALLOWANCE = 100 * 2**20
MAX_RATIO = 200
_FILTERS = frozenset({1, 2, 3, 32000})
"""deflate, shuffle, fletcher32, lzf; any other would load a plug-in library."""


class Hdf5Problem(NamedTuple):
    """An object that is refused."""

    rule: str
    where: str
    what: str


def check_hdf5(file: Any, length: int) -> None:
    """Refuse links out of the file, plug-in filters and contents larger than the file can hold.

    Args:
        file: An open h5py.File.
        length: Bytes of the file on disk.

    Raises:
        AssessmentError: The message names the object.
    """
    for found in hdf5_problems(file, length):
        if found.where:
            raise AssessmentError(
                f"model: expected plain weights in the HDF5 file; got {found.what} at "
                f"{found.where[:120]!r}"
            )
        raise AssessmentError(f"model: expected weights that fit the file; got {found.what}")


def hdf5_problems(file: Any, length: int) -> Iterator[Hdf5Problem]:
    """Every object of an HDF5 file that is not plain numbers in the file itself.

    Args:
        file: An open h5py.File.
        length: Bytes of the file on disk.
    """
    import h5py

    total, seen = 0, set()
    pending = [(file, "", 0)]
    while pending:
        group, prefix, depth = pending.pop()
        for name in group:
            where = f"{prefix}/{name}"
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                yield Hdf5Problem("MW-H5-001", where, "a link to another object or file")
                continue
            node = group.get(name)
            if node is None:  # h5py's answer for an object that it cannot open
                yield Hdf5Problem("MW-H5-002", where, "an object that cannot be read")
                continue
            address = h5py.h5o.get_info(node.id).addr
            if address in seen:
                continue
            seen.add(address)
            if len(seen) > MAX_HDF5_OBJECTS or depth > MAX_HDF5_DEPTH:
                yield Hdf5Problem("MW-H5-002", where, "more or deeper objects than a model has")
                return
            if isinstance(node, h5py.Group):
                pending.append((node, where, depth + 1))
            elif isinstance(node, h5py.Dataset):
                yield from _dataset_problems(node, where)
                # to read one value, the library unpacks the whole chunk that it is in
                values = max(int(node.size or 0), math.prod(node.chunks or (0,)))
                total += values * int(node.dtype.itemsize)
            else:
                yield Hdf5Problem("MW-H5-002", where, "neither a group nor a dataset")
    if total > min(MAX_HDF5_BYTES, HDF5_ALLOWANCE + MAX_RATIO * length):
        yield Hdf5Problem("MW-H5-002", "", f"{total} bytes declared in a file of {length}")


def _dataset_problems(node: Any, where: str) -> Iterator[Hdf5Problem]:
    plan = node.id.get_create_plist()
    if node.external or plan.get_external_count():
        yield Hdf5Problem("MW-H5-001", where, "data stored in another file")
    if node.is_virtual:
        yield Hdf5Problem("MW-H5-001", where, "a virtual dataset")
    if node.dtype.kind not in "fiub":
        yield Hdf5Problem("MW-H5-002", where, f"values of type {node.dtype}")
    used = {plan.get_filter(i)[0] for i in range(plan.get_nfilters())}
    if not used <= _FILTERS:
        yield Hdf5Problem("MW-H5-002", where, f"the filter {min(used - _FILTERS)}")
