"""What pages load of others is pinned, and bundled as a whole or not at all."""

import json
from pathlib import Path
from typing import Any

import pytest

from devstack import bundles
from devstack.bundles import CannotBundleError


def test_the_lock_pins_every_package_by_hash_and_names_no_address() -> None:
    text = (bundles.SOURCES / "package-lock.json").read_text("utf-8")
    assert "://" not in text
    packages = json.loads(text)["packages"]
    assert all("integrity" in each for path, each in packages.items() if path)
    wanted = json.loads((bundles.SOURCES / "package.json").read_text("utf-8"))
    for name, version in (wanted["dependencies"] | wanted["devDependencies"]).items():
        assert packages[f"node_modules/{name}"]["version"] == version


@pytest.mark.parametrize("broken", ["npm", "node"])
def test_where_a_step_fails_the_script_that_was_there_stays(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "reporter.js").write_text("before", "utf-8")

    def end_with(status: int) -> Any:
        return lambda *_, **__: status

    monkeypatch.setattr(bundles, "BUILT", tmp_path)
    for name in ("npm", "node"):
        monkeypatch.setattr(bundles, name, end_with(3 if name == broken else 0))
    with pytest.raises(CannotBundleError, match="status 3"):
        bundles.bundle()
    assert [path.name for path in tmp_path.iterdir()] == ["reporter.js"]
    assert (tmp_path / "reporter.js").read_text("utf-8") == "before"
