"""Questions to the user: one a policy and situation, with a default and a time limit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn.control.questions import (
    MAX_KEPT,
    MAX_OPEN,
    AnswerGiven,
    KeptAnswer,
    Question,
    QuestionNews,
    Questions,
    Remember,
)
from sojourn.errors import ConfigError
from sojourn.policy.rules import Otherwise, Policy

BACKUP = Policy("backup", otherwise=Otherwise.ASK, ask_timeout=30.0)
VIDEO = Policy("video", otherwise=Otherwise.ASK, ask_timeout=10.0, ask_default=Otherwise.ANY)


class Desk:
    """Questions, and the news about them."""

    def __init__(self, *kept: KeptAnswer) -> None:
        self.questions = Questions(kept)
        self.news: list[QuestionNews] = []
        self.stop = self.questions.listen(self.news.append)

    def told(self) -> list[tuple[str, str, str | None]]:
        found = [(one.what, one.question.policy, one.choice) for one in self.news]
        self.news.clear()
        return found

    def only(self) -> Question:
        (question,) = self.questions.open
        return question


def test_a_policy_that_asks_waits_for_the_answer_and_asks_once() -> None:
    desk = Desk()
    assert desk.questions.choice_for(BACKUP, ["wwan0"], 100.0) == "hold"
    assert desk.questions.choice_for(BACKUP, ["wwan0"], 101.0) == "hold"
    question = desk.only()
    assert question.choices == ("wwan0", "hold", "block")
    assert (question.default, question.until) == ("hold", 130.0)
    assert question.text == "No network fits 'backup' now, only wwan0 works. Where shall its flows go?"
    assert desk.told() == [("asked", "backup", None)]


def test_nobody_is_asked_about_what_does_not_run() -> None:
    desk = Desk()
    assert desk.questions.choice_for(BACKUP, ["wwan0"], 100.0, concerned=False) == "hold"
    assert desk.questions.open == []
    desk.questions.choice_for(BACKUP, ["wwan0"], 101.0)
    desk.questions.answer(AnswerGiven(1, "wwan0"))
    assert desk.questions.choice_for(BACKUP, ["wwan0"], 102.0, concerned=False) == "wwan0"


def test_an_answer_holds_until_the_situation_ends() -> None:
    desk = Desk()
    desk.questions.choice_for(BACKUP, ["wwan0"], 100.0)
    assert desk.questions.answer(AnswerGiven(1, "wwan0"))
    assert desk.questions.choice_for(BACKUP, ["wwan0"], 500.0) == "wwan0"
    assert desk.questions.open == []
    desk.questions.settle("backup")
    assert desk.questions.choice_for(BACKUP, ["wwan0"], 600.0) == "hold"
    assert desk.told() == [("asked", "backup", None), ("answered", "backup", "wwan0"), ("asked", "backup", None)]
    assert desk.questions.written == []


def test_after_the_time_limit_the_default_holds() -> None:
    desk = Desk()
    assert desk.questions.choice_for(VIDEO, ["wwan0"], 100.0) == "hold"
    assert desk.questions.deadline() == 110.0
    assert not desk.questions.tick(109.9)
    assert desk.questions.tick(110.0)
    assert desk.questions.choice_for(VIDEO, ["wwan0"], 111.0) == "any"
    assert desk.questions.deadline() is None
    assert desk.told()[-1] == ("timeout", "video", "any")


def test_other_networks_are_another_situation_and_a_question_for_the_old_one_is_withdrawn() -> None:
    desk = Desk()
    desk.questions.choice_for(BACKUP, ["wwan0"], 100.0)
    desk.questions.choice_for(BACKUP, ["wwan0", "wlan0"], 101.0)
    assert desk.told() == [("asked", "backup", None), ("withdrawn", "backup", None), ("asked", "backup", None)]
    assert desk.only().choices == ("wwan0", "wlan0", "hold", "block")
    assert not desk.questions.answer(AnswerGiven(1, "wwan0"))
    desk.questions.choice_for(BACKUP, ["wlan0", "wwan0"], 102.0)
    assert len(desk.questions.open) == 1


def test_policies_that_are_gone_ask_no_more() -> None:
    desk = Desk()
    desk.questions.choice_for(BACKUP, ["wwan0"], 100.0)
    desk.questions.choice_for(VIDEO, ["wwan0"], 100.0)
    desk.questions.keep_only(["video"])
    assert desk.only().policy == "video"
    assert desk.told()[-1] == ("withdrawn", "backup", None)


def test_an_answer_for_the_session_holds_the_next_time_and_is_not_written() -> None:
    desk = Desk()
    desk.questions.choice_for(BACKUP, ["wwan0"], 100.0)
    desk.questions.answer(AnswerGiven(1, "block", Remember.SESSION))
    desk.questions.settle("backup")
    assert desk.questions.choice_for(BACKUP, ["wwan0"], 200.0) == "block"
    assert desk.questions.choice_for(BACKUP, ["wlan0"], 201.0) == "hold"
    assert desk.questions.written == []


def test_an_answer_for_ever_is_written_and_holds_after_a_restart() -> None:
    desk = Desk()
    desk.questions.choice_for(BACKUP, ["wwan0"], 100.0)
    desk.questions.answer(AnswerGiven(1, "wwan0", Remember.EVER))
    written = desk.questions.written
    assert written == [KeptAnswer("backup", ("wwan0",), "wwan0")]
    again = Desk(*written)
    assert again.questions.choice_for(BACKUP, ["wwan0"], 5.0) == "wwan0"
    assert again.questions.forget() == 1
    assert again.questions.choice_for(BACKUP, ["wwan0"], 6.0) == "hold"


def test_an_answer_to_nothing_and_a_choice_that_is_none_are_refused_with_the_remedy() -> None:
    desk = Desk()
    with pytest.raises(ConfigError, match=r"question 7: is not open. Open now: none."):
        desk.questions.check(AnswerGiven(7, "hold"))
    desk.questions.choice_for(BACKUP, [], 100.0)
    assert "no network works" in desk.only().text
    with pytest.raises(ConfigError, match=r"'wwan0' is no choice. Choose one of hold, block."):
        desk.questions.check(AnswerGiven(1, "wwan0"))
    assert not desk.questions.answer(AnswerGiven(1, "wwan0"))


def test_questions_and_answers_are_bounded() -> None:
    desk = Desk()
    for number in range(MAX_OPEN + 5):
        policy = Policy(f"p{number}", otherwise=Otherwise.ASK, ask_default=Otherwise.BLOCK)
        assert desk.questions.choice_for(policy, [], 0.0) == ("hold" if number < MAX_OPEN else "block")
    assert len(desk.questions.open) == MAX_OPEN
    many = [KeptAnswer(f"p{number}", (), "hold") for number in range(MAX_KEPT + 5)]
    assert len(Questions(many).written) == MAX_KEPT


def test_a_listener_that_has_stopped_hears_nothing() -> None:
    desk = Desk()
    desk.stop()
    desk.stop()
    desk.questions.choice_for(BACKUP, [], 0.0)
    assert desk.news == []


steps = st.lists(
    st.tuples(st.sampled_from(["ask", "settle", "answer", "wait"]), st.sampled_from("ab"), st.sampled_from(["x", "y"])),
    max_size=40,
)


@given(steps)
def test_whatever_happens_a_policy_has_one_open_question_at_most(steps: list[tuple[str, str, str]]) -> None:
    desk = Desk()
    now = 0.0
    for what, label, network in steps:
        now += 5.0
        policy = Policy(label, otherwise=Otherwise.ASK, ask_timeout=12.0)
        match what:
            case "ask":
                assert desk.questions.choice_for(policy, [network], now) in {"hold", "block", network}
            case "settle":
                desk.questions.settle(label)
            case "answer":
                for question in desk.questions.open[:1]:
                    assert desk.questions.answer(AnswerGiven(question.id, question.choices[0], Remember.ONCE))
            case "wait":
                desk.questions.tick(now)
                assert (desk.questions.deadline() or now + 1) > now
        labels = [question.policy for question in desk.questions.open]
        assert len(labels) == len(set(labels))
    asked = sum(news.what == "asked" for news in desk.news)
    ended = sum(news.what != "asked" for news in desk.news)
    assert asked - ended == len(desk.questions.open)
