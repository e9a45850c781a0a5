"""Makes the certificates that the platform, NATS and etcd show each other, where they are missing.

    certificates.py FOLDER [--renew]

Each holder has a folder below FOLDER with ``tls.crt``, ``tls.key`` and the authority ``ca.crt``. The common
name is the holder's: etcd takes it for the user. Servers of a kind share ``peer.crt`` and ``peer.key`` for
what they say to each other, and trust that certificate alone: a service's own opens no port between servers.
"""  # noqa: INP001 - a program that is copied into images

from __future__ import annotations

import argparse
import datetime as dt
import ipaddress
import sys
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY: Final = "authority"
HOLDERS: Final = ("gateway", "topic-owner", "storage", "admin", "root", "nats", "etcd")
SERVERS: Final = ("nats", "etcd")
MEMBERS_MAX: Final = 3
VALID: Final = dt.timedelta(days=3650)
SIGNS: Final = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)
"""What the key of an authority may do; Python 3.13 refuses one that does not say so."""
BEFORE: Final = dt.timedelta(hours=1)
"""For clocks that are behind."""
LOOPBACK: Final = ipaddress.ip_address("127.0.0.1")
USES: Final = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])

Key = ec.EllipticCurvePrivateKey


def hosts(server: str) -> list[str]:
    """Return the names that servers of a kind are reached by."""
    return [server, *(f"{server}-{number}" for number in range(2, MEMBERS_MAX + 1)), "localhost"]


def write(file: Path, data: bytes) -> None:
    """Write a file that only its owner reads, in one step."""
    new = file.with_name(f"{file.name}.new")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)
    new.write_bytes(data)
    new.replace(file)


def made(folder: Path, name: str, key: Key, certificate: x509.Certificate) -> None:
    """Write a certificate and its key, the key last."""
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write(folder / f"{name}.crt", certificate.public_bytes(Encoding.PEM))
    write(folder / f"{name}.key", private)


def certificate(
    common: str, key: Key, names: list[str], issuer: x509.Name | None = None, by: Key | None = None
) -> x509.Certificate:
    """Return a certificate that an authority issued, or that is its own."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BEFORE)
        .not_valid_after(now + VALID)
        .add_extension(x509.BasicConstraints(ca=common == AUTHORITY, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key((by or key).public_key()), critical=False
        )
    )
    if names:
        alternatives = [*(x509.DNSName(name) for name in names), x509.IPAddress(LOOPBACK)]
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    if common == AUTHORITY:
        builder = builder.add_extension(SIGNS, critical=True)
    else:
        builder = builder.add_extension(USES, critical=False)
    return builder.sign(by or key, hashes.SHA256())


def new_key() -> Key:
    """Return a key on P-256."""
    return ec.generate_private_key(ec.SECP256R1())


def make_all(folder: Path, *, renew: bool = False) -> list[str]:
    """Make what is missing below a folder, with ``renew`` all but authority and peers; return the holders."""
    authority = folder / AUTHORITY
    authority.mkdir(parents=True, exist_ok=True)
    if not (authority / "ca.key").exists():
        key = new_key()
        made(authority, "ca", key, certificate(AUTHORITY, key, []))
        renew = True
    ca_pem = (authority / "ca.crt").read_bytes()
    ca_key = load_pem_private_key((authority / "ca.key").read_bytes(), None)
    if not isinstance(ca_key, ec.EllipticCurvePrivateKey):
        raise SystemExit(f"{authority / 'ca.key'} is not of an elliptic curve")
    issuer = x509.load_pem_x509_certificate(ca_pem).subject
    told = []
    for holder in HOLDERS:
        own = folder / holder
        own.mkdir(exist_ok=True)
        if renew or not (own / "tls.key").exists():
            names = hosts(holder) if holder in SERVERS else []
            key = new_key()
            write(own / "ca.crt", ca_pem)
            made(own, "tls", key, certificate(holder, key, names, issuer, ca_key))
            told.append(holder)
        if holder in SERVERS and not (own / "peer.key").exists():
            key = new_key()
            made(own, "peer", key, certificate(holder, key, hosts(holder)))
    return told


def main() -> None:
    """Make them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--renew", action="store_true", help="make all but the authority and the peers' anew")
    given = parser.parse_args()
    sys.stdout.write(f"made: {' '.join(make_all(given.folder, renew=given.renew)) or 'nothing'}\n")


if __name__ == "__main__":
    main()
