"""Write what mbexec prints into these pages and the README: `python docs/generate.py`.

Two kinds of block are filled: `--help` texts, between `<!-- help: COMMAND -->` and `<!-- end -->`, and what follows
`$ mbexec ...` in a `console` block, unless it is marked as an illustration; a command marked `fails` ends with exit
code 1. Each block has a copy of the examples to itself, so that no store is there yet; one marked `continued` goes on
in the folder of the block before it. `python docs/generate.py --check` changes nothing and fails if something is out
of date; times, dates, sizes and numbers of workers are not compared.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from click.testing import CliRunner

from mbexec.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
_HELP = re.compile(r"(?<=<!-- help: )(?P<command>[^>]*?) -->\n.*?(?=<!-- end -->)", re.DOTALL)
_CONSOLE = re.compile(r"^```console(?P<info>[^\n]*)\n\$ (?P<command>mbexec [^\n]*)\n.*?^```$", re.DOTALL | re.MULTILINE)
_NUMBER = re.compile(r"-?\d+(\.\d+)?(e[-+]\d+)?$")


def help_text(command: str) -> str:
    """What a command such as "mbexec run" prints when asked for help on a terminal of 80 columns."""
    return CliRunner().invoke(main, [*command.split()[1:], "--help"], prog_name="mbexec", terminal_width=78).output


def output(command: str, folder: Path, code: int = 0) -> str:
    """What a command that ends with an exit code prints on standard output, run in a folder."""
    call = [sys.executable, "-c", "from mbexec.cli import main; main(prog_name='mbexec')", *shlex.split(command)[1:]]
    done = subprocess.run(call, cwd=folder, env={**os.environ, "COLUMNS": "160"}, capture_output=True, text=True)
    if done.returncode != code:
        raise SystemExit(f"{command!r} ended with exit code {done.returncode}: {done.stderr}")
    shown = done.stdout.replace(f"{folder.resolve()}{os.sep}", "").strip("\n")
    return "\n".join(line.rstrip() for line in shown.splitlines())


def with_help(page: str) -> str:
    """The page with every help text as it is now."""
    return _HELP.sub(lambda m: f"{m['command']} -->\n\n```text\n{help_text(m['command'])}```\n\n", page)


def with_output(page: str, wanted: Callable[[str], bool]) -> str:
    """The page with the output of every command as it is now, in those blocks whose info string is wanted."""
    with TemporaryDirectory() as temporary:
        folders: list[Path] = []

        def block(match: re.Match[str]) -> str:
            info, command = match["info"], match["command"]
            if "illustration" in info or not wanted(info):
                return match[0]
            if "continued" not in info:
                folders.append(Path(temporary) / str(len(folders)))
                shutil.copytree(ROOT / "examples", folders[-1] / "examples", ignore=shutil.ignore_patterns("*.store"))
            return f"```console{info}\n$ {command}\n{output(command, folders[-1], int('fails' in info))}\n```"

        return _CONSOLE.sub(block, page)


def alike(old: str, new: str) -> bool:
    """Whether two pages agree but for times, dates, sizes, workers, rules of tables and last digits of energies."""
    return len(_words(old)) == len(_words(new)) and all(map(_same, _words(old), _words(new)))


def _words(page: str) -> list[str]:
    page = re.sub(r"; one after the other [^()\n]*\(speedup \d+\.\d+\)", "", page)  # one worker has none
    page = re.sub(r"\d+\.\d+ s\b", "... s", page)
    page = re.sub(r"\d{4}-\d\d-\d\d", "date", page)
    page = re.sub(r"\d+(\.\d+)? [KM]iB", "size", page)
    page = re.sub(r"\d+ workers?", "n workers", page)
    return re.sub("─+", "─", page).split()


def _same(old: str, new: str) -> bool:
    if _NUMBER.match(old) and _NUMBER.match(new):
        last = 10.0 ** -len(new.partition(".")[2])
        return abs(float(old) - float(new)) <= (max(1.01 * last, 1e-8) if last < 1 else 0)
    return old == new


if __name__ == "__main__":
    for path in PAGES:
        before = path.read_text(encoding="utf-8")
        after = with_output(with_help(before), lambda info: True)
        if alike(before, after):
            continue
        if "--check" in sys.argv:
            raise SystemExit(f"{path} is out of date: python docs/generate.py")
        path.write_text(after, encoding="utf-8")
