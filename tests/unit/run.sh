#!/bin/bash
# run.sh TEST...: run Criterion binaries, keep their TAP beside them, sum up.
# A binary that crashes, hangs or runs no test at all fails the run.
# With CLUBFS_RESULTS=FILE the line "passed failed skipped" is appended there.
set -u
passed=0 failed=0 skipped=0

count() { grep -cE "$1" "$tap"; }

for t in "$@"; do
	tap=$t.tap
	timeout -k 10 "${UNIT_TIMEOUT:-600}" "$t" --tap="$tap.new" >"$t.log" 2>&1
	rc=$?
	mv -f "$tap.new" "$tap" 2>/dev/null || : >"$tap"
	s=$(count '^ok.*# *SKIP') n=$(count '^not ok') k=$(($(count '^ok') - s))
	why=
	if [ "$rc" -ge 124 ]; then
		why="ended with status $rc"
	elif [ $((k + n + s)) = 0 ]; then
		why="ran no test"
	elif [ "$rc" != 0 ] && [ "$n" = 0 ]; then
		why="exit status $rc, yet no test failed"
	fi
	[ -z "$why" ] || n=$((n + 1))
	passed=$((passed + k)) failed=$((failed + n)) skipped=$((skipped + s))
	printf '  %-32s %4d passed %3d failed %3d skipped  %s\n' "$(basename "$t")" "$k" "$n" "$s" "$why"
	grep -E '^ok.*# *SKIP' "$tap" | sed 's/^/    /'
	if [ "$n" != 0 ]; then
		grep -vE '^(ok|#)|^1\.\.' "$tap"
		tail -n 60 "$t.log"
	fi
done
echo "unit: $passed passed, $failed failed, $skipped skipped"
[ -z "${CLUBFS_RESULTS:-}" ] || echo "$passed $failed $skipped" >>"$CLUBFS_RESULTS"
[ "$failed" = 0 ]
