"""Certificates of guarded requests are held against the name, not the address."""

import datetime
import ssl
import threading
from pathlib import Path

import pytest
from test_netguard import Handler, client, names

from modelward.netguard import GuardedClient, OutboundError, OutboundPolicy


def make_certificate(folder: Path, name: str) -> Path:
    """A self-signed certificate and its key in one file."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(tz=datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


def test_name_is_what_the_certificate_must_show(tmp_path: Path) -> None:
    import http.server

    path = make_certificate(tmp_path, "model.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    server.seen = []  # type: ignore[attr-defined]
    server.keys = []  # type: ignore[attr-defined]
    server.stopped = threading.Event()  # type: ignore[attr-defined]
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    port = server.server_address[1]
    resolver = names(model="127.0.0.1", other="127.0.0.1")
    try:
        trusting = ssl.create_default_context(cafile=str(path))
        policy = OutboundPolicy(allow=("127.0.0.1",), timeout_seconds=10)
        with GuardedClient(policy, resolver=resolver, verify=trusting) as guarded:
            assert guarded.get(f"https://model.example:{port}/").text == "hello"
            with pytest.raises(OutboundError, match=r"(?i)hostname mismatch|verify failed"):
                guarded.get(f"https://other.example:{port}/")
        # without that trust the certificate is refused
        with (
            client(resolver=resolver) as strict,
            pytest.raises(OutboundError, match=r"(?i)verify failed"),
        ):
            strict.get(f"https://model.example:{port}/")
        assert [path for path, _ in server.seen] == ["/"]  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
