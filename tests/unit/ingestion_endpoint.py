"""A strict stand-in for the Logs Ingestion API, over TLS with a CA of its own."""

import contextlib
import gzip
import ipaddress
import json
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

RULE = "dcr-0123456789abcdef0123456789abcdef"
STREAM = "Custom-AIShield_CL"
TOKEN = "static-token-for-tests"
MOST_BYTES = 1 << 20
DCR = Path(__file__).parents[2] / "deploy" / "sentinel" / "dcr.json"


@dataclass
class Scripted:
    """An answer given instead of looking at the request."""

    status: int
    code: str = "Scripted"
    headers: dict[str, str] = field(default_factory=dict)
    message: str = "as the test asked"


@dataclass
class Endpoint:
    """A running endpoint: what it took, and what it will answer next."""

    url: str
    ca_bundle: str
    declared: dict[str, str]
    rows: list[dict[str, Any]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    script: list[Scripted] = field(default_factory=list)
    token: str = TOKEN

    def verdict(self, target: str, headers: Any, body: bytes) -> Scripted:
        """Hold a request against the documented contract."""
        parts = urlsplit(target)
        rule, _, stream = parts.path.removeprefix("/dataCollectionRules/").partition("/streams/")
        query = parse_qs(parts.query)
        kind, coding = headers.get("Content-Type"), headers.get("Content-Encoding")
        checks = (
            (parts.path.startswith("/dataCollectionRules/"), 404, "NotFound"),
            (headers.get("Authorization") == f"Bearer {self.token}", 401, "InvalidToken"),
            (query == {"api-version": ["2023-01-01"]}, 400, "InvalidApiVersion"),
            (rule == RULE, 404, "NotFound"),
            (stream == STREAM, 400, "InvalidStream"),
            (kind == "application/json", 415, "UnsupportedMediaType"),
            (coding == "gzip", 415, "UnsupportedContentEncoding"),
        )
        for right, status, code in checks:
            if not right:
                return Scripted(status, code, message=f"{target} {kind} {coding}")
        return self.take(body)

    def take(self, body: bytes) -> Scripted:
        """Read the rows of a body."""
        try:
            text = gzip.decompress(body)
            rows = json.loads(text.decode("utf-8"), parse_constant=lambda name: 1 / 0)
        except (OSError, ValueError, ZeroDivisionError) as error:
            return Scripted(400, "InvalidPayload", message=repr(error))
        if len(text) > MOST_BYTES:
            return Scripted(413, "ContentLengthLimitExceeded", message=f"{len(text)} bytes")
        if not isinstance(rows, list) or not rows:
            return Scripted(400, "InvalidPayload", message="expected an array with rows")
        for row in rows:
            problem = self.problem_of(row)
            if problem:
                return Scripted(400, "InvalidPayload", message=problem)
        self.rows += rows
        return Scripted(204)

    def problem_of(self, row: Any) -> str:
        """What is wrong with a row, by the stream that the shipped rule declares."""
        if not isinstance(row, dict) or set(row) - set(self.declared):
            return f"undeclared columns: {sorted(set(row) - set(self.declared))}"
        for name, kind in self.declared.items():
            value = row.get(name)
            if value is None:
                return f"{name} is missing"
            right = {"string": str, "real": int | float, "datetime": str}[kind]
            if not isinstance(value, right) or isinstance(value, bool):
                return f"{name}: expected {kind}, got {value!r}"
            if kind == "datetime" and not value.endswith("Z"):
                return f"{name}: expected UTC, got {value!r}"
            if kind == "datetime":
                datetime.fromisoformat(value.replace("Z", "+00:00"))
            if kind == "string" and any(0xD800 <= ord(letter) < 0xE000 for letter in value):
                return f"{name}: no Unicode text"
        return ""


@contextlib.contextmanager
def running_endpoint(folder: Path) -> Iterator[Endpoint]:
    """Serve on a free port of 127.0.0.1 until the block ends."""
    bundle, chain = certificates(folder)
    stream = json.loads(DCR.read_text())["resources"][0]["properties"]["streamDeclarations"][STREAM]
    endpoint = Endpoint("", str(bundle), {c["name"]: c["type"] for c in stream["columns"]})

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(length)
            answer = (
                endpoint.script.pop(0)
                if endpoint.script
                else endpoint.verdict(self.path, self.headers, body)
            )
            endpoint.answers.append(answer.status)
            text = b""
            if answer.status != 204:
                error = {"code": answer.code, "message": answer.message}
                endpoint.complaints.append(f"{answer.code}: {answer.message}")
                text = json.dumps({"error": error}).encode()
            self.send_response_only(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if text:
                self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_arguments: object) -> None:
            return

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_arguments: object) -> None:
            return

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    server = Server(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    endpoint.url = f"https://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def certificates(folder: Path) -> tuple[Path, Path]:
    """A CA's certificate, and a server's certificate and key for 127.0.0.1 that it signed."""
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Modelward test CA")])
    root = (
        dated(authority, authority, authority_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(signs_certificates=True), critical=True)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), critical=False
        )
        .sign(authority_key, hashes.SHA256())
    )
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    leaf = (
        dated(name, authority, key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(signs_certificates=False), critical=True)
        .add_extension(address, critical=False)
        .add_extension(issuer_key, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    bundle, chain = folder / "ca.pem", folder / "server.pem"
    bundle.write_bytes(root.public_bytes(serialization.Encoding.PEM))
    chain.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + leaf.public_bytes(serialization.Encoding.PEM)
    )
    return bundle, chain


def dated(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
    )


def usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
