"""TLS contexts: what they accept, and which file is to blame."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import pytest

from httpd.system import tls


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with cert.pem, key.pem, encrypted.pem (password: secret), other.pem and both.pem."""
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    try:
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=a", "-keyout", "key.pem",
                "-out", "cert.pem")  # fmt: skip
    except FileNotFoundError:
        pytest.skip("no openssl here, to make a certificate with")
    openssl("rsa", "-aes256", "-passout", "pass:secret", "-in", "key.pem", "-out", "encrypted.pem")
    openssl("genrsa", "-out", "other.pem", "2048")
    (folder / "both.pem").write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())
    (folder / "text").write_text("no PEM")
    return folder


def context(files: Path, cert: str, key: str | None, password: tls.Password = None) -> ssl.SSLContext:
    return tls.server_context(files / cert, None if key is None else files / key, password, ["http/1.1"])


@pytest.mark.parametrize(
    ("cert", "key", "password"),
    [
        ("cert.pem", "key.pem", None),
        ("both.pem", None, None),
        ("cert.pem", "encrypted.pem", "secret"),
        ("cert.pem", "encrypted.pem", b"secret"),
        ("cert.pem", "encrypted.pem", lambda: "secret"),
        ("cert.pem", "key.pem", "not needed"),
    ],
)
def test_good_files(files: Path, cert: str, key: str | None, password: tls.Password) -> None:
    made = context(files, cert, key, password)
    assert made.minimum_version == ssl.TLSVersion.TLSv1_2
    assert made.verify_mode == ssl.CERT_NONE


@pytest.mark.parametrize(
    ("cert", "key", "password", "blamed", "why"),
    [
        ("cert.pem", "missing.pem", None, "missing.pem", "No such file"),
        ("missing.pem", "key.pem", None, "missing.pem", "No such file"),
        ("cert.pem", None, None, "cert.pem", "no private key"),
        ("cert.pem", "text", None, "text", "no private key"),
        ("text", "key.pem", None, "text", "no certificate"),
        ("cert.pem", "other.pem", None, "other.pem", "belongs to another certificate"),
        ("cert.pem", "encrypted.pem", None, "encrypted.pem", "is encrypted"),
        ("cert.pem", "encrypted.pem", "wrong", "encrypted.pem", "does not open"),
    ],
)
def test_bad_files(files: Path, cert: str, key: str | None, password: str | None, blamed: str, why: str) -> None:
    with pytest.raises(tls.TLSError, match=why) as caught:
        context(files, cert, key, password)
    assert caught.value.filename == str(files / blamed)
