from __future__ import annotations

from danube_harness.traffic.unwilling import KEYS, Answer, Answers, answer_to, key_of


def test_poison_is_refused_each_time_and_others_are_refused_or_forgotten_once() -> None:
    said = {number: [answer_to(("w", number), times) for times in (1, 2, 3)] for number in range(1, 30000)}
    poison = {number for number, answers in said.items() if answers == [Answer.NACK] * 3}
    assert poison == {number for number in said if number % 211 == 11}
    kinds = {answers[0] for answers in said.values()}
    assert kinds == set(Answer)
    assert all(answers[1:] == [Answer.ACK] * 2 for number, answers in said.items() if number not in poison)


def test_a_key_in_disorder_is_noticed() -> None:
    answers = Answers()
    stream = answers.opens()
    answers.answer(("w", 1 + KEYS), 0, stream)
    assert not answers.disordered
    answers.answer(("w", 1), 0, stream)
    assert key_of(("w", 1)) == key_of(("w", 1 + KEYS))
    assert answers.disordered == [("w", 1)]


def test_a_count_that_falls_is_noticed_unless_it_may_have_waited_at_another_reader() -> None:
    answers = Answers()
    first, second = answers.opens(), answers.opens()
    answers.answer(("w", 2), 5, first)
    answers.answer(("w", 2), 4, second)
    answers.answer(("w", 2), 5, second)
    assert not answers.forgotten
    answers.answer(("w", 2), 4, second)
    assert answers.forgotten == [("w", 2)]
    answers.answer(("w", 2), 4, answers.opens())
    assert answers.forgotten == [("w", 2)] * 2
