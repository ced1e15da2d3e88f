"""What can go wrong, each with the words for a person."""

from collections.abc import Mapping, Sequence
from typing import Any

SENTENCES: Mapping[int, tuple[str, str]] = {
    400: ("That did not work", "The request was not complete. Go back and try again."),
    403: ("You may not do this", "Your role does not allow it. Ask an owner or an administrator."),
    404: ("There is nothing here", "It may have been deleted, or it is not shared with you."),
    405: ("There is nothing here", "This address is not a page."),
    409: ("It could not be saved", "It does not go together with what is there already."),
    412: ("Somebody changed it meanwhile", "Look at the newer values and save again."),
    413: ("That is too large", "Choose a smaller file."),
    422: ("Some values are not right", "Mend what is marked below."),
    428: ("That did not work", "Open the page again and repeat it."),
    429: ("That was too often", "Wait a moment and try again."),
    500: ("Something broke", "It is our mistake, and it has been logged. Try again in a while."),
    503: ("This is not available now", "It heals by itself most of the time. Try again soon."),
}


class Problem(Exception):  # noqa: N818 - it is what the API calls it
    """The API refuses: RFC 9457's problem.

    Attributes:
        fields: What is wrong with which field of what was sent, by its name.
    """

    def __init__(self, status: int, detail: str = "", errors: Sequence[Any] = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.title, said = SENTENCES.get(status, SENTENCES[500 if status >= 500 else 400])
        self.detail = detail or said
        self.fields = {_field(it): _sentence(it) for it in errors}


class Away(Exception):  # noqa: N818 - it heals
    """Something without which there is no page is not there now; it says what, in words."""

    title = SENTENCES[503][0]
    detail = SENTENCES[503][1]


class NoSignIn(Away):
    """Nobody signs people in."""

    title = "Sign-in is not available"
    detail = (
        "This platform is not connected to the service that signs people in. Its administrators"
        " can see why; nothing is lost, and everything is here again once it is connected."
    )


class IdentityAway(Away):
    """Who signs people in does not answer."""

    title = "Sign-in does not answer"
    detail = "The service that signs people in does not answer now. Try again in a minute."


class SessionsAway(Away):
    """Where sessions are kept does not answer."""

    title = "Sessions are not available"
    detail = (
        "The place where the platform remembers who is signed in does not answer now."
        " Try again in a minute; you will still be signed in."
    )


class ApiAway(Away):
    """The API does not answer."""

    title = "The platform does not answer"
    detail = "The pages work, but the service behind them does not answer now. Try again soon."


class NoApi(Away):
    """There is no API."""

    title = "The platform is not connected"
    detail = (
        "The pages work, but they are not connected to the service that keeps projects and people."
        " Its administrators can see why."
    )


class SignedOut(Exception):  # noqa: N818 - a person's state
    """Nobody is signed in: there is no session, or it has ended."""


class Refused(Exception):  # noqa: N818 - a decision
    """Whoever signs people in does not let this one in, or not any more."""


def _field(error: Any) -> str:
    names = [str(it) for it in error.get("loc", ()) if it not in ("body", "query")]
    return ".".join(names)


def _sentence(error: Any) -> str:
    text = str(error.get("msg", "is not allowed"))
    return text[:1].upper() + text[1:]
