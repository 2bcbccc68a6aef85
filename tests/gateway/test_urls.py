"""Rules without a server: signed URLs, ranges of files, addresses of webhooks, limits."""

import ipaddress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.addresses import check_url, is_public
from gateway.api.errors import Refusal
from gateway.api.files import Span, span_of
from gateway.api.limits import CreateRate
from gateway.links import LinkError, Links
from gateway.webhooks.rules import secret_of

LINKS = Links(b"k" * 32, 3600)
KEY = f"{'a' * 26}/random/audio.wav"


def signature_of(url: str) -> str:
    return url.split("/")[4]


SIGNATURE = signature_of(LINKS.file("x://y", KEY))


def test_a_files_url_ends_in_its_name_and_is_valid_for_that_file_only() -> None:
    url = LINKS.file("https://example.com", KEY)
    assert url == f"https://example.com/outputs/{signature_of(url)}/{KEY}"
    LINKS.check("file", KEY, signature_of(url))
    for links, purpose, key in [
        (LINKS, "stream", KEY),
        (LINKS, "file", KEY.replace("audio", "other")),
        (Links(b"K" * 32, 3600), "file", KEY),
    ]:
        with pytest.raises(LinkError, match="signature is invalid"):
            links.check(purpose, key, signature_of(url))  # type: ignore[arg-type]


@given(st.integers(0, 4 * 10**12), st.integers(0, 36_000_000), st.integers(1, 100_000))
def test_a_url_stays_the_same_for_a_whole_lifetime(since_ms: int, after_ms: int, lifetime_s: int) -> None:
    since = datetime.fromtimestamp(since_ms / 1000, UTC)

    def url(after_s: float) -> str:
        now = since + timedelta(seconds=after_s)
        return Links(b"k" * 32, lifetime_s, lambda: now).file("x://y", KEY, since)

    assert url(0) == url(lifetime_s - 0.001)
    assert url(0) != url(lifetime_s)
    signature, after_s = signature_of(url(after_ms / 1000)), after_ms / 1000
    for more_s, valid in ((0, True), (lifetime_s - 0.001, True), (2 * lifetime_s + 2, False)):
        now = since + timedelta(seconds=after_s + more_s)
        links = Links(b"k" * 32, lifetime_s, lambda now=now: now)  # type: ignore[misc]
        if valid:
            links.check("file", KEY, signature)
        else:
            with pytest.raises(LinkError, match="expired"):
                links.check("file", KEY, signature)


@given(st.text(max_size=100), st.text(max_size=100) | st.from_regex(r"[0-9]{1,14}-[A-Za-z0-9_-]{0,44}", fullmatch=True))
def test_a_guessed_signature_is_rejected(key: str, guess: str) -> None:
    with pytest.raises(LinkError):
        LINKS.check("file", key, guess)


@given(st.data())
def test_a_changed_signature_is_rejected(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(SIGNATURE) - 1))
    other = data.draw(st.characters(codec="ascii").filter(lambda char: char != SIGNATURE[at]))
    with pytest.raises(LinkError):
        LINKS.check("file", KEY, SIGNATURE[:at] + other + SIGNATURE[at + 1 :])


def test_another_base64_spelling_of_a_signature_is_rejected() -> None:
    links = replace(LINKS, now=lambda: datetime(2026, 1, 1, tzinfo=UTC))  # for the same signatures in each run
    ours = [(key, signature_of(links.file("x://y", key))) for key in map(str, range(50))]
    others = [(key, other) for key, its in ours for other in (its + "=", its.replace("_", "/")) if other != its]
    assert len(others) > 60
    for key, other in others:
        with pytest.raises(LinkError, match="signature is invalid"):
            links.check("file", key, other)


@pytest.mark.parametrize(
    ("header", "span"),
    [
        *(("", Span(0, 100)), ("bytes=0-", Span(0, 100)), ("bytes=0-0", Span(0, 1))),
        *(("bytes=10-19", Span(10, 20)), ("bytes=90-200", Span(90, 100)), ("bytes=-10", Span(90, 100))),
        *(("bytes=-1000", Span(0, 100)), ("bytes=100-", None), ("bytes=-0", None)),
        *(("bytes=20-10", Span(0, 100)), ("bytes=0-1,5-6", Span(0, 100)), ("bytes=-", Span(0, 100))),
        *(("frames=0-1", Span(0, 100)), ("bytes=x", Span(0, 100))),
    ],
)
def test_a_range_header_selects_a_span(header: str, span: Span | None) -> None:
    assert span_of(header, 100) == span


PRIVATE = [
    *("127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
    "0.0.0.0",  # noqa: S104
    *("255.255.255.255", "224.0.0.1", "::1", "::", "fe80::1", "fc00::1", "ff02::1", "::ffff:127.0.0.1"),
    *("::ffff:169.254.169.254", "64:ff9b::7f00:1"),
    "64:ff9b:1::101:101",  # local, whatever it translates to
    *("::127.0.0.1", "::10.0.0.1", "::ffff:0:127.0.0.1", "fec0::1", "100::1", "2001:db8::1", "4000::1"),
    *("2002:7f00:1::", "2001:0:4136:e378:8000:63bf:80ff:fffe"),
]
PUBLIC = [
    *(
        "1.1.1.1",
        "93.184.215.14",
        "2606:4700::1111",
        "::ffff:1.1.1.1",
        "64:ff9b::101:101",
        "::1.1.1.1",
        "2002:101:101::",
    )
]


@pytest.mark.parametrize(("address", "public"), [*((one, False) for one in PRIVATE), *((one, True) for one in PUBLIC)])
def test_public_addresses_are_told_from_private_ones(address: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) == public


@pytest.mark.parametrize(
    "url",
    [
        *("http://example.com/", "ftp://example.com/", "https://", "https:///path", "//example.com/"),
        *("example.com", "https://user:password@example.com/", "https://example.com:0/"),
        "https://example.com:99999/",
        "https://[::1/",
        *("https://[::1]/", "https://[::127.0.0.1]/", "https://[64:ff9b:1::1]/", "https://127.0.0.1/"),
        *("https://169.254.169.254/latest/meta-data", "https://localhost/", "https://localhost./"),
        *("https://example.com/a b", "https://example.com/\n", "https://ex\u00e4mple.com/"),
        *("https://example.com/" + "a" * 2000, "javascript:alert(1)"),
    ],
)
def test_a_webhook_url_that_is_malformed_insecure_or_private_is_rejected(url: str) -> None:
    with pytest.raises(ValueError):
        check_url(url, http=False, private=False)


@given(st.text(max_size=60))
def test_any_text_is_a_webhook_url_or_rejected_with_a_message(url: str) -> None:
    try:
        check_url(url, http=False, private=False)
    except ValueError as error:
        assert str(error)
    else:
        assert url.startswith("https://")


def test_each_owner_has_a_signing_secret_with_one_underscore() -> None:
    secrets = {secret_of(b"k" * 32, owner) for owner in range(300)}
    assert len(secrets) == 300
    assert all(secret.count("_") == 1 and secret.startswith("whsec_") for secret in secrets)


def test_a_token_may_create_a_burst_and_then_a_number_per_second() -> None:
    now_s = 0.0
    rate = CreateRate(per_s=2, burst=3, clock=lambda: now_s)
    for _ in range(3):
        rate.take(1)
    with pytest.raises(Refusal) as caught:
        rate.take(1)
    assert (caught.value.status, caught.value.retry_after_s) == (429, 1)
    rate.take(2)  # another token
    now_s = 0.6
    rate.take(1)
    with pytest.raises(Refusal):
        rate.take(1)
