"""The descriptor: the same bytes each time, and within the limits of Atlassian's schema."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from connect.descriptor import AdminPage, Descriptor, GeneralPage, Lifecycle, Scope, Vendor

VENDOR = Vendor(name="Example Ltd", url="https://vendor.example.com")

EXPECTED = """\
{
  "key": "com.example.app",
  "name": "Exämple",
  "baseUrl": "https://apps.example.com/connect/com.example.app",
  "vendor": {
    "name": "Example Ltd",
    "url": "https://vendor.example.com"
  },
  "authentication": {
    "type": "jwt"
  },
  "lifecycle": {
    "installed": "/lifecycle/installed",
    "uninstalled": "/lifecycle/uninstalled",
    "enabled": "/lifecycle/enabled",
    "disabled": "/lifecycle/disabled"
  },
  "scopes": [
    "READ",
    "WRITE"
  ],
  "apiVersion": 1,
  "apiMigrations": {
    "context-qsh": true,
    "signed-install": true
  },
  "enableLicensing": true,
  "modules": {
    "generalPages": [
      {
        "key": "entry",
        "name": {
          "value": "Exämple"
        },
        "url": "/entry"
      }
    ]
  }
}
"""
PAGE = GeneralPage(key="entry", name="Exämple", url="/entry")


def _descriptor(**changes: Any) -> Descriptor:
    fields = {
        "key": "com.example.app",
        "name": "Exämple",
        "base_url": "https://apps.example.com/connect/com.example.app",
        "vendor": VENDOR,
    }
    return Descriptor(**(fields | changes))


def test_a_descriptor_is_these_very_bytes() -> None:
    descriptor = _descriptor(scopes=(Scope.WRITE, Scope.READ, Scope.WRITE), general_pages=(PAGE,))

    assert descriptor.to_json() == EXPECTED.encode()


def test_a_page_of_the_administration_is_for_administrators_alone() -> None:
    page = AdminPage(key="administration", name="Exämple", url="/administration")
    told = json.loads(_descriptor(admin_pages=(page,)).to_json())
    assert told["modules"] == {
        "adminPages": [
            {
                "key": "administration",
                "name": {"value": "Exämple"},
                "url": "/administration",
                "conditions": [{"condition": "user_is_admin"}],
            }
        ]
    }


def test_what_makes_no_difference_makes_no_other_bytes() -> None:
    one = _descriptor(
        base_url="HTTPS://apps.example.com/connect/com.example.app/",
        scopes=[Scope.READ, Scope.WRITE],
    )
    other = _descriptor(scopes=[Scope.WRITE, Scope.READ])

    assert one.to_json() == other.to_json()


def test_an_app_without_pages_has_no_modules() -> None:
    assert json.loads(_descriptor().to_json())["modules"] == {}


def test_a_description_is_written_where_there_is_one() -> None:
    assert json.loads(_descriptor(description="What it does").to_json())["description"]


@pytest.mark.parametrize(
    "changes",
    [
        {"key": ""},
        {"key": "a/b"},
        {"key": "a" * 81},
        {"name": ""},
        {"name": "a" * 81},
        {"description": "a" * 1401},
        {"base_url": "http://apps.example.com"},
        {"base_url": "apps.example.com"},
        {"base_url": "https://apps.example.com/?x=1"},
        {"base_url": "https://apps.example.com/" + "a" * 200},
        {"vendor": {"name": "", "url": "https://vendor.example.com"}},
        {"vendor": {"name": "a" * 101, "url": "https://vendor.example.com"}},
        {"vendor": {"name": "a", "url": "javascript:alert(1)"}},
        {"vendor": {"name": "a", "url": "https://vendor.example.com/" + "a" * 200}},
        {"api_version": 0},
        {"scopes": ["EVERYTHING"]},
        {"lifecycle": {"installed": "https://elsewhere.example.com/installed"}},
        {"lifecycle": {"installed": "installed"}},
        {"general_pages": [{"key": "the entry", "name": "a", "url": "/entry"}]},
        {"general_pages": [{"key": "", "name": "a", "url": "/entry"}]},
        {"general_pages": [{"key": "entry", "name": "", "url": "/entry"}]},
        {"general_pages": [{"key": "entry", "name": "a" * 81, "url": "/entry"}]},
        {"general_pages": [{"key": "entry", "name": "a", "url": "https://elsewhere.example.com"}]},
        {"general_pages": [PAGE, PAGE]},
        {"general_pages": [PAGE], "admin_pages": [AdminPage(key="entry", name="a", url="/other")]},
        {"unknown": 1},
    ],
)
def test_what_the_schema_refuses_is_refused_before_the_marketplace_sees_it(
    changes: dict[str, Any],
) -> None:
    with pytest.raises(ValidationError):
        _descriptor(**changes)


def test_this_machine_may_be_reached_by_plain_http() -> None:
    assert _descriptor(base_url="http://127.0.0.1:8001/connect/x").base_url.startswith("http://")


def test_the_lifecycle_calls_may_go_elsewhere_below_the_base_url() -> None:
    descriptor = _descriptor(lifecycle=Lifecycle(installed="/hooks/installed"))

    assert json.loads(descriptor.to_json())["lifecycle"]["installed"] == "/hooks/installed"
