"""A short run of the fuzzer at the real server, and every request that it ever kept."""

import pytest

from tests.webhooks.fuzz_receiver import CASES, answer_to, run
from tests.wire_level import statuses

pytestmark = [pytest.mark.end_to_end, pytest.mark.xdist_group("hostile")]


@pytest.mark.parametrize("case", sorted(CASES.glob("*.bin")), ids=lambda p: p.stem)
def test_a_request_that_once_made_trouble_makes_none(service, case):
    assert not [
        status
        for status in statuses(answer_to(service.base, case.read_bytes()))
        if status >= 500 or 300 <= status < 400
    ]


def test_for_eight_seconds_nothing_that_arrives_is_a_fault_of_ours(service):
    counts, failed = run(service.base, seconds=8, seed=7)
    assert failed == []
    assert counts[200] > 50  # it also says things that are understood
    assert counts[400] > 50
    text = (service.folder / "log").read_text(errors="replace")
    assert not [word for word in ("Traceback", "panicked", "fault of ours") if word in text]
    assert service.get("/readyz").status_code == 200
