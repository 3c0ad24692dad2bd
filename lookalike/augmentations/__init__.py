"""One file per domain: how its objects vary without changing. Importing this needs no torch."""

from lookalike.about import TABLE
from lookalike.augmentations.domain import Domain
from lookalike.augmentations.event import EVENT
from lookalike.augmentations.galaxy import GALAXY
from lookalike.augmentations.image import IMAGE
from lookalike.augmentations.jet import JET
from lookalike.augmentations.track import TRACK
from lookalike.errors import InputError, unknown

DOMAINS: dict[str, Domain] = {domain.name: domain for domain in (GALAXY, IMAGE, JET, EVENT, TRACK)}


def get_domain(name: str) -> Domain:
    """The domain of that name, or an InputError with the choices."""
    if name == TABLE:
        raise InputError(
            f"Samples of domain {TABLE!r} are ids and columns of vectors from elsewhere: nothing is stored of their "
            "objects to train on, embed or draw.",
            code="no_objects_stored",
        )
    if name not in DOMAINS:
        raise unknown("domain", name, DOMAINS)
    return DOMAINS[name]
