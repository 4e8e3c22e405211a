"""The protocol of clubkeyd, written from keyd/PROTOCOL.md alone.

Shares no code with the C side, so a mistake there is not made here again.  Standard library only.
Bytes that no honest client would send are sent with Client.raw().
"""
import array
import os
import socket
import struct

MAGIC = b"KYD1"
VERSION = 1
PACKET_MAX = 4096
HEADER = struct.Struct(">4sBBHII")

TYPES = {"HELLO": 1, "HELLO_OK": 2, "GET": 3, "KEY": 4, "DENY": 5, "STATUS": 10, "STATUS_OK": 11,
         "PING": 12, "PONG": 13, "DONE": 15, "ADD": 32, "ACTIVATE": 33,
         "LIST": 34, "LIST_OK": 35, "ROTATE": 41, "SUSPEND": 42, "RESUME": 43, "BACKUP": 44,
         "POLICY_TEST": 38, "POLICY_ANSWER": 39, "POLICY_RELOAD": 40}
TYPES |= {"RENEW": 6, "RELEASE": 7, "REVOKE": 8, "REVOKE_ACK": 9, "LEASE": 16,
          "REVOKE_ORDER": 36, "REVOKE_STATE": 37}
TYPE_NAMES = {number: name for name, number in TYPES.items()}

# name: (tag, format); bytes where the format is None
FIELDS = {"software": (1, None), "club": (2, None), "club_id": (3, None), "store_id": (4, None),
          "acting_uid": (5, ">I"), "acting_gid": (6, ">I"), "acting_pid": (7, ">I"),
          "purpose": (8, ">I"), "key": (9, None), "epoch": (10, ">I"), "ttl_s": (11, ">I"),
          "seq": (12, ">Q"), "code": (13, ">I"), "retry_s": (14, ">I"), "clubs": (15, ">I"),
          "uptime_s": (16, ">Q"), "pid": (17, ">I"), "features": (18, ">I"),
          "text": (25, None), "rule": (26, None), "state": (27, ">I"),
          "created_s": (28, ">Q"), "changed_s": (30, ">Q")}
STATES = {"pre-active": 1, "active": 2, "suspended": 3, "deactivated": 4, "compromised": 5,
          "destroyed": 6}
FIELDS |= {"lease": (19, None), "lease_idle_s": (20, ">I"), "lease_max_s": (21, ">I"),
           "busy": (22, ">I"), "what": (23, ">I"), "subject_uid": (24, ">I")}
TAG_NAMES = {tag: (name, form) for name, (tag, form) in FIELDS.items()}

CODES = {"ACCESS": 1, "AUDIT": 2, "SEALED": 3, "EXISTS": 4, "NOENT": 5, "STALE": 6, "PROTO": 7,
         "BUSY": 8, "INVALID": 9, "INTERNAL": 10, "RATE": 11}
CODES |= {"EXPIRED": 16, "REVOKED": 17}
CODE_NAMES = {number: name for name, number in CODES.items()}

PURPOSES = {"mount": 1, "verify": 2, "admin": 3}


def tlv(tag, value):
    """One field."""
    return struct.pack(">HH", tag, len(value)) + value


def header(kind, body_len, req_id=1, version=VERSION, flags=0, magic=MAGIC):
    """The 16 bytes in front, for tests that want one wrong."""
    return HEADER.pack(magic, version, kind, flags, req_id, body_len)


def encode(kind, req_id=1, **fields):
    """A packet with fields in the order of their tags."""
    body = b""
    for name, value in sorted(fields.items(), key=lambda item: FIELDS[item[0]][0]):
        tag, form = FIELDS[name]
        if form:
            value = struct.pack(form, value)
        elif isinstance(value, str):
            value = value.encode()
        body += tlv(tag, value)
    return header(TYPES[kind], len(body), req_id) + body


def decode(raw):
    """A packet as a dict with "type" and "req_id" and its fields.  ValueError if malformed."""
    if not HEADER.size <= len(raw) <= PACKET_MAX:
        raise ValueError(f"{len(raw)} bytes are no packet")
    magic, version, kind, flags, req_id, body_len = HEADER.unpack_from(raw)
    if (magic, version, flags, body_len) != (MAGIC, VERSION, 0, len(raw) - HEADER.size):
        raise ValueError(f"bad header {raw[:16]!r}")
    packet = {"type": TYPE_NAMES[kind], "req_id": req_id}
    off, last = HEADER.size, 0
    while off < len(raw):
        tag, size = struct.unpack_from(">HH", raw, off)
        value = raw[off + 4:off + 4 + size]
        if tag <= last or len(value) != size:
            raise ValueError(f"bad field at {off}")
        name, form = TAG_NAMES[tag]
        packet[name] = struct.unpack(form, value)[0] if form else value
        off, last = off + 4 + size, tag
    if "code" in packet:
        packet["code"] = CODE_NAMES[packet["code"]]
    return packet


class Closed(Exception):
    """The daemon closed the connection."""


class Client:
    """One connection.  Each call returns the daemon's answer as decode() gives it."""

    def __init__(self, run_dir, sock="keyd.sock", hello=True, timeout=10, pidfd=True):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock.settimeout(timeout)
        self.req_id = 0
        try:
            self.sock.connect(os.path.join(run_dir, sock))
            if hello:
                answer = self.hello(pidfd)
                if answer["type"] != "HELLO_OK":
                    raise Closed(str(answer))
        except BaseException:
            self.sock.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """End the connection."""
        self.sock.close()

    def recv(self):
        """The next answer."""
        try:
            raw = self.sock.recv(PACKET_MAX + 1)
        except ConnectionResetError as err:
            raise Closed from err
        if not raw:
            raise Closed
        return decode(raw)

    def raw(self, data, fds=(), answer=True):
        """Send bytes as they are."""
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.sock.sendmsg([data], ancillary)
        return self.recv() if answer else None

    def call(self, kind, fds=(), **fields):
        """Ask, and check that the answer is to this question."""
        self.req_id += 1
        answer = self.raw(encode(kind, self.req_id, **fields), fds)
        assert answer["req_id"] == self.req_id, answer
        return answer

    def hello(self, pidfd=True):
        """HELLO, with a pidfd of ours if that is True, or with that descriptor; None: with none."""
        own = os.pidfd_open(os.getpid()) if pidfd is True else pidfd
        try:
            return self.call("HELLO", fds=() if own is None else (own,), software="keydproto",
                             features=0)
        finally:
            if pidfd is True:
                os.close(own)

    def ping(self):
        """PING."""
        return self.call("PING")

    def get(self, club, club_id, uid=1000, gid=1000, pid=1, purpose="mount", epoch=None):
        """GET, on behalf of uid."""
        more = {} if epoch is None else {"epoch": epoch}
        return self.call("GET", club=club, club_id=club_id, acting_uid=uid, acting_gid=gid,
                         acting_pid=pid, purpose=PURPOSES[purpose], **more)

    def add(self, club, club_id, store_id=bytes(16)):
        """ADD, on admin.sock."""
        return self.call("ADD", club=club, club_id=club_id, store_id=store_id)

    def activate(self, club, club_id):
        """ACTIVATE, on admin.sock."""
        return self.call("ACTIVATE", club=club, club_id=club_id)

    def status(self):
        """STATUS, on admin.sock."""
        return self.call("STATUS")

    def rotate(self, club, epoch, old="deactivated"):
        """ROTATE, on admin.sock."""
        return self.call("ROTATE", club=club, epoch=epoch, state=STATES.get(old, old))

    def suspend(self, club, reason="a reason"):
        """SUSPEND, on admin.sock."""
        return self.call("SUSPEND", club=club, text=reason)

    def resume(self, club):
        """RESUME, on admin.sock."""
        return self.call("RESUME", club=club)

    def keys(self):
        """All answers to LIST, on admin.sock, as (club, epoch, name of the state, answer)."""
        found, names = [], {number: name for name, number in STATES.items()}
        key = self.call("LIST")
        while "club" in key:
            found.append((key["club"].decode(), key["epoch"], names[key["state"]], key))
            key = self.call("LIST", club=key["club"], epoch=key["epoch"])
        return found
