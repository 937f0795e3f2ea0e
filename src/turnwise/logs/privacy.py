"""What keeps people out of the data: refused consent, pseudonyms, and placeholders for what names
them.

Everything here runs before anything is written. A conversation id is kept as it is: it must not
name a person.
"""

import hashlib
import hmac
import os
import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from turnwise.conversation import LoggedConversation
from turnwise.errors import ConfigError
from turnwise.logs.refusal import Refusal

_PSEUDONYM = re.compile(r"hmac:[0-9a-f]{32}")
_SHORTEST_KEY = 16  # bytes


def read_key(file: Path | None = None, variable: str | None = None) -> bytes | None:
    """The key of the pseudonyms from a file, or from the environment variable of that name.

    None where neither is given. Raises ConfigError for a key that is missing or shorter than 16
    bytes; the message never holds it.
    """
    if file is not None:
        try:
            key, place = file.read_bytes().strip(), f"the key file {file}"
        except OSError as error:
            raise ConfigError(
                f"expected a key in {file}, found no file to read: {error.strerror}"
            ) from error
    elif variable is not None:
        key, place = os.environ.get(variable, "").encode(), f"the environment variable {variable}"
    else:
        return None
    if len(key) < _SHORTEST_KEY:
        raise ConfigError(
            f"expected at least {_SHORTEST_KEY} bytes in {place}, found {len(key)}; make one with "
            "`openssl rand -hex 32` and keep it apart from the data"
        )
    return key


def pseudonym(customer: str, key: bytes) -> str:
    """ "hmac:" and 128 bits of HMAC-SHA256 of the customer under the key, in hexadecimal.

    Plain hashes of telephone numbers can be enumerated; without the key these cannot.
    """
    return "hmac:" + hmac.new(key, customer.encode(), hashlib.sha256).hexdigest()[:32]


def with_pseudonym(conversation: LoggedConversation, key: bytes | None) -> LoggedConversation:
    """The conversation with a pseudonym as its customer; without a key, with none.

    What is a pseudonym already, in logs that are imported again, stays.
    """
    customer = conversation.customer_key
    if customer is None or _PSEUDONYM.fullmatch(customer):
        return conversation
    return replace(conversation, customer_key=pseudonym(customer, key) if key else None)


def consent_refusal(
    conversation: LoggedConversation, *, is_required: bool, now: datetime
) -> Refusal | None:
    """Why nobody may learn from the conversation; None if one may.

    is_required: silence is no consent either. now: what was to be kept until earlier is refused.
    """
    consent = conversation.consent
    expected, field, found = "", "consent.training", str(consent.training).lower()
    if consent.training is False:
        expected = "consent to training"
    elif consent.training is None and is_required:
        expected, found = "consent to training (--require-consent)", "nothing"
    elif consent.retain_until is not None and consent.retain_until < now:
        expected, field = "a conversation that may still be kept", "consent.retain_until"
        found = consent.retain_until.isoformat()
    if not expected:
        return None
    return Refusal(
        code="consent_refused",
        reason=f"expected {expected}, found {found}; nothing of it was written but its id",
        field=field,
        found=found,
        line=conversation.origin.line if conversation.origin else None,
        conversation_id=conversation.conversation_id,
    )
