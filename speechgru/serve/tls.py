"""Certificates: without one, browsers give the microphone only to pages of their own machine."""

import datetime
import ipaddress
import os
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from speechgru.common.files import write_atomic
from speechgru.errors import SpeechGRUError, UsageError

_DAYS = 825  # the longest that phones accept


@dataclass(frozen=True)
class Certificate:
    """The files of a certificate and its key."""

    certificate: Path
    key: Path

    def check(self) -> None:
        """Check that both can be read and belong together.

        Raises:
            UsageError: they cannot, or do not.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.certificate, self.key, self._refuse_encrypted)
        except (OSError, ssl.SSLError) as error:
            reason = error.strerror or str(error)
            raise UsageError(
                f"{self.certificate}, {self.key}: no certificate with its key: {reason}"
            ) from error

    @property
    def expired(self) -> datetime.datetime | None:
        """When it expired; None if it has not, or the package `cryptography` cannot tell."""
        try:
            from cryptography import x509

            end = x509.load_pem_x509_certificate(self.certificate.read_bytes()).not_valid_after_utc
        except (ModuleNotFoundError, ValueError):
            return None
        return end if end < datetime.datetime.now(datetime.UTC) else None

    def _refuse_encrypted(self) -> str:
        """Called for a passphrase, for which a server cannot ask whenever it restarts."""
        raise UsageError(
            f"{self.key}: is encrypted; `openssl pkey -in {self.key} -out FILE` writes it without "
            "a passphrase"
        )


def self_signed(folder: Path, host: str) -> Certificate:
    """A self-signed certificate in a folder; created if there is none that is still usable.

    It names the machine, its addresses and `host`. A browser asks once whether to trust it.

    Raises:
        SpeechGRUError: the package `cryptography` is not installed, or the folder is not writable.
        UsageError: the folder is a file.
    """
    try:
        import cryptography.x509  # noqa: F401
    except ModuleNotFoundError as error:
        raise SpeechGRUError(
            "creating a certificate needs the package cryptography, which is not installed; "
            "--tls-cert and --tls-key take files made by another program"
        ) from error
    found = Certificate(folder / "certificate.pem", folder / "key.pem")
    now = datetime.datetime.now(datetime.UTC)
    if not _is_usable(found, host, now):
        _make(found, host, now)
    return found


def _is_usable(files: Certificate, host: str, now: datetime.datetime) -> bool:
    """Whether a certificate with its key covers all names for a day at least."""
    from cryptography import x509

    try:
        files.check()
        known = x509.load_pem_x509_certificate(files.certificate.read_bytes())
        names = known.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (UsageError, x509.ExtensionNotFound):  # e.g. killed between writing the two
        return False
    tomorrow = now + datetime.timedelta(days=1)
    return known.not_valid_after_utc > tomorrow and set(names) >= set(_names(host))


def _make(files: Certificate, host: str, now: datetime.datetime) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "speechgru")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=_DAYS))
        .add_extension(x509.SubjectAlternativeName(_names(host)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    try:
        files.key.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise UsageError(f"{files.key.parent}: is a file; a directory is needed") from error
    files.key.unlink(missing_ok=True)
    handle = os.open(files.key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(private)
    write_atomic(files.certificate, certificate.public_bytes(serialization.Encoding.PEM))


def _names(host: str) -> "list[x509.GeneralName]":  # type: ignore[name-defined]  # noqa: F821
    """The names and addresses of this machine that the certificate covers."""
    from cryptography import x509

    names = {"localhost", socket.gethostname()}
    addresses = {"127.0.0.1", "::1", _address_outwards()}
    for name in (host.strip("[]"),):
        try:
            addresses.add(str(ipaddress.ip_address(name)))
        except ValueError:
            names.add(name)
    return [
        *(x509.DNSName(name) for name in sorted(filter(None, map(_as_ascii, names)))),
        *(x509.IPAddress(ipaddress.ip_address(a)) for a in sorted(addresses - {"0.0.0.0", "::"})),
    ]


def _as_ascii(name: str) -> str:
    """A host's name as certificates have it (IDNA); "" if it has none."""
    try:
        return name.encode("idna").decode()
    except UnicodeError:
        return ""


def _address_outwards() -> str:
    """This machine's address in its network; no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("224.0.0.251", 1))
            return str(probe.getsockname()[0])
        except OSError:  # no network
            return "127.0.0.1"
