"""mdbtools: Access databases that others made, read through the mount by another reader."""
import glob
import hashlib
import os
import shutil

NAME = "mdbtools"
NEEDS = ["mdb-tables", "mdb-export", "mdb-schema", "mdb-ver"]

SAMPLES = os.environ.get("ACCESS_FILES") or os.path.join(
    os.path.dirname(os.path.abspath(__file__)), "../../../shared/data/access")


def missing():
    if not samples():
        return "no Access databases found; ACCESS_FILES names their directory"
    return None


def samples():
    return sorted(glob.glob(os.path.join(SAMPLES, "*.mdb")) +
                  glob.glob(os.path.join(SAMPLES, "*.accdb")))


def read(place, test, *argv):
    """What it prints is the result: it has to be the same in both places."""
    done = place.run(argv, text=False, env=dict(os.environ, MDBICONV="UTF-8", LC_ALL="C.UTF-8"))
    digest = hashlib.sha256(done.output).hexdigest()[:12]
    place.note(test, f"{done.result()}:{digest}")
    return done.output.decode("utf-8", "replace")


def run(place):
    for sample in samples():
        shutil.copy(sample, place.dir)
    place.remount()
    for sample in samples():
        name = os.path.basename(sample)
        path = os.path.join(place.dir, name)
        read(place, f"{name}:version", "mdb-ver", path)
        read(place, f"{name}:schema", "mdb-schema", path)
        for table in read(place, f"{name}:tables", "mdb-tables", "-1", path).splitlines():
            word = "".join(c if c.isalnum() else "_" for c in table)
            read(place, f"{name}:table:{word}", "mdb-export", path, table)
