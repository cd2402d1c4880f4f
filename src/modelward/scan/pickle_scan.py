"""Pickles: all streams of a file, what loaders read between them, and pickles inside pickles."""

from typing import IO

from modelward.scan.blob import Blob
from modelward.scan.joblib_arrays import JoblibReader
from modelward.scan.limits import UnreadableError
from modelward.scan.pickle_stream import MAX_RAW, Stream
from modelward.scan.pickle_values import Global, Group, Persistent, Raw
from modelward.scan.pickle_walk import walk
from modelward.scan.report import Level
from modelward.scan.scanner import Item, Scanner
from modelward.scan.second_opinion import ask_fickling
from modelward.scan.tensors import look_inside

__all__ = ["read", "report_stream"]

TORCH_MAGIC = 0x1950A86A20F9469CFC6C
MAX_STREAMS = 100_000
_STORAGE_BYTES = {
    "Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1,
    "Byte": 1, "Bool": 1, "ComplexDouble": 16, "ComplexFloat": 8, "QInt8": 1, "QUInt8": 1,
    "QInt32": 4, "Untyped": 1, "Typed": 4,
}  # fmt: skip


def read(scanner: Scanner, item: Item) -> None:
    """Walk every stream to the end of the file; a rest that is none is an error."""
    script = item.role == "torchscript_pickle"
    with item.blob.open() as file:
        streams: list[Stream] = []
        arrays = JoblibReader(scanner, item)
        while file.tell() < item.blob.size:
            if len(streams) >= MAX_STREAMS:
                raise UnreadableError(f"more than {MAX_STREAMS} pickles in a row")
            stream = walk(file, scanner.budget, arrays.after_build)
            streams.append(stream)
            report_stream(scanner, item, stream, script=script)
            if stream.broken:
                item.errors.append(f"the pickle breaks: {stream.broken}")
                break
            if len(streams) == 5 and streams[0].value == TORCH_MAGIC:
                _torch_storages(item, streams, file)
                break
        if arrays.skipped:
            _as_plain_pickle(scanner, item, file, arrays.objects > 0)
    if item.packages >= {"pathlib", "sklearn"}:
        # a stacking model calls methods by names out of its state: of a path, write_bytes
        reason = (
            "a path in a scikit-learn model, which calls methods of what it holds by their names"
        )
        scanner.finding(item, "MW-PKL-004", reason, level=Level.MEDIUM)


def report_stream(scanner: Scanner, item: Item, stream: Stream, *, script: bool = False) -> None:
    """Turn what one stream does into findings.

    Args:
        scanner: Takes the findings.
        item: The file.
        stream: From ``walk``.
        script: The pickle is part of a TorchScript archive, whose own classes it names; no Python
            unpickler reads it.
    """
    worst: Level | None = None
    item.packages |= {module.partition(".")[0] for module, _ in stream.globals}
    for key, found in stream.globals.items():
        if found.level is None or (script and found.module.startswith("__torch__")):
            continue
        level = found.level
        rule, reason = "MW-PKL-001", f"it names {found.full!r:.200}, which can do harm"
        if level is not Level.CRITICAL:
            called = key in stream.called
            level = Level.HIGH if called else level
            does = "calls" if called else "names"
            rule, reason = "MW-PKL-002", f"it {does} {found.full!r:.200}, which is not known"
        worst = max(worst or level, level)
        scanner.finding(item, rule, reason, level=level, offset=found.offset, where=found.opcode)
    for alarm in stream.alarms:
        worst = max(worst or alarm.level, alarm.level)
        scanner.finding(
            item, alarm.rule, alarm.reason, level=alarm.level, offset=alarm.offset,
            where=alarm.opcode,
        )  # fmt: skip
    if stream.heaviest > 10_000_000:
        scanner.finding(
            item, "MW-PKL-009", "a value that repeats itself more than ten million times"
        )
    for persistent in stream.persistent:
        if not _is_storage(persistent) and not persistent.module and not script:
            scanner.finding(item, "MW-PKL-007", "a persistent id that is no tensor storage",
                            where="PERSID")  # fmt: skip
    _nested(scanner, item, stream)
    if worst is not Level.CRITICAL:
        ask_fickling(scanner, item, stream)


def _is_storage(persistent: Persistent) -> bool:
    """Whether an id is what PyTorch writes: ("storage", type, key, place, number of values)."""
    key = persistent.key
    if not isinstance(key, Group) or len(key.items) not in (5, 6):
        return False
    kind = key.items[1]
    return key.items[0] == "storage" and isinstance(kind, Global) and kind.level is None


def _nested(scanner: Scanner, item: Item, stream: Stream) -> None:
    """Pickles and archives in byte strings: something may load them later."""
    loaded = {raw.offset for raw in stream.loaded if isinstance(raw, Raw)}
    for number, raw in enumerate(stream.loaded):
        if isinstance(raw, Raw):
            blob = item.blob.window(raw.offset, raw.size)
        else:
            blob = Blob.of_bytes(raw)
        # torch.load takes for a pickle what is no zip archive, whatever else it looks like
        role = None if blob.read(0, 4) == b"PK\x03\x04" else "pickle"
        scanner.scan(f"{item.path}!torch.load@{number}", blob, item.depth + 1, role)
    if max(len(stream.raw), len(stream.encoded)) > MAX_RAW:
        item.errors.append(f"more than {MAX_RAW} byte strings; the others were not looked into")
    for raw in stream.raw:
        if raw.offset in loaded:
            continue
        window = item.blob.window(raw.offset, raw.size)
        look_inside(scanner, item, window, f"{item.path}!bytes@{raw.offset}")
    for content in stream.encoded:
        look_inside(scanner, item, Blob.of_bytes(content), f"{item.path}!encoded")


def _torch_storages(item: Item, streams: list[Stream], file: IO[bytes]) -> None:
    """The raw values behind the five pickles of PyTorch's old format: count and bytes of each."""
    sizes = {}
    for persistent in streams[3].persistent:
        if _is_storage(persistent):
            values = persistent.key.items
            kind = values[1].name.removesuffix("Storage").removeprefix("_")
            sizes[values[2]] = _STORAGE_BYTES.get(kind)
    keys = streams[4].value
    at = file.tell()
    for key in keys.items if isinstance(keys, Group) else ():
        count = int.from_bytes(item.blob.read(at, 8), "little")
        width = sizes.get(key)
        if width is None:
            raise UnreadableError(f"a storage {key!r:.50} that no tensor describes")
        at += 8 + count * width
        if at > item.blob.size:
            raise UnreadableError("the tensor storages are cut off")
    if at != item.blob.size:
        raise UnreadableError(f"{item.blob.size - at} bytes behind the last tensor storage")


def _as_plain_pickle(scanner: Scanner, item: Item, file: IO[bytes], mixed: bool) -> None:
    """Joblib skips its arrays; pickle.load would execute them. What it would name counts too.

    Values may look like opcodes by chance, so only names that mean something count, and behind an
    array of objects, whose memo joblib keeps apart, only those known to do harm.
    """
    file.seek(0)
    stream = walk(file, scanner.budget)
    for key, found in stream.globals.items():
        words = f"{found.module}.{found.name}".split(".")
        if found.level is None or not all(word.isascii() and word.isidentifier() for word in words):
            continue
        known = found.level is Level.CRITICAL
        if known or (key in stream.called and not mixed):
            scanner.finding(
                item, "MW-PKL-001" if known else "MW-PKL-002",
                f"read without joblib, it names {found.full!r:.200}",
                level=found.level, offset=found.offset, where=found.opcode,
            )  # fmt: skip
