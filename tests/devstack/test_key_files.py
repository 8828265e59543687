from datetime import UTC, datetime
from pathlib import Path

import pytest

from chassis.keys import KeyEncryptionKeys, Undecipherable
from devstack.key_files import begin_next_key, destroy_former_keys, ensure_key_encryption_keys


def test_former_keys_open_what_they_wrapped_until_they_are_destroyed(tmp_path: Path) -> None:
    path = ensure_key_encryption_keys(
        tmp_path / "keys.json", wall=datetime(2026, 11, 26, tzinfo=UTC)
    )
    keys = KeyEncryptionKeys.load(path)
    wrapped, name = keys.wrap(b"k" * 32, [b"tenant"])

    begin_next_key(path)
    assert keys.current_id != name
    assert keys.unwrap(wrapped, name, [b"tenant"]) == b"k" * 32

    destroy_former_keys(path)
    with pytest.raises(Undecipherable):
        keys.unwrap(wrapped, name, [b"tenant"])
