"""Addresses handed to clients: built from the public address, signed, expiring."""

from collections.abc import Callable
from urllib.parse import quote

from modelward.jobs.secrets import Signer
from modelward.jobs.signing import SigningKeys
from modelward.settings import Settings

__all__ = ["BASE_PATH", "Links"]

BASE_PATH = "/api/ais/v1.5"
_UPLOAD, _VIEW = "upload", "view"


class Links:
    """Makes links and checks their tokens."""

    def __init__(
        self, settings: Settings, signer: Signer | SigningKeys, clock: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._signer = signer
        self._clock = clock

    def upload(self, model_id: str, slot: str) -> str:
        """Where the archive of a slot is sent; good for a few minutes."""
        expires = self._clock() + self._settings.upload_lifetime_seconds
        token = self._signer.sign(_UPLOAD, f"{model_id}/{slot}", expires)
        return f"{self._settings.base_url}{BASE_PATH}/upload/{model_id}/{slot}?token={token}"

    def check_upload(self, model_id: str, slot: str, token: str | None) -> None:
        """Let a genuine upload link pass.

        Raises:
            AccessDeniedError: Any other.
        """
        self._signer.check(token, _UPLOAD, f"{model_id}/{slot}", self._clock())

    def monitor(self, job_id: str) -> str:
        """The page of a job, for whoever holds the link."""
        expires = self._clock() + self._settings.view_lifetime_seconds
        token = self._signer.sign(_VIEW, job_id, expires)
        return f"{self._settings.base_url}/jobs/{quote(job_id)}?token={token}"

    def check_monitor(self, job_id: str, token: str | None) -> None:
        """Let a genuine page link pass.

        Raises:
            AccessDeniedError: Any other.
        """
        self._signer.check(token, _VIEW, job_id, self._clock())
