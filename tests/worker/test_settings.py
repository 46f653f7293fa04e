"""Settings: all that is wrong at once, secrets never shown."""

import pytest

from worker.errors import SettingsError
from worker.settings import Settings

GOOD = {"VOBIZ_AUTH_ID": "MA_1", "VOBIZ_AUTH_TOKEN": "new-token,old-token", "REDIS_URL": "redis://127.0.0.1:1",
        "ENDTAPE_CALLBACK_TOKEN": "a" * 16, "ENDTAPE_API_KEY": "b" * 16}


def test_good_settings_have_the_documented_defaults(tmp_path):
    found = Settings.from_env(GOOD, folder=tmp_path)
    assert (found.port, found.host, found.public_url) == (8000, "127.0.0.1", "http://127.0.0.1:8000")
    assert found.accounts["MA_1"].tokens == ("new-token", "old-token")
    assert found.policy.defaults.mode == "observe"
    assert "token" not in repr(found).replace("callback_token", "")


@pytest.mark.parametrize(("name", "value"), [
    ("PORT", "x"), ("PORT", "70000"), ("VOBIZ_API_URL", "ftp://x"), ("ENDTAPE_CALLBACK_TOKEN", "short"), ("ENDTAPE_API_KEY", "short"),
    ("ENDTAPE_ARCHIVE", "s3://bucket/x"), ("ENDTAPE_SIGNATURES", "maybe"), ("ENDTAPE_HISTORY", "soon"), ("ENDTAPE_RECONCILE_S", "0"),
    ("ENDTAPE_STOP_RATE", "nan"), ("ENDTAPE_CONFIG", "missing.toml"), ("VOBIZ_AUTH_ID", "../x"), ("ENDTAPE_LOG", "xml"), ("ENDTAPE_TYPO", "1"),
    ("REDIS_URL", "amqp://h"), ("CELERY_BROKER_URL", "sqs://"), ("CELERY_BROKER_URL", "amqp://a;redis://b"), ("CELERY_BROKER_URL", "amqp://a:x")])
def test_a_wrong_value_is_named_with_the_way_out(tmp_path, name, value):
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({**GOOD, name: value}, folder=tmp_path)
    assert any(problem.startswith(name) for problem in caught.value.problems)


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
    given = {**GOOD, "SUB": "sub-token", "TRUNK": "trunk-secret", "ENDTAPE_APP_KEY": "c" * 16,
             "REDIS_URL": "redis://:red%20is@127.0.0.1:1", "CELERY_BROKER_URL": "amqp://me:rabbit@127.0.0.1"}
    assert Settings.from_env(given, folder=tmp_path).secrets() == {
        "new-token", "old-token", "sub-token", "trunk-secret", "a" * 16, "b" * 16, "c" * 16, "red%20is", "red is", "rabbit"}


def test_a_broker_may_be_named_in_every_way_that_works_and_its_passwords_are_secrets(tmp_path):
    for url in ("amqp://h", "amqps://u:password-1@h:1/v", "amqp://u:password-1@a;amqp://u:password-2@b//", "redis://h/1", "unix:///x", "sentinel://a,b,c/m/1"):
        found = Settings.from_env({**GOOD, "CELERY_BROKER_URL": url}, folder=tmp_path)
        assert found.broker_url == url
        assert {word for word in ("password-1", "password-2") if word in url} <= found.secrets()
    assert Settings.from_env(GOOD, folder=tmp_path).broker_url == GOOD["REDIS_URL"]


def test_a_password_in_an_address_is_not_shown_when_it_is_refused(tmp_path):
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({**GOOD, "VOBIZ_API_URL": "https://me:hunter2@api.vobiz.ai"}, folder=tmp_path)
    assert "hunter2" not in str(caught.value)
    assert "VOBIZ_API_URL = (secret)" in str(caught.value)


def test_an_env_file_that_is_no_text_is_a_mistake_like_any_other(tmp_path):
    (tmp_path / ".env").write_bytes(b"VOBIZ_AUTH_ID=Jos\xe9\n")
    with pytest.raises(SettingsError, match=r"\.env cannot be read .* UTF-8"):
        Settings.from_env(GOOD, folder=tmp_path)
