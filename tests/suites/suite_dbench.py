"""dbench: the calls that a file server makes for its clients, replayed from a recording."""
NAME = "dbench"
NEEDS = ["dbench"]

CASES = {
    "2-clients": ["2"],
    "6-clients": ["6"],
    "fsync": ["-F", "2"],           # fsync where the recorded client asked for a flush
    "o-sync": ["-s", "2"],
    "o-sync-dirs": ["-S", "2"],
}
QUICK = ["6-clients", "fsync"]


def run(place):
    for case in QUICK if place.quick else CASES:
        done = place.run(["dbench", "-D", place.fresh(case), "-t", "3" if place.quick else "5",
                          *CASES[case]], timeout=120)
        place.note(case, done.result(), done.tail())
        place.empty()
