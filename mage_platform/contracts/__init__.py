"""The contracts: one frozen pydantic class for each moment of the path of the data.

Producer and consumer import the same classes from here; nobody declares them again.
"""

from mage_platform.contracts.batch import (
    BatchHead,
    PredictBatchRequest,
    PredictBatchResponse,
    PredictColumnsResponse,
    PredictRow,
)
from mage_platform.contracts.evaluation import Evaluation, PromotionDecision
from mage_platform.contracts.features import FeatureColumn, FeatureVector, InputSchema, entity_id_of
from mage_platform.contracts.metrics import BinaryMetrics, MulticlassMetrics, RegressionMetrics, TargetKind
from mage_platform.contracts.models import (
    AliasMove,
    Challenger,
    ChallengerChange,
    ChallengerMode,
    Champion,
    Deployment,
    ModelReference,
    ModelVersion,
    NewVersion,
)
from mage_platform.contracts.prediction import (
    Contribution,
    ExplainedBy,
    ExplainResponse,
    PredictRequest,
    PredictResponse,
    VectorUsed,
)
from mage_platform.contracts.strict import POOLED
from mage_platform.contracts.training import (
    BatchOutcome,
    Candidate,
    FailedCandidate,
    GoodCandidate,
    LeaderboardRow,
    Lineage,
    RegionBatch,
    RegionPlan,
    TrainingWindow,
)
from mage_platform.contracts.use_case import UseCase
from mage_platform.contracts.validation import BrokenExpectation, QuarantinedRow, ValidationReport

__all__ = [
    "POOLED",
    "AliasMove",
    "BatchHead",
    "BatchOutcome",
    "BinaryMetrics",
    "BrokenExpectation",
    "Candidate",
    "Challenger",
    "ChallengerChange",
    "ChallengerMode",
    "Champion",
    "Contribution",
    "Deployment",
    "Evaluation",
    "ExplainResponse",
    "ExplainedBy",
    "FailedCandidate",
    "FeatureColumn",
    "FeatureVector",
    "GoodCandidate",
    "InputSchema",
    "LeaderboardRow",
    "Lineage",
    "ModelReference",
    "ModelVersion",
    "MulticlassMetrics",
    "NewVersion",
    "PredictBatchRequest",
    "PredictBatchResponse",
    "PredictColumnsResponse",
    "PredictRequest",
    "PredictResponse",
    "PredictRow",
    "PromotionDecision",
    "QuarantinedRow",
    "RegionBatch",
    "RegionPlan",
    "RegressionMetrics",
    "TargetKind",
    "TrainingWindow",
    "UseCase",
    "ValidationReport",
    "VectorUsed",
    "entity_id_of",
]
