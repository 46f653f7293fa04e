"""The account, the secrets and the rules of most tests."""

ACCOUNT = "MA_TEST0001"
TOKEN = "test-auth-token"
CALLBACK_TOKEN = "test-callback-token-0001"
KEY = "test-api-key-000000001"

HOUR = '[defaults]\nmax_duration = "1h"\n'
SECOND = '[defaults]\nmax_duration = "1s"\n'
