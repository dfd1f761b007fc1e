"""What `eightfold` understands. Each command calls the job of the same name in jobs/, with its options as they are."""

from __future__ import annotations

import importlib.metadata
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

RECIPES = Path(__file__).parent / "recipes"

cli = typer.Typer(
    help="Better math reasoning from synthetic data: sample, verify, credit steps, train, evaluate.\n\n"
    "Begin with [bold]eightfold run demo[/bold]: two cores, no GPU, minutes.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def shipped(incomplete: str) -> list[str]:
    """Names of the shipped recipes that begin like this, for the shell."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml") if path.stem.startswith(incomplete))


RecipeName = Annotated[
    str, typer.Argument(help="a recipe's file, or the name of a shipped one (demo)", autocompletion=shipped)
]
Run = Annotated[str, typer.Argument(help="the run's folder or URI, such as runs/demo")]
Settings = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="override one key of the recipe")]
Runs = Annotated[str, typer.Option(metavar="DIR", help="folder or URI of all runs")]


def call(job: str, *words: str, **options: Any) -> None:
    """Call a job as `python -m jobs.JOB` would: options by their names, those that are None or False left out."""
    given: list[str] = []
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            given.append(flag)
        elif value is not None and value is not False:
            for one in value if isinstance(value, list) else [value]:
                given.append(f"{flag}={one}")
    raise typer.Exit(import_module(f"jobs.{job}").main([*given, *words]))


def _version(asked: bool) -> None:
    if asked:
        try:
            print(f"eightfold {importlib.metadata.version('eightfold')}")
        except importlib.metadata.PackageNotFoundError:
            print("eightfold, from a checkout that is not installed")
        raise typer.Exit


@cli.callback()
def start(
    version: Annotated[bool, typer.Option("--version", is_eager=True, callback=_version, help="print it")] = False,
) -> None:
    """Options before any command."""


# -- runs -------------------------------------------------------------------------------------------------------------


MODEL = "a folder, a hub name, or world (shipped)"
TRAIN = "JSONL or Parquet: a question and an answer a row"
TEST = "held-out problems of the same form"
Model = Annotated[str, typer.Option(help=MODEL)]
Out = Annotated[str | None, typer.Option(metavar="DIR", help="folder or URI of what comes out; runs/... by default")]


@cli.command(rich_help_panel="Runs")
def init(
    model: Annotated[str, typer.Option(help=MODEL, prompt=f"The model ({MODEL})")],
    train: Annotated[str, typer.Option(metavar="FILE", help=TRAIN, prompt=f"Training problems ({TRAIN})")],
    test: Annotated[str, typer.Option(metavar="FILE", help=TEST, prompt=f"A file of {TEST}")],
    name: Annotated[str, typer.Option(help="of the run")] = "mine",
    out: Annotated[str | None, typer.Option(metavar="FILE", help="recipe to write; NAME.yaml by default")] = None,
    gpus: Annotated[int, typer.Option(metavar="N", help="GPUs to use; 0: CPUs alone")] = 0,
    chat: Annotated[bool, typer.Option("--chat", help="the model is asked through its chat template")] = False,
) -> None:
    """Write a recipe for your own model and problems. What is not given is asked for.

    [dim]eightfold init --model Qwen/Qwen3-0.6B --train train.jsonl --test test.jsonl --chat[/dim]
    """
    call("init", **locals())


@cli.command(rich_help_panel="Runs")
def run(
    recipe: RecipeName,
    set: Settings = [],  # noqa: B006 - typer copies it
    only: Annotated[str | None, typer.Option(metavar="STAGE", help="one stage; its inputs must be there")] = None,
    until: Annotated[str | None, typer.Option(metavar="STAGE", help="one stage and all that it needs")] = None,
    runs: Runs = "runs",
) -> None:
    """Run a recipe, or go on with one that was stopped.

    [dim]eightfold run demo[/dim]

    [dim]eightfold run demo --set sampling.samples=4 --until credit[/dim]
    """
    call("run", recipe, set=set, only=only, until=until, runs=runs)


@cli.command(rich_help_panel="Runs")
def plan(recipe: RecipeName, set: Settings = [], runs: Runs = "runs") -> None:  # noqa: B006
    """What would run, what is reused and why, and how many tokens it may take.

    [dim]eightfold plan gsm8k_smollm --set sampling.samples=16[/dim]
    """
    call("run", recipe, plan=True, set=set, runs=runs)


@cli.command(rich_help_panel="Runs")
def status(
    run: Run,
    recipe: Annotated[str | None, typer.Option(help="its recipe, where the run keeps no copy")] = None,
    set: Settings = [],  # noqa: B006
) -> None:
    """How far a run is, its rate and what it cost, from its files.

    [dim]eightfold status runs/demo[/dim]
    """
    call("status", run, recipe=recipe, set=set)


@cli.command(rich_help_panel="Runs")
def compare(
    first: Run,
    second: Run,
    problems: Annotated[int, typer.Option(metavar="N", help="shown of those won and lost")] = 3,
) -> None:
    """Two runs: settings that differ, accuracies paired by problem, problems won and lost.

    [dim]eightfold compare runs/demo runs/other[/dim]
    """
    call("compare", first, second, problems=problems)


@cli.command(rich_help_panel="Runs")
def view(
    run: Annotated[list[str], typer.Argument(help="folders or URIs of runs, or what credit wrote")],
    port: Annotated[int, typer.Option(metavar="N", help="of this machine; 0: a free one")] = 0,
) -> None:
    """Look through traces, their steps, values, pits and pairs, on a page for this machine alone.

    [dim]eightfold view runs/demo[/dim]
    """
    call("view", *run, port=port)


@cli.command(rich_help_panel="Runs")
def estimate(
    recipe: RecipeName,
    policy: Annotated[str | None, typer.Option(metavar="NAME", help="whose samples; the first by default")] = None,
    problems: Annotated[int, typer.Option(metavar="N", help="problems to try")] = 4,
    set: Settings = [],  # noqa: B006
    runs: Runs = "runs",
) -> None:
    """What sampling would take, from a few problems.

    [dim]eightfold estimate demo --policy base[/dim]
    """
    call("estimate", recipe, policy=policy, problems=problems, set=set, runs=runs)


@cli.command(rich_help_panel="Runs")
def curve(
    recipe: RecipeName,
    sizes: Annotated[str, typer.Option(metavar="N,N", help="training problems, all methods")],
    baseline_sizes: Annotated[str | None, typer.Option(metavar="N,N", help="more sizes for SFT alone")] = None,
    seeds: Annotated[str | None, typer.Option(metavar="S,S", help="seeds; the recipe's own by default")] = None,
    set: Settings = [],  # noqa: B006
    runs: Runs = "runs",
) -> None:
    """How much data each method saves, from runs at several sizes.

    [dim]eightfold curve demo --sizes 250,1000 --baseline-sizes 2000,4000[/dim]
    """
    call("curve", recipe, sizes=sizes, baseline_sizes=baseline_sizes, seeds=seeds, set=set, runs=runs)


@cli.command(rich_help_panel="Runs")
def study(
    study: Annotated[str, typer.Argument(help="a study's file, or the name of a shipped one (world_quick)")],
    plan: Annotated[bool, typer.Option("--plan", help="print what would run and stop")] = False,
    minutes: Annotated[float | None, typer.Option(metavar="N", help="after which no further cell is begun")] = None,
    runs: Runs = "runs",
) -> None:
    """A grid of recipes: what cells share runs once, and finished points are kept in a folder to share.

    [dim]eightfold study world_quick --plan[/dim]
    """
    call("study", study, plan=plan, minutes=minutes, runs=runs)


@cli.command(rich_help_panel="Runs")
def tune(
    recipe: RecipeName,
    minutes: Annotated[float, typer.Option(metavar="N", help="after which nothing more is begun")] = 10,
    out: Annotated[str, typer.Option(metavar="FILE", help="the placement that was found")] = "tuned.yaml",
    policy: Annotated[str | None, typer.Option(metavar="NAME", help="whose samples; the first by default")] = None,
    set: Settings = [],  # noqa: B006
    runs: Runs = "runs",
) -> None:
    """Faster settings of engines and training on this machine, found by trying some.

    [dim]eightfold tune mine.yaml --minutes 10, then: eightfold run mine.yaml --set placement=tuned.yaml[/dim]
    """
    call("tune", recipe, minutes=minutes, out=out, policy=policy, set=set, runs=runs)


@cli.command(rich_help_panel="Runs")
def check(run: Run) -> None:
    """Whether a run's files still hold what was written into them.

    [dim]eightfold check runs/demo[/dim]
    """
    call("check", run)


@cli.command(rich_help_panel="Runs", context_settings={"ignore_unknown_options": True})
def submit(
    command: Annotated[list[str], typer.Argument(help="run RECIPE --runs URI, or another command")],
    address: Annotated[str | None, typer.Option(metavar="URL", help="of the cluster's dashboard")] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="return at once, and do not follow the log")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print what would be called, and stop")] = False,
) -> None:
    """Send a command to a cluster, as ray job submit does; the same again goes on where it was stopped.

    [dim]eightfold submit --address http://127.0.0.1:8265 run gsm8k_deepseek7b --runs s3://BUCKET/runs[/dim]
    """
    call("submit", *command, address=address, no_wait=no_wait, dry_run=dry_run)


# -- each part alone --------------------------------------------------------------------------------------------------


@cli.command(rich_help_panel="Each part alone")
def verify(
    traces: Annotated[Path, typer.Option(help="JSONL or Parquet file, or a folder of Parquet files")],
    out: Annotated[Path, typer.Option(help="file to write, .jsonl or .parquet")],
    reference_column: str = "reference",
    text_column: str = "text",
    question_column: Annotated[str | None, typer.Option(help="problem statements, where there are any")] = None,
    finish_column: Annotated[str | None, typer.Option(help="stop, length or abort: how traces ended")] = None,
    previous_column: Annotated[str | None, typer.Option(help="outcomes of an earlier grading, to compare")] = None,
    verifier: Annotated[
        str, typer.Option(metavar="NAME", help="built-in, math-verify, or module:Class of yours")
    ] = "built-in",
    actors: Annotated[int, typer.Option(help="Ray actors to judge in; 0: this process alone")] = 0,
) -> None:
    """Grade files of traces, or grade them again and print what changed.

    [dim]eightfold verify --traces traces.jsonl --out judged.jsonl[/dim]
    """
    options = {name: value for name, value in locals().items() if value}
    call("verify", **options)


@cli.command(rich_help_panel="Each part alone")
def credit(
    traces: Annotated[str, typer.Option(metavar="FILE", help="JSONL or Parquet: prompt, completion, answer")],
    model: Model,
    out: Out = None,
    prompt_column: str = "prompt",
    completion_column: str = "completion",
    answer_column: Annotated[str | None, typer.Option(help="reference answers")] = None,
    verdict_column: Annotated[str | None, typer.Option(help="outcomes, or true and false")] = None,
    set: Settings = [],  # noqa: B006
) -> None:
    """Step values, first pits and per-step DPO pairs of your own traces.

    [dim]eightfold credit --traces traces.jsonl --model Qwen/Qwen3-0.6B[/dim]

    [dim]eightfold credit --traces traces.jsonl --model ./my-model --set credit.rollouts=16[/dim]
    """
    call("credit", **locals())


@cli.command(rich_help_panel="Each part alone")
def train(
    method: Annotated[str, typer.Argument(help="sft, rft, dpo, step_dpo, kto or another that trains")],
    data: Annotated[
        str, typer.Option("--data", "--pairs", metavar="FILE", help="JSONL, Parquet, or NAME[:SPLIT] on a hub")
    ],
    model: Model,
    out: Out = None,
    set: Settings = [],  # noqa: B006
) -> None:
    """Train on your own rows, with TRL's columns or ours.

    [dim]eightfold train step_dpo --pairs runs/credit-traces/pairs.jsonl --model ./my-model --set beta=0.2[/dim]

    [dim]eightfold train sft --data examples.jsonl --model Qwen/Qwen3-0.6B --set epochs=2[/dim]
    """
    call("train", method, data=data, model=model, out=out, set=set)


@cli.command(rich_help_panel="Each part alone")
def export(
    run: Run,
    things: Annotated[list[str], typer.Argument(help="such as models/rft or data/step_dpo; all by default")] = [],  # noqa: B006
    to: Annotated[str | None, typer.Option(metavar="FOLDER", help="a folder each in here")] = None,
    to_hub: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="a repository on the hub, or several")
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="on the hub for everyone")] = False,
) -> None:
    """Give away models and data sets of a run: each with a card and the manifests behind it.

    [dim]eightfold export runs/demo models/rft --to given[/dim]

    [dim]eightfold export runs/demo models/rft --to-hub OWNER/NAME[/dim]
    """
    call("export", run, *things, to=to, to_hub=to_hub, public=public)
