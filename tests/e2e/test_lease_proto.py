"""Leases as the protocol has them: a client of its own against the real clubkeyd."""
import os
import signal
import time

import pytest

import clubsite
from keydproto import Client, Closed, encode

ID = bytes(range(16))
LEASES, TAKES_REVOKE = 1, 2
DONE, BUSY, FAILED, SILENT, DEAF = range(5)


@pytest.fixture
def daemon(site):
    """A daemon that has a key for the club Chor."""
    keyd = site.keyd("key-ttl 60\n")
    add_club(keyd, "Chor")
    return keyd


def add_club(keyd, name):
    with Client(keyd.run, "admin.sock") as admin:
        assert admin.add(name, ID)["type"] == "KEY"
        assert admin.activate(name, ID)["type"] == "DONE"


def connect(keyd, features=LEASES):
    client = Client(keyd.run, hello=False)
    assert client.call("HELLO", software="holder", features=features)["type"] == "HELLO_OK"
    return client


def renew(client, lease, club="Chor", uid=1000, ttl=30, left=0):
    return client.call("RENEW", club=club, club_id=ID, acting_uid=uid, acting_gid=uid,
                       acting_pid=1, purpose=1, epoch=1, ttl_s=ttl, lease=lease, lease_max_s=left)


def order(keyd, wait=0, **what):
    """What clubctl hears: the leases that stay, and the end."""
    with Client(keyd.run, "admin.sock", timeout=30) as admin:
        said = [admin.call("REVOKE_ORDER", ttl_s=wait, **what)]
        while said[-1]["type"] == "REVOKE_STATE" and said[-1]["what"] != DONE:
            said.append(admin.recv())
    return said[:-1], said[-1]


def last(keyd, event):
    return [r for r in keyd.audit() if r["ev"] == event][-1]


def test_a_key_for_a_mount_is_a_lease_and_others_are_not(daemon):
    with connect(daemon) as c:
        key = c.get("Chor", ID)
        assert key["type"] == "KEY" and len(key["lease"]) == 16
        assert key["ttl_s"] == 60 and key["lease_idle_s"] > 0 and key["lease_max_s"] > 0
        assert last(daemon, "key.get")["lease"] == key["lease"].hex()
        assert "lease" not in c.get("Chor", ID, purpose="verify")
        assert "lease" not in last(daemon, "key.get")
    with Client(daemon.run) as old:         # knows nothing of leases, and has one all the same
        assert "lease" not in old.get("Chor", ID)
        assert "lease" in last(daemon, "key.get")


def test_renewal_and_release_have_their_records_first(daemon):
    with connect(daemon) as c:
        lease = c.get("Chor", ID)["lease"]
        got = renew(c, lease)
        assert got["type"] == "LEASE" and got["lease"] == lease and got["ttl_s"] == 60
        record = last(daemon, "key.renew")
        assert record["seq"] == got["seq"] and record["res"] == "allow"
        assert record["lease"] == lease.hex() and "taken_over" not in record
        done = c.call("RELEASE", lease=lease)
        assert done["type"] == "DONE"
        record = last(daemon, "key.release")
        assert record["seq"] == done["seq"] and record["club"] == "Chor"
        assert record["acting"]["uid"] == 1000
        assert c.call("RELEASE", lease=lease)["code"] == "NOENT"


def test_nobody_renews_what_is_anothers(daemon):
    with connect(daemon) as c:
        lease = c.get("Chor", ID)["lease"]

        def steal():
            with connect(daemon) as thief:
                return renew(thief, lease), thief.call("RELEASE", lease=lease)

        stolen, released = clubsite.as_user(os.getuid(), steal)
        assert stolen["code"] == "ACCESS" and released["code"] == "NOENT"
        assert renew(c, lease, uid=1001)["code"] == "ACCESS"
        assert renew(c, lease)["type"] == "LEASE"


def test_what_a_daemon_before_gave_is_taken_over(daemon, site):
    with connect(daemon) as c:
        lease = c.get("Chor", ID)["lease"]
    daemon.kill()
    again = site.add(clubsite.Keyd(site, daemon.state, daemon.run,
                                   os.path.join(site.top, "state.conf")))
    with connect(again) as c:
        assert renew(c, lease, ttl=0)["code"] == "EXPIRED"
        assert renew(c, lease, club="no such club")["code"] == "ACCESS"
        got = renew(c, lease, left=7)
        assert got["type"] == "LEASE" and got["ttl_s"] == got["lease_max_s"] == 7
        assert last(again, "key.renew")["taken_over"] == 1
        assert renew(c, lease)["ttl_s"] <= 7, "now it is known"
        own = c.get("Chor", ID)["lease"]
        assert c.call("RELEASE", lease=own)["type"] == "DONE"
        assert renew(c, own)["code"] == "EXPIRED", "of this life, and over"


def test_time_and_the_end_of_a_process_end_leases(site):
    keyd = site.keyd("key-ttl 1\n")
    add_club(keyd, "Chor")
    with connect(keyd) as c:
        lease = c.get("Chor", ID)["lease"]
        time.sleep(1.1)
        assert renew(c, lease)["code"] == "EXPIRED"
        clubsite.wait_for("the record", lambda: last(keyd, "key.expire"))
        assert last(keyd, "key.expire")["lease"] == lease.hex()
    keyd.stop()
    keyd = site.keyd("key-ttl 60\n")

    def hold():
        with connect(keyd) as c:
            return c.get("Chor", ID)["lease"]

    lease = clubsite.as_user(os.getuid(), hold)
    clubsite.wait_for("the record", lambda: [
        r for r in keyd.audit() if r["ev"] == "key.release" and r["lease"] == lease.hex()])
    assert last(keyd, "key.release")["why"] == "the holder has exited"


def test_a_connection_that_ends_does_not_end_its_process_leases(daemon):
    with connect(daemon) as c:
        lease = c.get("Chor", ID)["lease"]
    time.sleep(1)
    with connect(daemon) as c:
        assert renew(c, lease)["type"] == "LEASE"
        assert "taken_over" not in last(daemon, "key.renew")


def test_a_revocation_is_over_when_the_holder_says_so(daemon):
    add_club(daemon, "TV")
    with connect(daemon, LEASES | TAKES_REVOKE) as c:
        chor, tv = c.get("Chor", ID)["lease"], c.get("TV", ID)["lease"]
        left, end = order(daemon, club="Chor", text="why not")
        assert [(l["lease"], l["what"], l["club"]) for l in left] == [(chor, SILENT, b"Chor")]
        assert (end["busy"], end["clubs"]) == (1, 0)
        push = c.recv()
        assert push["type"] == "REVOKE" and push["club"] == b"Chor" and "acting_uid" not in push
        assert push["seq"] == last(daemon, "revoke.sent")["seq"] == end["seq"]
        assert last(daemon, "revoke.sent")["reason"] == "why not"
        assert renew(c, chor)["code"] == "REVOKED" 
        assert renew(c, tv, club="TV")["type"] == "LEASE"
        c.req_id = push["req_id"] - 1
        assert c.call("REVOKE_ACK", what=BUSY, busy=3)["type"] == "DONE"
        assert last(daemon, "revoke.busy")["busy"] == 3
        c.req_id = push["req_id"] - 1
        assert c.call("REVOKE_ACK", what=DONE, busy=0)["type"] == "DONE"
        assert last(daemon, "revoke.ack")["of"] == push["seq"]
        assert order(daemon, club="Chor") == ([], order(daemon, club="Chor")[1] | {
            "seq": last(daemon, "revoke.sent")["seq"] - 1})
        assert c.get("Chor", ID)["type"] == "KEY", "a new one is the policy's to give"
        left, end = order(daemon, acting_uid=1000)
        assert len(left) == end["busy"] == 2 and c.recv()["acting_uid"] == 1000


def test_a_holder_without_ears_is_named(daemon):
    with connect(daemon) as c:
        c.get("Chor", ID)
        left, end = order(daemon)
        assert [l["what"] for l in left] == [DEAF] and end["busy"] == 1
        assert left[0]["pid"] == os.getpid() and left[0]["subject_uid"] == os.getuid()
        assert "no connection" in last(daemon, "revoke.timeout")["why"]
        with connect(daemon, LEASES | TAKES_REVOKE) as ears:        # told when it can hear
            assert ears.recv()["type"] == "REVOKE"


def test_orders_belong_to_administrators_and_are_checked(daemon):
    with connect(daemon) as c:
        assert c.call("REVOKE_ORDER", ttl_s=0)["code"] == "PROTO"
        with pytest.raises((Closed, OSError)):
            c.ping()
    with Client(daemon.run, "admin.sock") as admin:
        assert admin.call("REVOKE_ORDER", ttl_s=0, club="Chor", acting_uid=1)["code"] == "INVALID"
        assert admin.call("REVOKE_ORDER", ttl_s=99999)["code"] == "INVALID"
    with connect(daemon) as c:
        assert c.call("REVOKE_ACK", what=DONE, busy=0)["code"] == "NOENT"
        assert c.call("REVOKE_ACK", what=SILENT, busy=0)["code"] == "PROTO"


def test_whoever_ordered_need_not_stay(daemon):
    with connect(daemon, LEASES | TAKES_REVOKE) as c:
        c.get("Chor", ID)
        admin = Client(daemon.run, "admin.sock")
        admin.sock.send(encode("REVOKE_ORDER", ttl_s=30))
        push = c.recv()
        admin.close()
        c.req_id = push["req_id"] - 1
        assert c.call("REVOKE_ACK", what=DONE, busy=0)["type"] == "DONE"
        assert order(daemon)[1]["clubs"] == 0


def test_renewals_sent_ahead_share_their_syncs(daemon):
    with connect(daemon) as c:
        lease = c.get("Chor", ID)["lease"]
        daemon.proc.send_signal(signal.SIGSTOP)
        for i in range(64):
            c.sock.send(encode("RENEW", 1000 + i, club="Chor", club_id=ID, acting_uid=1000,
                               acting_gid=1000, acting_pid=1, purpose=1, epoch=1, ttl_s=1,
                               lease=lease, lease_max_s=0))
        with open(f"/proc/{daemon.pid}/io", encoding="ascii") as f:
            before = int(dict(line.split(": ") for line in f)["syscw"])
        daemon.proc.send_signal(signal.SIGCONT)
        assert [c.recv()["req_id"] for _ in range(64)] == [1000 + i for i in range(64)]
        with open(f"/proc/{daemon.pid}/io", encoding="ascii") as f:
            writes = int(dict(line.split(": ") for line in f)["syscw"]) - before
        assert writes < 16
