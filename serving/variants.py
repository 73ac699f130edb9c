"""Which version of a region answers an entity, where a challenger takes part."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING
from uuid import UUID

from mage_platform.contracts import ChallengerMode

if TYPE_CHECKING:
    from serving.models import ServedModel


@dataclass(frozen=True)
class Challenge:
    """A loaded challenger beside a champion.

    Args:
        model: The challenger.
        mode: Whether it answers its entities, or scores them beside the champion's answer.
        share: Of the entities, above 0 and at most 1.
    """

    model: ServedModel
    mode: ChallengerMode
    share: float
    is_canary: bool = field(init=False)
    _key: bytes = field(init=False, repr=False)
    _limit: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        version = self.model.version
        name = f"{version.use_case}/{version.region}/{version.version}".encode()
        object.__setattr__(self, "is_canary", self.mode == "canary")
        object.__setattr__(self, "_key", blake2b(name, digest_size=16).digest())
        object.__setattr__(self, "_limit", round(self.share * 2**64))

    def takes(self, entity_id: UUID) -> bool:
        """Whether an entity is the challenger's: the same in every process and for as long as version and share stand.

        A greater share takes entities from the champion and gives none back. Each version draws its entities anew.
        """
        return int.from_bytes(blake2b(entity_id.bytes, digest_size=8, key=self._key).digest(), "big") < self._limit
