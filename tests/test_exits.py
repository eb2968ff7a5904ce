"""Programs that call for the end of the process they run in, or of the run."""

import asyncio
import subprocess
import sys

import pytest

import mbexec
from mbexec.graph import BaseNode, End, ParallelExecutor, RunContext
from tests.systems import argon, job

EXECUTORS = ["serial", "threads", "asyncio", "loky", "dask", "parsl"]
QUITTER = """
    import sys

    from mbexec.core.potential import ModelPotential

    class Quitter(ModelPotential):
        \"\"\"The model potential, but for pairs, where it raises what its only keyword names.\"\"\"

        name = "quitter"

        def compute(self, input_data, config):
            (asked,) = input_data.specification.keywords.values()
            if len(input_data.molecule.symbols) == 2:
                raise {"exit": SystemExit(asked), "interrupt": KeyboardInterrupt()}.get(asked, SystemExit(asked))
            plain = input_data.specification.model_copy(update={"keywords": {}})
            return super().compute(input_data.model_copy(update={"specification": plain}), config)
"""


@pytest.fixture
def quitter(install):
    """A job whose pairs raise what is given: an interrupt, or an exit with that code."""
    site = install("strange-things", {"quitter": "Quitter"}, source=QUITTER, group="mbexec.programs")

    def raising(asked, **more):
        program = {"program": "quitter", "method": "lj", "keywords": {"asked": asked}}
        return job(argon(3), max_nbody=2, program=program, **more)

    raising.site = site
    return raising


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("code", [0, 3, "out of licenses"])
def test_a_program_that_exits_is_a_failed_fragment(quitter, executor, code):
    """The others run, and the error says what the program asked for."""
    found = mbexec.run(quitter(code), executor=executor, workers=2)
    assert found.report.failed == 3
    for failure in found.result.error.extras["failed"]:
        assert failure["error_type"] == "unknown_error"
        words = f"The program called for an exit with code {code!r}, as sys.exit does, and gave no result.\n"
        assert failure["error_message"].startswith(words)
        assert "in compute" in failure["error_message"]


@pytest.mark.parametrize("executor", ["serial", "threads", "asyncio"])
def test_an_interrupt_in_a_program_ends_the_run(quitter, executor):
    """It is neither waited for nor lost, in whatever thread it is raised."""
    with pytest.raises(KeyboardInterrupt):
        mbexec.run(quitter("interrupt"), executor=executor, workers=2)


@pytest.mark.parametrize("settings", [{"repeat": 3}, {"merge": "first_success", "repeat": 2}], ids=["vote", "until"])
def test_an_interrupt_in_one_of_several_runs_ends_the_run(quitter, settings):
    """Runs of one fragment that are put to the vote, or follow one another."""
    plugin = {f"plugin.asyncio.{key}": value for key, value in settings.items()}
    with pytest.raises(KeyboardInterrupt):
        mbexec.run(quitter("interrupt"), executor="asyncio", workers=2, **plugin)


@pytest.mark.parametrize("executor", ["serial", "asyncio"])
def test_the_command_says_that_a_fragment_failed(quitter, executor, tmp_path):
    """The result is written, the table is shown, and the exit code is not the program's."""
    lines = ["[molecule]", f'geometry = """\n{argon(3)}\n"""', "[mbe]", 'bsse_type = "nocp"', "max_nbody = 2"]
    lines += ["[program]", 'program = "quitter"', 'method = "lj"', "keywords = {asked = 0}"]
    (tmp_path / "job.toml").write_text("\n".join(lines))
    code = f"import sys; sys.path.insert(0, {str(quitter.site)!r}); from mbexec.cli import main; main()"
    words = [sys.executable, "-c", code, "run", "job.toml", "-q", "-e", executor, "-o", "result.json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    assert "The program called for an exit with code 0" in " ".join(done.stdout.split())
    assert (tmp_path / "result.json").exists()


class _Ends(BaseNode):
    def __init__(self, end):
        self.end = end

    async def run(self, ctx):
        if self.end is not None:
            raise self.end
        await asyncio.sleep(60)
        return End()


@pytest.mark.parametrize("end", [SystemExit(4), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("how", ["execute_parallel", "execute_until_success", "stream"])
def test_what_ends_a_loop_passes_through_graph_execution(how, end):
    """Asyncio lets exits and interrupts out of its loop: nodes that run are cancelled, and nobody waits for them."""

    async def all_of_them():
        executor = ParallelExecutor(3)
        nodes = [_Ends(end)] if how == "execute_until_success" else [_Ends(None), _Ends(end), _Ends(None)]
        given = getattr(executor, how)(nodes, RunContext({}, execution_id="x"))
        if how == "stream":
            async for _ in given:
                pass
        else:
            await given

    with pytest.raises(type(end)):
        asyncio.run(all_of_them())
