"""An audit's figures as a table, as JSON, and what each of them is."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from common.vicinal.settings import VicinalSettings
from sims.audit.audit import Plan
from sims.audit.goals import Estimate, Goals

# By figure: who sees it, what it is in the table, and what it is in full.
FIGURES: Final[Mapping[str, tuple[str, str, str]]] = {
    "bytes.model": ("everybody", "bytes of a version", "of the model version, float32"),
    "bytes.book": ("everybody", "bytes of its book", "of what else everybody fetches"),
    "bytes.package": ("a device", "bytes of a package", "of the answer to a request; mean"),
    "content.rows": ("a device", "users in its package", "lines of single users in a package"),
    "content.users": ("a device", "the same of all users", "and as a share of all users"),
    "content.single": (
        "a device",
        "items of one row alone",
        "items in a package that one of its rows alone has",
    ),
    "exposure.median": (
        "observer",
        "packages a user is in: median",
        "share of all packages that a user is in; median over users",
    ),
    "exposure.p90": ("observer", "the same, 9th decile", "… 90th percentile"),
    "exposure.most": ("observer", "the same, most", "… of the user who is in most"),
    "linkage.precision": (
        "observer",
        "linked by known ratings: precision",
        "share of the rows claimed to be a person's, by a few known ratings, that are",
    ),
    "linkage.recall": (
        "observer",
        "the same, recall",
        "share of people whose row is rightly claimed",
    ),
    "naming.precision": (
        "observer",
        "named, nothing known: precision",
        "share of the rows claimed to be a user's, by who has which neighbors, that are",
    ),
    "naming.recall": ("observer", "the same, recall", "share of users whose row is so named"),
    "rank.rows": ("observer", "users with a row", "share of users of whom a row is seen"),
    "rank.sums": (
        "observer",
        "rank of packages' sums",
        "rank of the sums over each package's rows, or of a book's cells, as a share of users: "
        "how many rows differencing would give back where sums were sent instead",
    ),
    "spies.met": (
        "spies",
        "victim in the spy's package",
        "share of spies, who copy the known ratings of a victim each, whose package has the "
        "victim's row",
    ),
    "spies.linked": (
        "spies",
        "victim linked in it",
        "share of spies who find the victim's row in it",
    ),
    "accounts.all": ("spies", "accounts", "how many spies there are"),
    "accounts.reached": ("spies", "users they see", "share of all users whose row they see"),
    "accounts.to_10": (
        "spies",
        "accounts to 10 % of users",
        "spies who see rows of 10 % of all users together; null: so many are not enough",
    ),
    "accounts.to_50": ("spies", "accounts to 50 %", "… of 50 %"),
    "accounts.to_90": ("spies", "accounts to 90 %", "… of 90 %"),
    "membership.model.plain": (
        "everybody",
        "member? model, ratings known",
        "area under the curve of the guess who was trained on, from the model and a few ratings",
    ),
    "membership.model.full": (
        "everybody",
        "member? model, whole profile",
        "… from the model and the person's whole profile",
    ),
    "membership.model.table": (
        "everybody",
        "member? item table alone",
        "… from how much of the profile lies in the span of the item table",
    ),
    "membership.book.plain": (
        "everybody",
        "member? list, ratings known",
        "… by the likelihood ratio of a list of items with and without the person, of what is "
        "not in it, too, from a few ratings",
    ),
    "membership.book.full": (
        "everybody",
        "member? list, whole profile",
        "… and the whole profile",
    ),
    "informed.book": (
        "everybody",
        "member? list, all others known",
        "… of who knows what everybody else rated; nobody can tell more of one list",
    ),
    "joined.flips": (
        "everybody",
        "who came? changes of a list",
        "the same of who came between two lists, by which items changed places",
    ),
    "joined.pair": (
        "everybody",
        "who came? two lists",
        "… by the likelihood ratio of the second, less that of the first",
    ),
    "joined.versions": (
        "everybody",
        "who came? eight lists",
        "… of four lists before and four after",
    ),
    "membership.package.plain": (
        "a device",
        "member? package, ratings known",
        "… from a package and a few ratings",
    ),
    "membership.package.full": (
        "a device",
        "member? package, whole profile",
        "… and the whole profile",
    ),
    "membership.package.whitened": (
        "a device",
        "member? package, whitened",
        "… the same, with the covariance of who rates what",
    ),
    "membership.all.plain": (
        "observer",
        "member? all, ratings known",
        "… from all packages, and a book, and a few ratings",
    ),
    "membership.all.full": ("observer", "member? all, whole profile", "… and the whole profile"),
    "membership.all.whitened": (
        "observer",
        "member? all, whitened",
        "… the same, with the covariance of who rates what",
    ),
    "attributes.all": (
        "observer",
        "attributes: members' advantage",
        "of ten items that are guessed from a few known ratings, the share that members rated "
        "less the share that non-members did",
    ),
    "attributes.popularity": (
        "everybody",
        "the same by popularity",
        "the same where the most rated items of members are guessed",
    ),
    "mu": ("everybody", "μ, proven", "μ of Gaussian differential privacy; null: nothing is proven"),
    "mu.model": (
        "everybody",
        "μ of the model, proven",
        "of the item table; null: trained without --train-privacy",
    ),
    "mu.ten": ("everybody", "the same of ten lists", "… after ten lists, each of other ratings"),
    "mu.auc": (
        "everybody",
        "member? list, at most (proven)",
        "the largest area under the curve of any guess from one list: Φ(μ/√2)",
    ),
    "hit_ratio.clean": (
        "–",
        "hit ratio, no attack (rows)",
        "of the attack's targets, of rows under preset vicinal, not attacked",
    ),
    "hit_ratio.attack": ("–", "hit ratio, attack", "of this release under the attack"),
    "hit_ratio.flood": (
        "–",
        "hit ratio in a flooded neighborhood",
        "where all fakes are near copies of the users of one neighborhood, of these users",
    ),
    "hit_ratio.audience": (
        "–",
        "hit ratio in a group's audience",
        "where all fakes copy the mean of 50 like-minded users, of these users",
    ),
    "hit_ratio.spies": (
        "–",
        "hit ratio, spies",
        "where each spy praises a target: perhaps more accounts than are assumed to be fakes",
    ),
    "accuracy.clean": (
        "–",
        "accuracy, no attack (rows)",
        "of rows under preset vicinal, not attacked",
    ),
    "accuracy.attack": ("–", "accuracy, attack", "of this release under the attack"),
    "accuracy.kept": (
        "–",
        "the same ÷ that of rows",
        "accuracy.attack ÷ accuracy.clean",
    ),
    "accuracy.tail": (
        "–",
        "accuracy on items of few ratings",
        "of this release under the attack, of held-out items with fewer than 50 ratings",
    ),
    "accuracy.tail_clean": ("–", "the same (rows)", "… of rows, not attacked"),
    "accuracy.flood": ("–", "accuracy, flood", "of this release under the flood"),
    "accuracy.audience": ("–", "accuracy, group", "… under the attack on an audience"),
}

# What each key of `vicinal audit --json` means; FIGURE is one of FIGURES.
KEYS: Final[Mapping[str, str]] = {
    "dataset": "its name",
    "source": "where its ratings came from",
    "users": "how many there are",
    "model": "name of the model",
    "release": "what is audited: rows",
    "preset": "name of the preset",
    "changed": "options that change the preset, by name; empty: none does",
    "k": "users in a neighborhood, the asking one included",
    "min_support": "m",
    "neighbors_by": "the space in which users are near each other",
    "assumed_fakes": "φ: share of all accounts that may be fakes",
    "attack": "name of the attack",
    "known": "how many ratings of a person the attacker knows",
    "knowledge": "whether they are random ones, or the rarest",
    "noise": "levels that a known rating may be off",
    "splits": "how often everything was done anew",
    "accounts": "of spies, at most",
    "queries": "people who are asked about, at most",
    "seed": "of the first split",
    "figures.FIGURE.mean": "mean over splits; null: there is no such thing, or not in every split",
    "figures.FIGURE.error": "its standard error: the larger of that between splits and of what "
    "the people asked leave",
    "goals.linkage": "the bound on linkage.recall, naming.recall and spies.linked",
    "goals.auc": "… on every membership and joined figure but the model's",
    "goals.exposed": "… on content.users",
    "goals.hr": "… on hit_ratio.attack, .flood and .audience",
    "goals.accuracy": "the least accuracy.kept",
    "missed": "a line for each goal that is missed",
}


@dataclass(frozen=True)
class Audit:
    """What was audited, and what came of it."""

    plan: Plan
    release: str
    preset: str
    changed: Mapping[str, str]
    settings: VicinalSettings
    source: str
    users: int
    goals: Goals
    found: Mapping[str, Estimate]

    @property
    def missed(self) -> list[str]:
        """A line for each goal that is missed."""
        return self.goals.missed(self.found)

    def to_json(self) -> dict[str, Any]:
        """The keys of KEYS."""
        plan, settings = self.plan, self.settings
        return {
            "dataset": plan.experiment.dataset,
            "source": self.source,
            "users": self.users,
            "model": plan.experiment.model,
            "release": self.release,
            "preset": self.preset,
            "changed": dict(self.changed),
            "k": settings.neighbors,
            "min_support": settings.min_support,
            "neighbors_by": settings.neighbors_by,
            "assumed_fakes": settings.assumed_fakes,
            "attack": plan.experiment.attack,
            "known": plan.knowledge.known,
            "knowledge": plan.knowledge.choice,
            "noise": plan.knowledge.noise,
            "splits": plan.splits,
            "accounts": plan.accounts,
            "queries": plan.queries,
            "seed": plan.experiment.seed,
            "figures": {name: asdict(self.found[name]) for name in FIGURES},
            "goals": asdict(self.goals),
            "missed": self.missed,
        }


def table_of(told: Mapping[str, Any]) -> Table:
    """A row a figure, of what to_json() gives; 80 columns wide at most."""
    table = Table(
        title=Text(title_of(told)),
        caption=Text(
            f"{splits_of(told)} A device unseals its own package; an observer "
            "has the open part of all packages; spies are accounts with packages of their own. "
            "member?: area under the curve, 0.5 is chance."
        ),
        caption_justify="left",
    )
    table.add_column("who sees it")
    table.add_column("what")
    table.add_column("", justify="right")
    table.add_column("± error", justify="right")
    for name, (who, what, value, error) in rows_of(told).items():
        table.add_row(who, what, value, error, end_section=_last(name))
    return table


def splits_of(told: Mapping[str, Any]) -> str:
    """What the numbers are of, as a sentence."""
    return "One split." if told["splits"] == 1 else f"Means over {told['splits']} splits."


def title_of(told: Mapping[str, Any]) -> str:
    """What was audited, in a line."""
    return (
        f"{told['dataset']:.40} · {told['model']:.30} · {told['release']}, preset "
        f"{told['preset']}, k = {told['k']} · {told['known']} ratings known "
        f"({told['knowledge']}, noise {told['noise']})"
    )


def rows_of(told: Mapping[str, Any]) -> dict[str, tuple[str, str, str, str]]:
    """By figure: who sees it, what it is, its value and its error, as they are printed."""
    rows = {}
    for name, (who, what, _) in FIGURES.items():
        figure = told["figures"][name]
        rows[name] = who, what, _shown(name, figure["mean"], told), _number(name, figure["error"])
    return rows


def _shown(name: str, mean: float | None, told: Mapping[str, Any]) -> str:
    if mean is not None:
        return _number(name, mean)
    if name.startswith("accounts.to_"):
        return f"> {_number('accounts.all', told['figures']['accounts.all']['mean'])}"
    return "none" if name == "mu" else "–"


def _number(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    if name.startswith("bytes."):
        return f"{value:,.0f}"
    whole = name in ("content.rows", "content.single") or name.startswith("accounts.to_")
    return f"{value:.1f}" if whole else f"{value:.0f}" if name == "accounts.all" else f"{value:.3f}"


def _last(name: str) -> bool:
    """Whether the next figure is of another kind."""
    kinds = [each.partition(".")[0] for each in FIGURES]
    at = list(FIGURES).index(name)
    return at + 1 < len(kinds) and kinds[at] != kinds[at + 1]
