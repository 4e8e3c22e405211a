"""An audit log as a reviewer sees it: written from keyd/AUDIT.md, RFC 6962 and C2SP alone.

Shares no code with the C side.  Ed25519 is python3-cryptography's.
"""
import base64
import hashlib
import json
import os
import re

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

ZERO = base64.b64encode(bytes(32)).decode()


def leaf_hash(line):
    return hashlib.sha256(b"\0" + line).digest()


def root_hash(leaves):
    """The tree head of RFC 6962, section 2.1, as it is defined there."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\1" + root_hash(leaves[:split]) + root_hash(leaves[split:])).digest()


class Log:
    """What stands in STATE/audit."""

    def __init__(self, state):
        self.top = os.path.join(state, "audit")

    def path(self, name):
        return os.path.join(self.top, name)

    def segments(self):
        """Names of the segments, oldest first."""
        return sorted(name for name in os.listdir(self.top) if name.endswith(".jsonl"))

    def read(self, name):
        with open(self.path(name), "rb") as f:
            return f.read()

    def lines(self):
        """All lines, without their LF; what follows the last LF of a segment is left out."""
        return [line for name in self.segments() for line in self.read(name).split(b"\n")[:-1]]

    def records(self, ev=None):
        found = [json.loads(line) for line in self.lines()]
        return [r for r in found if ev in (None, r["ev"])]

    def check_chain(self):
        """Every line follows the one before, and every segment begins by saying so."""
        prev = ZERO
        lines = self.lines()
        for number, line in enumerate(lines):
            record = json.loads(line)
            assert (record["v"], record["seq"], record["prev"]) == (1, number, prev), number
            assert len(line) < 4096
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record["ts"])
            prev = base64.b64encode(leaf_hash(line)).decode()
        return lines

    def check_segments(self):
        """segment.open tells the truth about the segment before."""
        names = self.segments()
        assert names == [f"{n:06d}.jsonl" for n in range(1, len(names) + 1)]
        for before, name in zip(names, names[1:]):
            opened = json.loads(self.read(name).split(b"\n")[0])
            raw = self.read(before)
            old = raw.split(b"\n")[:-1]
            assert opened["ev"] == "segment.open"
            assert (opened["segment"], opened["previous"]) == (name, before)
            assert opened["sha256"] == hashlib.sha256(raw).hexdigest()
            assert opened["size"] == len(raw)
            assert opened["first"] == json.loads(old[0])["seq"]
            assert opened["last"] == json.loads(old[-1])["seq"]
            assert opened["leaf"] == base64.b64encode(leaf_hash(old[-1])).decode()

    def checkpoint(self):
        """Origin and size of the checkpoint, after its signature and its root were verified."""
        text, _, signatures = self.read("checkpoint").decode().partition("\n\n")
        text += "\n"
        origin, size, root = text.split("\n")[:3]
        name, key_hash, key = self.read("vkey").decode().strip().split("+", 2)
        key = base64.b64decode(key)
        assert name == origin and key[0] == 1
        assert hashlib.sha256(name.encode() + b"\n" + key).hexdigest()[:8] == key_hash
        dash, signer, signature = signatures.strip().split(" ")
        assert (dash, signer) == ("\u2014", origin)
        signature = base64.b64decode(signature)
        assert signature[:4].hex() == key_hash
        Ed25519PublicKey.from_public_bytes(key[1:]).verify(signature[4:], text.encode())
        leaves = [leaf_hash(line) for line in self.lines()[:int(size)]]
        assert len(leaves) == int(size)
        assert base64.b64decode(root) == root_hash(leaves)
        return origin, int(size)

    def check(self):
        """All of it.  Returns the records."""
        self.check_chain()
        self.check_segments()
        self.checkpoint()
        return self.records()
