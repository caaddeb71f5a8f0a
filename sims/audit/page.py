"""Print docs/privacy.md: `python -m sims.audit.page FILE… > docs/privacy.md`.

The files are those of `vicinal audit --json`; the page says by which commands.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from common.errors import InputError
from common.files import read_file
from sims.audit.report import FIGURES, KEYS, rows_of, splits_of

# Of a file with an audit's figures, a few kilobytes.
MOST_BYTES: Final = 1 << 20

INTRODUCTION: Final = """\
# Privacy

What a server and its devices give away of the users, as `vicinal audit` measures it: models are
trained with fakes among the users, packages are made by a server's worker, and what was sent is
attacked as it was decoded. Words and symbols are explained in the [glossary](glossary.md), every
key in the [reference](reference.md). What follows from it for an operator is in
[SECURITY.md](../SECURITY.md).

Who sees what:

- **A device** unseals the package of its own user, and nothing else.
- **An observer** has the open part of everybody's packages; what is sealed stays closed. That is
  whoever operates a server that does not hold the ratings, or asks one that wants no tokens
  (`--open`), or has a token for all users.
- **Spies** are accounts that anybody can make, each of which unseals its own package. Each copies
  the known ratings of a victim, and rates one target of the attack at the maximum.
- **Everybody** has the model version.

What is measured:

- *Linked*: the attacker knows {known} ratings of a person, and claims a row as that person's
  (Narayanan and Shmatikov 2008). *Named*: nothing is known; whoever has all packages computes whose
  neighbors the rows would be.
- *Member?* is the area under the curve of the guess whether a person was among those of whom the
  artifact was made; 0.5 is chance. Half of the users are in it, a quarter are not, and a quarter
  are shadows, of whom the attacker knows everything and trains a model of its own. *Whitened* uses
  the covariance of who rates what.
- *Attributes*: of ten further items that are guessed from the known ratings, the share that members
  rated, less that of non-members: what was learned of the person, and not of taste.
- *Rank of packages' sums*: how many rows adding and subtracting would give back, as a share of
  users, if a release sent sums over each package's rows instead of rows.
- Of a list of items (release `book`) the guess is the likelihood ratio of the whole list, of what
  is not in it, too, with the person and without: no test of the same knowledge is stronger. *All
  others known* is the attacker of the definition of differential privacy, who lacks this one person
  alone.
- *Who came?* Somebody joins between two lists, with 2 % of others; the guess is who, of that person
  and one who did not.
- *Flood*: all fakes are near copies of the 24 users of one neighborhood; *audience*: they copy the
  mean of 50 like-minded users. The hit ratio is that of these users.
- *μ* is that of Gaussian differential privacy, and **proven**: of one list, whatever is known
  beforehand, that an account rated what it did, or nothing. How many accounts there are is public.
  n lists of changing ratings have μ √n. Rows have none, and the model has none unless it is trained
  with `--train-privacy`. All else on this page is **measured**: another attack may do better.

Errors are the larger of that between splits and of what the people who were asked leave.

Goals are options (`--max-linkage 0.01` and so on), and a command ends with exit code 1 when one is
missed. Rows miss most of them: they show what people rated, and are not meant to hide it from an
observer. Budgets of a server (`--daily-neighbors`, `--daily-exposure`) are not in force here; they
limit how fast packages are collected.

This page is printed by `python -m sims.audit.page FILE… > docs/privacy.md`, from the files that
these commands wrote:

```sh
{commands}
```
"""


def page_of(audits: list[dict[str, Any]]) -> str:
    """The page, of some files' contents."""
    commands = "\n".join(command_of(told) for told in audits)
    known = " or ".join(sorted({str(told["known"]) for told in audits}))
    parts = [INTRODUCTION.format(known=known, commands=commands)]
    return "\n".join(parts + [_section(told) for told in audits])


def command_of(told: dict[str, Any]) -> str:
    """The command that wrote a file, with the options that are not the defaults."""
    words = [f"vicinal audit --dataset {told['dataset']} --model {told['model']}"]
    words.append(f"--release {told['release']} --preset {told['preset']}")
    words += [f"{option} {value}".strip() for option, value in told["changed"].items()]
    words += [f"--{name} {told[name]}" for name in ("known", "knowledge", "noise")]
    words += [f"--{name} {told[name]}" for name in ("splits", "accounts", "queries", "seed")]
    return " ".join([*words, "--json FILE"])


def _section(told: dict[str, Any]) -> str:
    changed = "".join(f" {option} {value}".rstrip() for option, value in told["changed"].items())
    lines = [
        f"## {told['dataset']}, {told['model']}, {told['release']}, preset "
        f"{told['preset']}{changed}, {told['knowledge']} knowledge, noise {told['noise']}\n",
        f"{told['users']:,} users, k = {told['k']}, neighbors by {told['neighbors_by']}, attack "
        f"{told['attack']}. {splits_of(told)}\n",
        "| who sees it | what | | ± error |",
        "|---|---|---:|---:|",
    ]
    lines += [f"| {' | '.join(row)} |" for row in rows_of(told).values()]
    goals = ["No goal is missed."]
    if told["missed"]:
        missed = [f"- {line.removeprefix('missed ')}" for line in told["missed"]]
        goals = ["Missed goals:", "", *missed]
    return "\n".join([*lines, "", *goals, ""])


def read(path: Path) -> dict[str, Any]:
    """What `vicinal audit --json` wrote. Raises InputError."""
    try:
        told: Any = json.loads(read_file(path, most=MOST_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: no file of `vicinal audit --json`: {error}") from error
    names = {key.split(".")[0] for key in KEYS}
    if isinstance(told, dict) and told.keys() - {"run"} == names:
        figures = told["figures"]
        if isinstance(figures, dict) and figures.keys() == FIGURES.keys():
            return told
    raise InputError(f"{path}: no file of `vicinal audit --json`")


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    files: Annotated[list[Path], typer.Argument(help="what `vicinal audit --json` wrote")],
) -> None:
    """Print the page of some audits."""
    try:
        page = page_of([read(path) for path in files])
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        raise typer.Exit(error.exit_code) from error
    sys.stdout.write(page)


if __name__ == "__main__":
    app()
