"""A text that is read by small blocks says what it says when it is read at once."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InputError
from common.memory import available_memory
from server.data import fields, limits
from server.data.formats import parse
from server.data.reading_options import ReadingOptions
from server.data.rows import IndexedRatings


def read(text: str, block: int) -> IndexedRatings | str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fields, "BLOCK", block)
        try:
            return parse(text.encode(), "file.csv", ".csv", ReadingOptions()).indexed()
        except InputError as error:
            return str(error)


LINE = st.one_of(
    st.builds(
        "{},{},{},{}".format,
        st.sampled_from(("1", "2", "07", "7", "a", " b", '"c"', "")),
        st.integers(0, 30),
        st.sampled_from(("1", "2.5", "5", "3,5", "x", "")),
        st.sampled_from(("978300760", "2018-07-07", "978300760.5", "")),
    ),
    st.builds("{},{},{},{}".format, st.integers(0, 9), st.integers(0, 30), st.integers(1, 5),
              st.integers(10**9, 10**9 + 9)),
    st.sampled_from(("", ",,,", "  ")),
)  # fmt: skip


@given(st.lists(LINE, min_size=1, max_size=30), st.integers(1, 60), st.sampled_from(("\n", "\r\n")))
def test_blocks_are_the_whole(lines: list[str], block: int, end: str) -> None:
    text = end.join(["user,item,rating,timestamp", *lines]) + end
    one, other = read(text, block), read(text, 1 << 30)
    if isinstance(one, str) or isinstance(other, str):
        assert one == other
        return
    assert one.ratings.digest() == other.ratings.digest()
    assert (one.ratings.user_ids, one.ratings.item_ids) == (
        other.ratings.user_ids,
        other.ratings.item_ids,
    )
    assert one.notes == other.notes and one.doubts == other.doubts
    assert one.timestamps is not None and other.timestamps is not None
    assert np.array_equal(one.timestamps, other.timestamps)


def test_a_bad_line_of_a_late_block_is_named() -> None:
    lines = [f"{user},{item},3,978300760" for user in range(20) for item in range(20)]
    lines[390] = "19,10,six,978300760"
    found = read("\n".join(lines), 64)
    assert isinstance(found, str) and found.startswith("file.csv line 391: rating 'six'")


def test_more_ratings_than_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "available_memory", lambda: 0)
    monkeypatch.setattr(limits, "LEAST_FREE", 3 * limits.BYTES_A_RATING)
    found = read("1,1,3\n1,2,3\n2,1,3\n2,2,4\n", 1 << 20)
    assert isinstance(found, str) and "more memory than is free" in found


def test_a_container_s_limit_counts(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 2000 kB\nMemAvailable:    1000 kB\n")
    assert available_memory(meminfo, tmp_path) == 1000 << 10
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("300000\n")
    assert available_memory(meminfo, tmp_path) == 1000 << 10
    (tmp_path / "memory.max").write_text("500000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 50000\n")
    assert available_memory(meminfo, tmp_path) == 250_000
