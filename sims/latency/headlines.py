"""The first lines of docs/latency.md, made from the tables further down.

A line for each setting that was measured, and what is the same for all.
"""

from collections.abc import Iterator
from typing import Final

from sims.markdown_tables import MarkdownTable, sections_of, tables_of

LATENCY: Final = ": latency, ms"


def headlines(text: str) -> str:
    """A list in Markdown, from the text of all settings' sections, as `page_of` writes them."""
    blocks = [
        "\n  - ".join(_of_setting(heading, section))
        for heading, section in sections_of(text).items()
        if f"**{heading}{LATENCY}**" in section
    ]
    return "\n".join(f"- {block}" for block in blocks)


def _of_setting(heading: str, section: str) -> Iterator[str]:
    tables = {title: table for title, table in _titled(section) if title.startswith(heading)}
    measured, cost = tables[f"{heading}{LATENCY}"], tables[f"{heading}: cost of an answer"]
    near = measured.where(network="loopback")
    server, device = near.where(side="server"), near.where(side="device", core="1")
    if not (server.rows and device.rows):
        yield f"**{heading}.**"
    else:
        yield (
            f"**{heading}.** At {server.column('req/s')[0]} requests a second and without a "
            f"network, an answer takes {server.column('p50')[0]} ms on the server and "
            f"{device.column('p50')[0]} ms on a device with a whole core (p50)."
        )
    books = tables.get(f"{heading}: answers from a book, ms")
    if books is not None and (book := books.where(core="1").column("p50")):
        yield f"From a book a device answers in {book[0]} ms (p50), and asks nobody."
    spent, most, down = "server CPU s/1000", "req/s reached", "bytes down"
    own, offloaded = cost.where(side="server"), cost.where(side="device")
    yield (
        f"1000 answers cost the server {own.one(spent)} s of processor time, 1000 packages "
        f"{offloaded.one(spent)} s. It reaches {own.one(most)} answers or {offloaded.one(most)} "
        f"packages a second. A package has {offloaded.one(down)} bytes."
    )
    even = tables.get(f"{heading}: break-even, by model")
    if even is not None:
        found = ", ".join(f"{row[0]} {row[2]}" for row in even.where(core="1").rows)
        yield (
            f"Requests a second above which a device with a whole core is no slower (p50), by the "
            f"formulas: {found}."
        )
    cold = tables.get(f"{heading}: first answer without the model")
    if cold is not None:
        pairs = zip(cold.column("network"), cold.column("median, ms"), strict=True)
        found = ", ".join(f"{network} {median} ms" for network, median in pairs)
        yield f"First answer of a device that has to fetch the model: {found}."


def _titled(section: str) -> Iterator[tuple[str, MarkdownTable]]:
    """Tables with the paragraph in bold that stands before each."""
    for part in section.split("\n**")[1:]:
        title, _, rest = part.partition("**")
        if tables := tables_of(rest):
            yield title, tables[0]
