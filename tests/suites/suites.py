"""suites.py [SUITE...]: test suites that others wrote, on a plain directory and then in a club.

Both must give the same results, test by test.  A difference that is meant to be stands in
known.txt; any other makes the exit status 1.  Each suite has a directory, daemons and a mount of
its own, and is ended with all that it started.  With CLUBFS_RESULTS=FILE "passed failed skipped"
is appended there: passed are tests with success in both places, skipped those that show nothing
because they are skipped or fail in both, and the differences that known.txt explains."""
import argparse
import os
import shutil
import signal
import sys
import tempfile
import time

from place import HERE, Place, adopt_orphans, clubsite, end_strays
import suite_bonnie
import suite_dbench
import suite_fio
import suite_mdbtools
import suite_samba
import suite_sqlite
import suite_stress

SUITES = {m.NAME: m for m in (suite_fio, suite_stress, suite_dbench, suite_bonnie,
                              suite_samba, suite_mdbtools, suite_sqlite)}
PLACES = ("plain", "clubfs")
SUITE_S = 600       # a suite that takes longer hangs: its daemons are killed
KNOWN = os.path.join(HERE, "known.txt")


class Tally:
    """What became of one suite."""

    def __init__(self, name):
        self.name, self.why_not, self.seconds = name, None, 0.0
        self.good, self.alike, self.explained = [], [], []
        self.failures = []      # lines to print
        self.outdated = []      # tests of known.txt that do not differ

    def counts(self):
        skipped = len(self.alike) + len(self.explained) + bool(self.why_not)
        return len(self.good), len(self.failures), skipped


def known_differences(path=KNOWN):
    """{(suite, test): ([plain], [clubfs])} from the file with one difference a line."""
    found = {}
    with open(path, encoding="utf-8") as f:
        for line in f:
            if line.strip() and not line.startswith("#"):
                suite, test, plain, clubfs, _ = line.split(None, 4)
                found[suite, test] = (plain.split("|"), clubfs.split("|"))
    return found


def compare(tally, plain, clubfs, known):
    """Sort every test of the two runs {test: (result, what was said)} into @tally."""
    for test in sorted({*plain, *clubfs}):
        a, _ = plain.get(test, ("not-run", ""))
        b, said = clubfs.get(test, ("not-run", ""))
        expected = known.get((tally.name, test))
        meant = bool(expected) and a in expected[0] and b in expected[1]
        if a == b:
            (tally.good if a.split(":")[0] == "ok" else tally.alike).append(test)
            if expected and not meant:
                tally.outdated.append(f"{tally.name} {test}: {a} in both places")
        elif meant:
            tally.explained.append(test)
        else:
            tally.failures.append(f"{test}: plain {a}, clubfs {b}"
                                  + "".join(f"\n    {l}" for l in said.splitlines()))


def why_not(suite):
    """Why a suite cannot run here, or None."""
    absent = [p for p in suite.NEEDS if not shutil.which(p)]
    if absent:
        return f"not installed: {' '.join(absent)} ('make deps-suites')"
    if getattr(suite, "ROOT", False) and os.geteuid() != 0:
        return "needs root"
    return getattr(suite, "missing", lambda: None)()


def run_suite(suite, args, known):
    tally = Tally(suite.NAME)
    tally.why_not = why_not(suite)
    if tally.why_not:
        return tally
    began = time.monotonic()
    site = clubsite.Site(tempfile.mkdtemp(prefix="clubfs-suite-", dir=args.dir))
    done = {}
    try:
        with clubsite.Watchdog(site, SUITE_S) as dog:
            for name in PLACES:
                place = Place(site, name, args.quick)
                try:
                    suite.run(place)
                finally:
                    done[name] = place.results
                    strays = end_strays(place.daemons())
                if strays:
                    print(f"  {suite.NAME} left running in {name}: {' '.join(strays)}")
        if dog.fired:
            tally.failures.append(f"took more than {SUITE_S} s")
    except (clubsite.SiteError, OSError) as e:
        tally.failures.append(f"could not go on: {e}")
    finally:
        problems = site.close()
    tally.failures += problems
    compare(tally, done.get("plain", {}), done.get("clubfs", {}), known)
    tally.seconds = time.monotonic() - began
    if args.list:
        show(done)
    return tally


def show(done):
    for test in sorted({t for place in done.values() for t in place}):
        print(f"  {test:44s}", *(done.get(n, {}).get(test, ("not-run",))[0] for n in PLACES))


def summary(tallies):
    print(f"\n{'suite':12s}{'same, good':>12s}{'same, not':>11s}{'explained':>11s}"
          f"{'DIFFERENT':>11s}{'seconds':>9s}")
    for t in tallies:
        if t.why_not:
            print(f"{t.name:12s}  skipped: {t.why_not}")
        else:
            print(f"{t.name:12s}{len(t.good):12d}{len(t.alike):11d}{len(t.explained):11d}"
                  f"{len(t.failures):11d}{t.seconds:9.0f}")
    for t in tallies:
        for line in t.outdated:
            print(f"known.txt is outdated: {line}")
        for line in t.failures:
            print(f"\n{t.name}: {line}")


def record(tallies):
    name = os.environ.get("CLUBFS_RESULTS")
    if name:
        sums = [sum(column) for column in zip(*(t.counts() for t in tallies))]
        with open(name, "a", encoding="utf-8") as f:
            print(*sums, file=f)


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("suites", nargs="*", metavar="SUITE", help="of " + " ".join(SUITES))
    p.add_argument("--quick", action="store_true", default=bool(os.environ.get("SUITES_QUICK")),
                   help="a part of each suite; the same as SUITES_QUICK=1")
    p.add_argument("--list", action="store_true", help="print the result of every test")
    p.add_argument("--dir", default=os.environ.get("CLUBFS_TESTDIR", "/var/tmp"),
                   help="where the plain directory and the store lie")
    args = p.parse_args()
    for name in args.suites:
        if name not in SUITES:
            p.error(f"no suite '{name}'; there are: {' '.join(SUITES)}")
    return args


def interrupted(*_):
    for signo in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signo, signal.SIG_IGN)        # once is enough; cleaning up takes a moment
    raise KeyboardInterrupt


def main():
    args = arguments()
    if not os.path.exists("/dev/fuse"):
        raise SystemExit("suites: /dev/fuse is missing: nothing can be mounted here")
    for signo in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signo, interrupted)
    adopt_orphans()
    known = known_differences()
    tallies = []
    try:
        for name in args.suites or SUITES:
            print(f"== {name}", flush=True)
            tallies.append(run_suite(SUITES[name], args, known))
    except KeyboardInterrupt:
        print("suites: interrupted", file=sys.stderr)
        return 130
    finally:
        end_strays()
    summary(tallies)
    record(tallies)
    return 1 if any(t.failures for t in tallies) else 0


if __name__ == "__main__":
    sys.exit(main())
