"""What `endtape doctor` sends itself."""

import pytest

from worker.vobiz.signature import SignatureRejected, sign, verify


def test_a_callback_is_signed_as_the_provider_signs_it():
    url, nonce = "https://endtape.example/vobiz/MA_1/token/doctor", "0" * 20
    headers = sign(url, "auth-token", nonce)
    found = verify(base_url=url, headers=headers, tokens=["auth-token"])
    assert (found.signed, found.scheme, found.nonces) == (True, "v3", (nonce,))
    with pytest.raises(SignatureRejected):
        verify(base_url=f"{url}/other", headers=headers, tokens=["auth-token"])
