"""From a table to a proposed `use_case.yaml`: what each column seems to be, and why; the engineer has the last word."""

from mage_platform.proposal.columns import Profile, profiles_of, readable
from mage_platform.proposal.propose import Proposal, propose
from mage_platform.proposal.roles import Roles
from mage_platform.proposal.writing import written

__all__ = ["Profile", "Proposal", "Roles", "profiles_of", "propose", "readable", "written"]
