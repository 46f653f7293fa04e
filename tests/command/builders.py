"""What tests of several commands begin with."""

from tests.constants import ACCOUNT
from worker.settings import Settings


def settings_in(folder):
    """The settings of a service that has no Redis, with catalogue and archive in this folder."""
    return Settings.from_env(
        {
            "VOBIZ_AUTH_ID": ACCOUNT,
            "VOBIZ_AUTH_TOKEN": "t" * 20,
            "ENDTAPE_CALLBACK_TOKEN": "c" * 20,
            "ENDTAPE_API_KEY": "k" * 20,
            "REDIS_URL": "redis://127.0.0.1:1",
            "ENDTAPE_CATALOG": f"sqlite:///{folder / 'catalog.db'}",
            "ENDTAPE_ARCHIVE": str(folder / "archive"),
        },
        folder=folder,
    )
