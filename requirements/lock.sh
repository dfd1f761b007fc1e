#!/bin/sh
# Pin the CPU and GPU stacks: plain names and versions, no addresses. Needs uv on PATH; where a CPU build of torch lies in a
# folder, UV_FIND_LINKS names it.
set -eu
cd "$(dirname "$0")/.."
pin() {
    out=$1; shift
    rm -f "$out"
    uv pip compile pyproject.toml "$@" --python-version 3.11 --no-emit-find-links --no-emit-index-url \
        --no-annotate --no-header -q -o "$out"
    sed -i 's/^\(torch==[0-9.]*\)+cpu$/\1/' "$out"
}
pin requirements/cpu.txt --extra cpu --extra lora --extra tensorboard --extra dev --extra bench --override requirements/overrides.txt
pin requirements/gpu.txt --extra gpu --extra lora --extra tensorboard --python-platform linux
