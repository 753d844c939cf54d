"""ReviewActor: tier 4. The reviewer's own deadline and failure policy keep it from blocking anything; exits never come here."""

from __future__ import annotations

from typing import Any

from actors.base import DeskSpec, HeliosActor
from helios.config import anthropic_api_key
from helios.domain.decisions import Verdict
from helios.pipeline.ports import ReviewRequest
from helios.review.client import make_reviewer


class ReviewActor(HeliosActor):
    """Approve, shrink or veto plans."""

    name = "review"

    def __init__(self, spec: DeskSpec) -> None:
        super().__init__(spec)
        self.reviewer = make_reviewer(spec.config.review, anthropic_api_key(), live=False)
        self.reviews = 0

    async def review(self, request: ReviewRequest) -> list[Verdict]:
        """Return one verdict per plan, in order."""
        await self.ready()
        verdicts = await self.reviewer.review(request)
        self.reviews += len(verdicts)
        return verdicts

    def details(self) -> dict[str, Any]:
        return {"reviews": self.reviews, "reviewer": self.reviewer.name}
