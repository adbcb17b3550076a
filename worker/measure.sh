#!/usr/bin/env bash
# Measures worker beside tini and dumb-init: size, memory, start. Both are Debian packages, installed when they are missing.
# What is measured is what is shipped: see buildspec.yml.
set -euo pipefail
cd "$(dirname "$0")/.."
each=10 rounds=${1:-100}

command -v tini >/dev/null && command -v dumb-init >/dev/null || { apt-get update -qq && apt-get install -y -qq tini dumb-init; } >/dev/null
cargo rustc --locked --quiet --release --package worker --bin worker -- -C target-feature=+crt-static
worker=target/release/worker

names=("the command alone" worker "worker, with options" tini tini-static dumb-init)
run() {
  case $1 in
    "the command alone") shift && "$@" ;;
    worker) shift && $worker -- "$@" ;;
    "worker, with options") shift && $worker --health-port 127.0.0.1:18080 --queue sidekiq --live 1h -- "$@" ;;
    tini | tini-static) local tini=$1 && shift && $tini -s -- "$@" ;;
    dumb-init) shift && dumb-init -- "$@" ;;
  esac
}

# Microseconds for each start of a command that ends at once: the best round counts, and the rounds take turns, so that what else
# the machine does is the same for all.
declare -A best
for ((round = 0; round < rounds; round++)); do
  for name in "${names[@]}"; do
    begun=${EPOCHREALTIME/./}
    for ((n = 0; n < each; n++)); do run "$name" /bin/true; done
    took=$(((${EPOCHREALTIME/./} - begun) / each))
    ((took >= ${best[$name]:-$((took + 1))})) || best[$name]=$took
  done
done

# Resident memory in kB while the command runs: all of it, and what is its own and no file's.
memory() {
  run "$1" sleep 60 2>/dev/null & local shell=$! pid
  # The shell's child; and it has a child of its own when it has started in full.
  until pid=$(cat /proc/$shell/task/$shell/children) && pid=${pid%% *} && [[ $pid && $(cat "/proc/$pid/task/$pid/children" 2>/dev/null) ]]; do :; done
  awk '/^(VmRSS|RssAnon)/ { value[$1] = $2 } END { printf "%d (%d)", value["VmRSS:"], value["RssAnon:"] }' "/proc/$pid/status"
  kill "$pid"
  wait "$shell" 2>/dev/null || true
}

printf '%-22s %10s %23s %10s\n' "" "bytes" "kB resident (its own)" "us/start"
for name in "${names[@]}"; do
  size="" memory=""
  if [[ $name != "the command alone" ]]; then
    program=${name%%,*} size=$(stat -Lc %s "$([[ $program == worker ]] && echo $worker || command -v "$program")") memory=$(memory "$name")
  fi
  printf '%-22s %10s %23s %10s\n' "$name" "$size" "$memory" "${best[$name]}"
done
