"""What every definition of a customer has in common, and the forms of text that it is made of."""

from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints

LONGEST_NAME: Final = 200
LONGEST_TEXT: Final = 200_000

# PostgreSQL stores no NUL, and a line needs no other control character.
_LINE: Final = r"^[^\x00-\x1f\x7f]*$"
_TEXT: Final = r"^[^\x00]*$"
_WORD: Final = r"^[^\x00-\x20\x7f]([^\x00-\x1f\x7f]*[^\x00-\x20\x7f])?$"
Name = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_NAME, pattern=_LINE)]
Tag = Annotated[str, StringConstraints(min_length=1, max_length=50, pattern=_WORD)]
Tags = Annotated[
    tuple[Tag, ...],
    Field(max_length=20, description="Words to find it by; one given twice is kept once."),
]
Line = Annotated[str, StringConstraints(min_length=1, max_length=2000, pattern=_LINE)]
OptionText = Annotated[str, StringConstraints(strict=True, max_length=2000, pattern=_LINE)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_TEXT, pattern=_TEXT)]
LARGEST_WHOLE: Final = 2**53
"""Beyond it not every reader of JSON tells one whole number from the next."""

_COMMON: Final = {"name", "tags", "credentials"}


def whole(value: Any) -> Any:
    """Take a number without a fraction for a whole one, and leave everything else."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Definition(BaseModel):
    """A thing as a customer writes it: a name, tags, and what its kind adds."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: Name
    tags: Tags = ()

    @property
    def distinct_tags(self) -> list[str]:
        """The tags in the order in which they were given, each once."""
        return list(dict.fromkeys(self.tags))

    @property
    def secret(self) -> SecretStr | None:
        """What is to be sealed, and never given back."""
        return None

    @property
    def keeps_secret(self) -> bool:
        """Whether a replacement leaves what is sealed as it is."""
        return True

    def body(self) -> dict[str, Any]:
        """What its kind adds, as JSON, without what is secret."""
        return self.model_dump(mode="json", exclude=_COMMON)
