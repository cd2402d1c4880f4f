"""Policies, guessing, rates by key and address, proxies, and who may see the figures."""

import asyncio
import json
import math
import threading
from pathlib import Path

import anyio.to_thread
import pytest
from api_talk import BASE, Talk, talk

from modelward.api import create_app
from modelward.api.addresses import Proxies, bucket
from modelward.api.limits import KnownSecrets, Limits
from modelward.api.pace import Pace
from modelward.api.policy import POLICIES, check_policies, find_policy, served_routes
from modelward.domain import InvalidInputError, RequestTimeoutError
from modelward.jobs.audit import entries
from modelward.settings import Settings, load_settings

STATUS = BASE + "/job_status_detailed?job_id=x"
DETAIL = BASE + "/job_detail?job_id=x"


def test_a_route_that_nobody_decided_about_stops_the_start(tmp_path: Path) -> None:
    app = create_app(Settings(data=tmp_path))
    check_policies(app)

    @app.get("/api/ais/v1.5/secrets")
    async def forgotten() -> str:
        return "secret"

    with pytest.raises(RuntimeError, match=r"none for GET /api/ais/v1\.5/secrets"):
        check_policies(app)


def test_a_route_without_policy_is_refused_when_called(tmp_path: Path) -> None:
    async def conversation(talking: Talk) -> None:
        @talking.app.get("/later")
        async def later() -> str:
            return "secret"

        async with talking.client(headers=talking.headers) as client:
            answer = await client.get("/later")
        assert answer.status_code == 403
        assert "secret" not in answer.text

    talk(tmp_path, conversation)


def test_every_policy_has_a_route_and_the_document_is_covered(tmp_path: Path) -> None:
    app = create_app(Settings(data=tmp_path))
    served = set(served_routes(app.routes))
    assert served == {(policy.method, policy.path) for policy in POLICIES}
    for path, methods in app.openapi()["paths"].items():
        assert all((method.upper(), path) in served for method in methods)
    assert find_policy("GET", BASE + "/nothing") is None
    assert find_policy("HEAD", "/health") is find_policy("GET", "/health")
    assert find_policy("POST", "/health") is None


def test_status_is_delayed_and_never_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither by its key, nor by its address, nor after failures; ten seconds at most in all."""
    slept: list[float] = []

    async def conversation(talking: Talk) -> None:
        real = asyncio.sleep

        async def sleep(seconds: float) -> None:
            slept.append(seconds)
            await real(0)

        monkeypatch.setattr("modelward.api.guard.asyncio.sleep", sleep)
        for headers in (talking.headers, {"x-api-key": "mwk-wrong"}):
            async with talking.client(headers=headers) as client:
                for _ in range(40):
                    before = len(slept)
                    answer = await client.get(STATUS)
                    assert answer.status_code == (404 if headers is talking.headers else 403)
                    assert sum(slept[before:]) <= Limits.LONGEST_DELAY + 1e-6
        async with talking.client(headers=talking.headers) as client:
            assert (await client.get(DETAIL)).status_code == 429

    talk(
        tmp_path, conversation, requests_per_second=0.5, request_burst=2,
        address_requests_per_second=0.5, address_burst=5, failure_burst=5,
        failures_per_second=0.01,
    )  # fmt: skip
    assert max(slept) > 5


def test_status_needs_no_thread_that_waits_for_the_database(tmp_path: Path) -> None:
    """Calls that write may wait in all of them; existing clients give up after 15 seconds."""

    async def conversation(talking: Talk) -> None:
        release = threading.Event()
        threads = int(anyio.to_thread.current_default_thread_limiter().total_tokens)
        waiting = [
            asyncio.create_task(anyio.to_thread.run_sync(release.wait)) for _ in range(threads)
        ]
        try:
            async with talking.client(headers=talking.headers) as client:
                for path in (STATUS, DETAIL):
                    answer = await asyncio.wait_for(client.get(path), 30)
                    assert answer.status_code == 404
        finally:
            release.set()
            await asyncio.gather(*waiting)

    talk(tmp_path, conversation)


def test_guessing_is_slowed_down_and_neighbours_are_not_its_victims(tmp_path: Path) -> None:
    async def conversation(talking: Talk) -> None:
        async with talking.client("198.51.100.7", headers=talking.headers) as good:
            assert (await good.get(DETAIL)).status_code == 404
        async with talking.client("198.51.100.7") as client:
            seen = [
                (await client.get(DETAIL, headers={"x-api-key": f"mwk-guess-{n}"})).status_code
                for n in range(8)
            ]
            assert seen == [403] * 5 + [429] * 3
            # organisation ids and link tokens are counted with them
            wrong = {"Org-Id": "mwo-guess"}
            answer = await client.get(BASE + "/get_aws_api_key", headers=wrong)
            assert answer.status_code == 429 and int(answer.headers["retry-after"]) >= 1
            assert (await client.get("/jobs/job-1?token=a.b")).status_code == 429
            put = await client.put(f"{BASE}/upload/m/data?token=a.b", content=b"x")
            assert put.status_code == 429
            # a right guess is no better than a wrong one by now
            fresh = talking.app.state.service.tenants.create("b").api_key
            lucky = await client.get(DETAIL, headers={"x-api-key": fresh})
            assert lucky.status_code == 429
            # keys and links that are handed out now work at once
            minted = await client.get(BASE + "/get_aws_api_key", headers=talking.headers)
            assert minted.status_code == 429  # this organisation id was not seen here before
            made = await client.post(
                BASE + "/model_registration/upload",
                json={"task_type": "IC", "analysis_type": "MEA"},
                headers=talking.headers,
            )
            link = made.json()["data"]["urls"]["data_upload_url"]
            assert (await client.put(link, content=b"no zip")).status_code == 400
            viewer = await client.post(
                BASE + "/keys", json={"label": "v", "role": "viewer"}, headers=talking.headers
            )
            fresh_key = {"x-api-key": viewer.json()["x_api_key"]}
            assert (await client.get(DETAIL, headers=fresh_key)).status_code == 404
            # whoever was here before goes on, and so does everybody elsewhere
            assert (await client.get(DETAIL, headers=talking.headers)).status_code == 404
        async with talking.client("198.51.100.8", headers={"x-api-key": fresh}) as other:
            assert (await other.get(DETAIL)).status_code == 404

    talk(tmp_path, conversation, failure_burst=5, failures_per_second=0.001)


@pytest.mark.parametrize(
    "attempt",
    [
        ("GET", "/api/ais/v1.5/get_aws_api_key", 401),
        ("GET", "/jobs/job-1?token=a.b", 403),
        ("PUT", "/api/ais/v1.5/upload/m/data?token=a.b", 403),
        ("GET", "/metrics", 403),
        ("POST", "/api/ais/v1.5/model_registration/upload", 401),
    ],
)
def test_every_kind_of_failure_counts(tmp_path: Path, attempt: tuple[str, str, int]) -> None:
    method, path, status = attempt

    async def conversation(talking: Talk) -> None:
        async with talking.client() as client:
            seen = [
                (await client.request(method, path, headers={"Org-Id": f"mwo-{n}"})).status_code
                for n in range(5)
            ]
        assert seen == [status] * 3 + [429] * 2

    talk(tmp_path, conversation, failure_burst=3, failures_per_second=0.001)


def test_lack_of_a_role_is_no_failure(tmp_path: Path) -> None:
    async def conversation(talking: Talk) -> None:
        async with talking.client(headers=talking.headers) as client:
            made = await client.post(BASE + "/keys", json={"label": "v", "role": "viewer"})
            viewer = {"x-api-key": made.json()["x_api_key"]}
            for _ in range(6):
                answer = await client.get(BASE + "/keys", headers=viewer)
                assert answer.status_code == 403
            assert (await client.get(DETAIL, headers=viewer)).status_code == 404

    talk(tmp_path, conversation, failure_burst=2, failures_per_second=0.001)


def test_lack_of_a_role_leaves_an_entry_but_not_without_end(tmp_path: Path) -> None:
    async def conversation(talking: Talk) -> None:
        service = talking.app.state.service
        service.audit._clock = lambda: 1_000_000.0  # all in one minute
        async with talking.client(headers=talking.headers) as client:
            made = (await client.post(BASE + "/keys", json={"label": "v", "role": "viewer"})).json()
            viewer = {"x-api-key": made["x_api_key"]}
            for _ in range(40):
                answer = await client.delete(BASE + "/jobs/job-1", headers=viewer)
                assert answer.status_code == 403
            assert (await client.get(DETAIL, headers=viewer)).status_code == 404
        noted = [e for e in entries(service._database) if e.event == "key.refused"]
        assert len(noted) == 30
        for entry in noted:
            assert entry.organisation_id == talking.organisation
            assert entry.actor == entry.subject == made["key_id"]
            reason = json.loads(entry.detail)["reason"]
            assert reason.startswith(f"DELETE {BASE}/jobs/{{job_id}}: x-api-key: expected a key")
            assert "the role submitter" in reason and made["x_api_key"] not in reason

    talk(tmp_path, conversation, request_burst=100)


@pytest.mark.parametrize("rate", [0.05, 7.0, 1000.0])
def test_message_and_header_name_the_same_wait(tmp_path: Path, rate: float) -> None:
    async def conversation(talking: Talk) -> None:
        limits, refused = talking.app.state.limits, []
        for limiter in (limits.keys, limits.exchanges):
            limiter._clock = lambda: 5.0  # nothing comes back, however long the calls take
        async with talking.client(headers=talking.headers) as client:
            for path in (DETAIL, BASE + "/get_aws_api_key"):
                answers = [await client.get(path) for _ in range(4)]
                refused += [answer for answer in answers if answer.status_code == 429]
        assert len(refused) == 6
        for answer in refused:
            seconds = int(answer.headers["retry-after"])
            assert answer.json()["message"].endswith(f"; try again in {seconds} s")
            assert seconds == max(1, math.ceil(1 / rate))

    talk(
        tmp_path, conversation, requests_per_second=rate, request_burst=1,
        key_exchange_per_second=rate,
    )  # fmt: skip


def test_addresses_are_limited_whatever_they_call(tmp_path: Path) -> None:
    async def conversation(talking: Talk) -> None:
        async with talking.client("203.0.113.5") as client:
            paths = ["/docs", "/openapi.json", "/nothing", DETAIL, "/jobs/x"]
            seen = [(await client.get(path)).status_code for path in paths]
            assert 429 not in seen
            seen = [(await client.get(path)).status_code for path in paths]
            assert seen == [429] * len(paths)
            # those who watch the service are not shut out
            assert (await client.get("/healthz")).status_code == 200
        async with talking.client("203.0.113.6") as client:
            assert (await client.get("/docs")).status_code == 200

    talk(tmp_path, conversation, address_burst=5, address_requests_per_second=0.001)


def test_forwarded_addresses_count_only_from_trusted_proxies() -> None:
    nobody = Proxies(())
    assert nobody.client("10.0.0.1", ["192.0.2.9"]) == "10.0.0.1"
    proxies = Proxies(("10.0.0.0/8", "2001:db8::/32"))
    assert proxies.client("192.0.2.1", ["198.51.100.1"]) == "192.0.2.1"
    assert proxies.client("10.0.0.1", ["198.51.100.1"]) == "198.51.100.1"
    # what the client itself wrote stands on the left
    assert proxies.client("10.0.0.1", ["1.2.3.4, 198.51.100.1", "10.0.0.2"]) == "198.51.100.1"
    assert proxies.client("10.0.0.1", ["198.51.100.1, rubbish"]) == "10.0.0.1"
    assert proxies.client("10.0.0.1", []) == "10.0.0.1"
    assert proxies.client("2001:db8::1", ["2001:db9::5"]) == "2001:db9::5"
    assert proxies.client("10.0.0.1", ["10.0.0.3"]) == "10.0.0.3"
    # as a server sees them that listens on ::
    assert proxies.client("::ffff:10.0.0.1", ["198.51.100.1"]) == "198.51.100.1"
    assert proxies.client("::ffff:192.0.2.1", ["198.51.100.1"]) == "::ffff:192.0.2.1"
    with pytest.raises(InvalidInputError, match="trusted_proxies"):
        load_settings(trusted_proxies=("proxy.example",))


def test_one_client_has_a_whole_network_of_ipv6() -> None:
    assert bucket("2001:db8::1") == bucket("2001:db8::ffff") != bucket("2001:db8:0:1::1")
    assert bucket("::ffff:192.0.2.1") == bucket("192.0.2.1") != bucket("192.0.2.2")


def test_proxied_clients_are_told_apart(tmp_path: Path) -> None:
    async def conversation(talking: Talk) -> None:
        async with talking.client("10.0.0.1") as client:
            for last in (1, 2):
                forwarded = {"X-Forwarded-For": f"6.6.6.6, 198.51.100.{last}"}
                seen = [
                    (await client.get("/docs", headers=forwarded)).status_code for _ in range(3)
                ]
                assert seen == [200, 200, 429]

    talk(
        tmp_path, conversation, trusted_proxies=("10.0.0.1",), address_burst=2,
        address_requests_per_second=0.001,
    )  # fmt: skip


def test_memory_of_the_limits_is_bounded() -> None:
    known = KnownSecrets()
    for number in range(12_000):
        known.add(f"secret {number}")
    assert len(known._seen) == 10_000
    assert "secret 11999" in known and "secret 0" not in known and None not in known
    assert all(len(digest) == 32 for digest in known._seen)


def test_figures_are_for_this_machine_or_holders_of_the_token(tmp_path: Path) -> None:
    async def conversation(talking: Talk) -> None:
        async with talking.client("127.0.0.1") as client:
            assert (await client.get("/metrics")).status_code == 200
            proxied = await client.get("/metrics", headers={"X-Forwarded-For": "192.0.2.1"})
            assert proxied.status_code == 403
        async with talking.client("::ffff:127.0.0.1") as client:
            assert (await client.get("/metrics")).status_code == 200
        for address in ("192.0.2.1", "::ffff:192.0.2.1"):
            async with talking.client(address) as client:
                assert (await client.get("/metrics")).status_code == 403

    talk(tmp_path / "a", conversation)

    async def behind_a_proxy(talking: Talk) -> None:
        """One that does not say so: only the settings tell."""
        async with talking.client("127.0.0.1") as client:
            assert (await client.get("/metrics")).status_code == 403

    talk(tmp_path / "p", behind_a_proxy, trusted_proxies=("127.0.0.0/8",))

    async def with_token(talking: Talk) -> None:
        async with talking.client("192.0.2.1") as client:
            for given in ("", "Bearer wrong", "Bearer", "s3cret"):
                answer = await client.get("/metrics", headers={"Authorization": given})
                assert answer.status_code == 403
            good = {"Authorization": "Bearer s3cret"}
            assert (await client.get("/metrics", headers=good)).status_code == 200
        async with talking.client("127.0.0.1") as client:
            assert (await client.get("/metrics")).status_code == 403

    talk(tmp_path / "b", with_token, metrics_token="s3cret")


class Sender:
    """Gives out parts of a body after pauses."""

    def __init__(self, *parts: tuple[float, int, bool]) -> None:
        self._parts = list(parts)

    async def __call__(self) -> dict[str, object]:
        pause, size, more = self._parts.pop(0)
        await asyncio.sleep(pause)
        return {"type": "http.request", "body": b"x" * size, "more_body": more}


def test_allowance_of_a_body_is_capped_at_its_window() -> None:
    async def run() -> None:
        quick = Pace(Sender((0, 10_000_000, True), (5, 1, True)), least=1000, window=0.2)
        assert len((await quick())["body"]) == 10_000_000
        with pytest.raises(RequestTimeoutError, match="1000 bytes per second"):
            await quick()
        # steady and just quick enough
        steady = Pace(Sender(*[(0.02, 100, True)] * 15, (0, 0, False)), least=2500, window=0.2)
        while (await steady())["more_body"]:
            pass
        drops = Pace(Sender(*[(0.04, 1, True)] * 50), least=1000, window=0.2)
        with pytest.raises(RequestTimeoutError, match="body"):
            for _ in range(50):
                await drops()

    asyncio.run(run())


def test_waiting_for_the_end_of_a_connection_has_no_limit() -> None:
    async def run() -> None:
        pace = Pace(Sender((0, 0, False), (0.3, 0, False)), least=1000, window=0.05)
        assert not (await pace())["more_body"]
        await pace()

    asyncio.run(run())
