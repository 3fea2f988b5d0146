"""The Hugging Face Hub's refusals in one line that says what to do."""

import re
from collections.abc import Callable, Iterator, Sequence

from huggingface_hub import is_offline_mode
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

_LOGIN = "`hf auth login`, or set HF_TOKEN to a token of https://huggingface.co/settings/tokens"


def access_refused(error: BaseException) -> str | None:
    """How to get access to what the Hub refuses, in one line; None if the error and its causes are no refusal."""
    return _first(error, (_gated, _refused))


def not_found(error: BaseException) -> str | None:
    """Why neither the Hub nor its local cache gave it, in one line; None if the error and its causes do not say so."""
    return _first(error, (_absent, _unreachable))


def _first(error: BaseException, sayings: Sequence[Callable[[BaseException], str | None]]) -> str | None:
    chain = list(_chain(error))
    return next((said for say in sayings for one in chain if (said := say(one)) is not None), None)


def _gated(error: BaseException) -> str | None:
    if not isinstance(error, GatedRepoError):
        return None
    repository = _repository_of(error)
    return f"{repository} is gated: accept its licence at https://huggingface.co/{repository}, then log in: {_LOGIN}"


def _absent(error: BaseException) -> str | None:
    if isinstance(error, HFValidationError):
        return "no folder lies there, and it is no name of a Hub repository (OWNER/NAME)"
    if not isinstance(error, RepositoryNotFoundError):
        return None
    return f"the Hub has no {_repository_of(error)}, or keeps it private: check the name, or log in: {_LOGIN}"


def _refused(error: BaseException) -> str | None:
    if not isinstance(error, HfHubHTTPError) or isinstance(error, RepositoryNotFoundError):
        return None
    if error.response.status_code not in (401, 403):
        return None
    return (
        f"the Hub refuses {_repository_of(error)} (HTTP {error.response.status_code}): accept its licence at "
        f"https://huggingface.co/{_repository_of(error)} if it asks for that, and log in: {_LOGIN}"
    )


def _unreachable(error: BaseException) -> str | None:
    if not isinstance(error, LocalEntryNotFoundError | OfflineModeIsEnabled):
        return None
    if is_offline_mode():
        return (
            "it is not in the local cache, and the Hub is not asked (--offline or HF_HUB_OFFLINE): run once without, "
            "or set HF_HOME to the cache that has it"
        )
    return "it is not in the local cache, and the Hub does not answer: check the network and HF_ENDPOINT"


def _repository_of(error: BaseException) -> str:
    """The repository that the refused address names."""
    path = str(getattr(getattr(error, "response", None), "url", ""))
    match = re.search(r"//[^/]+/(?:api/models/)?([^/]+/[^/?]+)", path)
    return match[1] if match else "the repository"


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__
