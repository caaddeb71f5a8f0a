"""A grid's results as one Markdown page: tables.md, and what docs/results/ holds."""

from collections.abc import Sequence

from sims.evaluation.asked import asked_users
from sims.grid.config import GridConfig
from sims.grid.overview import overview
from sims.grid.results import CellResult, GridRun
from sims.grid.summary import claims, markdown
from sims.grid.table import failures, pages, warnings

LEGEND = """\
A number is the mean over seeds ± their standard deviation. The paper's figure is in brackets, and
ours is bold where it is better. † marks a defended cell that misses a goal: a hit ratio of at most
the clean model's + 0.05, and an accuracy of at least the undefended model's. *not attacked* is the
model without a defense on clean ratings, *none* the same on attacked ratings. *popularity ranking*
ranks items by their number of attacked ratings. It and userknn, itemknn and ease are baselines,
trained on the attacked ratings. *HR* is the hit ratio and *worst HR* the largest under any attack,
*≤ clean + 0.05* the share of attacks and seeds in which it exceeds the clean model's by no more,
among the users whom an attack aims at where it aims at some; *tail* is the accuracy on items with
fewer than 50 ratings. The tables over all attacks have means over the attacks. An interval is a
bootstrap's over users, 95 % wide, of one seed.
"""


def page_of(
    config: GridConfig, results: Sequence[CellResult], *, command: str, runs: Sequence[GridRun]
) -> str:
    """Title, command and duration, tables, what holds, what failed."""
    seconds, processes = sum(run.seconds for run in runs), sorted({run.processes for run in runs})
    asked = asked_users(config.users)
    users = "all users" if asked is None else f"a sample of {asked} users"
    if isinstance(asked, tuple):
        users = f"{len(asked)} users who are named"
    lines = [
        f"# {config.title or 'Grid'}",
        "",
        f"`{command}`: {len(results)} cells, {users}, seeds {', '.join(map(str, config.seeds))}, "
        f"{seconds / 60:.0f} min in {len(runs)} run{'s' * (len(runs) != 1)}, "
        f"{' or '.join(map(str, processes))} cells at a time.",
        "",
        *(
            f"Targets on {name}: {', '.join(map(str, of))}.\n"
            for name, of in config.targets.items()
        ),
        LEGEND,
        overview(results),
        *(page.markdown() for page in pages(config, results)),
        markdown(claims(results)),
    ]
    if doubtful := warnings(results):
        lines += ["### Warnings", "", *(f"- {line}" for line in doubtful), ""]
    if failed := failures(results):
        lines += ["### Failed", "", *(f"- {line}" for line in failed), ""]
    return "\n".join(lines)
