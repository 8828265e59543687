"""What a query may be: a statement or a path, its parameters, and what it works with."""

from typing import Annotated, Final, Self
from uuid import UUID

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from services.config.domain.datasources import DatasourceKind
from services.config.domain.definitions import Definition, Text
from services.config.domain.parameters import Parameter, complete, parameters_in

_MOST_PARAMETERS: Final = 100
Space = Annotated[str, StringConstraints(pattern=r"^[~A-Za-z0-9][A-Za-z0-9_.:-]{0,254}$")]


class Query(Definition):
    """A query as a customer writes it.

    ``text`` is a statement for a datasource of kind ``sql``, a path for one of kind
    ``rest``. Parameters that the text has as ``:name`` and nobody declares are
    texts without a default. Without ``spaces`` every space may use it.
    """

    kind: DatasourceKind
    text: Text
    parameters: Annotated[tuple[Parameter, ...], Field(max_length=_MOST_PARAMETERS)] = ()
    datasource_id: UUID
    converter_id: UUID | None = None
    template_id: UUID | None = None
    spaces: Annotated[tuple[Space, ...], Field(max_length=500)] | None = None

    @model_validator(mode="after")
    def _declares_what_the_text_has(self) -> Self:
        if self.kind is DatasourceKind.REST and not self.text.startswith("/"):
            raise PydanticCustomError("bad_path", "the text of a rest query is a path: /...")
        names = parameters_in(self.text, self.kind)
        if len(names) > _MOST_PARAMETERS:
            raise PydanticCustomError("too_many_parameters", "the text has too many parameters")
        # The model is frozen for everybody else.
        self.__dict__["parameters"] = complete(self.parameters, names)
        return self
