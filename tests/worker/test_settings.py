"""Settings: all that is wrong at once, secrets never shown."""

import importlib.util
import threading

import pytest

from worker import in_force
from worker.archive.signing_key import load_or_make
from worker.errors import SettingsError
from worker.settings import Settings

GOOD = {
    "VOBIZ_AUTH_ID": "MA_1",
    "VOBIZ_AUTH_TOKEN": "new-token,old-token",
    "REDIS_URL": "redis://127.0.0.1:1",
    "ENDTAPE_CALLBACK_TOKEN": "a" * 16,
    "ENDTAPE_API_KEY": "b" * 16,
}


def test_good_settings_have_the_documented_defaults(tmp_path):
    found = Settings.from_env(GOOD, folder=tmp_path)
    assert (found.port, found.host, found.public_url) == (
        8000,
        "127.0.0.1",
        "http://127.0.0.1:8000",
    )
    assert found.accounts["MA_1"].tokens == ("new-token", "old-token")
    assert found.rules.defaults.mode == "observe"
    assert "token" not in repr(found).replace("callback_token", "")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "x"),
        ("PORT", "70000"),
        ("VOBIZ_API_URL", "ftp://x"),
        ("VOBIZ_API_URL", "https://two words"),
        ("ENDTAPE_PUBLIC_URL", "https://h/a b"),
        ("ENDTAPE_PUBLIC_URL", "https://h/a?b=c"),
        ("ENDTAPE_PUBLIC_URL", "https://h\\x"),
        ("HOST", "two words"),
        ("HOST", "http://127.0.0.1"),
        ("HOST", "127.0.0.1:80"),
        ("ENDTAPE_SPOOL", "s3://bucket/spool"),
        ("ENDTAPE_APP_KEY", GOOD["ENDTAPE_API_KEY"]),
        ("ENDTAPE_VIEW_KEY", f"vera:{GOOD['ENDTAPE_API_KEY']}"),
        ("ENDTAPE_CALLBACK_TOKEN", "short"),
        ("ENDTAPE_API_KEY", "short"),
        ("ENDTAPE_API_KEY", "anna:short"),
        ("ENDTAPE_API_KEY", ",".join(f"{n}" * 16 for n in range(3))),
        ("ENDTAPE_API_KEY", ",".join(f"anna:{n:016}" for n in range(3))),
        ("ENDTAPE_API_KEY", f"anna:{'k' * 16},bert:{'k' * 16}"),
        ("ENDTAPE_VIEW_KEY", f"api:{'k' * 16}"),
        ("ENDTAPE_VIEW_KEY", "short"),
        ("ENDTAPE_ARCHIVE", "ftp://bucket/x"),
        ("ENDTAPE_ARCHIVE", "s3:///x"),
        ("ENDTAPE_ARCHIVE_FALLBACK", "s3://name@bucket"),
        ("ENDTAPE_ARCHIVE_FALLBACK", "recordings"),
        ("ENDTAPE_ARCHIVE_OPTIONS", "checksum_algorithm"),
        ("ENDTAPE_SPOOL_MAX", "10 apples"),
        ("ENDTAPE_SPOOL_MAX", "1MB"),
        ("ENDTAPE_SIGNATURES", "maybe"),
        ("ENDTAPE_SIGNER", "two words"),
        ("ENDTAPE_SIGNING_KEY", "."),
        ("ENDTAPE_HISTORY", "soon"),
        ("ENDTAPE_RECONCILE_S", "0"),
        ("ENDTAPE_STOP_RATE", "nan"),
        ("ENDTAPE_CONFIG", "missing.toml"),
        ("VOBIZ_AUTH_ID", "../x"),
        ("ENDTAPE_LOG", "xml"),
        ("REDIS_URL", "amqp://h"),
        ("CELERY_BROKER_URL", "sqs://"),
        ("CELERY_BROKER_URL", "amqp://a;redis://b"),
        ("CELERY_BROKER_URL", "amqp://a:x"),
        ("CELERY_BROKER_URL", "amqp://h?foo=1"),
        ("CELERY_BROKER_URL", "amqps://h?ssl_cert_reqs=none"),
        ("CELERY_BROKER_URL", "amqp://h?heartbeat=x"),
        ("CELERY_BROKER_URL", "amqp://h;amqp://i?foo=1"),
    ],
)
def test_a_wrong_value_is_named_with_the_way_out(tmp_path, name, value):
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({**GOOD, name: value}, folder=tmp_path)
    assert any(problem.startswith(name) for problem in caught.value.problems)


@pytest.mark.parametrize(
    ("host", "base"),
    [
        ("::", "http://[::]:8000"),
        ("0.0.0.0", "http://0.0.0.0:8000"),
        ("web-1", "http://web-1:8000"),
    ],
)
def test_web_may_listen_at_any_address_or_name(tmp_path, host, base):
    found = Settings.from_env({**GOOD, "HOST": host}, folder=tmp_path)
    assert (found.host, found.local_url, found.public_url) == (host, base, base)


def test_a_url_with_what_has_no_place_in_it_is_told_so(tmp_path):
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({**GOOD, "ENDTAPE_PUBLIC_URL": "https://h/?a=b"}, folder=tmp_path)
    assert "without user, query and fragment" in caught.value.problems[0]


def test_the_signers_name_comes_from_the_public_url_and_a_key_that_others_can_read_is_refused(
    tmp_path,
):
    environ = {**GOOD, "ENDTAPE_PUBLIC_URL": "https://hooks.example.org/x"}
    found = Settings.from_env(environ, folder=tmp_path)
    assert (found.signer, found.signing_key) == (
        "endtape@hooks.example.org",
        tmp_path / "data" / "signing_key",
    )
    assert not found.signing_key.exists()  # whoever signs makes it
    load_or_make(found.signing_key)
    assert Settings.from_env(environ, folder=tmp_path) == found
    found.signing_key.chmod(0o604)
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({**environ, "PORT": "x"}, folder=tmp_path)
    assert [problem.partition(" ")[0] for problem in caught.value.problems] == [
        "PORT",
        "ENDTAPE_SIGNING_KEY:",
    ]


def test_everything_wrong_is_reported_at_once_and_no_secret_is_shown(tmp_path):
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({"PORT": "x", "ENDTAPE_API_KEY": "hunter2"}, folder=tmp_path)
    assert len(caught.value.problems) >= 5
    assert "hunter2" not in str(caught.value)


def test_the_env_file_is_read_and_the_environment_wins(tmp_path):
    (tmp_path / ".env").write_text("PORT=9000\nHOST=0.0.0.0\n")
    found = Settings.from_env({**GOOD, "PORT": "9001"}, folder=tmp_path)
    assert (found.port, found.host) == (9001, "0.0.0.0")


def test_what_must_be_hidden_in_logs_is_every_secret_that_was_given(tmp_path):
    rules = '[[accounts]]\nauth_id = "SA_1"\ntoken_env = "SUB"\nparent = "MA_1"\ntrunk_secret_env = "TRUNK"\n'
    (tmp_path / "endtape.toml").write_text(rules)
    given = {
        **GOOD,
        "SUB": "sub-token",
        "TRUNK": "trunk-secret",
        "ENDTAPE_APP_KEY": "c" * 16,
        "REDIS_URL": "redis://:red%20is@127.0.0.1:1",
        "CELERY_BROKER_URL": "amqp://me:rabbit@127.0.0.1",
    }
    assert Settings.from_env(given, folder=tmp_path).secrets() == {
        "new-token",
        "old-token",
        "sub-token",
        "trunk-secret",
        "a" * 16,
        "b" * 16,
        "c" * 16,
        "red%20is",
        "red is",
        "rabbit",
    }


def test_a_broker_may_be_named_in_every_way_that_works_and_its_passwords_are_secrets(tmp_path):
    for url in (
        "amqp://h",
        "amqp://h?heartbeat=20",
        "amqps://u:password-1@h:1/v",
        "amqp://u:password-1@a;amqp://u:password-2@b//",
        "redis://h/1",
        "unix:///x",
        "sentinel://a,b,c/m/1",
    ):
        found = Settings.from_env({**GOOD, "CELERY_BROKER_URL": url}, folder=tmp_path)
        assert found.broker_url == url
        assert {word for word in ("password-1", "password-2") if word in url} <= found.secrets()
    assert Settings.from_env(GOOD, folder=tmp_path).broker_url == GOOD["REDIS_URL"]


def test_a_password_in_an_address_is_not_shown_when_it_is_refused(tmp_path):
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(
            {**GOOD, "VOBIZ_API_URL": "https://me:hunter2@api.vobiz.ai"}, folder=tmp_path
        )
    assert "hunter2" not in str(caught.value)
    assert "VOBIZ_API_URL = (secret)" in str(caught.value)


def test_an_env_file_that_is_no_text_is_a_mistake_like_any_other(tmp_path):
    (tmp_path / ".env").write_bytes(b"VOBIZ_AUTH_ID=Jos\xe9\n")
    with pytest.raises(SettingsError, match=r"\.env cannot be read .* UTF-8"):
        Settings.from_env(GOOD, folder=tmp_path)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("ENDTAPE_URL", "ENDTAPE_PUBLIC_URL"),
        ("ENDTAPE_KEY", "ENDTAPE_API_KEY"),
        ("ENDTAPE_ARCHVE", "ENDTAPE_ARCHIVE"),
        ("ENDTAPE_PORT", "PORT"),
        ("ENDTAPE_REDIS_URL", "REDIS_URL"),
        ("ENDTAPE_AUTH_ID", "VOBIZ_AUTH_ID"),
        ("VOBIZ_AUTHTOKEN", "VOBIZ_AUTH_TOKEN"),
    ],
)
def test_a_name_that_is_no_setting_is_a_warning_with_the_nearest_one(tmp_path, name, nearest):
    (warning,) = Settings.from_env({**GOOD, name: "hunter2"}, folder=tmp_path).warnings
    assert (warning.split(" ")[0], warning.rpartition(" ")[2], "hunter2" in warning) == (
        name,
        nearest,
        False,
    )


def test_what_the_rules_name_and_what_is_empty_is_no_warning(tmp_path):
    (tmp_path / "endtape.toml").write_text(
        '[[accounts]]\nauth_id = "SA_1"\ntoken_env = "VOBIZ_TOKEN_BILLING"\n'
        '[[notify]]\nurl = "https://app.example.com"\nsecret_env = "ENDTAPE_NOTIFY_SECRET"\n'
    )
    secrets = {"VOBIZ_TOKEN_BILLING": "t", "ENDTAPE_NOTIFY_SECRET": f"whsec_{'a' * 32}"}
    given = {**GOOD, **secrets, "ENDTAPE_OLD": "", "OTHER_THING": "x"}
    assert Settings.from_env(given, folder=tmp_path).warnings == ()
    # With the rules left out, as `endtape verify` and `endtape index` do, too.
    assert Settings.from_env(given, folder=tmp_path, without_rules=True).warnings == ()
    given["ENDTAPE_ARCHIV"] = "x"
    (warning,) = Settings.from_env(given, folder=tmp_path, without_rules=True).warnings
    assert warning.startswith("ENDTAPE_ARCHIV is no setting")


def test_what_is_missing_is_called_missing_and_what_is_wrong_is_told_with_what_is_accepted(
    tmp_path,
):
    needed = (
        "VOBIZ_AUTH_ID",
        "VOBIZ_AUTH_TOKEN",
        "REDIS_URL",
        "ENDTAPE_CALLBACK_TOKEN",
        "ENDTAPE_API_KEY",
    )
    for nothing in ({}, dict.fromkeys(needed, ""), dict.fromkeys(needed, "  ")):
        with pytest.raises(SettingsError) as caught:
            Settings.from_env(nothing, folder=tmp_path)
        assert sorted(p.partition(":")[0] for p in caught.value.problems) == sorted(
            f"{name} is missing" for name in needed
        )
        assert "must have 16" not in str(caught.value)
    with pytest.raises(
        SettingsError, match=r"ENDTAPE_API_KEY = \(secret\): must have 16 characters"
    ):
        Settings.from_env({**GOOD, "ENDTAPE_API_KEY": "short"}, folder=tmp_path)


def test_empty_means_not_set_wherever_it_is_written(tmp_path):
    (tmp_path / ".env").write_bytes(
        b"\xef\xbb\xbfPORT=9000\r\nVOBIZ_MEDIA_HOSTS=\r\nENDTAPE_LOG=  \r\n"
    )  # as an editor of Windows writes it
    found = Settings.from_env(
        {**GOOD, "PORT": "", "HOST": " ", "ENDTAPE_CONFIG": "", "ENDTAPE_APP_KEY": ""},
        folder=tmp_path,
    )
    assert (found.port, found.host, found.log, found.app_key) == (9000, "127.0.0.1", "text", None)
    assert found.media_hosts == ("vobiz.ai", "*.vobiz.ai")


def test_a_rules_file_that_was_there_and_is_gone_is_a_broken_file_and_a_moment_without_it_is_not(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    rules = tmp_path / "endtape.toml"
    assert Settings.from_env().again().rules.from_file is False  # there never was one
    rules.write_text("[[rules]]\nname = 'one'\n")
    with_rules = Settings.from_env()
    rules.rename(tmp_path / "old")
    with pytest.raises(SettingsError, match=r"endtape\.toml is gone.*observe"):
        with_rules.again()
    back = threading.Timer(0.1, (tmp_path / "old").rename, [rules])  # as an editor saves it
    back.start()
    assert len(with_rules.again().rules.rules) == 1
    back.join()
    rules.write_text("")
    writing = threading.Timer(
        0.1,
        rules.write_text,
        ["[[rules]]\nname = 'one'\n[[rules]]\nname = 'two'\nmatch = { to = '9' }\n"],
    )
    writing.start()  # an editor that writes into the file itself
    with pytest.raises(SettingsError, match="two"):  # unreachable: it was read whole
        with_rules.again()
    writing.join()
    rules.write_text("")
    assert with_rules.again().rules.from_file  # on purpose


def test_what_only_a_start_can_change_stays_and_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    before = Settings.from_env()
    (tmp_path / ".env").write_text(
        "PORT=9001\nENDTAPE_LOG=json\nCELERY_BROKER_URL=redis://127.0.0.1:2\nENDTAPE_STOP_RATE=7\n"
    )
    found = before.again()
    assert set(found.restart) == {"PORT", "ENDTAPE_LOG", "CELERY_BROKER_URL"}
    assert (found.port, found.public_url, found.log, found.stop_rate) == (
        8000,
        "http://127.0.0.1:8000",
        "text",
        7,
    )
    (tmp_path / ".env").write_text("")
    assert found.again().restart == ()


def test_a_misspelled_name_is_told_beside_what_is_wrong_unless_the_rules_that_may_name_it_are_broken(
    tmp_path,
):
    given = {k: v for k, v in GOOD.items() if k != "ENDTAPE_API_KEY"} | {
        "ENDTAPE_API_KYE": "b" * 16
    }
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(given, folder=tmp_path)
    assert [p.partition(" is ")[::2] for p in caught.value.problems][1] == (
        "ENDTAPE_API_KYE",
        "no setting of this release and has no effect; the nearest is ENDTAPE_API_KEY",
    )
    (tmp_path / "endtape.toml").write_text("[defaults")
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(given, folder=tmp_path)
    assert "ENDTAPE_API_KYE" not in str(caught.value)


def test_a_line_of_the_env_file_that_sets_nothing_is_a_warning_with_its_number_and_without_its_text(
    tmp_path, caplog
):
    (tmp_path / ".env").write_text(
        "# ours\n\nPORT=8001\nhunter2 hunter3\nexport HOST=127.0.0.2\nENDTAPE_LOG\n"
    )
    found = Settings.from_env(GOOD, folder=tmp_path)
    assert (found.port, found.host) == (8001, "127.0.0.2")
    assert found.warnings == tuple(
        f".env: line {n} has no effect; it must be NAME=VALUE, or begin with #" for n in (4, 6)
    )
    assert not caplog.records


def test_keys_may_have_names_and_are_never_shown(tmp_path):
    given = {
        **GOOD,
        "ENDTAPE_API_KEY": f"anna:{'a' * 16}, {'b' * 16},anna:{'c' * 16}",
        "ENDTAPE_VIEW_KEY": f"eve@example.org:{'d' * 16}",
    }
    found = Settings.from_env(given, folder=tmp_path)
    assert [(k.name, k.secret[0]) for k in found.api_keys] == [
        ("anna", "a"),
        (None, "b"),
        ("anna", "c"),
    ]
    assert [k.name for k in found.view_keys] == ["eve@example.org"]
    assert {n * 16 for n in "abcd"} <= found.secrets()
    assert not any(n * 16 in repr((found, found.api_keys)) for n in "bcd")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite://catalog.db", "sqlite:///FILE"),
        ("mysql://me:secret-word@h/x", "postgresql+psycopg://"),
        ("postgresql://me:secret-word@h/x", "postgresql+psycopg://"),
    ],
)
def test_a_catalogue_of_another_kind_is_refused_without_its_password(tmp_path, url, says):
    with pytest.raises(SettingsError) as refused:
        Settings.from_env({**GOOD, "ENDTAPE_CATALOG": url}, folder=tmp_path)
    (problem,) = refused.value.problems
    assert (problem.startswith("ENDTAPE_CATALOG = "), says in problem) == (True, True)
    assert "secret-word" not in problem


def test_a_catalogue_lies_in_the_folder_of_env_and_its_password_is_a_secret(tmp_path, monkeypatch):
    found = Settings.from_env(GOOD, folder=tmp_path)
    assert found.catalog == f"sqlite:///{tmp_path}/data/catalog.db"
    url = "postgresql+psycopg://me:secret-word@h:5432/x"
    found = Settings.from_env({**GOOD, "ENDTAPE_CATALOG": url}, folder=tmp_path)
    assert ("secret-word" in found.secrets(), "secret-word" in repr(found)) == (True, False)
    assert in_force.shown(found)["catalog"] == "postgresql+psycopg://h:5432/x"
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SettingsError, match="pip install 'endtape\\[postgresql\\]'"):
        Settings.from_env({**GOOD, "ENDTAPE_CATALOG": url}, folder=tmp_path)
