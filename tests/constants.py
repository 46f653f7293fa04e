"""The account, the secrets and the rules of most tests."""

ACCOUNT = "MA_TEST0001"
TOKEN = "test-auth-token"
CALLBACK_TOKEN = "test-callback-token-0001"
KEY = "test-api-key-000000001"
APP_KEY = "test-app-key-000000001"
VIEW_KEY = "test-view-key-00000001"

HOUR = '[defaults]\nmax_duration = "1h"\n'

# The least that a process needs, beside REDIS_URL; nothing answers at the provider's addresses.
ENV = {
    "VOBIZ_AUTH_ID": ACCOUNT,
    "VOBIZ_AUTH_TOKEN": TOKEN,
    "ENDTAPE_CALLBACK_TOKEN": CALLBACK_TOKEN,
    "ENDTAPE_API_KEY": KEY,
    "VOBIZ_API_URL": "http://127.0.0.1:1/api/v1",
    "VOBIZ_MEDIA_HOSTS": "127.0.0.1:1",
}
