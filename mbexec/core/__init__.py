"""The parts of mbexec that plugins stand on. Public names are those of :mod:`mbexec`."""
