"""The contracts: one frozen pydantic class for each moment of the path of the data.

Producer and consumer import the same classes from here; nobody declares them again.
"""

from mage_platform.contracts.features import FeatureColumn, FeatureVector, InputSchema, entity_id_of
from mage_platform.contracts.models import AliasMove, Champion, ModelReference, ModelVersion, NewVersion
from mage_platform.contracts.prediction import PredictRequest, PredictResponse
from mage_platform.contracts.training import (
    BinaryMetrics,
    Candidate,
    FailedCandidate,
    GoodCandidate,
    LeaderboardRow,
    PromotionDecision,
    RegionPlan,
    TrainingWindow,
)
from mage_platform.contracts.use_case import UseCase
from mage_platform.contracts.validation import BrokenExpectation, QuarantinedRow, ValidationReport

__all__ = [
    "AliasMove",
    "BinaryMetrics",
    "BrokenExpectation",
    "Candidate",
    "Champion",
    "FailedCandidate",
    "FeatureColumn",
    "FeatureVector",
    "GoodCandidate",
    "InputSchema",
    "LeaderboardRow",
    "ModelReference",
    "ModelVersion",
    "NewVersion",
    "PredictRequest",
    "PredictResponse",
    "PromotionDecision",
    "QuarantinedRow",
    "RegionPlan",
    "TrainingWindow",
    "UseCase",
    "ValidationReport",
    "entity_id_of",
]
