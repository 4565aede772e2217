"""Certificates for HTTPS, without which browsers on other devices refuse the microphone."""

import datetime
import ipaddress
import ssl
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from speechmlp.errors import UserError
from speechmlp.files import whole_file

DAYS = 397
"""Validity of a certificate; browsers distrust longer ones."""
RENEWED = 30
"""Days before its end at which a new one is made."""


def check_certificate(certificate: Path, key: Path | None) -> None:
    """Checks that the files are a certificate with its key.

    Args:
        certificate: of PEM, with the certificates up to the authority's if there are any.
        key: of PEM; None if it is in the same file.

    Raises:
        UserError: they are not.
    """
    option = "--certificate" if key is None else "--key"
    for name, path in {"--certificate": certificate, "--key": key}.items():
        try:
            if path is not None and b"-----BEGIN " not in path.read_bytes():
                raise UserError(f"{name} {path}: expected a PEM file, which has a line -----BEGIN ...; convert it")
        except OSError as error:
            raise UserError(f"{name} {path}: cannot be read: {error.strerror or error}") from error

    def refuse() -> str:
        raise UserError(f"{option} {key or certificate}: the key has a password; expected one without")

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, refuse)
    except ssl.SSLError as error:
        reason = (error.reason or str(error)).replace("_", " ").lower()
        what = "a certificate and its key" if key is None else f"a certificate, and its key in {key}"
        raise UserError(f"--certificate {certificate}: expected {what}, found something else ({reason})") from error


def self_signed(folder: Path, hosts: Iterable[str]) -> Path:
    """Returns a PEM file with a certificate for these hosts, signed by itself, and its key; makes it if needed.

    An earlier one is kept while it is valid and names all hosts, so that browsers that accepted it need not ask again.

    Args:
        folder: of the file.
        hosts: names and addresses.

    Raises:
        UserError: the file cannot be written.
    """
    path, names = folder / "certificate.pem", {_general_name(host) for host in hosts}
    earlier = _names(path)
    if earlier >= names:
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made: {error.strerror or error}") from error
    with whole_file(path) as file:
        Path(file.name).chmod(0o600)  # before the key is in it
        file.write(_make(sorted(earlier | names, key=str)))
    return path


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host.strip("[]").partition("%")[0]))
    except ValueError:
        return x509.DNSName(host.encode("idna").decode())


def _names(path: Path) -> set[x509.GeneralName]:
    """Returns the hosts of an earlier certificate; none if it is absent, damaged or about to expire."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path, password=str)
        found = x509.load_pem_x509_certificate(path.read_bytes())
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return set()
    soon = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=RENEWED)
    return set(names) if found.not_valid_after_utc > soon else set()


def _make(names: Iterable[x509.GeneralName]) -> bytes:
    """Returns a new key and a certificate for these names, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "speechmlp")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))  # for devices whose clock is behind
        .not_valid_after(now + datetime.timedelta(days=DAYS - 1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption()) + certificate.public_bytes(encoding)
