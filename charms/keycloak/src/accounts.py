"""Gives a person an account in the realm."""

import secrets
import string
import urllib.parse
from collections.abc import Mapping
from typing import Any

import admin
import msgspec
from api import ask
from realm import PLATFORM_ADMIN

from katonic import Config, NotYet

_CLASSES = (string.ascii_lowercase, string.ascii_uppercase, string.digits, "_")
"""A password has as much of each; a double click selects it whole."""


class Person(Config):
    """Who is to have an account, in the words of the action `add-user`."""

    username: str
    email: str
    first_name: str = ""
    last_name: str = ""
    admin: bool = False


def add(logins: admin.Logins, realm: str, asked: Mapping[str, Any]) -> dict[str, str]:
    """Have a person known, and return what to tell: a password for one sign-in, if it is new.

    Raises:
        NotYet: Keycloak does not answer, has no such realm yet, or has the email of another.
        Invalid: Keycloak does not take what the person is called, or its policy the password.
    """
    person = msgspec.convert(asked, Person)
    token, _ = admin.login(logins)
    role = ask(token, "GET", f"{realm}/roles/{PLATFORM_ADMIN}")
    if role is None:
        raise NotYet(f"realm {realm} has no role {PLATFORM_ADMIN} yet")
    exactly = urllib.parse.urlencode({"username": person.username, "exact": "true"})
    search = f"{realm}/users?{exactly}"
    if not ask(token, "GET", search):
        ask(token, "POST", f"{realm}/users", _representation(person))
    (user,) = ask(token, "GET", search)
    path = f"{realm}/users/{user['id']}"
    told = {"username": person.username}
    if person.admin:
        ask(token, "POST", f"{path}/role-mappings/realm", [role])
        told["role"] = PLATFORM_ADMIN
    # One whose password could not be set the last time gets it now; nobody else's is touched.
    if _UPDATE not in user["requiredActions"] or ask(token, "GET", f"{path}/credentials"):
        return {**told, "password": "stays as it is"}
    password = "".join(secrets.choice(_CLASSES[number % len(_CLASSES)]) for number in range(24))
    credential = {"type": "password", "value": password, "temporary": True}
    ask(token, "PUT", f"{path}/reset-password", credential)
    return {**told, "password": password}


_UPDATE = "UPDATE_PASSWORD"


def _representation(person: Person) -> dict[str, object]:
    named = person.first_name and person.last_name
    return {
        "username": person.username,
        "email": person.email,
        "emailVerified": True,  # by whoever adds the person
        "firstName": person.first_name,
        "lastName": person.last_name,
        "enabled": True,
        # The realm wants a name of everyone: asked for by itself, it is no error to have none yet.
        "requiredActions": [_UPDATE] if named else [_UPDATE, "UPDATE_PROFILE"],
    }
