"""What every test gets: a world of its own, and a way to install plugins that are not there."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import pytest
import structlog

from mbexec import hookimpl
from tests.systems import argon, job


def environment():
    """The environment, but for what pytest keeps there, and threadpoolctl, for good, on its first import."""
    theirs = ("PYTEST_", "KMP_DUPLICATE_LIB_OK")
    return {name: value for name, value in os.environ.items() if not name.startswith(theirs)}


@pytest.fixture(autouse=True)
def _environment_kept():
    """Fail a test that leaves the environment changed, and put it right for the next one."""
    before = environment()
    yield
    after = environment()
    for name in after.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)
    assert after == before


@pytest.fixture(autouse=True)
def _alone(_environment_kept, monkeypatch, tmp_path):
    """No settings but the test's own: of files, of variables, of logging.

    It asks for the check of the environment first, so that monkeypatch has put everything back when that looks.
    """
    for name in os.environ:
        if name.startswith(("MBEXEC_", "QCENGINE_")):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.chdir(tmp_path)
    yield
    structlog.reset_defaults()


@pytest.fixture
def tables():
    """A job for the serial executor: three argon atoms, nocp, up to pairs, on the model potential."""
    return job(argon(3), max_nbody=2, run={"executor": "serial"})


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put a distribution on the path as an installer does: a module, metadata, and entry points that name it."""
    modules = []

    def installed(
        name: str,
        plugins: dict[str, type | str],
        *,
        source: str | None = None,
        group: str = "mbexec",
        folder: str | None = None,
    ) -> Path:
        """Install version 1.0 of a distribution.

        Parameters
        ----------
        name
            The distribution's; its module's too, with underscores.
        plugins
            Plugins by name: classes, or with `source` the names of things in it.
        source
            What the module says; without it, the module holds the given classes.
        group
            Of the entry points.
        folder
            Where on the path, below the test's own folder; the distribution's name if left out.
        """
        module = name.replace("-", "_")
        site = tmp_path / "site-packages" / (folder or name)
        info = site / f"{module}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        targets = {plugin: target if isinstance(target, str) else plugin for plugin, target in plugins.items()}
        lines = [f"{plugin} = {module}:{target}" for plugin, target in targets.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
        if source is None:
            holder = ModuleType(module)
            vars(holder).update({targets[plugin]: target for plugin, target in plugins.items()})
            sys.modules[module] = holder
        else:
            (site / f"{module}.py").write_text(dedent(source))
        modules.append(module)
        monkeypatch.syspath_prepend(site)
        importlib.invalidate_caches()
        return site

    yield installed
    for module in modules:
        sys.modules.pop(module, None)


@pytest.fixture
def events(install):
    """Everything that a reporter named "listener" hears."""
    heard = []

    class Listener:
        @hookimpl
        def report_metrics(self, event):
            heard.append(event)

    install("strange-reporter", {"listener": Listener})
    return heard
