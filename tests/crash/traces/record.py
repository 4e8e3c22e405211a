#!/usr/bin/python3
"""Record what SQLite does to its files, for the crash workloads.

    record.py rollback|wal >tests/crash/traces/MODE.trace

Runs sqlite3 under strace.  A line of a trace is one call: "c FILE" made or opened, "w FILE OFFSET LENGTH" written,
"s FILE" synced, "t FILE SIZE" cut, "u FILE" removed, "d" the directory synced.  FILE is the name of the file.
"""
import os
import re
import subprocess
import sys
import tempfile

SETUP = "create table t(id integer primary key, name text, pad blob);"
COMMIT = "insert into t(name, pad) values('ehrung', randomblob({})); update t set name = 'x' where id = {};"


def record(mode):
    with tempfile.TemporaryDirectory() as d:
        pragma = {"rollback": "delete", "wal": "wal"}[mode]
        sql = f"pragma journal_mode={pragma}; pragma synchronous=full; pragma page_size=4096;" + SETUP
        for i in range(12):
            sql += "begin;" + COMMIT.format(500 + 700 * (i % 5), 1 + i // 2) + "commit;"
        log = os.path.join(d, "log")
        subprocess.run(["strace", "-y", "-s0", "-o", log, "-e",
                        "trace=openat,pwrite64,fsync,fdatasync,ftruncate,unlink", "sqlite3", d + "/db"],
                       input=sql.encode(), stdout=subprocess.DEVNULL, check=True)
        for line in open(log):
            show(line, d)


def show(line, d):
    m = re.match(r'(\w+)\(.*?' + re.escape(d) + r'(/?[\w-]*)', line)
    if not m or line.rstrip().endswith(")") and "= -1" in line:
        return
    call, name = m[1], m[2].lstrip("/")
    if name == "db-shm" or name == "log":
        return
    if call == "openat" and "O_CREAT" in line:
        print("c", name)
    elif call == "pwrite64":
        n, off = re.search(r", (\d+), (\d+)\) ", line).groups()
        print("w", name, off, n)
    elif call in ("fsync", "fdatasync"):
        print(*(["s", name] if name else ["d"]))
    elif call == "ftruncate":
        print("t", name, re.search(r", (\d+)\) ", line)[1])
    elif call == "unlink":
        print("u", name)


record(sys.argv[1])
