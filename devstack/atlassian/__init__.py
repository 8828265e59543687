"""A stand-in for Atlassian: customer sites whose installs and uninstalls are signed as the real ones.

It publishes its public keys as the key hosts do, reads an app's descriptor as the Marketplace does,
calls the app's lifecycle hooks, answers the app's questions about its licence, reports licences as
the Marketplace does, keeps the vendor's service desk, and shows the app in a frame. Run it with ``python -m devstack.atlassian``, or
use :class:`Atlassian` within a test.
"""

from devstack.atlassian.desk import create_app
from devstack.atlassian.forge import ForgeInstallation, forge_app_id
from devstack.atlassian.signer import AppAddress, Atlassian, Hook, new_atlassian
from devstack.atlassian.sites import Site

__all__ = [
    "AppAddress",
    "Atlassian",
    "ForgeInstallation",
    "Hook",
    "Site",
    "create_app",
    "forge_app_id",
    "new_atlassian",
]
