"""Tokens, keys and their masking."""

import pytest

from modelward.domain import AccessDeniedError
from modelward.jobs.secrets import Signer, mask, new_api_key, new_organisation_id


def test_token_opens_exactly_its_subject_and_purpose_until_it_expires() -> None:
    signer = Signer(b"k" * 32)
    token = signer.sign("upload", "m/data", 100.0)
    signer.check(token, "upload", "m/data", 99.9)
    with pytest.raises(AccessDeniedError, match="expired"):
        signer.check(token, "upload", "m/data", 100.0)
    for purpose, subject in (("view", "m/data"), ("upload", "m/label")):
        with pytest.raises(AccessDeniedError, match="signed for this link"):
            signer.check(token, purpose, subject, 1.0)
    with pytest.raises(AccessDeniedError, match="signed for this link"):
        Signer(b"x" * 32).check(token, "upload", "m/data", 1.0)


def test_every_single_altered_character_is_noticed() -> None:
    signer = Signer(b"k" * 32)
    token = signer.sign("view", "job-1", 100.0)
    for index, character in enumerate(token):
        # the last character of the signature holds four unused bits; change a used one
        changed = token[:index] + ("A" if character not in "ABCD" else "z") + token[index + 1 :]
        with pytest.raises(AccessDeniedError, match="token"):
            signer.check(changed, "view", "job-1", 1.0)


@pytest.mark.parametrize("token", [None, "", ".", "a.b", "é.ü", "=.=", "a" * 10_000])
def test_rubbish_is_refused(token: str | None) -> None:
    with pytest.raises(AccessDeniedError, match="token"):
        Signer(b"k" * 32).check(token, "view", "job-1", 1.0)


def test_secrets_have_enough_entropy_and_are_url_safe() -> None:
    # base64: six bits a character, after the four of the prefix
    assert (len(new_organisation_id()) - 4) * 6 >= 128
    assert (len(new_api_key()) - 4) * 6 >= 128
    assert len({new_organisation_id() for _ in range(100)}) == 100
    assert new_api_key().replace("-", "").replace("_", "").isalnum()


def test_mask_hides_ids_keys_and_tokens() -> None:
    organisation, key = new_organisation_id(), new_api_key()
    text = f"GET /jobs/job-1?token=abc.def-_&x=1 {organisation} {key} org_id=secret&y=2"
    assert mask(text) == "GET /jobs/job-1?token=***&x=1 mwo-*** mwk-*** org_id=***&y=2"
