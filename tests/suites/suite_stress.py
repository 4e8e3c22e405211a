"""stress-ng: its class of filesystem stressors, one after the other, checking what they do."""
import re

NAME = "stress-ng"
NEEDS = ["stress-ng"]
ROOT = True

# Not run: what does not touch the directory that is tested, or more of the machine than that.
LEFT_OUT = {
    "bind-mount": "mounts the root directory, works in no directory of its own",
    "binderfs": "mounts a filesystem of its own",
    "dup": "duplicates descriptors of /dev/zero",
    "eventfd": "no files",
    "fanotify": "watches every mount of the machine",
    "procfs": "reads /proc",
}
# What its exit status means where it is neither success nor failure.
SKIPPED = {3: "skipped-no-resource", 4: "skipped-not-implemented"}


def stressors(place):
    done = place.run(["stress-ng", "--class", "filesystem?"])
    return re.search(r"stressors: (.*)", done.output)[1].split()


def run(place):
    for name in stressors(place):
        if name in LEFT_OUT:
            place.note(name, "left-out", LEFT_OUT[name])
            continue
        done = place.run(["stress-ng", f"--{name}", "2", "--timeout", "1", "--verify",
                          "--temp-path", place.fresh(name)], timeout=60)
        place.note(name, SKIPPED.get(done.status, done.result()), done.tail(20))
        place.empty()
