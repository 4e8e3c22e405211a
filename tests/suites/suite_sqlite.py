"""sqlite3: several writers at once in every journal mode, then SQLite's own integrity check."""
import os
import subprocess

NAME = "sqlite3"
NEEDS = ["sqlite3"]

MODES = ["delete", "truncate", "persist", "wal"]
WRITERS = 4


def shell(path):
    return ["sqlite3", "-batch", "-bail", "-cmd", ".timeout 60000", path]


def script(writer, rows):
    """One writer's rows, one commit each; every third row is changed, every fifth removed."""
    lines = ["PRAGMA synchronous=FULL;"]
    for i in range(rows):
        lines.append("BEGIN IMMEDIATE;")
        size = 100 + i * 37 % 3000
        lines.append(f"INSERT INTO t VALUES({writer}, {i}, hex(randomblob({size})));")
        if i % 3 == 2:
            lines.append(f"UPDATE t SET v = v || v WHERE w = {writer} AND i = {i - 1};")
        if i % 5 == 4:
            lines.append(f"DELETE FROM t WHERE w = {writer} AND i = {i};")
        lines.append("COMMIT;")
    return "\n".join(lines) + "\n"


def write(place, path, mode, rows):
    """All writers side by side; returns their exit statuses."""
    place.run(shell(path), stdin=f"PRAGMA journal_mode={mode}; CREATE TABLE t("
              "w INTEGER, i INTEGER, v TEXT, PRIMARY KEY (w, i));\n".encode())
    procs = []
    try:
        for writer in range(WRITERS):
            name = os.path.join(place.scratch, f"{mode}-{writer}.sql")
            with open(name, "w", encoding="ascii") as f:
                f.write(script(writer, rows))
            with open(name, "rb") as stdin, open(name + ".log", "wb") as log:
                procs.append(subprocess.Popen(shell(path), stdin=stdin, stdout=log, stderr=log))
        return [p.wait(120) for p in procs]
    finally:
        for p in procs:
            p.kill()
            p.wait()


def checked(place, path):
    done = place.run(shell(path), stdin=b"PRAGMA integrity_check; PRAGMA journal_mode;"
                                        b"SELECT count(*) FROM t;\n")
    return done.output.split() if done.status == 0 else [done.result()]


def run(place):
    rows = 50 if place.quick else 150
    count = str(WRITERS * (rows - rows // 5))
    for mode in ["delete", "wal"] if place.quick else MODES:
        path = os.path.join(place.fresh(mode), "db")
        said = write(place, path, mode, rows)
        place.note(f"{mode}-writers", "ok" if not any(said) else "failed", str(said))
        for when in ("", "-remounted"):
            got = checked(place, path)
            good = got in (["ok", mode, count], ["ok", "delete", count])
            place.note(f"{mode}-check{when}", "ok" if good else "failed", " ".join(got)[:400])
            if not when:
                place.remount()
        place.empty()
