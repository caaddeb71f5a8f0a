"""Reasons of the server, in the words of the gateway."""

from typing import Final, Literal

from common.wire import offload_pb2 as wire
from server.gateway.models import NamedItem, NamedUser, ReasonTold, Why
from server.gateway.names import Called

Admission = Literal["raters", "drawn", "rated", "none"]
ADMISSIONS: Final[dict[int, Admission]] = {
    wire.ADMISSION_RATERS: "raters",
    wire.ADMISSION_DRAWN: "drawn",
    wire.ADMISSION_RATED: "rated",
}
FORMS: Final[dict[str, Literal["any", "pairwise"]]] = {"any": "any", "pairwise": "pairwise"}


def why_of(said: wire.Explanation, called: Called, user: int, preset: str) -> Why:
    """The whole answer."""
    return Why(
        version=said.version,
        preset=preset,
        user=NamedUser(index=user, id=called.id_of(user)),
        neighbors=said.neighbors,
        accounts=said.accounts,
        assumed_fakes=said.assumed_fakes,
        required_raters=said.required_raters,
        certificate=FORMS.get(said.form, "none"),
        reasons=[_reason(said, each, called) for each in said.reasons],
    )


def _reason(said: wire.Explanation, reason: wire.Reason, called: Called) -> ReasonTold:
    names = called.items
    item = NamedItem(
        index=reason.item, id=names.id_of(reason.item), title=names.title_of(reason.item)
    )
    price = reason.price if reason.HasField("price") else None
    admission = ADMISSIONS.get(reason.admission, "none")
    genuine = max(0, reason.raters - said.assumed_fakes)
    return ReasonTold(
        item=item,
        admission=admission,
        supporters=reason.supporters,
        raters=reason.raters,
        genuine_raters=genuine,
        price=price,
        text=sentence(said, reason, admission, price),
    )


def sentence(
    said: wire.Explanation, reason: wire.Reason, admission: Admission, price: int | None
) -> str:
    """Why an item may be recommended, or may not, for people."""
    near = f"{reason.supporters} of the {said.neighbors} nearest users rated it"
    if admission == "rated":
        return f"It is not recommended: the user has rated it. {near}."
    if admission == "raters" and not said.required_raters:
        return f"It may be recommended: every item may be. {near}."
    if admission == "raters":
        genuine = max(0, reason.raters - said.assumed_fakes)
        return (
            f"It may be recommended: {reason.raters} of {said.accounts} accounts rated it, "
            f"{genuine} of them genuine even if {said.assumed_fakes} accounts are fakes. {near}."
        )
    cost = "" if price is None else f" To promote it takes {price} fakes at least."
    few = f"{reason.raters} accounts rated it, and it needs {said.required_raters}"
    if admission == "drawn":
        return f"It may be shown though {few}: this user is drawn to be shown new items. {near}."
    return f"It is not recommended: {few}.{cost}"
