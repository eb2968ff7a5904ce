"""Answers on their way from a worker, whatever pieces they come in."""

from __future__ import annotations

import os
import pickle
import threading

from hypothesis import given
from hypothesis import strategies as st
from mbexec_loky.pipe import Answers, put

ANSWERS = st.lists(st.tuples(st.integers(), st.binary(max_size=200), st.text(max_size=20)), max_size=20)


def through(data, cuts):
    """What is taken of bytes that come cut at those places; the pipe is closed behind them."""
    ours, theirs = os.pipe()
    answers, taken = Answers(ours), []
    try:
        for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            if begin < end:
                os.write(theirs, data[begin:end])
                answers_here, size = answers.take()
                assert size == end - begin
                taken += answers_here
        os.close(theirs)
        assert answers.take() is None
    finally:
        os.close(ours)
    return taken


def written(answers):
    """The bytes that these answers make."""
    ours, theirs = os.pipe()
    for answer in answers:
        put(theirs, pickle.dumps(answer))
    os.close(theirs)
    with open(ours, "rb") as file:
        return file.read()


@given(ANSWERS, st.data())
def test_answers_come_whole_and_in_order(answers, data):
    """However the bytes are cut."""
    sent = written(answers)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=5)))
    assert through(sent, cuts) == answers


@given(ANSWERS.filter(len), st.data())
def test_of_an_answer_that_was_cut_off_nothing_comes(answers, data):
    """A worker was killed as it sent it; the others are there."""
    sent, last = written(answers), written(answers[-1:])
    lost = data.draw(st.integers(1, len(last)))
    assert through(sent[:-lost], []) == answers[:-1]


def test_an_answer_may_be_larger_than_a_pipe():
    """It is sent while the parent reads."""
    large = (1, os.urandom(10**6))
    ours, theirs = os.pipe()
    sender = threading.Thread(target=put, args=(theirs, pickle.dumps(large)))
    sender.start()
    answers, taken = Answers(ours), []
    while not taken:
        taken, _ = answers.take()
    sender.join()
    os.close(theirs)
    os.close(ours)
    assert taken == [large]
