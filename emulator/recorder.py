"""Recordings: how they start, end, and are finalised, and which of them can be found."""

from __future__ import annotations

import threading
import time
from typing import Any

from emulator import rows
from emulator.delivery import Sender
from emulator.options import RecordingOptions
from emulator.state import SOURCES, SPELLINGS, Book, Call, Delivery, Recording, new_id, one_of


class Recorder:
    """The verbs of recordings. Each raises KeyError for a call or recording that is unknown or no
    longer live, ValueError for bad values.

    `finalise_s`: how long after its end a recording's file is there. `keeps_s`: how long a file is
    kept then; None is for ever.
    """

    def __init__(
        self, sender: Sender, *, callback_url: str, finalise_s: float, keeps_s: float | None
    ) -> None:
        self.accounts, self.faults = sender.accounts, sender.faults
        self.callback_url, self.finalise_s, self.keeps_s = callback_url, finalise_s, keeps_s
        self.book = Book()
        self.media_host = ""
        self._sender, self._timers = sender, sender.timers
        self._once = threading.Lock()

    def record(self, call_uuid: str, **options: Any) -> Recording:
        """Starts a recording of a live call, with the fields of RecordingOptions as keywords.

        One of source `xml` announces itself with `Event=Record`.
        """
        call, wanted = self.book.live(call_uuid), RecordingOptions(**options)
        made = self._new_recording(call, wanted)
        rid = made.recording_id
        self.book.add_recording(made)
        self._timers.after(made.max_length_s, lambda: self.end(rid, "maxLength"))
        if made.source == "xml" and wanted.announce:
            self._sender.tell(call, rows.started(call, made), recording=made, url=made.action_url)
        return made

    def _new_recording(self, call: Call, wanted: RecordingOptions) -> Recording:
        source = wanted.source or ("trunk" if call.trunk else "xml")
        one_of("container", wanted.container, ("mp3", "wav"))
        one_of("spelling", wanted.spelling, SPELLINGS)
        one_of("source", source, SOURCES)
        rid, container = wanted.recording_id or new_id(), wanted.container
        if bool(call.trunk) != (source == "trunk"):
            raise ValueError("a trunk call, and only a trunk call, is recorded with source 'trunk'")
        if call.trunk:
            # A trunk has one recording of a call, it is a WAV, and it bears the call's own id.
            rid, container = call.call_uuid, "wav"
        if rid in self.book.recordings:
            raise ValueError(f"recording {rid} exists")
        action_url = wanted.action_url or call.urls.get("Record")
        return Recording(
            recording_id=rid,
            call_uuid=call.call_uuid,
            account=call.account,
            container=container,
            channels=wanted.channels,
            source=source,
            url=self._media_url(call.account, rid, container),
            callback_url=wanted.callback_url or call.urls.get("RecordStop") or call.callback_url,
            started_at=time.time() - wanted.age_s,
            max_length_s=wanted.max_length_s,
            spelling=wanted.spelling,
            transcription_url=wanted.transcription_url,
            action_url=action_url or wanted.callback_url or call.callback_url,
            delivery=Delivery(wanted.callback_method or call.delivery.method, wanted.encoding),
        )

    def _media_url(self, account: str, recording_id: str, container: str) -> str:
        return f"http://{self.media_host}/v1/Account/{account}/Recording/{recording_id}.{container}"

    def stop(self, call_uuid: str, url: str | None) -> None:
        """Ends what a stop request ends: every recording of the call, or the one with this address.
        A trunk's recording goes on, and an unknown address ends nothing.
        """
        for recording in self.book.running(call_uuid):
            if url in {None, recording.url} and recording.source != "trunk":
                self.end(recording.recording_id, "StoppedByAPI")

    def end(self, recording_id: str, reason: str) -> None:
        """Ends a recording, once; its file and its callback follow when it is finalised."""
        with self._once:
            recording = self.book.recordings.get(recording_id)
            if recording is None or recording.ended_at is not None:
                return
            recording.ended_at, recording.end_reason = time.time(), reason
            self.book.end_recording(recording)
        slow = self.faults.hit("slow-finalise", **recording.facts())
        self._timers.after(
            float(slow["seconds"]) if slow else self.finalise_s, lambda: self._finalise(recording)
        )

    def _finalise(self, recording: Recording) -> None:
        recording.listed_at = time.time()
        call = self.book.calls.get(recording.call_uuid)
        if call is None:
            return  # a reset forgot the call
        self._sender.tell(
            call, rows.finished(call, recording), recording=recording, url=recording.callback_url
        )
        if recording.transcription_url:
            self.transcribed(recording.recording_id, url=recording.transcription_url)

    def transcribed(
        self, recording_id: str, text: str = "hello this is a test call", *, url: str | None = None
    ) -> None:
        """Sends the separate callback about a recording's transcription."""
        recording = self.book.recordings[recording_id]
        self._sender.tell(
            self.book.calls[recording.call_uuid],
            rows.transcription(recording, text),
            event="transcription",
            url=url,
        )

    def insert_row(self, like: Recording) -> Recording:
        """Adds a finished recording of the same call that is newer than all others. No callback
        speaks of it.
        """
        now, rid = time.time(), new_id()
        made = Recording(
            recording_id=rid,
            call_uuid=like.call_uuid,
            account=like.account,
            container="mp3",
            channels=1,
            source="rest",
            url=self._media_url(like.account, rid, "mp3"),
            callback_url="",
            started_at=max(now - 1, like.started_at + 0.001),
            max_length_s=60,
            ended_at=now,
            end_reason="maxLength",
            listed_at=now,
        )
        self.book.add_recording(made)
        return made

    # What can be asked
    # --------------------------------------------------------------------------------------------

    def is_ready(self, recording: Recording) -> bool:
        """Whether the file can be found: it is finalised, and not yet deleted for its age."""
        if recording.listed_at is None:
            return False
        now = time.time()
        if self.keeps_s is not None and now > recording.listed_at + self.keeps_s:
            return False
        early = self.faults.hit("early-404", **recording.facts())
        return early is None or now >= (recording.ended_at or 0) + float(early["seconds"])

    def ready(self, account: str, recording_id: str) -> Recording | None:
        """The account's recording, if its file can be found."""
        recording = self.book.recordings.get(recording_id)
        if recording is None or recording.account != account or not self.is_ready(recording):
            return None
        return recording

    @property
    def recordings(self) -> dict[str, Recording]:
        return self.book.recordings
