"""Access tokens that are not what they say: of another make, another key, another use, another time."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from app.core.security import Vault, secret_key
from app.models.permission import SYSTEM, Origin, Permission
from app.models.user import Role
from app.services import token_service
from app.services.token_service import SEALED_FOR
from tests.sign_in import Clock
from tests.test_api.support import PASSWORD, Service
from tests.test_security.support import (
    ACCEPT,
    CONTACTS,
    LOGIN,
    ME,
    REFRESH,
    Owner,
    Person,
    bearing,
    enter,
    key_of,
    problem,
    state_of,
)

EVIL = "https://evil.example/keys.json"
STRANGER = Ed25519PrivateKey.generate()
LONG = "k" * 3000


def part(value: object) -> str:
    """A part of a token."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class Mint:
    """Makes tokens with the service's own key, so that each forgery has one fault only."""

    def __init__(self, person: Person, owner: Owner) -> None:
        self.person = person
        ((self.kid, sealed),) = owner.rows("SELECT kid, private_key FROM signing_keys WHERE retired_at IS NULL")
        self.key = Ed25519PrivateKey.from_private_bytes(Vault(secret_key(person.api.settings)).open(sealed, SEALED_FOR))
        self.header: dict[str, Any] = {"alg": "EdDSA", "kid": self.kid, "typ": "at+jwt"}
        self.claims: dict[str, Any] = jwt.decode(person.access, options={"verify_signature": False})

    def raw(self, header: object, claims: object, by: Ed25519PrivateKey | None = None) -> str:
        """A token of any header and claims, signed."""
        unsigned = f"{part(header)}.{part(claims)}"
        return f"{unsigned}.{part((by or self.key).sign(unsigned.encode()))}"

    def make(self, by: Ed25519PrivateKey | None = None, head: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token with some members of the header and some claims changed; None leaves one out."""
        members = {name: it for name, it in (self.header | (head or {})).items() if it is not None}
        return self.raw(members, {name: it for name, it in (self.claims | claims).items() if it is not None}, by)

    def with_secret(self, secret: bytes, alg: str = "HS256", digest: str = "sha256") -> str:
        """A token whose MAC has been made with what everybody knows."""
        unsigned = f"{part(self.header | {'alg': alg})}.{part(self.claims)}"
        return f"{unsigned}.{part(hmac.digest(secret, unsigned.encode(), digest))}"

    def foreign(self, key: Any, alg: str) -> str:
        """A token that is signed as others sign."""
        return jwt.encode(self.claims, key, alg, {"kid": self.kid, "typ": "at+jwt"})

    def jwk(self, key: Ed25519PrivateKey) -> dict[str, str]:
        """The public half of a key."""
        return {"kty": "OKP", "crv": "Ed25519", "x": part(key.public_key().public_bytes_raw())}


def pem(key: Ed25519PrivateKey, form: Encoding = Encoding.PEM) -> bytes:
    """The public half of a key as files have it."""
    return key.public_key().public_bytes(form, PublicFormat.SubjectPublicKeyInfo)


Forge = Callable[[Mint], str]


def headed(**members: Any) -> Forge:
    """Tokens with other members in the header."""
    return lambda mint: mint.make(head=members)


def claiming(**claims: Any) -> Forge:
    """Tokens with other claims."""
    return lambda mint: mint.make(**claims)


def unsigned(alg: str) -> Forge:
    """Tokens without a signature."""
    return lambda mint: f"{part(mint.header | {'alg': alg})}.{part(mint.claims)}."


def constant(text: str) -> Forge:
    """The same text for everybody."""
    return lambda _: text


ALGORITHMS: dict[str, Forge] = {
    **{f"alg {alg}": unsigned(alg) for alg in ("none", "None", "NONE", "nOnE", "", "HS256", "RS256")},
    "alg none, old signature": lambda it: f"{part(it.header | {'alg': 'none'})}.{it.person.access.split('.', 1)[1]}",
    "no alg": lambda it: it.make(head={"alg": None}),
    "alg is no text": lambda it: it.make(head={"alg": ["EdDSA"]}),
    "alg Ed25519": lambda it: it.make(head={"alg": "Ed25519"}),
    "HS256 with the raw public key": lambda it: it.with_secret(it.key.public_key().public_bytes_raw()),
    "HS256 with the PEM public key": lambda it: it.with_secret(pem(it.key)),
    "HS256 with the DER public key": lambda it: it.with_secret(pem(it.key, Encoding.DER)),
    "HS256 with the JWK": lambda it: it.with_secret(json.dumps(it.jwk(it.key)).encode()),
    "HS256 with x of the JWK": lambda it: it.with_secret(it.jwk(it.key)["x"].encode()),
    "HS256 with nothing": lambda it: it.with_secret(b""),
    "HS512 with the PEM public key": lambda it: it.with_secret(pem(it.key), "HS512", "sha512"),
    "RS256": lambda it: it.foreign(rsa.generate_private_key(65537, 2048), "RS256"),
    "PS256": lambda it: it.foreign(rsa.generate_private_key(65537, 2048), "PS256"),
    "ES256": lambda it: it.foreign(ec.generate_private_key(ec.SECP256R1()), "ES256"),
}  # fmt: skip
ODD_KIDS: tuple[Any, ...] = (
    None, "", "theirs", LONG, 1, True, [], {}, ["a"], "../../../../dev/null", "/dev/null", "' OR '1'='1",
    "x' UNION SELECT kid, public_key FROM signing_keys --", "%", "_", "\0", "k\r\nX-A: b", "http://127.0.0.1/k",
)  # fmt: skip
ODD_NUMBERS: tuple[Any, ...] = ("1", 1.5, True, [], {}, "9" * 400)
KEYS_OF_OTHERS: dict[str, Forge] = {
    "another key under our kid": lambda it: it.make(STRANGER),
    "jwk": lambda it: it.make(STRANGER, {"jwk": it.jwk(STRANGER)}),
    "jwk without kid": lambda it: it.make(STRANGER, {"jwk": it.jwk(STRANGER), "kid": None}),
    "jku": lambda it: it.make(STRANGER, {"jku": EVIL, "kid": "theirs"}),
    "x5u": lambda it: it.make(STRANGER, {"x5u": EVIL, "kid": "theirs"}),
    "x5c": lambda it: it.make(STRANGER, {"x5c": [base64.b64encode(pem(STRANGER, Encoding.DER)).decode()]}),
    **{f"kid {kid!r:.40}": headed(kid=kid) for kid in ODD_KIDS},
    "kid twice": lambda it: it.raw(
        f'{{"alg":"EdDSA","typ":"at+jwt","kid":"{it.kid}","kid":"theirs"}}'.encode(), it.claims, STRANGER),
    "unknown crit": lambda it: it.make(head={"crit": ["x-limit"], "x-limit": 1}),
}  # fmt: skip
USES: dict[str, Forge] = {
    **{f"typ {typ}": headed(typ=typ) for typ in (
        "JWT", "jwt", "", None, "AT+JWT", "application/at+jwt", "refresh+jwt", "id+jwt", "logout+jwt", 1, ["at+jwt"])},
    "id token": lambda it: it.make(head={"typ": "JWT"}, nonce="n", auth_time=1, email=it.person.account.email),
    "issuer of another": lambda it: it.make(iss="https://accounts.example"),
    "issuer like ours": lambda it: it.make(iss="sms-platform "),
    "issuers in a list": lambda it: it.make(iss=["sms-platform"]),
    "audience of another": lambda it: it.make(aud="billing"),
    "ours among audiences": lambda it: it.make(aud=["billing", "sms-api"]),
    "ours alone in a list": lambda it: it.make(aud=["sms-api"]),
    "audience like ours": lambda it: it.make(aud="sms-api-2"),
    "audience is no text": lambda it: it.make(aud={"sms-api": 1}),
    **{f"no {name}": claiming(**{name: None})
       for name in ("iss", "aud", "exp", "iat", "sub", "sid", "ver", "jti")},
}  # fmt: skip
VALUES: dict[str, Forge] = {
    **{f"{name} {value!r:.20}": claiming(**{name: value})
       for name in ("exp", "iat", "ver") for value in ODD_NUMBERS},
    "sub of nobody": lambda it: it.make(sub=str(uuid4())),
    "sub is no id": lambda it: it.make(sub="admin"),
    "sub with SQL": lambda it: it.make(sub="' OR 1=1 --"),
    "session of nobody": lambda it: it.make(sid=str(uuid4())),
    "session is a pattern": lambda it: it.make(sid="%"),
    "issued tomorrow": lambda it: it.make(iat=it.claims["iat"] + 86_400, exp=it.claims["exp"] + 86_400),
    "claims are a list": lambda it: it.raw(it.header, [it.claims]),
    "claims are no JSON": lambda it: it.raw(it.header, b"{"),
    "claims are no UTF-8": lambda it: it.raw(it.header, b'{"sub":"\xff"}'),
    "header is a list": lambda it: it.raw([it.header], it.claims),
    "header is 1,400 levels deep": lambda it: it.raw(b"[" * 1400 + b"]" * 1400, {}),
    "claims are 1,400 levels deep": lambda it: it.raw(it.header, b"[" * 1350 + b"]" * 1350),
}  # fmt: skip
SHAPES: dict[str, Forge] = {
    "no signature": lambda it: it.person.access.rpartition(".")[0] + ".",
    "two parts": lambda it: it.person.access.rpartition(".")[0],
    "four parts": lambda it: it.person.access + ".x",
    "five parts, as an encrypted one": lambda it: it.person.access + ".x.y",
    "three dots": constant(".."),
    "claims changed": lambda it: ".".join(
        (it.person.access.split(".")[0], part(it.claims | {"role": "admin"}), it.person.access.split(".")[2])),
    "signature of another token": lambda it: it.make().rpartition(".")[0] + "." + it.make(jti="2").rpartition(".")[2],
    "a space in it": lambda it: it.person.access[:50] + " " + it.person.access[50:],
    "long": lambda it: it.make(extra="x" * 4000),
    "very long": constant("a" * 20_000),
}  # fmt: skip


@pytest.fixture(scope="module")
def mint(api: Service, owner: Owner) -> Mint:
    """A mint for tokens of a marketer."""
    return Mint(enter(api), owner)


def test_token_with_nothing_wrong_is_taken(api: Service, mint: Mint) -> None:
    """Else all the refusals below would prove nothing."""
    assert bearing(api, mint.make(), "GET", ME).json()["email"] == mint.person.account.email
    assert bearing(api, mint.make(extra=1), "GET", ME).status_code == 200


@pytest.mark.parametrize("how", ALGORITHMS)
def test_token_of_another_algorithm_is_refused(api: Service, mint: Mint, how: str) -> None:
    problem(bearing(api, ALGORITHMS[how](mint), "GET", ME), 401, "token_invalid")


@pytest.mark.parametrize("how", KEYS_OF_OTHERS)
def test_token_brings_no_key_of_its_own(api: Service, mint: Mint, how: str) -> None:
    """Nor is one fetched: sockets of the tests reach this machine only, and trying would be a fault."""
    problem(bearing(api, KEYS_OF_OTHERS[how](mint), "GET", ME), 401, "token_invalid")


@pytest.mark.parametrize("how", USES)
def test_token_for_something_else_is_refused(api: Service, mint: Mint, how: str) -> None:
    problem(bearing(api, USES[how](mint), "GET", ME), 401, "token_invalid")


@pytest.mark.parametrize("how", VALUES)
def test_token_with_odd_claims_is_refused(api: Service, mint: Mint, how: str) -> None:
    problem(bearing(api, VALUES[how](mint), "GET", ME), 401, "token_invalid")


@pytest.mark.parametrize("how", SHAPES)
def test_token_of_another_shape_is_refused(api: Service, mint: Mint, how: str) -> None:
    problem(bearing(api, SHAPES[how](mint), "GET", ME), 401, "token_invalid")


def test_token_ends_when_it_says(api: Service, owner: Owner, clock: Clock) -> None:
    person = enter(api)
    mint = Mint(person, owner)
    problem(bearing(api, mint.make(exp=mint.claims["iat"] - 60), "GET", ME), 401, "token_expired")
    clock.forward(minutes=9)
    assert person.is_in()
    clock.forward(minutes=2)
    problem(person.ask("GET", ME), 401, "token_expired")


def test_token_that_is_not_valid_yet_is_refused(api: Service, owner: Owner, clock: Clock) -> None:
    """We issue none with nbf; but whoever finds it must keep to it (RFC 7519, section 4.1.5)."""
    mint = Mint(enter(api), owner)
    problem(bearing(api, mint.make(nbf=mint.claims["iat"] + 300), "GET", ME), 401, "token_invalid")
    assert bearing(api, mint.make(nbf=mint.claims["iat"] - 300), "GET", ME).status_code == 200


def test_claims_given_twice_open_no_other_account(api: Service, mint: Mint) -> None:
    other = enter(api, Role.ADMIN)
    text = json.dumps(mint.claims)
    for twice in (
        text[:-1] + f', "sub": "{other.id}"}}',
        f'{{"sub": "{other.id}", ' + text[1:],
        text[:-1] + ', "role": "admin", "permissions": ["users:manage"]}',
    ):
        answer = bearing(api, mint.raw(mint.header, twice.encode()), "GET", ME)
        if answer.status_code == 200:
            assert (answer.json()["email"], answer.json()["role"]) == (mint.person.account.email, "marketer")
        else:
            problem(answer, 401, "token_invalid")


def test_session_of_one_does_not_serve_another(api: Service, mint: Mint) -> None:
    other = enter(api, Role.ADMIN)
    sid = jwt.decode(other.access, options={"verify_signature": False})["sid"]
    problem(bearing(api, mint.make(sid=sid), "GET", ME), 401, "token_invalid")
    problem(bearing(api, mint.make(sub=other.id), "GET", ME), 401, "token_invalid")


def test_role_that_a_token_names_counts_for_nothing(api: Service, mint: Mint) -> None:
    token = mint.make(role="admin", permissions=["users:manage"], scope="users:manage")
    problem(bearing(api, token, "GET", "/api/v1/users"), 403, "forbidden")
    assert bearing(api, token, "GET", ME).json()["role"] == "marketer"


def test_version_that_is_over_ends_the_token(api: Service, mint: Mint) -> None:
    for version in (0, -1, 2, 2**40):
        problem(bearing(api, mint.make(ver=version), "GET", ME), 401, "session_ended")


def test_no_secret_stands_in_for_another(api: Service) -> None:
    """Access token, refresh token, API key, invitation, cursor and password are each good for one thing."""
    person = enter(api)
    key, _ = key_of(person, Permission.CONTACTS_READ)
    cursor = person.ask("GET", f"{CONTACTS}?limit=1").json()["next"]
    for secret in (person.refresh, cursor, PASSWORD, key[4:], "sms_" + person.refresh, key.upper(), key + "A"):
        assert bearing(api, secret, "GET", CONTACTS).status_code == 401
    for secret in (person.access, key, cursor, person.id, person.refresh + "A", person.refresh[:-1]):
        problem(api.ask("POST", REFRESH, json={"refresh_token": secret}), 401, "refresh_invalid")
        accept = {"token": secret, "password": "quiet-harbour-keeps-3-umbrellas"}
        problem(api.ask("POST", ACCEPT, json=accept), 401, "invitation_invalid")
        login = {"email": person.account.email, "password": secret[:1000]}
        problem(api.ask("POST", LOGIN, json=login), 401, "credentials_invalid")
    problem(person.ask("GET", f"{CONTACTS}?cursor={person.refresh}"), 422, "cursor_invalid")


@pytest.mark.parametrize(
    "header",
    ["Basic {}", "Token {}", "bearer: {}", "Bearer={}", "Bearer Bearer {}", "Bearer {}, Basic x", "{}", "DPoP {}"],
)
def test_token_comes_in_one_way_only(api: Service, mint: Mint, header: str) -> None:
    answer = api.ask("GET", ME, headers={"Authorization": header.format(mint.person.access)})
    assert answer.status_code == 401
    for where in ("access_token", "token"):
        assert api.ask("GET", f"{ME}?{where}={mint.person.access}").status_code == 401
        assert api.ask("GET", ME, headers={"Cookie": f"{where}={mint.person.access}"}).status_code == 401


def test_token_of_a_retired_key_is_refused_at_once(api: Service) -> None:
    """In every process: the database is asked, not what a process remembers."""
    person, state = enter(api), state_of(api)
    assert person.is_in()
    old = jwt.get_unverified_header(person.access)["kid"]

    async def replace() -> None:
        async with state.db.transaction() as session:
            await token_service.rotate(session, Vault(secret_key(api.settings)), SYSTEM, Origin())
            await token_service.retire(session, old, SYSTEM, Origin())

    assert api.client.portal is not None
    api.client.portal.call(replace)
    api.tokens.clear()
    problem(person.ask("GET", ME), 401, "token_invalid")
    state.signer._loaded_at = float("-inf")  # as some seconds later
    tokens = api.ask("POST", REFRESH, json={"refresh_token": person.refresh}).json()
    assert jwt.get_unverified_header(tokens["access_token"])["kid"] != old
    assert bearing(api, tokens["access_token"], "GET", ME).status_code == 200
    assert [it["kid"] for it in api.ask("GET", "/.well-known/jwks.json").json()["keys"]] != [old]


def test_published_keys_have_no_private_half(api: Service) -> None:
    for path in ("/.well-known/jwks.json", "/api/v1/auth/keys"):
        keys = api.ask("GET", path).json()["keys"]
        assert [set(key) for key in keys] == [{"kty", "crv", "alg", "use", "kid", "x"}]
