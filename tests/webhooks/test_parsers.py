"""Whatever is put into a callback's parts, what comes out is safe to store, to log and to name
files by."""

import json
import re
from dataclasses import asdict
from urllib.parse import urlencode

from hypothesis import example, given
from hypothesis import strategies as st

from tests.webhooks.fuzz_receiver import KINDS, NAMES, WORDS
from worker.calls.events import Event
from worker.ledger.codec import decode, encode
from worker.vobiz import callback_fields, callbacks, signature

words = st.one_of(st.sampled_from(WORDS), st.text(max_size=30))
values = st.recursive(
    st.one_of(words, st.none(), st.booleans(), st.integers(), st.floats()),
    lambda v: st.lists(v, max_size=2) | st.dictionaries(st.sampled_from(NAMES), v, max_size=2),
    max_leaves=4,
)
bodies = st.fixed_dictionaries(
    {"Event": st.sampled_from(KINDS), "CallUUID": st.sampled_from(["c1", "c-2", "x" * 200, "a/b"])},
    optional={name: values for name in NAMES if name not in {"Event", "CallUUID"}},
)
SAFE = re.compile(r"[A-Za-z0-9_-]{1,128}")


def harmless(event):
    """Ids are ids; no text holds control characters or is without end."""
    for name in ("call_uuid", "recording_id", "leg", "b_leg", "room", "member"):
        assert getattr(event, name) is None or SAFE.fullmatch(getattr(event, name)), name
    for name, value in asdict(event).items():
        if isinstance(value, str):
            assert len(value) <= 2000, name
            assert value.isprintable(), name
    assert event.url is None or event.url.startswith(("http://", "https://"))


@given(bodies, st.sampled_from(["json", "form", "wrapped", "query"]))
def test_an_event_is_harmless_in_every_encoding_and_comes_back_from_the_log_as_it_went_in(
    fields, how
):
    plain = {k: v if isinstance(v, str) else json.dumps(v) for k, v in fields.items()}
    body, kind, query = {
        "json": (json.dumps(fields), "application/json", ""),
        "form": (urlencode(plain, errors="replace"), "", ""),
        "wrapped": (urlencode({"response": json.dumps(fields)}), "", ""),
        "query": ("", "", urlencode(plain, errors="replace")),
    }[how]
    try:
        event = callbacks.parse(
            callback_fields.read_fields(body=body.encode(), content_type=kind, query=query).fields
        )
    except callback_fields.Unreadable as error:
        event = str(error)
    if isinstance(event, str):
        assert event.isprintable()
        return
    if event is not None:
        assert isinstance(event, Event)
        harmless(event)
        line = f"{event.id} 1 {encode(event, 'MA_1')}"
        assert line.isascii()
        assert line.isprintable()
        (again,) = decode(line, "MA_1", event.call_uuid)
        harmless(again)
        assert (again.kind, again.recording_id, again.url) == (
            event.kind,
            event.recording_id,
            event.url,
        )


def test_what_is_wrapped_may_be_an_object_as_well_as_its_text():
    for wrapped in ({"Event": "Ring", "CallUUID": "c1"}, '{"Event": "Ring", "CallUUID": "c1"}'):
        said = callback_fields.read_fields(
            body=json.dumps({"response": wrapped}).encode(),
            content_type="application/json",
            query="",
        )
        assert callbacks.parse(said.fields).call_uuid == "c1"


TOKEN = "the-token"
parts = st.one_of(
    st.text(max_size=30),
    st.sampled_from(["", ",", "A" * 44, "A" * 44 + ",", "\u0660", "\ud800", "=", "\0"]),
)


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "X-Vobiz-Signature-V3",
                "x-vobiz-signature-v3-nonce",
                "X-Vobiz-Signature-V2",
                "X-Vobiz-Signature-V2-Nonce",
                "X-Vobiz-Signature-MA-V3",
                "X-Vobiz-Signature-MA-V2",
                "X-Vobiz-Signature",
            ]
        ),
        parts,
    ),
    st.text(max_size=60),
    parts,
    st.lists(st.tuples(parts, parts), max_size=3),
)
@example({"X-Vobiz-Signature-V3": "x", "x-vobiz-signature-v3-nonce": "1"}, "//[", "", [])
@example({"X-Vobiz-Signature-V3": "x", "x-vobiz-signature-v3-nonce": "1"}, "/a:99999999", "", [])
def test_no_header_path_query_or_form_makes_a_signature_good_or_the_check_fail(
    headers, path, query, form
):
    base = signature.base_url("https://endtape.test:8443", path)
    for required in (True, False):
        try:
            found = signature.verify(
                base_url=base,
                headers=headers,
                tokens=[TOKEN, "é"],
                parent_tokens=["parent"],
                query=query,
                form=form,
                required=required,
            )
        except signature.SignatureRejected as error:
            found = error
        assert (
            found.reason in {"missing", "no_nonce", "wrong"}
            if isinstance(found, Exception)
            else not found.signed and not required
        )


@given(parts, st.binary(max_size=40))
def test_no_trunk_signature_is_guessed_and_no_header_makes_the_check_fail(value, body):
    try:
        signature.verify_trunk(
            body=body, headers={"X-Vobiz-Signature": value}, secrets=["one", "two"]
        )
    except signature.SignatureRejected:
        return
    raise AssertionError("verified")
