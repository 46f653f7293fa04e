"""Signatures: the provider's vectors, and the headers of each mode."""

import pytest

from emulator import signing

NONCES = signing.Nonces("48291730561928374650", "70315926483905172846")
V2 = {"X-Vobiz-Signature-V2", "X-Vobiz-Signature-V2-Nonce"}
V3 = {"X-Vobiz-Signature-V3", "X-Vobiz-Signature-V3-Nonce"}
MA = {"X-Vobiz-Signature-MA-V2", "X-Vobiz-Signature-MA-V3"}
CARRIES = {
    "v3+v2": V2 | V3,
    "v2": V2,
    "v3": V3,
    "v1": {"X-Vobiz-Signature", "X-Vobiz-Signature-V2-Nonce"},
    "ma": V2 | V3 | MA,
    "none": set(),
}


def test_every_documented_vector_is_signed_as_listed(sample):
    vectors = sample("signatures.json")
    token, parent = vectors["auth_token"], vectors["parent_auth_token"]
    nonces = signing.Nonces(vectors["v2_nonce"], vectors["v3_nonce"])
    assert len(vectors["documented"]) > 5
    for vector in vectors["documented"]:
        url = vector["callback_url"]
        assert signing.base_url(url) == vector["base_url"]
        found = signing.signature_headers("ma", url, token, parent, nonces)
        names = vectors["header_names"]
        assert {key: found[names[key]] for key in ("v2", "v3", "ma_v2", "ma_v3")} == {
            key: vector[key] for key in ("v2", "v3", "ma_v2", "ma_v3")
        }
    plain = vectors["documented"][0]["callback_url"]
    assert (
        signing.v1(token, plain, vectors["v2_nonce"])
        == vectors["v1_candidates"]["sha1_base_plus_nonce"]
    )


@pytest.mark.parametrize("mode", signing.MODES)
def test_each_mode_carries_its_headers_and_the_right_tokens(provider, inbox, mode):
    call = provider.call(account="SA_E", signature=mode)
    provider.event(call.call_uuid, "Ring")
    found = {
        name: value
        for name, value in inbox.wait(1)[0].headers.items()
        if name.startswith("X-Vobiz")
    }
    assert set(found) == CARRIES[mode]
    nonces = signing.Nonces(
        found.get("X-Vobiz-Signature-V2-Nonce", ""), found.get("X-Vobiz-Signature-V3-Nonce", "")
    )
    assert (
        found == signing.signature_headers(mode, inbox.url, "subtok", "tok", nonces)
        if mode != "none"
        else found == {}
    )


def test_a_main_account_signs_v3_and_v2_and_a_sub_account_adds_its_parent(provider, inbox):
    provider.event(provider.call().call_uuid, "Ring")
    provider.event(provider.call(account="SA_E").call_uuid, "StartApp")
    inbox.wait(2)
    main, sub = sorted(inbox.arrived, key=lambda a: a.event)
    assert {name for name in main.headers if name.startswith("X-Vobiz")} == V2 | V3
    assert {name for name in sub.headers if name.startswith("X-Vobiz")} == V2 | V3 | MA
    assert sub.fields["ParentAuthID"] == "MA_E"


def test_the_query_is_not_signed_and_nonces_are_twenty_digits_never_twice(provider, inbox):
    for _ in range(2):
        provider.event(provider.call(callback_url=f"{inbox.url}?a=1").call_uuid, "Ring")
    one, two = inbox.wait(2)[:2]
    nonce = one.headers["X-Vobiz-Signature-V3-Nonce"]
    assert one.headers["X-Vobiz-Signature-V3"] == signing.v3("tok", inbox.url, nonce)
    assert len(nonce) == 20
    assert nonce.isdigit()
    assert nonce != two.headers["X-Vobiz-Signature-V3-Nonce"]


def test_an_unknown_mode_is_refused(provider):
    with pytest.raises(ValueError, match="v9"):
        provider.call(signature="v9")
    with pytest.raises(ValueError, match="v9"):
        signing.signature_headers("v9", "http://x", "t", None, NONCES)
