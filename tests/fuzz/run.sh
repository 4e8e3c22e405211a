#!/bin/bash
# run.sh SECONDS PROGRAM...: run each fuzzer so long, beginning with its committed corpus.  What it
# finds stays beside the program in DIR/found-<target>; a fault is kept there and fails the run.
# What our own code says on stderr is not looked at (2); libFuzzer and the sanitizers still speak.
set -u
seconds=$1
shift
bad=0
for prog; do
	target=${prog##*/fuzz-}
	found=${prog%/*}/found-$target
	mkdir -p "$found"
	if "$prog" -max_total_time="$seconds" -max_len=8192 -close_fd_mask=2 -artifact_prefix="$found/fault-" \
		"$found" "tests/fuzz/corpus/$target" >"$prog.log" 2>&1; then
		echo "fuzz $target: $(grep -o 'Done.*' "$prog.log")"
	else
		tail -n 30 "$prog.log"
		echo "fuzz $target: FAULT, kept in $found" >&2
		bad=1
	fi
done
exit $bad
