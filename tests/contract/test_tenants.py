"""Every route of the OpenAPI document, called by those who may not see what is behind it.

The walk reads the document, so a new route is covered by itself; one whose parameters are not
known here fails until somebody says how to fill them in.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from live_service import BASE, Live, make_archives

from modelward.api.policy import Access, find_policy

IDS = {"model_id", "job_id", "key_id"}
"""Parameters that name something which belongs to one organisation."""


@dataclass
class Belongings:
    """What one organisation has."""

    headers: dict[str, str]
    values: dict[str, Any] = field(default_factory=dict)
    monitor_link: str = ""
    marker: str = ""
    """A text that stands in its job and its key."""

    @property
    def marks(self) -> set[str]:
        """Texts that must not reach anybody else."""
        named = {str(self.values[name]) for name in IDS}
        return named | {self.marker, *self.headers.values()}


def own(live: Live, headers: dict[str, str], *, run: bool = True) -> Belongings:
    """A model, an ended job and a second key of an organisation."""
    marker = f"marker-{uuid.uuid4()}"
    old = live.org_id, live.api_key
    live.org_id, live.api_key = headers["Org-Id"], headers["x-api-key"]
    try:
        job = live.start_job(title=marker)
        if run:
            live.wait(job["job_id"])
        spare = live.http.post(
            live.api + "/keys", json={"label": marker, "role": "viewer"}, headers=headers
        ).json()
        upload = live.register()["urls"]["data_upload_url"]
    finally:
        live.org_id, live.api_key = old
    values = {
        "model_id": job["model_id"],
        "job_id": job["job_id"],
        "key_id": spare["key_id"],
        "slot": "data",
        "report": "Vulnerability",
        "report_type": "Vulnerability",
        "file_format": 3,
        "token": upload.split("token=")[1],
    }
    return Belongings(headers, values, job["monitor_link"], marker)


def calls(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, call in methods.items():
            yield method.upper(), path, call


def request(
    live: Live,
    where: tuple[str, str],
    call: dict[str, Any],
    values: dict[str, Any],
    headers: dict[str, str],
) -> tuple[httpx.Response, set[str]]:
    """Make a call with its parameters filled in; also the names of those."""
    method, path = where
    query, used = {}, set()
    for parameter in call.get("parameters", []):
        name, place = parameter["name"], parameter["in"]
        if place == "header":
            if name == "Idempotency-Key":
                # everybody uses the same: it must not lead to another organisation's job
                headers = headers | {name: "the-same-for-all"}
                continue
            assert name in ("Org-Id", "x-api-key"), f"{method} {path}: unknown header {name}"
            continue
        assert name in values, f"{method} {path}: say in this test what {name} is filled with"
        used.add(name)
        if place == "path":
            path = path.replace(f"{{{name}}}", str(values[name]))
        else:
            query[name] = values[name]
    assert "{" not in path, f"{method} {path}: a parameter is not in the document"
    content: dict[str, Any] = {}
    kinds = call.get("requestBody", {}).get("content", {})
    if "application/json" in kinds:
        content = {"json": kinds["application/json"]["example"]}
    elif "application/zip" in kinds:
        content = {"content": make_archives()["data"]}
    else:
        assert not kinds, f"{method} {path}: say in this test what to send as {list(kinds)}"
    return live.http.request(
        method, live.url + path, params=query, headers=headers, **content
    ), used


@pytest.fixture(scope="module")
def owner(live: Live) -> Belongings:
    return own(live, live.headers)


@pytest.fixture(scope="module")
def stranger(live: Live) -> Belongings:
    return own(live, live.new_organisation("stranger"))


@pytest.fixture(scope="module")
def document(live: Live) -> dict[str, Any]:
    return dict(live.http.get(live.url + "/openapi.json").json())


def check_no_leak(answer: httpx.Response, owner: Belongings, sent: set[str]) -> None:
    given = {str(owner.values[name]) for name in sent}
    text = answer.text + str(answer.headers)
    for mark in owner.marks - given:
        assert mark not in text


@pytest.mark.parametrize("who", ["other", "own key, other organisation", "nobody", "rubbish"])
def test_walk_with_foreign_ids(
    live: Live, document: dict[str, Any], owner: Belongings, stranger: Belongings, who: str
) -> None:
    headers = {
        "other": stranger.headers,
        "own key, other organisation": owner.headers | {"Org-Id": stranger.headers["Org-Id"]},
        "nobody": {},
        "rubbish": {"Org-Id": "mwo-" + "x" * 32, "x-api-key": "mwk-" + "y" * 43},
    }[who]
    # the stranger's own token, which is genuine for the stranger's upload
    values = owner.values | {"token": stranger.values["token"]}
    walked = 0
    for method, path, call in calls(document):
        policy = find_policy(method, path)
        assert policy is not None, f"{method} {path} has no policy"
        answer, used = request(live, (method, path), call, values, headers)
        shown = f"{method} {path} as {who}: {answer.status_code} {answer.text[:300]}"
        assert answer.status_code < 500 or path == "/readyz", shown
        if used & IDS:
            assert answer.status_code in (401, 403, 404), shown
            assert answer.json()["request_id"], shown
        elif policy.access not in (Access.OPEN, Access.OPERATOR) and who != "other":
            # the key exchange looks at the organisation id alone, and that one is the stranger's
            exchange = policy.access is Access.ORGANISATION and headers.get("Org-Id") in (
                stranger.headers["Org-Id"],
            )
            assert exchange or answer.status_code in (401, 403), shown
        if who != "own key, other organisation":
            check_no_leak(answer, owner, used)
        walked += 1
    assert walked >= 14
    # nothing of the owner changed on the way
    assert live.status(owner.values["job_id"])["JobState"] == "succeeded"
    keys = {key["key_id"]: key for key in live.get("/keys").json()["keys"]}
    assert keys[owner.values["key_id"]]["state"] == "live"


def test_the_same_calls_reach_their_owner(live: Live, document: dict[str, Any]) -> None:
    """Without this, a walk that fills in rubbish would pass too."""
    headers = live.new_organisation("walker")
    mine = own(live, headers)
    ordered = sorted(calls(document), key=lambda item: item[0] == "DELETE")
    for method, path, call in ordered:
        things = mine if method != "DELETE" else own(live, headers, run=False)
        policy = find_policy(method, path)
        answer, used = request(live, (method, path), call, things.values, headers)
        if used & IDS and policy is not None and policy.access is not Access.LINK:
            assert answer.status_code not in (401, 403, 404), f"{method} {path}: {answer.text}"


def test_pages_and_files_of_another_job(
    live: Live, owner: Belongings, stranger: Belongings
) -> None:
    foreign = stranger.monitor_link.split("token=")[1]
    for path in ("", "/files/Vulnerability", "/files/Surrogate_model"):
        address = f"{live.url}/jobs/{owner.values['job_id']}{path}"
        for token in (foreign, stranger.values["token"], owner.values["token"], ""):
            answer = live.http.get(address, params={"token": token}, headers=stranger.headers)
            assert answer.status_code == 403
            check_no_leak(answer, owner, {"job_id"})
    assert live.http.get(owner.monitor_link).status_code == 200


def test_upload_link_of_another_model(live: Live, owner: Belongings, stranger: Belongings) -> None:
    token = stranger.values["token"]
    for slot in ("data", "label", "model", "..%2Fdata"):
        address = f"{live.api}/upload/{owner.values['model_id']}/{slot}"
        answer = live.http.put(address, params={"token": token}, content=make_archives()["data"])
        assert answer.status_code in (403, 404), answer.text


def test_keys_of_others_are_not_listed(live: Live, owner: Belongings, stranger: Belongings) -> None:
    listed = live.get("/keys", headers=stranger.headers)
    assert stranger.values["key_id"] in listed.text
    check_no_leak(listed, owner, set())
    assert owner.values["key_id"] not in listed.text


def test_roles_open_what_the_table_says(live: Live, document: dict[str, Any]) -> None:
    headers = live.new_organisation("roles")
    mine = own(live, headers)
    made = {
        role: live.http.post(
            live.api + "/keys", json={"label": role, "role": role}, headers=headers
        ).json()["x_api_key"]
        for role in ("viewer", "submitter")
    }
    needs = {"submit": "submitter", "manage": "admin"}
    may = {"viewer": {"read"}, "submitter": {"read", "submit"}}
    checked = 0
    for role, key in made.items():
        for method, path, call in calls(document):
            policy = find_policy(method, path)
            if policy is None or policy.permission is None:
                continue
            if policy.permission.value in may[role] and method == "DELETE":
                continue
            answer, _ = request(
                live, (method, path), call, mine.values, headers | {"x-api-key": key}
            )
            if policy.permission.value in may[role]:
                assert answer.status_code not in (401, 403), f"{role}: {method} {path}"
            else:
                assert answer.status_code == 403, f"{role}: {method} {path}: {answer.text}"
                needed = needs[policy.permission.value]
                assert f"role {needed}" in answer.json()["message"]
                assert f"has the role {role}" in answer.json()["message"]
            checked += 1
    assert checked >= 20


def test_exchanged_keys_submit_but_do_not_manage(live: Live) -> None:
    headers = live.new_organisation("exchanger")
    minted = live.get("/get_aws_api_key", headers=headers).json()["x_api_key"]
    minted_headers = headers | {"x-api-key": minted}
    assert live.register(headers=minted_headers)["model_id"]
    refused = live.http.get(live.url + BASE + "/keys", headers=minted_headers)
    assert refused.status_code == 403
    assert "role admin" in refused.json()["message"]
