"""A server's certificate that nobody but who is told of it trusts."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path


def make_certificate(place: Path) -> Path:
    """Make a certificate for 127.0.0.1 that signs itself, its key beside it; returns its file, which is the CA bundle as well."""
    certificate = place / "certificate.pem"
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(_key(certificate)))
    subject = ("-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1")
    subprocess.run(["openssl", "req", "-x509", "-days", "2", *key, *subject, "-out", str(certificate)], check=True, capture_output=True)
    return certificate


def of_server(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, _key(certificate))
    return context


def _key(certificate: Path) -> Path:
    return certificate.with_name("key.pem")
