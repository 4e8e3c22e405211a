"""bonnie++: streams, seeks, and many small files made, looked up and removed."""
NAME = "bonnie++"
NEEDS = ["bonnie++"]

CASES = {
    "small-files": ["-f", "-s", "64", "-r", "32", "-n", "2:9000:0:4"],
    "synced": ["-s", "16", "-r", "8", "-n", "1", "-b", "-f"],         # fsync after every write
    "empty-and-links": ["-s", "0", "-n", "1:-1:-1"],            # hard links
    "symlinks": ["-s", "0", "-n", "1:-2:-2"],
    "direct": ["-s", "32", "-r", "16", "-n", "0", "-D", "-f"],
}
QUICK = ["small-files"]


def run(place):
    for case in QUICK if place.quick else CASES:
        done = place.run(["bonnie++", "-d", place.fresh(case), "-u", "root", "-q", *CASES[case]],
                         timeout=180)
        place.note(case, done.result(), done.tail())
        place.empty()
