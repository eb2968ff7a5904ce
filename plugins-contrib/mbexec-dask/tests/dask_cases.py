"""Jobs, and Dask's own commands: a scheduler and workers as processes, with certificates made for the test."""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from attrs import define, field

import mbexec

DASK = str(Path(sys.executable).with_name("dask"))


def argon(nfr: int) -> str:
    """Argon atoms on a crooked line, one a fragment, in angstrom."""
    return "\n--\n".join(f"Ar {3.9 * i:.3f} {0.7 * (i % 3):.3f} {0.4 * (i % 5):.3f}" for i in range(nfr))


def job(
    nfr: int = 6,
    keywords: dict[str, Any] | None = None,
    max_nbody: int = 2,
    program: str = "toy-potential",
    **task: Any,
) -> dict[str, Any]:
    """The tables of a job: argon atoms on the toy potential, or a toy of the tests' own."""
    return {
        "molecule": {"geometry": argon(nfr)},
        "mbe": {"bsse_type": "nocp", "max_nbody": max_nbody, "driver": "gradient"},
        "program": {"program": program, "method": "lj", "keywords": keywords or {}},
        "task": {"ncores": 1, "memory": 1, **task},
        "run": {"executor": "dask", "workers": 2},
    }


def bits(found: Any) -> tuple[bytes, bytes]:
    """Numbers of a result, to the last bit."""
    assert found.result.success, found.result.error.error_message
    return np.asarray(found.result.return_result).tobytes(), found.energies.tobytes()


def failures(found: mbexec.RunResult) -> list[dict[str, str]]:
    """Errors of a run."""
    return found.result.error.extras["failed"]


def soon(condition: Callable[[], Any], patience: float = 60) -> bool:
    """Whether it becomes true."""
    end = time.monotonic() + patience
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return bool(condition())


def running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def messages_of(found: mbexec.RunResult) -> dict[str, str]:
    """What failed and why, by the 0-based numbers of the fragments."""
    return {entry["label"].split(", ", 1)[1].split("], ")[0] + "]": entry["error_message"] for entry in failures(found)}


def certificates(folder: Path) -> dict[str, str]:
    """A certificate that signs itself, and its key: what `tls` asks for."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mbexec-tests")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    (folder / "cert.pem").write_bytes(made.public_bytes(pem))
    return {"ca": str(folder / "cert.pem"), "cert": str(folder / "cert.pem"), "key": str(folder / "key.pem")}


@define(eq=False)
class Commands:
    """A scheduler and workers, started as people start them."""

    folder: Path
    tls: dict[str, str] | None = None
    processes: list[subprocess.Popen[bytes]] = field(factory=list)

    @property
    def file(self) -> Path:
        """What the scheduler writes when it is there."""
        return self.folder / "scheduler.json"

    @property
    def address(self) -> str:
        """The scheduler's."""
        address: str = json.loads(self.file.read_text())["address"]
        return address

    def start(self, *words: str, **variables: str) -> subprocess.Popen[bytes]:
        """Run `dask WORDS` in an environment with these variables."""
        files = {"--tls-ca-file": "ca", "--tls-cert": "cert", "--tls-key": "key"}
        tls = [word for option, key in files.items() for word in (option, self.tls[key])] if self.tls else []
        with (self.folder / f"said-{len(self.processes)}").open("wb") as said:
            process = subprocess.Popen(
                [DASK, *words, *tls], stdout=said, stderr=said, cwd=self.folder, env={**os.environ, **variables}
            )
        self.processes.append(process)
        return process

    def scheduler(self, port: int = 0, **variables: str) -> subprocess.Popen[bytes]:
        """Start one and wait until it is there."""
        self.file.unlink(missing_ok=True)
        host = f"{'tls' if self.tls else 'tcp'}://127.0.0.1"
        words = ("--host", host, "--port", str(port), "--scheduler-file", str(self.file), "--no-dashboard")
        process = self.start("scheduler", *words, **variables)
        assert soon(lambda: self.file.exists() and self.file.read_text().endswith("}"))
        return process

    def worker(self, *words: str, nanny: bool = False, **variables: str) -> subprocess.Popen[bytes]:
        """Start one, without a nanny that would start it again, with a thread."""
        own = ("--nthreads", "1", "--no-dashboard", "--local-directory", str(self.folder))
        return self.start("worker", self.address, *own, *([] if nanny else ["--no-nanny"]), *words, **variables)

    def end(self) -> None:
        """End all that still runs."""
        for process in self.processes:
            process.send_signal(signal.SIGKILL if "scheduler" in process.args else signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
