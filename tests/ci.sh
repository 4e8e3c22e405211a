#!/bin/bash
# ci.sh STEP...: the steps of `make test`, each of which anyone can run alone; "all" is all of
# them.  Goes on after a failure, so that one run shows everything.  The last line is the sum
# over Criterion and pytest; a step that fails without a failed test in it counts as one.
set -u
cd "$(dirname "$0")/.." || exit 2
: "${MAKE:=make}" "${JOBS:=$(nproc)}"
# Flags of a make above us (-n, -s, its job server) are not for the builds below.
unset MAKEFLAGS MFLAGS MAKELEVEL
mk() { $MAKE --no-print-directory -j"$JOBS" "$@"; }

step_build() { mk WERROR=1 all tests; }			# gcc, warnings are errors
step_static() { mk -k WERROR=1 check-symbols check-style check-man; }
step_unit() { mk WERROR=1 unit; }
step_e2e() { mk WERROR=1 e2e; }
step_clang() { mk CLANG=1 WERROR=1 all tests; }
step_lint() { mk lint; }
step_fuzz() { mk FUZZ_TIME=5 fuzz; }
step_crash() { mk CRASH_TIME=30 MUTANT_TIME=30 FAULT_STRIDE=5 crash; }
step_suites() { mk SUITES_QUICK=1 test-suites; }
step_san() { mk SAN=1 all tests && { mk SAN=1 unit; local r=$?; mk SAN=1 e2e && return $r; }; }
ALL="build static unit e2e clang lint fuzz crash suites san"

results=$(mktemp) || exit 2
export CLUBFS_RESULTS=$results
trap 'rm -f "$results"' EXIT
trap 'exit 130' INT TERM
table=

sum() { awk -v c="$1" '{ n += $c } END { print n + 0 }' "$results"; }

case ${*:-all} in
all) steps=$ALL ;;
*) steps=$* ;;
esac
for s in $steps; do
	declare -F "step_$s" >/dev/null || { echo "ci.sh: no step '$s' (there are: $ALL)" >&2; exit 2; }
done
for s in $steps; do
	echo "== $s"
	before=$(sum 2) began=$SECONDS
	if "step_$s"; then
		verdict=ok
	else
		verdict=FAILED
		[ "$(sum 2)" != "$before" ] || echo "0 1 0" >>"$results"
	fi
	table+=$(printf '  %-8s %5d s  %s' "$s" $((SECONDS - began)) "$verdict")$'\n'
done
echo
printf '%s' "$table"
echo "$(sum 1) passed, $(sum 2) failed, $(sum 3) skipped"
[ "$(sum 2)" = 0 ]
