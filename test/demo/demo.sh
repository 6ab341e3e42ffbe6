#!/usr/bin/env bash
# A real mesh goes from Istio 1.30.2 to 1.31.0 before your eyes.
# With a terminal each step is asked about; without one nothing is.
set -euo pipefail
plugin=$1
cd "$(dirname "$0")/../lab"
dir=${LAB_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/kubectl-istio-upgrade/demo}
lab=$(mktemp -d)/lab
trap 'rm -rf "$(dirname "$lab")"' EXIT
go build -o "$lab" ./cmd/lab

yes=()
[ -t 0 ] && [ -t 1 ] || yes=(--yes)

say() { printf '\n\033[1m# %s\033[0m\n' "$*"; }
show() { printf '\033[1m$ %s\033[0m\n' "$*"; }
upgrade() {
  show kubectl istio-upgrade "$@"
  # No registry on the Internet is asked for the images, which nothing runs here.
  HTTPS_PROXY=http://127.0.0.1:1 "$plugin" "$@"
}

say "A cluster, Istio 1.30.2, and a small shop in three namespaces"
"$lab" down --dir "$dir" >/dev/null
"$lab" up --dir "$dir" --istio 1.30.2 --pod-start 2s >/dev/null
eval "$("$lab" env --dir "$dir")"
"$lab" demo-shop --dir "$dir"

say "What runs now"
upgrade status

say "Is it safe, and what would it disturb?"
upgrade check --tag 1.31.0 --charts "$LAB_CHARTS_PACKAGED" || true

say "What the upgrade would do"
upgrade all --tag 1.31.0 -A --charts "$LAB_CHARTS_PACKAGED" --dry-run

say "The upgrade"
upgrade all --tag 1.31.0 -A --charts "$LAB_CHARTS_PACKAGED" --canary 1 ${yes[@]+"${yes[@]}"}

say "What is left, and why"
upgrade status -o wide

say "The cluster is still there: export KUBECONFIG=$KUBECONFIG"
echo "  make demo-down removes it"
