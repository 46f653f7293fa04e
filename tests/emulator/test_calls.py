"""Calls that ring, and dials of more than one leg."""

import pytest


def test_a_ringing_call_is_not_live_until_it_is_answered(provider, rest, inbox):
    call = provider.call(direction="outbound", ringing=True, callback_url=inbox.url).call_uuid
    assert rest.get("Call/?status=live").json()["calls"] == []
    assert [
        rest.ask(*how).status_code
        for how in (
            ("GET", f"Call/{call}/?status=live"),
            ("DELETE", f"Call/{call}/Record/"),
            ("POST", f"Call/{call}/Record/"),
        )
    ] == [404] * 3
    with pytest.raises(KeyError):
        provider.record(call)
    provider.answer(call)
    assert rest.get("Call/?status=live").json()["calls"] == [call]
    assert rest.delete(f"Call/{call}/Record/").status_code == 204
    assert provider.wait_idle(5)
    assert inbox.events() == ["Ring", "StartApp"]
    with pytest.raises(KeyError):
        provider.answer(call)


@pytest.mark.parametrize(
    ("loser", "events"),
    [
        ("", ["DialAnswer", "DialConnected"]),
        ("before", ["DialHangup", "DialAnswer", "DialConnected"]),
        ("after", ["DialAnswer", "DialConnected", "DialHangup"]),
    ],
)
def test_a_leg_that_loses_the_race_ends_before_or_after_the_other_is_connected(
    provider, inbox, loser, events
):
    call = provider.call(callback_url=inbox.url).call_uuid
    leg = provider.dial(call, "918065550199", loser=loser)
    assert provider.wait_idle(5)
    assert inbox.events() == events
    lost = [a.fields for a in inbox.arrived if a.fields["Event"] == "DialHangup"]
    assert [
        (f["DialBLegDuration"], f["DialBLegHangupCauseCode"], f["DialBLegUUID"] == leg)
        for f in lost
    ] == [("0", "9000", False)] * bool(loser)
