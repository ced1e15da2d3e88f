"""What Prometheus is told; on a port of its own, which the gateway does not lead to."""

from prometheus_client import Counter, Histogram

REQUESTS = Histogram(
    "katonic_ui_request_seconds",
    "How long an answer took until its first byte, by route and status.",
    ["route", "method", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
SIGN_INS = Counter("katonic_ui_sign_ins", "Sign-ins, by how they ended.", ["outcome"])
REFRESHES = Counter("katonic_ui_refreshes", "Refreshed tokens, by outcome.", ["outcome"])
DECISIONS = Counter("katonic_ui_decisions", "What the gateway was told.", ["outcome"])
API = Counter("katonic_ui_api_requests", "Requests to the API, by status.", ["status"])
ERRORS = Counter("katonic_ui_errors", "Pages that could not be shown, by reason.", ["reason"])
