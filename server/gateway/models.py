"""What is asked and answered in JSON; the OpenAPI page is made from it."""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

MOST_NAME: Final = 300

Name = Annotated[str, Field(strict=True, max_length=MOST_NAME)]
User = Annotated[int, Field(strict=True, ge=0, lt=1 << 32)] | Name
Preset = Annotated[
    str | None,
    Field(
        max_length=40,
        description="a preset that `/v1/versions` names; default: vicinal, or the only one",
    ),
]


class _Asked(BaseModel):
    """A request; what is not known is an error."""

    model_config = ConfigDict(extra="forbid")

    user: User = Field(description="an index as a number, or an id as text")
    preset: Preset = None


class RecommendRequest(_Asked):
    """Whose list, and how much of it."""

    items: Annotated[
        int | None,
        Field(strict=True, ge=1, le=10_000, description="items of the list, from the first on"),
    ] = None


class NamedUser(BaseModel):
    """A user; `id` is null where no map of ids names it."""

    index: int
    id: str | None


class NamedItem(BaseModel):
    """An item; without a map of ids its id is its index."""

    index: int
    id: str
    title: str | None


class Recommendations(BaseModel):
    """A user's list, best first."""

    version: str = Field(description="the model version that it is of")
    preset: str
    user: NamedUser
    items: list[NamedItem]


class WhyRequest(_Asked):
    """Whose list, and which items; none of them has to be in it."""

    items: Annotated[
        list[Annotated[int, Field(strict=True, ge=0, lt=1 << 32)] | Name],
        Field(min_length=1, max_length=100, description="indices as numbers, or ids as text"),
    ]


class ReasonTold(BaseModel):
    """Why an item may be recommended to the user, or may not."""

    item: NamedItem
    admission: Literal["raters", "drawn", "rated", "none"] = Field(
        description="raters: enough accounts rated it; drawn: too few, but this user is among "
        "those to whom such items are shown; rated: the user rated it; none: too few"
    )
    supporters: int = Field(description="neighbors who rated it")
    raters: int = Field(description="accounts that rated it")
    genuine_raters: int = Field(
        description="how many of the raters are genuine at least, if no more accounts are fakes "
        "than are assumed"
    )
    price: int | None = Field(
        description="fakes below which nothing they rate promotes it to this user, if the ratings "
        "that are served are genuine; 0: it needs none; null: no number does it, or nothing is "
        "proved"
    )
    text: str = Field(description="the same in a sentence")


class Why(BaseModel):
    """Reasons, as the items were asked for."""

    version: str
    preset: str
    user: NamedUser
    neighbors: int = Field(description="others whose ratings the list is tuned on")
    accounts: int
    assumed_fakes: int = Field(description="how many accounts may be fakes")
    required_raters: int = Field(description="raters that an item needs")
    certificate: Literal["any", "pairwise", "none"] = Field(
        description="what is proved: docs/theory.md (Certificate)"
    )
    reasons: list[ReasonTold]


class Health(BaseModel):
    """Both the gateway and the server behind it answer."""

    status: str = Field(examples=["serving"])
    version: str = Field(description="the model version that new requests get")


class PresetTold(BaseModel):
    """A way to fine-tune (docs/glossary.md says what each number is)."""

    name: str
    neighbors: int
    neighbors_by: str
    min_support: int
    unrated_weight: float
    steps: int
    assumed_fakes: float


class VersionSeen(BaseModel):
    """A model version that the gateway has seen the server serve."""

    version: str
    since: float = Field(description="when the gateway saw it first, in seconds since 1970")


class Versions(BaseModel):
    """What is served now, and what was before."""

    gateway: str = Field(description="version of this software")
    version: str
    publication: int = Field(description="larger than that of every version before")
    model: str
    users: int
    items: int
    list_length: int
    experiment: str = Field(
        description="what is not served as it is; empty: a server, no experiment"
    )
    presets: list[PresetTold]
    seen: list[VersionSeen]


class Refusal(BaseModel):
    """Every error: one line of JSON."""

    status: int = Field(description="the HTTP status")
    code: str = Field(description="a word for programs", examples=["PERMISSION_DENIED"])
    error: str = Field(description="a line for people")
    retry_after_ms: int | None = Field(
        default=None, description="only where it may be tried again: after so many milliseconds"
    )
