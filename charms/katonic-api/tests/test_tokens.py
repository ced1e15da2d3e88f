"""Which tokens are good: those of the issuer, for this audience, signed with a key of today."""

import base64
import hmac
import json
import time

import httpx2
import pytest
from api_server import settings
from joserfc.jwk import OKPKey, RSAKey
from katonic_api.problems import Problem, Unavailable
from katonic_api.tokens import Tokens
from played_keycloak import ISSUER, Keycloak

pytestmark = pytest.mark.anyio


@pytest.fixture
def keycloak() -> Keycloak:
    return Keycloak()


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(keycloak: Keycloak, clock: Clock) -> Tokens:
    client = httpx2.AsyncClient(transport=httpx2.MockTransport(keycloak.answer))
    return Tokens(settings("mongodb://nowhere"), client, clock)


async def reason(tokens: Tokens, token: str) -> str:
    with pytest.raises(Problem) as caught:
        await tokens.verify(token)
    assert caught.value.status == 401
    assert caught.value.headers["WWW-Authenticate"].startswith('Bearer error="invalid_token"')
    return caught.value.detail


def fetches(keycloak: Keycloak) -> int:
    return sum(it.endswith("/certs") for it in keycloak.asked)


async def test_a_good_token_says_who_it_is_of(keycloak, tokens):
    ada = keycloak.person("ada")
    claims = await tokens.verify(keycloak.token(ada, roles=("platform-admin",)))
    assert (claims.id, claims.username, claims.email) == (ada, "ada", "ada@example.org")
    assert claims.name == "Ada Person"
    assert claims.platform_admin
    assert not (await tokens.verify(keycloak.token(ada))).platform_admin


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"iss": "https://katonic.localhost/auth/realms/other"}, "claim iss"),
        ({"aud": "katonic-ui"}, "claim aud"),
        ({"aud": ["katonic-ui", "account"]}, "claim aud"),
        ({"aud": None}, "claim aud"),
        ({"exp": int(time.time()) - 60}, "has expired"),
        ({"exp": None}, "claim exp"),
        ({"nbf": int(time.time()) + 600}, "claim nbf"),
        ({"sub": None}, "claim sub"),
        ({"typ": "ID"}, "no access token"),
        ({"typ": "Refresh"}, "no access token"),
        ({"realm_access": "x"}, "is none"),
    ],
)
async def test_a_token_that_says_something_else_is_refused(keycloak, tokens, claims, said):
    assert said in await reason(tokens, keycloak.token(keycloak.person("ada"), **claims))


async def test_the_clocks_may_differ_a_little(keycloak, tokens):
    ada = keycloak.person("ada")
    assert await tokens.verify(keycloak.token(ada, exp=int(time.time()) - 5))


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "....", "é", "eyJhbGciOiJub25lIn0.e30."])
async def test_what_is_no_token_is_refused(tokens, token):
    assert await reason(tokens, token)


async def test_a_token_signed_by_somebody_else_is_refused(keycloak, tokens):
    forged = RSAKey.generate_key(2048, {"kid": "first"})
    assert "not signed" in await reason(tokens, keycloak.token(keycloak.person("ada"), key=forged))


async def test_a_token_that_was_changed_is_refused(keycloak, tokens):
    head, _, signature = keycloak.token(keycloak.person("ada")).split(".")
    said = json.dumps({"sub": "root", "exp": int(time.time()) + 60}).encode()
    changed = base64.urlsafe_b64encode(said).decode().rstrip("=")
    assert await reason(tokens, f"{head}.{changed}.{signature}")


def part(said: object) -> str:
    text = said if isinstance(said, bytes) else json.dumps(said).encode()
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


async def test_no_token_can_be_made_with_the_public_key(keycloak, tokens):
    """A verifier that takes the algorithm from the token would take the key for a secret."""
    claims = {"sub": "root", "exp": int(time.time()) + 60, "aud": "katonic-api", "iss": ISSUER}
    signed = f"{part({'alg': 'HS256', 'kid': 'first'})}.{part(claims)}"
    public = keycloak.keys[0].as_pem(private=False)
    signature = hmac.digest(public, signed.encode(), "sha256")
    assert await reason(tokens, f"{signed}.{part(signature)}")


async def test_no_token_goes_without_a_signature(tokens):
    claims = {"sub": "root", "exp": int(time.time()) + 60, "aud": "katonic-api", "iss": ISSUER}
    assert await reason(tokens, f"{part({'alg': 'none', 'kid': 'first'})}.{part(claims)}.")


async def test_the_key_for_encryption_signs_nothing(keycloak, tokens):
    other = RSAKey.generate_key(2048, {"kid": "enc"})
    assert "does not have" in await reason(
        tokens, keycloak.token(keycloak.person("ada"), key=other)
    )


async def test_a_new_key_is_followed(keycloak, tokens, clock):
    ada = keycloak.person("ada")
    await tokens.verify(keycloak.token(ada))
    keycloak.rotate()
    clock.seconds += 6
    assert await tokens.verify(keycloak.token(ada))
    assert await tokens.verify(keycloak.token(ada, key=keycloak.keys[1], jti="another"))
    assert fetches(keycloak) == 2


async def test_a_key_that_was_taken_back_is_refused_within_minutes(keycloak, tokens, clock):
    ada = keycloak.person("ada")
    await tokens.verify(keycloak.token(ada))
    keycloak.rotate()
    old = keycloak.keys.pop()
    clock.seconds += 601
    assert "does not have" in await reason(tokens, keycloak.token(ada, key=old, jti="another"))


async def test_keys_of_other_kinds_are_taken_too(keycloak, tokens):
    keycloak.keys.insert(0, OKPKey.generate_key("Ed25519", {"kid": "ed", "use": "sig"}))
    assert await tokens.verify(keycloak.token(keycloak.person("ada")))


async def test_many_tokens_with_unknown_keys_fetch_the_keys_once(keycloak, tokens):
    ada = keycloak.person("ada")
    await tokens.verify(keycloak.token(ada))
    for number in range(20):
        stranger = RSAKey.generate_key(2048, {"kid": f"stranger-{number}"})
        assert "does not have" in await reason(tokens, keycloak.token(ada, key=stranger))
    assert fetches(keycloak) == 1


async def test_while_the_issuer_is_away_known_keys_go_on(keycloak, tokens, clock):
    ada = keycloak.person("ada")
    await tokens.verify(keycloak.token(ada))
    keycloak.answers = False
    clock.seconds += 10_000
    assert await tokens.verify(keycloak.token(ada, jti="another"))


async def test_before_any_key_is_known_it_is_not_the_token_that_is_wrong(keycloak, tokens):
    keycloak.answers = False
    with pytest.raises(Unavailable) as caught:
        await tokens.verify(keycloak.token(keycloak.person("ada")))
    assert caught.value.headers["Retry-After"]
