"""Stands in for the vendor's identity provider: one member of staff for each role, no password.

It is oidc-provider-mock, which asks who one is and believes it, and keeps no PKCE.
"""

import argparse
import os
import warnings
from typing import Any, Final

import uvicorn

from chassis.staff.people import Role
from devstack.processes import LOOPBACK

COMMAND: Final = "keepword"
SECRET: Final = "of-no-worth"  # noqa: S105 - the stand-in takes any

# The name of each person begins as that of the role does.
PEOPLE: Final = {
    "sam": ("Sam", (Role.SUPPORT,)),
    "dana": ("Dana", (Role.DEVELOPER,)),
    "pat": ("Pat", (Role.PRIVACY,)),
    "priya": ("Priya", (Role.PRIVACY,)),
    "max": ("Max", (Role.MARKETING,)),
    "olga": ("Olga", (Role.OPERATOR,)),
    "nobody": ("Nobody in particular", ()),
}


def groups() -> dict[str, str]:
    """Which group gives which role."""
    return {role.value: f"keepword-{role}" for role in Role}


def make_app() -> Any:
    """Build the provider with its people."""
    with warnings.catch_warnings():
        # It uses a part of authlib that is about to go.
        warnings.simplefilter("ignore")
        from oidc_provider_mock import User, app  # noqa: PLC0415 - warns while it is imported
        from oidc_provider_mock._app import AuthorizationCodeGrant  # noqa: PLC0415 - likewise

    # A public client, as the command is one, has no secret; by itself it knows of none.
    AuthorizationCodeGrant.TOKEN_ENDPOINT_AUTH_METHODS = ["client_secret_basic", "none"]
    people = [
        User(
            sub=subject,
            claims={
                "name": name,
                "amr": ["mfa"],
                "groups": [groups()[role] for role in roles],
            },
        )
        for subject, (name, roles) in PEOPLE.items()
    ]
    return app(user_claims=people)


def main() -> None:
    """Run it until a signal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    # Its library wants TLS else.
    os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"
    uvicorn.run(make_app(), interface="wsgi", host=LOOPBACK, port=port, log_level="warning")


if __name__ == "__main__":
    main()
