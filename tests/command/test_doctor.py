"""What `endtape doctor` sends itself, and what it checks where the rules file is broken."""

import json

import pytest
from click.testing import CliRunner

from tests.constants import ACCOUNT
from worker.calls.events import Event, Fault, Kind
from worker.command import completeness, doctor
from worker.vobiz.signature import SignatureRejected, sign, verify


def test_a_callback_is_signed_as_the_provider_signs_it():
    url, nonce = "https://endtape.example/vobiz/MA_1/token/doctor", "0" * 20
    headers = sign(url, "auth-token", nonce)
    found = verify(base_url=url, headers=headers, tokens=["auth-token"])
    assert (found.signed, found.scheme, found.nonces) == (True, "v3", (nonce,))
    with pytest.raises(SignatureRejected):
        verify(base_url=f"{url}/other", headers=headers, tokens=["auth-token"])


def test_with_a_broken_rules_file_each_check_is_made_and_the_file_is_one_that_failed(
    ledger, redis_server, tmp_path, monkeypatch
):
    settings = {
        "VOBIZ_AUTH_ID": ACCOUNT,
        "VOBIZ_AUTH_TOKEN": "t" * 20,
        "VOBIZ_API_URL": "http://127.0.0.1:1/api/v1",
        "ENDTAPE_CALLBACK_TOKEN": "c" * 20,
        "ENDTAPE_API_KEY": "k" * 20,
        "ENDTAPE_PUBLIC_URL": "http://127.0.0.1:1",
        "REDIS_URL": redis_server.url,
    }
    (tmp_path / ".env").write_text("".join(f"{name}={v}\n" for name, v in settings.items()))
    (tmp_path / "endtape.toml").write_text('[defaults]\nmax_duration = "soon"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "Ledger", lambda _client: ledger)
    ledger.had_rules("endtape.toml")
    running = {"rules": "1 and the defaults", "config": "endtape.toml"}
    monkeypatch.setattr(doctor.in_force, "shown_by_the_service", lambda _ledger: running)
    facts = {"reason": "503", "fault": Fault.PROVIDER, "ended_at": ledger.now()}
    for kind in (Kind.RECORDING_FINALIZED, Kind.FETCH_FAILED):
        event = Event(
            id=kind.value, kind=kind, call_uuid="c", recording_id="r", signed=True, **facts
        )
        ledger.record(ACCOUNT, event)

    found = CliRunner().invoke(doctor.doctor, ["--json"])

    told = {check["name"]: check for check in json.loads(found.stdout)["checks"]}
    assert (found.exit_code, told["rules file"]["state"]) == (1, "failed")
    assert "max_duration" in told["rules file"]["detail"]
    assert told["unfinished work"]["detail"].startswith("1 recording ended and does not come home")
    assert {"redis", "processes", f"account {ACCOUNT}", "archive", "catalogue"} < told.keys()
    assert told["settings"]["state"] == "fine", told["settings"]
    counts = CliRunner().invoke(completeness.ledger, [])
    assert (counts.exit_code, "GET /v1/ledger" in counts.stderr) == (2, True)
