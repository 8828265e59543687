"""From a form to a definition, from a thing to a form, and what is wrong in between in plain words."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple
from uuid import UUID

from pydantic import ValidationError

from chassis.words import Words, word
from services.config.domain.datasources import DatasourceKind
from services.config.domain.definitions import Definition
from services.config.domain.kinds import Kind
from services.config.domain.parameters import Parameter, ParameterType, parameters_in
from services.config.routes.screens.screen import Form

LABELS: Final[Mapping[str, str]] = {
    "name": word("Name"),
    "tags": word("Tags"),
    "kind": word("Kind"),
    "url": word("Address"),
    "options": word("Options"),
    "username": word("User"),
    "credentials": word("Password or token"),
    "text": word("Text"),
    "parameters": word("Parameters"),
    "datasource_id": word("Datasource"),
    "converter_id": word("Converter"),
    "template_id": word("Template"),
    "spaces": word("Spaces"),
}
"""How each field is called; a difference and what is wrong name it so too."""

# What pydantic and our own rules find, by its type.
_SENTENCES: Final[Mapping[str, str]] = {
    "missing": word("It is needed."),
    "string_too_short": word("It is needed."),
    "string_too_long": word("It is longer than %(max_length)s characters, which is the most."),
    "string_unicode": word(
        "It has half a character in it, as a broken copy leaves it. Type it anew."
    ),
    "string_pattern_mismatch": word(
        "It has a character that cannot be kept here. Invisible ones come along when text is copied."
    ),
    "too_short": word("It is needed."),
    "too_long": word("These are more than %(max_length)s, which is the most."),
    "bad_url": word("Give the full address; it begins with one of %(schemes)s."),
    "secret_in_url": word(
        "The address is shown to others, so it may have no user, no ? and no #. Use the fields below."
    ),
    "secret_in_options": word(
        "The name of an option says that it is secret, and options are shown. Use the password field."
    ),
    "bad_path": word("For a REST API this is a path, and begins with /."),
    "too_many_parameters": word("The text has more parameters than a query may have."),
    "value_of_another_type": word("A default or an allowed value is not of the parameter's type."),
    "default_not_allowed": word("A default is not among the allowed values."),
}
_OTHERWISE: Final = word("It is not as it has to be.")
_BY_FIELD: Final[Mapping[str, str]] = {
    "datasource_id": word("Choose one; where there is none, make one first."),
    "spaces": word("Write the keys of spaces with a comma between them, such as SALES, HR."),
    "options": word("Write one to a line, as name = value. Names begin with a letter."),
}
# Rules about the whole are shown where they can be mended.
_PLACES: Final[Mapping[str, str]] = {
    "bad_url": "url",
    "secret_in_url": "url",
    "secret_in_options": "options",
    "bad_path": "text",
    "too_many_parameters": "text",
}


class Trouble(NamedTuple):
    """Why a form is refused: at which field, if at one, and what to do there."""

    field: str
    text: str


class Refused(Exception):  # noqa: N818 - reads as the fact it states
    """A form is not as it has to be."""

    def __init__(self, *troubles: Trouble) -> None:
        super().__init__()
        self.troubles = troubles


def read(kind: Kind, form: Form, words: Words, *, nature: str | None, most_text: int) -> Definition:
    """Read what a form says of a thing; raises ``Refused``.

    ``nature`` is the kind of the datasource that a query asks, None where that is not known.
    """
    try:
        wanted = kind.model.model_validate(_draft(kind, form, nature))
    except ValidationError as refused:
        raise Refused(*dict.fromkeys(_troubles(refused, words))) from None
    for field in kind.long:
        if len(getattr(wanted, field)) > most_text:
            text = words.say(_SENTENCES["string_too_long"], max_length=most_text)
            raise Refused(Trouble(field, text))
    return wanted


def _troubles(refused: ValidationError, words: Words) -> Iterator[Trouble]:
    for error in refused.errors(include_url=False, include_input=False):
        kind = error["type"]
        field = str(error["loc"][0]) if error["loc"] else _PLACES.get(kind, "")
        is_known = kind in _SENTENCES and kind != "string_pattern_mismatch"
        sentence = _SENTENCES[kind] if is_known else _BY_FIELD.get(field)
        text = sentence or _SENTENCES.get(kind, _OTHERWISE)
        yield Trouble(field, words.say(text, **error.get("ctx", {})))


def _draft(kind: Kind, form: Form, nature: str | None) -> dict[str, Any]:
    draft: dict[str, Any] = {"name": form["name"].strip(), "tags": _listed(form["tags"])}
    fields = kind.model.model_fields
    if "text" in fields:
        draft["text"] = form["text"]
    if "kind" in fields:
        draft["kind"] = nature or form["kind"]
    if kind.name == "datasource":
        draft |= {"url": form["url"].strip(), "options": _options(form["options"])}
        draft["username"] = form["username"] or None
        if form["login"] == "replace":
            draft["credentials"] = form["credentials"]
        elif form["login"] == "none":
            draft["credentials"] = None
    if kind.name == "query":
        draft |= {field: form[field] or None for field in kind.refers}
        draft["spaces"] = _listed(form["spaces"]) or None
        # The model finds the names anew; one that has left the text is not declared any more.
        names = names_in(form, nature)
        draft["parameters"] = [each for each in declared(form) if each["name"] in names]
    return draft


def names_in(form: Form, nature: str | None) -> list[str]:
    """List the parameters that the text of a query's form has."""
    return parameters_in(form["text"], DatasourceKind(nature or DatasourceKind.SQL))


def declared(form: Form) -> list[dict[str, Any]]:
    """Say what a query's form tells of its parameters, values as those of their types."""
    rows = zip(
        *(form.all(f"parameter-{part}") for part in ("name", "type", "default", "allowed")),
        strict=False,
    )
    return [
        {
            "name": name,
            "type": kind,
            "default": _value(kind, default) if default else None,
            "allowed": [_value(kind, each) for each in allowed.splitlines() if each] or None,
        }
        for name, kind, default, allowed in rows
    ]


def _value(kind: str, text: str) -> Any:
    """Read a value of a type; one that is none stays a text, which the model refuses."""
    text = text if kind == ParameterType.TEXT else text.strip()
    try:
        match kind:
            case ParameterType.INTEGER:
                return int(text)
            case ParameterType.NUMBER:
                return float(text)
            case ParameterType.BOOLEAN:
                return {"true": True, "false": False}[text.lower()]
    except (ValueError, KeyError):
        pass
    return text


_WHOLE: Final = re.compile(r"-?\d{1,17}")


def _options(text: str) -> Any:
    """Read lines of ``name = value``; None, which the model refuses, where a line is none."""
    found: dict[str, Any] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, equals, value = (part.strip() for part in line.partition("="))
        if not equals or name in found:
            return None
        found[name] = _option(value)
    return found


def _option(value: str) -> str | int | bool:
    if value in {"true", "false"}:
        return value == "true"
    if _WHOLE.fullmatch(value):
        return int(value)
    # In quotes it is a text, whatever it looks like.
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value


def _shown_option(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and (_option(value) != value or value != value.strip()):
        return f'"{value}"'
    return str(value)


def _listed(text: str) -> list[str]:
    return [each for each in (part.strip() for part in text.split(",")) if each]


def filled(kind: Kind, name: str, tags: list[str], body: Mapping[str, Any]) -> dict[str, Any]:
    """Say what stands in the fields of a thing's form; empty where it says nothing."""
    told: dict[str, Any] = dict.fromkeys(kind.model.model_fields, "")
    told |= {field: value for field, value in body.items() if value is not None}
    told |= {"name": name, "tags": ", ".join(tags), "spaces": ", ".join(body.get("spaces") or ())}
    told["options"] = "\n".join(
        f"{name} = {_shown_option(value)}" for name, value in body.get("options", {}).items()
    )
    told["parameters"] = [_row(each) for each in body.get("parameters", ())]
    return told


def rows_of(form: Form, nature: str | None) -> list[dict[str, str]]:
    """Say what stands in the fields of each parameter, for the text as it is now."""
    known = {each["name"]: each for each in declared(form)}
    return [_row(known.get(name, {"name": name})) for name in names_in(form, nature)]


def _row(parameter: Mapping[str, Any]) -> dict[str, str]:
    default = parameter.get("default")
    return {
        "name": parameter["name"],
        "type": parameter.get("type", Parameter.model_fields["type"].default.value),
        "default": "" if default is None else _shown(default),
        "allowed": "\n".join(map(_shown, parameter.get("allowed") or ())),
    }


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def id_in_form(form: Form, field: str) -> UUID | None:
    """Read the id that was chosen; None where there is none."""
    try:
        return UUID(form[field])
    except ValueError:
        return None
