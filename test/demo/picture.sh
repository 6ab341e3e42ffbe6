#!/usr/bin/env bash
# docs/terminal.svg: what a terminal shows of a real upgrade of the small shop, from
# Istio 1.30.2 to 1.31.0. The last moment that matches UNTIL is taken.
set -euo pipefail
plugin=$1
until=${UNTIL-'█+░+ +[4-6]/[0-9]+'}
top=$(cd "$(dirname "$0")/../.." && pwd)
dir=${LAB_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/kubectl-istio-upgrade/picture}
tmp=$(mktemp -d)
lab=$tmp/lab
go -C "$top/test/lab" build -o "$lab" ./cmd/lab
go -C "$top/tools/picture" build -o "$tmp/picture" .
trap '"$lab" down --dir "$dir" >/dev/null; rm -rf "$tmp"' EXIT

"$lab" down --dir "$dir" >/dev/null
"$lab" up --dir "$dir" --istio 1.30.2 --pod-start 2s >/dev/null
eval "$("$lab" env --dir "$dir")"
"$lab" demo-shop --dir "$dir" >/dev/null
for step in crds control-plane; do
  "$plugin" "$step" --tag 1.31.0 --charts "$LAB_CHARTS_PACKAGED" --yes >/dev/null
done

cat > "$tmp/show" <<SHOW
printf '\033[32m$\033[0m kubectl istio-upgrade sidecars -n shop\n'
exec "$plugin" sidecars -n shop --yes
SHOW
"$tmp/picture" -columns "${COLUMNS_SHOWN:-110}" -rows 60 -title "kubectl istio-upgrade" ${until:+-until "$until"} \
  -- bash "$tmp/show" > "$tmp/terminal.svg"
mv "$tmp/terminal.svg" "$top/docs/terminal.svg"
