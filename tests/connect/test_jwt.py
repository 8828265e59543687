"""Tokens: found once, read strictly, verified by our choice of algorithm and of time."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import OctKey, RSAKey

from connect.jwt import (
    LEEWAY_SECONDS,
    MAX_LIFETIME_SECONDS,
    MAX_TOKEN_BYTES,
    Algorithm,
    InvalidToken,
    Reason,
    find_bearer_token,
    find_token,
    parse,
    sign,
    verify,
)
from connect.qsh import query_string_hash

VECTORS = json.loads((Path(__file__).parent / "vectors" / "signed-calls.json").read_text())
OFFICIAL = Path(__file__).parents[2].parent / "shared" / "vectors" / "jwt-signed-urls.json"

SECRET = b"a-secret-key-not-to-be-lost-0123"
NOW = 1_795_000_000
CLAIMS: Mapping[str, Any] = {"iss": "client", "iat": NOW, "exp": NOW + 180, "qsh": "0" * 64}


def _segment(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _token(header: str, payload: str = "{}", signature: bytes = b"x") -> str:
    # Half a surrogate pair stands for a byte that is no UTF-8.
    parts = (part.encode(errors="surrogateescape") for part in (header, payload))
    return ".".join(_segment(part) for part in (*parts, signature))


def _reason(token: str, algorithm: Algorithm = Algorithm.HS256) -> Reason:
    with pytest.raises(InvalidToken) as refusal:
        parse(token, algorithm)
    return refusal.value.reason


def _verify(changes: Mapping[str, Any] = {}, now: float = NOW, **expected: Any) -> None:
    claims = {name: value for name, value in {**CLAIMS, **changes}.items() if value is not ...}
    verify(parse(sign(claims, SECRET), Algorithm.HS256), SECRET, now=now, **expected)


def _refusal(changes: Mapping[str, Any] = {}, now: float = NOW, **expected: Any) -> Reason:
    with pytest.raises(InvalidToken) as refusal:
        _verify(changes, now, **expected)
    return refusal.value.reason


def test_a_token_signed_elsewhere_with_an_rsa_key_is_verified() -> None:
    case = VECTORS["rs256"]
    key = load_pem_public_key(case["public_key"].encode())
    assert isinstance(key, RSAPublicKey)
    token = parse(case["token"], Algorithm.RS256)

    claims = verify(
        token,
        key,
        now=case["now"],
        audiences=[case["audience"]],
        issuer=case["issuer"],
        qsh=query_string_hash(
            case["method"], case["raw_path"], case["raw_query"], case["base_path"]
        ),
    )

    assert token.key_id == case["key_id"]
    assert (claims.issued_at, claims.expires_at) == (NOW, NOW + 180)


def test_a_token_signed_elsewhere_with_a_secret_is_verified() -> None:
    case = VECTORS["hs256"]
    token = parse(case["token"], Algorithm.HS256)
    qsh = query_string_hash(case["method"], case["raw_path"], case["raw_query"])

    claims = verify(token, case["secret"].encode(), now=case["now"], qsh=qsh)

    assert token.claimed_issuer == claims.issuer == case["issuer"]


@pytest.mark.skipif(not OFFICIAL.exists(), reason="Atlassian's vectors are not here")
def test_the_signature_of_every_official_url_is_verified() -> None:
    vectors = json.loads(OFFICIAL.read_text())
    secret = vectors["secret"].encode()

    for case in vectors["tests"]:
        token = parse(find_token(raw_query=case["signedUrl"].partition("?")[2]), Algorithm.HS256)
        verify(token, secret, now=token.payload["iat"])
        with pytest.raises(InvalidToken, match="signature"):
            verify(token, secret + b"x", now=token.payload["iat"])

    assert len(vectors["tests"]) == 78


def test_joserfc_and_this_library_read_each_other(private_key: RSAPrivateKey) -> None:
    rsa_key, secret = RSAKey.import_key(private_key), OctKey.import_key(SECRET)

    theirs = joserfc_jwt.encode({"alg": "RS256", "kid": "k"}, dict(CLAIMS), rsa_key)
    assert verify(parse(theirs, Algorithm.RS256), private_key.public_key(), now=NOW).issuer
    theirs = joserfc_jwt.encode({"alg": "HS256"}, dict(CLAIMS), secret)
    assert verify(parse(theirs, Algorithm.HS256), SECRET, now=NOW).issuer

    ours = joserfc_jwt.decode(sign(CLAIMS, private_key, key_id="k"), rsa_key, algorithms=["RS256"])
    assert (ours.claims, ours.header["kid"]) == (CLAIMS, "k")
    assert joserfc_jwt.decode(sign(CLAIMS, SECRET), secret, algorithms=["HS256"]).claims == CLAIMS


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("", Reason.MALFORMED),
        ("a.b", Reason.MALFORMED),
        ("a.b.c.d", Reason.MALFORMED),
        ("é.e30.x", Reason.MALFORMED),
        (_token('{"alg":"HS256"}') + "=", Reason.MALFORMED),
        (_token('{"alg":"HS256"}') + "\n", Reason.MALFORMED),
        (_token('{"alg":"HS256"}') + "AAA", Reason.MALFORMED),
        (_token('{"alg":"HS256"}')[:-1] + "B", Reason.MALFORMED),
        (_token("[]"), Reason.MALFORMED),
        (_token('"HS256"'), Reason.MALFORMED),
        (_token('{"alg":"HS256"'), Reason.MALFORMED),
        (_token('{"alg":"HS256","alg":"HS256"}'), Reason.MALFORMED),
        (_token('{"alg":"HS256"}', '{"iss":"a","iss":"b"}'), Reason.MALFORMED),
        (_token('{"alg":"HS256"}', '{"context":{"a":1,"a":2}}'), Reason.MALFORMED),
        (_token('{"alg":"HS256"}', '{"exp":NaN}'), Reason.MALFORMED),
        (_token('{"alg":"HS256"}', '{"exp":Infinity}'), Reason.MALFORMED),
        (_token('{"alg":"HS256"}', "[" * 4000), Reason.MALFORMED),
        (_token('{"alg":"HS256"}', '{"exp":' + "9" * 5000 + "}"), Reason.MALFORMED),
        (_token('{"alg":"HS256"}', "{}\0"), Reason.MALFORMED),
        (_token('{"alg":"HS256"}', "\ufeff{}"), Reason.MALFORMED),
        (_token('{"alg":"HS256"}\0'), Reason.MALFORMED),
        (_token('{"alg":"HS256","kid":"a\0"}'), Reason.MALFORMED),
        (_token('{"alg":"HS256"}', '{"iss":"a\0"}'), Reason.MALFORMED),
        (_token('{"alg":"HS256"}', '{"iss":"\udcff"}'), Reason.MALFORMED),
        (_token('{"alg":"HS256","kid":"\udcff"}'), Reason.MALFORMED),
        (_token('{"alg":"HS256"}', '{"a":' + "[" * 2900 + "]" * 2900 + "}"), Reason.MALFORMED),
        (f"{_segment(b'{}'.decode().encode('utf-16'))}.e30.eA", Reason.MALFORMED),
        (_token("{}"), Reason.ALGORITHM),
        (_token('{"alg":"none"}'), Reason.ALGORITHM),
        (_token('{"alg":"none"}', signature=b""), Reason.ALGORITHM),
        (_token('{"alg":"None"}'), Reason.ALGORITHM),
        (_token('{"alg":"hs256"}'), Reason.ALGORITHM),
        (_token('{"alg":"RS256"}'), Reason.ALGORITHM),
        (_token('{"alg":"HS512"}'), Reason.ALGORITHM),
        (_token('{"alg":["HS256"]}'), Reason.ALGORITHM),
        (_token('{"alg":null}'), Reason.ALGORITHM),
        (_token('{"alg":"HS256","crit":["exp"],"exp":1}'), Reason.CRITICAL_HEADER),
        (_token('{"alg":"HS256","crit":[]}'), Reason.CRITICAL_HEADER),
        (_token('{"alg":"HS256","b64":false,"crit":["b64"]}'), Reason.CRITICAL_HEADER),
        (_token('{"alg":"HS256","kid":7}'), Reason.KEY_ID),
        (_token('{"alg":"HS256","kid":["a"]}'), Reason.KEY_ID),
        (_token('{"alg":"HS256"}', '{"a":"' + "x" * MAX_TOKEN_BYTES + '"}'), Reason.TOO_LARGE),
    ],
)
def test_a_token_of_the_wrong_form_is_refused(token: str, reason: Reason) -> None:
    assert _reason(token) is reason


def test_the_public_key_is_no_secret(private_key: RSAPrivateKey) -> None:
    pem = private_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    assert _reason(sign(CLAIMS, pem, key_id="k"), Algorithm.RS256) is Reason.ALGORITHM


def test_a_key_of_the_wrong_kind_is_a_fault_of_the_caller(private_key: RSAPrivateKey) -> None:
    hs256, rs256 = (
        parse(sign(CLAIMS, SECRET), Algorithm.HS256),
        parse(sign(CLAIMS, private_key), Algorithm.RS256),
    )

    for token, key in (
        (hs256, private_key.public_key()),
        (rs256, SECRET),
        (hs256, b""),
    ):
        with pytest.raises(TypeError):
            verify(token, key, now=NOW)


@pytest.mark.parametrize("part", [0, 1, 2])
@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_a_token_changed_anywhere_is_refused(
    part: int,
    algorithm: Algorithm,
    private_key: RSAPrivateKey,
    other_private_key: RSAPrivateKey,
) -> None:
    signer, verifier, stranger = (
        (SECRET, SECRET, b"another secret")
        if algorithm is Algorithm.HS256
        else (private_key, private_key.public_key(), other_private_key)
    )
    genuine = sign(CLAIMS, signer, key_id="a").split(".")
    foreign = sign({**CLAIMS, "iss": "someone"}, stranger, key_id="b").split(".")
    mixed = [foreign[n] if n == part else genuine[n] for n in range(3)]

    verify(parse(".".join(genuine), algorithm), verifier, now=NOW)
    with pytest.raises(InvalidToken, match="signature"):
        verify(parse(".".join(mixed), algorithm), verifier, now=NOW)


@pytest.mark.parametrize("name", ["iss", "iat", "exp"])
def test_a_claim_that_must_be_there_is_missed(name: str) -> None:
    assert _refusal({name: ...}) is Reason.MISSING_CLAIM
    assert _refusal({name: None}) is Reason.MISSING_CLAIM


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": ""},
        {"iss": 7},
        {"iss": ["client"]},
        {"iss": "a\0b"},
        {"iss": "a\nb"},
        {"iss": "\ud800"},
        {"iss": "x" * 256},
        {"exp": str(NOW + 180)},
        {"exp": True},
        {"exp": [NOW + 180]},
        {"exp": 1e300},
        {"exp": -1},
        {"iat": "now"},
        {"iat": False},
        {"iat": -1},
        {"nbf": "now"},
        {"nbf": 10**400},
        {"aud": 7},
        {"aud": {"a": 1}},
        {"aud": ["a", 7]},
        {"qsh": 7},
    ],
)
def test_a_claim_of_the_wrong_shape_is_refused(changes: dict[str, Any]) -> None:
    assert _refusal(changes) is Reason.CLAIM_SHAPE


def test_an_issuer_that_could_not_be_looked_up_is_not_offered() -> None:
    assert parse(sign({"iss": "a\0b"}, SECRET), Algorithm.HS256).claimed_issuer is None
    assert parse(sign({"iss": "a.example.net"}, SECRET), Algorithm.HS256).claimed_issuer


def test_a_number_too_large_for_json_is_refused() -> None:
    payload = _segment(b'{"iss":"a","iat":0,"exp":1e999}')
    header, _, _ = sign(CLAIMS, SECRET).split(".")
    forged = parse(f"{header}.{payload}.eA", Algorithm.HS256)

    assert forged.payload["exp"] == float("inf")
    assert _refusal({"exp": 253_402_300_800}) is Reason.CLAIM_SHAPE


def test_a_token_lives_until_thirty_seconds_after_its_end() -> None:
    _verify(now=NOW + 180 + LEEWAY_SECONDS - 0.001)
    assert _refusal(now=NOW + 180 + LEEWAY_SECONDS) is Reason.EXPIRED


def test_a_token_may_be_issued_thirty_seconds_ahead_of_our_clock() -> None:
    _verify(now=NOW - LEEWAY_SECONDS)
    assert _refusal(now=NOW - LEEWAY_SECONDS - 0.001) is Reason.ISSUED_IN_THE_FUTURE


def test_a_token_is_not_valid_before_its_nbf() -> None:
    _verify({"nbf": NOW + LEEWAY_SECONDS})
    assert _refusal({"nbf": NOW + LEEWAY_SECONDS + 1}) is Reason.NOT_YET_VALID


def test_a_lifetime_must_be_one_that_a_short_lived_token_has() -> None:
    _verify({"exp": NOW + MAX_LIFETIME_SECONDS})
    assert _refusal({"exp": NOW + MAX_LIFETIME_SECONDS + 1}) is Reason.LIFETIME
    assert _refusal({"exp": NOW}) is Reason.LIFETIME
    assert _refusal({"iat": 0}) is Reason.LIFETIME
    assert _refusal({"iat": NOW + 10, "exp": NOW + 5}) is Reason.LIFETIME


@pytest.mark.parametrize(
    "claim",
    [
        "https://a.example/x",
        "https://a.example/x/",
        ["https://a.example/x"],
        ["https://b.example", "https://a.example/x/"],
    ],
)
def test_an_audience_is_ours_with_or_without_a_trailing_slash(claim: object) -> None:
    _verify({"aud": claim}, audiences=["https://a.example/x"])
    _verify({"aud": claim}, audiences=["https://c.example", "https://a.example/x/"])


@pytest.mark.parametrize(
    "claim",
    [..., [], "", "https://a.example", "https://a.example/xy", "https://A.example/x", ["/x"]],
)
def test_another_audience_is_refused(claim: object) -> None:
    assert _refusal({"aud": claim}, audiences=["https://a.example/x"]) is Reason.AUDIENCE


def test_another_issuer_and_another_request_are_refused() -> None:
    _verify(issuer="client", qsh="0" * 64)
    assert _refusal(issuer="clien") is Reason.ISSUER
    assert _refusal(qsh="1" * 64) is Reason.QSH
    assert _refusal({"qsh": ...}, qsh="0" * 64) is Reason.QSH
    assert _refusal({"qsh": "context-qsh"}, qsh="0" * 64) is Reason.QSH


def test_a_token_is_found_in_header_query_and_form() -> None:
    assert find_token(authorization="JWT a.b.c") == "a.b.c"
    assert find_token(authorization=["Basic x", " jwt  a.b.c "]) == "a.b.c"
    assert find_token(raw_query=b"x=1&jwt=a.b.c") == "a.b.c"
    assert find_token(raw_query="j%77t=a.b.c") == "a.b.c"
    assert find_token(raw_form="jwt=a.b.c") == "a.b.c"


@pytest.mark.parametrize(
    ("places", "reason"),
    [
        ({}, Reason.NO_TOKEN),
        ({"authorization": "Bearer a.b.c"}, Reason.NO_TOKEN),
        ({"authorization": "JWTa.b.c"}, Reason.NO_TOKEN),
        ({"authorization": []}, Reason.NO_TOKEN),
        ({"authorization": "", "raw_query": "JWT=a.b.c&xjwt=a"}, Reason.NO_TOKEN),
        ({"authorization": "JWT a.b.c", "raw_query": "jwt=a.b.c"}, Reason.TWO_TOKENS),
        ({"authorization": "JWT a.b.c", "raw_query": "jwt"}, Reason.TWO_TOKENS),
        ({"raw_query": "jwt=a.b.c", "raw_form": "jwt=a.b.c"}, Reason.TWO_TOKENS),
        ({"raw_query": "jwt=a.b.c&%6awt=a.b.c"}, Reason.TWO_TOKENS),
        ({"authorization": ["JWT a.b.c", "jwt a.b.c"]}, Reason.TWO_TOKENS),
    ],
)
def test_a_request_carries_exactly_one_token(places: dict[str, Any], reason: Reason) -> None:
    with pytest.raises(InvalidToken) as refusal:
        find_token(**places)

    assert refusal.value.reason is reason


def test_a_bearer_is_another_token_than_one_of_connect() -> None:
    assert find_bearer_token("Bearer a.b.c") == find_bearer_token(["JWT x", " bearer  a.b.c "])
    for authorization, reason in (
        (None, Reason.NO_TOKEN),
        ("JWT a.b.c", Reason.NO_TOKEN),
        (["Bearer a.b.c", "bearer a.b.c"], Reason.TWO_TOKENS),
    ):
        with pytest.raises(InvalidToken) as refusal:
            find_bearer_token(authorization)
        assert refusal.value.reason is reason


@given(st.one_of(st.text(max_size=60), st.from_regex(r"[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[a-z]*")))
def test_no_text_makes_the_reader_fail_in_another_way(text: str) -> None:
    with suppress(InvalidToken):
        parse(text, Algorithm.RS256)


def test_an_error_and_a_token_never_show_what_they_hold() -> None:
    token = sign({**CLAIMS, "iss": "customer-7"}, SECRET)
    parsed = parse(token, Algorithm.HS256)
    with pytest.raises(InvalidToken) as refusal:
        verify(parsed, b"another", now=NOW)

    shown = f"{refusal.value!r} {refusal.value} {parsed!r} {verify(parsed, SECRET, now=NOW)!r}"

    assert "customer-7" not in shown
    assert token[-20:] not in shown
