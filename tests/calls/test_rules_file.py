"""`endtape.toml`: what each key means, and what each mistake is answered."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker.calls.call import Call, Recording
from worker.calls.rules import Action, DailyTime, Mode, deadline
from worker.calls.rules_file import Reader, RulesFile, read
from worker.errors import SettingsError

NOW = datetime(2026, 9, 14, 6, 30, tzinfo=UTC)


def rules(text):
    return read(text, "endtape.toml").rules


def call(**facts):
    return Call(account=facts.pop("account", "MA_1"), call_uuid="c", **facts)


def recording(started=NOW):
    return Recording(recording_id="r", known_at=started, provider_started_at=started)


def test_the_built_in_values_are_the_documented_ones_and_on_is_empty():
    name, terms = rules("").choose(call())
    assert (
        name,
        terms.mode,
        terms.max_duration,
        terms.stop_at,
        terms.confirm_within,
        terms.stop_tries,
        terms.if_unproven,
        terms.on,
    ) == ("defaults", Mode.ENFORCE, timedelta(hours=1), (), timedelta(seconds=10), 4, "hold", {})
    assert rules("").adopt is None


FILE = """
adopt = "30d"
[defaults]
max_duration = "2h"
on = { transfer = "stop", machine = "stop" }
[[rules]]
name = "payments line"
match = { to = "91804*", direction = "inbound", account = "MA_*" }
max_duration = "5m"
on = { "transfer.blind" = "keep", "dial.connected" = "keep" }
[[rules]]
name = "everything that ends in 99"
match = { to = "*99" }
max_duration = "none"
mode = "observe"
"""


def test_the_first_rule_that_matches_decides_and_what_it_leaves_out_comes_from_the_defaults():
    name, terms = rules(FILE).choose(call(to_number="918040000099", direction="inbound"))
    assert (name, terms.max_duration, terms.mode) == (
        "payments line",
        timedelta(minutes=5),
        Mode.ENFORCE,
    )
    assert terms.on == {
        "transfer": Action.STOP,
        "machine": Action.STOP,
        "transfer.blind": Action.KEEP,
        "dial.connected": Action.KEEP,
    }
    name, terms = rules(FILE).choose(call(to_number="99"))
    assert (name, terms.max_duration, terms.mode) == (
        "everything that ends in 99",
        None,
        Mode.OBSERVE,
    )
    assert rules(FILE).choose(call(to_number="5"))[0] == "defaults"
    assert rules(FILE).adopt == timedelta(days=30)


def test_a_field_that_is_not_known_matches_nothing():
    assert rules(FILE).choose(call(to_number="918040000001"))[0] == "defaults"
    assert rules(FILE).choose(call(direction="inbound"))[0] == "defaults"


@pytest.mark.parametrize(
    ("trigger", "action"),
    [
        ("transfer", "stop"),
        ("transfer.blind", "keep"),
        ("transfer.attended", "stop"),
        ("transfer.failed", "keep"),
        ("dial.connected", "stop"),
        ("conference.join", "stop"),
        ("dial.answer", "keep"),
        ("redirect", "keep"),
        ("machine", "keep"),
        ("custom.x", "keep"),
    ],
)
def test_the_more_specific_key_wins_and_only_these_fall_back_to_transfer(trigger, action):
    _, terms = rules('[defaults]\non = { transfer = "stop", "transfer.blind" = "keep" }').choose(
        call()
    )
    assert terms.action(trigger) == action


def test_an_unquoted_dotted_key_means_the_same():
    _, terms = rules('[defaults.on]\ntransfer = "stop"\ndial.connected = "keep"').choose(call())
    assert terms.on == {"transfer": Action.STOP, "dial.connected": Action.KEEP}


@pytest.mark.parametrize(
    "written", ["+91 80 4000 1234", "0091804000*", "91804*", "*1234", "*4000*", "*"]
)
def test_numbers_are_compared_as_digits_without_plus_or_leading_zeros(written):
    assert (
        rules(f'[[rules]]\nname = "n"\nmatch = {{ to = "{written}" }}').choose(
            call(to_number="918040001234")
        )[0]
        == "n"
    )


def test_zeros_after_a_star_are_no_prefix():
    found = rules('[[rules]]\nname = "n"\nmatch = { to = "*0042" }')
    assert found.choose(call(to_number="9180042"))[0] == "n"
    assert found.choose(call(to_number="9189942"))[0] == "defaults"


@pytest.mark.parametrize(
    "written",
    [
        "sip:+918041234567@203.0.113.7:5060",
        "<sip:91804*@10.0.0.5;transport=udp>",
        "tel:+91-80-4*",
        "sips:*4567@h",
        "918041234567@10.0.0.5",
        "00918041234567@h",
    ],
)
def test_a_rules_number_may_be_written_as_an_address(written):
    found = rules(f'[[rules]]\nname = "n"\nmatch = {{ to = "{written}" }}')
    assert found.choose(call(to_number="918041234567"))[0] == "n"
    assert found.choose(call(to_number="10005"))[0] != "n"


def test_labels_match_by_pattern():
    found = rules('[[rules]]\nname = "n"\nmatch = { labels = { team = "bill*" } }')
    assert found.choose(call(labels={"team": "billing"}))[0] == "n"
    assert found.choose(call(labels={"desk": "billing"}))[0] == "defaults"


def test_a_rule_watches_where_it_says_so_or_inherits_it():
    assert not rules("").watches
    found = rules(
        '[defaults]\nwatch = true\n[[rules]]\nname = "n"\nmatch = { to = "1*" }\nwatch = false'
    )
    assert (
        found.watches,
        found.choose(call(to_number="12"))[1].watch,
        found.choose(call())[1].watch,
    ) == (True, False, True)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("x = 1", "x = 1: unknown key; known here: adopt, defaults, rules, accounts"),
        ("not toml", "not valid TOML"),
        ('adopt = "old"', "adopt = 'old': must be \"new\" or a duration"),
        ('[defaults]\nmax_duration = "0s"', "defaults.max_duration"),
        ('[defaults]\nmax_duration = "5 minutes"', "defaults.max_duration"),
        ("[defaults]\nmax_duration = 300", "defaults.max_duration"),
        ('[defaults]\nmode = "strict"', "defaults.mode"),
        ("[defaults]\nstop_tries = 0", "defaults.stop_tries"),
        ("[defaults]\nstop_tries = true", "defaults.stop_tries"),
        ('[defaults]\nconfirm_within = "0s"', "defaults.confirm_within"),
        ('[defaults]\nif_unproven = "maybe"', "defaults.if_unproven"),
        ('[defaults]\nwatch = "yes"', "defaults.watch"),
        ('[defaults]\nstop_at = ["25:00 Asia/Kolkata"]', "defaults.stop_at[0]"),
        ('[defaults]\nstop_at = ["18:00 Asia/Nowhere"]', "defaults.stop_at[0]"),
        ('[defaults]\nstop_at = ["18:00"]', "defaults.stop_at[0]"),
        ('[defaults]\nstop_at = "18:00 Asia/Kolkata"', "defaults.stop_at"),
        ('[defaults]\non = "stop"', "defaults.on"),
        ('[defaults]\non = { transfers = "stop" }', "defaults.on.transfers"),
        ('[defaults]\non = { transfer = "halt" }', "defaults.on.transfer"),
        ('[defaults]\non = { transfer = "hold" }', "defaults.on.transfer"),
        ('[defaults]\nmatch = { to = "1" }', "defaults.match"),
        ('[[rules]]\nname = ""', "rules[0].name"),
        ('[[rules]]\nmatch = { to = "9*1" }', "rules[0].match.to"),
        ('[[rules]]\nmatch = { to = "reception" }', "rules[0].match.to"),
        ('[[rules]]\nmatch = { to = "sip:reception7@10.0.0.5" }', "rules[0].match.to"),
        ('[[rules]]\nmatch = { to = "sip:10.0.0.5:5060" }', "rules[0].match.to"),
        ('[[rules]]\nmatch = { to = "91804,91805" }', "rules[0].match.to"),
        ('[[rules]]\nmatch = { direction = "in" }', "rules[0].match.direction"),
        ('[[rules]]\nmatch = { labels = "x" }', "rules[0].match.labels"),
        ('[[rules]]\nmatch = { tp = "1" }', "rules[0].match.tp"),
        (
            '[[rules]]\nname = "a"\nmatch = { to = "91*" }\n[[rules]]\nname = "b"\nmatch = { to = "918*" }',
            "can never apply",
        ),
        ('[[rules]]\nname = "a"\n[[rules]]\nname = "b"\nmatch = { to = "1" }', "can never apply"),
        (
            '[[rules]]\nname = "a"\nmatch = { to = "1" }\n[[rules]]\nname = "a"\nmatch = { to = "2" }',
            "names must differ",
        ),
        ('[[rules]]\nname = "a\\u001b[2J"', "rules[0].name"),
        ('[[rules]]\nname = "defaults"', "choose another name"),
        ('[[accounts]]\nauth_id = "SA_1"', "accounts[0].token_env"),
        (
            '[[accounts]]\nauth_id = "SA_1"\ntoken_env = "T"\nparent = "SA_1"',
            "accounts[0].parent",
        ),
        ('[[notify]]\nurl = "app.example.com"\nsecret_env = "S"', "notify[0].url"),
        ('[[notify]]\nurl = "http://app.example.com"\nsecret_env = "S"', "notify[0].url"),
        ('[[notify]]\nurl = "https://app.example.com"', "notify[0].secret_env"),
        (
            '[[notify]]\nurl = "https://app.example.com"\nsecret_env = "S"\nevents = ["stop"]',
            "notify[0].events",
        ),
        (
            '[[notify]]\nurl = "https://app.example.com"\nsecret_env = "S"\nprivate = "yes"',
            "notify[0].private",
        ),
        ("[defaults]\nafter_archive = 3", "defaults.after_archive"),
        ('[defaults]\nafter_archive = { cmd = ["x"] }', "defaults.after_archive.cmd"),
        (
            '[defaults]\nafter_archive = { url = "https://a.example/", command = ["x"] }',
            "defaults.after_archive.command",
        ),
        ('[defaults]\nafter_archive = { url = "https://a.example/" }', "after_archive.secret_env"),
        (
            '[defaults]\nafter_archive = { url = "http://a.example/", secret_env = "S" }',
            "defaults.after_archive.url",
        ),
        ('[defaults]\nafter_archive = { command = "transcribe" }', "after_archive.command"),
        ("[defaults]\nafter_archive = { command = [] }", "defaults.after_archive.command"),
        ('[defaults]\nafter_archive = { command = ["x"], within = "2h" }', "after_archive.within"),
        ('[defaults]\nconsent = "maybe"', "defaults.consent"),
        ('[defaults]\nconsent_within = "0s"', "defaults.consent_within"),
        ("[defaults]\ntail_limit = 1", "defaults.tail_limit"),
        ('[[accounts]]\nauth_id = "../x"\ntoken_env = "T"', "accounts[0].auth_id"),
        ('[[accounts]]\nauth_id = "SA_1"\ntoken_env = "not a name"', "accounts[0].token_env"),
        (
            '[[accounts]]\nauth_id = "SA_1"\ntoken_env = "T"\n[[accounts]]\nauth_id = "SA_1"\ntoken_env = "U"',
            "stands there twice",
        ),
        ("rules = 3", "rules"),
    ],
)
def test_a_mistake_is_named_with_file_key_and_the_way_out(text, named):
    with pytest.raises(SettingsError) as caught:
        rules(text)
    assert any(
        problem.startswith("endtape.toml: ") and named in problem
        for problem in caught.value.problems
    )


def test_all_mistakes_are_told_at_once_and_a_secret_in_the_file_is_not_repeated():
    with pytest.raises(SettingsError) as caught:
        rules(
            'x = 1\n[defaults]\nmode = "?"\n[[accounts]]\nauth_id = "SA_1"\ntoken_env = "sk live 51H8secret"'
        )
    assert len(caught.value.problems) == 3
    assert "51H8secret" not in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        '[[accounts]]\nauth_id = "SA_1"\ntoken_env = "T"\ntoken = "51H8secret"',
        '[[notify]]\nurl = "https://a.example"\nsecret_env = "S"\nsecret = "whsec_51H8secret"',
        '[[notify]]\nurl = "https://a.example"\nsecret_env = "whsec_51H8secret"',
        '[defaults]\nafter_archive = { url = "https://a.example", secret_env = "whsec_51H8secret" }',
        'api_key = "51H8secret"',
    ],
)
def test_a_secret_that_somebody_wrote_into_the_file_is_a_mistake_and_is_not_repeated(line):
    with pytest.raises(SettingsError) as caught:
        rules(line)
    assert "51H8secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("daily", "start", "stops"),
    [
        ("18:00 Asia/Kolkata", "2026-09-14T06:30:00", "2026-09-14T12:30:00"),
        (
            "18:00 Asia/Kolkata",
            "2026-09-14T12:30:00",
            "2026-09-14T12:30:00",
        ),  # began at that very instant
        ("18:00 Asia/Kolkata", "2026-09-14T12:30:01", "2026-09-15T12:30:00"),
        (
            "02:30 Europe/Berlin",
            "2026-03-28T12:00:00",
            "2026-03-29T01:00:00",
        ),  # skipped: the first instant after the gap
        ("02:30 Europe/Berlin", "2026-10-24T12:00:00", "2026-10-25T00:30:00"),  # doubled: the first
        ("02:30 Europe/Berlin", "2026-10-25T00:30:01", "2026-10-26T01:30:00"),
        (
            "23:59:30 America/New_York",
            "2026-11-01T04:00:00",
            "2026-11-02T04:59:30",
        ),  # the day with 25 hours
        ("00:30 Australia/Lord_Howe", "2026-10-03T13:00:00", "2026-10-03T14:00:00"),
    ],
)
def test_a_daily_stop_holds_in_its_zone_across_clock_changes(daily, start, stops):
    _, terms = rules(f'[defaults]\nmax_duration = "none"\nstop_at = ["{daily}"]').choose(call())
    at, trigger = deadline(
        terms, recording(datetime.fromisoformat(start).replace(tzinfo=UTC)).started_at
    )
    assert (at, trigger) == (datetime.fromisoformat(stops).replace(tzinfo=UTC), "stop_at")


def test_the_earlier_of_two_deadlines_counts():
    _, terms = rules(
        '[defaults]\nmax_duration = "5m"\nstop_at = ["18:00 Asia/Kolkata", "12:04 Asia/Kolkata"]'
    ).choose(call())
    assert deadline(terms, recording().started_at) == (NOW + timedelta(minutes=4), "stop_at")
    assert deadline(terms, recording(NOW + timedelta(minutes=10)).started_at) == (
        NOW + timedelta(minutes=15),
        "max_duration",
    )


@given(
    st.datetimes(datetime.fromisoformat("2025-01-01"), datetime.fromisoformat("2028-01-01")),
    st.times(),
    st.sampled_from(
        ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Africa/Cairo"]
    ),
)
def test_the_next_daily_stop_is_never_before_the_start_and_never_more_than_a_day_and_an_hour_away(
    start, at, zone
):
    found = DailyTime(at=at.replace(microsecond=0), zone=ZoneInfo(zone)).first_from(
        start.replace(tzinfo=UTC)
    )
    assert timedelta(0) <= found - start.replace(tzinfo=UTC) <= timedelta(hours=25, minutes=1)


KEYS = [
    "mode",
    "max_duration",
    "stop_at",
    "confirm_within",
    "stop_tries",
    "if_unproven",
    "watch",
    "on",
    "name",
    "match",
    "to",
    "labels",
    "auth_id",
    "token_env",
    "rules",
    "defaults",
    "adopt",
]
tables = st.recursive(
    st.one_of(
        st.booleans(),
        st.integers(-(10**20), 10**20),
        st.floats(),
        st.datetimes(),
        st.text(max_size=12),
        st.sampled_from(
            [
                "1h",
                "999999999d",
                "0s",
                "9" * 30 + "d",
                "none",
                "18:00 Asia/Kolkata",
                "25:99 Nowhere",
                "18:00 ../../etc",
                "stop",
                "keep",
                "MA_*",
                "**",
                "918*",
            ]
        ),
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=14,
)


@given(
    st.dictionaries(
        st.sampled_from(["adopt", "defaults", "rules", "accounts", "x"]), tables, max_size=4
    )
)
def test_whatever_a_file_holds_is_rules_or_a_list_of_mistakes(document):
    reader = Reader("endtape.toml")
    found = reader.document(document)
    assert reader.problems or isinstance(found, RulesFile)


@given(st.text(max_size=80))
@example("a = " + "[" * 5000)
@example("a = " + "9" * 5000)
@example('[defaults]\nmode = ["enforce"]\n')
@example("[[accounts]]\nauth_id = 5\ntoken_env = true\n")
def test_whatever_a_file_says_is_rules_or_a_list_of_mistakes(text):
    try:
        found = read(text, "endtape.toml")
    except SettingsError as error:
        found = error
    assert isinstance(found, RulesFile) or found.problems


def test_what_a_rule_expects_and_how_long_the_provider_keeps_its_copies():
    found = rules('[defaults]\nkeep_at_provider = "7d"\nexpect = "none"').defaults
    assert (found.keep_at_provider, found.expects) == (timedelta(days=7), "none")
    assert rules('[defaults]\nkeep_at_provider = "0s"').defaults.keep_at_provider == timedelta(0)
    assert rules('[defaults]\nkeep_at_provider = "forever"').defaults.keep_at_provider is None
    assert rules("[defaults]\nwatch = true").defaults.expects == "every"


def test_after_archive_names_an_address_or_a_command_and_a_rule_may_take_it_back():
    found = rules(
        """
[defaults]
after_archive = { url = "https://a.example/x", secret_env = "S" }
[[rules]]
name = "local"
match = { to = "91*" }
after_archive = { command = ["transcribe", "--fast"], within = "10m" }
[[rules]]
name = "none"
match = { to = "92*" }
after_archive = {}
"""
    )
    command, nobody = (rule.terms.after_archive for rule in found.rules)
    address = found.defaults.after_archive
    assert (address.url, address.secret_env, address.private) == ("https://a.example/x", "S", False)
    assert (command.command, command.within) == (("transcribe", "--fast"), timedelta(minutes=10))
    assert (nobody, found.after_archive) == (None, (address, command))
