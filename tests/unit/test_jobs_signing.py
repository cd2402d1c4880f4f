"""Signing keys: kept private, rotated under a running service, retired in time."""

import stat
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from modelward.cli import app
from modelward.domain import AccessDeniedError, ConflictError
from modelward.jobs.signing import SigningKeys, rotate_signing_key

WEEK = 7 * 86_400.0


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def keys(folder: Path, clock: Clock) -> SigningKeys:
    return SigningKeys(folder, longest_life=WEEK, clock=clock)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_first_key_is_made_once_and_private(tmp_path: Path, clock: Clock) -> None:
    folder = tmp_path / "data"
    token = keys(folder, clock).sign("view", "job", clock.now + 1)
    path = folder / "signing.key"
    assert mode(path) == 0o600 and len(path.read_bytes()) == 32
    path.chmod(0o644)
    keys(folder, clock).check(token, "view", "job", clock.now)
    assert mode(path) == 0o600
    assert [item.name for item in folder.iterdir()] == ["signing.key"]


def test_old_links_live_on_and_new_ones_have_the_new_key(tmp_path: Path, clock: Clock) -> None:
    running = keys(tmp_path, clock)
    old_key = (tmp_path / "signing.key").read_bytes()
    old = running.sign("view", "job", clock.now + 2 * WEEK)
    done = rotate_signing_key(tmp_path, longest_life=WEEK, clock=clock)
    assert (done.retired, done.dropped) == (1, 0)
    # the same object, without a restart
    running.check(old, "view", "job", clock.now)
    new = running.sign("view", "job", clock.now + WEEK)
    assert new != old
    running.check(new, "view", "job", clock.now)
    assert (tmp_path / "signing.key").read_bytes() != old_key
    assert all(mode(path) == 0o600 for path in tmp_path.glob("signing*.key"))
    # when the longest life of a link has passed, the old key opens nothing, whatever it says
    clock.now += WEEK
    with pytest.raises(AccessDeniedError, match="signed for this link"):
        running.check(old, "view", "job", clock.now)
    done = rotate_signing_key(tmp_path, longest_life=WEEK, clock=clock)
    assert (done.retired, done.dropped) == (1, 1)


def test_a_key_that_became_known_is_dropped_at_once(tmp_path: Path, clock: Clock) -> None:
    running = keys(tmp_path, clock)
    first = running.sign("view", "job", clock.now + 10)
    rotate_signing_key(tmp_path, longest_life=WEEK, clock=clock)
    clock.now += 1
    second = running.sign("view", "job", clock.now + 10)
    rotate_signing_key(tmp_path, longest_life=WEEK, drop_old=True, clock=clock)
    for token in (first, second):
        with pytest.raises(AccessDeniedError, match="signed for this link"):
            running.check(token, "view", "job", clock.now)
    assert [path.name for path in tmp_path.glob("signing*.key")] == ["signing.key"]


def test_damaged_and_missing_keys_are_named(tmp_path: Path, clock: Clock) -> None:
    with pytest.raises(ConflictError, match="there is none"):
        rotate_signing_key(tmp_path, longest_life=WEEK)
    (tmp_path / "signing.key").write_bytes(b"")
    with pytest.raises(ConflictError, match="expected 32 bytes; got 0"):
        keys(tmp_path, clock)


def test_command_notes_the_rotation(tmp_path: Path) -> None:
    arguments = ["signing-key", "rotate", "--data", str(tmp_path)]
    assert CliRunner().invoke(app, arguments).exit_code == 2
    running = SigningKeys(tmp_path, longest_life=WEEK)
    token = running.sign("view", "job", time.time() + 60)
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0 and "still read: 1" in done.output
    running.check(token, "view", "job", time.time())
    shown = CliRunner().invoke(app, ["audit", "show", "--data", str(tmp_path)])
    assert "signing_key.rotated" in shown.output
