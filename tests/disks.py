"""Small disks."""

import os
import subprocess
from contextlib import contextmanager

import pytest


@contextmanager
def small_disk(folder, size):
    """A disk of its own in a folder, which is made, and what mounts it otherwise."""
    if os.geteuid():
        pytest.skip("only root may mount a file system")
    folder.mkdir()

    def mount(options):
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)

    mount(f"size={size}")
    try:
        yield folder, mount
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
