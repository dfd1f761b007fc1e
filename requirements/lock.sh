#!/bin/sh
# Pin the CPU and GPU stacks: plain names and versions, no addresses. Needs uv (`make setup` brings it); where a CPU build of
# torch lies in a folder, UV_FIND_LINKS names it, for the CPU stack alone: a CPU torch asks for none of CUDA's libraries, and a
# GPU stack locked against it could not import torch.
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
unset UV_FIND_LINKS
pin requirements/gpu.txt --extra gpu --extra lora --extra tensorboard --python-platform x86_64-manylinux_2_28
grep -q '^nvidia-cudnn' requirements/gpu.txt || { echo "requirements/gpu.txt: torch came without CUDA's libraries" >&2; exit 1; }
