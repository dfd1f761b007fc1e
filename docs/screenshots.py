"""Pictures of a run's report and viewer: `python docs/screenshots.py runs/demo [--out docs]`. Needs Chromium.

report.png, plots.png and trace.png, of a trace with a first pit; with --narrow as a telephone shows them.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from queue import Queue
from urllib.parse import quote

from app.errors import UserError, one_clear_error
from app.view.runs import RunView
from app.view.server import serve
from app.view.traces import Asked

SIZES = {False: (1400, 1000), True: (500, 1400)}  # Chromium's windows are no narrower


def pages(root: str) -> dict[str, str]:
    """What follows the viewer's address, by picture: of the first policy with step values, or the first at all."""
    view = RunView(root)
    name = next((name for name, one in view.samples.items() if one.credit), next(iter(view.samples)))
    found = view.samples[name].listed(Asked(pit=True))["rows"] or view.samples[name].listed(Asked())["rows"]
    place = f"{quote(view.name)}/{quote(name)}"
    return {"trace": f"#{place}/{found[0]['shard']}/{found[0]['row']}", "plots": f"#plots/{place}"}


def picture(address: str, file: Path, size: tuple[int, int]) -> None:
    """Raises UserError where the browser made none."""
    with tempfile.TemporaryDirectory() as profile:
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += [f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}", "--virtual-time-budget=8000"]
        done = subprocess.run([*command, f"--screenshot={file.absolute()}", address], capture_output=True, text=True)
    if done.returncode or not file.is_file():
        raise UserError(f"{file}: Chromium made no picture: {done.stderr.strip().splitlines()[-1:]}")


def viewer(root: str) -> str:
    """The address of the run's viewer, which a thread of this process serves."""
    said: Queue[str] = Queue()
    threading.Thread(target=serve, args=([root], 0, said.put), daemon=True).start()
    return said.get(timeout=60)


@one_clear_error
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", help="folder of a finished run, such as runs/demo")
    parser.add_argument("--out", type=Path, default=Path("docs"), metavar="DIR", help="where to (docs)")
    parser.add_argument("--narrow", action="store_true", help="as a telephone shows them")
    args = parser.parse_args(argv)
    if not shutil.which("chromium"):
        raise UserError("chromium is not installed")
    wanted, address = pages(args.run), viewer(args.run)
    args.out.mkdir(parents=True, exist_ok=True)
    for name, place in wanted.items():
        picture(address + place, args.out / f"{name}.png", SIZES[args.narrow])
    report = Path(args.run, "report", "index.html")
    if report.is_file():
        picture(f"file://{report.absolute()}", args.out / "report.png", SIZES[args.narrow])
    return 0


if __name__ == "__main__":
    sys.exit(main())
