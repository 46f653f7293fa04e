"""An application that drives calls through `/v1`, for tests of that door."""

import requests

from tests.constants import KEY
from tests.waiting import until


class Application:
    """One that drives calls: it knows the house's address and a key."""

    def __init__(self, house, key=KEY):
        self.house, self.key = house, key

    def ask(self, method, path, body=None, *, key=None, **headers):
        return requests.request(
            method,
            f"{self.house.base}/v1{path}",
            json=body,
            timeout=30,
            headers={
                "Authorization": f"Bearer {key or self.key}",
                **{k.replace("_", "-"): v for k, v in headers.items()},
            },
        )

    def post(self, path, body=None, **how):
        return self.ask("POST", path, body, **how)

    def get(self, path, **how):
        return self.ask("GET", path, **how)

    def put(self, path, body=None, **how):
        return self.ask("PUT", path, body, **how)


def recorded(app, **how):
    """A live call with a recording that somebody else started, known to us."""
    call = app.house.provider.call(to_number="918065550101")
    recording = app.house.provider.record(call.call_uuid, **how)
    until(lambda: app.house.recording(recording.recording_id)["phase"] == "recording")
    return call.call_uuid, recording
