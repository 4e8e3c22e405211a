"""flood.py [COUNT]: what a flood of refused requests does to the key daemon and to those it serves.

Prints one line of JSON: requests refused, how many the log tells of and in how many records, bytes
of log and of memory that it took, and the 99th percentile of a permitted request's time, quiet
and in the flood, in milliseconds, with their ratio.  Those who flood have the lowest priority, so
that the daemon's queue is measured and not who gets the machine's processors.  Fails if a count or a bound does not hold."""
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from multiprocessing import get_context

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "e2e"))
import clubsite                     # noqa: E402  pylint: disable=wrong-import-position
from keydproto import Client, encode    # noqa: E402  pylint: disable=wrong-import-position

ID = bytes(range(16))
PROCESSES, AHEAD = 2, 20
WARM = 20000
QUIET = 2000        # requests for the percentile without a flood
RATIO_MAX = 10


def flood(run, count):
    """Ask @count times for a club that nobody may have, AHEAD requests at a time."""
    packet = encode("GET", 9, club="Forbidden", club_id=ID, acting_uid=5000, acting_gid=1,
                    acting_pid=1, purpose=1)
    os.nice(19)
    with Client(run, timeout=60) as client:
        for sent in range(0, count, AHEAD):
            now = min(AHEAD, count - sent)
            for _ in range(now):
                client.sock.send(packet)
            for _ in range(now):
                assert client.recv()["code"] == "ACCESS"


def times(client, go_on):
    """Milliseconds of each permitted request, as long as go_on() says so."""
    spent = []
    while go_on(len(spent)):
        begin = time.perf_counter()
        assert client.get("Chor", ID)["type"] == "KEY"
        spent.append((time.perf_counter() - begin) * 1e3)
    return spent


def p99(values):
    return statistics.quantiles(values, n=100)[98]


def memory(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return int(next(line for line in f if line.startswith("VmRSS")).split()[1]) * 1024


def log_bytes(keyd):
    top = os.path.join(keyd.state, "audit")
    return sum(os.path.getsize(os.path.join(top, name)) for name in os.listdir(top))


def measure(keyd, count):
    with Client(keyd.run, "admin.sock") as admin:
        admin.add("Chor", ID)
        admin.activate("Chor", ID)
    with Client(keyd.run) as client:
        times(client, lambda n: n < 200)
        started = get_context("fork").Process(target=flood, args=(keyd.run, WARM))
        started.start()             # buffers and tables have their size after it
        started.join()
        quiet = times(client, lambda n: n < QUIET)
        before, log_before, began = memory(keyd.pid), log_bytes(keyd), time.perf_counter()
        started = [get_context("fork").Process(target=flood, args=(keyd.run, count // PROCESSES))
                   for _ in range(PROCESSES)]
        for p in started:
            p.start()
        loud = times(client, lambda n: any(p.is_alive() for p in started))
        seconds = time.perf_counter() - began
        after = memory(keyd.pid)
    assert all(p.exitcode == 0 for p in started)
    keyd.stop()
    denied = [r for r in keyd.audit() if r.get("res") == "deny"]
    return {"refused": count + WARM, "seconds": round(seconds, 1),
            "counted": sum(r.get("n", 1) for r in denied), "records": len(denied),
            "granted_meanwhile": len(loud), "log_bytes": log_bytes(keyd) - log_before,
            "memory_bytes": after - before, "p99_quiet_ms": round(p99(quiet), 3),
            "p99_flood_ms": round(p99(loud), 3), "ratio": round(p99(loud) / p99(quiet), 2)}


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000000
    top = tempfile.mkdtemp(prefix="flood-", dir=os.environ.get("CLUBFS_TESTDIR", "/var/tmp"))
    site = clubsite.Site(top)
    try:
        policy = site.write("policy", "deny no\n\tclub Forbidden\nallow rest\n")
        os.chmod(policy, 0o644)
        found = measure(site.keyd(f"policy {policy}\n"), count)
    finally:
        problems = site.close()
        shutil.rmtree(top, ignore_errors=True)
    print(json.dumps(found))
    if found["counted"] != found["refused"]:
        problems.append("the log does not tell of every refusal")
    if found["records"] > 10 + found["seconds"] / 10 + 4:
        problems.append("too many records")
    if found["memory_bytes"] > 512 << 10:
        problems.append("the daemon grew")
    if found["ratio"] > RATIO_MAX:
        problems.append(f"the others waited more than {RATIO_MAX} times as long")
    for line in problems:
        print(line, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
