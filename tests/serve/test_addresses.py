"""Addresses that the command prints, and HTTPS, with a given certificate and with one that it makes."""

import json
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from cryptography import x509
from playwright.sync_api import sync_playwright

from speechmlp.serve.certificate import self_signed
from tests.conftest import CHROMIUM, Run
from tests.serve.conftest import serving

NETWORKS = [
    one
    for addresses in psutil.net_if_addrs().values()
    for one in addresses
    if one.family == socket.AF_INET and not one.address.startswith(("127.", "169.254."))
]


def fetched(url: str, context: ssl.SSLContext | None = None, **headers: str) -> list[str]:
    """Returns the labels that the server at an address names."""
    with urllib.request.urlopen(urllib.request.Request(f"{url}api", headers=headers), context=context) as answer:
        labels: list[str] = json.load(answer)["labels"]
        return labels


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "0"])
def test_all_addresses_are_printed_as_ones_to_open(host: str, spoken_checkpoint: Path, tmp_path: Path) -> None:
    if host == "::" and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6")
    with serving(tmp_path, "--checkpoint", spoken_checkpoint, "--host", host) as server:
        port = urlsplit(server.url).port
        assert server.url == f"http://127.0.0.1:{port}/"
        assert fetched(server.url, Host="my-machine.example")[:3] == ["A", "B", "C"]
        for one in NETWORKS:
            assert len(fetched(f"http://{one.address}:{port}/")) == 26
    assert server.errors.startswith(
        f"warning: {'::' if host == '::' else '0.0.0.0'} can be reached from other machines"
    )
    assert "see --https" in server.errors
    printed = [line.removeprefix("On other devices: ") for line in server.output.splitlines()]
    assert {f"http://{one.address}:{port}/" for one in NETWORKS} <= set(printed)
    assert not [url for url in printed if urlsplit(url).hostname in ("0.0.0.0", "::", "127.0.0.1", "::1")]


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
def test_one_address_is_printed_as_it_is(spoken_checkpoint: Path, tmp_path: Path) -> None:
    with serving(tmp_path, "--checkpoint", spoken_checkpoint, "--host", "::1") as server:
        assert server.url == f"http://[::1]:{urlsplit(server.url).port}/"
        assert len(fetched(server.url)) == 26
    assert (server.output, server.errors) == ("", "interrupted\n")


def test_a_self_signed_certificate_is_made_once(spoken_checkpoint: Path, tmp_path: Path) -> None:
    data = {"XDG_DATA_HOME": str(tmp_path / "data"), "HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path)}
    arguments = ("--checkpoint", spoken_checkpoint, "--host", "0.0.0.0", "--https")
    contents = set()
    for _ in range(2):
        with serving(tmp_path, *arguments, environment=data) as server:
            (path,) = tmp_path.rglob("certificate.pem")
            contents.add(path.read_bytes())
            context = ssl.create_default_context(cafile=path)
            assert server.url.startswith("https://127.0.0.1:")
            port = urlsplit(server.url).port
            for host in ("localhost", "127.0.0.1", *(one.address for one in NETWORKS)):
                assert len(fetched(f"https://{host}:{port}/", context)) == 26
            with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
                fetched(server.url)
            with pytest.raises((ConnectionError, urllib.error.URLError)):  # HTTP to the port of HTTPS
                fetched(f"http://127.0.0.1:{port}/")
        assert server.errors.splitlines()[0].endswith("anybody there can use this page")
        assert server.errors.splitlines()[1:] == ["interrupted"]
        assert all("https://" in line for line in server.output.splitlines())
    assert len(contents) == 1
    assert sys.platform == "win32" or stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_certificate_is_made_again_if_it_does_not_fit(tmp_path: Path) -> None:
    path = self_signed(tmp_path / "data", ["127.0.0.1", "[::1]", "localhost"])
    first = path.read_bytes()
    assert self_signed(tmp_path / "data", ["localhost", "::1"]).read_bytes() == first
    second = self_signed(tmp_path / "data", ["192.0.2.7", "bücher.example"]).read_bytes()
    assert second != first
    names = x509.load_pem_x509_certificate(second).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert {str(name.value) for name in names.value} >= {"127.0.0.1", "192.0.2.7", "xn--bcher-kva.example"}
    assert self_signed(tmp_path / "data", ["127.0.0.1"]).read_bytes() == second  # also back in the first network
    for damaged in (second[:-100], second[:300], b"", bytes(100)):
        path.write_bytes(damaged)
        repaired = self_signed(tmp_path / "data", ["localhost"]).read_bytes()
        assert repaired not in (damaged, first, second)
        ssl.create_default_context().load_cert_chain(path)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_a_certificate_of_ones_own_is_used(spoken_checkpoint: Path, run_python: Run, tmp_path: Path) -> None:
    def openssl(*arguments: str | Path) -> None:
        subprocess.run(["openssl", *map(str, arguments)], cwd=tmp_path, check=True, capture_output=True)

    make = ("req", "-x509", "-newkey", "rsa:2048", "-days", "2", "-subj", "/CN=localhost")
    openssl(*make, "-addext", "subjectAltName=DNS:localhost", "-nodes", "-keyout", "k.pem", "-out", "c.pem")
    openssl(*make, "-passout", "pass:x", "-keyout", "locked.pem", "-out", "c2.pem")
    openssl("x509", "-in", "c.pem", "-outform", "DER", "-out", "c.der")
    (tmp_path / "both.pem").write_bytes((tmp_path / "k.pem").read_bytes() + (tmp_path / "c.pem").read_bytes())
    model = ("--checkpoint", spoken_checkpoint)
    context = ssl.create_default_context(cafile=tmp_path / "c.pem")
    for arguments in (("--certificate", "c.pem", "--key", "k.pem"), ("--certificate", "both.pem")):
        with serving(tmp_path, *model, *arguments) as server:
            assert len(fetched(f"https://localhost:{urlsplit(server.url).port}/", context)) == 26
    for mistake, expected in (
        (("--certificate", "absent.pem"), "--certificate absent.pem: cannot be read: No such file or directory"),
        (("--certificate", "."), "--certificate .: cannot be read: Is a directory"),
        (("--certificate", "c.pem"), "--certificate c.pem: expected a certificate and its key, found something else"),
        (("--certificate", "c.pem", "--key", "absent"), "--key absent: cannot be read: No such file or directory"),
        (("--certificate", "k.pem", "--key", "c.pem"), "--certificate k.pem: expected a certificate, and its key in"),
        (("--certificate", "c2.pem", "--key", "k.pem"), "(key values mismatch)"),
        (("--certificate", "c2.pem", "--key", "locked.pem"), "--key locked.pem: the key has a password"),
        (("--certificate", "c.der", "--key", "k.pem"), "--certificate c.der: expected a PEM file"),
        (("--key", "k.pem"), "--key: expected together with --certificate"),
    ):
        result = run_python("-m", "speechmlp.serve", "--no-browser", "--port", "0", *model, *mistake)
        assert (result.returncode, len(result.stderr.splitlines())) == (2, 1), result.stderr
        assert expected in result.stderr


@pytest.fixture
def https_address(spoken_checkpoint: Path, tmp_path: Path) -> Iterator[str]:
    data = {"XDG_DATA_HOME": str(tmp_path), "HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path)}
    arguments = ("--checkpoint", spoken_checkpoint, "--host", "0.0.0.0", "--https")
    with serving(tmp_path, *arguments, environment=data) as server:
        yield f"https://{NETWORKS[0].address}:{urlsplit(server.url).port}/"


@pytest.mark.skipif(CHROMIUM is None or not NETWORKS, reason="no Chromium, or no network")
def test_another_device_may_use_its_microphone_with_https(https_address: str) -> None:
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        page = browser.new_context(ignore_https_errors=True).new_page()
        problems: list[str] = []
        page.on("console", lambda message: problems.append(message.text))
        page.goto(https_address)
        page.wait_for_function("() => document.getElementById('model').textContent")
        assert page.evaluate("window.isSecureContext")
        page.focus("#record")
        page.keyboard.press("Enter")
        page.wait_for_selector("#record[aria-pressed=true]")
        page.keyboard.press("Enter")
        page.wait_for_function("() => /^(Spelled|No letter)/.test(document.getElementById('status').textContent)")
        assert problems == []
        browser.close()
