#!/bin/bash
# make.sh: make the two stores of the format in use; once per released format.  See test_stores.c.
set -eu
cd "$(dirname "$0")/../.."
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
STORES_MAKE=$dir build/test_stores --filter 'stores/are_made_on_request'
for s in v1-clean v1-open; do
	tar -C "$dir" -S --numeric-owner --owner=0 --group=0 --sort=name -czf "tests/stores/$s.tar.gz" "$s"
done
ls -l tests/stores
