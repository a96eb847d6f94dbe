#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The layer check passes a tree in order, and names each way out of order.
set -euo pipefail
check=$1
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir -p "$tree"/src/{base,io,nas,tree,scrub,status} "$tree"/include/rainfs/{base,tree}

sound() {
  echo '#include <vector>' > "$tree/src/base/a.cpp"
  printf '#include "rainfs/base/a.hpp"\n#include <yaml-cpp/yaml.h>\n#include "local.hpp"\n' > "$tree/src/tree/a.cpp"
  rm -f "$tree"/src/*/bad.* "$tree"/include/rainfs/*/bad.*
}
refused() {  # refused FILE INCLUDE EXPECTED
  printf '  #  include %s\n' "$2" > "$tree/$1"
  if output=$("$check" "$tree" 2>&1); then echo "not found: $2 in $1" >&2; exit 1; fi
  [[ $output == *"$3"* ]] || { echo "$2 in $1: $output" >&2; exit 1; }
  sound
}
sound
"$check" "$tree" > /dev/null
refused src/base/bad.cpp '"rainfs/io/engines.hpp"' "higher layer"
refused include/rainfs/base/bad.hpp '<rainfs/tree/x.hpp>' "higher layer"
refused src/status/bad.hpp '"rainfs/scrub/x.hpp"' "same layer"
refused src/tree/bad.cpp '"../replica/x.hpp"' "relative path"
refused src/tree/bad.cpp '"fuse/session.hpp"' "higher layer"
refused src/tree/bad.cpp '"rainfs/nonsense/x.hpp"' "no module"
mkdir "$tree/src/extra"
if "$check" "$tree" > /dev/null 2>&1; then echo "an unknown module is not found" >&2; exit 1; fi
rmdir "$tree/src/extra"
rm -r "$tree/src" "$tree/include" && mkdir -p "$tree"/src/base "$tree"/include/rainfs/base
if "$check" "$tree" > /dev/null 2>&1; then echo "an empty tree passes" >&2; exit 1; fi
echo "the layer check finds what it must"
