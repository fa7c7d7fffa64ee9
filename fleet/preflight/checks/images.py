"""One question put to each image that a host is to run."""

from collections.abc import Callable

from fleet.preflight.needs import Needs, Targets
from fleet.preflight.registry import Blind, Result


def of_each(needs: Needs, judge: Callable[[Targets], str | Blind | None]) -> Result:
    """What is wrong with any image outweighs what could not be read of another; both are told.

    None where no image is known yet: the question comes again once it is.
    """
    images = needs.image.targets if needs.image else ()
    told = [(image, answer) for image in images if (answer := judge(image)) is not None]
    words = "; ".join(dict.fromkeys(_named(image, answer, len(images)) for image, answer in told))
    if not words:
        return None
    return Blind(words) if all(isinstance(answer, Blind) for _, answer in told) else words


def _named(image: Targets, answer: str | Blind, images: int) -> str:
    said = answer.what if isinstance(answer, Blind) else answer
    return f"{', '.join(image.services)}: {said}" if image.services and images > 1 else said
