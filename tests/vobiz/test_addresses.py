"""Hostile addresses are refused before anything is dialled; the lists mean what the contract
says."""

import io
from ipaddress import ip_address

import pytest

from worker.errors import WrongPath
from worker.vobiz import transport
from worker.vobiz.account import Account
from worker.vobiz.addresses import HostList, Unfit, is_public, parse_url, resolve_vetted
from worker.vobiz.client import Vobiz
from worker.vobiz.piece import Hooks

DEFAULT = HostList(["vobiz.ai", "*.vobiz.ai"])

# Each is refused by its spelling, by the lists, or by its scheme.
HOSTILE = """
http://media.vobiz.ai/x
ftp://media.vobiz.ai/x
file:///etc/passwd
gopher://media.vobiz.ai/
//media.vobiz.ai/x
media.vobiz.ai/x
https:media.vobiz.ai/x
https:/media.vobiz.ai/x
https:///media.vobiz.ai/x
https://
https://?x
https://media.vobiz.ai@evil.example/x
https://user:password@media.vobiz.ai/x
https://evil.example#@media.vobiz.ai/x
https://evil.example\\@media.vobiz.ai/x
https://evil.example\\.vobiz.ai/x
https://media.vobiz.ai/x#fragment
https://media.vobiz.ai./x
https://.vobiz.ai/x
https://media..vobiz.ai/x
https://evilvobiz.ai/x
https://vobiz.ai.evil.example/x
https://evil.example/vobiz.ai
https://evil.example/?.vobiz.ai
https://media.vobiz.ai:8443/x
https://media.vobiz.ai:80/x
https://media.vobiz.ai:0/x
https://media.vobiz.ai:99999/x
https://media.vobiz.ai:/x
https://media.vobiz.ai:4 43/x
https://media.vobiz.ai:443:443/x
https://*.vobiz.ai/x
https://media%2evobiz.ai/x
https://media.vobiz.ai%00.evil.example/x
https://media.vobiz.ai%2f@evil.example/x
https://media\u3002vobiz\u3002ai/x
https://media.vobiz.a\u0456/x
https://\uff4dedia.vobiz.ai/x
https://media.vobiz.ai\u2044x
https://-media.vobiz.ai/x
https://127.0.0.1/x
http://127.0.0.1/x
https://127.1/x
https://0/x
https://0.0.0.0/x
https://2130706433/x
https://0x7f000001/x
https://0x7f.0.0.1/x
https://0177.0.0.1/x
https://017700000001/x
https://127.0.0.1.2/x
https://256.1.1.1/x
https://10.0.0.1/x
https://192.168.1.1/x
https://172.16.0.1/x
https://169.254.169.254/latest/meta-data/
https://100.100.100.200/latest/meta-data/
https://168.63.129.16/machine
https://[::1]/x
https://[::]/x
https://[::ffff:127.0.0.1]/x
https://[::ffff:a9fe:a9fe]/x
https://[::127.0.0.1]/x
https://[64:ff9b::7f00:1]/x
https://[64:ff9b::a9fe:a9fe]/x
https://[fe80::1]/x
https://[fe80::1%25eth0]/x
https://[fd00:ec2::254]/x
https://[fc00::1]/x
https://[ff02::1]/x
https://[2002:7f00:1::]/x
https://[::1/x
https://localhost/x
https://media.vobiz.ai/x y
 https://media.vobiz.ai/x
https://media.vobiz.ai/x\x00
https://media.vobiz.ai/x\x7f
"""
CORPUS = HOSTILE.strip("\n").split("\n")
CORPUS += [
    "https://media.vobiz.ai/x\r\nX-Auth-Token: t",
    "https://media.vobiz.ai/x\ty",
    "https://media.vobiz.ai/\n",
    "",
]

PRIVATE = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "10.1.2.3",
    "172.31.0.1",
    "192.168.0.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "198.18.0.1",
    "192.0.2.1",
    "203.0.113.9",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::7f00:1",
    "64:ff9b::a00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "fe80::1",
    "fec0::1",
    "fc00::1",
    "fd00:ec2::254",
    "ff02::1",
    "2001:db8::1",
    "2001::1",
    "2002:a00:1::",
    "3fff::1",
    "100::1",
    "4000::1",
]


def test_the_corpus_is_large_enough():
    assert len(set(CORPUS)) >= 60


@pytest.mark.parametrize("url", CORPUS)
def test_a_hostile_address_is_not_read_or_not_listed(url):
    try:
        address = parse_url(url)
    except Unfit:
        return
    assert DEFAULT.listing(address) is None or address.scheme == "http"


@pytest.mark.parametrize("answer", ["127.0.0.1", "8.8.8.8"])
def test_the_whole_corpus_makes_no_connection(monkeypatch, answer):
    dialled = []
    monkeypatch.setattr(transport.socket, "socket", lambda *kind: dialled.append(kind))
    client = Vobiz(
        api_url="https://api.vobiz.ai/api/v1",
        media_hosts=["vobiz.ai", "*.vobiz.ai"],
        redirect_hosts=[],
        max_media_bytes=1,
        resolve=lambda _host, _port: [answer],
    )
    account = Account(auth_id="MA_1", tokens=("t",))
    for url in CORPUS:
        with pytest.raises(WrongPath):
            client.download(account, url, io.BytesIO(), Hooks(keep_going=lambda: None))
    assert dialled == []


@pytest.mark.parametrize("number", PRIVATE)
def test_a_private_address_is_not_public(number):
    assert not is_public(ip_address(number))


@pytest.mark.parametrize(
    "number", ["8.8.8.8", "15.206.6.156", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_an_internet_address_is_public(number):
    assert is_public(ip_address(number))


@pytest.mark.parametrize("number", PRIVATE)
def test_a_pattern_does_not_list_a_private_address(number):
    with pytest.raises(Unfit):
        resolve_vetted(
            parse_url("https://media.vobiz.ai/x"), "pattern", lambda _host, _port: [number]
        )


def test_one_private_address_among_public_ones_spoils_all():
    with pytest.raises(Unfit, match=r"10\.0\.0\.5"):
        resolve_vetted(
            parse_url("https://media.vobiz.ai/x"),
            "pattern",
            lambda _host, _port: ["8.8.8.8", "10.0.0.5"],
        )


def test_a_host_that_is_named_exactly_may_be_private():
    assert resolve_vetted(
        parse_url("https://store.internal/x"), "exact", lambda _host, _port: ["10.0.0.5"]
    ) == ["10.0.0.5"]


def test_plain_http_is_for_exactly_listed_loopback_only():
    loopback, elsewhere = (lambda _host, _port: ["127.0.0.1"]), (lambda _host, _port: ["10.0.0.5"])
    address = parse_url("http://media.test:8080/x")
    assert resolve_vetted(address, "exact", loopback) == ["127.0.0.1"]
    for listing, resolve in [("exact", elsewhere), ("pattern", loopback)]:
        with pytest.raises(Unfit):
            resolve_vetted(address, listing, resolve)


def test_a_literal_address_asks_no_resolver():
    assert resolve_vetted(parse_url("https://8.8.8.8/x"), "pattern", None) == ["8.8.8.8"]


def test_a_name_without_addresses_is_an_error_of_the_network():
    with pytest.raises(OSError, match="no address"):
        resolve_vetted(parse_url("https://media.vobiz.ai/x"), "pattern", lambda _host, _port: [])


@pytest.mark.parametrize(
    ("entry", "url", "listing"),
    [
        ("vobiz.ai", "https://vobiz.ai/x", "exact"),
        ("vobiz.ai", "https://VOBIZ.AI:443/x", "exact"),
        ("vobiz.ai", "https://vobiz.ai:8443/x", None),
        ("vobiz.ai:8443", "https://vobiz.ai:8443/x", "exact"),
        ("vobiz.ai:8443", "https://vobiz.ai/x", None),
        ("vobiz.ai", "https://media.vobiz.ai/x", None),
        ("*.vobiz.ai", "https://vobiz.ai/x", None),
        ("*.vobiz.ai", "https://media.vobiz.ai/x", "pattern"),
        ("*.vobiz.ai", "https://a.b.media.vobiz.ai/x", "pattern"),
        ("*.vobiz.ai:8443", "https://media.vobiz.ai:8443/x", "pattern"),
        ("*.vobiz.ai:8443", "https://media.vobiz.ai/x", None),
        ("127.0.0.1", "http://127.0.0.1:40001/x", "exact"),
        ("127.0.0.1:40002", "http://127.0.0.1:40001/x", None),
        ("localhost", "http://localhost:40001/x", "exact"),
        ("[::1]:80", "http://[::1]/x", "exact"),
        ("::1", "http://[0:0::1]:8080/x", "exact"),
        ("10.0.0.5", "https://10.0.0.5/x", "exact"),
        ("*.0.0.5", "https://10.0.0.5/x", None),
    ],
)
def test_what_an_entry_lists(entry, url, listing):
    if entry == "*.0.0.5":
        with pytest.raises(Unfit):
            HostList([entry])
    else:
        assert HostList([entry]).listing(parse_url(url)) == listing


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "*",
        "*.",
        "https://vobiz.ai",
        "vobiz.ai/x",
        "a b",
        "*.127.0.0.1",
        "vobiz.ai:x",
        "me@vobiz.ai",
    ],
)
def test_an_entry_that_cannot_be_read_is_an_error(entry):
    with pytest.raises(Unfit):
        HostList([entry])


def test_the_target_is_kept_to_the_letter():
    address = parse_url("https://media.vobiz.ai/a%2Fb/../c//d?x=%20&y=http://z/?q")
    assert address.target == "/a%2Fb/../c//d?x=%20&y=http://z/?q"
    assert (address.netloc, address.url[:23]) == ("media.vobiz.ai", "https://media.vobiz.ai/")
    assert parse_url("https://vobiz.ai?x=1").target == "/?x=1"
    assert parse_url("http://[::1]:81/").netloc == "[::1]:81"
