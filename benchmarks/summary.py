"""The first lines of docs/performance.md, made from the tables further down.

Each line is one function from the page's sections to a sentence; one whose section or column is
not there, as on a short page, is left out.
"""

from collections.abc import Callable, Mapping
from typing import Final

from sims.markdown_tables import MarkdownTable, sections_of, tables_of

Sections = Mapping[str, str]


def summary(text: str) -> str:
    """A list in Markdown, from a page's or its sections' text."""
    sections = sections_of(text)
    lines = []
    for line in LINES:
        try:
            lines.append(f"- {line(sections)}")
        except (LookupError, ValueError):
            continue
    return "\n".join(lines) + "\n"


def _table(sections: Sections, heading: str, place: int = 0) -> MarkdownTable:
    return tables_of(sections[heading])[place]


def _kernel(sections: Sections) -> str:
    table = _table(sections, "The kernel against Algorithm 1 as it is written")
    device, server = table.numbers("device ratio"), table.numbers("server ratio")
    return (
        f"**Fine-tuning.** On a device {min(device):g} to {max(device):g} times as fast as "
        "Algorithm 1 as the paper writes it, on a server "
        f"{min(server):g} to {max(server):g} times. Answers are equal in double precision."
    )


def _on_device(sections: Sections) -> str:
    table = _table(sections, "An answer on the device").where(model="mf")
    times = (f"{table.where(preset=name).one('p50, ms')} ms" for name in ("paper", "vicinal"))
    return (
        "**On a device.** An answer for mf on ratings of ML-1M's shape takes {} with preset paper "
        "and {} with vicinal (median processor time).".format(*times)
    )


def _plain(sections: Sections) -> str:
    table = _table(sections, "With the defense and without").where(shape="Yelp")
    ratios = ", ".join(
        f"{model} {ratio}"
        for model, ratio in zip(table.column("model"), table.column("ratio"), strict=True)
    )
    return (
        f"**Against no defense.** Time of a defended answer, divided by that of a plain one, on "
        f"Yelp's shape with preset paper: {ratios}."
    )


def _growth(sections: Sections) -> str:
    table = _table(sections, "How cost grows")
    largest = {name: max(table.where(swept=name).numbers("slope")) for name in ("U", "I", "k", "T")}
    return (
        "**Growth.** Largest log-log slope over all models and presets (1 is linear): "
        f"{largest['U']:g} in users, {largest['I']:g} in items, {largest['k']:g} in neighbors, "
        f"{largest['T']:g} in steps."
    )


def _everybody(sections: Sections) -> str:
    table = _table(sections, "Every user, and memory").where(model="mf", preset="vicinal")
    found = ", ".join(
        f"{shape} ({users} users) in {seconds} s"
        for shape, users, seconds in zip(
            table.column("shape"), table.column("users"), table.column("seconds"), strict=True
        )
    )
    return f"**Everybody.** One process answers all users of {found}: mf, preset vicinal."


def _search(sections: Sections) -> str:
    table = _table(sections, "Searching neighbors").where(embeddings="clustered")
    users = table.column("users")[-1]
    exact, lists = (table.where(users=users, search=name) for name in ("exact", "IVF"))
    return (
        f"**Neighbor search.** Among {users} users 12 neighbors take {lists.one('k = 12, ms')} ms "
        f"with inverted lists, recall {lists.one('recall')}; exactly {exact.one('k = 12, ms')} ms."
    )


def _search_by_ratings(sections: Sections) -> str:
    table = _table(sections, "Searching neighbors by ratings").where(search="lists and bitmaps")
    users, ratings, time, memory = (
        table.column(name)[0] for name in ("users", "ratings", "k = 80: p50, ms", "memory")
    )
    return (
        f"**Neighbors by ratings.** Among {users} users with {ratings} ratings 80 neighbors take "
        f"{time} ms, exactly, and {memory} of the ratings' own memory."
    )


def _load(sections: Sections) -> str:
    saturation, latency = (_table(sections, "Load", place) for place in (0, 1))
    full, calm = saturation.where(model="mf", load="3×"), saturation.where(model="mf", load="60 %")
    answers = latency.where(model="mf", load="60 %", calls="answers")
    return (
        f"**Under load.** A server answers at most {calm.one('saturation, answers/s')} requests "
        f"of mf a second. At 60 % of that a client waits {answers.one('client: p50, ms')} ms, p99 "
        f"{answers.one('p99')} ms; at three times that {full.one('refused')} are refused and "
        f"{full.one('lost')} are lost."
    )


def _memory(sections: Sections) -> str:
    table = _table(sections, "Every user, and memory", 1).where(shape="Yelp")
    found = ", ".join(
        f"{model} {size} MiB"
        for model, size in zip(table.column("model"), table.column("shared out, MiB"), strict=True)
    )
    return f"**Memory.** A worker on Yelp's shape, with shared pages shared out: {found}."


def _packages(sections: Sections) -> str:
    table = _table(sections, "Packages").where(shape="ML-1M", model="mf")
    sizes = (table.where(preset=name).one("package") for name in ("paper", "vicinal"))
    return (
        "**Bytes.** A package of mf on ML-1M's shape has {} bytes with preset paper and {} with "
        "vicinal.".format(*sizes)
    )


def _versions(sections: Sections) -> str:
    table = _table(sections, "Encodings and deltas of versions")
    small = table.where(model="mf", preset="vicinal", encoding="int8")
    delta = _table(sections, "Encodings and deltas of versions", 1).where(
        model="mf", encoding="int8"
    )
    return (
        f"**Versions.** As int8 a version of mf has {small.one('bytes')} of float32's bytes, and "
        f"lists overlap by {small.one('overlap')}; an update of one takes {delta.one('chosen')} of "
        "the int8 form."
    )


def _reports(sections: Sections) -> str:
    table = _table(sections, "Reports").where(synchronous="FULL")
    alone, together = table.column("reports a second")[0], table.column("reports a second")[-1]
    return (
        f"**Reports.** A server counts {alone} reports a second one after another and {together} "
        f"when {table.column('reports at once')[-1]} come at once, each on the disk before it is "
        "confirmed."
    )


LINES: Final[tuple[Callable[[Sections], str], ...]] = (
    *(_kernel, _on_device, _plain, _growth, _everybody, _search, _search_by_ratings),
    *(_load, _memory, _packages, _versions, _reports),
)
