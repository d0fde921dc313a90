#!/bin/bash
# Removes caches and the virtual environment of this folder. Half-made images may hold files of root.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=../lib.sh
. "$here/../lib.sh"

# Only what is ours in the cache: ANEW_CACHE may name a folder that others use too.
for made in debs lab debian metal vagrant bench lock-tools; do
  rm -rf "${cache:?}/$made" 2>/dev/null || as_root rm -rf "${cache:?}/$made"
done
[ ! -d "$cache" ] || rmdir --ignore-fail-on-non-empty "$cache"
cd "$repo"
rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache ./*.egg-info
find . -name __pycache__ -type d -prune -exec rm -rf {} +
