"""Where a page tells which services were used how often, and nothing else of itself."""

from typing import Final

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import ValidationError

from services.config.domain.schemas import UUID, an_object
from services.config.domain.usage import Batch, Feature
from services.config.routes.access import Config, Tenant, writing
from services.config.routes.openapi import BODY, PREFIX, SERVED, Operation
from services.config.store import usage as store

PATH: Final = f"{PREFIX}/usage"

router = APIRouter(tags=["usage"])

_TAKEN: Final = Operation(
    204,
    {"204": {"description": "It is counted, now or before."}, **BODY},
    {
        "schema": {
            **an_object(
                batch_id=UUID,
                uses={
                    "type": "array",
                    "minItems": 1,
                    "maxItems": len(Feature),
                    "items": {
                        **an_object(
                            feature={"enum": [feature.value for feature in Feature]},
                            uses={"type": "integer", "minimum": 1, "maximum": 1000},
                        ),
                        "additionalProperties": False,
                    },
                },
            ),
            "additionalProperties": False,
        },
        "example": {
            "batch_id": "0193574b-6bd0-7c3a-9a55-00000000000a",
            "uses": [{"feature": "queries", "uses": 3}],
        },
    },
    served=SERVED,
)


@router.post(PATH, operation_id="count_usage", **_TAKEN.arguments())
async def count(request: Request, config: Config, tenant_id: Tenant) -> Response:
    """Count uses on the day on which they come; a batch that comes again counts no more."""
    try:
        batch = Batch.model_validate_json(await request.body())
    except ValidationError as refused:
        raise RequestValidationError(
            refused.errors(include_url=False, include_context=False, include_input=False)
        ) from None
    async with writing(config, tenant_id) as uow:
        await store.add_batch(uow.connection, tenant_id, batch, now=uow.now)
    return Response(status_code=204)
