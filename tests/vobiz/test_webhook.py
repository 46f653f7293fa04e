"""To which addresses a webhook may go."""

from datetime import UTC, datetime

import pytest

from worker.calls.notices import Endpoint
from worker.vobiz import webhook

SECRET = "whsec_" + "c2VjcmV0LW9mLXRoaXJ0eS10d28tYnl0ZXMtMTIzNA=="


@pytest.mark.parametrize(
    ("url", "numbers", "why"),
    [
        ("http://app.example.com/x", ["93.184.216.34"], "plain http is for endpoints with"),
        ("https://app.example.com/x", ["10.0.0.5"], "10.0.0.5, which is not a public address"),
        ("https://app.example.com/x", ["93.184.216.34", "127.0.0.1"], "not a public address"),
        ("https://169.254.169.254/x", [], "not a public address"),
        ("https://user@app.example.com/x", [], "not a plain host"),
        ("https://app.example.com/x", [], "has no address"),
    ],
)
def test_an_endpoint_that_is_not_private_must_have_https_and_public_addresses(url, numbers, why):
    endpoint = Endpoint(url=url, secrets=(SECRET,), events=frozenset())
    dialled = []

    def resolve(host, _port):
        dialled.append(host)
        return numbers

    outcome = webhook.send(endpoint, "msg_1", "{}", datetime.now(UTC), resolve)
    assert (outcome.arrived, outcome.status, why in (outcome.why or "")) == (False, None, True), (
        outcome
    )
    assert "/x" not in outcome.why  # which may be a token


def test_a_private_endpoint_may_be_anywhere_and_what_does_not_answer_is_down():
    endpoint = Endpoint(
        url="http://app.internal:1/x", secrets=(SECRET,), events=frozenset(), private=True
    )
    outcome = webhook.send(endpoint, "msg_1", "{}", datetime.now(UTC), lambda *_: ["127.0.0.1"])
    assert (outcome.status, outcome.is_down, outcome.is_refused_for_good) == (None, True, False)
    assert "no answer from app.internal" in (outcome.why or "")
