"""Keys, their roles and lives, and the migration of keys that had neither."""

import json
import sqlite3
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from typer.testing import CliRunner

from modelward.cli import app
from modelward.domain import (
    ConflictError,
    InvalidInputError,
    InvalidParameterError,
    NotFoundError,
    UnauthenticatedError,
)
from modelward.jobs import Permission, Role, parse_role
from modelward.jobs.audit import entries
from modelward.jobs.database import Database
from modelward.jobs.keys import Keys
from modelward.jobs.secrets import hash_secret
from modelward.jobs.tenants import Tenants
from modelward.settings import Settings


class World:
    def __init__(self, folder: Path) -> None:
        self.now = 1_000_000.0
        self.database = Database(folder)
        self.database.migrate()
        self.tenants = Tenants(self.database, Settings(data=folder), lambda: self.now)
        self.keys = Keys(self.database, lambda: self.now)
        self.first = self.tenants.create("a").api_key
        self.number = self.tenants.authenticate(self.first).organisation

    def events(self) -> list[str]:
        return [entry.event for entry in entries(self.database)]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_first_key_is_admin_and_exchanged_ones_submit(world: World) -> None:
    assert world.tenants.authenticate(world.first).role is Role.ADMIN
    minted = world.tenants.exchange(world.number)
    assert world.tenants.authenticate(minted).role is Role.SUBMITTER


def test_created_keys_expire_however_much_they_are_used(world: World) -> None:
    made = world.keys.create(world.number, label="ci", role=Role.VIEWER, lifetime=1000)
    for _ in range(9):
        world.now += 110
        assert world.tenants.authenticate(made.secret).role is Role.VIEWER
    world.now += 110
    with pytest.raises(UnauthenticatedError, match="expired"):
        world.tenants.authenticate(made.secret)
    assert {info.state(world.now) for info in world.keys.listed(world.number)} == {
        "live", "expired",
    }  # fmt: skip


def test_last_use_is_noted_but_not_at_every_call(world: World) -> None:
    began = world.now  # when the world used it first
    world.now += 299
    world.tenants.authenticate(world.first)
    assert world.keys.listed(world.number)[0].used == began
    world.now += 2
    world.tenants.authenticate(world.first)
    assert world.keys.listed(world.number)[0].used == world.now


def test_a_key_is_unused_until_its_first_use(world: World) -> None:
    made = world.keys.create(world.number, label="ci", role=Role.SUBMITTER)
    new = world.keys.rotate(world.number, made.info.key_id, grace=10)
    minted = world.tenants.exchange(world.number)
    assert made.info.used is None and new.info.used is None
    unused = [info.used for info in world.keys.listed(world.number)]
    assert unused == [None, None, None, world.now]
    for secret in (made.secret, minted):
        world.now += 1
        world.tenants.authenticate(secret)
    used = {info.label: info.used for info in world.keys.listed(world.number)[::2]}
    assert used == {"exchanged": world.now, "ci": world.now - 1}


def test_first_use_renews_an_exchanged_key_and_the_one_idle_longest_goes(world: World) -> None:
    world.tenants = Tenants(
        world.database,
        Settings(keys_per_organisation=2, key_lifetime_seconds=1000),
        lambda: world.now,
    )
    first, second = (world.tenants.exchange(world.number) for _ in range(2))
    world.now += 10
    world.tenants.authenticate(first)
    world.now += 10
    third = world.tenants.exchange(world.number)
    with pytest.raises(UnauthenticatedError, match="unknown"):
        world.tenants.authenticate(second)
    world.now += 985  # 1005 after it was made, 995 after its first use
    world.tenants.authenticate(first)
    world.now += 15  # 1000 after the third was made, which nobody used
    with pytest.raises(UnauthenticatedError, match="expired"):
        world.tenants.authenticate(third)
    world.tenants.authenticate(first)


def test_revoked_keys_open_nothing_and_stay_listed(world: World) -> None:
    made = world.keys.create(world.number, label="ci", role=Role.SUBMITTER)
    world.keys.revoke(world.number, made.info.key_id)
    world.keys.revoke(world.number, made.info.key_id)
    with pytest.raises(UnauthenticatedError, match="revoked"):
        world.tenants.authenticate(made.secret)
    assert world.keys.listed(world.number)[0].state(world.now) == "revoked"
    assert world.events().count("key.revoked") == 1


def test_last_admin_key_stays_unless_the_operator_insists(world: World) -> None:
    first = world.keys.listed(world.number)[0].key_id
    expired = world.keys.create(world.number, label="old", role=Role.ADMIN, lifetime=1)
    world.now += 2
    with pytest.raises(ConflictError, match="last admin key"):
        world.keys.revoke(world.number, first)
    assert expired.info.role is Role.ADMIN
    world.keys.create(world.number, label="second", role=Role.ADMIN)
    world.keys.revoke(world.number, first)
    second = world.keys.listed(world.number)[0].key_id
    world.keys.revoke(world.number, second, keep_an_admin=False)


def test_rotation_keeps_label_role_and_length_of_life(world: World) -> None:
    old = world.keys.create(world.number, label="ci", role=Role.VIEWER, lifetime=1000)
    world.now += 400
    new = world.keys.rotate(world.number, old.info.key_id, grace=100)
    assert (new.info.label, new.info.role, new.info.expires) == (
        "ci",
        Role.VIEWER,
        world.now + 1000,
    )
    world.tenants.authenticate(old.secret)
    world.now += 100
    with pytest.raises(UnauthenticatedError, match="expired"):
        world.tenants.authenticate(old.secret)
    assert world.tenants.authenticate(new.secret).key_id == new.info.key_id
    at_once = world.keys.rotate(world.number, new.info.key_id)
    with pytest.raises(UnauthenticatedError, match="revoked"):
        world.tenants.authenticate(new.secret)
    world.tenants.authenticate(at_once.secret)
    with pytest.raises(ConflictError, match="living key"):
        world.keys.rotate(world.number, new.info.key_id)


def test_rotation_with_grace_makes_no_more_keys_than_are_allowed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelward.jobs.keys._MOST_KEYS", 3)
    last = world.keys.create(world.number, label="ci", role=Role.VIEWER)
    last = world.keys.rotate(world.number, last.info.key_id, grace=100)
    with pytest.raises(ConflictError, match="at most 3 living ones"):
        world.keys.rotate(world.number, last.info.key_id, grace=100)
    world.tenants.authenticate(last.secret)
    # at once there is one for one
    world.tenants.authenticate(world.keys.rotate(world.number, last.info.key_id).secret)


def test_exchanged_keys_are_fetched_anew_not_rotated(world: World) -> None:
    world.tenants.exchange(world.number)
    info = next(info for info in world.keys.listed(world.number) if info.exchanged)
    with pytest.raises(ConflictError, match="exchanged"):
        world.keys.rotate(world.number, info.key_id)
    assert world.keys.revoke(world.number, info.key_id).revoked == world.now


def test_keys_of_other_organisations_are_unknown(world: World) -> None:
    other = world.tenants.authenticate(world.tenants.create("b").api_key).organisation
    mine = world.keys.listed(world.number)[0].key_id
    for call in (world.keys.revoke, world.keys.rotate):
        with pytest.raises(NotFoundError, match="key_id"):
            call(other, mine)
    assert mine not in {info.key_id for info in world.keys.listed(other)}


@pytest.mark.parametrize(
    "label",
    ["", " ", "a" * 81, "two\nlines", "\x1b[31mred", "\u202etxt.exe", "a\u2028b", "\x00", 7, None],
)
def test_labels_that_could_deceive_are_refused(world: World, label: object) -> None:
    with pytest.raises(InvalidParameterError, match="label: expected"):
        world.keys.create(world.number, label=label, role=Role.VIEWER)


@pytest.mark.parametrize("lifetime", [0, -1, float("nan"), 1e12])
def test_lives_that_make_no_sense_are_refused(world: World, lifetime: float) -> None:
    with pytest.raises(InvalidParameterError, match="lifetime"):
        world.keys.create(world.number, label="x", role=Role.VIEWER, lifetime=lifetime)


def test_permissions_grow_with_the_role() -> None:
    assert Role.VIEWER.permissions < Role.SUBMITTER.permissions < Role.ADMIN.permissions
    assert [Role.least(one).value for one in Permission] == ["viewer", "submitter", "admin"]
    assert parse_role(" Admin ") is Role.ADMIN
    with pytest.raises(InvalidParameterError, match="admin, submitter, viewer"):
        parse_role("root")


def test_organisations_are_found_by_number_name_or_id(world: World) -> None:
    made = world.tenants.create("Acme Ltd")
    found = {world.tenants.find_unscoped(text).number for text in ("2", "Acme Ltd",
             made.organisation_id)}  # fmt: skip
    assert found == {2}
    world.tenants.create("Acme Ltd")
    with pytest.raises(InvalidInputError, match="several: 2, 3"):
        world.tenants.find_unscoped("Acme Ltd")
    for nobody in ("nobody", "9" * 19, "9" * 5000, "\u0665" * 30):
        with pytest.raises(InvalidInputError, match="none found"):
            world.tenants.find_unscoped(nobody)
    with pytest.raises(InvalidInputError, match=r"expected Unicode characters; got '\\udcff'"):
        world.tenants.find_unscoped("\udcff")


def test_keys_of_the_first_schema_keep_working(tmp_path: Path) -> None:
    """A data folder of the version before: the lasting key becomes an admin."""
    import modelward.jobs.database as module

    database = Database(tmp_path)
    config = Config()
    config.set_main_option("script_location", str(Path(module.__file__).parent / "migrations"))
    with database.read() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.commit()
    with sqlite3.connect(tmp_path / "modelward.db") as plain:
        plain.execute("INSERT INTO organisations VALUES (1, 'a', 'x', 1.0)")
        for number, exchanged, expires in ((1, 0, None), (2, 1, 9e9)):
            plain.execute(
                "INSERT INTO api_keys VALUES (?, 1, ?, ?, 1.0, 1.0, ?)",
                (number, hash_secret(f"key {number}"), exchanged, expires),
            )
    database.migrate()
    tenants = Tenants(database, Settings(data=tmp_path), lambda: 2.0)
    roles = [tenants.authenticate(f"key {number}").role for number in (1, 2)]
    assert roles == [Role.ADMIN, Role.SUBMITTER]
    handles = {info.key_id for info in Keys(database, lambda: 2.0).listed(1)}
    assert len(handles) == 2 and all(handle.startswith("key-") for handle in handles)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["rotate", "1", "k", "--grace-hours", "800"], "--grace-hours: expected 0 to 720 hours"),
        (["rotate", "1", "k", "--grace-hours", "nan"], "--grace-hours: expected 0 to 720 hours"),
        (["create", "1", "--label", "x", "--days", "0"], "--days: expected more than 0 and at"),
        (["create", "1", "--label", "x", "--days", "9999"], "at most 3660 days; got 9999"),
    ],
)
def test_commands_speak_of_their_own_options(
    tmp_path: Path, options: list[str], words: str
) -> None:
    world = World(tmp_path)
    done = CliRunner().invoke(app, ["key", *options, "--data", str(tmp_path)])
    assert done.exit_code == 2
    assert words in done.stderr and "seconds" not in done.stderr
    assert world.events() == ["organisation.created", "key.created"]


def test_the_longest_lives_that_options_allow_are_those_of_keys(tmp_path: Path) -> None:
    World(tmp_path)
    data = ["--data", str(tmp_path), "--json"]
    made = CliRunner().invoke(app, ["key", "create", "1", "--label", "x", "--days", "3660", *data])
    assert made.exit_code == 0, made.output
    key = json.loads(made.stdout)["key_id"]
    turned = CliRunner().invoke(app, ["key", "rotate", "1", key, "--grace-hours", "720", *data])
    assert turned.exit_code == 0, turned.output
