"""Check values of a pipeline file; where an option takes text, a number is the text in the file."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from transfer.pipeline.document_nodes import Node
from transfer.pipeline.validation_messages import Steps, fault_messages
from transfer.stage.base import Stage

ModelT = TypeVar("ModelT", bound=BaseModel)


class RejectedValues(ValueError):
    """Values that a model rejects: a message for each faulty place."""

    def __init__(self, messages: dict[Steps, str]):
        super().__init__("; ".join(messages.values()))
        self.messages = messages


def validate_as_written(model: type[ModelT], values: dict[str, Any], node: Node) -> ModelT:
    """Return the checked values.

    `folder: 2024` is a number in YAML. Where an option rejects it, it is the text `2024` instead,
    and `007` stays `007`.

    Args:
        model: the model of the options.
        values: the values, as they are in the file.
        node: the node of the file that holds them.

    Raises:
        RejectedValues: values are faulty.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        messages = fault_messages(error, model, values)
    texts = {path: text for path in messages if (text := _text_at(path, model, node)) is not None}
    if not texts:
        raise RejectedValues(messages)
    try:
        return model.model_validate(_with_texts(values, texts))
    except ValidationError as error:
        second = fault_messages(error, model, _with_texts(values, texts))
    # What is faulty as a text too is reported as it was in the first place.
    raise RejectedValues({path: messages.get(path, text) for path, text in second.items()})


def _text_at(path: Steps, model: type[BaseModel], node: Node) -> str | None:
    """Return what the file has at `path`, where that is no text, list or mapping.

    An option may be null; an entry of a list is not, but a class may be called null.
    """
    if not path:  # a fault of several options together
        return None
    written = node.at(path)
    if written is None or (written.value is None and not isinstance(path[-1], int)):
        return None
    is_input = issubclass(model, Stage) and path[0] in model.input_fields()
    return None if is_input else written.text


def _with_texts(value: Any, texts: dict[Steps, str], path: Steps = ()) -> Any:
    """Return a value, which is at `path`, with the texts at their places."""
    if path in texts:
        return texts[path]
    if isinstance(value, dict):
        return {key: _with_texts(entry, texts, (*path, key)) for key, entry in value.items()}
    if isinstance(value, list):
        return [_with_texts(entry, texts, (*path, index)) for index, entry in enumerate(value)]
    return value
